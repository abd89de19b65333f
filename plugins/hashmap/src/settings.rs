//! The configuration: the price list of a daemon that has none yet.

use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, NaiveDateTime, Utc};
use rated_plugin::{Error, Result};
use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer};

use crate::record::{
    Change, Field, Group, Id, Kind, Mapping, Parent, Record, Rule, Service, Threshold, Version,
    random_name,
};
use crate::snapshot::Snapshot;
use crate::{amount, moment};

/// Most rules in the configuration; a larger list is imported over REST.
const INITIAL_RULES_MAX: usize = 10_000;
/// Who made the rules of the configuration.
const AUTHOR: &str = "configuration";

/// `[rating.hashmap]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Written once, when no rule was ever made; they hold from the first period on.
    #[serde(default)]
    pub initial_rules: Vec<InitialRule>,
}

/// One `[[rating.hashmap.initial_rules]]`: a mapping, or a threshold when it has a level.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitialRule {
    /// The metric type.
    pub service: String,
    /// The attribute; without it the rule is for all of the service.
    pub field: Option<String>,
    /// What the attribute must be, for a mapping.
    pub value: Option<String>,
    pub group: Option<String>,
    /// The scope that the rule is for; without it, everybody.
    pub tenant: Option<String>,
    /// `flat` or `rate`.
    #[serde(rename = "type", default = "flat")]
    pub kind: String,
    pub cost: Amount,
    /// From how much on a threshold counts.
    pub level: Option<Amount>,
}

fn flat() -> String {
    Kind::Flat.name().to_owned()
}

/// A number, or a text that is one.
#[derive(Debug, Clone)]
pub struct Amount(String);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => Ok(Amount(text)),
            serde_json::Value::Number(number) => Ok(Amount(number.to_string())),
            _ => Err(serde::de::Error::custom("must be a number, or a text like \"0.05\"")),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Settings {
    /// What writes the price list into an empty store.
    pub(crate) fn to_changes(&self, now: DateTime<Utc>) -> Result<Vec<Change>> {
        if self.initial_rules.len() > INITIAL_RULES_MAX {
            return Err(Error::invalid_config(format!(
                "`initial_rules`: has {} rules, at most {INITIAL_RULES_MAX} are allowed",
                self.initial_rules.len()
            )));
        }
        let mut list = List { now: moment::whole_seconds(now), ..List::default() };
        for (index, rule) in self.initial_rules.iter().enumerate() {
            list.add(rule).map_err(|detail| {
                Error::invalid_config(format!("`initial_rules[{index}]`: {detail}"))
            })?;
        }
        Ok(list.changes)
    }
}

/// The price list while it is made.
#[derive(Debug, Default)]
struct List {
    now: NaiveDateTime,
    snapshot: Snapshot,
    changes: Vec<Change>,
    /// What tells a rule from another: parent, group, tenant, value or level.
    seen: HashSet<(Parent, Option<Id>, Option<String>, String)>,
}

impl List {
    fn add(&mut self, given: &InitialRule) -> Result<(), String> {
        let (kind, cost, level) = check(given)?;
        let parent = self.parent(&given.service, given.field.as_deref());
        let group = given.group.as_deref().map(|name| self.group(name));
        let value = given.value.clone().unwrap_or_default();
        let what = level.map_or(value.clone(), |level| format!("level {}", level.normalize()));
        if !self.seen.insert((parent, group, given.tenant.clone(), what)) {
            return Err("there is a rule for the same before it".to_owned());
        }
        let rule = Rule {
            parent,
            kind,
            cost,
            group,
            tenant: given.tenant.clone(),
            start: DateTime::UNIX_EPOCH.naive_utc(),
            end: None,
            name: level.is_none().then(random_name),
            description: None,
            created_at: self.now,
            created_by: AUTHOR.to_owned(),
            updated_by: None,
            deleted: None,
            deleted_by: None,
        };
        let (v, seq) = (Version, self.snapshot.next_seq());
        self.put(match level {
            None => Record::Mapping(Mapping { v, seq, value: Some(value), rule }),
            Some(level) => Record::Threshold(Threshold { v, seq, level, dated: false, rule }),
        });
        Ok(())
    }

    fn parent(&mut self, service: &str, field: Option<&str>) -> Parent {
        let service = self.snapshot.service_named(service).unwrap_or_else(|| {
            let seq = self.snapshot.next_seq();
            self.put(Record::Service(Service { v: Version, seq, name: service.to_owned() }))
        });
        let Some(name) = field else { return Parent::Service(service) };
        let field = self.snapshot.field_named(service, name).unwrap_or_else(|| {
            let seq = self.snapshot.next_seq();
            self.put(Record::Field(Field { v: Version, seq, service, name: name.to_owned() }))
        });
        Parent::Field(field)
    }

    fn group(&mut self, name: &str) -> Id {
        self.snapshot.group_named(name).unwrap_or_else(|| {
            let seq = self.snapshot.next_seq();
            self.put(Record::Group(Group { v: Version, seq, name: name.to_owned() }))
        })
    }

