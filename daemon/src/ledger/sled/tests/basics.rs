use super::support::*;
use crate::ledger::sled::{OpenError, SledLedger, SledOptions};
use crate::ledger::{
    CollectorMapping, CommitOutcome, CompletenessQuery, CompletenessState, Enabled, Fact, Failure,
    GroupKey, Ledger, LedgerError, ModuleState, ShapeErrorKind, SummaryQuery,
};

const STORED: CommitOutcome = CommitOutcome { scopes_stored: 2, rows_stored: 3 };

fn ledger_of_two(path: &std::path::Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    ledger
}

fn three_rows(hour_index: i64) -> crate::ledger::RatedSlice {
    slice(
        "cpu",
        hour(hour_index),
        &["ann", "bob"],
        &[
            ("bob", 300, 30, Some("vm-3"), Some("small")),
            ("ann", 150, 15, Some("vm-1"), Some("small")),
            ("ann", 250, 25, Some("vm-2"), None),
        ],
    )
}

#[test]
fn a_slice_is_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());

    let first = ledger.commit(vec![three_rows(0)]).unwrap();
    let again = ledger.commit(vec![three_rows(0)]).unwrap();

    assert_eq!(first, [STORED]);
    assert_eq!(again, [CommitOutcome { scopes_stored: 0, rows_stored: 0 }]);
    assert_eq!(summary(&ledger, &everything(&[])), [" 3x 7 0.7"]);
}

#[test]
fn consecutive_periods_in_one_call_are_all_stored() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());

    let outcomes = ledger.commit(vec![three_rows(0), three_rows(1), three_rows(2)]).unwrap();

    assert_eq!(outcomes, [STORED; 3]);
    assert_eq!(
        summary(&ledger, &everything(&[GroupKey::Time])),
        [" @0 3x 7 0.7", " @1 3x 7 0.7", " @2 3x 7 0.7"]
    );
}

#[test]
fn only_scopes_that_stand_at_the_period_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let of_bob = slice("cpu", hour(0), &["bob"], &[("bob", 100, 10, None, None)]);
    ledger.commit(vec![of_bob]).unwrap();

    let outcome = ledger.commit(vec![three_rows(0)]).unwrap();
    let too_early = ledger.commit(vec![three_rows(7)]).unwrap();

    assert_eq!(outcome, [CommitOutcome { scopes_stored: 1, rows_stored: 2 }]);
    assert_eq!(too_early, [CommitOutcome { scopes_stored: 0, rows_stored: 0 }]);
    assert_eq!(summary(&ledger, &everything(&[GroupKey::Scope])), ["ann 2x 4 0.4", "bob 1x 1 0.1"]);
}

#[test]
fn cursors_and_states_of_scopes_follow_the_metric_that_is_behind() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.commit(vec![three_rows(0), three_rows(1)]).unwrap();
    assert_eq!(ledger.scopes().unwrap()[0].last_processed, None);

    ledger.commit(vec![slice("disk", hour(0), &["ann"], &[])]).unwrap();

    let cursors = ledger.cursors().unwrap();
    let next = |name: &str| cursors.next_begin_secs[&metric(name)].clone();
    assert_eq!(next("cpu"), [at(2).timestamp(); 2]);
    assert_eq!(next("disk"), [at(1).timestamp(), at(0).timestamp()]);
    let scopes = ledger.scopes().unwrap();
    assert_eq!(scopes[0].last_processed, Some(at(0)));
    assert_eq!(scopes[1].last_processed, None);
}

#[test]
fn a_new_metric_starts_where_each_scope_stands() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.commit(vec![three_rows(0)]).unwrap();
    ledger.commit(vec![slice("cpu", hour(1), &["ann"], &[])]).unwrap();

    ledger.set_metrics(&[metric("cpu"), metric("net")]).unwrap();

    let cursors = ledger.cursors().unwrap();
    assert_eq!(cursors.next_begin_secs.len(), 2);
    assert_eq!(cursors.next_begin_secs[&metric("net")], [at(2).timestamp(), at(1).timestamp()]);
    assert_eq!(ledger.scopes().unwrap()[0].last_processed, Some(at(1)));
}

#[test]
fn a_metric_in_place_of_another_starts_where_that_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.commit(vec![three_rows(0)]).unwrap();

    ledger.set_metrics(&[]).unwrap();
    ledger.set_metrics(&[metric("net")]).unwrap();

    assert_eq!(ledger.cursors().unwrap().next_begin_secs[&metric("net")], [at(1).timestamp(); 2]);
    assert_eq!(summary(&ledger, &everything(&[])), [" 3x 7 0.7"]);
}

