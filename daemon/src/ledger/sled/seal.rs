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

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::codec::{Damage, Kind, Reader, Writer};
use super::holes::Holes;
use super::lost::{LOST_PREFIX, Lost, list_lost};
use super::marks::{Mark, Marks};
use super::off::Off;
use super::seal_group::{Addition, BROKEN, Group, hash, sum_of, sums_of_all};
use super::store::{Store, Table, Write};
use super::texts;
use crate::ledger::LedgerError;

const SEAL: Kind = Kind(b'Z', 1);
const SEAL_OF_DAMAGED: Kind = Kind(b'Z', 2);
const ROOT: Kind = Kind(b'A', 1);
const ROOT_KEY: &[u8] = b"root";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal {
    change: u64,
    pub(super) sum: u128,
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

/// The sums, in memory.
#[derive(Debug, Default)]
pub(super) struct Seals(Mutex<State>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) seals: BTreeMap<Group, Seal>,
    root: Root,
    pub(super) additions: Vec<Addition>,
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
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
}

/// What a group's seal says; without one, nothing.
fn sealed_before(store: &Store, group: &Group) -> Result<u128, LedgerError> {
    let record = store.get_as_it_is(Table::Seals, &group.0)?;
    Ok(record.and_then(|record| Seal::decode(&record).ok()).map_or(0, |seal| seal.sum))
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
