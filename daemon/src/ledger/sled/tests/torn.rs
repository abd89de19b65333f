//! A page of sled that is torn, now or while the ledger is open: what is in it is an error, and
//! nobody waits for it.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use super::compaction::slices;
use super::crash::copy;
use super::flips::verify;
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::support::*;
use crate::ledger::sled::codec::Damage;
use crate::ledger::sled::queue::Stage;
use crate::ledger::sled::seal_group::Group;
use crate::ledger::sled::store::{Failing, Store, Table};
use crate::ledger::sled::{SledLedger, SledOptions, accept, commit};
use crate::ledger::{
    BackupPart, BackupRead, Compacted, Enabled, Filters, GroupKey, KvEdit, Ledger, LedgerError,
    ModuleState, RowsQuery, Visited,
};

const OPTIONS: SledOptions =
    SledOptions { cache_size_mib: 8, disk_reserve_mib: 0, keep_generations: 2 };

fn tear(ledger: &SledLedger, failing: Failing) {
    *ledger.inner.store.failing.lock().unwrap() = Some(failing);
}

fn is_damaged<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Damaged { .. }))
}

/// sled gives its error again and again.
#[test]
fn who_goes_through_a_table_is_told_of_a_torn_page_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    tear(&ledger, Failing::all_of(Table::Slices));
    let store = &ledger.inner.store;

    assert_eq!(store.range(Table::Slices, ..).take(9).count(), 1);
    assert_eq!(store.range_as_it_is(Table::Slices, ..).rev().take(9).count(), 1);
    assert_eq!(store.prefix(Table::Slices, &[]).take(9).count(), 1);
    let mut damaged = 0;
    let mut visit = |visited| {
        damaged += usize::from(matches!(visited, Visited::Damaged(_)));
        ControlFlow::Continue(())
    };
    ledger.visit_rows_past_damage(&all_rows(0, 9), &mut visit).unwrap();
    assert_eq!(damaged, 1);
}

/// A ledger whose store is made to fail before anything but its header is read.
fn open_torn(path: &Path, failing: Failing) -> SledLedger {
    let store = Store::open(path, OPTIONS).unwrap();
    *store.failing.lock().unwrap() = Some(failing);
    SledLedger::over(store, path, OPTIONS).unwrap()
}

#[test]
fn a_torn_page_of_seals_does_not_stop_a_start() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_of_two(folder.path()));

    let ledger = open_torn(folder.path(), Failing::all_of(Table::Seals));

    assert!(!ledger.troubles().is_empty());
    assert!(!ledger.inner.is_all_whole());
    // What cannot be compared is not answered.
    assert!(is_damaged(&ledger.summarize(&everything(&[]))));
}

#[test]
fn where_all_is_compared_a_torn_page_does_not_stop_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ledger = ledger_of_two(path);
    let rows = [("ann", 1, 1, Some("vm-1"), None)];
    ledger.push(push_of(vec![pushed("net", hour(31 * 24), &["ann"], &rows)], None)).unwrap();
    drop(ledger);
    let november = slices(path)[0].key().bytes();
    let torn = Failing::Page(Table::Slices, november.clone()..[&*november, &[0]].concat());
    let store = Store::open(path, OPTIONS).unwrap();
    store.put_as_it_is(Table::Meta, b"root", b"not a root");
    *store.failing.lock().unwrap() = Some(torn);

    let ledger = SledLedger::over(store, path, OPTIONS).unwrap();

    assert!(is_damaged(&ledger.summarize(&everything(&[GroupKey::Time]))));
    assert_eq!(ledger.scopes().unwrap().len(), 2);
    let mut december = everything(&[GroupKey::Scope]);
    december.begin = at(30 * 24);
    assert_eq!(summary(&ledger, &december), ["ann 1x 0.01 0.01"]);
}

