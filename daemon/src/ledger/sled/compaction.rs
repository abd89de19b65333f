//! Keeps the ledger small: little slices become one, dead rows and replaced slices are deleted.
//!
//! One call is one step of bounded size, and each step is one group as in `queue`:
//!
//! - *merge*: neighbours in the order of readers that say the same of their rows (period, metric,
//!   unit, description, chain, origin) get one new slice with the rows that are left, at the place
//!   of the first; their records are deleted. One journal: readers see those before or the one
//!   after, never both. What a slice was rated by stays what it is for every row.
//! - *drop*: old figures of reprocessings that are more than is kept (`generations`).
//! - *move*: what is left of a data file of which much is dead gets a place in another one, some
//!   MiB at a time; the file is deleted as soon as every reader who may know of it has ended. A
//!   file that a kill left behind is deleted at the next start that finds the ledger whole.
//! - *sum up*: see `sums`.
//!
//! What is new is built outside of the queue; the group only compares the records that it was built
//! from. When a change was faster, the step has done nothing and comes again.
//!
//! Staged slices are not merged, and nobody is put together across their places: a reprocessing
//! that ends later finds the order as it was.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};

use super::catalog::Catalog;
use super::columns::BLOCK_ROWS_MAX;
use super::commit::Encoded;
use super::data::{self, FileId};
use super::inner::Inner;
use super::ledger::SledLedger;
use super::queue::{Company, Stage};
use super::runs::ScopeRuns;
use super::slice::{Slice, SliceKey, time_bytes};
use super::space::Share;
use super::store::{Table, Write, damaged, store_error};
use super::{generations, merge, moving, reprocessing, sums};
use crate::fault::{Step, passed};
use crate::ledger::{Compacted, CompactionStep, LedgerError};

/// Most rows, and most scopes, that one merge reads: a change of that size is one of the longest
/// that a push makes.
const MERGE_SIZE_MAX: usize = super::push::SLICE_ROWS_MAX;
/// Most slices of one merge.
const MERGE_SLICES_MAX: usize = 256;
/// A slice with so many rows or scopes gains nothing by company.
const LARGE_SIZE: usize = 2 * BLOCK_ROWS_MAX;
/// So many slices are put together even if one of them has nearly all of the rows.
const MERGE_SLICES_ENOUGH: usize = 16;
/// Otherwise the others must have this part of the largest, so that its rows are not written again
/// for every little slice that comes.
const MERGE_SHARE: usize = 4;
/// A slice is written anew when this part of its rows or scopes is dead.
const DEAD_SHARE: usize = 4;
/// So many records are looked at in one step, and no further period after them.
const SCAN_SLICES_MAX: usize = 4096;
/// Most merges that may fail in one pass before the rest of it is left out.
const FAILED_MAX: usize = 1024;
/// How often a pass says that it waits for readers before it ends without them.
pub(super) const WAITS_MAX: u32 = 600;

/// Where the work stands; nothing that a restart has to know.
#[derive(Debug)]
pub(super) struct Compactor {
    /// Periods that begin before it have been looked at in this pass.
    position_secs: i64,
    /// Nobody comes behind a torn page; the next pass tries.
    is_torn: bool,
    /// First slices of those that could not be put together in this pass.
    failed: BTreeSet<SliceKey>,
    generations: generations::Progress,
    moving: moving::Progress,
    summing: sums::Progress,
    /// Everything was looked at in this pass.
    is_through: bool,
    /// How often it was said since that readers hold up the end of the pass.
    waits: u32,
    /// Files without a slice, and the number of the first reader who cannot know of one.
    doomed: VecDeque<(FileId, u64)>,
}

impl Default for Compactor {
    fn default() -> Compactor {
        Compactor {
            position_secs: i64::MIN,
            is_torn: false,
            failed: BTreeSet::new(),
            generations: generations::Progress::default(),
            moving: moving::Progress::default(),
            summing: sums::Progress::default(),
            is_through: false,
            waits: 0,
            doomed: VecDeque::new(),
        }
    }
}