    fn put(&mut self, record: Record) -> Id {
        let id = Id::random();
        let change = Change::put(id, record);
        self.snapshot.apply(&change);
        self.changes.push(change);
        id
    }
}

fn describe(key: &str, given: &Amount, error: amount::AmountError) -> String {
    let reason = error.to_string();
    format!("`{key}`: `{given}`: {}", reason[..1].to_lowercase() + &reason[1..])
}

/// What can be said of a rule by itself; its type, cost and level.
fn check(rule: &InitialRule) -> Result<(Kind, Decimal, Option<Decimal>), String> {
    check_texts(rule)?;
    let kind = Kind::parse(&rule.kind)
        .ok_or_else(|| format!("`type`: must be `flat` or `rate`, got `{}`", rule.kind))?;
    let cost =
        amount::parse_cost(&rule.cost.0).map_err(|error| describe("cost", &rule.cost, error))?;
    let level = rule.level.as_ref().map(|level| {
        amount::parse_level(&level.0).map_err(|error| describe("level", level, error))
    });
    let level = level.transpose()?;
    match (&rule.field, &rule.value, level) {
        (Some(_), None, None) => {
            Err("`value`: missing (a mapping of a field needs one)".to_owned())
        }
        (None, Some(_), _) => Err("`value`: needs a `field` that has it".to_owned()),
        (Some(_), Some(_), Some(_)) => {
            Err("`level`: a rule has a `value` or a `level`, not both".to_owned())
        }
        _ => Ok((kind, cost, level)),
    }
}

fn check_texts(rule: &InitialRule) -> Result<(), String> {
    let texts = [
        ("service", Some(&rule.service)),
        ("field", rule.field.as_ref()),
        ("value", rule.value.as_ref()),
        ("group", rule.group.as_ref()),
        ("tenant", rule.tenant.as_ref()),
    ];
    for (key, text) in texts {
        let Some(text) = text else { continue };
        let max = crate::rest::TEXT_CHARACTERS_MAX;
        let count = text.chars().count();
        if count == 0 || count > max {
            return Err(format!("`{key}`: must have 1 to {max} characters, got {count}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(toml: &str) -> Result<Vec<Change>, String> {
        let json = serde_json::to_string(&toml::from_str::<toml::Value>(toml).unwrap()).unwrap();
        let settings: Settings = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        settings.to_changes(DateTime::UNIX_EPOCH).map_err(|error| error.message)
    }

    fn records(changes: &[Change]) -> impl Iterator<Item = &Record> {
        changes.iter().filter_map(|change| match change {
            Change::Put(_, record) => Some(record.as_ref()),
            Change::Remove(..) => None,
        })
    }

    fn refused(rule: &str, message: &str) {
        let error = changes(&format!("[[initial_rules]]\n{rule}")).unwrap_err();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn the_sample_is_a_price_list() {
        let changes = changes(include_str!("../sample.toml")).unwrap();

        assert!(records(&changes).any(|it| matches!(it, Record::Mapping(_))));
        assert!(records(&changes).any(|it| matches!(it, Record::Threshold(_))));
    }

    #[test]
    fn a_number_is_the_decimal_its_text_says() {
        let list = "[[initial_rules]]\nservice = \"a\"\ncost = 0.1\n\
                    [[initial_rules]]\nservice = \"b\"\ncost = \"1e-5\"";

        let changes = changes(list).unwrap();

        let costs = records(&changes).filter_map(|record| match record {
            Record::Mapping(mapping) => Some(mapping.rule.cost.to_string()),
            _ => None,
        });
        assert_eq!(costs.collect::<Vec<_>>(), ["0.1", "0.00001"]);
    }

    #[test]
    fn a_wrong_rule_is_named_with_its_key() {
        refused("service = \"a\"\ncost = \"x\"", "`initial_rules[0]`: `cost`: `x`: not a decimal");
        refused("service = \"a\"\ncost = true", "must be a number");
        refused("service = \"\"\ncost = 1", "`service`: must have 1 to 255 characters, got 0");
        refused("service = \"a\"\ncost = 1\ntype = \"x\"", "`type`: must be `flat` or `rate`");
        refused("service = \"a\"\ncost = 1\nfield = \"f\"", "`value`: missing");
        refused("service = \"a\"\ncost = 1\nvalue = \"v\"", "`value`: needs a `field`");
        refused("service = \"a\"\ncost = 1\ncolour = \"red\"", "unknown field `colour`");
        refused(
            "service = \"a\"\nfield = \"f\"\nvalue = \"v\"\nlevel = 1\ncost = 1",
            "a `value` or a `level`",
        );
        refused(
            "service = \"a\"\ncost = 1\n[[initial_rules]]\nservice = \"a\"\ncost = 2",
            "`initial_rules[1]`: there is a rule for the same",
        );
    }
}
