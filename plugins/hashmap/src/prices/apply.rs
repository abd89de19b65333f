//! What makes the stored list become the one of a document.

use std::collections::HashMap;

use chrono::{DateTime, NaiveDateTime};

use super::document::{Document, texts};
use super::known::{Key, Known, Phase, StoredRule, known_rules};
use super::overlap::{Span, Spans};
use super::places::{self, Places};
use super::step::Step;
use crate::moment;
use crate::price_rule::{Amount, Checked, PriceRule, What};
use crate::record::{Change, Id, Mapping, Rule, Threshold, Version, random_name};
use crate::snapshot::Snapshot;

/// Who applies a document, when, and how.
#[derive(Debug, Clone)]
pub(crate) struct Author {
    pub(crate) name: String,
    /// In whole seconds.
    pub(crate) now: NaiveDateTime,
    pub(crate) past: Past,
}

/// What a document may say of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// Nothing: what is new counts from now on.
    Closed,
    /// New rules may begin in the past; thresholds without a start have always been.
    Open,
    /// There is none yet: rules without a start have always been.
    None,
}

/// What is to be stored, and the same in words.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) changes: Vec<Change>,
    pub(crate) steps: Vec<Step>,
}

/// A rule of the document that can't be: its index, why.
pub(crate) type RuleError = (usize, String);

/// Decides what to do.
pub(crate) fn plan(
    snapshot: &Snapshot,
    document: &Document,
    author: &Author,
) -> Result<Plan, RuleError> {
    let mut planner = Planner {
        author,
        known: known_rules(snapshot, author.now),
        places: Places::of(snapshot),
        spans: Spans::default(),
        plan: Plan::default(),
    };
    planner.places.add(document, &mut planner.plan);
    let mut rules: Vec<Wanted<'_>> = document.rules.iter().enumerate().map(Wanted::new).collect();
    rules.retain(|wanted| !planner.keep(wanted));
    for wanted in &rules {
        planner.make(wanted).map_err(|detail| (wanted.index, detail))?;
    }
    planner.end_the_rest();
    planner.spans.check()?;
    let mut plan = planner.plan;
    places::remove(snapshot, document, &mut plan);
    Ok(plan)
}

/// A rule of the document.
struct Wanted<'a> {
    index: usize,
    rule: &'a PriceRule,
    checked: &'a Checked,
    key: Key,
}

impl<'a> Wanted<'a> {
    fn new((index, (rule, checked)): (usize, &'a (PriceRule, Checked))) -> Wanted<'a> {
        Wanted { index, rule, checked, key: Key::of(rule, checked) }
    }

    fn phase(&self, now: NaiveDateTime) -> Phase {
        Phase::of(self.checked.start.unwrap_or(now), self.checked.end, now)
    }

    /// A rule that gives no name takes any.
    fn has_texts_of(&self, rule: &Rule) -> bool {
        let is_name_same = self.rule.name.is_none() || self.rule.name == rule.name;
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        is_name_same && text(&self.rule.description) == text(&rule.description)
    }

    fn has_price_of(&self, rule: &Rule) -> bool {
        self.checked.kind == rule.kind && self.checked.cost == rule.cost
    }
}

struct Planner<'a> {
    author: &'a Author,
    known: HashMap<Key, Vec<Known>>,
    places: Places,
    spans: Spans,
    plan: Plan,
}

impl Planner<'_> {
    /// Finds the stored rule that says the same; it stays as it is. When a running rule started is
    /// past, and not looked at.
    fn keep(&mut self, wanted: &Wanted<'_>) -> bool {
        let phase = wanted.phase(self.author.now);
        let is_same = |known: &&mut Known| {
            let rule = known.record.rule();
            !known.is_taken
                && known.phase == phase
                && wanted.has_price_of(rule)
                && wanted.has_texts_of(rule)
                && wanted.checked.end == rule.end
                && (phase == Phase::Current || wanted.checked.start == Some(rule.start))
        };
        let Some(known) = self.known.get_mut(&wanted.key) else { return false };
        let Some(known) = known.iter_mut().find(is_same) else { return false };
        known.is_taken = true;
        self.spans.add_stored(&wanted.key, known.record.rule());
        true
    }

    /// Changes the stored rule that is for the same at that time, or makes a new one.
    fn make(&mut self, wanted: &Wanted<'_>) -> Result<(), String> {
        let phase = wanted.phase(self.author.now);
        let Some(known) = self.take(wanted, phase) else { return self.add(wanted, None) };
        let rule = known.record.rule();
        let is_end_free = rule.end.is_none() || rule.end == wanted.checked.end;
        if phase == Phase::Future || (wanted.has_price_of(rule) && is_end_free) {
            self.update(wanted, known);
            return Ok(());
        }
        self.add(wanted, Some(known))
    }

    /// What has ended is never taken for anything else.
    fn take(&mut self, wanted: &Wanted<'_>, phase: Phase) -> Option<Known> {
        if phase == Phase::Past {
            return None;
        }
        let known = self.known.get_mut(&wanted.key)?;
        let is_free = |it: &Known| !it.is_taken && it.phase == phase;
        let has_its_start = |it: &Known| Some(it.record.rule().start) == wanted.checked.start;
        let index = known.iter().position(|it| is_free(it) && has_its_start(it));
        let index = index.or_else(|| known.iter().position(is_free))?;
        known[index].is_taken = true;
        Some(known[index].clone())
    }

