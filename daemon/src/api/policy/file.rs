use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::actions::{ACTIONS, SHARED_RULES};
use super::rule::{Rule, RuleError};
use super::{IS_ADMIN, Rules};
use crate::config::nearest;

/// Most rules that a file brings along, beside those of actions.
const RULES_MAX: usize = 1000;
/// Most checks that one decision may take, in all rules that a rule leads to.
const CHECKS_MAX: usize = 10_000;

/// Why a policy file cannot be used: everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {}", path.display(), PolicyProblem::list(problems))]
pub(super) struct PolicyError {
    path: PathBuf,
    problems: Vec<PolicyProblem>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum PolicyProblem {
    #[error("is not valid UTF-8")]
    NotUtf8,
    #[error("is no TOML: {0}")]
    Malformed(toml::de::Error),
    #[error("`{name}`: must be the text of a rule")]
    NoText { name: String },
    #[error("`{name}`: {error}")]
    Rule { name: String, error: RuleError },
    #[error("`{name}`: there is no such action{}", hint(*meant))]
    NoAction { name: String, meant: Option<&'static str> },
    #[error("`{name}`: there is no rule `{reference}` that it could refer to")]
    NoRule { name: String, reference: String },
    #[error("`{name}`: refers to itself")]
    Circle { name: String },
    #[error("`{name}`: no rule refers to it")]
    Unused { name: String },
    #[error(
        "must have at most {RULES_MAX} rules of other names than those of actions, got {found}"
    )]
    TooManyRules { found: usize },
    #[error("`{name}`: takes more than {CHECKS_MAX} checks with the rules that it refers to")]
    TooManyChecks { name: String },
}

fn hint(meant: Option<&str>) -> String {
    meant.map(|meant| format!(" (hint: did you mean `{meant}`?)")).unwrap_or_default()
}

impl PolicyProblem {
    fn list(problems: &[PolicyProblem]) -> String {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl Default for Rules {
    /// `CloudKitty`'s.
    fn default() -> Rules {
        let defaults = ACTIONS.iter().map(|action| (action.name, action.rule));
        let rules = defaults.chain(SHARED_RULES).map(|(name, text)| {
            let rule = Rule::parse(text).expect("the rules of this program can be read");
            (name.to_owned(), rule)
        });
        Rules(rules.collect())
    }
}

impl Rules {
    pub(super) fn read(path: &Path, content: &[u8]) -> Result<Rules, PolicyError> {
        let text = std::str::from_utf8(content).map_err(|_| vec![PolicyProblem::NotUtf8]);
        let rules = text.and_then(Rules::parse);
        rules.map_err(|problems| PolicyError { path: path.to_owned(), problems })
    }

    pub(super) fn parse(text: &str) -> Result<Rules, Vec<PolicyProblem>> {
        let table: toml::Table =
            text.parse().map_err(|error| vec![PolicyProblem::Malformed(error)])?;
        let Rules(mut rules) = Rules::default();
        let (mut problems, mut own_names) = (Vec::new(), BTreeSet::new());
        for (name, value) in table {
            match read_rule(&name, &value) {
                Ok(rule) => {
                    if rules.insert(name.clone(), rule).is_none() {
                        own_names.insert(name);
                    }
                }
                Err(problem) => problems.push(problem),
            }
        }
        if own_names.len() > RULES_MAX {
            return Err(vec![PolicyProblem::TooManyRules { found: own_names.len() }]);
        }
        let rules = Rules(rules);
        problems.extend(rules.check(&own_names));
        // Whoever goes in a circle never ends.
        if problems.is_empty() {
            problems.extend(rules.check_lengths());
        }
        if problems.is_empty() { Ok(rules) } else { Err(problems) }
    }

    /// References lead to rules and end somewhere; whatever has a name is used.
    fn check(&self, own_names: &BTreeSet<String>) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let mut used: BTreeSet<&str> = BTreeSet::from([IS_ADMIN]);
        for (name, rule) in &self.0 {
            for reference in rule.references() {
                used.insert(reference);
                if !self.0.contains_key(reference) {
                    let (name, reference) = (name.clone(), reference.to_owned());
                    problems.push(PolicyProblem::NoRule { name, reference });
                }
            }
            if reaches(&self.0, name, name, &mut BTreeSet::new()) {
                problems.push(PolicyProblem::Circle { name: name.clone() });
            }
        }
        let unused = own_names.iter().filter(|name| !used.contains(name.as_str()));
        problems.extend(unused.map(|name| PolicyProblem::Unused { name: name.clone() }));
        problems
    }
}

impl Rules {
    fn check_lengths(&self) -> impl Iterator<Item = PolicyProblem> {
        let is_long = |rule: &Rule| rule.checks(&self.0, CHECKS_MAX).is_none();
        let long = self.0.iter().filter(move |(_, rule)| is_long(rule));
        long.map(|(name, _)| PolicyProblem::TooManyChecks { name: name.clone() })
    }
}

fn reaches<'r>(
    rules: &'r BTreeMap<String, Rule>,
    from: &str,
    wanted: &str,
    seen: &mut BTreeSet<&'r str>,
) -> bool {
    let Some((name, rule)) = rules.get_key_value(from) else { return false };
    if !seen.insert(name) {
        return false;
    }
    let references = rule.references();
    references.iter().any(|name| *name == wanted || reaches(rules, name, wanted, seen))
}

