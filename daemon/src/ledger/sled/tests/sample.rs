//! Every stored format that was ever released is still read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rated_plugin::Edit;

use super::holes::flip;
use super::reprocessing::reprocessing_of;
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::codec::{Kind, Reader};
use crate::ledger::sled::data::HEADER_SIZE;
use crate::ledger::sled::slice::Slice;
use crate::ledger::sled::store::{Store, Table};
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    CollectorMapping, CompletenessQuery, Enabled, Fact, Failure, GroupKey, KvEdit, Ledger,
    ModuleState, NewScope, Origin, PushOutcome, Retention, ScopeChange, SliceScope, SummaryQuery,
};
use crate::usage::ScopeId;

/// Something of everything. `daemon/tests/data/ledger-1` was written by this.
fn write_sample(ledger: &SledLedger) {
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob"), new_scope("cid")]).unwrap();
    for index in 0..3 {
        let rows = [
            ("ann", 150 + i128::from(index), 15, Some("vm-1"), Some("small")),
            ("ann", 250, -25, Some("vm-2"), None),
            ("bob", 30_000_000_000_000_000_000, 1, Some("vm-3"), Some("größer")),
        ];
        ledger.commit(vec![slice("cpu", hour(index), &["ann", "bob", "cid"], &rows)]).unwrap();
    }
    let zero = [("ann", 0, 0, Some("vm-1"), None)];
    ledger.commit(vec![slice("disk", hour(0), &["ann", "bob"], &zero)]).unwrap();
    let failure = Failure {
        metric: metric("disk"),
        period: hour(0),
        scopes: vec![scope("cid")],
        attempts: 4,
        at: at(2),
        reason: "the source is down".to_owned(),
    };
    ledger.note_failure(&failure).unwrap();
    ledger.set_module_state("hashmap", ModuleState { enabled: true, priority: 2 }).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap();
    let mapping = CollectorMapping { service: "cpu".to_owned(), collector: "host".to_owned() };
    ledger.set_collector_mapping(&mapping).unwrap();
    for (revision, value) in [(0, Some("x")), (1, Some("y")), (2, None)] {
        let value = value.map(|value: &str| value.as_bytes().to_vec());
        let edits = vec![Edit { key: "a".to_owned(), value }];
        let edit = KvEdit { revision, edits, author: "ann".to_owned(), at: at(1) };
        ledger.kv_apply("rating/hashmap", &edit).unwrap();
    }
}

/// And of what format 2 added. `daemon/tests/data/ledger-2` was written by this.
fn write_sample_2(ledger: &SledLedger) {
    write_sample(ledger);
    let slices = [("cpu", 0), ("net", 2)].map(|(name, index)| {
        let rows = [("ann", 100, 10, Some("vm-1"), None), ("eve", 50, 5, None, Some("small"))];
        let mut slice = pushed(name, hour(index), &["ann", "eve"], &rows);
        slice.scopes.push(SliceScope { id: ScopeId::nobody(), fact: Fact::Collected });
        slice.rows.push(batch(&[("", 200, 20, Some("vm-9"), None)]));
        slice
    });
    ledger.push(push_of(slices.to_vec(), Some(("a", 1)))).unwrap();
    let fay = NewScope {
        first_period: at(4),
        last_processed: Some(at(3)),
        active: false,
        ..new_scope("fay")
    };
    ledger.add_scopes(&[fay, new_scope("eve")]).unwrap();
    let change = ScopeChange { collector: Some("other".to_owned()), ..ScopeChange::default() };
    ledger.change_scope(&scope("bob"), &change).unwrap();
    ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 0))).unwrap();
    let rows = [("ann", 100, 70, Some("vm-1"), None), ("bob", 100, 70, None, Some("small"))];
    ledger.stage_reprocessed(1, vec![slice("cpu", hour(0), &["ann", "bob"], &rows)]).unwrap();
    ledger.finish_reprocessing(1).unwrap();
    ledger.add_reprocessing(&reprocessing_of(&["bob"], (0, 1))).unwrap();
    ledger.stage_reprocessed(2, vec![slice("cpu", hour(1), &["bob"], &rows[1..])]).unwrap();
    ledger.advance_reprocessing(2, at(1), &[]).unwrap();
    ledger.reset(&reset_of(&["ann"], at(1) + chrono::TimeDelta::seconds(5))).unwrap();
}