    fn update(&mut self, wanted: &Wanted<'_>, known: Known) {
        let was = listed(&wanted.key, &known.record);
        let mut record = known.record;
        let rule = record.rule_mut();
        if known.phase == Phase::Future {
            rule.kind = wanted.checked.kind;
            rule.cost = wanted.checked.cost;
            rule.start = wanted.checked.start.unwrap_or(rule.start);
        }
        rule.end = wanted.checked.end;
        rule.description.clone_from(&wanted.rule.description);
        if wanted.rule.name.is_some() {
            rule.name.clone_from(&wanted.rule.name);
        }
        rule.updated_by = Some(self.author.name.clone());
        record.set_dated();
        let span = Span::of(record.rule(), Some(wanted.index));
        self.spans.add(&wanted.key, record.rule().name.as_deref(), span);
        let rule = listed(&wanted.key, &record);
        self.plan.steps.push(Step::UpdateRule { was, rule });
        self.plan.changes.push(Change::put(known.id, record.into_record()));
    }

    /// A new rule; the one it replaces ends where it begins.
    fn add(&mut self, wanted: &Wanted<'_>, replaced: Option<Known>) -> Result<(), String> {
        let was = replaced.as_ref().map(|known| listed(&wanted.key, &known.record));
        let (start, dated) = match &replaced {
            Some(_) => (self.author.now, true),
            None => self.start(wanted)?,
        };
        if let Some(known) = replaced {
            self.end(&wanted.key, known);
        }
        let record = self.new_record(wanted, start, dated);
        let span = Span::of(record.rule(), Some(wanted.index));
        self.spans.add(&wanted.key, record.rule().name.as_deref(), span);
        let rule = listed(&wanted.key, &record);
        self.plan.steps.push(match was {
            None => Step::AddRule { rule },
            Some(was) => Step::ReplaceRule { was, rule },
        });
        self.plan.changes.push(Change::put(Id::random(), record.into_record()));
        Ok(())
    }

    /// When a new rule begins, and whether it shows that.
    fn start(&self, wanted: &Wanted<'_>) -> Result<(NaiveDateTime, bool), String> {
        let now = self.author.now;
        if let Some(start) = wanted.checked.start {
            if start < now && self.author.past == Past::Closed {
                return Err(format!(
                    "`start`: {} is past and no rule for the same began then: leave it out, or let \
                     new rules begin in the past with `force`",
                    moment::show(start)
                ));
            }
            return Ok((start, true));
        }
        let always = DateTime::UNIX_EPOCH.naive_utc();
        let has_texts = wanted.rule.name.is_some() || wanted.rule.description.is_some();
        match (self.author.past, &wanted.checked.what) {
            (Past::Closed, _) | (Past::Open, What::Value(_)) => Ok((now, true)),
            (Past::Open | Past::None, _) => Ok((always, has_texts)),
        }
    }

    fn new_record(&mut self, wanted: &Wanted<'_>, start: NaiveDateTime, dated: bool) -> StoredRule {
        let (given, checked) = (wanted.rule, wanted.checked);
        let is_named = dated || matches!(checked.what, What::Value(_));
        let rule = Rule {
            parent: self.places.parent(&given.service, given.field.as_deref()),
            kind: checked.kind,
            cost: checked.cost,
            group: self.places.group(given.group.as_deref()),
            tenant: given.tenant.clone(),
            start,
            end: checked.end,
            name: given.name.clone().or_else(|| is_named.then(random_name)),
            description: given.description.clone(),
            created_at: self.author.now,
            created_by: self.author.name.clone(),
            updated_by: None,
            deleted: None,
            deleted_by: None,
        };
        let (v, seq) = (Version, self.places.next_seq());
        match checked.what.clone() {
            What::Value(value) => StoredRule::Mapping(Mapping { v, seq, value: Some(value), rule }),
            What::Level(level) => StoredRule::Threshold(Threshold { v, seq, level, dated, rule }),
        }
    }

    /// A running rule ends now.
    fn end(&mut self, key: &Key, known: Known) {
        let mut record = known.record;
        let rule = record.rule_mut();
        rule.end = Some(self.author.now);
        rule.updated_by = Some(self.author.name.clone());
        record.set_dated();
        self.spans.add_stored(key, record.rule());
        self.plan.changes.push(Change::put(known.id, record.into_record()));
    }

    /// What the document does not have: running rules end, later ones are deleted.
    fn end_the_rest(&mut self) {
        let known = std::mem::take(&mut self.known);
        let mut rest: Vec<(Key, Known)> = known
            .into_iter()
            .flat_map(|(key, known)| known.into_iter().map(move |it| (key.clone(), it)))
            .filter(|(_, known)| !known.is_taken)
            .collect();
        rest.sort_by_key(|(_, known)| known.record.seq());
        for (key, known) in rest {
            let was = listed(&key, &known.record);
            match known.phase {
                Phase::Past => self.spans.add_stored(&key, known.record.rule()),
                Phase::Current => {
                    self.plan.steps.push(Step::EndRule { was });
                    self.end(&key, known);
                }
                Phase::Future => {
                    let mut record = known.record;
                    let rule = record.rule_mut();
                    rule.deleted = Some(self.author.now);
                    rule.deleted_by = Some(self.author.name.clone());
                    self.plan.steps.push(Step::DeleteRule { was });
                    self.plan.changes.push(Change::put(known.id, record.into_record()));
                }
            }
        }
    }
}

/// A stored rule as a document has it.
fn listed(key: &Key, record: &StoredRule) -> PriceRule {
    let rule = texts(record.rule(), record.is_dated());
    let (value, level) = match &key.what {
        What::Value(value) => (Some(value.clone()).filter(|value| !value.is_empty()), None),
        What::Level(level) => (None, Some(Amount::of(*level))),
    };
    PriceRule {
        service: key.service.clone(),
        field: key.field.clone(),
        group: key.group.clone(),
        value,
        level,
        ..rule
    }
}
