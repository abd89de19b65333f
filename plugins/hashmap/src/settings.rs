//! The configuration: the price list of a daemon that has none yet.

use chrono::{DateTime, Utc};
use rated_plugin::{Error, Result};
use serde::Deserialize;

use crate::moment;
use crate::price_rule::PriceRule;
use crate::prices::{self, Author, Document, Past};
use crate::record::Change;
use crate::snapshot::Snapshot;

/// Most rules in the configuration; a larger list is imported over REST.
const INITIAL_RULES_MAX: usize = 10_000;
/// Who made the rules of the configuration.
const AUTHOR: &str = "configuration";

/// `[rating.hashmap]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Written once, when no rule was ever made; those without a start hold from the first period
    /// on.
    #[serde(default)]
    pub initial_rules: Vec<PriceRule>,
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
        let refuse = |(index, detail): (usize, String)| {
            Error::invalid_config(format!("`initial_rules[{index}]`: {detail}"))
        };
        let mut document = Document::default();
        for (index, rule) in self.initial_rules.iter().enumerate() {
            let checked = rule.check().map_err(|detail| refuse((index, detail)))?;
            document.rules.push((rule.clone(), checked));
        }
        let now = moment::whole_seconds(now);
        let author = Author { name: AUTHOR.to_owned(), now, past: Past::None };
        prices::plan(&Snapshot::default(), &document, &author)
            .map(|plan| plan.changes)
            .map_err(refuse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

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
            "service = \"a\"\ncost = 1\nend = \"2026-01-01\"",
            "`initial_rules[0]`: `end`: needs a `start`",
        );
        refused(
            "service = \"a\"\ncost = 1\n[[initial_rules]]\nservice = \"a\"\ncost = 2",
            "`initial_rules[1]`: there is a rule for the same",
        );
    }
}