#[test]
fn summaries_group_by_anything() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.commit(vec![three_rows(0), three_rows(1)]).unwrap();
    let disk = slice("disk", hour(0), &["ann", "bob"], &[("ann", 5, 1, Some("vm-1"), None)]);
    ledger.commit(vec![disk]).unwrap();
    let check = |keys: &[GroupKey], expected: &[&str]| {
        assert_eq!(summary(&ledger, &everything(keys)), expected, "{keys:?}");
    };

    check(&[GroupKey::Type], &["cpu 6x 14 1.4", "disk 1x 0.05 0.01"]);
    check(
        &[attribute("project_id"), GroupKey::Type],
        &["ann|cpu 4x 8 0.8", "ann|disk 1x 0.05 0.01", "bob|cpu 2x 6 0.6"],
    );
    check(&[attribute("flavor")], &[" 3x 5.05 0.51", "small 4x 9 0.9"]);
    check(
        &[GroupKey::Scope, attribute("id"), attribute("nothing"), attribute("month")],
        &["ann|vm-1||11 3x 3.05 0.31", "ann|vm-2||11 2x 5 0.5", "bob|vm-3||11 2x 6 0.6"],
    );
    check(
        &[GroupKey::Time, attribute("flavor"), attribute("year")],
        &[
            "small|2026 @0 2x 4.5 0.45",
            "small|2026 @1 2x 4.5 0.45",
            "|2026 @0 2x 2.55 0.26",
            "|2026 @1 1x 2.5 0.25",
        ],
    );
    check(
        &[attribute("day_of_the_year"), attribute("week_of_the_year")],
        &["305|44 7x 14.05 1.41"],
    );
}

fn restrict(query: &mut SummaryQuery, name: &str, values: &[&str]) {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    query.filters.attributes.insert(name.to_owned(), values);
}

#[test]
fn filters_hold_for_scopes_types_and_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.commit(vec![three_rows(0), three_rows(1)]).unwrap();
    let check = |change: &dyn Fn(&mut SummaryQuery), expected: &[&str]| {
        let mut query = everything(&[]);
        change(&mut query);
        assert_eq!(summary(&ledger, &query), expected, "{query:?}");
    };

    check(&|query| query.filters.scopes = Some(vec![scope("ann")]), &[" 4x 8 0.8"]);
    check(&|query| query.filters.scopes = Some(vec![scope("eve")]), &[]);
    check(&|query| query.filters.types = Some(vec!["disk".to_owned()]), &[]);
    check(&|query| restrict(query, "flavor", &["small"]), &[" 4x 9 0.9"]);
    check(&|query| restrict(query, "flavor", &[""]), &[" 2x 5 0.5"]);
    check(&|query| restrict(query, "id", &["vm-1", "vm-3", "x"]), &[" 4x 9 0.9"]);
    check(&|query| restrict(query, "nothing", &["x"]), &[]);
    check(&|query| restrict(query, "project_id", &["bob"]), &[" 2x 6 0.6"]);
    check(&|query| restrict(query, "month", &["10", "11"]), &[" 6x 14 1.4"]);
    check(&|query| restrict(query, "month", &["10"]), &[]);
    check(&|query| query.begin = at(1), &[" 3x 7 0.7"]);
    check(&|query| query.end = at(1), &[" 3x 7 0.7"]);
    check(
        &|query| {
            query.filters.scopes = Some(vec![scope("ann")]);
            restrict(query, "flavor", &["small"]);
        },
        &[" 2x 3 0.3"],
    );
}

#[test]
fn rows_come_back_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    ledger.commit(vec![three_rows(0), three_rows(1)]).unwrap();

    let (total, first) = rows(&ledger, &all_rows(0, 2));
    let (_, second) = rows(&ledger, &all_rows(2, 3));
    let (_, beyond) = rows(&ledger, &all_rows(6, 3));

    assert_eq!(total, 6);
    assert_eq!(
        [first, second].concat(),
        [
            "0 cpu ann 1.5 0.15 vm-1 small",
            "0 cpu ann 2.5 0.25 vm-2 -",
            "0 cpu bob 3.0 0.30 vm-3 small",
            "1 cpu ann 1.5 0.15 vm-1 small",
            "1 cpu ann 2.5 0.25 vm-2 -",
        ]
    );
    assert!(beyond.is_empty());
    let mut filtered = all_rows(1, 9);
    filtered.filters.attributes.insert("flavor".to_owned(), vec!["small".to_owned()]);
    assert_eq!(rows(&ledger, &filtered).0, 4);
    assert_eq!(rows(&ledger, &filtered).1.len(), 3);
}

