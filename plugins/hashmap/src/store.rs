//! The rules in the daemon's key-value store: read once for each revision, edited optimistically.
//!
//! An edit is decided on a snapshot and stored only if the store is still at that snapshot's
//! revision; else it is decided again on the newer one. So two callers never overwrite each other,
//! and what was acknowledged is in the store.
//!
//! A store that was never written (revision 0) stands for the price list of the configuration. It
//! is written down at the first opportunity; from then on the store's word holds, whatever the
//! configuration says.

use std::sync::{Arc, Mutex, PoisonError};

use rated_plugin::{Edit, Error, Host, Result, Status};

use crate::record::{self, Change};
use crate::snapshot::Snapshot;

/// How often an edit is decided again because another instance was faster.
const EDIT_ATTEMPTS_MAX: usize = 16;
/// Most services, fields, groups and rules together: all of them are in memory.
const OBJECTS_MAX: usize = 100_000;
/// No key begins like this: a scan of it says the revision and nothing else.
const NO_KEYS: &str = "none/";

/// A snapshot and the revision it was read at.
#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) revision: u64,
    pub(crate) snapshot: Arc<Snapshot>,
}

#[derive(Debug)]
pub(crate) struct Store {
    host: Host,
    /// What makes the price list of the configuration.
    initial: Vec<Change>,
    /// What was read last, mostly the newest revision.
    cache: Mutex<Option<Read>>,
    /// Held while an edit is decided and stored: callers of this instance wait for each other
    /// instead of conflicting.
    editing: Mutex<()>,
}

impl Store {
    pub(crate) fn new(host: Host, initial: Vec<Change>) -> Store {
        Store { host, initial, cache: Mutex::new(None), editing: Mutex::new(()) }
    }

    /// The newest rules.
    pub(crate) fn newest(&self) -> Result<Read> {
        let (revision, _) = self.host.kv_scan(Host::NOW, NO_KEYS)?;
        if revision > 0 {
            return self.at(revision);
        }
        self.write_initial()?;
        let (revision, _) = self.host.kv_scan(Host::NOW, NO_KEYS)?;
        self.at(revision)
    }

    /// The rules as of a revision ([`Host::NOW`] = the newest).
    pub(crate) fn at(&self, revision: u64) -> Result<Read> {
        if revision == Host::NOW {
            return self.newest();
        }
        if revision == 0 {
            return Ok(Read { revision, snapshot: Arc::new(self.initial_snapshot()) });
        }
        if let Some(read) = self.cached(revision) {
            return Ok(read);
        }
        let (found, pairs) = self.host.kv_scan(revision, "")?;
        let mut snapshot = Snapshot::default();
        for (key, value) in &pairs {
            let (id, record) = record::read(key, value)?;
            snapshot.put(id, record);
        }
        let read = Read { revision: found, snapshot: Arc::new(snapshot) };
        self.keep(read.clone());
        Ok(read)
    }

    /// Decides on the newest rules what to change and stores that; decides again when somebody else
    /// was faster.
    ///
    /// An edit without changes stores nothing.
    pub(crate) fn edit<T, E: From<Error>>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Result<(Vec<Change>, T), E>,
    ) -> Result<T, E> {
        self.edit_read(|read| decide(&read.snapshot)).map(|(_, outcome)| outcome)
    }

    /// The same for who asks for the revision: decides with the one read, says the one made.
    pub(crate) fn edit_read<T, E: From<Error>>(
        &self,
        mut decide: impl FnMut(&Read) -> Result<(Vec<Change>, T), E>,
    ) -> Result<(u64, T), E> {
        let _guard = self.editing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..EDIT_ATTEMPTS_MAX {
            let read = self.newest()?;
            let (changes, outcome) = decide(&read)?;
            if changes.is_empty() {
                return Ok((read.revision, outcome));
            }
            check_room(&read.snapshot, &changes)?;
            let edits: Vec<Edit> = changes.iter().map(Change::to_edit).collect();
            match self.host.kv_apply(read.revision, &edits) {
                Ok(revision) => {
                    self.advance(read, revision, &changes);
                    return Ok((revision, outcome));
                }
                Err(error) if error.status == Status::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::conflict("the rules are being changed by others, try again").into())
    }

    /// Writes the price list of the configuration into a store that was never written.
    pub(crate) fn write_initial(&self) -> Result<()> {
        if self.initial.is_empty() {
            return Ok(());
        }
        let edits: Vec<Edit> = self.initial.iter().map(Change::to_edit).collect();
        match self.host.kv_apply(0, &edits) {
            // A conflict means that the store has been written before.
            Err(error) if error.status != Status::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    fn initial_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for change in &self.initial {
            snapshot.apply(change);
        }
        snapshot
    }

    fn cached(&self, revision: u64) -> Option<Read> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.as_ref().filter(|read| read.revision == revision).cloned()
    }

    /// An older revision, read for an audit, does not push out the newest.
    fn keep(&self, read: Read) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.as_ref().is_none_or(|kept| kept.revision < read.revision) {
            *cache = Some(read);
        }
    }

    /// What was stored needs no reading back: nobody else came between `read` and `revision`.
    fn advance(&self, read: Read, revision: u64, changes: &[Change]) {
        {
            // Let go of the cache's share, so that the change need not copy.
            let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if cache.as_ref().is_some_and(|kept| kept.revision == read.revision) {
                *cache = None;
            }
        }
        let mut snapshot = read.snapshot;
        let newest = Arc::make_mut(&mut snapshot);
        for change in changes {
            newest.apply(change);
        }
        self.keep(Read { revision, snapshot });
    }
}

/// What makes no more of them is always possible.
fn check_room(snapshot: &Snapshot, changes: &[Change]) -> Result<()> {
    let is_new = |change: &&Change| match change {
        Change::Put(id, _) => !snapshot.contains(*id),
        Change::Remove(..) => false,
    };
    let new = changes.iter().filter(is_new).count();
    let removed = changes.iter().filter(|change| matches!(change, Change::Remove(..))).count();
    let count = (snapshot.count() + new).saturating_sub(removed);
    if new > removed && count > OBJECTS_MAX {
        return Err(Error::invalid_request(format!(
            "there would be {count} services, fields, groups and rules, at most {OBJECTS_MAX} are \
             kept"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Group, Id, Record, Table, Version};

    fn put(seq: u64) -> Change {
        let name = format!("g{seq}");
        Change::put(Id::random(), Record::Group(Group { v: Version, seq, name }))
    }

    #[test]
    fn a_full_store_takes_nothing_new_but_everything_else() {
        let mut snapshot = Snapshot::default();
        let changes: Vec<Change> = (0..OBJECTS_MAX as u64).map(put).collect();
        check_room(&snapshot, &changes).unwrap();
        for change in &changes {
            snapshot.apply(change);
        }
        let Change::Put(id, record) = changes[7].clone() else { unreachable!("all are put") };

        let replaced = [Change::Put(id, record)];
        let removed = [Change::Remove(id, Table::Group)];
        let exchanged = [Change::Remove(id, Table::Group), put(9)];

        assert!(check_room(&snapshot, &[put(1)]).is_err());
        for change in [&replaced[..], &removed, &exchanged] {
            check_room(&snapshot, change).unwrap();
        }
    }
}
