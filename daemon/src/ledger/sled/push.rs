//! Rows from outside: what is stored of a push, and how a repeated one is known.
//!
//! ```text
//! key  = the client's
//! push = frame('Y', 1) digest at:time rows:uint author:text      (32 bytes of digest)
//! ```
//!
//! Scopes and metrics that a push brings are added before it, in a change of their own: nobody sees
//! them as long as they have no rows.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use super::catalog::{Catalog, ChainEntry, ScopeEntry};
use super::codec::{Damage, Kind, Reader, Writer};
use super::commit::{self, Encoded, SliceLabel, Standing, Writing};
use super::cursors::SCOPES_MAX;
use super::gather::too_much;
use super::queue::Stage;
use super::store::{Store, Table, Write, damaged};
use super::{records, scopes};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Origin, Push, PushKey, PushOutcome, RatedSlice, ShapeErrorKind};
use crate::usage::{MetricId, ScopeId};

const PUSH: Kind = Kind(b'Y', 1);

/// Most rows of one slice: more of them are several slices, so that what they need on their way is
/// needed for so many only.
pub(super) const SLICE_ROWS_MAX: usize = 128 << 10;
/// Most metric types of a ledger to which a push may add one.
const METRICS_MAX: usize = 10_000;
/// Longest metric type, unit and scope key, bytes.
const NAME_SIZE_MAX: usize = 255;
const DESCRIPTION_SIZE_MAX: usize = 4096;
/// Longest author that is kept, bytes.
const AUTHOR_SIZE_MAX: usize = 255;

pub(super) fn check_record(bytes: &[u8]) -> Result<(), Damage> {
    decode_digest(bytes).map(|_| ())
}

/// What is known of a push by its key. `None` = nothing.
pub(super) fn known(store: &Store, key: &PushKey) -> Result<Option<PushOutcome>, LedgerError> {
    let Some(bytes) = store.get(Table::Pushes, key.key.as_bytes())? else { return Ok(None) };
    let digest = decode_digest(&bytes);
    let digest = digest.map_err(|damage| damaged(format!("push `{}`", key.key), damage))?;
    Ok(Some(outcome(digest, key)))
}

fn outcome(digest: [u8; 32], key: &PushKey) -> PushOutcome {
    if digest == key.digest { PushOutcome::Known } else { PushOutcome::KeyTaken }
}

pub(super) fn decode_digest(bytes: &[u8]) -> Result<[u8; 32], Damage> {
    let digest = Reader::framed(PUSH, bytes)?.raw(32)?;
    digest.try_into().map_err(|_| Damage("its digest is too short"))
}

/// When it was pushed.
pub(super) fn decode_time(bytes: &[u8]) -> Result<DateTime<Utc>, Damage> {
    let mut record = Reader::framed(PUSH, bytes)?;
    record.raw(32)?;
    records::read_time(&mut record)
}

/// The scopes and metrics of a push that the ledger does not have.
#[derive(Debug)]
pub(super) struct Newcomers {
    scopes: BTreeSet<ScopeId>,
    scope_key: String,
    metrics: BTreeSet<MetricId>,
    at: DateTime<Utc>,
}

impl Newcomers {
    /// `None` = everybody is there.
    pub(super) fn of(push: &Push, catalog: &Catalog) -> Result<Option<Newcomers>, LedgerError> {
        let mut scopes = BTreeSet::new();
        let mut metrics = BTreeSet::new();
        for slice in &push.slices {
            check(slice, &push.scope_key)
                .map_err(|kind| LedgerError::Shape { metric: slice.metric.clone(), kind })?;
            if !catalog.metric_numbers.contains_key(&slice.metric) {
                metrics.insert(slice.metric.clone());
            }
            let ids = slice.scopes.iter().map(|scope| &scope.id);
            scopes.extend(ids.filter(|id| !catalog.scope_numbers.contains_key(*id)).cloned());
        }
        if scopes.is_empty() && metrics.is_empty() {
            return Ok(None);
        }
        // They may be those whose records are damaged.
        if !scopes.is_empty() {
            catalog.is_to_grow()?;
        }
        if !metrics.is_empty() {
            catalog.holes.check(Table::Metrics)?;
        }
        let (scope_key, at) = (push.scope_key.clone(), push.at);
        Ok(Some(Newcomers { scopes, scope_key, metrics, at }))
    }

