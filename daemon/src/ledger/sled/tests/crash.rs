//! What a killed daemon, a lost write or a damaged byte leaves behind.

use std::fs;
use std::path::Path;

use super::support::*;
use crate::ledger::sled::{OpenError, SledLedger, SledOptions};
use crate::ledger::{GroupKey, KvEdit, Ledger, LedgerError, SummaryQuery};

/// What is on disk now, as after a `kill -9`.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The log is one of before: so would be what was acknowledged.
pub(super) fn remove_marks(path: &Path) {
    fs::remove_file(path.join("marks")).unwrap();
}

/// As `copy`, of a folder that may hold copies itself.
pub(super) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("blobs")).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    copy(&from.join("data"), &to.join("data"));
}

fn ledger_with(path: &Path, hours: i64) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    for index in 0..hours {
        commit(&ledger, index);
    }
    ledger
}

fn commit(ledger: &SledLedger, index: i64) {
    let rows =
        [("ann", 100, 10, Some("vm-1"), Some("small")), ("bob", 250, 25, Some("vm-2"), None)];
    ledger.commit(vec![slice("cpu", hour(index), &["ann", "bob"], &rows)]).unwrap();
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_with(&folder.path().join("live"), 0);
    let edit = KvEdit { revision: 0, edits: Vec::new(), author: "ann".to_owned(), at: at(0) };
    ledger.kv_apply("rating/hashmap", &edit).unwrap();

    for count in 1..=6 {
        commit(&ledger, count - 1);
        let killed = folder.path().join(format!("killed-{count}"));
        copy(&folder.path().join("live"), &killed);

        let reopened = open(&killed);

        let expected = format!(" {}x {} {}", 2 * count, decimal(350 * count), decimal(35 * count));
        assert_eq!(summary(&reopened, &everything(&[])), std::slice::from_ref(&expected));
        assert_eq!(reopened.scopes().unwrap()[1].last_processed, Some(at(count - 1)));
        assert_eq!(reopened.kv_revision("rating/hashmap").unwrap(), 1);
        commit(&reopened, count - 1);
        assert_eq!(summary(&reopened, &everything(&[])), [expected]);
        commit(&reopened, count);
        assert_eq!(reopened.size().unwrap().rows, 2 * (count.cast_unsigned() + 1));
    }
}

/// An integer of hundredths, as text.
fn decimal(hundredths: i64) -> String {
    crate::usage::Sum::from_scaled(i128::from(hundredths), 2).to_text(0)
}

#[test]
fn a_kill_at_any_length_of_the_log_leaves_whole_groups() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let mut lengths = Vec::new();
    {
        let ledger = ledger_with(&live, 0);
        lengths.push(fs::metadata(live.join("db")).unwrap().len());
        for index in 0..5 {
            commit(&ledger, index);
            lengths.push(fs::metadata(live.join("db")).unwrap().len());
        }
    }
    let full = fs::read(live.join("db")).unwrap();
    let snapshots = fs::read_dir(&live).unwrap().map(|entry| entry.unwrap().path());
    for path in snapshots.filter(|path| path.to_string_lossy().contains("snap.")) {
        fs::remove_file(path).unwrap();
    }

    let mut seen = std::collections::BTreeSet::new();
    for cut in (lengths[0]..lengths[5]).step_by(97).chain([lengths[5]]) {
        let killed = folder.path().join("killed");
        let _ = fs::remove_dir_all(&killed);
        copy(&live, &killed);
        let cut = usize::try_from(cut).unwrap();
        fs::write(killed.join("db"), &full[..cut]).unwrap();
        remove_marks(&killed);

        let ledger = open(&killed);

        let groups = summary(&ledger, &everything(&[GroupKey::Time]));
        let whole = |(index, line): (usize, &String)| *line == format!(" @{index} 2x 3.5 0.35");
        assert!(groups.iter().enumerate().all(whole), "cut at {cut}: {groups:?}");
        let next = ledger.cursors().unwrap().next_begin_secs;
        let expected = at(i64::try_from(groups.len()).unwrap()).timestamp();
        assert!(next.values().flatten().all(|secs| *secs == expected), "cut at {cut}");
        let (count, _) = rows(&ledger, &all_rows(0, 100));
        assert_eq!(count, groups.len() * 2, "cut at {cut}");
        seen.insert(groups.len());
    }
    assert_eq!(seen, (0..=5).collect());
}

