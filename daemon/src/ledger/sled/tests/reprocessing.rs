use std::sync::atomic::{AtomicBool, Ordering};

use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::sled::reprocessing::UNFINISHED_MAX;
use crate::ledger::{
    CompletenessQuery, CompletenessState, Fact, GroupKey, Ledger, LedgerError, NewReprocessing,
    RatedSlice, Reprocessing,
};

pub(super) fn reprocessing_of(scopes: &[&str], (first, last): (i64, i64)) -> NewReprocessing {
    NewReprocessing {
        scopes: scopes.iter().map(|name| scope(name)).collect(),
        reason: "new prices".to_owned(),
        start: at(first),
        end: at(last),
        at: at(50),
        author: "ann".to_owned(),
    }
}

/// Four hours of `cpu` for two scopes, a row each of price 0.1.
pub(super) fn ledger_of_two(path: &std::path::Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    for index in 0..4 {
        ledger.commit(vec![priced(index, &["ann", "bob"], 10)]).unwrap();
    }
    ledger
}

/// An hour of `cpu`, a row of that price for each scope.
pub(super) fn priced(index: i64, scopes: &[&str], price: i128) -> RatedSlice {
    let row = |name: &&'static str| (*name, 100, price, Some("vm-1"), Some("small"));
    let names: Vec<&'static str> = scopes
        .iter()
        .map(|name| *["ann", "bob"].iter().find(|other| *other == name).unwrap())
        .collect();
    let rows: Vec<Row<'_>> = names.iter().map(row).collect();
    slice("cpu", hour(index), scopes, &rows)
}

fn by_scope(ledger: &SledLedger) -> Vec<String> {
    summary(ledger, &everything(&[GroupKey::Scope]))
}

#[test]
fn staged_rows_take_the_place_of_what_was_collected() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let pushed = pushed("cpu", hour(1), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![pushed], None)).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (1, 2))).unwrap();

    ledger.stage_reprocessed(id, vec![priced(1, &["ann", "bob"], 70)]).unwrap();
    ledger.stage_reprocessed(id, vec![priced(1, &["ann"], 99), priced(2, &["ann"], 70)]).unwrap();
    ledger.advance_reprocessing(id, at(2), &[]).unwrap();

    assert_eq!(by_scope(&ledger), ["ann 5x 4.01 0.41", "bob 4x 4 0.4"]);
    assert_eq!(ledger.size().unwrap().rows, 9);
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(by_scope(&ledger), ["ann 5x 4.01 0.41", "bob 4x 4 0.4"]);
    let expected = Reprocessing {
        id,
        scopes: vec![scope("ann")],
        reason: "new prices".to_owned(),
        start: at(1),
        end: at(2),
        at: at(50),
        author: "ann".to_owned(),
        current: Some(at(2)),
        finished: false,
    };
    assert_eq!(ledger.reprocessings().unwrap(), std::slice::from_ref(&expected));

    ledger.finish_reprocessing(id).unwrap();

    for _ in 0..2 {
        let ledger = open_copy(folder.path());
        assert_eq!(by_scope(&ledger), ["ann 5x 4.01 1.61", "bob 4x 4 0.4"]);
        assert_eq!(
            summary(&ledger, &everything(&[attribute("flavor"), GroupKey::Time])),
            [
                " @1 1x 0.01 0.01",
                "small @0 2x 2 0.2",
                "small @1 2x 2 0.8",
                "small @2 2x 2 0.8",
                "small @3 2x 2 0.2",
            ]
        );
        assert_eq!(rows(&ledger, &all_rows(0, 100)).1.len(), 9);
        assert_eq!(ledger.size().unwrap().rows, 9);
        let query = CompletenessQuery { begin: at(0), end: at(9), scopes: None };
        assert_eq!(ledger.completeness(&query).unwrap().len(), 8);
        let finished = Reprocessing { finished: true, ..expected.clone() };
        assert_eq!(ledger.reprocessings().unwrap(), [finished]);
    }
    let again = ledger.finish_reprocessing(id);
    assert!(matches!(again, Err(LedgerError::UnknownReprocessing(found)) if found == id));
}

/// What is on disk now, opened and closed once.
fn open_copy(path: &std::path::Path) -> SledLedger {
    let copy = path.join("copy");
    let _ = std::fs::remove_dir_all(&copy);
    super::crash::copy_files(path, &copy);
    drop(open(&copy));
    open(&copy)
}

#[test]
fn what_is_lost_or_not_passed_or_postponed_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
    let mut lost = priced(0, &["ann"], 70);
    lost.scopes.push(crate::ledger::SliceScope { id: scope("bob"), fact: Fact::Lost });
    let stage = |slice| ledger.stage_reprocessed(id, vec![slice]).unwrap();
    stage(lost);
    stage(priced(1, &["ann", "bob"], 70));
    stage(priced(3, &["ann", "bob"], 70));
    // Nobody has a row of this metric yet, and nobody is past the hour.
    stage(slice("disk", hour(3), &["ann"], &[("ann", 1, 1, None, None)]));

    let put_off = || ledger.advance_reprocessing(id, at(1), &[scope("bob")]).unwrap();
    let later = put_off().unwrap();
    // Whoever was not told that it was done asks again.
    assert_eq!(put_off(), None);
    ledger.reset(&super::reset::reset_of(&["ann"], at(3))).unwrap();
    ledger.finish_reprocessing(id).unwrap();

    assert_eq!(by_scope(&ledger), ["ann 3x 3 1.5", "bob 4x 4 0.4"]);
    let all = ledger.reprocessings().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!((all[0].finished, &all[0].scopes), (true, &vec![scope("ann")]));
    assert_eq!(all[0].current, Some(at(1)));
    assert_eq!(ledger.open_reprocessings().unwrap().open, all[1..]);
    assert_eq!((all[1].id, all[1].finished), (later, false));
    assert_eq!((&all[1].scopes, all[1].current), (&vec![scope("bob")], None));
    ledger.stage_reprocessed(later, vec![priced(1, &["bob"], 80)]).unwrap();
    ledger.finish_reprocessing(later).unwrap();
    assert_eq!(by_scope(&ledger), ["ann 3x 3 1.5", "bob 4x 4 1.1"]);
}