/// And of what format 3 added: slices put together in one hour and left to be deleted in another.
/// `daemon/tests/data/ledger-3` was written by this.
fn write_sample_3(ledger: &SledLedger) {
    write_sample_2(ledger);
    for index in 0..24_i128 {
        let rows = [("eve", index, 1, Some("vm-3"), None), ("ann", 1, index, None, Some("large"))];
        let slice = pushed("net", hour(i64::from(index >= 12)), &["ann", "eve"], &rows);
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    while ledger.compact().unwrap().slices_merged != 12 {}
}

/// And of what format 4 added: data files of four months, one of them with dead parts, sums of
/// days and a month, two months without rows. `daemon/tests/data/ledger-4` was written by this.
fn write_sample_4(ledger: &SledLedger) {
    write_sample_3(ledger);
    // `read_all` asks for rows of the last thousand hours before November.
    for index in (-1500_i128..-1100).step_by(9).chain((0..800).step_by(9)) {
        let rows = [("eve", index, 1, Some("vm-3"), None), ("ann", 1, 7, None, Some("large"))];
        let slice = pushed("net", hour(i64::try_from(index).unwrap()), &["ann", "eve"], &rows);
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    super::compaction::compact(ledger);
    let retention = Retention { rows_months: Some(1), ..Retention::default() };
    while ledger.retain(retention, at(800)).unwrap().slices > 0 {}
    ledger.reset(&reset_of(&["bob"], at(1))).unwrap();
}

/// And of what format 5 added: seals, old figures of a reprocessing that is finished and of one
/// that is not. `daemon/tests/data/ledger-5` was written by this before chains had a scope key,
/// `daemon/tests/data/ledger-5-scope-keys` before they had checksums of configurations,
/// `daemon/tests/data/ledger-5-configurations` since.
pub(super) fn write_sample_5(ledger: &SledLedger) {
    write_sample_4(ledger);
    let rows = [("cid", 100, 7, Some("vm-1"), None)];
    for (id, hours) in [(3, 0..2), (4, 2..3)] {
        let range = (hours.start, hours.end - 1);
        assert_eq!(ledger.add_reprocessing(&reprocessing_of(&["cid"], range)).unwrap(), id);
        for index in hours {
            let staged = slice("cpu", hour(index), &["cid"], &rows);
            ledger.stage_reprocessed(id, vec![staged]).unwrap();
        }
    }
    ledger.finish_reprocessing(3).unwrap();
}

/// One that has lost the end of its log, and knows it. `daemon/tests/data/ledger-5-lost` was
/// written by this.
fn write_sample_of_loss(path: &Path) {
    let log = path.join("db");
    let ledger = super::reprocessing::ledger_of_two(path);
    let length = fs::metadata(&log).unwrap().len();
    let slices = vec![pushed("net", hour(2), &["ann"], &[("ann", 1, 1, None, None)])];
    ledger.push(push_of(slices, Some(("a", 1)))).unwrap();
    drop(ledger);
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();
    drop(open(path));
}

/// One in which a scope and sums of days were found to be damaged, the sums while rows changed.
/// `daemon/tests/data/ledger-5-damaged` was written by this.
fn write_sample_of_damage(path: &Path) {
    let ledger = super::reprocessing::ledger_of_two(path);
    let rows = [("ann", 100, 10, Some("vm-1"), None)];
    let push = |index| push_of(vec![pushed("cpu", hour(index), &["ann"], &rows)], None);
    ledger.push(push(40 * 24)).unwrap();
    super::compaction::compact(&ledger);
    // The last change is written again at a start: that of a flipped record must not be it.
    ledger.set_collector_state("host", Enabled::Yes).unwrap();
    drop(ledger);
    flip(path, Table::Sums, 0);
    open(path).push(push(2)).unwrap();
    flip(path, Table::Scopes, 1);
    drop(open(path));
}

/// All that can be read, as text.
fn read_all(path: &Path) -> String {
    let ledger = open(path);
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let get = |revision| ledger.kv_get("rating/hashmap", revision, "a").unwrap();
    let parts = [
        format!("{:?}", summary(&ledger, &everything(&[GroupKey::Time, GroupKey::Scope]))),
        format!("{:?}", summary(&ledger, &everything(&[attribute("flavor"), GroupKey::Type]))),
        format!("{:?}", rows(&ledger, &all_rows(0, 100))),
        format!("{:?}", ledger.scopes().unwrap()),
        format!("{:?}", ledger.cursors().unwrap()),
        format!("{:?}", ledger.completeness(&query).unwrap()),
        format!("{:?}", ledger.module_states().unwrap()),
        format!("{:?}", ledger.collector_states().unwrap()),
        format!("{:?}", ledger.collector_mappings().unwrap()),
        format!("{:?}", (0..4).map(get).collect::<Vec<_>>()),
        format!("{:?}", ledger.size().unwrap().rows),
        format!("{:?}", ledger.reprocessings().unwrap()),
    ];
    parts.join("\n")
}

fn sample(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn format_1_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-1"), &old);
    write_sample(&open(&new));

    let expected = read_all(&new);

    assert_eq!(read_all(&old), expected);
    assert!(expected.contains("größer|cpu 3x 900000000000000000 0.03"), "{expected}");
    assert!(fs::metadata(old.join("db")).unwrap().len() > 0);
}

#[test]
fn format_2_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-2"), &old);
    write_sample_2(&open(&new));

    let expected = read_all(&new);

    assert_eq!(read_all(&old), expected);
    assert!(expected.contains("small|net 1x 0.5 0.05"), "{expected}");
    for path in [&old, &new] {
        let ledger = open(path);
        let rows = [("ann", 1, 1, None, None)];
        let again = push_of(vec![pushed("cpu", hour(0), &["ann"], &rows)], Some(("a", 1)));
        assert_eq!(ledger.push(again).unwrap(), PushOutcome::Known);
        ledger.finish_reprocessing(2).unwrap();
    }
    assert_eq!(read_all(&old), read_all(&new));
}

#[test]
fn format_3_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-3"), &old);
    write_sample_3(&open(&new));

    let expected = read_all(&new);

    assert_eq!(read_all(&old), expected);
    assert!(expected.contains("large|net 24x 0.24 2.76"), "{expected}");
    let done = super::compaction::compact(&open(&old));
    // Two slices of `cpu` have scopes that were replaced or reset.
    assert_eq!(done.slices_merged, 14);
    assert_eq!(read_all(&old), expected);
}