/// A slice that may be merged, or one that is in the way.
#[derive(Debug)]
struct Candidate {
    slice: Slice,
    /// As it is stored; `None` = it is only staged.
    record: Option<sled::IVec>,
}

impl Candidate {
    /// What is stored of it, dead or not: its cost.
    fn size(&self) -> usize {
        self.stored_rows().max(self.stored_scopes())
    }

    fn stored_rows(&self) -> usize {
        self.slice.blocks.iter().map(|part| part.rows).sum()
    }

    fn stored_scopes(&self) -> usize {
        self.slice.rollups.iter().map(|part| part.rows).sum()
    }

    fn dead_rows(&self) -> usize {
        self.stored_rows().saturating_sub(usize::try_from(self.slice.rows).unwrap_or(usize::MAX))
    }

    fn dead_scopes(&self) -> usize {
        let scopes = usize::try_from(self.slice.scopes).unwrap_or(usize::MAX);
        self.stored_scopes().saturating_sub(scopes)
    }

    /// Whether rows of both may stand under one record.
    fn goes_with(&self, other: &Candidate) -> bool {
        let (left, right) = (&self.slice, &other.slice);
        self.record.is_some()
            && other.record.is_some()
            && left.period == right.period
            && left.metric == right.metric
            && left.origin == right.origin
            && left.chain == right.chain
            && left.unit == right.unit
            && left.description == right.description
            && left.has_rows() == right.has_rows()
    }
}

impl SledLedger {
    /// See [`Ledger::compact`](crate::ledger::Ledger::compact).
    pub(super) fn compact_step(&self) -> Result<CompactionStep, LedgerError> {
        let mut compactor = self.compactor.lock().unwrap_or_else(PoisonError::into_inner);
        let compactor = &mut *compactor;
        // Nothing is deleted as long as somebody may want to look for what is missing.
        if !self.inner.is_all_whole() {
            return Ok(CompactionStep { progress: Compacted::All, ..CompactionStep::default() });
        }
        let step = self.next_step(compactor)?;
        let dead = self.inner.catalog().files.values().map(|file| file.dead).sum();
        Ok(CompactionStep { bytes_dead: dead, ..step })
    }

    fn next_step(&self, compactor: &mut Compactor) -> Result<CompactionStep, LedgerError> {
        if let Some(step) = self.delete_file(compactor)? {
            return Ok(step);
        }
        if compactor.is_through {
            return Ok(self.end_pass(compactor));
        }
        match self.inner.find(compactor)? {
            Found::Merge(slices, catalog) => return self.merge(compactor, slices, &catalog),
            Found::NothingYet => return Ok(CompactionStep::default()),
            Found::Nothing => {}
        }
        if self.drop_generations(&mut compactor.generations)?.is_some() {
            return Ok(CompactionStep::default());
        }
        if let Some(moved) = self.move_some(&mut compactor.moving)? {
            compactor.doomed.extend(moved.emptied.map(|file| (file, self.inner.readers.next())));
            let bytes_moved = moved.bytes;
            return Ok(CompactionStep { bytes_moved, ..CompactionStep::default() });
        }
        if let Some(periods_summed) = self.sum_up_some(&mut compactor.summing)? {
            return Ok(CompactionStep { periods_summed, ..CompactionStep::default() });
        }
        compactor.is_through = true;
        Ok(self.end_pass(compactor))
    }

    /// Files that readers may still come to are waited for, but not for ever: a backup may last
    /// hours. What is left of them then is left to the next pass.
    fn end_pass(&self, compactor: &mut Compactor) -> CompactionStep {
        let mut progress = Compacted::Waits;
        compactor.waits += 1;
        if compactor.doomed.is_empty() || compactor.waits > WAITS_MAX {
            let doomed = std::mem::take(&mut compactor.doomed);
            let mut generations = std::mem::take(&mut compactor.generations);
            generations.begin_pass(&self.inner.catalog());
            *compactor = Compactor { generations, doomed, ..Compactor::default() };
            progress = Compacted::All;
        }
        CompactionStep { progress, ..CompactionStep::default() }
    }

