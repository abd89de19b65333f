//! Reprocessings: which there are, and what is staged of them.
//!
//! ```text
//! tree           key                       record
//! reprocessings  id:u64be part:u16be       long(frame('T', 1) start:time end:time at:time
//!                                          ( 0 | 1 current:time ) finished:u8 reason:text
//!                                          author:text packed({ scope:uint }))
//! staged         id:u64be (slice's key)    as in `slices`
//! ```
//!
//! A staged slice has its rollups and blocks in the data files like every slice; no reader comes
//! there, because they begin at `slices`.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::catalog::{Catalog, ChainEntry, ReprocessingEntry, ScopeNumber};
use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::commit::{self, Encoded, SliceLabel, Standing, Writing};
use super::data;
use super::holes::Holes;
use super::query::Reading;
use super::queue::Stage;
use super::slice::{Slice, SliceKey};
use super::store::{Store, Table, Write};
use super::{generations, load, records, states};
use crate::fault::{Step, passed};
use crate::ledger::{
    Fact, Held, LedgerError, NewReprocessing, OpenReprocessings, Origin, RatedSlice, Reprocessing,
};
use crate::usage::ScopeId;

const REPROCESSING: Kind = Kind(b'T', 1);

/// Most reprocessings that are under way or wait; each is looked at whenever one is chosen.
pub(super) const UNFINISHED_MAX: usize = if cfg!(test) { 64 } else { 10_000 };

pub(super) fn encode(entry: &ReprocessingEntry) -> Vec<u8> {
    let mut writer = Writer::framed(REPROCESSING);
    for time in [entry.start, entry.end, entry.at] {
        records::write_time(&mut writer, time);
    }
    writer.u8(u8::from(entry.current.is_some()));
    if let Some(current) = entry.current {
        records::write_time(&mut writer, current);
    }
    writer.u8(u8::from(entry.finished));
    writer.text(&entry.reason);
    writer.text(&entry.author);
    let mut scopes = Writer::new();
    for scope in entry.scopes.iter() {
        scopes.uint(u64::from(*scope));
    }
    pack(&mut writer, &scopes.into_bytes());
    writer.seal()
}

pub(super) fn decode(bytes: &[u8]) -> Result<ReprocessingEntry, Damage> {
    let mut reader = Reader::framed(REPROCESSING, bytes)?;
    let mut entry = ReprocessingEntry {
        start: records::read_time(&mut reader)?,
        end: records::read_time(&mut reader)?,
        at: records::read_time(&mut reader)?,
        ..ReprocessingEntry::default()
    };
    if records::read_bool(&mut reader)? {
        entry.current = Some(records::read_time(&mut reader)?);
    }
    entry.finished = records::read_bool(&mut reader)?;
    reader.text()?.clone_into(&mut entry.reason);
    reader.text()?.clone_into(&mut entry.author);
    let scopes = Packed::read(&mut reader)?.unpack()?;
    reader.end()?;
    let mut scopes = Reader::new(&scopes);
    let mut numbers = Vec::new();
    while !scopes.is_empty() {
        numbers.push(scopes.u32()?);
    }
    entry.scopes = numbers.into();
    Ok(entry)
}

pub(super) fn check_record(bytes: &[u8]) -> Result<(), Damage> {
    decode(bytes).map(|_| ())
}

/// The slice's key in the key of a staged one.
pub(super) fn slice_key_of(key: &[u8]) -> &[u8] {
    key.get(8..).unwrap_or_default()
}

pub(super) fn load(
    store: &Store,
    catalog: &mut Catalog,
    holes: &mut Holes,
) -> Result<(), LedgerError> {
    let table = Table::Reprocessings;
    let mut ids = BTreeSet::new();
    for entry in store.range_as_it_is(table, ..) {
        let Some((key, _)) = holes.take(table, &[], entry)? else { break };
        if let Some(id) = key.first_chunk::<8>() {
            ids.insert(u64::from_be_bytes(*id));
        } else {
            let damage = Damage("its key is too short");
            holes.add(table, &[], "a reprocessing".to_owned(), damage);
        }
    }
    let count = catalog.scopes.len();
    let reprocessings = Arc::make_mut(&mut catalog.reprocessings);
    for id in ids {
        let key = id.to_be_bytes();
        let place = || format!("reprocessing {id}");
        let bytes = states::get_long_as_it_is(store, table, &key);
        let Some(bytes) = holes.take(table, &key, bytes)? else { continue };
        let decoded = match bytes.as_deref().map(decode) {
            None => Err(Damage("it is missing")),
            Some(Ok(entry)) if entry.scopes.iter().any(|scope| *scope as usize >= count) => {
                Err(Damage("it names a scope that is not there"))
            }
            Some(decoded) => decoded,
        };
        match decoded {
            Ok(entry) => {
                reprocessings.insert(id, entry);
            }
            Err(damage) => holes.add(table, &key, place(), damage),
        }
    }
    load::check_table(store, table, holes);
    Ok(())
}