/// Power goes while commit `count` is written: of what differs from the state synced before, some
/// sectors are on the disk and some are not.
#[test]
fn a_power_cut_leaves_all_or_nothing_of_a_commit() {
    const SECTOR_SIZE: usize = 512;
    let folder = tempfile::tempdir().unwrap();
    let (live, cut) = (folder.path().join("live"), folder.path().join("cut"));
    let ledger = ledger_with(&live, 1);
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut seen = std::collections::BTreeMap::<bool, usize>::new();
    for count in 1..7 {
        let synced = fs::read(live.join("db")).unwrap();
        // A commit of several slices, so that there is something to tear.
        let rows = [("ann", 100, 10, Some("vm-1"), None), ("bob", 250, 25, Some("vm-2"), None)];
        let next = |of: i64| slice("cpu", hour((count - 1) * 3 + 1 + of), &["ann", "bob"], &rows);
        ledger.commit((0..3).map(next).collect()).unwrap();
        let written = fs::read(live.join("db")).unwrap();
        for _ in 0..25 {
            let _ = fs::remove_dir_all(&cut);
            copy(&live, &cut);
            let mut log = written.clone();
            for (index, sector) in log.chunks_mut(SECTOR_SIZE).enumerate() {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                if random >> 60 < 3 {
                    let begin = index * SECTOR_SIZE;
                    let len = sector.len();
                    sector.fill(0);
                    let old = synced.get(begin..synced.len().min(begin + len)).unwrap_or_default();
                    sector[..old.len()].copy_from_slice(old);
                }
            }
            fs::write(cut.join("db"), log).unwrap();
            remove_marks(&cut);

            let reopened = open(&cut);

            let hours = summary(&reopened, &everything(&[GroupKey::Time])).len();
            let before = usize::try_from((count - 1) * 3 + 1).unwrap();
            assert!(hours == before || hours == before + 3, "{hours} hours, {before} before");
            assert_eq!(rows_count(&reopened), hours * 2);
            *seen.entry(hours == before).or_default() += 1;
            let again = slice("cpu", hour(i64::try_from(hours).unwrap()), &["ann", "bob"], &rows);
            assert_eq!(reopened.commit(vec![again]).unwrap()[0].rows_stored, 2);
        }
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
}

fn rows_count(ledger: &SledLedger) -> usize {
    rows(ledger, &all_rows(0, usize::MAX)).1.len()
}

#[test]
fn a_start_that_was_killed_does_not_stop_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_with(folder.path(), 2));
    fs::write(folder.path().join("snap.7FFFFFFFFFFFFFFF.generating"), b"half").unwrap();

    let ledger = open(folder.path());

    assert_eq!(summary(&ledger, &everything(&[])), [" 4x 7 0.7"]);
}

#[test]
fn a_first_start_that_was_killed_does_not_stop_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("conf"), b"segm").unwrap();
    fs::write(folder.path().join("db"), b"").unwrap();

    let ledger = open(folder.path());

    assert!(summary(&ledger, &everything(&[])).is_empty());
}

/// What sled writes at a start, when a file system has kept some of it: the old snapshot is gone,
/// and the new one does not have its name.
#[test]
fn a_start_whose_snapshot_lost_its_name_does_not_begin_anew() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    drop(ledger_with(&live, 2));
    drop(open(&live));
    let snapshot = fs::read_dir(&live)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("snap."))
        .unwrap();

    for lost_name in [format!("{snapshot}.generating"), format!("kept.{snapshot}")] {
        let cut = folder.path().join(&lost_name);
        copy(&live, &cut);
        fs::rename(cut.join(&snapshot), cut.join(lost_name)).unwrap();

        let ledger = open(&cut);

        assert_eq!(summary(&ledger, &everything(&[])), [" 4x 7 0.7"]);
        assert!(!cut.join(format!("kept.{snapshot}")).exists());
    }
}

#[test]
fn a_log_without_a_header_beside_rows_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_with(folder.path(), 1));
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    for file in files.filter(|file| file.is_file()) {
        fs::remove_file(file).unwrap();
    }

    let error = SledLedger::open(folder.path(), SledOptions::default()).unwrap_err();

    assert!(matches!(error, OpenError::Read(LedgerError::Damaged { .. })), "{error}");
    assert!(folder.path().join("data/2026-11.0").exists());
}

