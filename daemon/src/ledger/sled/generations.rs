//! What a reprocessing has replaced: the figures from before, by scope, metric and period.
//!
//! ```text
//! tree         key                       record
//! generations  id:u64be (slice's key)    as in `slices`, without blocks
//! ```
//!
//! `id` is that of the reprocessing. When a scope is staged, what was collected of the same metric
//! and period is written down in the same change: until the reprocessing is finished nothing else
//! can replace it, and a reset takes it out of both. Scopes of which nothing was there are written
//! down with nothing. The end of the reprocessing takes out those that it has not replaced in the
//! end. From then on the figures can be compared; readers of reports begin at `slices` and never
//! come here.
//!
//! Of each scope, metric and period as many generations are kept as the configuration says, that of
//! now counted; `compaction` drops the others. Their rollups stand in data files as those of slices
//! do; rows are not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::{Catalog, MetricNumber, ReprocessingEntry, ScopeNumber};
use super::commit::Encoded;
use super::gather::ScopeSums;
use super::inner::Inner;
use super::ledger::SledLedger;
use super::query::Reading;
use super::queue::{Company, Stage};
use super::reprocessing::{staged_key, within};
use super::rollup::RollupEntry;
use super::runs::ScopeRuns;
use super::slice::{Slice, SliceKey};
use super::space::Share;
use super::store::{Table, Write};
use super::{data, removal, reprocessing};
use crate::fault::{Step, passed};
use crate::ledger::{Fact, Generation, LedgerError, Origin};
use crate::usage::Period;

/// So many slices are looked at in one step of compaction.
const STEP_SLICES: usize = 256;

/// Old figures on their way into the ledger.
#[derive(Debug)]
pub(super) struct Captured {
    /// Its parts, number and place still to be given.
    slice: Slice,
    entries: Vec<RollupEntry>,
}

/// What was collected of some scopes (ascending) that begins within a period.
pub(super) fn capture(
    reading: Reading<'_>,
    (metric, period): (MetricNumber, Period),
    scopes: &[ScopeNumber],
) -> Result<Vec<Captured>, LedgerError> {
    let mut captured = Vec::new();
    let mut missing: BTreeSet<ScopeNumber> = scopes.iter().copied().collect();
    for slice in reading.slices_between(period.begin_secs(), period.end_secs()) {
        let slice = slice?;
        if slice.origin != Origin::Collected || slice.metric != metric {
            continue;
        }
        let mut entries = Vec::new();
        for part in 0..slice.rollups.len() {
            let found = reading.rollup(&slice, part)?.into_iter();
            entries.extend(found.filter(|entry| scopes.binary_search(&entry.scope).is_ok()));
        }
        for entry in &entries {
            missing.remove(&entry.scope);
        }
        if !entries.is_empty() {
            captured.push(Captured { slice, entries });
        }
    }
    let nothing = |scope| RollupEntry { scope, fact: Fact::NoData, sums: ScopeSums::default() };
    let entries: Vec<RollupEntry> = missing.into_iter().map(nothing).collect();
    if !entries.is_empty() {
        captured.push(Captured { slice: empty(metric, period), entries });
    }
    Ok(captured)
}

fn empty(metric: MetricNumber, period: Period) -> Slice {
    Slice {
        period,
        metric,
        number: 0,
        unit: String::new(),
        description: None,
        chain: 0,
        scopes: 0,
        rows: 0,
        qty: ScopeSums::default().qty,
        price: ScopeSums::default().price,
        rollups: Vec::new(),
        blocks: Vec::new(),
        origin: Origin::Collected,
        removed: ScopeRuns::default(),
        order: 0,
        file: 0,
        offset: 0,
    }
}

pub(super) fn put(stage: &mut Stage, id: u64, captured: Captured) {
    let Captured { mut slice, entries } = captured;
    let sums: ScopeSums = entries.iter().map(|entry| entry.sums).sum();
    slice.number = stage.catalog.counters.next_slice;
    stage.catalog.counters.next_slice += 1;
    slice.scopes = entries.len() as u64;
    (slice.rows, slice.qty, slice.price) = (sums.rows, sums.qty, sums.price);
    slice.removed = ScopeRuns::default();
    let parts = Encoded { blocks: Vec::new(), rollup: entries }.into_parts();
    (slice.rollups, slice.blocks) = (parts.rollups, Vec::new());
    data::place(stage, &mut slice, parts.bytes);
    let key = staged_key(id, slice.key());
    stage.journaled.push(Write::put(Table::Generations, key, slice.encode()));
}

