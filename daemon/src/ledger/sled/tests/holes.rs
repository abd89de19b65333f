//! A damaged record costs what depends on it, and no period is lost or rated twice for it.

use std::path::Path;

use super::flips::verify;
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::store::{Store, Table};
use crate::ledger::sled::{SledLedger, SledOptions, accept};
use crate::ledger::{
    Enabled, Filters, GroupKey, Ledger, LedgerError, ModuleState, NewScope, OpenReprocessings,
    Remedy, ScopeChange, SummaryQuery,
};

const OPTIONS: SledOptions =
    SledOptions { cache_size_mib: 8, disk_reserve_mib: 0, keep_generations: 2 };

/// Flips a bit in the middle of a table's first, second … record. The record as it is then.
pub(super) fn flip(path: &Path, table: Table, index: usize) -> Vec<u8> {
    let store = Store::open(path, OPTIONS).unwrap();
    let (key, value) = store.prefix(table, &[]).nth(index).unwrap().unwrap();
    let mut value = value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    store.put_as_it_is(table, &key, &value);
    value
}

fn record(path: &Path, table: Table, index: usize) -> Vec<u8> {
    let store = Store::open(path, OPTIONS).unwrap();
    store.prefix(table, &[]).nth(index).unwrap().unwrap().1.to_vec()
}

/// A ledger of two scopes and two metrics, at rest.
fn at_rest(path: &Path) {
    let ledger = ledger_of_two(path);
    let rows = [("ann", 100, 30, None, None), ("bob", 100, 30, None, None)];
    ledger.commit(vec![slice("disk", hour(0), &["ann", "bob"], &rows)]).unwrap();
    // The last change is written again at a start.
    ledger.set_module_state("x", ModuleState { enabled: true, priority: 1 }).unwrap();
}

fn is_damaged<T>(result: Result<T, LedgerError>) -> bool {
    match result {
        Ok(_) => false,
        Err(LedgerError::Damaged { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

fn trouble(ledger: &SledLedger) -> &str {
    let [trouble] = ledger.troubles() else { panic!("{:?}", ledger.troubles()) };
    trouble
}

fn metrics_of(ledger: &SledLedger) -> Vec<String> {
    ledger.cursors().unwrap().next_begin_secs.into_keys().map(|metric| metric.alt_name).collect()
}

#[test]
fn a_damaged_scope_is_held_and_never_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let damaged = flip(path, Table::Scopes, 1);

    for _ in 0..2 {
        let ledger = open(path);

        assert!(trouble(&ledger).contains("scopes 1, perhaps `bob`"), "{}", trouble(&ledger));
        assert!(trouble(&ledger).contains("rated ledger restore"), "{}", trouble(&ledger));
        // What needs it is an error, what does not is whole.
        assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 1.4"]);
        assert!(is_damaged(ledger.scopes()));
        assert_eq!(ledger.scopes_of(&[scope("ann")]).unwrap()[0].id, scope("ann"));
        assert!(is_damaged(ledger.scopes_of(&[scope("ann"), scope("bob")])));
        assert!(is_damaged(ledger.scopes_of(&[scope("unknown")])));
        assert!(is_damaged(ledger.summarize(&everything(&[GroupKey::Scope]))));
        assert!(is_damaged(ledger.rows(&all_rows(0, 99))));
        let of = |name: &str| {
            let filters = Filters { scopes: Some(vec![scope(name)]), ..Filters::default() };
            SummaryQuery { filters, ..everything(&[]) }
        };
        assert_eq!(summary(&ledger, &of("ann")), [" 5x 5 0.7"]);
        assert!(is_damaged(ledger.summarize(&of("bob"))));
        // The daemon goes on for the others.
        ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
        let cursors = ledger.cursors().unwrap();
        assert_eq!(cursors.scopes, [scope("ann")]);
        assert_eq!((cursors.held_scopes.len(), cursors.held.len()), (1, 0));
        assert!(is_damaged(ledger.add_scopes(&[new_scope("bob")])));
        assert!(is_damaged(ledger.change_scope(&scope("bob"), &ScopeChange::default())));
        assert!(is_damaged(ledger.reset(&reset_of(&["bob"], at(0)))));
        let rows = [("bob", 1, 1, None, None)];
        let slices = vec![pushed("cpu", hour(9), &["bob"], &rows)];
        assert!(is_damaged(ledger.push(push_of(slices, None))));
        assert!(is_damaged(ledger.begin_backup(at(0))));
        assert_eq!(verify(&ledger)[0].remedy, Remedy::Restore);
    }
    let ledger = open(path);
    ledger.commit(vec![priced(4, &["ann"], 10)]).unwrap();
    assert_eq!(summary(&ledger, &everything(&[])), [" 11x 11 1.5"]);
    drop(ledger);
    assert_eq!(record(path, Table::Scopes, 1), damaged);
    assert_eq!(trouble(&open(path)).matches("scopes 1").count(), 1);
}

#[test]
fn where_cursors_are_damaged_no_period_is_rated_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let damaged = flip(path, Table::Cursors, 0);

    for round in 0..2 {
        let ledger = open(path);

        assert!(trouble(&ledger).contains("cursors of metric `cpu"), "{}", trouble(&ledger));
        ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
        let new = NewScope { first_period: at(9), ..new_scope(["eve", "fay"][round]) };
        ledger.add_scopes(&[new]).unwrap();
        assert_eq!(metrics_of(&ledger), ["disk"]);
        for index in [0, 3, 4] {
            assert!(is_damaged(ledger.commit(vec![priced(index, &["ann"], 10)])));
        }
        let next = i64::try_from(round).unwrap() + 1;
        let rows = [("ann", 100, 30, None, None)];
        ledger.commit(vec![slice("disk", hour(next), &["ann"], &rows)]).unwrap();
        assert!(is_damaged(ledger.reset(&reset_of(&["ann"], at(0)))));
        assert!(is_damaged(ledger.scopes()));
        assert!(is_damaged(ledger.scopes_of(&[scope("ann")])));
        let sums = [" 11x 11 1.7", " 12x 12 2"][round];
        assert_eq!(summary(&ledger, &everything(&[])), [sums]);
    }
    assert_eq!(record(path, Table::Cursors, 0), damaged);
}

#[test]
fn a_reprocessing_does_not_end_where_cursors_are_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    {
        let ledger = open(path);
        let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (1, 1))).unwrap();
        ledger.stage_reprocessed(id, vec![priced(1, &["ann"], 70)]).unwrap();
        ledger.set_module_state("x", ModuleState { enabled: true, priority: 2 }).unwrap();
    }
    flip(path, Table::Cursors, 0);

    let ledger = open(path);

    assert!(is_damaged(ledger.finish_reprocessing(1)));
    assert!(!ledger.reprocessings().unwrap()[0].finished);
    assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 1.4"]);
}

