//! The language of rules, as far as rating needs it: that of `OpenStack`'s policies.
//!
//! ```text
//! rule   = [ or ]                                  nothing = everybody who has said who they are
//! or     = and { "or" and }
//! and    = not { "and" not }
//! not    = [ "not" ] term
//! term   = "(" or ")" | "@" | "!" | check          @ = everybody, ! = nobody
//! check  = "role:" NAME | "rule:" NAME | "user_id:" ID | "project_id:" ID
//!        | "project_id:%(project_id)s"
//! ```
//!
//! `project_id:%(project_id)s` holds for callers who speak for a project: what they ask for is
//! narrowed to it afterwards.

use std::collections::BTreeMap;

use crate::api::caller::Caller;

/// Longest rule, bytes.
const RULE_SIZE_MAX: usize = 16 << 10;
/// Deepest nesting of parentheses and `not` in a rule.
const DEPTH_MAX: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    Everybody,
    Nobody,
    Role(String),
    Named(String),
    User(String),
    Project(String),
    HasProject,
    Not(Box<Rule>),
    All(Vec<Rule>),
    Any(Vec<Rule>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RuleError {
    #[error("ends where `{expected}` is expected")]
    Ends { expected: &'static str },
    #[error("`{got}` stands where `{expected}` is expected")]
    Unexpected { got: String, expected: &'static str },
    #[error(
        "`{check}` is no check\n(hint: checks are `role:NAME`, `rule:NAME`, `user_id:ID`, \
         `project_id:ID`, `project_id:%(project_id)s`, `@` and `!`)"
    )]
    UnknownCheck { check: String },
    #[error("is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("must have at most {RULE_SIZE_MAX} bytes, got {size}")]
    TooLong { size: usize },
}

const TERM: &str = "a check";
const TARGET: &str = "%(project_id)s";

impl Rule {
    pub(super) fn parse(text: &str) -> Result<Rule, RuleError> {
        if text.len() > RULE_SIZE_MAX {
            return Err(RuleError::TooLong { size: text.len() });
        }
        let mut words = Words { rest: split(text), depth: 0 };
        if words.rest.is_empty() {
            return Ok(Rule::Everybody);
        }
        let rule = words.any()?;
        match words.rest.first() {
            None => Ok(rule),
            Some(word) => {
                let got = (*word).to_owned();
                Err(RuleError::Unexpected { got, expected: "and` or `or" })
            }
        }
    }

    /// Rules of the given names; references have been checked to exist and to end.
    pub(super) fn allows(&self, caller: &Caller, rules: &BTreeMap<String, Rule>) -> bool {
        match self {
            Rule::Everybody => true,
            Rule::Nobody => false,
            Rule::Role(role) => caller.roles().iter().any(|has| has.eq_ignore_ascii_case(role)),
            Rule::Named(name) => rules.get(name).is_some_and(|rule| rule.allows(caller, rules)),
            Rule::User(id) => matches!(caller, Caller::Known(known) if known.user_id == *id),
            Rule::Project(id) => caller.project_id() == Some(id),
            Rule::HasProject => caller.project_id().is_some(),
            Rule::Not(rule) => !rule.allows(caller, rules),
            Rule::All(all) => all.iter().all(|rule| rule.allows(caller, rules)),
            Rule::Any(any) => any.iter().any(|rule| rule.allows(caller, rules)),
        }
    }

    /// What is left of so many checks when all of them are made, those of other rules too; `None` =
    /// it takes more. References have been checked to end.
    pub(super) fn checks(&self, rules: &BTreeMap<String, Rule>, left: usize) -> Option<usize> {
        let left = left.checked_sub(1)?;
        match self {
            Rule::Named(name) => {
                rules.get(name).map_or(Some(left), |rule| rule.checks(rules, left))
            }
            Rule::Not(rule) => rule.checks(rules, left),
            Rule::All(all) | Rule::Any(all) => {
                all.iter().try_fold(left, |left, rule| rule.checks(rules, left))
            }
            _ => Some(left),
        }
    }

    /// The names of the rules that this one refers to.
    pub(super) fn references(&self) -> Vec<&str> {
        match self {
            Rule::Named(name) => vec![name],
            Rule::Not(rule) => rule.references(),
            Rule::All(rules) | Rule::Any(rules) => {
                rules.iter().flat_map(Rule::references).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// Words; parentheses stand alone, but those of `%(project_id)s` belong to their word.
fn split(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for mut word in text.split_whitespace() {
        while let Some(rest) = word.strip_prefix('(') {
            words.push("(");
            word = rest;
        }
        let bare = word.trim_end_matches(')');
        let closing = word.len() - bare.len();
        if !bare.is_empty() {
            words.push(bare);
        }
        words.extend(std::iter::repeat_n(")", closing));
    }
    words
}

struct Words<'t> {
    rest: Vec<&'t str>,
    depth: usize,
}

impl Words<'_> {
    fn take(&mut self, word: &str) -> bool {
        let is_next = self.rest.first().is_some_and(|next| next.eq_ignore_ascii_case(word));
        if is_next {
            self.rest.remove(0);
        }
        is_next
    }

    fn any(&mut self) -> Result<Rule, RuleError> {
        let mut rules = vec![self.all()?];
        while self.take("or") {
            rules.push(self.all()?);
        }
        Ok(one_or(rules, Rule::Any))
    }

    fn all(&mut self) -> Result<Rule, RuleError> {
        let mut rules = vec![self.not()?];
        while self.take("and") {
            rules.push(self.not()?);
        }
        Ok(one_or(rules, Rule::All))
    }

    fn not(&mut self) -> Result<Rule, RuleError> {
        if self.take("not") {
            return self.deeper(|words| Ok(Rule::Not(Box::new(words.not()?))));
        }
        if self.take("(") {
            return self.deeper(|words| {
                let rule = words.any()?;
                if words.take(")") {
                    return Ok(rule);
                }
                match words.rest.first() {
                    None => Err(RuleError::Ends { expected: ")" }),
                    Some(got) => {
                        let got = (*got).to_owned();
                        Err(RuleError::Unexpected { got, expected: ")" })
                    }
                }
            });
        }
        let Some(word) = self.rest.first().copied() else {
            return Err(RuleError::Ends { expected: TERM });
        };
        self.rest.remove(0);
        check(word)
    }

    fn deeper(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Rule, RuleError>,
    ) -> Result<Rule, RuleError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(RuleError::TooDeep);
        }
        let rule = parse(self)?;
        self.depth -= 1;
        Ok(rule)
    }
}

fn one_or(mut rules: Vec<Rule>, several: fn(Vec<Rule>) -> Rule) -> Rule {
    if rules.len() == 1 { rules.remove(0) } else { several(rules) }
}

fn check(word: &str) -> Result<Rule, RuleError> {
    let is_word = |word: &str| ["and", "or", "not", ")"].contains(&word);
    if is_word(word) {
        return Err(RuleError::Unexpected { got: word.to_owned(), expected: TERM });
    }
    let text = |value: &str| value.trim_matches(['\'', '"']).to_owned();
    match word.split_once(':') {
        None if word == "@" => Ok(Rule::Everybody),
        None if word == "!" => Ok(Rule::Nobody),
        Some(("role", name)) if !name.is_empty() => Ok(Rule::Role(text(name))),
        Some(("rule", name)) if !name.is_empty() => Ok(Rule::Named(text(name))),
        Some(("user_id", id)) if is_literal(id) => Ok(Rule::User(text(id))),
        Some(("project_id", TARGET)) => Ok(Rule::HasProject),
        Some(("project_id", id)) if is_literal(id) => Ok(Rule::Project(text(id))),
        _ => Err(RuleError::UnknownCheck { check: word.to_owned() }),
    }
}

fn is_literal(value: &str) -> bool {
    !value.is_empty() && !value.contains('%')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::caller::Identity;

    fn caller(project: Option<&str>, roles: &[&str]) -> Caller {
        Caller::Known(Identity {
            user_id: "u1".to_owned(),
            project_id: project.map(str::to_owned),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        })
    }

    #[track_caller]
    fn check_rule(text: &str, allowed: &[&Caller], refused: &[&Caller]) {
        let rule = Rule::parse(text).unwrap();
        let rules = BTreeMap::from([("other".to_owned(), Rule::parse("role:other").unwrap())]);
        for caller in allowed {
            assert!(rule.allows(caller, &rules), "`{text}` refuses {caller:?}");
        }
        for caller in refused {
            assert!(!rule.allows(caller, &rules), "`{text}` allows {caller:?}");
        }
    }

    #[test]
    fn a_rule_means_what_it_means_in_openstack() {
        let admin = &caller(None, &["Admin"]);
        let reader = &caller(Some("p1"), &["reader"]);
        let other = &caller(Some("p2"), &["other", "member"]);
        let nobody = &Caller::Anonymous;

        check_rule("", &[admin, reader, other, nobody], &[]);
        check_rule("@", &[admin, reader, other, nobody], &[]);
        check_rule("!", &[], &[admin, reader, other, nobody]);
        check_rule("role:admin", &[admin], &[reader, other, nobody]);
        check_rule("not role:admin", &[reader, other, nobody], &[admin]);
        check_rule("rule:other", &[other], &[admin, reader, nobody]);
        check_rule("rule:missing", &[], &[admin, reader, other, nobody]);
        check_rule("user_id:u1", &[admin, reader, other], &[nobody]);
        check_rule("project_id:'p1'", &[reader], &[admin, other, nobody]);
        check_rule("project_id:%(project_id)s", &[reader, other], &[admin, nobody]);
        check_rule("role:reader and project_id:%(project_id)s", &[reader], &[admin, other]);
        check_rule("role:admin or role:other and role:reader", &[admin], &[reader, other]);
        check_rule("(role:admin or role:other) and role:member", &[other], &[admin, reader]);
        check_rule("not (role:admin or not role:other)", &[other], &[admin, reader]);
    }

    #[test]
    fn a_rule_that_cannot_be_read_says_where() {
        let refused = |text: &str| Rule::parse(text).unwrap_err().to_string();

        assert_eq!(refused("role:a or"), "ends where `a check` is expected");
        assert_eq!(refused("(role:a"), "ends where `)` is expected");
        assert_eq!(refused("role:a)"), "`)` stands where `and` or `or` is expected");
        assert_eq!(refused("role:a role:b"), "`role:b` stands where `and` or `or` is expected");
        assert_eq!(refused("and role:a"), "`and` stands where `a check` is expected");
        assert!(refused("is_admin:True").starts_with("`is_admin:True` is no check\n(hint: "));
        assert!(refused("project_id:%(tenant)s").starts_with("`project_id:%(tenant)s` is no"));
        assert_eq!(refused(&"(".repeat(1000)), "is nested more than 32 deep");
    }
}
