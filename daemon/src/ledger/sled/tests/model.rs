//! Random schedules of everything that adds or removes rows, restarts and queries, compared with a
//! list of rows in memory.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;

use super::reprocessing::reprocessing_of;
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{
    CompletenessQuery, CompletenessState, Fact, GroupKey, Ledger, PushOutcome, RowsGroup,
};
use crate::usage::Sum;

/// The last is known from pushed rows only.
pub(super) const SCOPES: [&str; 5] = ["ann", "bob", "cid", "dot", "eve"];
pub(super) const LISTED: usize = 4;
pub(super) const METRICS: [&str; 2] = ["cpu", "disk"];
const IDS: [Option<&str>; 4] = [Some("vm-1"), Some("vm-2"), Some("vm-3"), None];
const FLAVORS: [Option<&str>; 3] = [Some("small"), Some("large"), None];

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A metric's hour for some scopes, with rows of (scope, quantity, price, id, flavor).
    Commit {
        metric: usize,
        hour: i64,
        scopes: Vec<usize>,
        rows: Vec<ModelRow>,
    },
    /// The same again, with other rows: nothing must change.
    Again,
    Reopen,
    Push {
        metric: usize,
        hour: i64,
        rows: Vec<ModelRow>,
    },
    Reset {
        scopes: Vec<usize>,
        hour: i64,
    },
    /// A reprocessing of these scopes begins, unless there is one.
    Begin {
        scopes: Vec<usize>,
    },
    Stage {
        metric: usize,
        hour: i64,
        fact: Fact,
        rows: Vec<ModelRow>,
    },
    Postpone {
        scope: usize,
    },
    Finish,
}

pub(super) type ModelRow = (usize, i64, i64, usize, usize);

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..SCOPES.len(), -500..5_000_i64, -50..500_i64, 0..IDS.len(), 0..FLAVORS.len());
    let scopes = || prop::sample::subsequence((0..LISTED).collect::<Vec<_>>(), 0..=LISTED);
    let place = || (0..METRICS.len(), 0..4_i64);
    let rows = || prop::collection::vec(row.clone(), 0..12);
    let commit = (place(), scopes(), rows())
        .prop_map(|((metric, hour), scopes, rows)| Step::Commit { metric, hour, scopes, rows });
    let push =
        (place(), rows()).prop_map(|((metric, hour), rows)| Step::Push { metric, hour, rows });
    let reset = (scopes(), 0..4_i64).prop_map(|(scopes, hour)| Step::Reset { scopes, hour });
    let fact = prop_oneof![3 => Just(Fact::NoData), 1 => Just(Fact::Lost)];
    let stage = (place(), fact, rows()).prop_map(|((metric, hour), fact, rows)| Step::Stage {
        metric,
        hour,
        fact,
        rows,
    });
    let step = prop_oneof![
        16 => commit,
        1 => Just(Step::Again),
        2 => Just(Step::Reopen),
        3 => push,
        2 => reset,
        2 => scopes().prop_map(|scopes| Step::Begin { scopes }),
        6 => stage,
        1 => (0..LISTED).prop_map(|scope| Step::Postpone { scope }),
        2 => Just(Step::Finish),
    ];
    prop::collection::vec(step, 1..32)
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// Hour of the next period by metric and scope.
    next: BTreeMap<(usize, usize), i64>,
    rows: Vec<StoredRow>,
    last: Option<(usize, i64, Vec<usize>)>,
    /// What is known of metric, hour and scope.
    facts: BTreeMap<Place, Fact>,
    task: Option<Task>,
}

/// Metric, hour and scope.
type Place = (usize, i64, usize);

#[derive(Debug)]
struct Task {
    id: u64,
    scopes: Vec<usize>,
    staged: BTreeMap<Place, (Fact, Vec<ModelRow>)>,
}

#[derive(Debug, Clone)]
struct StoredRow {
    hour: i64,
    metric: usize,
    row: ModelRow,
    is_pushed: bool,
}

