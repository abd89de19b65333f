//! A backup is the ledger of one moment, whatever happens to the ledger meanwhile.

use std::fs;
use std::io::Seek as _;
use std::path::Path;

use chrono::TimeDelta;
use sha2::{Digest as _, Sha256};

use super::compaction::answers;
use super::flips::verify;
use super::generations::all_of;
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::aside::{Aside, Moment};
use crate::ledger::sled::compaction::WAITS_MAX;
use crate::ledger::sled::store::{Failing, Table};
use crate::ledger::sled::{SledLedger, restore_records};
use crate::ledger::{BackupPart, BackupPlan, BackupRead, Compacted, Enabled, Ledger, LedgerError};

fn read(ledger: &SledLedger, plan: &BackupPlan, part: &BackupPart, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let (part, offset) = (part.clone(), bytes.len() as u64);
        let read = BackupRead { id: plan.id, part, offset, size: 1000, now: at(1) };
        bytes.extend(ledger.read_backup(&read).unwrap());
    }
    let part = part.clone();
    let whole = BackupRead { id: plan.id, part, offset: 0, size, now: at(1) };
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(ledger.backup_digest(&whole).unwrap(), digest);
    bytes
}

fn restore(ledger: &SledLedger, plan: &BackupPlan, to: &Path) {
    fs::create_dir_all(to.join("data")).unwrap();
    for (name, size) in &plan.files {
        let bytes = read(ledger, plan, &BackupPart::File(name.clone()), *size);
        assert_eq!(bytes.len() as u64, *size);
        fs::write(to.join("data").join(name), bytes).unwrap();
    }
    let records = read(ledger, plan, &BackupPart::Records, plan.records_size);
    restore_records(to, records.as_slice()).unwrap();
}

#[test]
fn a_backup_is_what_the_ledger_was_when_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let (live, copy) = (folder.path().join("live"), folder.path().join("copy"));
    let ledger = ledger_of_two(&live);
    for index in 0..200_i128 {
        let rows = [("ann", index, 1, Some("vm-1"), None), ("eve", 1, index, None, Some("large"))];
        ledger.push(push_of(vec![pushed("net", hour(0), &["ann", "eve"], &rows)], None)).unwrap();
    }
    let expected = answers(&ledger);

    let plan = ledger.begin_backup(at(0)).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
    let staged = (0..4).map(|index| priced(index, &["ann", "bob"], 70)).collect();
    ledger.stage_reprocessed(id, staged).unwrap();
    ledger.finish_reprocessing(id).unwrap();
    ledger.reset(&reset_of(&["ann"], at(1))).unwrap();
    // The file that the backup needs is emptied, and waits to be deleted.
    let mut progress = Compacted::Some;
    while progress == Compacted::Some {
        progress = ledger.compact().unwrap().progress;
    }
    assert_eq!(progress, Compacted::Waits);
    restore(&ledger, &plan, &copy);
    ledger.end_backup(plan.id).unwrap();
    let file = live.join("data").join(&plan.files[0].0);
    assert!(file.exists());
    super::compaction::compact(&ledger);

    assert!(!file.exists());
    assert!(!live.join("backup.records").exists());
    let restored = open(&copy);
    assert_eq!(answers(&restored), expected);
    assert_eq!(verify(&restored), []);
    restored.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap();
    drop(restored);
    assert_eq!(verify(&open(&copy)), []);
}

#[test]
fn a_backup_that_nobody_reads_or_that_another_follows_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let read = |id| {
        let part = BackupPart::Records;
        ledger.read_backup(&BackupRead { id, part, offset: 0, size: 9, now: at(1) })
    };
    let is_gone = |id| matches!(read(id), Err(LedgerError::NoBackup(gone)) if gone == id);
    let first = ledger.begin_backup(at(0)).unwrap();

    let second = ledger.begin_backup(at(0)).unwrap();

    assert!(is_gone(first.id));
    assert_eq!(read(second.id).unwrap().len(), 9);
    ledger.end_idle_backup(at(1) + TimeDelta::minutes(15)).unwrap();
    assert_eq!(read(second.id).unwrap().len(), 9);
    ledger.end_idle_backup(at(1) + TimeDelta::minutes(16)).unwrap();
    assert!(is_gone(second.id));
    assert!(matches!(ledger.end_backup(second.id), Err(LedgerError::NoBackup(_))));
    assert!(!folder.path().join("backup.records").exists());
}

