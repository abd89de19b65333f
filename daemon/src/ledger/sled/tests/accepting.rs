//! What is taken for whole is not collected again.

use std::path::Path;

use super::flips::verify;
use super::reprocessing::{ledger_of_two, priced};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::store::{Store, Table};
use crate::ledger::sled::{Accepted, SledLedger, SledOptions, accept};
use crate::ledger::{Ledger as _, ModuleState, SummaryQuery};

const OPTIONS: SledOptions =
    SledOptions { cache_size_mib: 8, disk_reserve_mib: 0, keep_generations: 2 };

/// The begin of the next period of `cpu`, in hours, of ann and bob.
fn next_hours(ledger: &SledLedger) -> Vec<i64> {
    let cursors = ledger.cursors().unwrap();
    let of_cpu = cursors.next_begin_secs.iter().find(|(metric, _)| metric.alt_name == "cpu");
    let (_, next) = of_cpu.unwrap();
    next.iter().map(|next| (next - at(0).timestamp()) / 3600).collect()
}

fn cursors_of_cpu(path: &Path) -> Vec<u8> {
    let store = Store::open(path, OPTIONS).unwrap();
    store.prefix(Table::Cursors, &[]).next().unwrap().unwrap().1.to_vec()
}

/// What the last change wrote is written again at a start: this is not it.
fn at_rest(ledger: &SledLedger) {
    ledger.set_module_state("x", ModuleState { enabled: true, priority: 1 }).unwrap();
}

#[test]
fn cursors_of_before_are_raised_behind_what_was_collected() {
    for is_missing in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        at_rest(&ledger_of_two(path));
        let before = cursors_of_cpu(path);
        {
            let ledger = open(path);
            ledger.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap();
            ledger.commit(vec![priced(5, &["ann"], 10), priced(6, &["ann"], 10)]).unwrap();
            at_rest(&ledger);
            assert_eq!(next_hours(&ledger), [7, 5]);
        }
        {
            let store = Store::open(path, OPTIONS).unwrap();
            let key = store.prefix(Table::Cursors, &[]).next().unwrap().unwrap().0;
            store.put_as_it_is(Table::Cursors, &key, &before);
            if is_missing {
                store.remove_as_it_is(Table::Cursors, &key);
            }
        }
        assert_eq!(open(path).troubles().len(), 1);

        assert_eq!(accept(path, OPTIONS).unwrap(), Accepted { raised_cursors: 2 });

        let ledger = open(path);
        assert_eq!(ledger.troubles(), [] as [String; 0]);
        assert_eq!(next_hours(&ledger), [7, 5]);
        assert_eq!(verify(&ledger), []);
        assert_eq!(summary(&ledger, &everything(&[])), [" 12x 12 1.2"]);
    }
}

#[test]
fn cursors_that_were_set_back_stay_where_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    {
        let ledger = ledger_of_two(path);
        ledger.reset(&reset_of(&["ann"], at(2))).unwrap();
        assert_eq!(next_hours(&ledger), [2, 4]);
    }

    assert_eq!(accept(path, OPTIONS).unwrap(), Accepted { raised_cursors: 0 });

    let ledger = open(path);
    assert_eq!(next_hours(&ledger), [2, 4]);
    assert_eq!(verify(&ledger), []);
}

#[test]
fn nothing_is_accepted_while_nobody_can_say_whose_periods_would_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    at_rest(&ledger_of_two(path));
    {
        let store = Store::open(path, OPTIONS).unwrap();
        let key = store.prefix(Table::Cursors, &[]).next().unwrap().unwrap().0;
        store.remove_as_it_is(Table::Cursors, &key);
    }
    let data = path.join("data");
    let file = std::fs::read_dir(data).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    // All that is behind the header.
    bytes.iter_mut().skip(64).for_each(|byte| *byte ^= 1);
    std::fs::write(&file, bytes).unwrap();

    let error = accept(path, OPTIONS).unwrap_err();

    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("rollup"), "{source}");
    // It is told as before.
    assert_eq!(open(path).troubles().len(), 1);
}

/// The end of the log is gone, and with it a push; in a day of long ago a slice is damaged.
fn with_a_lost_push(path: &Path, is_damaged: bool) {
    let log = path.join("db");
    let length;
    {
        let ledger = ledger_of_two(path);
        at_rest(&ledger);
        length = std::fs::metadata(&log).unwrap().len();
        let slices = vec![pushed("net", hour(2), &["ann"], &[("ann", 1, 1, None, None)])];
        ledger.push(push_of(slices, Some(("a", 1)))).unwrap();
    }
    std::fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();
    if is_damaged {
        let store = Store::open(path, OPTIONS).unwrap();
        let (key, record) = store.prefix(Table::Slices, &[]).next().unwrap().unwrap();
        let mut record = record.to_vec();
        record[9] ^= 1;
        store.put_as_it_is(Table::Slices, &key, &record);
    }
}

#[test]
fn a_loss_that_nobody_was_told_of_is_not_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_a_lost_push(path, false);

    let error = accept(path, OPTIONS).unwrap_err();

    assert!(error.to_string().contains("rated ledger verify"), "{error}");
    assert_eq!(open(path).troubles().len(), 1);
    assert_eq!(accept(path, OPTIONS).unwrap(), Accepted { raised_cursors: 0 });
    assert_eq!(open(path).troubles(), [] as [String; 0]);
}

#[test]
fn what_was_lost_is_accepted_beside_a_damaged_record_which_stays_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    with_a_lost_push(path, true);
    assert_eq!(open(path).troubles().len(), 2);

    accept(path, OPTIONS).unwrap();

    let ledger = open(path);
    assert_eq!(ledger.troubles(), [] as [String; 0]);
    assert_eq!(next_hours(&ledger), [4, 4]);
    let later = SummaryQuery { begin: at(1), ..everything(&[]) };
    assert_eq!(summary(&ledger, &later), [" 6x 6 0.6"]);
    assert!(ledger.summarize(&everything(&[])).is_err());
    assert!(verify(&ledger).iter().any(|finding| finding.place.contains("slice")));
}
