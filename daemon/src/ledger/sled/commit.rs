//! From rated slices to records: who is stored, what is written, how the cursors move.

use std::sync::Arc;

use super::block::{EncodedBlock, RowSet};
use super::catalog::{Catalog, ChainEntry, MetricNumber, Note, ScopeNumber};
use super::cursors::{self, Cursor};
use super::data::{self, DataFiles};
use super::gather::{CheckedSlice, Gathered, too_much};
use super::query::Reading;
use super::queue::Stage;
use super::rollup::{ROLLUP_SCOPES_MAX, RollupEntry, encode_rollup};
use super::runs::ScopeRuns;
use super::slice::{Part, SLICE_PARTS_MAX, Slice, part_size};
use super::store::{Store, Table, Write};
use super::texts::Texts;
use super::{COUNTERS_KEY, records, states, sums};
use crate::fault::{Step, passed};
use crate::ledger::{CommitOutcome, Fact, Failure, LedgerError, Origin, RatedSlice};
use crate::usage::Period;

/// Where rows and their texts go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Writing<'a> {
    pub(super) store: &'a Store,
    pub(super) data: &'a DataFiles,
    pub(super) texts: &'a Texts,
}

impl<'a> Writing<'a> {
    pub(super) fn reading(self, catalog: &'a Catalog) -> Reading<'a> {
        Reading { store: self.store, data: self.data, texts: self.texts, catalog }
    }
}

/// A slice whose rows are encoded for those scopes that stood at its period when it was prepared.
#[derive(Debug)]
pub(super) struct PreparedSlice {
    label: SliceLabel,
    scopes: Vec<(ScopeNumber, Fact)>,
    /// Kept for the case that somebody else moves the cursors first.
    source: RatedSlice,
    stood: Standing,
    encoded: Encoded,
}

/// What a slice's record says besides its rows.
#[derive(Debug)]
pub(super) struct SliceLabel {
    pub(super) metric: MetricNumber,
    pub(super) period: Period,
    unit: String,
    description: Option<String>,
    chain: ChainEntry,
    origin: Origin,
}

impl SliceLabel {
    pub(super) fn new(metric: MetricNumber, slice: &RatedSlice, origin: Origin) -> SliceLabel {
        SliceLabel {
            metric,
            period: slice.period,
            unit: slice.unit.clone(),
            description: slice.description.clone(),
            chain: ChainEntry::of(slice),
            origin,
        }
    }
}

/// For each scope of a slice its number, if its rows are stored.
pub(super) type Standing = Vec<Option<ScopeNumber>>;

#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) blocks: Vec<EncodedBlock>,
    pub(super) rollup: Vec<RollupEntry>,
}

impl Encoded {
    /// How many parts it takes.
    pub(super) fn parts(&self) -> usize {
        self.blocks.len() + self.rollup.len().div_ceil(ROLLUP_SCOPES_MAX)
    }

    /// Its parts, and their bytes one after the other.
    pub(super) fn into_parts(self) -> EncodedParts {
        let mut parts = EncodedParts::default();
        for entries in self.rollup.chunks(ROLLUP_SCOPES_MAX) {
            let bytes = encode_rollup(entries);
            parts.rollups.push(Part {
                rows: entries.len(),
                first_scope: entries.first().map_or(0, |entry| entry.scope),
                last_scope: entries.last().map_or(0, |entry| entry.scope),
                size: part_size(&bytes),
                with_rows: entries.iter().filter(|entry| entry.sums.rows > 0).count(),
            });
            parts.bytes.extend_from_slice(&bytes);
        }
        for block in &self.blocks {
            parts.blocks.push(block.into());
            parts.bytes.extend_from_slice(&block.bytes);
        }
        parts
    }
}

#[derive(Debug, Default)]
pub(super) struct EncodedParts {
    pub(super) rollups: Vec<Part>,
    pub(super) blocks: Vec<Part>,
    pub(super) bytes: Vec<u8>,
}