impl Model {
    fn commit(&mut self, metric: usize, hour: i64, scopes: &[usize], rows: &[ModelRow]) -> usize {
        let stands =
            |scope: &&usize| self.next.get(&(metric, **scope)).copied().unwrap_or(0) == hour;
        let stored: Vec<usize> = scopes.iter().filter(stands).copied().collect();
        let before = self.rows.len();
        for row in rows.iter().filter(|row| stored.contains(&row.0)) {
            self.rows.push(StoredRow { hour, metric, row: *row, is_pushed: false });
        }
        for scope in &stored {
            self.facts.insert((metric, hour, *scope), fact_of(rows, *scope, Fact::NoData));
            self.next.insert((metric, *scope), hour + 1);
        }
        self.rows.len() - before
    }

    fn reset(&mut self, scopes: &[usize], hour: i64) -> usize {
        let before = self.rows.len();
        self.rows.retain(|row| row.hour < hour || !scopes.contains(&row.row.0));
        self.facts.retain(|(_, at, scope), _| *at < hour || !scopes.contains(scope));
        for scope in scopes {
            for metric in 0..METRICS.len() {
                self.next.insert((metric, *scope), hour);
            }
        }
        if let Some(task) = &mut self.task {
            task.staged.retain(|(_, at, scope), _| *at < hour || !scopes.contains(scope));
        }
        self.last = None;
        before - self.rows.len()
    }

    fn finish(&mut self, task: Task) {
        for ((metric, hour, scope), (fact, rows)) in task.staged {
            let next = self.next.get(&(metric, scope)).copied().unwrap_or(0);
            if fact == Fact::Lost || next <= hour || !task.scopes.contains(&scope) {
                continue;
            }
            let is_old = |row: &StoredRow| {
                !row.is_pushed && (row.metric, row.hour, row.row.0) == (metric, hour, scope)
            };
            self.rows.retain(|row| !is_old(row));
            self.facts.insert((metric, hour, scope), fact);
            let new = |row| StoredRow { hour, metric, row, is_pushed: false };
            self.rows.extend(rows.into_iter().map(new));
        }
    }

    /// As `support::summary` says it.
    fn summary(&self, key: impl Fn(&StoredRow) -> String) -> Vec<String> {
        let mut groups: BTreeMap<String, (usize, i64, i64)> = BTreeMap::new();
        for row in &self.rows {
            let group = groups.entry(key(row)).or_default();
            *group = (group.0 + 1, group.1 + row.row.1, group.2 + row.row.2);
        }
        let text = |value: i64| Sum::from_scaled(i128::from(value), 2).to_text(0);
        let line = |(key, (rows, qty, price)): (String, (usize, i64, i64))| {
            format!("{key}{rows}x {} {}", text(qty), text(price))
        };
        let mut lines: Vec<String> = groups.into_iter().map(line).collect();
        lines.sort();
        lines
    }
}

fn fact_of(rows: &[ModelRow], scope: usize, without: Fact) -> Fact {
    let mut own = rows.iter().filter(|row| row.0 == scope).peekable();
    if own.peek().is_none() {
        without
    } else if own.all(|row| row.1 == 0) {
        Fact::Zero
    } else {
        Fact::Collected
    }
}

fn commit(
    ledger: &SledLedger,
    (metric_index, hour_index, scopes): (usize, i64, &[usize]),
    rows: &[ModelRow],
) -> usize {
    let slice = slice(METRICS[metric_index], hour(hour_index), &names(scopes), &rows_of(rows));
    ledger.commit(vec![slice]).unwrap()[0].rows_stored
}

fn names(scopes: &[usize]) -> Vec<&'static str> {
    scopes.iter().map(|scope| SCOPES[*scope]).collect()
}

fn rows_of(rows: &[ModelRow]) -> Vec<Row<'static>> {
    let row = |(scope, qty, price, id, flavor): &ModelRow| {
        (SCOPES[*scope], i128::from(*qty), i128::from(*price), IDS[*id], FLAVORS[*flavor])
    };
    rows.iter().map(row).collect()
}

