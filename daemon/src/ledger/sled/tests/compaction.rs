//! Compaction is seen in the folder's size and nowhere else.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;

use proptest::prelude::*;

use super::model::{self, LISTED, METRICS, Model, SCOPES, Step};
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::data::{self, FileId};
use crate::ledger::sled::holes::Holes;
use crate::ledger::sled::slice::Slice;
use crate::ledger::sled::store::{Store, Table};
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    Compacted, CompactionStep, CompletenessQuery, GroupKey, Ledger, LedgerError, Measures, RatedBy,
    RowsGroup, RowsQuery, SummaryQuery,
};

/// Steps until there is nothing more to do, and all that they did.
pub(super) fn compact(ledger: &SledLedger) -> CompactionStep {
    let mut all = CompactionStep::default();
    loop {
        let step = ledger.compact().unwrap();
        assert_ne!(step.progress, Compacted::Waits, "nobody reads");
        add(&mut all, step);
        if step.progress == Compacted::All {
            return all;
        }
    }
}

fn add(all: &mut CompactionStep, step: CompactionStep) {
    all.slices_merged += step.slices_merged;
    all.rows_dropped += step.rows_dropped;
    all.periods_summed += step.periods_summed;
    all.bytes_moved += step.bytes_moved;
    all.bytes_deleted += step.bytes_deleted;
}

/// Every answer that can be had of rows, as text; of rows their order and columns too.
pub(super) fn answers(ledger: &SledLedger) -> Vec<String> {
    let keys: [&[GroupKey]; 8] = [
        &[],
        &[GroupKey::Scope],
        &[GroupKey::Type, GroupKey::Time],
        &[GroupKey::Scope, GroupKey::Time, GroupKey::Type],
        &[attribute("flavor")],
        &[attribute("id"), GroupKey::Scope],
        &[attribute("project_id"), attribute("flavor"), attribute("id")],
        &[attribute("month"), attribute("no such")],
    ];
    let mut all = Vec::new();
    for keys in keys {
        for measures in [Measures::Sums, Measures::SumsAndExtremes] {
            for query in queries(&SummaryQuery { measures, ..everything(keys) }) {
                let groups = ledger.summarize(&query).unwrap();
                let mut lines: Vec<String> =
                    groups.iter().map(|group| format!("{group:?}")).collect();
                lines.sort();
                all.push(format!("{keys:?}: {lines:#?}"));
            }
        }
    }
    for scope in SCOPES.map(Some).into_iter().chain([None]) {
        all.push(format!("{scope:?}: {:#?}", every_row(ledger, scope)));
    }
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let mut known: Vec<String> =
        ledger.completeness(&query).unwrap().iter().map(|known| format!("{known:?}")).collect();
    known.sort();
    all.push(format!("{known:#?}"));
    all.push(format!("{:?}", ledger.size().unwrap().rows));
    all.push(format!("{:?}", ledger.cursors().unwrap()));
    all
}

/// All, of one scope, of one flavor, of some hours.
fn queries(query: &SummaryQuery) -> [SummaryQuery; 4] {
    let mut queries = [query.clone(), query.clone(), query.clone(), query.clone()];
    queries[1].filters.scopes = Some(vec![scope(SCOPES[1]), scope(SCOPES[4])]);
    let small = ("flavor".to_owned(), vec!["small".to_owned()]);
    queries[2].filters.attributes.extend([small]);
    (queries[3].begin, queries[3].end) = (at(1), at(3));
    queries
}

/// Values, not digits: the scales of columns are free. The columns of each row belong to it.
fn every_row(ledger: &SledLedger, of: Option<&str>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut query = RowsQuery { offset: 0, limit: usize::MAX, ..all_rows(0, 0) };
    query.filters.scopes = of.map(|name| vec![scope(name)]);
    let mut visit = |group: RowsGroup| {
        let schema = group.rows.schema();
        let columns: Vec<&str> =
            schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (unit, origin, key) = (&group.unit, group.origin, &group.scope_key);
        let label = format!("{unit} {:?} {origin:?} {key} {columns:?}", group.description);
        lines.extend(lines_of(&group).iter().map(|line| format!("{} {label}", normal(line))));
        ControlFlow::Continue(())
    };
    ledger.visit_rows(&query, &mut visit).unwrap();
    assert_eq!(ledger.rows(&RowsQuery { limit: 0, ..query.clone() }).unwrap().total, lines.len());
    let page = ledger.rows(&RowsQuery { offset: 2, limit: 3, ..query }).unwrap();
    let page: Vec<String> =
        page.groups.iter().flat_map(lines_of).map(|line| normal(&line)).collect();
    let expected = lines.iter().skip(2).take(3);
    assert!(page.iter().zip(expected).all(|(found, line)| line.starts_with(found.as_str())));
    lines
}

fn normal(line: &str) -> String {
    let decimal =
        |word: &str| word.parse::<rust_decimal::Decimal>().unwrap().normalize().to_string();
    let words = line.split(' ').enumerate();
    let word = |(index, word): (usize, &str)| match index {
        3 | 4 => decimal(word),
        _ => word.to_owned(),
    };
    words.map(word).collect::<Vec<_>>().join(" ")
}