fn read_rule(name: &str, value: &toml::Value) -> Result<Rule, PolicyProblem> {
    let own = || name.to_owned();
    let names = ACTIONS.iter().map(|action| action.name);
    // Actions have a colon, rules that others refer to have none.
    if name.contains(':') && !names.clone().any(|known| known == name) {
        return Err(PolicyProblem::NoAction { name: own(), meant: nearest(name, names) });
    }
    let text = value.as_str().ok_or_else(|| PolicyProblem::NoText { name: own() })?;
    Rule::parse(text).map_err(|error| PolicyProblem::Rule { name: own(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        PolicyProblem::list(&Rules::parse(text).unwrap_err())
    }

    #[test]
    fn a_file_replaces_single_rules() {
        let policy = Rules::parse(
            "\"report:get_total\" = \"rule:billing\"\nbilling = \"role:billing or role:admin\"",
        )
        .unwrap();

        let default = Rules::default();
        let changed = |name: &str| policy.0.get(name) != default.0.get(name);
        assert!(changed("report:get_total") && changed("billing"));
        assert!(!changed("report:get_summary"));
    }

    /// A chain of rules, each of which refers to the next one `times` times.
    fn chain(length: usize, times: usize) -> String {
        let rule = |number: usize| {
            let next = [format!("rule:r{}", number + 1).as_str()].repeat(times).join(" or ");
            format!("r{number} = \"{next}\"\n")
        };
        let rules: String = (0..length).map(rule).collect();
        format!("{rules}r{length} = \"role:x\"\n\"rating:quote\" = \"rule:r0\"\n")
    }

    #[test]
    fn a_file_that_would_take_for_ever_is_refused() {
        assert!(Rules::parse(&chain(999, 1)).is_ok());
        assert_eq!(
            refused(&chain(100_000, 1)),
            "must have at most 1000 rules of other names than those of actions, got 100001"
        );
        // Two references in each of 60 rules: 2^60 checks.
        assert!(Rules::parse(&chain(10, 2)).is_ok());
        assert!(refused(&chain(60, 2)).contains(
            "`rating:quote`: takes more than 10000 checks with the rules that it refers to"
        ));
        let long = format!("\"rating:quote\" = \"{}@\"", "@ or ".repeat(100_000));
        assert_eq!(refused(&long), "`rating:quote`: must have at most 16384 bytes, got 500001");
    }

    #[test]
    fn a_file_that_cannot_be_meant_is_refused() {
        assert!(refused("x = ").starts_with("is no TOML: "));
        assert_eq!(
            refused("\"report:get_total\" = 1"),
            "`report:get_total`: must be the text of a rule"
        );
        assert_eq!(
            refused("\"report:get_totl\" = \"@\""),
            "`report:get_totl`: there is no such action (hint: did you mean `report:get_total`?)"
        );
        assert_eq!(
            refused("\"rating:quote\" = \"rule:x\""),
            "`rating:quote`: there is no rule `x` that it could refer to"
        );
        assert_eq!(refused("x = \"role:y\""), "`x`: no rule refers to it");
        assert_eq!(
            refused("x = \"rule:y\"\ny = \"not rule:x\""),
            "`x`: refers to itself; `y`: refers to itself"
        );
        assert_eq!(
            refused("\"rating:quote\" = \"role:a role:b\""),
            "`rating:quote`: `role:b` stands where `and` or `or` is expected"
        );
        assert!(
            refused("context_is_admin = \"rule:context_is_admin\"").contains("refers to itself")
        );
    }
}