pub(super) fn run(path: &Path, ledger: SledLedger, model: &mut Model, step: &Step) -> SledLedger {
    match step {
        Step::Commit { metric, hour, scopes, rows } => {
            let mut rows = rows.clone();
            rows.retain(|row| scopes.contains(&row.0));
            let stored = commit(&ledger, (*metric, *hour, scopes), &rows);
            assert_eq!(stored, model.commit(*metric, *hour, scopes, &rows));
            model.last = Some((*metric, *hour, scopes.clone()));
            ledger
        }
        Step::Again => {
            let Some((metric, hour, scopes)) = &model.last else { return ledger };
            let rows: Vec<ModelRow> = scopes.iter().map(|scope| (*scope, 7, 7, 0, 0)).collect();
            // A scope that the first time came too early or too late does so again.
            assert_eq!(commit(&ledger, (*metric, *hour, scopes), &rows), 0);
            ledger
        }
        Step::Reopen => {
            drop(ledger);
            open(path)
        }
        Step::Push { metric, hour: hour_index, rows } => {
            let all: Vec<usize> = (0..SCOPES.len()).collect();
            let period = hour(*hour_index);
            let slice = pushed(METRICS[*metric], period, &names(&all), &rows_of(rows));
            let stored = ledger.push(push_of(vec![slice], None)).unwrap();
            assert_eq!(stored, PushOutcome::Stored { rows: rows.len() });
            let new = |row| StoredRow { hour: *hour_index, metric: *metric, row, is_pushed: true };
            model.rows.extend(rows.iter().copied().map(new));
            ledger
        }
        Step::Reset { scopes, hour } => {
            let reset = reset_of(&names(scopes), at(*hour));
            let rows_removed = ledger.reset(&reset).unwrap().rows_removed;
            assert_eq!(rows_removed, model.reset(scopes, *hour) as u64);
            ledger
        }
        step => {
            reprocess(&ledger, model, step);
            ledger
        }
    }
}

fn reprocess(ledger: &SledLedger, model: &mut Model, step: &Step) {
    match (step, model.task.take()) {
        (Step::Begin { scopes }, None) => {
            let id = ledger.add_reprocessing(&reprocessing_of(&names(scopes), (0, 3))).unwrap();
            let (scopes, staged) = (scopes.clone(), BTreeMap::new());
            model.task = Some(Task { id, scopes, staged });
        }
        (Step::Stage { metric, hour: hour_index, fact, rows }, Some(mut task)) => {
            let mut rows = rows.clone();
            rows.retain(|row| row.0 < LISTED);
            let all: Vec<usize> = (0..LISTED).collect();
            let period = hour(*hour_index);
            let mut slice = slice(METRICS[*metric], period, &names(&all), &rows_of(&rows));
            for scope in &mut slice.scopes {
                if scope.fact == Fact::NoData {
                    scope.fact = *fact;
                }
            }
            ledger.stage_reprocessed(task.id, vec![slice]).unwrap();
            for scope in &task.scopes {
                let own = rows.iter().filter(|row| row.0 == *scope).copied().collect();
                let staged = (fact_of(&rows, *scope, *fact), own);
                task.staged.entry((*metric, *hour_index, *scope)).or_insert(staged);
            }
            model.task = Some(task);
        }
        (Step::Postpone { scope: index }, Some(mut task)) => {
            let put_off = [scope(SCOPES[*index])];
            let later = ledger.advance_reprocessing(task.id, at(0), &put_off).unwrap();
            assert_eq!(later.is_some(), task.scopes.contains(index));
            if let Some(later) = later {
                ledger.finish_reprocessing(later).unwrap();
            }
            task.scopes.retain(|other| other != index);
            model.task = Some(task);
        }
        (Step::Finish, Some(task)) => {
            ledger.finish_reprocessing(task.id).unwrap();
            model.finish(task);
        }
        (_, task) => model.task = task,
    }
}

pub(super) fn compare(ledger: &SledLedger, model: &Model) {
    let text = |text: Option<&str>| text.unwrap_or("").to_owned();
    let check = |keys: &[GroupKey], key: &dyn Fn(&StoredRow) -> String| {
        let expected = model.summary(|row| format!("{} ", key(row)));
        assert_eq!(summary(ledger, &everything(keys)), expected, "{keys:?}");
    };
    check(&[], &|_| String::new());
    check(&[GroupKey::Scope], &|row| SCOPES[row.row.0].to_owned());
    check(&[GroupKey::Type, GroupKey::Time], &|row| {
        format!("{} @{}", METRICS[row.metric], row.hour)
    });
    check(&[attribute("flavor")], &|row| text(FLAVORS[row.row.4]));
    check(&[attribute("id"), GroupKey::Scope, attribute("flavor")], &|row| {
        let (scope, .., id, flavor) = row.row;
        format!("{}|{}|{}", text(IDS[id]), SCOPES[scope], text(FLAVORS[flavor]))
    });
    let next = ledger.cursors().unwrap().next_begin_secs;
    for (metric_index, name) in METRICS.iter().enumerate() {
        for (scope_index, next) in next[&metric(name)].iter().enumerate() {
            let hour = model.next.get(&(metric_index, scope_index)).copied().unwrap_or(0);
            assert_eq!(*next, at(hour).timestamp());
        }
    }
    assert_eq!(ledger.size().unwrap().rows, model.rows.len() as u64);
    compare_facts(ledger, model);
    compare_pages(ledger, model);
}

