//! What is known to be missing: nobody is answered as if it were there.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::error;

use super::LEDGER_VERSION;
use super::data::Month;
use super::ledger::SledLedger;
use super::lost::Lost;
use super::queue::Stage;
use super::seal_group::Group;
use super::store::{Store, Table};
use crate::ledger::LedgerError;

impl Store {
    /// From now on nothing is given of these groups.
    pub(super) fn set_broken(&self, groups: Vec<Group>) {
        self.broken.store(Arc::new(groups));
    }

    /// Nor of this one. Whether that is new.
    pub(super) fn add_broken(&self, group: &Group) -> bool {
        let with_it = |groups: &Arc<Vec<Group>>| {
            let is_other = |other: &&Group| *other != group;
            let others = groups.iter().filter(is_other);
            others.chain([group]).cloned().collect::<Vec<_>>()
        };
        !self.broken.rcu(with_it).contains(group)
    }

    pub(super) fn broken(&self) -> Arc<Vec<Group>> {
        self.broken.load_full()
    }

    /// Whether a table whose records are one group is broken.
    pub(super) fn is_broken(&self, table: Table) -> bool {
        self.broken().iter().any(|group| group.table() == Some(table))
    }

    /// From now on no figures are given of the periods of these.
    pub(super) fn set_lost(&self, lost: Vec<Lost>) {
        let is_first = self.lost.set(lost).is_ok();
        debug_assert!(is_first, "a ledger is opened once");
    }

    pub(super) fn lost(&self) -> &[Lost] {
        self.lost.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether nothing of what begins in `[begin, end)` was acknowledged and is gone. What
    /// identifies a scope concerns all of its periods.
    pub(super) fn check_lost(&self, begin_secs: i64, end_secs: i64) -> Result<(), LedgerError> {
        let meets = |lost: &&Lost| {
            let is_in = |(first, last)| first < end_secs && begin_secs <= last;
            lost.is_about(Table::Scopes) || lost.periods.is_some_and(is_in)
        };
        self.lost().iter().find(meets).map_or(Ok(()), |lost| Err(lost.damage()))
    }

    /// Whether nothing is known to be missing.
    pub(super) fn is_whole(&self) -> bool {
        self.broken().is_empty() && self.lost().is_empty()
    }

    /// The journal is damaged. What it says stands in its places already, unless the daemon was
    /// killed: seals and marks tell.
    pub(super) fn note_unreplayed(&self, error: LedgerError) -> Result<(), LedgerError> {
        if self.version_found != Some(LEDGER_VERSION) {
            return Err(error);
        }
        match error {
            LedgerError::Damaged { detail, .. } => {
                let is_first = self.unreplayed.set(detail).is_ok();
                debug_assert!(is_first, "the journal is replayed once");
                Ok(())
            }
            error => Err(error),
        }
    }

    pub(super) fn unreplayed(&self) -> Option<LedgerError> {
        let detail = self.unreplayed.get()?.clone();
        Some(LedgerError::Damaged { place: "the journal".to_owned(), detail })
    }

    pub(super) fn broken_at(&self, table: Table, key: &[u8]) -> Option<Group> {
        let all = self.broken.load();
        if all.is_empty() {
            return None;
        }
        let group = Group::of(table, key);
        let is_it = |broken: &&Group| match (broken.table(), &group) {
            (Some(Table::Meta), Some(group)) => *broken == group,
            (Some(Table::Meta), None) => false,
            // Who looks at all of a table looks at what is broken, too.
            (found, _) if key.is_empty() => found == Some(table),
            (_, Some(group)) => *broken == group,
            (_, None) => {
                let dictionary = broken.dictionary().map(u32::to_be_bytes);
                table == Table::Texts && dictionary.is_some_and(|number| key.starts_with(&number))
            }
        };
        all.iter().find(is_it).cloned()
    }

    /// A month of slices that is broken and in which something in `[begin, end)` may begin.
    pub(super) fn broken_month(&self, begin_secs: i64, end_secs: i64) -> Option<Group> {
        let meets = |group: &&Group| {
            let month = group.month();
            let meets =
                |month: Month| month.begin_secs() < end_secs && begin_secs < month.end_secs();
            month.is_some_and(meets)
        };
        self.broken.load().iter().find(meets).cloned()
    }
}

impl SledLedger {
    /// Nothing is answered any more of what is not what was written, nor deleted; and the next
    /// start compares it again.
    pub(super) fn hold(&self, group: Group) {
        if !self.inner.store.add_broken(&group) {
            return;
        }
        self.inner.version.fetch_add(1, Ordering::Release);
        let suspect = move |stage: &mut Stage| {
            stage.suspects.push(group);
            Ok(())
        };
        if let Err(error) = self.change(suspect) {
            let error: &(dyn Error + 'static) = &error;
            error!(error, "What is damaged could not be noted: the next start may not tell it.");
        }
    }
}