    pub(super) fn add(&self, stage: &mut Stage) -> Result<(), LedgerError> {
        let (metrics, scopes) = (stage.catalog.metrics.len(), stage.catalog.scopes.len());
        if let Some(metric) = self.metrics.first() {
            let fits = too_much("metric types", metrics + self.metrics.len(), METRICS_MAX);
            fits.map_err(|kind| LedgerError::Shape { metric: metric.clone(), kind })?;
        }
        if scopes + self.scopes.len() > SCOPES_MAX {
            let source = format!("a ledger has at most {SCOPES_MAX} scopes");
            return Err(LedgerError::Store(source.into()));
        }
        for metric in &self.metrics {
            scopes::number_of(stage, metric);
        }
        for id in &self.scopes {
            if !stage.catalog.scope_numbers.contains_key(id) {
                scopes::put(stage, ScopeEntry::pushed(id, &self.scope_key, self.at));
            }
        }
        passed(Step::ChangeNewcomers);
        Ok(())
    }
}

fn check(slice: &RatedSlice, scope_key: &str) -> Result<(), ShapeErrorKind> {
    let description = slice.description.as_deref().unwrap_or_default();
    too_much("bytes in a metric type", slice.metric.alt_name.len(), NAME_SIZE_MAX)?;
    too_much("bytes in a unit", slice.unit.len(), NAME_SIZE_MAX)?;
    too_much("bytes in a scope key", scope_key.len(), NAME_SIZE_MAX)?;
    too_much("bytes in a description", description.len(), DESCRIPTION_SIZE_MAX)
}

/// A push, encoded.
#[derive(Debug)]
pub(super) struct PreparedPush {
    slices: Vec<(SliceLabel, Encoded)>,
    key: Option<PushKey>,
    record: Vec<u8>,
    rows: usize,
}

/// Encodes in the caller's thread, and lets go of the rows slice by slice.
pub(super) fn prepare(
    writing: Writing<'_>,
    catalog: &Catalog,
    push: Push,
) -> Result<PreparedPush, LedgerError> {
    let mut slices = Vec::new();
    for slice in push.slices {
        let unknown = || LedgerError::UnknownMetric(slice.metric.clone());
        let metric = *catalog.metric_numbers.get(&slice.metric).ok_or_else(unknown)?;
        catalog.check_chain(&ChainEntry::of(&slice))?;
        for slice in split(slice) {
            let facts = commit::scope_facts(catalog, &slice)?;
            let all: Standing = facts.iter().map(|(scope, _)| Some(*scope)).collect();
            let mut encoded = commit::encode(writing, metric, &slice, &facts, &all)?;
            // A push says nothing of scopes that have no rows in it.
            encoded.rollup.retain(|entry| entry.sums.rows > 0);
            if !encoded.rollup.is_empty() {
                slices.push((SliceLabel::new(metric, &slice, Origin::Pushed), encoded));
            }
        }
    }
    let blocks = slices.iter().flat_map(|(_, encoded)| &encoded.blocks);
    let rows = blocks.map(|block| block.rows).sum();
    let mut author = push.author;
    author.truncate(author.floor_char_boundary(AUTHOR_SIZE_MAX));
    let mut record = Writer::framed(PUSH);
    record.raw(&push.key.as_ref().map_or([0; 32], |key| key.digest));
    records::write_time(&mut record, push.at);
    record.count(rows);
    record.text(&author);
    Ok(PreparedPush { slices, key: push.key, record: record.seal(), rows })
}

/// Slices with the same label that have so many rows as go through memory at once.
pub(super) fn split(slice: RatedSlice) -> impl Iterator<Item = RatedSlice> {
    let RatedSlice { rows, .. } = slice;
    let slice = RatedSlice { rows: Vec::new(), ..slice };
    let mut batches = rows.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut rows = Vec::new();
        let mut room = SLICE_ROWS_MAX;
        while room > 0
            && let Some(batch) = batches.peek_mut()
        {
            let taken = batch.slice(0, room.min(batch.num_rows()));
            let left = batch.slice(taken.num_rows(), batch.num_rows() - taken.num_rows());
            room -= taken.num_rows();
            rows.push(taken);
            if left.num_rows() > 0 {
                *batch = left;
            } else {
                batches.next();
            }
        }
        (!rows.is_empty()).then(|| RatedSlice { rows, ..slice.clone() })
    })
}

impl PreparedPush {
    pub(super) fn stage(
        self,
        store: &Store,
        stage: &mut Stage,
    ) -> Result<PushOutcome, LedgerError> {
        if let Some(key) = self.key {
            if let Some(digest) = stage.push_keys.get(&key.key) {
                return Ok(outcome(*digest, &key));
            }
            if let Some(known) = known(store, &key)? {
                return Ok(known);
            }
            let write = Write::put(Table::Pushes, key.key.as_bytes().to_vec(), self.record);
            stage.journaled.push(write);
            stage.push_keys.insert(key.key, key.digest);
        }
        for (label, encoded) in self.slices {
            commit::add_slice(stage, &label, encoded);
        }
        passed(Step::ChangePush);
        Ok(PushOutcome::Stored { rows: self.rows })
    }
}
