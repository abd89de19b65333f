//! What a kill or a power cut leaves of compaction: before a step or after it.

use std::fs;
use std::path::{Path, PathBuf};

use super::compaction::{answers, assert_nothing_is_left_over, compact};
use super::crash::{copy, remove_marks};
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{Compacted, Ledger};

/// Little slices in two hours, hours that were replaced, rows that were reset.
fn crowded(path: &Path) -> SledLedger {
    let ledger = ledger_of_two(path);
    for index in 0..60_i128 {
        let rows = [("ann", index, 1, Some("vm-1"), None), ("eve", 1, index, None, Some("large"))];
        let slice = pushed("net", hour(i64::from(index >= 30)), &["ann", "eve"], &rows);
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 2))).unwrap();
    let staged = (0..3).map(|index| priced(index, &["ann", "bob"], 70)).collect();
    ledger.stage_reprocessed(id, staged).unwrap();
    ledger.finish_reprocessing(id).unwrap();
    ledger.reset(&reset_of(&["ann"], at(3))).unwrap();
    ledger
}

fn length(path: &Path) -> u64 {
    fs::metadata(path.join("db")).unwrap().len()
}

/// Copies of the folder before a compaction and after each of its steps.
fn steps(ledger: &SledLedger, path: &Path, copies: &Path) -> Vec<PathBuf> {
    let mut states = Vec::new();
    let mut keep = || {
        let state = copies.join(states.len().to_string());
        copy(path, &state);
        remove_snapshots(&state);
        states.push(state);
    };
    keep();
    while ledger.compact().unwrap().progress != Compacted::All {
        keep();
    }
    states
}

fn remove_snapshots(path: &Path) {
    let files = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.to_string_lossy().contains("snap.")) {
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_kill_at_any_length_of_the_log_changes_no_answer_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let ledger = crowded(&live);
    let expected = answers(&ledger);
    let states = steps(&ledger, &live, folder.path());
    assert!(states.len() >= 5, "{}", states.len());
    drop(ledger);
    let (begin, end) = (length(&states[0]), length(states.last().unwrap()));
    let full = fs::read(states.last().unwrap().join("db")).unwrap();

    let mut still_to_do = std::collections::BTreeSet::new();
    for cut in (begin..end).step_by(487).chain([end]) {
        let _ = fs::remove_dir_all(&killed);
        // Data files are synced before the log names them, and deleted after it has let go.
        let state = states.iter().find(|state| length(state) >= cut).unwrap();
        copy(state, &killed);
        fs::write(killed.join("db"), &full[..usize::try_from(cut).unwrap()]).unwrap();
        remove_marks(&killed);

        let ledger = open(&killed);

        assert_eq!(answers(&ledger), expected, "cut at {cut}");
        let done = compact(&ledger);
        assert_eq!(answers(&ledger), expected, "cut at {cut}");
        ledger.commit(vec![priced(3, &["ann"], 10)]).unwrap();
        drop(ledger);
        assert_nothing_is_left_over(&killed);
        still_to_do.insert((done.slices_merged, done.bytes_moved, done.bytes_deleted));
    }
    assert!(still_to_do.len() >= 4, "{still_to_do:?}");
}

/// Of what a step has written some sectors are on the disk and some are not.
#[test]
fn a_power_cut_changes_no_answer() {
    const SECTOR_SIZE: usize = 512;
    let folder = tempfile::tempdir().unwrap();
    let (live, cut) = (folder.path().join("live"), folder.path().join("cut"));
    let ledger = crowded(&live);
    let expected = answers(&ledger);
    let states = steps(&ledger, &live, folder.path());
    drop(ledger);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut torn = 0;
    for pair in states.windows(2) {
        let log_of = |state: &PathBuf| fs::read(state.join("db")).unwrap();
        let (synced, written) = (log_of(&pair[0]), log_of(&pair[1]));
        for _ in 0..6 {
            let mut log = written.clone();
            for (index, sector) in log.chunks_mut(SECTOR_SIZE).enumerate() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let (begin, len) = (index * SECTOR_SIZE, sector.len());
                let old = synced.get(begin..synced.len().min(begin + len)).unwrap_or_default();
                if random >> 60 < 3 && *old != *sector {
                    sector.fill(0);
                    sector[..old.len()].copy_from_slice(old);
                    torn += 1;
                }
            }
            let _ = fs::remove_dir_all(&cut);
            copy(&pair[1], &cut);
            fs::write(cut.join("db"), log).unwrap();
            remove_marks(&cut);

            let ledger = open(&cut);

            assert_eq!(answers(&ledger), expected);
            compact(&ledger);
            assert_eq!(answers(&ledger), expected);
            drop(ledger);
            assert_nothing_is_left_over(&cut);
        }
    }
    assert!(torn > 0);
}