#[test]
fn a_reprocessing_with_a_damaged_scope_waits_and_others_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    {
        let ledger = open(path);
        ledger.add_reprocessing(&reprocessing_of(&["bob"], (1, 2))).unwrap();
        ledger.add_reprocessing(&reprocessing_of(&["ann"], (1, 1))).unwrap();
        ledger.set_module_state("x", ModuleState { enabled: true, priority: 2 }).unwrap();
    }
    flip(path, Table::Scopes, 1);

    let ledger = open(path);
    let OpenReprocessings { open: able, held } = ledger.open_reprocessings().unwrap();
    ledger.stage_reprocessed(2, vec![priced(1, &["ann"], 70)]).unwrap();
    ledger.finish_reprocessing(2).unwrap();

    assert_eq!(able.iter().map(|one| one.id).collect::<Vec<_>>(), [2]);
    assert_eq!(held.keys().collect::<Vec<_>>(), [&1]);
    assert!(held[&1].place.contains("perhaps `bob`"), "{held:?}");
    assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 2"]);
    // Nobody overtakes the one that waits.
    assert!(is_damaged(ledger.add_reprocessing(&reprocessing_of(&["bob"], (1, 2)))));
}

#[test]
fn a_damaged_metric_is_held_and_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    flip(path, Table::Metrics, 0);

    for _ in 0..2 {
        let ledger = open(path);

        ledger.set_metrics(&[metric("cpu"), metric("disk"), metric("new")]).unwrap();
        assert_eq!(metrics_of(&ledger), ["disk"]);
        assert!(is_damaged(ledger.summarize(&everything(&[]))));
        let rows = [("ann", 1, 1, None, None)];
        let slices = vec![pushed("source_cpu", hour(9), &["ann"], &rows)];
        assert!(is_damaged(ledger.push(push_of(slices, None))));
        assert_eq!(ledger.scopes().unwrap().len(), 2);
    }
    let ledger = open(path);
    let rows = [("ann", 100, 30, None, None)];
    ledger.commit(vec![slice("disk", hour(1), &["ann"], &rows)]).unwrap();
}

#[test]
fn nothing_is_written_into_a_file_whose_record_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    flip(path, Table::Files, 0);
    let files = || {
        let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(path.join("data"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|file| (file.display().to_string(), std::fs::read(file).unwrap()))
            .collect();
        files.sort();
        files
    };
    let before = files();

    for index in 4..6 {
        let ledger = open(path);
        assert!(trouble(&ledger).contains("data/2026-11.0"), "{}", trouble(&ledger));
        ledger.commit(vec![priced(index, &["ann", "bob"], 10)]).unwrap();
        super::compaction::compact(&ledger);
    }

    assert_eq!(files()[0], before[0]);
    assert_eq!(summary(&open(path), &everything(&[])), [" 14x 14 1.8"]);
    // What it said follows from the slices.
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(verify(&ledger), []);
    ledger.commit(vec![priced(6, &["ann", "bob"], 10)]).unwrap();
    assert_eq!(summary(&ledger, &everything(&[])), [" 16x 16 2"]);
}