/// Old figures of a reprocessing whose periods begin in a range, by period.
pub(super) fn between(
    reading: Reading<'_>,
    id: u64,
    (begin_secs, end_secs): (i64, i64),
) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'_> {
    let first = SliceKey { begin_secs, metric: 0, number: 0 };
    let end = SliceKey { begin_secs: end_secs, metric: 0, number: 0 };
    within(reading, Table::Generations, staged_key(id, first)..staged_key(id, end))
}

/// The reprocessings of which figures are written down, in order of creation: as many looks as
/// there are, however many have ended without.
pub(super) fn ids(reading: Reading<'_>) -> impl Iterator<Item = Result<u64, LedgerError>> {
    let mut next = Some(0_u64);
    std::iter::from_fn(move || {
        let from = next?.to_be_bytes().to_vec();
        let found = reading.store.range(Table::Generations, from..).next()?;
        let id = found.map(|(key, _)| key.first_chunk::<8>().map(|id| u64::from_be_bytes(*id)));
        next = id.as_ref().ok().copied().flatten().and_then(|id| id.checked_add(1));
        id.transpose()
    })
}

/// Those of them with something that may begin in a range.
pub(super) fn ids_between(
    reading: Reading<'_>,
    (begin_secs, end_secs): (i64, i64),
) -> impl Iterator<Item = Result<u64, LedgerError>> + use<'_> {
    ids(reading).filter(move |id| {
        let entry = id.as_ref().ok().and_then(|id| reading.catalog.reprocessings.get(id));
        entry.is_none_or(|entry| entry.meets(begin_secs, end_secs))
    })
}

/// Takes scopes out of what a reprocessing has written down, at its end: by metric and period.
pub(super) fn without(
    reading: Reading<'_>,
    id: u64,
    dropped: &BTreeMap<(MetricNumber, Period), Vec<ScopeNumber>>,
) -> Result<Vec<Slice>, LedgerError> {
    let mut changed = Vec::new();
    for ((metric, period), scopes) in dropped {
        for slice in between(reading, id, (period.begin_secs(), period.end_secs())) {
            let mut slice = slice?;
            let is_it = slice.metric == *metric;
            if is_it && removal::leave_out(reading, &mut slice, scopes)?.is_some() {
                changed.push(slice);
            }
        }
    }
    Ok(changed)
}

/// The same of all reprocessings, for periods that begin then or later.
pub(super) fn without_from(
    reading: Reading<'_>,
    scopes: &[ScopeNumber],
    from_secs: i64,
) -> Result<Vec<(u64, Slice)>, LedgerError> {
    let mut changed = Vec::new();
    for id in ids_between(reading, (from_secs, i64::MAX)) {
        let id = id?;
        for slice in between(reading, id, (from_secs, i64::MAX)) {
            let mut slice = slice?;
            if removal::leave_out(reading, &mut slice, scopes)?.is_some() {
                changed.push((id, slice));
            }
        }
    }
    Ok(changed)
}

pub(super) fn write(stage: &mut Stage, id: u64, slice: &Slice) {
    reprocessing::write_slice(stage, Table::Generations, id, slice);
}

/// How far compaction has looked.
#[derive(Debug, Default)]
pub(super) struct Progress {
    key: Vec<u8>,
    /// How many reprocessings were finished when the pass began.
    finished: u64,
    /// Nothing is beyond the limit until another reprocessing is finished.
    is_done: bool,
    /// Nobody comes behind a torn page; the next pass tries.
    is_torn: bool,
}

impl Progress {
    /// The next pass begins.
    pub(super) fn begin_pass(&mut self, catalog: &Catalog) {
        let finished = catalog.reprocessings_finished;
        if !self.is_done || self.finished != finished {
            *self = Progress { finished, ..Progress::default() };
        }
    }
}

/// A record with fewer scopes than it had.
struct Thinned {
    id: u64,
    slice: Slice,
    record: sled::IVec,
}