    /// The file that nobody has known of for longest, if its last readers have ended.
    fn delete_file(
        &self,
        compactor: &mut Compactor,
    ) -> Result<Option<CompactionStep>, LedgerError> {
        let Some((file, known_before)) = compactor.doomed.front().copied() else {
            return Ok(None);
        };
        if !self.inner.readers.have_left(known_before) {
            return Ok(None);
        }
        compactor.doomed.pop_front();
        let bytes_deleted = self.inner.data.remove(file).map_err(store_error)?;
        passed(Step::CompactionFileDeleted);
        Ok(Some(CompactionStep { bytes_deleted, ..CompactionStep::default() }))
    }

    fn merge(
        &self,
        compactor: &mut Compactor,
        candidates: Vec<Candidate>,
        catalog: &Catalog,
    ) -> Result<CompactionStep, LedgerError> {
        let dead_rows: usize = candidates.iter().map(Candidate::dead_rows).sum();
        let (slices, records): (Vec<Slice>, Vec<_>) =
            candidates.into_iter().map(|each| (each.slice, each.record)).unzip();
        let first_key = slices[0].key();
        let merged = merge::merge(self.inner.reading(catalog), &slices);
        let Ok(Some(encoded)) = merged else {
            compactor.failed.insert(first_key);
            return merged.map(|_| CompactionStep::default());
        };
        let slices_merged = slices.len() as u64;
        let records: Vec<sled::IVec> = records.into_iter().flatten().collect();
        let inner = Arc::clone(&self.inner);
        let change = move |stage: &mut Stage| replace(&inner, stage, encoded, (&slices, &records));
        // On a full disk the next step goes on with something that may give room.
        let replaced = self.change_with(Company::Alone, change).inspect_err(|_| {
            compactor.failed.insert(first_key);
        });
        if !replaced? {
            return Ok(CompactionStep::default());
        }
        Ok(CompactionStep {
            slices_merged,
            rows_dropped: dead_rows as u64,
            ..CompactionStep::default()
        })
    }
}

/// The record of what takes the place of some slices, its number and place still to be given.
fn merged_slice(slices: &[Slice], encoded: &Encoded) -> Slice {
    let first = slices.first().expect("a merge has a first slice");
    Slice {
        scopes: encoded.rollup.len() as u64,
        rows: slices.iter().map(|slice| slice.rows).sum(),
        qty: slices.iter().map(|slice| slice.qty).sum(),
        price: slices.iter().map(|slice| slice.price).sum(),
        removed: ScopeRuns::default(),
        ..first.clone()
    }
}

/// `false` = the slices are not any more what was read of them, and nothing has changed.
fn replace(
    inner: &Inner,
    stage: &mut Stage,
    encoded: Encoded,
    (slices, records): (&[Slice], &[sled::IVec]),
) -> Result<bool, LedgerError> {
    for (slice, record) in slices.iter().zip(records) {
        if inner.store.get(Table::Slices, &slice.key().bytes())?.as_ref() != Some(record) {
            return Ok(false);
        }
    }
    stage.share = Share::Half;
    let mut new = merged_slice(slices, &encoded);
    new.number = stage.catalog.counters.next_slice;
    stage.catalog.counters.next_slice += 1;
    let parts = encoded.into_parts();
    (new.rollups, new.blocks) = (parts.rollups, parts.blocks);
    data::place(stage, &mut new, parts.bytes);
    stage.journaled.push(Write::put(Table::Slices, new.key().bytes(), new.encode()));
    for slice in slices {
        data::bury(stage, slice.data_file(), slice.extent_size());
        stage.journaled.push(Write::remove(Table::Slices, slice.key().bytes()));
    }
    passed(Step::ChangeMerged);
    Ok(true)
}

enum Found {
    Merge(Vec<Candidate>, Arc<Catalog>),
    /// There are periods left to look at.
    NothingYet,
    Nothing,
}