#[test]
fn format_4_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-4"), &old);
    write_sample_4(&open(&new));
    let by_type = |path: &Path| {
        let everything = SummaryQuery { begin: at(-1600), end: at(800), ..everything(&[]) };
        let keys = [vec![GroupKey::Type], vec![GroupKey::Scope, GroupKey::Time]];
        let ledger = open(path);
        keys.map(|group_by| summary(&ledger, &SummaryQuery { group_by, ..everything.clone() }))
    };

    let expected = (read_all(&new), by_type(&new));

    assert_eq!((read_all(&old), by_type(&old)), expected);
    super::compaction::compact(&open(&old));
    super::compaction::assert_nothing_is_left_over(&old);
    assert_eq!((read_all(&old), by_type(&old)), expected);
}

#[test]
fn format_5_is_still_read() {
    check_format_5("ledger-5");
}

#[test]
fn format_5_with_scope_keys_is_still_read() {
    check_format_5("ledger-5-scope-keys");
}

#[test]
fn format_5_with_configurations_is_still_read() {
    check_format_5("ledger-5-configurations");
}

#[test]
fn damage_that_was_noted_is_still_known() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-5-damaged"), &old);
    fs::create_dir(&new).unwrap();
    write_sample_of_damage(&new);
    let told = |path: &Path| {
        let before = open(path).troubles().to_vec();
        // The other scope is gone without a trace.
        let store = Store::open(path, SledOptions::default()).unwrap();
        let (key, _) = store.prefix(Table::Scopes, &[]).next().unwrap().unwrap();
        store.remove_as_it_is(Table::Scopes, &key);
        drop(store);
        let ledger = open(path);
        (before, ledger.troubles().to_vec(), summary(&ledger, &everything(&[])))
    };

    let expected = told(&new);

    assert_eq!(told(&old), expected);
    assert_eq!(expected.0.len(), 3, "{expected:?}");
    assert!(expected.1.iter().any(|trouble| trouble.contains("scopes 0")), "{expected:?}");
    assert_eq!(expected.2, [" 10x 10 1"]);
}

