//! Sums of days and months say what the slices say.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::compaction::{assert_nothing_is_left_over, compact};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{Filters, GroupKey, Ledger, PageOf, SummaryPage, SummaryQuery};
use crate::usage::Sum;

const SCOPES: [&str; 3] = ["ann", "bob", "eve"];
const TYPES: [&str; 2] = ["cpu", "disk"];
const DAY: i64 = 24;
/// So many hours from the begin of a month: two months, and a bit of the third.
const HOURS: i64 = 64 * DAY;

#[derive(Debug, Clone)]
enum Step {
    Push { hour: i64, scope: usize, metric: usize, qty: i128 },
    Reset { hour: i64, scope: usize },
    Compact(usize),
    CompactAll,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..HOURS, 0..3_usize, 0..2_usize, 0..1000_i128)
            .prop_map(|(hour, scope, metric, qty)| Step::Push { hour, scope, metric, qty }),
        1 => (0..HOURS, 0..2_usize).prop_map(|(hour, scope)| Step::Reset { hour, scope }),
        2 => (1..20_usize).prop_map(Step::Compact),
        2 => Just(Step::CompactAll),
        1 => Just(Step::Reopen),
    ]
}

fn push(ledger: &SledLedger, (index, scope, name): (i64, &str, &str), qty: i128) {
    let rows = [(scope, qty, 1 + qty % 7, None, None)];
    ledger.push(push_of(vec![pushed(name, hour(index), &[scope], &rows)], None)).unwrap();
}

fn run(path: &Path, ledger: SledLedger, step: &Step) -> SledLedger {
    match *step {
        Step::Push { hour, scope, metric, qty } => {
            push(&ledger, (hour, SCOPES[scope], TYPES[metric]), qty);
        }
        Step::Reset { hour, scope } => {
            ledger.reset(&reset_of(&[SCOPES[scope]], at(hour))).unwrap();
        }
        Step::Compact(steps) => {
            for _ in 0..steps {
                ledger.compact().unwrap();
            }
        }
        Step::CompactAll => {
            compact(&ledger);
        }
        Step::Reopen => {
            drop(ledger);
            return open(path);
        }
    }
    ledger
}

fn lines(ledger: &SledLedger, query: &SummaryQuery) -> BTreeMap<Vec<String>, (u64, Sum, Sum)> {
    let mut sums = BTreeMap::new();
    for group in ledger.summarize(query).unwrap() {
        let keys = group.keys.iter().map(|key| key.as_ref().to_owned()).collect();
        let (rows, qty, price) = sums.entry(keys).or_default();
        *rows += group.rows;
        *qty += group.qty;
        *price += group.price;
    }
    sums
}

/// With the period among the keys nothing but slices is read.
fn check(ledger: &SledLedger, (begin, end): (i64, i64)) {
    let keys: [&[GroupKey]; 5] = [
        &[],
        &[GroupKey::Scope],
        &[GroupKey::Type, attribute("project_id")],
        &[attribute("day_of_the_year"), GroupKey::Scope],
        &[attribute("month")],
    ];
    let of_ann = Filters { scopes: Some(vec![scope("ann")]), ..Filters::default() };
    let of_disk = Filters { types: Some(vec!["disk".to_owned()]), ..Filters::default() };
    for filters in [Filters::default(), of_ann, of_disk] {
        for keys in keys {
            let filters = filters.clone();
            let query =
                SummaryQuery { begin: at(begin), end: at(end), filters, ..everything(keys) };
            let by_time = [keys, &[GroupKey::Time]].concat();
            let by_time = SummaryQuery { group_by: by_time, ..query.clone() };

            assert_eq!(lines(ledger, &query), lines(ledger, &by_time), "{query:?}");
            check_pages(ledger, &query);
            check_pages(ledger, &by_time);
        }
    }
}

fn check_pages(ledger: &SledLedger, query: &SummaryQuery) {
    let all = SummaryPage::of(ledger.summarize(query).unwrap(), query, PageOf::ALL);
    for (offset, limit) in [(0, 3), (2, 5), (7, 1000), (1000, 1), (0, 0)] {
        let page = ledger.summary_page(query, PageOf { offset, limit }).unwrap();

        assert_eq!(page.total, all.total, "{query:?}");
        let wanted = PageOf { offset, limit }.of(all.total);
        assert_eq!(page.groups, all.groups[wanted], "{query:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn they_never_say_anything_else(
        steps in prop::collection::vec(step(), 1..60),
        ranges in prop::collection::vec((0..HOURS, 0..HOURS), 4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(folder.path());
        ledger.set_metrics(&TYPES.map(metric)).unwrap();
        ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
        for step in &steps {
            ledger = run(folder.path(), ledger, step);
        }
        check(&ledger, (0, HOURS));
        for (one, other) in ranges {
            check(&ledger, (one.min(other), one.max(other)));
        }
        compact(&ledger);
        check(&ledger, (0, HOURS));
        drop(ledger);
        assert_nothing_is_left_over(folder.path());
        check(&open(folder.path()), (0, HOURS));
    }
}

fn full_months(ledger: &SledLedger) {
    for index in (0..HOURS).step_by(3) {
        push(ledger, (index, "ann", "cpu"), i128::from(index));
    }
}

#[test]
fn days_and_months_that_are_over_are_summed_up_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    full_months(&ledger);

    // November and December have ended, and all days but the last.
    assert_eq!(compact(&ledger).periods_summed, 63 + 2);
    assert_eq!(compact(&ledger).periods_summed, 0);
    check(&ledger, (5, HOURS - 30));
    push(&ledger, (26, "bob", "disk"), 5);
    check(&ledger, (0, HOURS));
    assert_eq!(compact(&ledger).periods_summed, 2);
    check(&ledger, (0, HOURS));
}

#[test]
fn a_query_of_months_reads_nothing_but_their_sums() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    full_months(&ledger);
    compact(&ledger);
    let november = SummaryQuery { begin: at(0), end: at(30 * DAY), ..everything(&[]) };
    let by_scope = SummaryQuery { group_by: vec![GroupKey::Scope], ..november.clone() };
    let expected = summary(&ledger, &november);
    drop(ledger);
    for slice in super::compaction::slices(folder.path()) {
        flip_bit(folder.path(), &slice, slice.rollup_offset(0) + 9);
    }

    let ledger = open(folder.path());

    assert_eq!(summary(&ledger, &november), expected);
    assert!(ledger.summarize(&by_scope).is_ok());
    let by_time = SummaryQuery { group_by: vec![GroupKey::Scope, GroupKey::Time], ..by_scope };
    assert!(ledger.summarize(&by_time).is_err());
}
