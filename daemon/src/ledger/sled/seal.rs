//! Seals: what all records add up to, so that one that is missing, or an older one in its place,
//! is noticed.
//!
//! Every record has a checksum, and so has every page of sled. But a damaged byte in what sled has
//! written since its last start makes it read on behind it, without a word: the record as it was
//! before comes back. A seal says what the records of a group must add up to.
//!
//! ```text
//! tree   key                             record
//! seals  group                           frame('Z', 1) change:uint sum
//!                                         or frame('Z', 2) change:uint sum difference damaged:uint
//! meta   "root"                          frame('A', 1) change:uint checked:uint sum
//!        "lost/" last:u64be              frame('G', 1) first:uint last:uint tables:uint
//!                                        ( 0 | 1 begin:int end:int )
//! group  = table:u8 | 4 (slices) month:i32be | 8 (kv) instance | 7 (texts) dictionary:u32be
//!          (the sign bit of `month` flipped)
//! sum, difference = 16 bytes, little endian
//! ```
//!
//! `change` counts the groups of changes that became durable (`queue`); a seal has that of its last
//! change. A sum is that of the hashes of its records, modulo 2^128: the first half of the SHA-256
//! of `table:u8 size:u32le(key) key value`. The root has the sum of the seals. Those that changed
//! after `checked`, and those of the small tables that a start reads anyway, are compared with
//! their records at a start, all of them by `verify`; what that finds broken is sealed anew with
//! the sum that it should have, so that the next start compares it, too. In `meta` only the
//! counters are sealed. Of texts, which are written before the change that names them, the
//! sum is how many a dictionary has at least.
//!
//! A group that a start reads into memory and finds to be off, or a record of it to be damaged,
//! gets version 2 (`off`).
//!
//! Example: a seal of change 5, the sum 7, off by 3, with one damaged record, is
//!
//! ```text
//! 5a 02 05 07 00…00 03 00…00 01 CRC
//! ```
//!
//! `lost` are changes that were acknowledged and are not there any more (see `marks`), until
//! somebody accepts that. `tables` has a bit for each table that they were about. Until then nobody
//! is given figures of their periods, of which there may be others now; and if rules, states,
//! scopes or metrics were among them, nothing is rated. Rules and states themselves are shown as
//! they are, so that what is missing can be made up for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};

use super::COUNTERS_KEY;
use super::codec::{Damage, Kind, Reader, Writer};
use super::data::{FileId, Month};
use super::holes::Holes;
use super::marks::{Mark, Marks};
use super::off::Off;
use super::slice::{SliceKey, time_bytes};
use super::store::{Store, Table, Write, damaged};
use super::{states, texts, verify};
use crate::ledger::LedgerError;

const SEAL: Kind = Kind(b'Z', 1);
const SEAL_OF_DAMAGED: Kind = Kind(b'Z', 2);
const ROOT: Kind = Kind(b'A', 1);
const LOST: Kind = Kind(b'G', 1);
const ROOT_KEY: &[u8] = b"root";
const LOST_PREFIX: &[u8] = b"lost/";
/// So many records are added up while changes wait.
const STEP_RECORDS: usize = if cfg!(test) { 100 } else { 4096 };

/// Which records have a sum together: the key of their seal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group(Vec<u8>);

impl Group {
    /// `None` = the record is not sealed.
    pub(super) fn of(table: Table, key: &[u8]) -> Option<Group> {
        match table {
            Table::Meta => (key == COUNTERS_KEY).then(|| Group(vec![table as u8])),
            Table::Rollups | Table::Blocks | Table::Removed | Table::Texts | Table::Seals => None,
            Table::Slices => {
                let secs = SliceKey::read(key).map_or(i64::MIN, |key| key.begin_secs);
                Some(Group::of_month(Month::of(secs)))
            }
            Table::Kv => {
                let end = key.iter().position(|byte| *byte == 0).unwrap_or(key.len());
                Some(Group([&[table as u8], &key[..end]].concat()))
            }
            _ => Some(Group(vec![table as u8])),
        }
    }

    pub(super) fn of_month(month: Month) -> Group {
        let month = (month.0.cast_unsigned() ^ 1 << 31).to_be_bytes();
        Group([[Table::Slices as u8].as_slice(), &month].concat())
    }

    /// From its key.
    pub(super) fn from_key(key: &[u8]) -> Group {
        Group(key.to_vec())
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0
    }

