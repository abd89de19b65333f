//! Keeps the ledger small: little slices become one, dead rows and replaced slices are deleted.
//!
//! One call is one step of bounded size, and each step is one group as in `queue`:
//!
//! - *merge*: neighbours in the order of readers that say the same of their rows (period, metric,
//!   unit, description, chain, origin) get one new slice with the rows that are left, at the place
//!   of the first; their records go to the tree `removed`. One journal: readers see those before or
//!   the one after, never both. What a slice was rated by stays what it is for every row.
//! - *sweep*: blocks and rollups of what stands in `removed` are deleted, then the record itself,
//!   as soon as every reader who may know of it has ended. A sweep that breaks off is begun again
//!   by what is left in `removed`, so a kill leaves nothing behind.
//!
//! New rows are built outside of the queue; the group only compares the records that they were
//! built from. When a change was faster, the step has done nothing and comes again.
//!
//! sled gives the room of what was deleted to what is written later, and gives it back to the
//! system only at the end of its log: the folder stops growing rather than shrinks. To make it
//! write the leaves anew that something was deleted from was tried: what was free at once was less
//! than what it had written for that.
//!
//! Staged slices are not touched, and nobody is put together across their places: a reprocessing
//! that ends later finds the order as it was. Keys of pushes stay for ever.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, MutexGuard, PoisonError};

use super::catalog::Catalog;
use super::columns::BLOCK_ROWS_MAX;
use super::commit::{self, Encoded};
use super::ledger::{Inner, SledLedger};
use super::merge;
use super::queue::{Company, Stage};
use super::reprocessing;
use super::runs::ScopeRuns;
use super::slice::{Slice, SliceKey, time_bytes};
use super::store::{Table, Write, damaged};
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
/// Most slices that a sweep plans with at a time.
const SWEEP_SLICES_MAX: usize = 256;
/// Most parts of slices, and most bytes of them, that one step deletes.
const SWEEP_PARTS_MAX: usize = 256;
const SWEEP_SIZE_MAX: usize = 1 << 20;
/// More slices that wait to be deleted are not counted.
const BACKLOG_MAX: usize = 1 << 16;
/// Most merges that may fail in one pass before the rest of it is left out.
const FAILED_MAX: usize = 1024;

/// Where the work stands; nothing that a restart has to know.
#[derive(Debug)]
pub(super) struct Compactor {
    /// Periods that begin before it have been looked at in this pass.
    position_secs: i64,
    /// First slices of those that could not be put together in this pass.
    failed: BTreeSet<SliceKey>,
    doomed: Option<Doomed>,
    backlog: u64,
}

impl Default for Compactor {
    fn default() -> Compactor {
        let failed = BTreeSet::new();
        Compactor { position_secs: i64::MIN, failed, doomed: None, backlog: 0 }
    }
}

/// Slices that nobody sees who begins to read now.
#[derive(Debug)]
struct Doomed {
    slices: VecDeque<(SliceKey, DeadRows)>,
    /// Readers before that one may know them.
    known_before: u64,
}

/// Rows that went out of sight with their slice, not into another.
type DeadRows = u64;

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
    }
}

impl SledLedger {
    /// See [`Ledger::compact`](crate::ledger::Ledger::compact).
    pub(super) fn compact_step(&self) -> Result<CompactionStep, LedgerError> {
        let mut compactor = self.compactor.lock().unwrap_or_else(PoisonError::into_inner);
        if compactor.doomed.is_none() {
            (compactor.doomed, compactor.backlog) = self.inner.doomed()?;
        }
        if let Some(mut doomed) = compactor.doomed.take() {
            let step = if self.inner.readers.have_left(doomed.known_before) {
                self.sweep(&mut doomed)?
            } else {
                CompactionStep { progress: Compacted::Waits, ..CompactionStep::default() }
            };
            compactor.backlog = compactor.backlog.saturating_sub(step.slices_deleted);
            compactor.doomed = (!doomed.slices.is_empty()).then_some(doomed);
            return Ok(CompactionStep { backlog: compactor.backlog, ..step });
        }
        match self.inner.find(&mut compactor)? {
            Found::Merge(slices, catalog) => self.merge(compactor, slices, &catalog),
            Found::NothingYet => Ok(CompactionStep::default()),
            Found::Nothing => {
                *compactor = Compactor::default();
                Ok(CompactionStep { progress: Compacted::All, ..CompactionStep::default() })
            }
        }
    }

    fn merge(
        &self,
        mut compactor: MutexGuard<'_, Compactor>,
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
        let replaced: Vec<(SliceKey, sled::IVec)> =
            slices.iter().map(Slice::key).zip(records.into_iter().flatten()).collect();
        let new = merged_slice(slices, &encoded);
        let inner = Arc::clone(&self.inner);
        let change = move |stage: &mut Stage| replace(&inner, stage, new, encoded, replaced);
        if !self.change_with(Company::Alone, change)? {
            return Ok(CompactionStep::default());
        }
        Ok(CompactionStep {
            slices_merged,
            rows_dropped: dead_rows as u64,
            backlog: slices_merged,
            ..CompactionStep::default()
        })
    }