pub(super) fn list(catalog: &Catalog) -> Result<Vec<Reprocessing>, LedgerError> {
    catalog.holes.check(Table::Reprocessings)?;
    let all = catalog.reprocessings.iter();
    all.map(|(id, entry)| describe(catalog, *id, entry)).collect()
}

/// Beside damage of a scope those go on that do not have it: no two that are open have a period of
/// a scope in common (`add`), so none can overtake one that waits.
pub(super) fn list_open(catalog: &Catalog) -> Result<OpenReprocessings, LedgerError> {
    catalog.holes.check(Table::Reprocessings)?;
    let mut list = OpenReprocessings::default();
    for (id, entry) in catalog.reprocessings.iter().filter(|(_, entry)| !entry.finished) {
        match describe(catalog, *id, entry) {
            Ok(one) => list.open.push(one),
            Err(LedgerError::Damaged { place, detail }) => {
                list.held.insert(*id, Held { place, detail });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(list)
}

pub(super) fn describe(
    catalog: &Catalog,
    id: u64,
    entry: &ReprocessingEntry,
) -> Result<Reprocessing, LedgerError> {
    let id_of = |scope: &ScopeNumber| {
        catalog.check_scope(*scope)?;
        Ok(catalog.scopes[*scope as usize].id.clone())
    };
    Ok(Reprocessing {
        id,
        scopes: entry.scopes.iter().map(id_of).collect::<Result<_, LedgerError>>()?,
        reason: entry.reason.clone(),
        start: entry.start,
        end: entry.end,
        at: entry.at,
        author: entry.author.clone(),
        current: entry.current,
        finished: entry.finished,
    })
}

/// One that is not finished.
pub(super) fn open_entry(catalog: &Catalog, id: u64) -> Result<&ReprocessingEntry, LedgerError> {
    catalog.holes.check_at(Table::Reprocessings, &id.to_be_bytes())?;
    let entry = catalog.reprocessings.get(&id).filter(|entry| !entry.finished);
    entry.ok_or(LedgerError::UnknownReprocessing(id))
}

pub(super) fn put(stage: &mut Stage, id: u64, entry: ReprocessingEntry) {
    let writes = states::put_long(Table::Reprocessings, &id.to_be_bytes(), &encode(&entry));
    stage.journaled.extend(writes);
    Arc::make_mut(&mut stage.catalog.reprocessings).insert(id, entry);
}

fn next_id(catalog: &Catalog) -> u64 {
    catalog.reprocessings.last_key_value().map_or(1, |(last, _)| last + 1)
}

pub(super) fn add(stage: &mut Stage, new: &NewReprocessing) -> Result<u64, LedgerError> {
    stage.catalog.holes.check(Table::Reprocessings)?;
    let scopes = numbers_of(&stage.catalog, &new.scopes)?;
    let wanted: BTreeSet<ScopeNumber> = scopes.iter().copied().collect();
    let is_rival = |entry: &&ReprocessingEntry| {
        !entry.finished && entry.start <= new.end && new.start <= entry.end
    };
    for rival in stage.catalog.reprocessings.values().filter(is_rival) {
        if let Some(scope) = rival.scopes.iter().find(|scope| wanted.contains(scope)) {
            let scope = stage.catalog.scopes[*scope as usize].id.clone();
            return Err(LedgerError::Overlaps { scope, start: rival.start, end: rival.end });
        }
    }
    let open = stage.catalog.reprocessings.values().filter(|entry| !entry.finished).count();
    if open >= UNFINISHED_MAX {
        return Err(LedgerError::TooManyReprocessings { max: UNFINISHED_MAX });
    }
    let id = next_id(&stage.catalog);
    let entry = ReprocessingEntry {
        scopes: scopes.into(),
        reason: new.reason.clone(),
        start: new.start,
        end: new.end,
        at: new.at,
        author: new.author.clone(),
        current: None,
        finished: false,
    };
    put(stage, id, entry);
    passed(Step::ChangeReprocessingAdded);
    Ok(id)
}

/// In the order given, each once.
fn numbers_of(catalog: &Catalog, ids: &[ScopeId]) -> Result<Vec<ScopeNumber>, LedgerError> {
    let mut seen = BTreeSet::new();
    let mut numbers = Vec::with_capacity(ids.len());
    for id in ids {
        let number = catalog.listed_number(id);
        if number.is_none() {
            catalog.holes.check(Table::Scopes)?;
        }
        let number = number.ok_or_else(|| LedgerError::UnknownScope(id.clone()))?;
        if seen.insert(number) {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// One change: who is put off in one and not told of by the other would belong to nobody, or twice.
pub(super) fn advance(
    stage: &mut Stage,
    id: u64,
    staged: DateTime<Utc>,
    put_off: &[ScopeId],
) -> Result<Option<u64>, LedgerError> {
    let before = open_entry(&stage.catalog, id)?.clone();
    let put_off: BTreeSet<ScopeNumber> = numbers_of(&stage.catalog, put_off)?.into_iter().collect();
    let (later, stay): (Vec<ScopeNumber>, Vec<ScopeNumber>) =
        before.scopes.iter().partition(|scope| put_off.contains(scope));
    if !later.is_empty() {
        // The id of the next one.
        stage.catalog.holes.check(Table::Reprocessings)?;
    }
    let later_id = (!later.is_empty()).then(|| next_id(&stage.catalog));
    let current = before.current.max(Some(staged));
    if current != before.current || later_id.is_some() {
        put(stage, id, ReprocessingEntry { scopes: stay.into(), current, ..before.clone() });
    }
    if let Some(later_id) = later_id {
        let later = ReprocessingEntry { scopes: later.into(), current: None, ..before };
        put(stage, later_id, later);
        passed(Step::ChangeReprocessingPostponed);
    }
    passed(Step::ChangeReprocessingAdvanced);
    Ok(later_id)
}

pub(super) fn staged_key(id: u64, slice: SliceKey) -> Vec<u8> {
    [id.to_be_bytes().as_slice(), &slice.bytes()].concat()
}

/// A slice to stage, its rows encoded for those scopes that were wanted when it was prepared.
#[derive(Debug)]
pub(super) struct PreparedStaging {
    label: SliceLabel,
    facts: Vec<(ScopeNumber, Fact)>,
    /// Kept for the case that somebody else stages the same first.
    source: RatedSlice,
    wanted: Standing,
    encoded: Encoded,
}

/// Checks and encodes slices in the caller's thread.
pub(super) fn prepare(
    writing: Writing<'_>,
    catalog: &Catalog,
    id: u64,
    slices: Vec<RatedSlice>,
) -> Result<Vec<PreparedStaging>, LedgerError> {
    open_entry(catalog, id)?;
    let mut prepared: Vec<PreparedStaging> = Vec::with_capacity(slices.len());
    for slice in slices {
        let unknown = || LedgerError::UnknownMetric(slice.metric.clone());
        let metric = *catalog.metric_numbers.get(&slice.metric).ok_or_else(unknown)?;
        catalog.check_chain(&ChainEntry::of(&slice))?;
        let facts = commit::scope_facts(catalog, &slice)?;
        let label = SliceLabel::new(metric, &slice, Origin::Collected);
        let wanted = vec![None; facts.len()];
        let encoded = Encoded::default();
        prepared.push(PreparedStaging { label, facts, source: slice, wanted, encoded });
    }
    encode_wanted(writing, catalog, id, &mut prepared)?;
    Ok(prepared)
}

/// Encodes again what is not encoded for those who are wanted now.
fn encode_wanted(
    writing: Writing<'_>,
    catalog: &Catalog,
    id: u64,
    prepared: &mut [PreparedStaging],
) -> Result<(), LedgerError> {
    let members: BTreeSet<ScopeNumber> = open_entry(catalog, id)?.scopes.iter().copied().collect();
    let reading = writing.reading(catalog);
    let mut staged = BTreeSet::new();
    for slice in prepared {
        let (metric, begin_secs) = (slice.label.metric, slice.label.period.begin_secs());
        let mut known = staged_scopes(reading, id, &slice.label)?;
        let mut wanted = Standing::with_capacity(slice.facts.len());
        for (scope, _) in &slice.facts {
            let is_new = members.contains(scope)
                && known.insert(*scope)
                && staged.insert((metric, begin_secs, *scope));
            wanted.push(is_new.then_some(*scope));
        }
        if wanted != slice.wanted {
            let PreparedStaging { facts, source, .. } = &*slice;
            slice.encoded = commit::encode(writing, metric, source, facts, &wanted)?;
            slice.wanted = wanted;
        }
    }
    Ok(())
}

/// Who is staged already of a metric and period.
fn staged_scopes(
    reading: Reading<'_>,
    id: u64,
    label: &SliceLabel,
) -> Result<BTreeSet<ScopeNumber>, LedgerError> {
    let begin_secs = label.period.begin_secs();
    let first = SliceKey { begin_secs, metric: label.metric, number: 0 };
    let last = SliceKey { number: u64::MAX, ..first };
    let mut scopes = BTreeSet::new();
    for slice in staged(reading, id, first, last) {
        let slice = slice?;
        for part in 0..slice.rollups.len() {
            scopes.extend(reading.rollup(&slice, part)?.iter().map(|entry| entry.scope));
        }
    }
    Ok(scopes)
}

/// The staged slices of a reprocessing whose period begins then or later, by period.
pub(super) fn staged_from(
    reading: Reading<'_>,
    id: u64,
    begin_secs: i64,
) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'_> {
    let first = SliceKey { begin_secs, metric: 0, number: 0 };
    let last = SliceKey { begin_secs: i64::MAX, metric: u32::MAX, number: u64::MAX };
    staged(reading, id, first, last)
}

/// The staged slices of a reprocessing whose period begins then.
pub(super) fn staged_at(
    reading: Reading<'_>,
    id: u64,
    begin_secs: i64,
) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'_> {
    let first = SliceKey { begin_secs, metric: 0, number: 0 };
    let last = SliceKey { metric: u32::MAX, number: u64::MAX, ..first };
    staged(reading, id, first, last)
}

fn staged(
    reading: Reading<'_>,
    id: u64,
    first: SliceKey,
    last: SliceKey,
) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'_> {
    within(reading, Table::Staged, staged_key(id, first)..=staged_key(id, last))
}

/// Slices of a table whose keys have the reprocessing in front.
pub(super) fn within<R: std::ops::RangeBounds<Vec<u8>>>(
    reading: Reading<'_>,
    table: Table,
    range: R,
) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'_, R> {
    reading.store.range(table, range).map(move |entry| {
        let (key, value) = entry?;
        reading.slice(slice_key_of(&key), &value)
    })
}

/// The record of a staged slice that scopes were left out of.
pub(super) fn write_staged(stage: &mut Stage, id: u64, slice: &Slice) {
    write_slice(stage, Table::Staged, id, slice);
}

/// The same in any table whose keys have the reprocessing in front.
pub(super) fn write_slice(stage: &mut Stage, table: Table, id: u64, slice: &Slice) {
    let key = staged_key(id, slice.key());
    if slice.scopes > 0 {
        stage.journaled.push(Write::put(table, key, slice.encode()));
        return;
    }
    data::bury(stage, slice.data_file(), slice.extent_size());
    stage.journaled.push(Write::remove(table, key));
}

pub(super) fn stage(
    writing: Writing<'_>,
    stage: &mut Stage,
    (id, keeps): (u64, Keeps),
    mut prepared: Vec<PreparedStaging>,
) -> Result<(), LedgerError> {
    let catalog = stage.catalog.clone();
    encode_wanted(writing, &catalog, id, &mut prepared)?;
    // All that may fail comes before the first change.
    let mut captured = Vec::new();
    for PreparedStaging { label, encoded, .. } in &prepared {
        let scopes: Vec<ScopeNumber> = encoded.rollup.iter().map(|entry| entry.scope).collect();
        if keeps == Keeps::OldFigures && !scopes.is_empty() {
            let place = (label.metric, label.period);
            captured.extend(generations::capture(writing.reading(&catalog), place, &scopes)?);
        }
    }
    for PreparedStaging { label, encoded, .. } in prepared {
        if encoded.rollup.is_empty() {
            continue;
        }
        let slice = commit::describe(stage, &label, encoded);
        let key = staged_key(id, slice.key());
        stage.journaled.push(Write::put(Table::Staged, key, slice.encode()));
    }
    for captured in captured {
        generations::put(stage, id, captured);
    }
    passed(Step::ChangeReprocessedStaged);
    Ok(())
}

/// Whether what is replaced is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    OldFigures,
    Nothing,
}