impl SledLedger {
    /// Drops generations that are more than is kept. How many slices were looked at; `None` = all
    /// were.
    pub(super) fn drop_generations(
        &self,
        progress: &mut Progress,
    ) -> Result<Option<u64>, LedgerError> {
        if progress.is_done || progress.is_torn {
            return Ok(None);
        }
        let presence = self.inner.readers.enter();
        let (catalog, records) = {
            let catalog = self.inner.lock();
            let entries = self.inner.store.range(Table::Generations, progress.key.clone()..);
            let records: Result<Vec<_>, LedgerError> = entries.take(STEP_SLICES).collect();
            (Arc::clone(&catalog), records.inspect_err(|_| progress.is_torn = true)?)
        };
        let Some((last, _)) = records.last() else {
            progress.is_done = true;
            return Ok(None);
        };
        progress.key = [last.as_ref(), &[0]].concat();
        let seen = records.len() as u64;
        let reading = self.inner.reading(&catalog);
        let mut thinned = Vec::new();
        for (key, record) in records {
            let Some((id, slice_key)) = key.split_first_chunk::<8>() else { continue };
            let id = u64::from_be_bytes(*id);
            let mut slice = reading.slice(slice_key, &record)?;
            let scopes = self.inner.beyond_limit(reading, id, &slice)?;
            if removal::leave_out(reading, &mut slice, &scopes)?.is_some() {
                thinned.push(Thinned { id, slice, record });
            }
        }
        drop(presence);
        if !thinned.is_empty() {
            let inner = Arc::clone(&self.inner);
            self.change_with(Company::Alone, move |stage: &mut Stage| {
                stage.share = Share::Half;
                // All that may fail comes before the first change.
                let mut as_they_were = Vec::new();
                for Thinned { id, slice, record } in thinned {
                    let key = staged_key(id, slice.key());
                    // A reset may have been faster.
                    if inner.store.get(Table::Generations, &key)?.as_ref() == Some(&record) {
                        as_they_were.push((id, slice));
                    }
                }
                for (id, slice) in as_they_were {
                    write(stage, id, &slice);
                }
                passed(Step::ChangeGenerationsDropped);
                Ok(())
            })?;
        }
        Ok(Some(seen))
    }
}

impl Inner {
    /// The scopes of which enough newer generations are kept, ascending.
    fn beyond_limit(
        &self,
        reading: Reading<'_>,
        id: u64,
        slice: &Slice,
    ) -> Result<Vec<ScopeNumber>, LedgerError> {
        let begin_secs = slice.period.begin_secs();
        let is_finished = |entry: &ReprocessingEntry| entry.finished;
        if !reading.catalog.reprocessings.get(&id).is_some_and(is_finished) {
            return Ok(Vec::new());
        }
        // That of now counts.
        let kept = self.keep_generations.saturating_sub(1) as usize;
        let mut newer: BTreeMap<ScopeNumber, usize> = BTreeMap::new();
        if kept == 0 {
            for part in 0..slice.rollups.len() {
                newer.extend(reading.rollup(slice, part)?.iter().map(|entry| (entry.scope, 0)));
            }
        }
        let newer_ones = reading.catalog.reprocessings.range(id + 1..).filter(|(_, entry)| {
            entry.finished && entry.meets(begin_secs, begin_secs.saturating_add(1))
        });
        for (other, _) in newer_ones.take_while(|_| kept > 0) {
            for found in between(reading, *other, (begin_secs, begin_secs.saturating_add(1))) {
                let found = found?;
                for part in 0..found.rollups.len() {
                    if found.metric != slice.metric {
                        break;
                    }
                    for entry in reading.rollup(&found, part)? {
                        *newer.entry(entry.scope).or_default() += 1;
                    }
                }
            }
        }
        let beyond = newer.into_iter().filter(|(_, count)| *count >= kept);
        Ok(beyond.map(|(scope, _)| scope).collect())
    }

    /// Finished reprocessings with figures from before, the oldest first.
    pub(super) fn generations(&self) -> Result<Vec<Generation>, LedgerError> {
        let catalog = self.lock_whole()?;
        catalog.holes.check(Table::Reprocessings)?;
        let reading = self.reading(&catalog);
        let mut generations = Vec::new();
        for id in ids(reading) {
            let id = id?;
            let entry = catalog.reprocessings.get(&id).filter(|entry| entry.finished);
            let Some(entry) = entry else { continue };
            let reprocessing = reprocessing::describe(&catalog, id, entry)?;
            generations.push(Generation {
                id,
                reason: reprocessing.reason,
                start: reprocessing.start,
                end: reprocessing.end,
                at: reprocessing.at,
                scopes: reprocessing.scopes,
            });
        }
        Ok(generations)
    }

    /// Whether anything is kept from before a reprocessing.
    pub(super) fn has_generation(&self, id: u64) -> Result<bool, LedgerError> {
        let catalog = self.lock_whole()?;
        catalog.holes.check(Table::Reprocessings)?;
        let is_finished = catalog.reprocessings.get(&id).is_some_and(|entry| entry.finished);
        let mut kept = between(self.reading(&catalog), id, (i64::MIN, i64::MAX));
        Ok(is_finished && kept.next().transpose()?.is_some())
    }
}