/// A restored half would be collected again: rows without the cursors that say so.
#[test]
fn no_backup_is_taken_of_half_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    *ledger.inner.store.failing.lock().unwrap() = Some(Failing::Writes(Table::Cursors));
    // It is durable, and is in its places when the ledger is opened again.
    ledger.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap();

    assert!(matches!(ledger.begin_backup(at(0)), Err(LedgerError::Stopped)));
    assert!(matches!(ledger.verify(None), Err(LedgerError::Stopped)));
    assert!(matches!(ledger.generations(), Err(LedgerError::Stopped)));
    assert!(matches!(ledger.differences(&all_of(None)), Err(LedgerError::Stopped)));

    drop(ledger);
    let ledger = open(folder.path());
    let plan = ledger.begin_backup(at(0)).unwrap();
    // Nobody else may write to what is being read.
    assert!(!folder.path().join("backup.records").exists());
    let copy = folder.path().join("copy");
    restore(&ledger, &plan, &copy);
    let restored = open(&copy);
    assert_eq!(verify(&restored), []);
    let again = restored.commit(vec![priced(4, &["ann", "bob"], 10)]).unwrap();
    assert_eq!(again[0].rows_stored, 0);
}

/// What stands under a key is read before it is written.
#[test]
fn a_torn_record_fails_its_changes_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let rows = [("ann", 1, 1, Some("a new text"), None)];
    let push = || push_of(vec![pushed("net", hour(0), &["ann"], &rows)], Some(("key", 1)));
    ledger.push(push_of(vec![pushed("net", hour(1), &["ann"], &[])], None)).unwrap();
    *ledger.inner.store.failing.lock().unwrap() = Some(Failing::all_of(Table::Slices));

    let error = ledger.push(push()).unwrap_err();

    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    ledger.takes_changes().unwrap();
    ledger.set_collector_state("host", Enabled::Yes).unwrap();
    *ledger.inner.store.failing.lock().unwrap() = None;
    ledger.push(push()).unwrap();
    let expected = ["a new text 1x 0.01 0.01"];
    let mut query = everything(&[attribute("id")]);
    query.filters.types = Some(vec!["net".to_owned()]);
    assert_eq!(summary(&ledger, &query), expected);
    drop(ledger);
    let ledger = open(folder.path());
    assert_eq!(summary(&ledger, &query), expected);
    assert_eq!(verify(&ledger), []);
}

/// What is left to do is to wait, not to look at everything again and again.
#[test]
fn a_backup_holds_up_the_end_of_compaction_but_not_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let plan = ledger.begin_backup(at(0)).unwrap();
    ledger.reset(&reset_of(&["ann", "bob"], at(0))).unwrap();
    let file = folder.path().join("data").join(&plan.files[0].0);
    let step = || ledger.compact().unwrap();
    while step().progress == Compacted::Some {}

    for _ in 1..WAITS_MAX {
        assert_eq!(step().progress, Compacted::Waits);
    }
    assert_eq!(step().progress, Compacted::All);

    // The next pass waits as well, and ends as soon as the backup has.
    while step().progress == Compacted::Some {}
    assert_eq!(step().progress, Compacted::Waits);
    assert!(file.exists());
    ledger.end_backup(plan.id).unwrap();
    assert!(step().bytes_deleted > 0);
    assert!(!file.exists());
    assert_eq!(step().progress, Compacted::All);
}

/// Whatever is in it was there at one moment, with nothing of what was there before.
#[test]
fn what_changes_while_a_backup_begins_is_in_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(&folder.path().join("live"));
    for pushes in [3_i64, 40] {
        let aside = Aside::write(&ledger.inner).unwrap();
        for index in 0..pushes {
            let text = format!("new {pushes}-{index}");
            let rows = [("ann", 1, 1, Some(text.as_str()), None)];
            let slice = pushed("net", hour(index), &["ann"], &rows);
            ledger.push(push_of(vec![slice], Some((&text, 1)))).unwrap();
        }
        ledger.reset(&reset_of(&["ann", "bob"], at(1))).unwrap();
        ledger.commit(vec![priced(1, &["ann", "bob"], 70)]).unwrap();
        let Moment { mut spool, .. } = aside.catch_up().unwrap();
        let expected = answers(&ledger);
        ledger.commit(vec![priced(2, &["ann", "bob"], 70)]).unwrap();

        let copy = folder.path().join(format!("copy-{pushes}"));
        super::crash::copy(&folder.path().join("live/data"), &copy.join("data"));
        spool.rewind().unwrap();
        restore_records(&copy, spool).unwrap();

        let restored = open(&copy);
        assert_eq!(answers(&restored), expected);
        assert_eq!(verify(&restored), []);
    }
}