#[test]
fn what_no_journal_names_is_written_over_or_deleted() {
    use std::os::unix::fs::FileExt;
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_with(folder.path(), 1));
    let data = folder.path().join("data");
    let file = fs::OpenOptions::new().write(true).open(data.join("2026-11.0")).unwrap();
    let size = file.metadata().unwrap().len();
    file.write_all_at(&[0xAB; 10_000], size).unwrap();
    fs::write(data.join("2026-11.7"), b"rated data").unwrap();
    fs::write(data.join("notes.txt"), b"somebody's").unwrap();

    let ledger = open(folder.path());

    commit(&ledger, 1);
    assert_eq!(summary(&ledger, &everything(&[])), [" 4x 7 0.7"]);
    assert_eq!(summary(&ledger, &everything(&[attribute("flavor")])).len(), 2);
    assert!(!data.join("2026-11.7").exists());
    assert!(data.join("notes.txt").exists());
}

#[test]
fn a_full_disk_fails_a_change_and_not_those_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_with(folder.path(), 1);
    let data = folder.path().join("data");
    // A folder in the place of the next month's file cannot be written, like a full disk.
    fs::create_dir(data.join("2026-12.1")).unwrap();
    let december = 31 * 24;
    let rows = [("ann", 100, 10, Some("vm-1"), None)];
    let push = || push_of(vec![pushed("cpu", hour(december), &["ann"], &rows)], None);

    let error = ledger.push(push()).unwrap_err();

    assert!(matches!(error, LedgerError::Store(_)), "{error}");
    ledger.takes_changes().unwrap();
    commit(&ledger, 1);
    assert_eq!(summary(&ledger, &everything(&[])), [" 4x 7 0.7"]);
    fs::remove_dir(data.join("2026-12.1")).unwrap();
    ledger.push(push()).unwrap();
    drop(ledger);
    let later = SummaryQuery { begin: at(december), end: at(december + 1), ..everything(&[]) };
    assert_eq!(summary(&open(folder.path()), &later), [" 1x 1 0.1"]);
}

#[test]
fn a_newer_format_is_refused() {
    use crate::ledger::sled::codec::{Kind, Writer};
    use crate::ledger::sled::store::{Store, Table, Write};
    let folder = tempfile::tempdir().unwrap();
    {
        let store = Store::open(folder.path(), SledOptions::default()).unwrap();
        let mut header = Writer::framed(Kind(b'L', 1));
        header.raw(b"rated ledger\n");
        header.uint(6);
        store.apply(&[Write::put(Table::Meta, b"header".to_vec(), header.seal())]).unwrap();
        store.sync().unwrap();
    }

    let error = SledLedger::open(folder.path(), SledOptions::default()).unwrap_err();

    assert!(matches!(error, OpenError::Version { found: 6, known: 5, .. }), "{error}");
    assert!(error.to_string().contains("has format 6, this daemon knows up to 5"));
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();

    let error = SledLedger::open(&file, SledOptions::default()).unwrap_err();

    assert!(error.to_string().starts_with("cannot open the ledger in `/"), "{error}");
}

#[test]
fn damage_is_found_and_named_and_the_rest_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_with(folder.path(), 3));
    let second = super::compaction::slices(folder.path()).swap_remove(1);
    for offset in [second.rollup_offset(0), second.block_offset(0)] {
        flip_bit(folder.path(), &second, offset + 20);
    }
    let ledger = open(folder.path());

    let by_scope = ledger.summarize(&everything(&[GroupKey::Scope])).unwrap_err();
    let by_flavor = ledger.summarize(&everything(&[attribute("flavor")])).unwrap_err();
    let page = ledger.rows(&all_rows(0, 10)).unwrap_err();

    let place = "of metric `cpu (source_cpu)`, period 2026-11-01T01:00:00Z/2026-11-01T02:00:00Z, \
                 scopes `ann` to `bob`, file `data/2026-11.0`: its checksum does not fit";
    let hint = "(hint: `rated ledger verify` lists all damage, `rated ledger restore` makes the \
                ledger from a backup)";
    let said = |what: &str| format!("damage in {what} {place}\n{hint}");
    assert_eq!(by_scope.to_string(), said("rollup"));
    assert_eq!(by_flavor.to_string(), said("block"));
    assert!(matches!(page, LedgerError::Damaged { .. }));
    let mut undamaged = everything(&[attribute("flavor")]);
    undamaged.end = at(1);
    assert_eq!(summary(&ledger, &undamaged), [" 1x 2.5 0.25", "small 1x 1 0.1"]);
    assert_eq!(summary(&ledger, &everything(&[])), [" 6x 10.5 1.05"]);
    commit(&ledger, 3);
}
