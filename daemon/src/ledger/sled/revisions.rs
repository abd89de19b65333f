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
//! replaced, and marks of removed keys with nothing before them, some of a key's at a time where
//! they are many or long: nothing is committed while they are looked at. If this is broken off,
//! some of that stays until the next time.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::inner::Inner;
use super::kv;
use super::ledger::SledLedger;
use super::pruning::{STEP_RECORDS_MAX, STEP_REMOVED_MAX};
use super::queue::{Company, Stage};
use super::reprocessing::slice_key_of;
use super::space::Share;
use super::store::{Table, Write};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Retained};

/// When it has seen so many bytes of values a step ends, with the value that it is at.
const STEP_SIZE: usize = 1 << 20;

/// How far it has come.
#[derive(Debug, Default)]
pub(super) enum Progress {
    #[default]
    Begin,
    /// Which chains rated the slices in front of a key.
    Uses {
        table: Table,
        from: Vec<u8>,
        chains: BTreeSet<u32>,
    },
    /// Revisions that rated rows, by instance.
    Records(BTreeMap<String, BTreeSet<u64>>),
    Values(Reached),
}

/// Which values were looked at.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// Those in front of it.
    next: Vec<u8>,
    /// One of them is of the same key, and stays.
    has_before: bool,
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
                    Progress::Values(Reached::default())
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
                    Progress::Values(Reached::default())
                } else {
                    self.remove(old)?;
                    Progress::Records(used)
                }
            }
            Progress::Values(from) => {
                let (unread, next) = self.inner.sweep(from)?;
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

    /// What nobody can read any more, of some of the values; and where to go on, if it is not the
    /// end.
    fn sweep(&self, from: Reached) -> Result<(Vec<Vec<u8>>, Option<Reached>), LedgerError> {
        let _catalog = self.lock();
        let mut sweep = Sweep { has_before: from.has_before, ..Sweep::default() };
        let mut current: Option<Version> = None;
        for (seen, entry) in (0_usize..).zip(self.store.range(Table::Kv, from.next..)) {
            let (stored, value) = entry?;
            let found = kv::place_of(&stored);
            sweep.size += value.len();
            if let (Some(current), Some(found)) = (&mut current, found)
                && (current.place.as_slice(), current.revision) == found
            {
                current.parts.push(stored.to_vec());
                continue;
            }
            sweep.pass(current.take(), found);
            if seen >= STEP_RECORDS_MAX || sweep.is_full() {
                let reached = Reached { next: stored.to_vec(), has_before: sweep.has_before };
                return Ok((sweep.unread, Some(reached)));
            }
            let Some((place, revision)) = found else { continue };
            let instance = kv::instance_of(place);
            if sweep.instance.as_deref() != Some(instance) {
                let kept = kv::revisions(&self.store, instance)?;
                sweep.kept = kept.into_iter().map(|found| found.revision).collect();
                sweep.instance = Some(instance.to_owned());
            }
            let is_removal = kv::is_removal(&value);
            let (place, parts) = (place.to_vec(), vec![stored.to_vec()]);
            current = Some(Version { place, revision, parts, is_removal });
        }
        sweep.pass(current, None);
        Ok((sweep.unread, None))
    }
}

/// What stands at a key of an instance by one revision.
struct Version {
    /// What the stored keys of all versions begin with.
    place: Vec<u8>,
    revision: u64,
    parts: Vec<Vec<u8>>,
    is_removal: bool,
}

/// What one step has found.
#[derive(Default)]
struct Sweep {
    instance: Option<String>,
    /// Its revisions, ascending.
    kept: Vec<u64>,
    unread: Vec<Vec<u8>>,
    /// Bytes of values that were seen.
    size: usize,
    /// A version of the same key was passed, and stays.
    has_before: bool,
}

impl Sweep {
    fn is_full(&self) -> bool {
        self.size >= STEP_SIZE || self.unread.len() >= STEP_REMOVED_MAX
    }

    /// All of a version was seen, and what stands behind it.
    fn pass(&mut self, version: Option<Version>, behind: Option<(&[u8], u64)>) {
        let Some(version) = version else { return };
        let next = behind.filter(|(place, _)| *place == version.place).map(|(_, next)| next);
        let reader = self.kept.get(self.kept.partition_point(|kept| *kept < version.revision));
        let is_read = reader.is_some_and(|reader| next.is_none_or(|next| *reader < next));
        // Without one before it, a key that was removed has never been.
        if is_read && (self.has_before || !version.is_removal) {
            self.has_before = true;
        } else {
            self.unread.extend(version.parts);
        }
        self.has_before &= next.is_some();
    }
}