impl Inner {
    /// The next slices that are worth a merge.
    fn find(&self, compactor: &mut Compactor) -> Result<Found, LedgerError> {
        let mut seen = 0;
        while compactor.failed.len() < FAILED_MAX && !compactor.is_torn {
            let catalog = self.lock();
            let from = time_bytes(compactor.position_secs).to_vec();
            let Some(next) = self.store.range(Table::Slices, from..).next() else {
                return Ok(Found::Nothing);
            };
            let wrong = |damage| damaged("a slice".to_owned(), damage);
            let next = next.and_then(|(key, _)| SliceKey::read(&key).map_err(wrong));
            let begin_secs = next.inspect_err(|_| compactor.is_torn = true)?.begin_secs;
            // Should a record be damaged, the next step goes on behind its period.
            compactor.position_secs = begin_secs.saturating_add(1);
            let candidates = self.candidates(&catalog, begin_secs)?;
            let catalog = Arc::clone(&catalog);
            seen += candidates.len();
            for run in runs(candidates) {
                let is_new = !compactor.failed.contains(&run[0].slice.key());
                if is_new && is_worth_it(&run) {
                    // There may be more of this period.
                    compactor.position_secs = begin_secs;
                    return Ok(Found::Merge(run, catalog));
                }
            }
            if seen >= SCAN_SLICES_MAX {
                return Ok(Found::NothingYet);
            }
        }
        Ok(Found::Nothing)
    }

    /// All slices that begin then, staged ones too, in the order of readers.
    fn candidates(
        &self,
        catalog: &Catalog,
        begin_secs: i64,
    ) -> Result<Vec<Candidate>, LedgerError> {
        let reading = self.reading(catalog);
        let mut candidates = Vec::new();
        for entry in self.store.prefix(Table::Slices, &time_bytes(begin_secs)) {
            let (key, record) = entry?;
            let slice = reading.slice(&key, &record)?;
            candidates.push(Candidate { slice, record: Some(record) });
        }
        for (id, _) in catalog.reprocessings.iter().filter(|(_, entry)| !entry.finished) {
            for slice in reprocessing::staged_at(reading, *id, begin_secs) {
                candidates.push(Candidate { slice: slice?, record: None });
            }
        }
        candidates.sort_by_key(|Candidate { slice, .. }| {
            (slice.period, reading.metric_type(slice), slice.order)
        });
        Ok(candidates)
    }
}

/// Neighbours that can be merged in one step, those that stay alone too.
fn runs(candidates: Vec<Candidate>) -> impl Iterator<Item = Vec<Candidate>> {
    let mut candidates = candidates.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut run = vec![candidates.next()?];
        let mut size = run[0].size();
        while let Some(next) = candidates.peek() {
            let last = &run[run.len() - 1];
            let is_room = size + next.size() <= MERGE_SIZE_MAX && run.len() < MERGE_SLICES_MAX;
            let are_small = last.size().max(next.size()) < LARGE_SIZE;
            if !(is_room && are_small && last.goes_with(next)) {
                break;
            }
            size += next.size();
            run.extend(candidates.next());
        }
        Some(run)
    })
}

fn is_worth_it(run: &[Candidate]) -> bool {
    let sum = |of: fn(&Candidate) -> usize| run.iter().map(of).sum::<usize>();
    let size = sum(Candidate::size);
    let has_rows = run.iter().all(|each| each.slice.has_rows());
    if size > MERGE_SIZE_MAX || run[0].record.is_none() || !has_rows {
        return false;
    }
    let is_dead = |dead: usize, stored: usize| dead > 0 && dead * DEAD_SHARE >= stored;
    if is_dead(sum(Candidate::dead_rows), sum(Candidate::stored_rows))
        || is_dead(sum(Candidate::dead_scopes), sum(Candidate::stored_scopes))
    {
        return true;
    }
    let largest = run.iter().map(Candidate::size).max().unwrap_or(0);
    run.len() > 1 && (run.len() >= MERGE_SLICES_ENOUGH || (size - largest) * MERGE_SHARE >= largest)
}