fn compare_facts(ledger: &SledLedger, model: &Model) {
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let text = |metric: &str, hour, scope: &str, fact| format!("{metric} {hour} {scope} {fact:?}");
    let mut found = Vec::new();
    for known in ledger.completeness(&query).unwrap() {
        let CompletenessState::Known(fact) = known.state else { panic!("nothing has failed") };
        let hour = (known.period.begin_secs() - START_SECS) / HOUR_SECS;
        found.push(text(&known.metric.alt_name, hour, known.scope.as_str(), fact));
    }
    let expected = model
        .facts
        .iter()
        .map(|((metric, hour, scope), fact)| text(METRICS[*metric], *hour, SCOPES[*scope], *fact));
    let mut expected: Vec<String> = expected.collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

fn compare_pages(ledger: &SledLedger, model: &Model) {
    let (total, whole) = rows(ledger, &all_rows(0, usize::MAX));
    assert_eq!(total, model.rows.len());
    let order = |line: &String| {
        let mut words = line.split(' ').map(str::to_owned);
        (words.next(), words.next())
    };
    assert!(whole.is_sorted_by_key(order), "{whole:?}");
    let mut of_scope = all_rows(1, 2);
    of_scope.filters.scopes = Some(vec![scope(SCOPES[1])]);
    let own: Vec<String> =
        whole.iter().filter(|line| line.split(' ').nth(2) == Some(SCOPES[1])).cloned().collect();
    let page = own.iter().skip(1).take(2).cloned().collect();
    assert_eq!(rows(ledger, &of_scope), (own.len(), page));
    let mut paged = Vec::new();
    for offset in (0..total).step_by(3) {
        paged.extend(rows(ledger, &all_rows(offset, 3)).1);
    }
    assert_eq!(paged, whole);
    let mut visited = Vec::new();
    let mut visit = |group: RowsGroup| {
        visited.extend(lines_of(&group));
        ControlFlow::Continue(())
    };
    ledger.visit_rows(&all_rows(0, usize::MAX), &mut visit).unwrap();
    assert_eq!(visited, whole);
    // Column scales are free: compare values, not digits.
    let normal =
        |text: &str| text.parse::<rust_decimal::Decimal>().unwrap().normalize().to_string();
    let mut found: Vec<String> = whole
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let (qty, price) = (normal(words[3]), normal(words[4]));
            format!(
                "{} {} {} {qty} {price} {} {}",
                words[0], words[1], words[2], words[5], words[6]
            )
        })
        .collect();
    let hundredths = |value: i64| rust_decimal::Decimal::new(value, 2).normalize().to_string();
    let mut expected: Vec<String> = model
        .rows
        .iter()
        .map(|StoredRow { hour, metric, row: (scope, qty, price, id, flavor), .. }| {
            let (qty, price) = (hundredths(*qty), hundredths(*price));
            let (id, flavor) = (IDS[*id].unwrap_or("-"), FLAVORS[*flavor].unwrap_or("-"));
            format!("{hour} {} {} {qty} {price} {id} {flavor}", METRICS[*metric], SCOPES[*scope])
        })
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_agrees_with_the_model(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        ledger.set_metrics(&METRICS.map(metric)).unwrap();
        ledger.add_scopes(&SCOPES.map(new_scope)[..LISTED]).unwrap();
        let mut model = Model::default();
        for step in &steps {
            ledger = run(folder.path(), ledger, &mut model, step);
        }
        compare(&ledger, &model);
        drop(ledger);
        compare(&open(folder.path()), &model);
    }
}