/// Checks and encodes slices in the caller's thread. `catalog` is a copy: its cursors move as the
/// slices go, so that a later slice may be the next period of an earlier one.
pub(super) fn prepare(
    writing: Writing<'_>,
    mut catalog: Catalog,
    slices: Vec<RatedSlice>,
) -> Result<Vec<PreparedSlice>, LedgerError> {
    let mut prepared = Vec::with_capacity(slices.len());
    for slice in slices {
        let unknown = || LedgerError::UnknownMetric(slice.metric.clone());
        let metric = *catalog.metric_numbers.get(&slice.metric).ok_or_else(unknown)?;
        catalog.check_chain(&ChainEntry::of(&slice))?;
        let scopes = scope_facts(&catalog, &slice)?;
        let stood = standing(&catalog, metric, slice.period, &scopes)?;
        let encoded = encode(writing, metric, &slice, &scopes, &stood)?;
        move_cursors(&mut catalog, metric, slice.period, &stood);
        prepared.push(PreparedSlice {
            label: SliceLabel::new(metric, &slice, Origin::Collected),
            scopes,
            source: slice,
            stood,
            encoded,
        });
    }
    Ok(prepared)
}

pub(super) fn scope_facts(
    catalog: &Catalog,
    slice: &RatedSlice,
) -> Result<Vec<(ScopeNumber, Fact)>, LedgerError> {
    let mut scopes = Vec::with_capacity(slice.scopes.len());
    for scope in &slice.scopes {
        let number = catalog.scope_numbers.get(&scope.id);
        let number = *number.ok_or_else(|| LedgerError::UnknownScope(scope.id.clone()))?;
        scopes.push((number, scope.fact));
    }
    Ok(scopes)
}

fn standing(
    catalog: &Catalog,
    metric: MetricNumber,
    period: Period,
    scopes: &[(ScopeNumber, Fact)],
) -> Result<Standing, LedgerError> {
    let stands = |(scope, _): &(ScopeNumber, Fact)| {
        let cursor = catalog.cursor(metric, *scope)?;
        let stands = cursor.is_some_and(|cursor| cursor.next_secs() == period.begin_secs());
        Ok(stands.then_some(*scope))
    };
    scopes.iter().map(stands).collect()
}

fn move_cursors(catalog: &mut Catalog, metric: MetricNumber, period: Period, stood: &Standing) {
    let cursors = Arc::make_mut(&mut catalog.cursors[metric as usize]);
    for scope in stood.iter().flatten() {
        cursors[*scope as usize] = Cursor::after(period.begin_secs(), period.end_secs());
    }
}

pub(super) fn encode(
    writing: Writing<'_>,
    metric: MetricNumber,
    slice: &RatedSlice,
    scopes: &[(ScopeNumber, Fact)],
    stood: &Standing,
) -> Result<Encoded, LedgerError> {
    let wrong = |kind| LedgerError::Shape { metric: slice.metric.clone(), kind };
    let checked = CheckedSlice::new(slice).map_err(wrong)?;
    let Gathered { row_sets, sums } =
        checked.gather(writing.store, writing.texts, metric, stood)?;
    let entry = |((scope, (_, fact)), sums): ((&Option<ScopeNumber>, &(ScopeNumber, Fact)), _)| {
        scope.map(|scope| RollupEntry { scope, fact: *fact, sums })
    };
    let mut rollup: Vec<_> = stood.iter().zip(scopes).zip(sums).filter_map(entry).collect();
    rollup.sort_unstable_by_key(|entry| entry.scope);
    let blocks = row_sets.iter().flat_map(RowSet::encode).collect();
    let encoded = Encoded { blocks, rollup };
    too_much("parts of rows of different scales in a slice", encoded.parts(), SLICE_PARTS_MAX)
        .map_err(wrong)?;
    Ok(encoded)
}

/// Bytes that the rows of a slice take in blocks.
pub(super) fn encoded_size(
    writing: Writing<'_>,
    catalog: &Catalog,
    slice: &RatedSlice,
) -> Result<usize, LedgerError> {
    let unknown = || LedgerError::UnknownMetric(slice.metric.clone());
    let metric = *catalog.metric_numbers.get(&slice.metric).ok_or_else(unknown)?;
    let scopes = scope_facts(catalog, slice)?;
    let all: Standing = scopes.iter().map(|(scope, _)| Some(*scope)).collect();
    let encoded = encode(writing, metric, slice, &scopes, &all)?;
    Ok(encoded.blocks.iter().map(|block| block.bytes.len()).sum())
}