/// Whoever is told otherwise asks again, and pays twice.
#[test]
fn a_change_that_is_durable_is_told_as_done_whatever_comes_of_its_places() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    tear(&ledger, Failing::Writes(Table::Slices));
    let rows = [("ann", 100, 10, Some("vm-9"), None)];
    let push = || push_of(vec![pushed("cpu", hour(1), &["ann"], &rows)], None);

    ledger.push(push()).unwrap();

    assert!(matches!(ledger.push(push()), Err(LedgerError::Stopped)));
    // Nobody reads a half of it, nor what was there before.
    assert!(matches!(ledger.summarize(&everything(&[])), Err(LedgerError::Stopped)));
    assert_eq!(ledger.size().unwrap().rows, 9);
    drop(ledger);
    assert_eq!(summary(&open(folder.path()), &everything(&[])), [" 9x 9 0.9"]);
}

#[test]
fn a_change_whose_records_cannot_be_read_fails_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let rows = [("ann", 100, 10, Some("a new text"), None)];
    let commit = || ledger.commit(vec![slice("cpu", hour(4), &["ann"], &rows)]);
    tear(&ledger, Failing::Disk(Table::Cursors));

    assert!(matches!(commit(), Err(LedgerError::Store(_))));

    ledger.takes_changes().unwrap();
    *ledger.inner.store.failing.lock().unwrap() = None;
    commit().unwrap();
    let mut query = everything(&[attribute("id")]);
    query.begin = at(4);
    assert_eq!(summary(&ledger, &query), ["a new text 1x 1 0.1"]);
}

/// A pass ends, and what is behind it is looked at: nobody waits for ever, and old rows are
/// forgotten.
#[test]
fn a_pass_of_compaction_ends_behind_a_torn_page() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 0))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(0, &["ann"], 70)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();

    for (table, failures) in [(Table::Slices, 2), (Table::Generations, 1)] {
        tear(&ledger, Failing::all_of(table));
        let mut failed = 0;
        let mut step = || match ledger.compact() {
            Ok(step) => step.progress,
            Err(error) => {
                assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
                failed += 1;
                Compacted::Some
            }
        };
        assert!((0..50).any(|_| step() == Compacted::All), "{table:?}");
        assert_eq!(failed, failures, "{table:?}");
    }
}

#[test]
fn what_verify_finds_missing_is_not_answered_any_more_nor_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(ledger_of_two(path));
    let ledger = open(path);
    let lost = slices_of(&ledger).swap_remove(0);
    ledger.inner.store.remove_as_it_is(Table::Slices, &lost);
    let query = everything(&[GroupKey::Time]);
    assert_eq!(ledger.summarize(&query).unwrap().len(), 3);
    let version = ledger.version();

    assert!(!verify(&ledger).is_empty());

    assert!(ledger.version() > version, "what was remembered is asked for again");
    assert!(is_damaged(&ledger.summarize(&query)));
    assert!(!ledger.inner.is_all_whole());
    drop(ledger);
    for _ in 0..2 {
        let ledger = open(path);
        assert_eq!(ledger.troubles().len(), 1, "{:?}", ledger.troubles());
        assert!(is_damaged(&ledger.summarize(&query)));
    }
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(ledger.summarize(&query).unwrap().len(), 3);
    assert_eq!(verify(&ledger), []);
}

fn slices_of(ledger: &SledLedger) -> Vec<Vec<u8>> {
    let slices = ledger.inner.store.range_as_it_is(Table::Slices, ..);
    slices.map(|entry| entry.unwrap().0.to_vec()).collect()
}

/// The page of the newest texts is the one that all new ones go to.
#[test]
fn texts_that_cannot_be_written_fail_their_changes_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let rows = [("ann", 100, 10, Some("a new text"), None)];
    let commit = || ledger.commit(vec![slice("cpu", hour(4), &["ann"], &rows)]);
    tear(&ledger, Failing::all_of(Table::Texts));

    assert!(is_damaged(&commit()));

    ledger.takes_changes().unwrap();
    ledger.set_collector_state("host", Enabled::Yes).unwrap();
    // Is there another page, there is another dictionary.
    tear(&ledger, Failing::Page(Table::Texts, Vec::new()..vec![0, 0, 0, 2]));
    commit().unwrap();
    let mut query = everything(&[attribute("id")]);
    query.begin = at(4);
    assert_eq!(summary(&ledger, &query), ["a new text 1x 1 0.1"]);
}

