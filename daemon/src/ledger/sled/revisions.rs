//! Forgets rules that were replaced: revisions of a plugin's keys that no row needs any more.
//!
//! A revision stays as long as one of these is true:
//!
//! - it is the newest, or was replaced after the moment that is given;
//! - a row that is in the ledger, or staged, was rated by it: an audit rates it again. So where
//!   rows are kept for ever, their rules are.
//!
//! First the slices say what rated them, some of them at a time, staged ones before the others
//! because that is the way a slice goes. One that comes later was rated by rules that were replaced
//! a moment ago at most. Then the records of the other revisions go; from then on they cannot be
//! read ([`LedgerError::RevisionGone`]). At last what only they could read goes: values that were
//! replaced, and marks of removed keys with nothing before them. If this is broken off, some of
//! that stays until the next time.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::kv;
use super::ledger::{Inner, SledLedger};
use super::pruning::{STEP_RECORDS_MAX, STEP_REMOVED_MAX};
use super::queue::{Company, Stage};
use super::reprocessing::slice_key_of;
use super::space::Share;
use super::store::{Table, Write};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Retained};

/// Most bytes of values that one change removes.
const STEP_SIZE_MAX: usize = 4 << 20;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) enum Progress {
    #[default]
    Begin,
    /// Which chains rated the slices in front of a key.
    Uses { table: Table, from: Vec<u8>, chains: BTreeSet<u32> },
    /// Revisions that rated rows, by instance.
    Records(BTreeMap<String, BTreeSet<u64>>),
    /// Values in front of it were looked at.
    Values(Vec<u8>),
}

impl SledLedger {
    /// One step; `None` = everything was looked at.
    pub(super) fn forget_rules(
        &self,
        progress: Progress,
        before: DateTime<Utc>,
        retained: &mut Retained,
    ) -> Result<Option<Progress>, LedgerError> {
        let next = match progress {
            Progress::Begin => {
                let all_may_go = BTreeMap::new();
                if self.inner.old_revisions(before, &all_may_go)?.is_empty() {
                    Progress::Values(Vec::new())
                } else {
                    let (table, chains) = (Table::Staged, BTreeSet::new());
                    Progress::Uses { table, from: Vec::new(), chains }
                }
            }
            Progress::Uses { table, from, chains } => self.inner.look_at(table, from, chains)?,
            Progress::Records(used) => {
                let old = self.inner.old_revisions(before, &used)?;
                retained.revisions = old.len() as u64;
                if old.is_empty() {
                    Progress::Values(Vec::new())
                } else {
                    self.remove(old)?;
                    Progress::Records(used)
                }
            }
            Progress::Values(from) => {
                let Sweep { unread, next } = self.inner.sweep(from)?;
                if !unread.is_empty() {
                    self.remove(unread)?;
                }
                return Ok(next.map(Progress::Values));
            }
        };
        Ok(Some(next))
    }

    /// Nobody else removes or replaces what a revision has written.
    fn remove(&self, keys: Vec<Vec<u8>>) -> Result<(), LedgerError> {
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            stage.share = Share::Half;
            let removals = keys.into_iter().map(|key| Write::remove(Table::Kv, key));
            stage.journaled.extend(removals);
            passed(Step::ChangeRulesForgotten);
            Ok(())
        })
    }
}

/// What nobody can read any more.
struct Sweep {
    unread: Vec<Vec<u8>>,
    /// `None` = everything was looked at.
    next: Option<Vec<u8>>,
}

impl Inner {
    fn look_at(
        &self,
        table: Table,
        from: Vec<u8>,
        mut chains: BTreeSet<u32>,
    ) -> Result<Progress, LedgerError> {
        let catalog = self.lock();
        let reading = self.reading(&catalog);
        let mut next = None;
        for entry in self.store.range(table, from..).take(STEP_RECORDS_MAX) {
            let (key, record) = entry?;
            let slice_key = if table == Table::Staged { slice_key_of(&key) } else { &key };
            let slice = reading.slice(slice_key, &record)?;
            if !slice.blocks.is_empty() {
                chains.insert(slice.chain);
            }
            next = Some([key.as_ref(), &[0]].concat());
        }
        if let Some(from) = next {
            return Ok(Progress::Uses { table, from, chains });
        }
        if table == Table::Staged {
            return Ok(Progress::Uses { table: Table::Slices, from: Vec::new(), chains });
        }
        let mut used: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for chain in chains {
            for by in
                catalog.chains.get(chain as usize).iter().flat_map(|chain| chain.rated_by.iter())
            {
                used.entry(format!("rating/{}", by.module)).or_default().insert(by.revision);
            }
        }
        Ok(Progress::Records(used))
    }