/// Puts slices into the group.
pub(super) fn stage(
    writing: Writing<'_>,
    stage: &mut Stage,
    prepared: &mut [PreparedSlice],
) -> Result<Vec<CommitOutcome>, LedgerError> {
    // All that may fail comes before the first change.
    let mut catalog = stage.catalog.clone();
    let is_one_of_many = prepared.len() > 1;
    for PreparedSlice { label, scopes, source, stood, encoded } in &mut *prepared {
        let now = standing(&catalog, label.metric, label.period, scopes)?;
        if now != *stood {
            *encoded = encode(writing, label.metric, source, scopes, &now)?;
            *stood = now;
        }
        if is_one_of_many {
            move_cursors(&mut catalog, label.metric, label.period, stood);
        }
    }
    drop(catalog);
    Ok(prepared.iter_mut().map(|slice| add_prepared(stage, slice)).collect())
}

fn add_prepared(stage: &mut Stage, prepared: &mut PreparedSlice) -> CommitOutcome {
    let SliceLabel { metric, period, .. } = prepared.label;
    let encoded = std::mem::take(&mut prepared.encoded);
    if encoded.rollup.is_empty() {
        return CommitOutcome { scopes_stored: 0, rows_stored: 0 };
    }
    let outcome = CommitOutcome {
        scopes_stored: encoded.rollup.len(),
        rows_stored: encoded.blocks.iter().map(|block| block.rows).sum(),
    };
    let scopes: Vec<ScopeNumber> = encoded.rollup.iter().map(|entry| entry.scope).collect();
    add_slice(stage, &prepared.label, encoded);
    move_cursors(&mut stage.catalog, metric, period, &prepared.stood);
    remove_notes(stage, metric, &scopes);
    passed(Step::ChangeCommit);
    outcome
}

/// A new slice that readers will see.
pub(super) fn add_slice(stage: &mut Stage, label: &SliceLabel, encoded: Encoded) {
    let slice = describe(stage, label, encoded);
    sums::forget(stage, slice.period.begin_secs());
    stage.catalog.counters.rows += slice.rows;
    stage.journaled.push(Write::put(Table::Slices, slice.key().bytes(), slice.encode()));
}

/// The record of a new slice, with a number of its own, its parts on their way into a data file.
pub(super) fn describe(stage: &mut Stage, label: &SliceLabel, encoded: Encoded) -> Slice {
    let sums = || encoded.rollup.iter().map(|entry| entry.sums);
    let number = stage.catalog.counters.next_slice;
    stage.catalog.counters.next_slice += 1;
    let mut slice = Slice {
        period: label.period,
        metric: label.metric,
        number,
        unit: label.unit.clone(),
        description: label.description.clone(),
        chain: chain_number(stage, &label.chain),
        scopes: encoded.rollup.len() as u64,
        rows: sums().map(|sums| sums.rows).sum(),
        qty: sums().map(|sums| sums.qty).sum(),
        price: sums().map(|sums| sums.price).sum(),
        rollups: Vec::new(),
        blocks: Vec::new(),
        origin: label.origin,
        removed: ScopeRuns::default(),
        order: number,
        file: 0,
        offset: 0,
    };
    let parts = encoded.into_parts();
    (slice.rollups, slice.blocks) = (parts.rollups, parts.blocks);
    data::place(stage, &mut slice, parts.bytes);
    slice
}

fn chain_number(stage: &mut Stage, chain: &ChainEntry) -> u32 {
    if let Some(number) = stage.catalog.number_of_chain(chain) {
        return number;
    }
    let chains = Arc::make_mut(&mut stage.catalog.chains);
    let number = u32::try_from(chains.len()).expect("a chain is added when rules change");
    chains.push(chain.clone());
    let key = number.to_be_bytes().to_vec();
    stage.journaled.push(Write::put(Table::Chains, key, records::encode_chain(chain)));
    number
}