#[test]
fn what_was_staged_before_a_reset_does_not_replace_what_is_collected_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
    let staged = (0..4).map(|index| priced(index, &["ann", "bob"], 70)).collect();
    ledger.stage_reprocessed(id, staged).unwrap();

    ledger.reset(&super::reset::reset_of(&["ann"], at(2))).unwrap();
    ledger.commit(vec![priced(2, &["ann"], 20), priced(3, &["ann"], 20)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();

    assert_eq!(by_scope(&ledger), ["ann 4x 4 1.8", "bob 4x 4 2.8"]);
}

#[test]
fn a_source_that_has_nothing_now_takes_the_rows_away() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["bob"], (0, 0))).unwrap();
    ledger.stage_reprocessed(id, vec![slice("cpu", hour(0), &["bob"], &[])]).unwrap();

    ledger.finish_reprocessing(id).unwrap();

    assert_eq!(by_scope(&ledger), ["ann 4x 4 0.4", "bob 3x 3 0.3"]);
    let query = CompletenessQuery { begin: at(0), end: at(1), scopes: Some(vec![scope("bob")]) };
    let known = ledger.completeness(&query).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(known[0].state, CompletenessState::Known(Fact::NoData));
}

#[test]
fn reprocessings_of_the_same_periods_and_scopes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let first = ledger.add_reprocessing(&reprocessing_of(&["ann"], (1, 2))).unwrap();
    let add = |scopes: &[&str], range| ledger.add_reprocessing(&reprocessing_of(scopes, range));

    let overlapping = add(&["bob", "ann"], (2, 3)).unwrap_err();

    let is_ours = |error: &LedgerError| match error {
        LedgerError::Overlaps { scope: found, start, end } => {
            (found, *start, *end) == (&scope("ann"), at(1), at(2))
        }
        _ => false,
    };
    assert!(is_ours(&overlapping), "{overlapping}");
    assert!(add(&["ann"], (3, 3)).is_ok());
    assert!(add(&["bob"], (1, 2)).is_ok());
    ledger.finish_reprocessing(first).unwrap();
    assert!(add(&["ann"], (0, 2)).is_ok());
    assert!(matches!(add(&["eve"], (0, 2)), Err(LedgerError::UnknownScope(_))));
    let unknown = ledger.stage_reprocessed(77, vec![priced(0, &["ann"], 1)]);
    assert!(matches!(unknown, Err(LedgerError::UnknownReprocessing(77))));
}

#[test]
fn more_unfinished_reprocessings_than_are_looked_at_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let add = |hour: usize| {
        let hour = i64::try_from(hour).unwrap();
        ledger.add_reprocessing(&reprocessing_of(&["ann"], (hour, hour)))
    };
    let ids: Vec<u64> = (0..UNFINISHED_MAX).map(|hour| add(hour).unwrap()).collect();

    let refused = add(UNFINISHED_MAX).unwrap_err();

    assert!(matches!(refused, LedgerError::TooManyReprocessings { max: UNFINISHED_MAX }));
    ledger.finish_reprocessing(ids[0]).unwrap();
    add(UNFINISHED_MAX).unwrap();
}

#[test]
fn periods_of_another_length_are_replaced_by_those_that_cover_them() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 3))).unwrap();
    let long = crate::usage::Period::new(at(0), at(4)).unwrap();
    let rows = [("ann", 400, 280, Some("vm-1"), None)];
    ledger.stage_reprocessed(id, vec![slice("cpu", long, &["ann"], &rows)]).unwrap();

    ledger.finish_reprocessing(id).unwrap();

    assert_eq!(by_scope(&ledger), ["ann 1x 4 2.8", "bob 4x 4 0.4"]);
}

const HOURS: i64 = 300;

#[test]
fn who_reads_while_rows_are_swapped_sees_the_old_or_the_new() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    ledger.commit((0..HOURS).map(|index| priced(index, &["ann", "bob"], 10)).collect()).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, HOURS))).unwrap();
    let staged = (0..HOURS).map(|index| priced(index, &["ann", "bob"], 70)).collect();
    ledger.stage_reprocessed(id, staged).unwrap();
    let is_done = AtomicBool::new(false);

    let seen: Vec<String> = std::thread::scope(|threads| {
        let read = |keys: &[GroupKey]| {
            let query = everything(keys);
            let mut seen = Vec::new();
            loop {
                let is_last = is_done.load(Ordering::SeqCst);
                seen.push(summary(&ledger, &query).join("; "));
                if is_last {
                    return seen;
                }
            }
        };
        let fast = threads.spawn(move || read(&[]));
        let slow = threads.spawn(move || read(&[attribute("flavor")]));
        ledger.finish_reprocessing(id).unwrap();
        is_done.store(true, Ordering::SeqCst);
        [fast, slow].into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    let allowed = [" 600x 600 60", " 600x 600 420", "small 600x 600 60", "small 600x 600 420"];
    assert!(seen.iter().all(|seen| allowed.contains(&seen.as_str())), "{seen:?}");
    assert!(seen.contains(&allowed[1].to_owned()) && seen.contains(&allowed[3].to_owned()));
}