    /// Deletes parts of doomed slices, and the records of those that have none any more. Nobody
    /// looks at the parts, so the queue has to do with the records only.
    fn sweep(&self, doomed: &mut Doomed) -> Result<CompactionStep, LedgerError> {
        let (mut parts, mut records) = (Vec::new(), Vec::new());
        let (mut bytes, mut rows_dropped) = (0, 0);
        'slices: while let Some((key, dead_rows)) = doomed.slices.front() {
            let key = key.bytes();
            for table in [Table::Blocks, Table::Rollups] {
                for entry in self.inner.store.prefix(table, &key) {
                    if parts.len() >= SWEEP_PARTS_MAX || bytes >= SWEEP_SIZE_MAX {
                        break 'slices;
                    }
                    let (key, value) = entry?;
                    bytes += key.len() + value.len();
                    parts.push(Write::remove(table, key.to_vec()));
                }
            }
            records.push(Write::remove(Table::Removed, key));
            rows_dropped += dead_rows;
            doomed.slices.pop_front();
        }
        let deleted = self.inner.store.write_early(&parts).and_then(|()| self.inner.store.sync());
        // What is on disk now is not known, as after any failed write.
        deleted.inspect_err(|_| self.queue.stop())?;
        let slices_deleted = records.len() as u64;
        self.change_with(Company::Welcome, move |stage: &mut Stage| {
            stage.journaled.extend(records);
            Ok(())
        })?;
        let bytes_deleted = bytes as u64;
        Ok(CompactionStep { rows_dropped, slices_deleted, bytes_deleted, ..Default::default() })
    }
}

/// The record of what takes the place of some slices, its number still to be given.
fn merged_slice(slices: Vec<Slice>, encoded: &Encoded) -> Slice {
    let rows = slices.iter().map(|slice| slice.rows).sum();
    let qty = slices.iter().map(|slice| slice.qty).sum();
    let price = slices.iter().map(|slice| slice.price).sum();
    let first = slices.into_iter().next().expect("a merge has a first slice");
    Slice {
        scopes: encoded.rollup.len() as u64,
        rows,
        qty,
        price,
        rollups: encoded.rollup_parts(),
        blocks: encoded.block_parts(),
        removed: ScopeRuns::default(),
        ..first
    }
}

/// `false` = the slices are not any more what was read of them, and nothing has changed.
fn replace(
    inner: &Inner,
    stage: &mut Stage,
    new: Slice,
    encoded: Encoded,
    replaced: Vec<(SliceKey, sled::IVec)>,
) -> Result<bool, LedgerError> {
    for (key, record) in &replaced {
        if inner.store.get(Table::Slices, &key.bytes())?.as_ref() != Some(record) {
            return Ok(false);
        }
    }
    let number = stage.catalog.counters.next_slice;
    stage.catalog.counters.next_slice += 1;
    let new = Slice { number, ..new };
    let key = new.key();
    stage.pending.push(key.bytes());
    commit::write_parts(stage, key, encoded);
    stage.journaled.push(Write::put(Table::Slices, key.bytes(), new.encode()));
    for (key, record) in replaced {
        stage.journaled.push(Write::put(Table::Removed, key.bytes(), record.to_vec()));
        stage.journaled.push(Write::remove(Table::Slices, key.bytes()));
    }
    Ok(true)
}

enum Found {
    Merge(Vec<Candidate>, Arc<Catalog>),
    /// There are periods left to look at.
    NothingYet,
    Nothing,
}

impl Inner {
    /// The next slices to delete, and how many there are.
    fn doomed(&self) -> Result<(Option<Doomed>, u64), LedgerError> {
        // So that no group is half in its place.
        let catalog = self.lock();
        let mut slices = VecDeque::new();
        for entry in self.store.prefix(Table::Removed, &[]).take(SWEEP_SLICES_MAX) {
            let (key, record) = entry?;
            // Its key is enough to delete what a damaged record stands for.
            let dead_rows = match Slice::decode(&key, &record) {
                Ok(slice) if slice.scopes == 0 => slice.blocks.iter().map(|part| part.rows).sum(),
                _ => 0,
            };
            let wrong = |damage| damaged("a removed slice".to_owned(), damage);
            slices.push_back((SliceKey::read(&key).map_err(wrong)?, dead_rows as u64));
        }
        let known_before = self.readers.next();
        drop(catalog);
        if slices.is_empty() {
            return Ok((None, 0));
        }
        let backlog = self.store.prefix(Table::Removed, &[]).take(BACKLOG_MAX).count();
        Ok((Some(Doomed { slices, known_before }), backlog as u64))
    }

    /// The next slices that are worth a merge.
    fn find(&self, compactor: &mut Compactor) -> Result<Found, LedgerError> {
        let mut seen = 0;
        while compactor.failed.len() < FAILED_MAX {
            let catalog = self.lock();
            let from = time_bytes(compactor.position_secs).to_vec();
            let Some(next) = self.store.range(Table::Slices, from..).next() else {
                return Ok(Found::Nothing);
            };
            let wrong = |damage| damaged("a slice".to_owned(), damage);
            let begin_secs = SliceKey::read(&next?.0).map_err(wrong)?.begin_secs;
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
    if size > MERGE_SIZE_MAX || run[0].record.is_none() {
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