#[test]
fn what_is_known_and_what_fails_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let failure = |attempts, scopes: &[&str]| Failure {
        metric: metric("cpu"),
        period: hour(0),
        scopes: scopes.iter().map(|name| scope(name)).collect(),
        attempts,
        at: at(5),
        reason: "the source is down".to_owned(),
    };
    ledger.note_failure(&failure(1, &["ann", "bob"])).unwrap();
    ledger.note_failure(&failure(2, &["bob"])).unwrap();
    ledger.commit(vec![slice("cpu", hour(0), &["ann"], &[("ann", 0, 0, None, None)])]).unwrap();
    ledger.commit(vec![slice("disk", hour(0), &["ann"], &[])]).unwrap();

    let reopened = {
        drop(ledger);
        open(folder.path())
    };

    let query = CompletenessQuery { begin: at(0), end: at(1), scopes: None };
    let known: Vec<_> = reopened
        .completeness(&query)
        .unwrap()
        .into_iter()
        .map(|known| (known.scope, known.metric.alt_name, known.state))
        .collect();
    let reason = "the source is down".to_owned();
    assert_eq!(
        known,
        [
            (scope("ann"), "cpu".to_owned(), CompletenessState::Known(Fact::Zero)),
            (scope("ann"), "disk".to_owned(), CompletenessState::Known(Fact::NoData)),
            (scope("bob"), "cpu".to_owned(), CompletenessState::Failing { attempts: 2, reason }),
        ]
    );
}

#[test]
fn states_and_mappings_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let state = ModuleState { enabled: true, priority: -3 };
    let mapping = |service: &str, collector: &str| CollectorMapping {
        service: service.to_owned(),
        collector: collector.to_owned(),
    };
    ledger.set_module_state("hashmap", state).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap();
    for (service, collector) in [("z", "a"), ("b", "a"), ("c", "a"), ("z", "other")] {
        ledger.set_collector_mapping(&mapping(service, collector)).unwrap();
    }
    assert!(ledger.remove_collector_mapping("b").unwrap());
    assert!(!ledger.remove_collector_mapping("b").unwrap());
    drop(ledger);

    let ledger = open(folder.path());

    assert_eq!(ledger.module_states().unwrap()["hashmap"], state);
    assert!(!ledger.collector_states().unwrap()["host"]);
    let mappings = ledger.collector_mappings().unwrap();
    assert_eq!(mappings, [mapping("z", "other"), mapping("c", "a")]);
}

#[test]
fn a_wrong_batch_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let foreign = slice("cpu", hour(0), &["ann"], &[("bob", 1, 1, None, None)]);

    let error = ledger.commit(vec![three_rows(0), foreign]).unwrap_err();

    let kind = ShapeErrorKind::ForeignScope { scope: "bob".to_owned() };
    assert!(matches!(error, LedgerError::Shape { kind: found, .. } if found == kind));
    assert!(summary(&ledger, &everything(&[])).is_empty());
    let unknown = ledger.commit(vec![slice("net", hour(0), &["ann"], &[])]);
    assert!(matches!(unknown, Err(LedgerError::UnknownMetric(_))));
    let unknown = ledger.commit(vec![slice("cpu", hour(0), &["eve"], &[])]);
    assert!(matches!(unknown, Err(LedgerError::UnknownScope(_))));
}

#[test]
fn a_folder_is_used_by_one_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let _ledger = open(folder.path());

    let second = SledLedger::open(folder.path(), SledOptions::default());

    let error = second.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    assert!(error.to_string().ends_with("is used by another daemon"), "{error}");
}

#[test]
fn threads_commit_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let names: Vec<String> = (0..8).map(|number| format!("scope-{number}")).collect();
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&names.iter().map(|name| new_scope(name)).collect::<Vec<_>>()).unwrap();

    std::thread::scope(|threads| {
        for name in &names {
            let ledger = &ledger;
            threads.spawn(move || {
                for index in 0..5 {
                    let row = (name.as_str(), 100, 1, Some(name.as_str()), None);
                    let outcome = ledger.commit(vec![slice("cpu", hour(index), &[name], &[row])]);
                    assert_eq!(outcome.unwrap()[0].rows_stored, 1);
                    let total = summary(ledger, &everything(&[GroupKey::Type]));
                    assert_eq!(total.len(), 1);
                }
            });
        }
    });

    assert_eq!(summary(&ledger, &everything(&[])), [" 40x 40 0.4"]);
    assert_eq!(ledger.size().unwrap().rows, 40);
    drop(ledger);
    assert_eq!(summary(&open(folder.path()), &everything(&[])), [" 40x 40 0.4"]);
}