#[test]
fn damaged_counters_are_counted_again_and_a_damaged_journal_is_not_needed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let is_it = |key: &[u8]| key == b"counters" || key == b"journal";
    {
        let store = Store::open(path, OPTIONS).unwrap();
        for entry in store.prefix(Table::Meta, &[]) {
            let (key, value) = entry.unwrap();
            if is_it(&key) {
                let mut value = value.to_vec();
                value[3] ^= 1;
                store.put_as_it_is(Table::Meta, &key, &value);
            }
        }
    }

    let ledger = open(path);

    assert_eq!(ledger.troubles().len(), 2, "{:?}", ledger.troubles());
    assert_eq!(ledger.size().unwrap().rows, 10);
    ledger.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap();
    assert_eq!(summary(&ledger, &everything(&[])), [" 12x 12 1.6"]);
    drop(ledger);
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(ledger.size().unwrap().rows, 12);
    assert_eq!(verify(&ledger), []);
}

/// As after a kill between the journal and the last of its writes, and a flipped bit in it.
#[test]
fn where_the_last_change_is_half_done_and_its_journal_damaged_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    {
        let store = Store::open(path, OPTIONS).unwrap();
        // One of its writes has not got to its place.
        store.remove_as_it_is(Table::States, b"module/x");
        let journal = store.get(Table::Meta, b"journal").unwrap().unwrap();
        let mut journal = journal.to_vec();
        journal[5] ^= 1;
        store.put_as_it_is(Table::Meta, b"journal", &journal);
    }

    for _ in 0..2 {
        let ledger = open(path);

        assert_eq!(summary(&ledger, &everything(&[])), [" 10x 10 1.4"]);
        assert!(is_damaged(ledger.module_states()));
        assert!(is_damaged(ledger.takes_changes()));
        assert!(is_damaged(ledger.commit(vec![priced(4, &["ann"], 10)])));
        assert!(is_damaged(ledger.cursors()));
    }
}

#[test]
fn a_journal_that_was_needed_and_is_damaged_stops_changes_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let root = Store::open(path, OPTIONS).unwrap().get(Table::Meta, b"root").unwrap().unwrap();
    open(path).set_collector_state("host", Enabled::No).unwrap();
    {
        let store = Store::open(path, OPTIONS).unwrap();
        // The last of its writes.
        store.put_as_it_is(Table::Meta, b"root", &root);
        let mut journal = store.get(Table::Meta, b"journal").unwrap().unwrap().to_vec();
        journal[5] ^= 1;
        store.put_as_it_is(Table::Meta, b"journal", &journal);
    }

    for _ in 0..3 {
        let ledger = open(path);

        assert!(is_damaged(ledger.takes_changes()));
        assert!(is_damaged(ledger.commit(vec![priced(4, &["ann"], 10)])));
    }
    accept(path, OPTIONS).unwrap_err();
}

#[test]
fn a_damaged_state_that_is_said_anew_is_whole_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let state = ModuleState { enabled: true, priority: 7 };
    {
        let ledger = open(path);
        ledger.set_module_state("x", state).unwrap();
        // The last change is written again at a start.
        ledger.set_collector_state("host", Enabled::No).unwrap();
    }
    {
        let store = Store::open(path, OPTIONS).unwrap();
        let key = b"module/x";
        let mut record = store.get(Table::States, key).unwrap().unwrap().to_vec();
        record[2] ^= 1;
        store.put_as_it_is(Table::States, key, &record);
    }
    let ledger = open(path);
    assert!(is_damaged(ledger.module_states()));

    ledger.set_module_state("x", state).unwrap();

    assert_eq!(ledger.module_states().unwrap().get("x"), Some(&state));
    drop(ledger);
    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(ledger.module_states().unwrap().get("x"), Some(&state));
    assert_eq!(verify(&ledger), []);
}

/// A ledger at rest where both are among what a start finds in `states`.
fn with_states(path: &Path) {
    at_rest(path);
    let ledger = open(path);
    ledger.set_module_state("x", ModuleState { enabled: true, priority: 7 }).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap();
    // The last change is written again at a start.
    ledger.set_module_state("y", ModuleState { enabled: true, priority: 1 }).unwrap();
}

fn flip_state(path: &Path, key: &[u8], index: usize) {
    let store = Store::open(path, OPTIONS).unwrap();
    let mut record = store.get_as_it_is(Table::States, key).unwrap().unwrap().to_vec();
    record[index] ^= 1;
    store.put_as_it_is(Table::States, key, &record);
}