    /// The records of some that were replaced before and are not among those used.
    fn old_revisions(
        &self,
        before: DateTime<Utc>,
        used: &BTreeMap<String, BTreeSet<u64>>,
    ) -> Result<Vec<Vec<u8>>, LedgerError> {
        let catalog = self.lock();
        let mut old = Vec::new();
        for instance in catalog.kv_revisions.keys() {
            let is_used = |revision: u64| {
                used.get(instance).is_some_and(|revisions| revisions.contains(&revision))
            };
            for pair in kv::revisions(&self.store, instance)?.windows(2) {
                let (revision, replaced_at) = (pair[0].revision, pair[1].at);
                if replaced_at < before && !is_used(revision) {
                    old.push(kv::key_of(instance, "", revision));
                }
                if old.len() >= STEP_REMOVED_MAX {
                    return Ok(old);
                }
            }
        }
        Ok(old)
    }

    fn sweep(&self, from: Vec<u8>) -> Result<Sweep, LedgerError> {
        let _catalog = self.lock();
        let mut sweep = Sweep { unread: Vec::new(), next: None };
        let mut key = Versions::default();
        let mut kept = Vec::new();
        let mut size_left = STEP_SIZE_MAX;
        for (seen, entry) in (0_usize..).zip(self.store.range(Table::Kv, from..)) {
            let (stored, value) = entry?;
            let Some((place, revision)) = kv::place_of(&stored) else { continue };
            if key.place != place {
                key.take_unread(&kept, &mut size_left, &mut sweep);
                if sweep.next.is_some() {
                    return Ok(sweep);
                }
                if seen >= STEP_RECORDS_MAX || sweep.unread.len() >= STEP_REMOVED_MAX {
                    sweep.next = Some(place.to_vec());
                    return Ok(sweep);
                }
                let instance = kv::instance_of(place);
                if kv::instance_of(&key.place) != instance {
                    let revisions = kv::revisions(&self.store, instance)?;
                    kept = revisions.into_iter().map(|found| found.revision).collect();
                }
                key = Versions { place: place.to_vec(), list: Vec::new() };
            }
            key.add(revision, stored, &value);
        }
        key.take_unread(&kept, &mut size_left, &mut sweep);
        Ok(sweep)
    }
}

/// All that stands at one key of an instance, by revision.
#[derive(Default)]
struct Versions {
    /// What the stored keys begin with.
    place: Vec<u8>,
    list: Vec<Version>,
}

struct Version {
    revision: u64,
    parts: Vec<sled::IVec>,
    size: usize,
    is_removal: bool,
}

impl Versions {
    fn add(&mut self, revision: u64, stored: sled::IVec, value: &[u8]) {
        match self.list.last_mut() {
            Some(last) if last.revision == revision => {
                last.parts.push(stored);
                last.size += value.len();
            }
            _ => {
                let (size, is_removal) = (value.len(), kv::is_removal(value));
                self.list.push(Version { revision, parts: vec![stored], size, is_removal });
            }
        }
    }

    /// What none of the revisions that are kept (ascending) reads, as much of it as one change may
    /// remove.
    fn take_unread(&mut self, kept: &[u64], size_left: &mut usize, sweep: &mut Sweep) {
        let mut is_first = true;
        for (index, version) in self.list.iter().enumerate() {
            let next = self.list.get(index + 1).map(|next| next.revision);
            let reader = kept.get(kept.partition_point(|kept| *kept < version.revision));
            let is_read = reader.is_some_and(|reader| next.is_none_or(|next| *reader < next));
            // Without one before it, a key that was removed has never been.
            if is_read && !(version.is_removal && is_first) {
                is_first = false;
                continue;
            }
            if sweep.unread.len() >= STEP_REMOVED_MAX || *size_left == 0 {
                sweep.next = Some(self.place.clone());
                return;
            }
            *size_left = size_left.saturating_sub(version.size);
            sweep.unread.extend(version.parts.iter().map(|part| part.to_vec()));
        }
    }
}