    /// Tables whose records make groups.
    fn tables() -> impl Iterator<Item = Table> {
        Table::all().filter(|table| {
            !matches!(table, Table::Rollups | Table::Blocks | Table::Removed)
                && !matches!(table, Table::Texts | Table::Seals)
        })
    }

    /// The first group with a record behind one. Records are not read but for their keys.
    fn found_after(store: &Store, after: Option<&Group>) -> Result<Option<Group>, LedgerError> {
        // A damaged seal may be of a table that there is not.
        let first = after.and_then(|after| after.0.first().copied()).unwrap_or(0);
        for table in Group::tables().filter(|table| *table as u8 >= first) {
            let after = after.filter(|after| after.table() == Some(table));
            if let Some(group) = Group::found_in(store, table, after)? {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// The same of a table.
    fn found_in(
        store: &Store,
        table: Table,
        after: Option<&Group>,
    ) -> Result<Option<Group>, LedgerError> {
        let from = match after {
            None => Vec::new(),
            Some(after) if after.month().is_some() => {
                let end_secs = after.month().map_or(i64::MAX, Month::end_secs);
                time_bytes(end_secs).to_vec()
            }
            // An instance's keys have a 0 behind its name.
            Some(after) if table == Table::Kv => [&after.0[1..], &[1]].concat(),
            Some(_) => return Ok(None),
        };
        for entry in store.range_as_it_is(table, from..) {
            let key = entry?.0;
            // A key that is not understood stands among those of other groups.
            let is_behind = |group: &Group| after.is_none_or(|after| group > after);
            if let Some(group) = Group::of(table, &key).filter(is_behind) {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// All groups of a table, a torn page of which hides some, as far as others know of them.
    fn known_elsewhere(store: &Store, table: Table) -> Vec<Group> {
        let of_file = |key: &[u8]| Some(Group::of_month(FileId::from_key(key)?.month));
        let of_state = |key: &[u8]| {
            let instance = key.strip_prefix(states::KV_PREFIX)?;
            Some(Group([&[Table::Kv as u8], instance].concat()))
        };
        let keys = |table| store.range_as_it_is(table, ..).filter_map(|entry| Some(entry.ok()?.0));
        match table {
            Table::Slices => keys(Table::Files).filter_map(|key| of_file(&key)).collect(),
            Table::Kv => keys(Table::States).filter_map(|key| of_state(&key)).collect(),
            _ => vec![Group(vec![table as u8])],
        }
    }

    fn of_dictionary(dictionary: u32) -> Group {
        Group([[Table::Texts as u8].as_slice(), &dictionary.to_be_bytes()].concat())
    }

    pub(super) fn table(&self) -> Option<Table> {
        Table::from_number(*self.0.first()?)
    }

    /// Of slices.
    pub(super) fn month(&self) -> Option<Month> {
        if self.table() != Some(Table::Slices) {
            return None;
        }
        let month = u32::from_be_bytes(self.0[1..].try_into().ok()?);
        Some(Month((month ^ 1 << 31).cast_signed()))
    }

    pub(super) fn dictionary(&self) -> Option<u32> {
        if self.table() != Some(Table::Texts) {
            return None;
        }
        Some(u32::from_be_bytes(self.0[1..].try_into().ok()?))
    }

    /// Where its records stand, and perhaps others between them.
    fn range(&self) -> (Vec<u8>, Bound<Vec<u8>>) {
        if let Some(month) = self.month() {
            let end = time_bytes(month.end_secs()).to_vec();
            return (time_bytes(month.begin_secs()).to_vec(), Bound::Excluded(end));
        }
        let prefix = self.0.get(1..).unwrap_or_default();
        let end = [prefix, &[0xFF; 1]].concat();
        let is_all = prefix.is_empty();
        (prefix.to_vec(), if is_all { Bound::Unbounded } else { Bound::Excluded(end) })
    }

    /// For an error.
    pub(super) fn place(&self) -> String {
        match (self.table(), self.month(), self.dictionary()) {
            (_, Some(month), _) => format!("slices of month {month}"),
            (_, _, Some(dictionary)) => format!("texts {dictionary}"),
            (Some(Table::Kv), ..) => {
                format!("keys of `{}`", String::from_utf8_lossy(&self.0[1..]))
            }
            (Some(table), ..) => format!("table `{}`", table.name()),
            (None, ..) => "a seal".to_owned(),
        }
    }

    pub(super) fn damage(&self) -> LedgerError {
        damaged(self.place(), BROKEN)
    }

    /// Of small tables, all of which are in memory after a start.
    pub(super) fn is_always_read(&self) -> bool {
        matches!(
            self.table(),
            Some(
                Table::Meta
                    | Table::Scopes
                    | Table::Metrics
                    | Table::Chains
                    | Table::Cursors
                    | Table::Files
                    | Table::States
                    | Table::Reprocessings
            )
        )
    }
}

pub(super) const BROKEN: Damage = Damage("records are missing, or older ones stand in their place");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    change: u64,
    sum: u128,
    /// What a start has found, if the group is not whole.
    off: Option<Off>,
}

impl Seal {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut writer = Writer::framed(if self.off.is_some() { SEAL_OF_DAMAGED } else { SEAL });
        writer.uint(self.change);
        writer.raw(&self.sum.to_le_bytes());
        if let Some(off) = self.off {
            writer.raw(&off.difference.to_le_bytes());
            writer.uint(off.damaged);
        }
        writer.seal()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Seal, Damage> {
        let is_off = bytes.get(1) == Some(&SEAL_OF_DAMAGED.1);
        let mut reader = Reader::framed(if is_off { SEAL_OF_DAMAGED } else { SEAL }, bytes)?;
        let (change, sum) = (reader.uint()?, read_sum(&mut reader)?);
        let off = is_off.then(|| {
            let difference = read_sum(&mut reader)?;
            Ok(Off { difference, damaged: reader.uint()? })
        });
        Ok(Seal { change, sum, off: off.transpose()? })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Root {
    change: u64,
    checked: u64,
    sum: u128,
}

impl Root {
    pub(super) fn write(self) -> Write {
        let mut writer = Writer::framed(ROOT);
        writer.uint(self.change);
        writer.uint(self.checked);
        writer.raw(&self.sum.to_le_bytes());
        Write::put(Table::Meta, ROOT_KEY.to_vec(), writer.seal())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Root, Damage> {
        let mut reader = Reader::framed(ROOT, bytes)?;
        let (change, checked) = (reader.uint()?, reader.uint()?);
        Ok(Root { change, checked, sum: read_sum(&mut reader)? })
    }

    /// One seal takes the place of another.
    fn replace(&mut self, group: &Group, old: Option<Seal>, new: Option<Seal>) -> Write {
        let value = new.map(Seal::encode);
        let of = |value: &[u8]| hash(Table::Seals, &group.0, value);
        self.sum = self.sum.wrapping_sub(old.map_or(0, |old| of(&old.encode())));
        self.sum = self.sum.wrapping_add(value.as_deref().map_or(0, of));
        Write { table: Table::Seals, key: group.0.clone(), value }
    }
}

fn read_sum(reader: &mut Reader<'_>) -> Result<u128, Damage> {
    let bytes = reader.raw(16)?.try_into().map_err(|_| Damage("it ends early"))?;
    Ok(u128::from_le_bytes(bytes))
}

fn hash(table: Table, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = Sha256::new();
    let size = u32::try_from(key.len()).unwrap_or(u32::MAX);
    hasher.update([table as u8]);
    hasher.update(size.to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let digest = hasher.finalize();
    let half = digest.first_chunk::<16>().expect("a SHA-256 has 32 bytes");
    u128::from_le_bytes(*half)
}

/// Changes that were acknowledged and are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) first: u64,
    pub(super) last: u64,
    /// A bit for each table.
    pub(super) tables: u32,
    /// Begins of the first and the last period.
    pub(super) periods: Option<(i64, i64)>,
}

impl Lost {
    pub(super) fn of_anything(first: u64, last: u64) -> Lost {
        Lost { first, last, tables: u32::MAX, periods: Some((i64::MIN, i64::MAX)) }
    }

    pub(super) fn is_about(&self, table: Table) -> bool {
        self.tables & (1 << (table as u32)) != 0
    }

    pub(super) fn damage(&self) -> LedgerError {
        let place = "the log".to_owned();
        LedgerError::Damaged { place, detail: verify::text_of_lost(self) }
    }

    pub(super) fn write(self) -> Write {
        let mut writer = Writer::framed(LOST);
        writer.uint(self.first);
        writer.uint(self.last);
        writer.uint(u64::from(self.tables));
        writer.u8(u8::from(self.periods.is_some()));
        if let Some((begin, end)) = self.periods {
            writer.int(begin);
            writer.int(end);
        }
        let key = [LOST_PREFIX, &self.last.to_be_bytes()].concat();
        Write::put(Table::Meta, key, writer.seal())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Lost, Damage> {
        let mut reader = Reader::framed(LOST, bytes)?;
        let (first, last, tables) = (reader.uint()?, reader.uint()?, reader.u32()?);
        let periods = match reader.u8()? {
            0 => None,
            _ => Some((reader.int()?, reader.int()?)),
        };
        Ok(Lost { first, last, tables, periods })
    }
}

pub(super) fn check_record(bytes: &[u8]) -> Result<(), Damage> {
    Seal::decode(bytes).map(|_| ())
}

/// Of what stands here in `meta`.
pub(super) fn check_meta(key: &[u8], value: &[u8]) -> Result<(), Damage> {
    match key {
        ROOT_KEY => Root::decode(value).map(|_| ()),
        key if key.starts_with(LOST_PREFIX) => Lost::decode(value).map(|_| ()),
        _ => Ok(()),
    }
}

/// Told and not yet acknowledged.
pub(super) fn list_lost(store: &Store) -> Result<Vec<Lost>, LedgerError> {
    let mut all = Vec::new();
    for entry in store.prefix(Table::Meta, LOST_PREFIX) {
        let (key, record) = entry?;
        // What a damaged note says is not known; its key says until where.
        let last = key.last_chunk::<8>().map_or(0, |last| u64::from_be_bytes(*last));
        all.push(Lost::decode(&record).unwrap_or_else(|_| Lost::of_anything(last, last)));
    }
    Ok(all)
}

/// Whether the last change may not have got to all of its places.
pub(super) fn is_behind(store: &Store, marks: &Marks) -> bool {
    let root = store.get(Table::Meta, ROOT_KEY).ok().flatten();
    let change = root.and_then(|record| Some(Root::decode(&record).ok()?.change));
    let is_lost = !list_lost(store).is_ok_and(|lost| lost.is_empty());
    is_lost || change.is_none_or(|change| marks.lost_after(change).is_some())
}

/// Changes that are gone, which no start has noted.
pub(super) fn not_noted(store: &Store, marks: &Marks) -> Option<Lost> {
    let root = store.get_as_it_is(Table::Meta, ROOT_KEY).ok().flatten();
    let change = root.and_then(|record| Some(Root::decode(&record).ok()?.change))?;
    marks.lost_after(change)
}

/// Whether nothing is lost that was about one of these tables.
pub(super) fn check_lost_of(store: &Store, tables: &[Table]) -> Result<(), LedgerError> {
    let is_about = |lost: &&Lost| tables.iter().any(|table| lost.is_about(*table));
    let found = store.lost().iter().find(is_about);
    found.map_or(Ok(()), |lost| Err(lost.damage()))
}

/// The sums, in memory.
#[derive(Debug, Default)]
pub(super) struct Seals(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    seals: BTreeMap<Group, Seal>,
    root: Root,
    additions: Vec<Addition>,
}

/// A group that is added up while changes come.
#[derive(Debug)]
struct Addition {
    id: u64,
    group: Group,
    /// The last key that was reached.
    last: Vec<u8>,
    /// What the records up to there add up to now.
    sum: u128,
}

impl State {
    /// And whether all of it could be read.
    fn load(store: &Store, marks: &Marks) -> Result<Option<(State, bool)>, LedgerError> {
        let mut state = State::default();
        let mut are_whole = true;
        for entry in store.range_as_it_is(Table::Seals, ..) {
            let (key, record) = match entry {
                Ok(entry) => entry,
                // What follows cannot be reached.
                Err(LedgerError::Damaged { .. }) => {
                    are_whole = false;
                    break;
                }
                Err(error) => return Err(error),
            };
            match Seal::decode(&record) {
                Ok(seal) => {
                    state.seals.insert(Group(key.to_vec()), seal);
                }
                Err(_) => are_whole = false,
            }
        }
        let root = match store.get_as_it_is(Table::Meta, ROOT_KEY) {
            Ok(root) => root.map(|bytes| Root::decode(&bytes).ok()),
            Err(LedgerError::Damaged { .. }) => Some(None),
            Err(error) => return Err(error),
        };
        state.root = match root {
            None if state.seals.is_empty() && are_whole => return Ok(None),
            Some(Some(root)) => root,
            None | Some(None) => {
                are_whole = false;
                let last = state.seals.values().map(|seal| seal.change).max().unwrap_or(0);
                Root { change: last.max(marks.last()), ..Root::default() }
            }
        };
        Ok(Some((state, are_whole)))
    }

    /// Of what a start reads into memory, but for the counters: they are counted again.
    fn read_at_start(&self) -> Vec<(Group, Table, Seal)> {
        let read = self.seals.iter().filter(|(group, _)| group.is_always_read());
        let with_table = read.filter_map(|(group, seal)| {
            let table = group.table().filter(|table| *table != Table::Meta)?;
            Some((group.clone(), table, *seal))
        });
        with_table.collect()
    }
}

/// What a group of changes says beside its writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct News<'a> {
    /// How many texts dictionaries have now.
    pub(super) texts: &'a [(u32, u32)],
    /// See [`Stage`](super::queue::Stage).
    pub(super) states_are_mended: bool,
    pub(super) suspects: &'a [Group],
}

/// What the seals will be when a group of changes is durable.
#[derive(Debug)]
pub(super) struct Pending {
    changed: Vec<(Group, Option<Seal>)>,
    /// By how much the sum of a group differs with each key.
    differences: Vec<(Group, Vec<u8>, u128)>,
    root: Root,
    pub(super) mark: Mark,
}

impl Seals {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Replaced as a whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the seals of what a group is about to write.
    pub(super) fn extend(
        &self,
        store: &Store,
        writes: &mut Vec<Write>,
        news: News<'_>,
    ) -> Result<Pending, LedgerError> {
        let state = self.lock();
        let mut root = state.root;
        root.change += 1;
        let mut last: BTreeMap<(u8, &[u8]), &Write> = BTreeMap::new();
        for write in writes.iter() {
            last.insert((write.table as u8, &write.key), write);
        }
        let mut differences = Vec::new();
        for write in last.into_values() {
            let Some(group) = Group::of(write.table, &write.key) else { continue };
            let old = store.get_as_it_is(write.table, &write.key)?;
            let of = |value: Option<&[u8]>| {
                value.map_or(0, |value| hash(write.table, &write.key, value))
            };
            let difference = of(write.value.as_deref()).wrapping_sub(of(old.as_deref()));
            differences.push((group, write.key.clone(), difference));
        }
        let mut by_group: BTreeMap<&Group, u128> = BTreeMap::new();
        for (group, _, difference) in &differences {
            let sum = by_group.entry(group).or_default();
            *sum = sum.wrapping_add(*difference);
        }
        let mut changed = Vec::new();
        for (group, difference) in by_group {
            let (before, off) = if news.states_are_mended && group.table() == Some(Table::States) {
                (sum_of(store, group)?, None)
            } else {
                state.seals.get(group).map_or((0, None), |seal| (seal.sum, seal.off))
            };
            let sum = before.wrapping_add(difference);
            let seal = Seal { change: root.change, sum, off };
            changed.push((group.clone(), (sum != 0 || off.is_some()).then_some(seal)));
        }
        for suspect in news.suspects {
            if changed.iter().all(|(group, _)| group != suspect) {
                let (sum, off) =
                    state.seals.get(suspect).map_or((0, None), |seal| (seal.sum, seal.off));
                changed.push((suspect.clone(), Some(Seal { change: root.change, sum, off })));
            }
        }
        for (dictionary, count) in news.texts {
            let seal = Seal { change: root.change, sum: u128::from(*count), off: None };
            changed.push((Group::of_dictionary(*dictionary), Some(seal)));
        }
        let mark = Mark::of(root.change, writes);
        for (group, seal) in &changed {
            writes.push(root.replace(group, state.seals.get(group).copied(), *seal));
        }
        writes.push(root.write());
        Ok(Pending { changed, differences, root, mark })
    }

    /// The group is durable.
    pub(super) fn settle(&self, pending: Pending) {
        let mut state = self.lock();
        for addition in &mut state.additions {
            for (group, key, difference) in &pending.differences {
                if *group == addition.group && *key <= addition.last {
                    addition.sum = addition.sum.wrapping_add(*difference);
                }
            }
        }
        for (group, seal) in pending.changed {
            match seal {
                Some(seal) => state.seals.insert(group, seal),
                None => state.seals.remove(&group),
            };
        }
        state.root = pending.root;
    }

    /// The number of the last change.
    pub(super) fn change(&self) -> u64 {
        self.lock().root.change
    }

    /// The first group behind one, with a seal or without; `None` = that was the last.
    pub(super) fn group_after(
        &self,
        store: &Store,
        after: Option<&Group>,
    ) -> Result<Option<Group>, LedgerError> {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sealed = {
            let state = self.lock();
            state.seals.range((begin, Bound::Unbounded)).next().map(|(group, _)| group.clone())
        };
        let found = match Group::found_after(store, after) {
            // It is in a group with a seal, or is told with the records.
            Err(LedgerError::Damaged { .. }) => None,
            found => found?,
        };
        Ok(sealed.into_iter().chain(found).min())
    }

    /// As `is_whole`, while changes come: they wait for a step at a time, and what they change of
    /// what is added up already is added as well.
    pub(super) fn is_whole_now<L>(
        &self,
        store: &Store,
        group: &Group,
        keep_changes_away: impl Fn() -> Result<L, LedgerError>,
    ) -> Result<bool, LedgerError> {
        if group.dictionary().is_some() {
            let _no_change = keep_changes_away()?;
            return self.is_whole(store, group);
        }
        let id = self.begin_addition(group);
        let is_whole = loop {
            match keep_changes_away().and_then(|_no_change| self.add_some(store, id)) {
                Ok(None) => {}
                Ok(Some(is_whole)) => break Ok(is_whole),
                Err(error) => break Err(error),
            }
        };
        self.lock().additions.retain(|addition| addition.id != id);
        is_whole
    }

    fn begin_addition(&self, group: &Group) -> u64 {
        let mut state = self.lock();
        let id = state.additions.last().map_or(0, |last| last.id + 1);
        let (last, sum) = (Vec::new(), 0);
        state.additions.push(Addition { id, group: group.clone(), last, sum });
        id
    }

    /// Whether the group is whole; `None` = there is more of it. No change may come in between.
    fn add_some(&self, store: &Store, id: u64) -> Result<Option<bool>, LedgerError> {
        let mut state = self.lock();
        let State { seals, additions, .. } = &mut *state;
        let addition = additions.iter_mut().find(|addition| addition.id == id);
        let addition = addition.expect("it is there until it has ended");
        let (sum, last) = add_up(store, &addition.group, &addition.last, STEP_RECORDS)?;
        addition.sum = addition.sum.wrapping_add(sum);
        if let Some(last) = last {
            addition.last = last;
            return Ok(None);
        }
        let wanted = seals.get(&addition.group).map_or(0, |seal| seal.sum);
        Ok(Some(addition.sum == wanted))
    }

    /// Every group, to be compared one after the other; those without a seal too.
    pub(super) fn groups(&self, store: &Store) -> Result<Vec<Group>, LedgerError> {
        let mut groups: BTreeSet<Group> = self.lock().seals.keys().cloned().collect();
        for table in Group::tables() {
            let mut last = None;
            loop {
                last = match Group::found_in(store, table, last.as_ref()) {
                    Ok(found) => found,
                    Err(LedgerError::Damaged { .. }) => {
                        groups.extend(Group::known_elsewhere(store, table));
                        None
                    }
                    Err(error) => return Err(error),
                };
                let Some(group) = &last else { break };
                groups.insert(group.clone());
            }
        }
        Ok(groups.into_iter().collect())
    }

    /// Whether the records of a group are those that were written. No change may come in between.
    pub(super) fn is_whole(&self, store: &Store, group: &Group) -> Result<bool, LedgerError> {
        let wanted = self.lock().seals.get(group).map_or(0, |seal| seal.sum);
        Ok(match group.dictionary() {
            Some(dictionary) => u128::from(texts::count(store, dictionary)?) >= wanted,
            None => sum_of(store, group)? == wanted,
        })
    }

    /// Whether the seals themselves are those that were written.
    pub(super) fn is_root_whole(&self) -> bool {
        let state = self.lock();
        let of = |(group, seal): (&Group, &Seal)| hash(Table::Seals, &group.0, &seal.encode());
        let sum = state.seals.iter().map(of).fold(0_u128, u128::wrapping_add);
        sum == state.root.sum
    }

    /// Whether a start has come so far: the last thing that raises an older format is to make them.
    pub(super) fn are_made(store: &Store) -> Result<bool, LedgerError> {
        let has_root = store.get_as_it_is(Table::Meta, ROOT_KEY)?.is_some();
        Ok(has_root || store.prefix(Table::Seals, &[]).next().is_some())
    }

    /// Reads the seals, and says which groups are broken of those that may have changed since the
    /// last start, and of those that a start reads anyway. Where seals are damaged themselves, or
    /// the last change was not written again, all are looked at. `None` = there are no seals yet:
    /// this is the first start with them, or that was killed.
    pub(super) fn load(
        store: &Store,
        marks: &Marks,
    ) -> Result<Option<(Seals, Vec<Group>)>, LedgerError> {
        let Some((state, are_whole)) = State::load(store, marks)? else { return Ok(None) };
        let checked = state.root.checked;
        let seals = Seals(Mutex::new(state));
        let are_whole = are_whole && seals.is_root_whole();
        let suspects: Vec<Group> = if are_whole && store.unreplayed().is_none() {
            let state = seals.lock();
            let is_new =
                |(group, seal): &(&Group, &Seal)| seal.change > checked || group.is_always_read();
            state.seals.iter().filter(is_new).map(|(group, _)| group.clone()).collect()
        } else {
            seals.groups(store)?
        };
        let mut broken = Vec::new();
        if !are_whole {
            broken.push(Group(vec![Table::Seals as u8]));
        }
        for group in suspects {
            match seals.is_whole(store, &group) {
                Ok(true) => {}
                // A record that cannot be read is none of those that were written.
                Ok(false) | Err(LedgerError::Damaged { .. }) => broken.push(group),
                Err(error) => return Err(error),
            }
        }
        Ok(Some((seals, broken)))
    }

    /// Keeps by how much what a start has read is off, and how many of it are damaged: someone may
    /// have accepted a damaged record. Where more is missing than what is damaged, the hole becomes
    /// as wide as the table.
    pub(super) fn note_off(&self, store: &Store, holes: &mut Holes) -> Result<(), LedgerError> {
        if store.unreplayed().is_some() {
            // Some of it may be what the damaged journal says, which stays.
            return Ok(());
        }
        let mut state = self.lock();
        let mut writes = Vec::new();
        for (group, table, known) in state.read_at_start() {
            let is_broken = store.broken().contains(&group);
            let actual = if is_broken { sum_of(store, &group) } else { Ok(known.sum) };
            let difference = match actual {
                Ok(actual) => known.sum.wrapping_sub(actual),
                // What was known stays known.
                Err(LedgerError::Damaged { .. }) => continue,
                Err(error) => return Err(error),
            };
            let records = holes.count_of_records(table) as u64;
            let damaged = if holes.has(table, &[]) { 0 } else { records };
            let is_off = difference != 0 || records > 0;
            let off = is_off.then(|| Off::with(known.off, Off { difference, damaged }));
            if off.is_some_and(|off| off.damaged == 0) {
                holes.add(table, &[], group.place(), BROKEN);
            }
            if off != known.off {
                let seal = Seal { off, ..known };
                writes.push(state.root.replace(&group, Some(known), Some(seal)));
                state.seals.insert(group, seal);
            }
        }
        if writes.is_empty() {
            return Ok(());
        }
        writes.push(state.root.write());
        store.journal(&writes)?;
        store.apply(&writes)
    }

    /// What is there was found to be whole: the next start need not look at it again.
    pub(super) fn note_checked(&self, store: &Store) -> Result<(), LedgerError> {
        let mut state = self.lock();
        if state.root.checked == state.root.change {
            return Ok(());
        }
        state.root.checked = state.root.change;
        store.write_early(&[state.root.write()])?;
        store.sync()
    }

    /// Takes what is there for whole: of a ledger that has no seals yet, or when somebody says so.
    pub(super) fn make(store: &Store, change: u64) -> Result<Seals, LedgerError> {
        let mut state = State::default();
        let mut writes = Vec::new();
        for entry in store.prefix(Table::Seals, &[]) {
            writes.push(Write::remove(Table::Seals, entry?.0.to_vec()));
        }
        let dictionaries = texts::dictionaries(store)?.into_iter();
        let texts = dictionaries.map(|dictionary| {
            let group = Group::of_dictionary(dictionary);
            let count = match texts::count(store, dictionary) {
                Ok(count) => u128::from(count),
                // A damaged one has what it had.
                Err(LedgerError::Damaged { .. }) => sealed_before(store, &group)?,
                Err(error) => return Err(error),
            };
            Ok((group, count))
        });
        let texts = texts.collect::<Result<Vec<_>, LedgerError>>()?;
        for (group, sum) in sums_of_all(store)?.into_iter().chain(texts) {
            let seal = Seal { change, sum, off: None };
            writes.push(state.root.replace(&group, None, Some(seal)));
            state.seals.insert(group, seal);
        }
        (state.root.change, state.root.checked) = (change, change);
        writes.push(state.root.write());
        store.journal(&writes)?;
        store.apply(&writes)?;
        Ok(Seals(Mutex::new(state)))
    }

    /// What the marks know of and the ledger does not is kept as lost, and later changes are
    /// numbered behind it.
    pub(super) fn note_lost(&self, store: &Store, marks: &Marks) -> Result<bool, LedgerError> {
        let mut state = self.lock();
        let Some(lost) = marks.lost_after(state.root.change) else { return Ok(false) };
        state.root.change = lost.last;
        let writes = [lost.write(), state.root.write()];
        if store.unreplayed().is_some() {
            // The damaged journal stays, so that the next start knows of it as well.
            store.write_early(&writes)?;
            store.sync()?;
        } else {
            store.journal(&writes)?;
            store.apply(&writes)?;
        }
        Ok(true)
    }

    /// Somebody knows of what was lost.
    pub(super) fn forget_lost(store: &Store) -> Result<(), LedgerError> {
        let mut writes = Vec::new();
        for entry in store.prefix(Table::Meta, LOST_PREFIX) {
            writes.push(Write::remove(Table::Meta, entry?.0.to_vec()));
        }
        store.journal(&writes)?;
        store.apply(&writes)
    }
}

/// What a group's seal says; without one, nothing.
fn sealed_before(store: &Store, group: &Group) -> Result<u128, LedgerError> {
    let record = store.get_as_it_is(Table::Seals, &group.0)?;
    Ok(record.and_then(|record| Seal::decode(&record).ok()).map_or(0, |seal| seal.sum))
}

/// What the records of a group add up to.
fn sum_of(store: &Store, group: &Group) -> Result<u128, LedgerError> {
    Ok(add_up(store, group, &[], usize::MAX)?.0)
}

/// The same of so many behind a key, and the last one's key; `None` = there are no more.
fn add_up(
    store: &Store,
    group: &Group,
    after: &[u8],
    count_max: usize,
) -> Result<(u128, Option<Vec<u8>>), LedgerError> {
    let Some(table) = group.table() else { return Ok((0, None)) };
    let (begin, end) = group.range();
    let begin =
        if after.is_empty() { Bound::Included(begin) } else { Bound::Excluded(after.into()) };
    let mut sum = 0_u128;
    for (index, entry) in store.range_as_it_is(table, (begin, end)).enumerate() {
        let (key, value) = entry?;
        if Group::of(table, &key).as_ref() == Some(group) {
            sum = sum.wrapping_add(hash(table, &key, &value));
        }
        if index + 1 >= count_max {
            return Ok((sum, Some(key.to_vec())));
        }
    }
    Ok((sum, None))
}

/// Of every sealed record.
fn sums_of_all(store: &Store) -> Result<BTreeMap<Group, u128>, LedgerError> {
    let mut sums: BTreeMap<Group, u128> = BTreeMap::new();
    for table in Table::all() {
        for entry in store.range_as_it_is(table, ..) {
            let (key, value) = entry?;
            if let Some(group) = Group::of(table, &key) {
                let sum = sums.entry(group).or_default();
                *sum = sum.wrapping_add(hash(table, &key, &value));
            }
        }
    }
    sums.retain(|_, sum| *sum != 0);
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::hex;

    #[test]
    fn a_seal_that_is_off_has_a_version_of_its_own() {
        let off = Off { difference: 3, damaged: 1 };
        let seal = Seal { change: 5, sum: 7, off: None };
        let seal_of_damaged = Seal { off: Some(off), ..seal };

        for seal in [seal, seal_of_damaged] {
            assert_eq!(Seal::decode(&seal.encode()), Ok(seal));
        }
        assert_eq!(seal.encode()[1], 1);
        let (sum, difference) = (format!("07{}", "0".repeat(30)), format!("03{}", "0".repeat(30)));
        let text = hex(&seal_of_damaged.encode());
        assert_eq!(text[..text.len() - 8], format!("5a0205{sum}{difference}01"));
    }
}
