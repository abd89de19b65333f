//! Random schedules of commits, restarts and queries, compared with a list of rows in memory.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{GroupKey, Ledger};
use crate::usage::Sum;

const SCOPES: [&str; 4] = ["ann", "bob", "cid", "dot"];
const METRICS: [&str; 2] = ["cpu", "disk"];
const IDS: [Option<&str>; 4] = [Some("vm-1"), Some("vm-2"), Some("vm-3"), None];
const FLAVORS: [Option<&str>; 3] = [Some("small"), Some("large"), None];

#[derive(Debug, Clone)]
enum Step {
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
}

type ModelRow = (usize, i64, i64, usize, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..SCOPES.len(), -500..5_000_i64, -50..500_i64, 0..IDS.len(), 0..FLAVORS.len());
    let scopes = prop::sample::subsequence((0..SCOPES.len()).collect::<Vec<_>>(), 0..=4);
    let commit = (0..METRICS.len(), 0..4_i64, scopes, prop::collection::vec(row, 0..12));
    let commit =
        commit.prop_map(|(metric, hour, scopes, rows)| Step::Commit { metric, hour, scopes, rows });
    let step = prop_oneof![8 => commit, 1 => Just(Step::Again), 1 => Just(Step::Reopen)];
    prop::collection::vec(step, 1..16)
}

#[derive(Debug, Default)]
struct Model {
    /// Hour of the next period by metric and scope.
    next: BTreeMap<(usize, usize), i64>,
    rows: Vec<StoredRow>,
    last: Option<(usize, i64, Vec<usize>)>,
}

#[derive(Debug, Clone)]
struct StoredRow {
    hour: i64,
    metric: usize,
    row: ModelRow,
}

impl Model {
    fn commit(&mut self, metric: usize, hour: i64, scopes: &[usize], rows: &[ModelRow]) -> usize {
        let stands =
            |scope: &&usize| self.next.get(&(metric, **scope)).copied().unwrap_or(0) == hour;
        let stored: Vec<usize> = scopes.iter().filter(stands).copied().collect();
        let before = self.rows.len();
        for row in rows.iter().filter(|row| stored.contains(&row.0)) {
            self.rows.push(StoredRow { hour, metric, row: *row });
        }
        for scope in &stored {
            self.next.insert((metric, *scope), hour + 1);
        }
        self.rows.len() - before
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

fn commit(
    ledger: &SledLedger,
    (metric_index, hour_index, scopes): (usize, i64, &[usize]),
    rows: &[ModelRow],
) -> usize {
    let names: Vec<&str> = scopes.iter().map(|scope| SCOPES[*scope]).collect();
    let rows: Vec<Row<'_>> = rows
        .iter()
        .map(|(scope, qty, price, id, flavor)| {
            (SCOPES[*scope], i128::from(*qty), i128::from(*price), IDS[*id], FLAVORS[*flavor])
        })
        .collect();
    let slice = slice(METRICS[metric_index], hour(hour_index), &names, &rows);
    ledger.commit(vec![slice]).unwrap()[0].rows_stored
}

fn run(path: &Path, ledger: SledLedger, model: &mut Model, step: &Step) -> SledLedger {
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
    }
}

fn compare(ledger: &SledLedger, model: &Model) {
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
    compare_pages(ledger, model);
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
        .map(|StoredRow { hour, metric, row: (scope, qty, price, id, flavor) }| {
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
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_agrees_with_the_model(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        ledger.set_metrics(&METRICS.map(metric)).unwrap();
        ledger.add_scopes(&SCOPES.map(new_scope)).unwrap();
        let mut model = Model::default();
        for step in &steps {
            ledger = run(folder.path(), ledger, &mut model, step);
        }
        compare(&ledger, &model);
        drop(ledger);
        compare(&open(folder.path()), &model);
    }
}