#[test]
fn a_commit_that_fails_halfway_leaves_nothing_in_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let inner = &ledger.inner;
    let rows = [("ann", 100, 10, Some("vm-1"), None)];
    let slices = vec![
        slice("cpu", hour(4), &["ann"], &rows),
        slice("cpu", hour(5), &["ann"], &rows),
        slice("disk", hour(0), &["ann"], &rows),
    ];
    let catalog = inner.catalog();
    let mut prepared = commit::prepare(inner.writing(), (*catalog).clone(), slices).unwrap();
    let mut stage = Stage { catalog: (*catalog).clone(), ..Stage::default() };
    let holes = std::sync::Arc::make_mut(&mut stage.catalog.holes);
    let disk = catalog.metric_numbers[&metric("disk")];
    let place = "cursors of disk".to_owned();
    holes.add(Table::Cursors, &disk.to_be_bytes(), place, Damage("it is torn"));

    assert!(is_damaged(&commit::stage(inner.writing(), &mut stage, &mut prepared)));

    assert!(stage.journaled.is_empty() && stage.extents.is_empty());
    assert_eq!(stage.catalog.counters, catalog.counters);
    stage.catalog.holes = std::sync::Arc::default();
    let stored = commit::stage(inner.writing(), &mut stage, &mut prepared).unwrap();
    assert!(stored.iter().all(|outcome| outcome.rows_stored == 1), "{stored:?}");
}

#[test]
fn sums_that_could_not_be_read_while_rows_changed_are_never_believed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ledger = ledger_of_two(path);
    // A day is summed up when another one has begun.
    let rows = [("ann", 100, 10, Some("vm-1"), None)];
    let push = |index| push_of(vec![pushed("cpu", hour(index), &["ann"], &rows)], None);
    ledger.push(push(40 * 24)).unwrap();
    super::compaction::compact(&ledger);
    assert!(!ledger.inner.catalog().sums.is_empty());
    drop(ledger);
    let ledger = open_torn(path, Failing::all_of(Table::Sums));
    assert!(ledger.inner.catalog().sums_are_off);
    *ledger.inner.store.failing.lock().unwrap() = None;
    ledger.push(push(2)).unwrap();
    drop(ledger);

    for _ in 0..2 {
        let ledger = open(path);
        assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 1"]);
        assert_eq!(ledger.troubles().len(), 1, "{:?}", ledger.troubles());
    }
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    super::compaction::compact(&ledger);
    assert!(!ledger.inner.catalog().sums.is_empty());
    assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 1"]);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
}

/// A ledger whose last changes are gone as if they had never been: `change` makes them.
fn lose(path: &Path, change: impl FnOnce(&SledLedger)) {
    let before = path.join("before");
    copy_ledger(path, &before);
    let ledger = open(path);
    change(&ledger);
    drop(ledger);
    for entry in fs::read_dir(&before).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() && entry.file_name() != "marks" {
            fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
        }
    }
    let is_snapshot = |name: &str| name.starts_with("snap.") && !before.join(name).exists();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_str().is_some_and(is_snapshot) {
            fs::remove_file(entry.path()).unwrap();
        }
    }
}

fn copy_ledger(path: &Path, to: &Path) {
    let whole = tempfile::tempdir().unwrap();
    copy(path, whole.path());
    copy(whole.path(), to);
}

#[test]
fn nothing_is_written_over_rows_that_were_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(ledger_of_two(path));
    lose(path, |ledger| drop(ledger.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap()));
    let before = fs::read(path.join("data/2026-11.0")).unwrap();

    let ledger = open(path);
    assert_eq!(ledger.troubles().len(), 1, "{:?}", ledger.troubles());
    ledger.commit(vec![priced(4, &["ann"], 77)]).unwrap();

    assert!(fs::read(path.join("data/2026-11.0")).unwrap() == before);
}