fn records(path: &Path, table: Table, prefix_size: usize) -> Vec<Slice> {
    let store = Store::open(path, SledOptions::default()).unwrap();
    let slice = |entry: Result<(sled::IVec, sled::IVec), LedgerError>| {
        let (key, record) = entry.unwrap();
        Slice::decode(&key[prefix_size..], &record).unwrap()
    };
    store.prefix(table, &[]).map(slice).collect()
}

pub(super) fn slices(path: &Path) -> Vec<Slice> {
    records(path, Table::Slices, 0)
}

/// Every byte of the data files belongs to a slice that is seen, staged or summed up, or is known
/// to be dead; and little of it is dead.
pub(super) fn assert_nothing_is_left_over(path: &Path) {
    let live = [(Table::Slices, 0), (Table::Staged, 8), (Table::Generations, 8), (Table::Sums, 1)];
    let mut live_of: HashMap<FileId, u64> = HashMap::new();
    for slice in live.into_iter().flat_map(|(table, prefix)| records(path, table, prefix)) {
        *live_of.entry(slice.data_file()).or_default() += slice.extent_size();
    }
    let files =
        data::load(&Store::open(path, SledOptions::default()).unwrap(), &mut Holes::default());
    let files = files.unwrap();
    assert!(live_of.keys().all(|file| files.contains_key(file)));
    for (file, entry) in &files {
        let live = live_of.get(file).copied().unwrap_or(0);
        assert_eq!(entry.content() - entry.dead, live, "{file}");
        let is_little = entry.dead < 4 << 10 || entry.dead * 4 < entry.content();
        assert!(live > 0 && is_little, "{file}: {live} live, {} dead", entry.dead);
    }
    let names = std::fs::read_dir(path.join("data")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let mut known: Vec<String> = files.keys().map(FileId::to_string).collect();
    known.sort();
    assert_eq!(names, known);
}

fn push_little(ledger: &SledLedger, count: i128) {
    for index in 0..count {
        let id = ["vm-1", "vm-2", "vm-3"][usize::try_from(index % 3).unwrap()];
        let rows = [("ann", 10 + index, index, Some(id), Some("small"))];
        ledger.push(push_of(vec![pushed("cpu", hour(0), &["ann"], &rows)], None)).unwrap();
    }
}

#[test]
fn little_slices_become_one_and_no_answer_changes() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    push_little(&ledger, 600);
    let before = answers(&ledger);

    let done = compact(&ledger);

    assert_eq!(answers(&ledger), before);
    assert_eq!((done.rows_dropped, done.slices_merged), (0, 602));
    assert_eq!(compact(&ledger), CompactionStep::default());
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
    let slices = slices(folder.path());
    assert_eq!(slices.len(), 1);
    assert_eq!((slices[0].rows, slices[0].blocks.len(), slices[0].order), (600, 1, 0));
    assert_eq!(answers(&open(folder.path())), before);
}

#[test]
fn a_large_slice_is_not_written_again_for_each_little_one() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    push_little(&ledger, 64);
    compact(&ledger);

    push_little(&ledger, 14);
    assert_eq!(compact(&ledger).slices_merged, 0);
    push_little(&ledger, 1);
    assert_eq!(compact(&ledger).slices_merged, 16);
}

#[test]
fn what_was_reset_and_replaced_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 1))).unwrap();
    let staged = (0..2).map(|index| priced(index, &["ann", "bob"], 70)).collect();
    ledger.stage_reprocessed(id, staged).unwrap();
    ledger.finish_reprocessing(id).unwrap();
    ledger.reset(&reset_of(&["ann"], at(3))).unwrap();
    let before = answers(&ledger);

    let done = compact(&ledger);

    // Two hours of two rows replaced, one row reset in a slice that stays.
    assert_eq!((done.rows_dropped, done.slices_merged), (1, 1));
    assert_eq!(answers(&ledger), before);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
}

#[test]
fn what_is_staged_stays_and_can_be_finished() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(0, &["ann", "bob"], 70)]).unwrap();
    compact(&ledger);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());

    let ledger = open(folder.path());
    ledger.finish_reprocessing(id).unwrap();

    let by_scope = summary(&ledger, &everything(&[GroupKey::Scope]));
    assert_eq!(by_scope, ["ann 4x 4 1", "bob 4x 4 1"]);
    compact(&ledger);
    assert_eq!(summary(&ledger, &everything(&[GroupKey::Scope])), by_scope);
}

#[test]
fn rows_rated_by_different_rules_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let chain = |revision| RatedBy {
        module: "a".into(),
        revision,
        library: "b".into(),
        config: "c".into(),
    };
    for index in 0..40 {
        let mut slice = pushed("cpu", hour(0), &["ann"], &[("ann", index, 1, None, None)]);
        slice.rated_by = vec![chain(u64::from(index >= 20))].into();
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    let before = answers(&ledger);

    compact(&ledger);

    assert_eq!(answers(&ledger), before);
    drop(ledger);
    let slices = slices(folder.path());
    let found: Vec<(u32, u64, u64)> =
        slices.iter().map(|slice| (slice.chain, slice.rows, slice.order)).collect();
    assert_eq!(found, [(0, 20, 0), (1, 20, 20)]);
}