#[track_caller]
fn check_format_5(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample(name), &old);
    write_sample_5(&open(&new));
    let differences = |path: &Path| {
        let query = super::generations::all_of(None);
        super::generations::differences(&open(path), &query)
    };

    let expected = (read_all(&new), differences(&new));

    assert_eq!((read_all(&old), differences(&old)), expected);
    let last = ["3: 0 cid 0x 0 -> 1x 0.07", "3: 1 cid 0x 0 -> 1x 0.07"];
    assert_eq!(expected.1[2..], last);
    assert_eq!(expected.1[0], "1: 0 ann 2x -0.1 -> 1x 0.7");
    for path in [&old, &new] {
        let ledger = open(path);
        assert!(ledger.troubles().is_empty());
        assert_eq!(super::flips::verify(&ledger), []);
        ledger.finish_reprocessing(4).unwrap();
        super::compaction::compact(&ledger);
        assert_eq!(super::flips::verify(&ledger), []);
    }
    assert_eq!((read_all(&old), differences(&old)), (read_all(&new), differences(&new)));
    super::compaction::assert_nothing_is_left_over(&old);
}

#[test]
fn a_loss_that_was_noted_is_still_known() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    super::crash::copy(&sample("ledger-5-lost"), &old);
    fs::create_dir(&new).unwrap();
    write_sample_of_loss(&new);
    let told = |path: &Path| {
        // The note alone says it.
        fs::remove_file(path.join("marks")).unwrap();
        let ledger = open(path);
        let hour = |index| SummaryQuery { begin: at(index), end: at(index + 1), ..everything(&[]) };
        let answers = (0..4).map(|index| ledger.summarize(&hour(index)).is_ok());
        (ledger.troubles().to_vec(), answers.collect::<Vec<bool>>())
    };

    let expected = told(&new);

    assert_eq!(told(&old), expected);
    assert_eq!(expected.1, [true, true, false, true]);
}

/// What was not kept at first is not known of it, and is not taken for anything.
#[test]
fn the_scope_key_of_a_chain_is_known_since_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let keys = |name: &str| {
        let path = folder.path().join(name);
        super::crash::copy(&sample(name), &path);
        let page = open(&path).rows(&all_rows(0, 100)).unwrap();
        let collected = page.groups.into_iter().filter(|group| group.origin == Origin::Collected);
        let keys: BTreeSet<Option<Arc<str>>> =
            collected.map(|group| group.rated_scope_key).collect();
        Vec::from_iter(keys)
    };

    assert_eq!(keys("ledger-5"), [None]);
    assert_eq!(keys("ledger-5-scope-keys"), [Some("project_id".into())]);
}

/// Whoever raises the version of a record writes a sample anew.
#[test]
fn every_record_of_today_is_in_a_sample() {
    let mut found = BTreeSet::new();
    for name in ["ledger-5-configurations", "ledger-5-lost", "ledger-5-damaged"] {
        find_records(name, &mut found);
    }

    let missing: Vec<String> = kinds_of_today()
        .into_iter()
        .filter(|(_, kind)| !found.contains(kind))
        .map(|(file, (kind, version))| format!("{file}: {} {version}", char::from(kind)))
        .collect();

    assert!(missing.is_empty(), "{missing:?}");
}

