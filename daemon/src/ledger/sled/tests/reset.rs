use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{
    CompletenessQuery, Failure, GroupKey, Ledger, Reset, ResetOutcome, SummaryQuery,
};

pub(super) fn reset_of(scopes: &[&str], from: chrono::DateTime<chrono::Utc>) -> Reset {
    let scopes = scopes.iter().map(|name| scope(name)).collect();
    Reset { scopes, from, period_secs: 3600 }
}

/// Four hours of two metrics, and rows pushed in the third.
fn ledger_of_two(path: &std::path::Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    for index in 0..4 {
        commit(&ledger, index);
    }
    let rows = [("ann", 1, 1, None, None), ("eve", 1, 1, None, None)];
    ledger.push(push_of(vec![pushed("net", hour(2), &["ann", "eve"], &rows)], None)).unwrap();
    ledger
}

fn commit(ledger: &SledLedger, index: i64) {
    for name in ["cpu", "disk"] {
        let rows =
            [("ann", 100, 10, Some("vm-1"), Some("small")), ("bob", 250, 25, Some("vm-2"), None)];
        ledger.commit(vec![slice(name, hour(index), &["ann", "bob"], &rows)]).unwrap();
    }
}

#[test]
fn a_reset_removes_what_begins_later_and_sets_the_cursors() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let unaligned = at(1) + chrono::TimeDelta::seconds(90);

    let outcome = ledger.reset(&reset_of(&["ann", "nobody-knows", "eve"], unaligned)).unwrap();

    assert_eq!(outcome, ResetOutcome { scopes_reset: 1, rows_removed: 5 });
    let check = |ledger: &SledLedger| {
        let by_hour = everything(&[GroupKey::Scope, GroupKey::Time]);
        assert_eq!(
            summary(ledger, &by_hour),
            [
                "ann @0 2x 2 0.2",
                "ann @1 2x 2 0.2",
                "bob @0 2x 5 0.5",
                "bob @1 2x 5 0.5",
                "bob @2 2x 5 0.5",
                "bob @3 2x 5 0.5",
                "eve @2 1x 0.01 0.01",
            ]
        );
        assert_eq!(summary(ledger, &everything(&[])), [" 13x 24.01 2.41"]);
        assert_eq!(
            summary(ledger, &everything(&[attribute("flavor")])),
            [" 9x 20.01 2.01", "small 4x 4 0.4"]
        );
        let mut later = SummaryQuery { begin: at(2), ..everything(&[]) };
        later.filters.scopes = Some(vec![scope("ann")]);
        assert!(summary(ledger, &later).is_empty());
        assert_eq!(ledger.size().unwrap().rows, 13);
        assert_eq!(rows(ledger, &all_rows(0, 100)).1.len(), 13);
        assert_eq!(rows(ledger, &all_rows(8, 2)).0, 13);
        let next = ledger.cursors().unwrap().next_begin_secs;
        for name in ["cpu", "disk"] {
            assert_eq!(next[&metric(name)], [at(2).timestamp(), at(4).timestamp()]);
        }
        assert_eq!(ledger.scopes().unwrap()[0].last_processed, Some(unaligned));
        let query = CompletenessQuery { begin: at(2), end: at(9), scopes: None };
        let known = ledger.completeness(&query).unwrap();
        assert!(known.iter().all(|known| known.scope == scope("bob")));
        assert_eq!(known.len(), 4);
    };
    check(&ledger);
    drop(ledger);
    let ledger = open(folder.path());
    check(&ledger);
    commit(&ledger, 2);
    assert_eq!(ledger.size().unwrap().rows, 15);
    assert_eq!(ledger.scopes().unwrap()[0].last_processed, Some(at(2)));
}

#[test]
fn a_reset_to_later_leaves_periods_out() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());

    let outcome = ledger.reset(&reset_of(&["ann", "bob"], at(9))).unwrap();

    assert_eq!(outcome, ResetOutcome { scopes_reset: 2, rows_removed: 0 });
    assert_eq!(ledger.cursors().unwrap().next_begin_secs[&metric("cpu")], [at(9).timestamp(); 2]);
    assert_eq!(ledger.scopes().unwrap()[1].last_processed, Some(at(9)));
    commit(&ledger, 4);
    assert_eq!(ledger.size().unwrap().rows, 18);
}

#[test]
fn a_slice_without_a_scope_left_costs_readers_nothing() {
    use crate::ledger::sled::SledOptions;
    use crate::ledger::sled::store::{Store, Table};
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.reset(&reset_of(&["ann"], at(0))).unwrap();
    ledger.reset(&reset_of(&["bob"], at(0))).unwrap();

    assert_eq!(summary(&ledger, &everything(&[GroupKey::Scope])), ["eve 1x 0.01 0.01"]);
    drop(ledger);
    let store = Store::open(folder.path(), SledOptions::default()).unwrap();
    assert_eq!(store.prefix(Table::Slices, &[]).count(), 1);
}

#[test]
fn a_reset_forgets_failures_of_later_periods() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    for (name, of) in [("cpu", "ann"), ("disk", "ann"), ("cpu", "bob")] {
        let failure = Failure {
            metric: metric(name),
            period: hour(if name == "cpu" { 4 } else { 0 }),
            scopes: vec![scope(of)],
            attempts: 1,
            at: at(5),
            reason: "down".to_owned(),
        };
        ledger.note_failure(&failure).unwrap();
    }

    ledger.reset(&reset_of(&["ann"], at(4))).unwrap();

    let query = CompletenessQuery { begin: at(4), end: at(5), scopes: None };
    let known = ledger.completeness(&query).unwrap();
    assert_eq!(known.iter().map(|known| known.scope.clone()).collect::<Vec<_>>(), [scope("bob")]);
    let query = CompletenessQuery { begin: at(0), end: at(1), scopes: None };
    assert_eq!(ledger.completeness(&query).unwrap().len(), 5);
}

#[test]
fn a_scope_without_metrics_can_be_reset() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.add_scopes(&[new_scope("ann")]).unwrap();

    ledger.reset(&reset_of(&["ann"], at(7))).unwrap();

    assert_eq!(ledger.scopes().unwrap()[0].last_processed, Some(at(7)));
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    assert_eq!(ledger.cursors().unwrap().next_begin_secs[&metric("cpu")], [at(7).timestamp()]);
}