#[test]
fn a_reader_who_began_before_sees_what_it_began_with() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    push_little(&ledger, 90);
    let expected = rows(&ledger, &all_rows(0, 100)).1;

    let mut lines = Vec::new();
    let mut last = None;
    let mut visit = |group: RowsGroup| {
        lines.extend(lines_of(&group));
        last = Some(ledger.compact().unwrap());
        ControlFlow::Continue(())
    };
    ledger.visit_rows(&all_rows(0, 100), &mut visit).unwrap();

    assert_eq!(lines, expected);
    // It was put together beneath the reader, and deleted only after it.
    assert_eq!(last.unwrap().progress, Compacted::Waits);
    assert!(compact(&ledger).bytes_deleted > 0);
    assert_eq!(rows(&ledger, &all_rows(0, 100)).1.len(), 90);
}

#[test]
fn damage_is_left_as_it_is_and_the_rest_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for index in 0..60 {
        let slice =
            pushed("cpu", hour(i64::from(index >= 30)), &["ann"], &[("ann", 7, 1, None, None)]);
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    drop(ledger);
    let fourth = slices(folder.path()).swap_remove(3);
    flip_bit(folder.path(), &fourth, fourth.block_offset(0) + 9);
    let ledger = open(folder.path());

    let error = ledger.compact().unwrap_err();
    let done = compact(&ledger);

    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert_eq!(done.slices_merged, 30);
    assert_eq!(summary(&ledger, &everything(&[])), [" 60x 4.2 0.6"]);
    ledger.takes_changes().unwrap();
}

#[test]
fn rows_that_do_not_add_up_to_their_sums_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    push_little(&ledger, 30);
    drop(ledger);
    {
        // A block that is sound, of another slice.
        let slices = slices(folder.path());
        let is_like =
            |[first, .., other]: &&[Slice; 3]| first.blocks[0].size == other.blocks[0].size;
        let [first, .., other] = slices.array_windows().find(is_like).unwrap();
        let file = data_file(folder.path(), first);
        let mut block = vec![0; first.blocks[0].size as usize];
        file.read_exact_at(&mut block, other.block_offset(0)).unwrap();
        file.write_all_at(&block, first.block_offset(0)).unwrap();
    }
    let ledger = open(folder.path());

    let error = ledger.compact().unwrap_err();

    let expected = "the sums of its scopes are not those of its rows";
    assert!(error.to_string().contains(expected), "{error}");
    assert_eq!(compact(&ledger), CompactionStep::default());
}

fn ledger_of_model(path: &Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&METRICS.map(metric)).unwrap();
    ledger.add_scopes(&SCOPES.map(new_scope)[..LISTED]).unwrap();
    ledger
}

/// What happens to the compacted ledger after a step of the schedule.
#[derive(Debug, Clone, Copy)]
enum Upkeep {
    Nothing,
    Steps(usize),
    /// So many steps, then a kill.
    Killed(usize),
}

fn upkeep() -> impl Strategy<Value = Upkeep> {
    prop_oneof![
        2 => Just(Upkeep::Nothing),
        3 => (1..6_usize).prop_map(Upkeep::Steps),
        1 => (0..4_usize).prop_map(Upkeep::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    /// Of two ledgers with the same schedule one is compacted and killed under way.
    #[test]
    fn a_compacted_ledger_answers_like_another(
        schedule in (model::steps(), prop::collection::vec(upkeep(), 32)),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let plain_path = folder.path().join("plain");
        let mut path = folder.path().join("0");
        let mut plain = ledger_of_model(&plain_path);
        let mut compacted = ledger_of_model(&path);
        let (mut model, mut other) = (Model::default(), Model::default());
        let (steps, upkeep) = schedule;
        for (index, (step, upkeep)) in steps.iter().zip(upkeep).enumerate() {
            plain = model::run(&plain_path, plain, &mut model, step);
            compacted = model::run(&path, compacted, &mut other, step);
            let (Upkeep::Steps(count) | Upkeep::Killed(count)) = upkeep else { continue };
            for _ in 0..count {
                compacted.compact().unwrap();
            }
            if matches!(upkeep, Upkeep::Killed(_)) {
                let next = folder.path().join((index + 1).to_string());
                super::crash::copy(&path, &next);
                path = next;
                compacted = open(&path);
            }
            if !matches!(step, Step::Again) {
                prop_assert_eq!(answers(&compacted), answers(&plain));
            }
        }
        model::compare(&compacted, &other);
        compact(&compacted);
        prop_assert_eq!(answers(&compacted), answers(&plain));
        drop(compacted);
        assert_nothing_is_left_over(&path);
        model::compare(&open(&path), &other);
    }
}