#[test]
fn by_rules_that_may_be_older_ones_nothing_is_rated() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    drop(ledger_of_two(path));
    let edit = KvEdit { revision: 0, edits: Vec::new(), author: "ann".to_owned(), at: at(0) };
    lose(path, |ledger| assert_eq!(ledger.kv_apply("rating/hashmap", &edit).unwrap(), 1));

    let ledger = open(path);

    assert!(is_damaged(&ledger.check_rules()));
    assert!(is_damaged(&ledger.cursors()));
    // They are shown, to be made up for.
    assert_eq!(ledger.kv_revision("rating/hashmap").unwrap(), 0);
}

#[test]
fn a_damaged_reprocessing_is_not_left_out_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let ledger = ledger_of_two(path);
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 0))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(0, &["ann"], 70)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();
    assert_eq!(ledger.generations().unwrap().len(), 1);
    ledger.set_module_state("x", ModuleState { enabled: true, priority: 1 }).unwrap();
    drop(ledger);

    let ledger = open_torn(path, Failing::all_of(Table::Reprocessings));

    assert!(is_damaged(&ledger.generations()));
}

#[test]
fn a_backup_that_is_refused_leaves_the_one_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let plan = ledger.begin_backup(at(0)).unwrap();
    ledger.inner.store.add_broken(&Group::from_key(&[Table::Notes as u8]));

    assert!(is_damaged(&ledger.begin_backup(at(0))));

    let part = BackupPart::Records;
    let read = BackupRead { id: plan.id, part, offset: 0, size: 9, now: at(0) };
    assert_eq!(ledger.read_backup(&read).unwrap().len(), 9);
}

#[test]
fn damage_of_another_metric_is_not_told_to_who_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let rows = [("ann", 100, 30, None, None)];
    ledger.commit(vec![slice("disk", hour(0), &["ann"], &rows)]).unwrap();
    let of_type = |name: &str| {
        let filters = Filters { types: Some(vec![name.to_owned()]), ..Filters::default() };
        RowsQuery { filters, ..all_rows(0, 99) }
    };
    let damages = |name: &str| {
        let mut damages = 0;
        let mut visit = |visited| {
            damages += usize::from(matches!(visited, Visited::Damaged(_)));
            ControlFlow::Continue(())
        };
        ledger.visit_rows_past_damage(&of_type(name), &mut visit).unwrap();
        damages
    };
    for key in slices_of(&ledger) {
        let number = ledger.inner.catalog().metric_numbers[&metric("disk")];
        if key[8..12] == number.to_be_bytes() {
            ledger.inner.store.put_as_it_is(Table::Slices, &key, b"not a slice");
        }
    }

    assert_eq!((damages("cpu"), damages("disk")), (0, 1));
}

#[test]
fn what_a_kill_leaves_of_a_probe_goes_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("probe"), b"half").unwrap();

    drop(open(folder.path()));

    assert!(!folder.path().join("probe").exists());
}

/// Changes before, at and behind the place that it has come to.
#[test]
fn a_group_is_added_up_while_changes_come() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let inner = &ledger.inner;
    let rows = [("ann", 1, 1, Some("vm-1"), None)];
    let many = (0..300).map(|index| pushed("net", hour(index), &["ann"], &rows)).collect();
    ledger.push(push_of(many, None)).unwrap();
    let looks = std::cell::Cell::new(0);
    let keep_changes_away = || {
        looks.set(looks.get() + 1);
        for index in [0, 150, 300 + looks.get()] {
            let slices = vec![pushed("net", hour(index), &["ann"], &rows)];
            ledger.push(push_of(slices, None)).unwrap();
        }
        ledger.reset(&super::reset::reset_of(&["bob"], at(3))).unwrap();
        inner.lock_whole()
    };
    let slice = slices_of(&ledger).swap_remove(0);
    let group = Group::of(Table::Slices, &slice).unwrap();

    assert!(inner.seals.is_whole_now(&inner.store, &group, keep_changes_away).unwrap());

    assert!(looks.get() > 3, "{}", looks.get());
    inner.store.remove_as_it_is(Table::Slices, &slice);
    assert!(!inner.seals.is_whole_now(&inner.store, &group, keep_changes_away).unwrap());
}
