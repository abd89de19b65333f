//! The rules of the store, to be found by what they are for.

use std::collections::HashMap;

use chrono::NaiveDateTime;

use super::document::Names;
use crate::price_rule::{Checked, PriceRule, What};
use crate::record::{Id, Mapping, Record, Rule, Threshold};
use crate::snapshot::Snapshot;

/// What a rule is for. Of the rules for the same at most one counts at any time.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) service: String,
    pub(super) field: Option<String>,
    pub(super) group: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) what: What,
}

impl Key {
    pub(super) fn of(rule: &PriceRule, checked: &Checked) -> Key {
        Key {
            service: rule.service.clone(),
            field: rule.field.clone(),
            group: rule.group.clone(),
            tenant: rule.tenant.clone(),
            what: checked.what.clone(),
        }
    }
}

/// When a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// No more.
    Past,
    /// Now.
    Current,
    /// From later on.
    Future,
}

impl Phase {
    pub(super) fn of(
        start: NaiveDateTime,
        end: Option<NaiveDateTime>,
        now: NaiveDateTime,
    ) -> Phase {
        match end {
            Some(end) if end <= now => Phase::Past,
            _ if start > now => Phase::Future,
            _ => Phase::Current,
        }
    }
}

/// A stored mapping or threshold.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: Id,
    pub(super) record: StoredRule,
    pub(super) phase: Phase,
    /// A rule of the document stands for it.
    pub(super) is_taken: bool,
}

#[derive(Debug, Clone)]
pub(super) enum StoredRule {
    Mapping(Mapping),
    Threshold(Threshold),
}

impl StoredRule {
    pub(super) fn rule(&self) -> &Rule {
        match self {
            StoredRule::Mapping(mapping) => &mapping.rule,
            StoredRule::Threshold(threshold) => &threshold.rule,
        }
    }

    pub(super) fn rule_mut(&mut self) -> &mut Rule {
        match self {
            StoredRule::Mapping(mapping) => &mut mapping.rule,
            StoredRule::Threshold(threshold) => &mut threshold.rule,
        }
    }

    pub(super) fn seq(&self) -> u64 {
        match self {
            StoredRule::Mapping(mapping) => mapping.seq,
            StoredRule::Threshold(threshold) => threshold.seq,
        }
    }

    pub(super) fn is_dated(&self) -> bool {
        match self {
            StoredRule::Mapping(_) => true,
            StoredRule::Threshold(threshold) => threshold.dated,
        }
    }

    /// A threshold that was given a time, name or description shows it from then on.
    pub(super) fn set_dated(&mut self) {
        if let StoredRule::Threshold(threshold) = self {
            threshold.dated = true;
        }
    }

    pub(super) fn what(&self) -> What {
        match self {
            StoredRule::Mapping(mapping) => What::Value(mapping.value.clone().unwrap_or_default()),
            StoredRule::Threshold(threshold) => What::Level(threshold.level.normalize()),
        }
    }

    pub(super) fn into_record(self) -> Record {
        match self {
            StoredRule::Mapping(mapping) => Record::Mapping(mapping),
            StoredRule::Threshold(threshold) => Record::Threshold(threshold),
        }
    }
}

/// Those that are not deleted, in the order they were made.
pub(super) fn known_rules(snapshot: &Snapshot, now: NaiveDateTime) -> HashMap<Key, Vec<Known>> {
    let names = Names::of(snapshot);
    let mappings = snapshot.mappings.iter().map(|(id, it)| (id, StoredRule::Mapping(it.clone())));
    let thresholds =
        snapshot.thresholds.iter().map(|(id, it)| (id, StoredRule::Threshold(it.clone())));
    let mut known: HashMap<Key, Vec<Known>> = HashMap::new();
    for (id, record) in mappings.chain(thresholds) {
        let rule = record.rule();
        let Some((service, field)) = names.parent(rule.parent) else { continue };
        if rule.deleted.is_some() {
            continue;
        }
        let key = Key {
            service: service.to_owned(),
            field: field.map(str::to_owned),
            group: names.group(rule.group).map(str::to_owned),
            tenant: rule.tenant.clone(),
            what: record.what(),
        };
        let phase = Phase::of(rule.start, rule.end, now);
        known.entry(key).or_default().push(Known { id, record, phase, is_taken: false });
    }
    known
}
