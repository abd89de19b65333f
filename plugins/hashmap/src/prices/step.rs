//! What is done to a price list, for people to read.

use serde::Serialize;

use crate::price_rule::PriceRule;

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub(crate) enum Step {
    AddService {
        name: String,
    },
    AddField {
        service: String,
        name: String,
    },
    AddGroup {
        name: String,
    },
    RemoveService {
        name: String,
    },
    RemoveField {
        service: String,
        name: String,
    },
    RemoveGroup {
        name: String,
    },
    /// A new rule.
    AddRule {
        rule: PriceRule,
    },
    /// A running rule ends and another takes its place.
    ReplaceRule {
        was: PriceRule,
        rule: PriceRule,
    },
    /// What does not touch a price of the past: an end, a text, anything before it starts.
    UpdateRule {
        was: PriceRule,
        rule: PriceRule,
    },
    /// A running rule ends.
    EndRule {
        was: PriceRule,
    },
    /// A rule that has not started is deleted.
    DeleteRule {
        was: PriceRule,
    },
}