/// Kinds and versions.
fn find_records(name: &str, found: &mut BTreeSet<(u8, u8)>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    super::crash::copy(&sample(name), &path);
    let mut find = |record: &[u8]| {
        let Some([kind, version]) = record.first_chunk::<2>() else { return };
        if Reader::framed(Kind(*kind, *version), record).is_ok() {
            found.insert((*kind, *version));
        }
    };
    let store = Store::open(&path, SledOptions::default()).unwrap();
    for table in Table::all() {
        for entry in store.prefix(table, &[]) {
            let (key, record) = entry.unwrap();
            find(&record);
            // A long one begins with the number of its parts.
            find(record.get(2..).unwrap_or_default());
            if table != Table::Slices {
                continue;
            }
            let slice = Slice::decode(&key, &record).unwrap();
            let file = fs::read(path.join("data").join(slice.data_file().to_string())).unwrap();
            find(&file[..usize::try_from(HEADER_SIZE).unwrap()]);
            let mut rest = &file[usize::try_from(slice.offset).unwrap()..];
            for part in slice.rollups.iter().chain(&slice.blocks) {
                let (now, later) = rest.split_at(part.size as usize);
                find(now);
                rest = later;
            }
        }
    }
}

/// As the sources say them: `const CHAIN: Kind = Kind(b'H', 2);`
fn kinds_of_today() -> Vec<(String, (u8, u8))> {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/ledger/sled");
    let mut kinds = Vec::new();
    for source in fs::read_dir(sources).unwrap() {
        let source = source.unwrap();
        if !source.file_type().unwrap().is_file() {
            continue;
        }
        let text = fs::read_to_string(source.path()).unwrap();
        // Without indentation: those of tests have one.
        let said = |line: &str| {
            let is_item = line.starts_with("const ") || line.starts_with("pub");
            let (_, kind) = line.split_once(": Kind = Kind(b'").filter(|_| is_item)?;
            kind.strip_suffix(");").map(str::to_owned)
        };
        for kind in text.lines().filter_map(said) {
            let (letter, version) = kind.split_once("', ").unwrap();
            let name = source.file_name().to_string_lossy().into_owned();
            kinds.push((name, (letter.as_bytes()[0], version.parse().unwrap())));
        }
    }
    assert!(kinds.len() > 20, "{kinds:?}");
    kinds
}

/// What older formats have left behind is compacted like anything.
#[test]
fn older_formats_are_compacted() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["ledger-1", "ledger-2"] {
        let path = folder.path().join(name);
        super::crash::copy(&sample(name), &path);
        let before = read_all(&path);

        super::compaction::compact(&open(&path));

        assert_eq!(read_all(&path), before);
        super::compaction::assert_nothing_is_left_over(&path);
    }
}

/// An older program must not read what this one writes.
#[test]
fn a_start_raises_the_version() {
    let folder = tempfile::tempdir().unwrap();
    super::crash::copy(&sample("ledger-1"), folder.path());
    let header = || {
        let store = Store::open(folder.path(), SledOptions::default()).unwrap();
        store.get(Table::Meta, b"header").unwrap().unwrap()[15]
    };

    drop(open(folder.path()));

    assert_eq!(header(), 5);
}

#[test]
fn who_looks_begins_no_ledger_and_raises_none() {
    use crate::ledger::sled::OpenError;
    let folder = tempfile::tempdir().unwrap();
    let look = |path: &Path| SledLedger::open_as_it_is(path, SledOptions::default());
    let none = folder.path().join("none");
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let old = folder.path().join("old");
    super::crash::copy(&sample("ledger-3"), &old);

    assert!(matches!(look(&none), Err(OpenError::Missing { .. })));
    assert!(matches!(look(&empty), Err(OpenError::Missing { .. })));
    assert!(matches!(look(&old), Err(OpenError::Older { .. })));

    assert!(!none.exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
    let as_it_was = Store::open(&old, SledOptions::default()).unwrap();
    assert_eq!(as_it_was.version_found, Some(3));
    drop(as_it_was);
    // That was a start which was killed once it had written the header.
    assert!(matches!(look(&old), Err(OpenError::Older { .. })));
    drop(open(&old));
    look(&old).unwrap();
}