/// The records that change with nearly every group.
pub(super) fn write_counters(stage: &mut Stage, before: &Catalog) {
    data::write_changed(stage);
    if stage.catalog.counters != before.counters {
        let record = records::encode_counters(stage.catalog.counters);
        stage.journaled.push(Write::put(Table::Meta, COUNTERS_KEY.to_vec(), record));
    }
    for (number, cursors) in (0_u32..).zip(&stage.catalog.cursors) {
        let old = before.cursors.get(number as usize);
        if old.is_none_or(|old| !Arc::ptr_eq(old, cursors)) {
            let record = cursors::encode(cursors);
            let writes = states::put_long(Table::Cursors, &number.to_be_bytes(), &record);
            stage.journaled.extend(writes);
        }
    }
}

fn note_key(metric: MetricNumber, note: u64) -> Vec<u8> {
    [metric.to_be_bytes().as_slice(), &note.to_be_bytes()].concat()
}

pub(super) fn remove_notes(stage: &mut Stage, metric: MetricNumber, scopes: &[ScopeNumber]) {
    let of_metric = stage.catalog.notes.by_metric.get(&metric);
    let is_noted = |notes: &super::catalog::MetricNotes| {
        scopes.iter().any(|scope| notes.of_scope.contains_key(scope))
    };
    if !of_metric.is_some_and(is_noted) {
        return;
    }
    let notes = Arc::make_mut(&mut stage.catalog.notes);
    let Some(of_metric) = notes.by_metric.get_mut(&metric) else { return };
    let mut touched = std::collections::BTreeSet::new();
    for scope in scopes {
        touched.extend(of_metric.of_scope.remove(scope));
    }
    for number in touched {
        let Some(note) = of_metric.notes.get_mut(&number) else { continue };
        note.scopes.retain(|scope| of_metric.of_scope.get(scope) == Some(&number));
        let key = note_key(metric, number);
        if note.scopes.is_empty() {
            of_metric.notes.remove(&number);
            stage.journaled.push(Write::remove(Table::Notes, key));
        } else {
            let record = records::encode_note(note);
            stage.journaled.push(Write::put(Table::Notes, key, record));
        }
    }
}

/// Longest reason that is kept, bytes.
const REASON_SIZE_MAX: usize = 1024;
/// Most scopes of one note, so that its record stays small.
const NOTE_SCOPES_MAX: usize = 4096;

pub(super) fn note_failure(stage: &mut Stage, failure: &Failure) -> Result<(), LedgerError> {
    let catalog = &stage.catalog;
    let unknown = || LedgerError::UnknownMetric(failure.metric.clone());
    let metric = *catalog.metric_numbers.get(&failure.metric).ok_or_else(unknown)?;
    let mut scopes = Vec::with_capacity(failure.scopes.len());
    for scope in &failure.scopes {
        let number = catalog.scope_numbers.get(scope);
        scopes.push(*number.ok_or_else(|| LedgerError::UnknownScope(scope.clone()))?);
    }
    scopes.sort_unstable();
    scopes.dedup();
    remove_notes(stage, metric, &scopes);
    let mut reason = failure.reason.clone();
    reason.truncate(reason.floor_char_boundary(REASON_SIZE_MAX));
    for scopes in scopes.chunks(NOTE_SCOPES_MAX) {
        let note = Note {
            begin_secs: failure.period.begin_secs(),
            end_secs: failure.period.end_secs(),
            attempts: failure.attempts,
            at_secs: failure.at.timestamp(),
            reason: reason.clone(),
            scopes: scopes.to_vec(),
        };
        let number = stage.catalog.counters.next_note;
        stage.catalog.counters.next_note += 1;
        let write = Write::put(Table::Notes, note_key(metric, number), records::encode_note(&note));
        stage.journaled.push(write);
        let notes = Arc::make_mut(&mut stage.catalog.notes);
        let of_metric = notes.by_metric.entry(metric).or_default();
        of_metric.of_scope.extend(note.scopes.iter().map(|scope| (*scope, number)));
        of_metric.notes.insert(number, note);
    }
    passed(Step::ChangeFailureNoted);
    Ok(())
}
