//! No two rules for the same, and no two of a name, at the same time.
//!
//! An end is exclusive here: where a rule ends, the next for the same begins.

use std::collections::HashMap;
use std::hash::Hash;

use chrono::NaiveDateTime;

use super::known::Key;
use crate::price_rule::What;
use crate::record::Rule;

/// A rule as it will be.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) start: NaiveDateTime,
    pub(super) end: Option<NaiveDateTime>,
    /// Its index in the document when it is new or changed; what was stored before is not judged.
    pub(super) index: Option<usize>,
}

impl Span {
    pub(super) fn of(rule: &Rule, index: Option<usize>) -> Span {
        Span { start: rule.start, end: rule.end, index }
    }

    fn is_empty(&self) -> bool {
        self.end.is_some_and(|end| end <= self.start)
    }
}

/// The rules as they will be, by what no two may have in common.
#[derive(Debug, Default)]
pub(super) struct Spans {
    keys: HashMap<Key, Vec<Span>>,
    /// A mapping and a threshold may have the same name.
    names: HashMap<(bool, String), Vec<Span>>,
}

impl Spans {
    /// A rule that the document does not change.
    pub(super) fn add_stored(&mut self, key: &Key, rule: &Rule) {
        self.add(key, rule.name.as_deref(), Span::of(rule, None));
    }

    pub(super) fn add(&mut self, key: &Key, name: Option<&str>, span: Span) {
        if span.is_empty() {
            return;
        }
        let is_threshold = matches!(key.what, What::Level(_));
        let mut key = key.clone();
        if is_threshold && key.tenant.is_some() {
            // A tenant has a level once, whatever the groups.
            key.group = None;
        }
        self.keys.entry(key).or_default().push(span.clone());
        if let Some(name) = name {
            self.names.entry((is_threshold, name.to_owned())).or_default().push(span);
        }
    }

    /// The first rule of the document that can't be.
    pub(super) fn check(self) -> Result<(), (usize, String)> {
        let same = clashes(self.keys.into_values(), "there is a rule for the same at that time");
        let name = clashes(self.names.into_values(), "there is a rule of that name at that time");
        match same.into_iter().chain(name).min() {
            None => Ok(()),
            Some(clash) => Err(clash),
        }
    }
}

fn clashes(groups: impl Iterator<Item = Vec<Span>>, text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for mut spans in groups {
        spans.sort_by_key(|span| span.start);
        let mut latest: Option<&Span> = None;
        for span in &spans {
            if let Some(before) = latest.filter(|it| it.end.is_none_or(|end| span.start < end)) {
                found.extend(clash(before, span, text));
            }
            let reaches_further = |it: &Span| match (it.end, span.end) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(known), Some(end)) => end > known,
            };
            if latest.is_none_or(reaches_further) {
                latest = Some(span);
            }
        }
    }
    found
}

/// The one that stands later in the document is named.
fn clash(a: &Span, b: &Span, text: &str) -> Option<(usize, String)> {
    match (a.index, b.index) {
        (Some(a), Some(b)) => {
            Some((a.max(b), format!("{text}, number {} of the list", a.min(b) + 1)))
        }
        (Some(index), None) | (None, Some(index)) => Some((index, text.to_owned())),
        (None, None) => None,
    }
}

/// The values without those that came before.
pub(super) fn unique<T: Eq + Hash + Clone>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = std::collections::HashSet::new();
    values.filter(|value| seen.insert(value.clone())).collect()
}