fn remove_state(path: &Path, key: &[u8]) {
    Store::open(path, OPTIONS).unwrap().remove_as_it_is(Table::States, key);
}

/// And nothing is rated.
fn all_states_are_held(path: &Path) {
    let ledger = open(path);
    let is_told = |trouble: &String| trouble.contains("in table `states`: records are missing");
    assert!(ledger.troubles().iter().any(is_told), "{:?}", ledger.troubles());
    assert!(is_damaged(ledger.module_states()));
    assert!(is_damaged(ledger.collector_states()));
}

#[test]
fn a_record_that_goes_missing_beside_a_damaged_one_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_states(path);
    flip_state(path, b"module/x", 2);
    for name in ["a", "b"] {
        let ledger = open(path);
        assert!(trouble(&ledger).contains("state `module/x`"), "{}", trouble(&ledger));
        assert!(is_damaged(ledger.module_states()));
        assert_eq!(ledger.collector_states().unwrap().get("host"), Some(&false));
        // What changes beside it is no loss.
        ledger.set_collector_state(name, Enabled::No).unwrap();
        ledger.set_collector_state("z", Enabled::No).unwrap();
    }

    remove_state(path, b"collector/host");

    for round in 0..3 {
        all_states_are_held(path);
        // What is said anew is not all that is missing.
        let state = ModuleState { enabled: true, priority: 7 + round };
        open(path).set_module_state("x", state).unwrap();
    }
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(ledger.module_states().unwrap()["x"].priority, 9);
    assert_eq!(verify(&ledger), []);
}

#[test]
fn a_record_that_is_damaged_beside_a_missing_one_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_states(path);
    remove_state(path, b"collector/host");
    all_states_are_held(path);

    flip_state(path, b"module/x", 2);

    all_states_are_held(path);
    all_states_are_held(path);
}

#[test]
fn one_more_damaged_record_is_one_more_hole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(path);
    let older = record(path, Table::Scopes, 0);
    {
        let ledger = open(path);
        ledger.add_scopes(&[new_scope("cid")]).unwrap();
        let change = ScopeChange { collector: Some("other".to_owned()), ..ScopeChange::default() };
        ledger.change_scope(&scope("ann"), &change).unwrap();
        // The last change is written again at a start.
        ledger.set_collector_state("host", Enabled::No).unwrap();
    }
    for (index, name) in [(1, "bob"), (2, "cid")] {
        flip(path, Table::Scopes, index);

        for _ in 0..2 {
            let ledger = open(path);
            assert_eq!(ledger.cursors().unwrap().scopes[0], scope("ann"));
            assert_eq!(ledger.troubles().len(), index, "{:?}", ledger.troubles());
            assert!(ledger.troubles().iter().any(|trouble| trouble.contains(name)));
        }
    }

    // An older record in the place of a whole one is another matter.
    {
        let store = Store::open(path, OPTIONS).unwrap();
        store.put_as_it_is(Table::Scopes, &0_u32.to_be_bytes(), &older);
    }
    for _ in 0..2 {
        let ledger = open(path);
        assert_eq!(ledger.troubles().len(), 3, "{:?}", ledger.troubles());
        assert!(is_damaged(ledger.cursors()));
    }
}

#[test]
fn what_was_made_up_for_is_not_held_against_later_damage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_states(path);
    let is_narrow = || {
        let ledger = open(path);
        assert!(trouble(&ledger).contains("state `module/x`"), "{}", trouble(&ledger));
        ledger.collector_states().unwrap();
    };
    flip_state(path, b"module/x", 2);
    is_narrow();
    {
        let ledger = open(path);
        ledger.set_module_state("x", ModuleState { enabled: true, priority: 3 }).unwrap();
        ledger.set_module_state("y", ModuleState { enabled: true, priority: 3 }).unwrap();
    }
    assert_eq!(open(path).troubles(), [] as [String; 0]);

    flip_state(path, b"module/x", 3);

    is_narrow();
    // Whole again by itself, as after an error of reading.
    flip_state(path, b"module/x", 3);
    assert_eq!(open(path).troubles(), [] as [String; 0]);
    flip_state(path, b"module/x", 2);
    is_narrow();
    assert!(verify(&open(path)).iter().any(|finding| finding.place.contains("states")));
}

#[test]
fn beside_a_damaged_record_that_was_accepted_a_loss_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_states(path);
    flip_state(path, b"module/x", 2);
    accept(path, OPTIONS).unwrap();
    let ledger = open(path);
    assert!(trouble(&ledger).contains("state `module/x`"), "{}", trouble(&ledger));
    ledger.collector_states().unwrap();
    drop(ledger);

    remove_state(path, b"collector/host");

    all_states_are_held(path);
    all_states_are_held(path);
}
