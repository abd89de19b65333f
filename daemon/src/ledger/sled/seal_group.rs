//! Which records have a seal together, and what they add up to.

use std::collections::BTreeMap;
use std::ops::Bound;

use sha2::{Digest as _, Sha256};

use super::codec::Damage;
use super::data::{FileId, Month};
use super::seal::{Seals, State};
use super::slice::{SliceKey, time_bytes};
use super::store::{Store, Table, damaged};
use super::{COUNTERS_KEY, states};
use crate::ledger::LedgerError;

/// So many records are added up while changes wait.
const STEP_RECORDS: usize = if cfg!(test) { 100 } else { 4096 };

/// Which records have a sum together: the key of their seal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group(pub(super) Vec<u8>);

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
    pub(super) fn tables() -> impl Iterator<Item = Table> {
        Table::all().filter(|table| {
            !matches!(table, Table::Rollups | Table::Blocks | Table::Removed)
                && !matches!(table, Table::Texts | Table::Seals)
        })
    }

    /// The first group with a record behind one. Records are not read but for their keys.
    pub(super) fn found_after(
        store: &Store,
        after: Option<&Group>,
    ) -> Result<Option<Group>, LedgerError> {
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
    pub(super) fn found_in(
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
    pub(super) fn known_elsewhere(store: &Store, table: Table) -> Vec<Group> {
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

    pub(super) fn of_dictionary(dictionary: u32) -> Group {
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

pub(super) fn hash(table: Table, key: &[u8], value: &[u8]) -> u128 {
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

/// What the records of a group add up to.
pub(super) fn sum_of(store: &Store, group: &Group) -> Result<u128, LedgerError> {
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
pub(super) fn sums_of_all(store: &Store) -> Result<BTreeMap<Group, u128>, LedgerError> {
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

/// A group that is added up while changes come.
#[derive(Debug)]
pub(super) struct Addition {
    id: u64,
    pub(super) group: Group,
    /// The last key that was reached.
    pub(super) last: Vec<u8>,
    /// What the records up to there add up to now.
    pub(super) sum: u128,
}

impl Seals {
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
}
