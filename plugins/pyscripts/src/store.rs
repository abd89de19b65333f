//! The scripts in the daemon's key-value store: read once for each revision, edited optimistically.
//!
//! An edit is decided on a snapshot and stored only if the store is still at that snapshot's
//! revision; else it is decided again on the newer one. So two callers never overwrite each other,
//! and what was acknowledged is in the store. Texts are not kept in memory here.

use std::sync::{Arc, Mutex, PoisonError};

use rated_plugin::{Edit, Error, Host, Result, Status};

use crate::record::{self, Id, SCRIPT_PREFIX, Script};

/// How often an edit is decided again because another instance was faster.
const EDIT_ATTEMPTS_MAX: usize = 16;
/// No key begins like this: a scan of it says the revision and nothing else.
const NO_KEYS: &str = "none/";

/// All scripts as they were at one revision, in the order they were made.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) revision: u64,
    scripts: Arc<Vec<(Id, Script)>>,
}

impl Snapshot {
    pub(crate) fn get(&self, id: Id) -> Option<&Script> {
        self.iter().find(|(found, _)| *found == id).map(|(_, script)| script)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &Script)> {
        self.scripts.iter().map(|(id, script)| (*id, script))
    }

    /// Those that are not deleted.
    pub(crate) fn kept(&self) -> impl Iterator<Item = (Id, &Script)> {
        self.iter().filter(|(_, script)| script.deleted.is_none())
    }

    /// The place of the next script in the order of creation.
    pub(crate) fn next_seq(&self) -> u64 {
        self.scripts.last().map_or(1, |(_, script)| script.seq.saturating_add(1))
    }
}

#[derive(Debug)]
pub(crate) struct Store {
    host: Host,
    /// What was read last, mostly the newest revision.
    cache: Mutex<Option<Snapshot>>,
    /// Held while an edit is decided and stored: callers of this instance wait for each other
    /// instead of conflicting.
    editing: Mutex<()>,
}

impl Store {
    pub(crate) fn new(host: Host) -> Store {
        Store { host, cache: Mutex::new(None), editing: Mutex::new(()) }
    }

    /// The newest scripts.
    pub(crate) fn newest(&self) -> Result<Snapshot> {
        let (revision, _) = self.host.kv_scan(Host::NOW, NO_KEYS)?;
        self.read(revision)
    }

    /// The scripts as of a revision ([`Host::NOW`] = the newest).
    pub(crate) fn at(&self, revision: u64) -> Result<Snapshot> {
        if revision == Host::NOW { self.newest() } else { self.read(revision) }
    }

    fn read(&self, revision: u64) -> Result<Snapshot> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.as_ref().filter(|known| known.revision == revision) {
            return Ok(known.clone());
        }
        let (_, pairs) = self.host.kv_scan(revision, SCRIPT_PREFIX)?;
        let scripts = pairs.iter().map(|(key, value)| record::read(key, value));
        let mut scripts = scripts.collect::<Result<Vec<_>>>()?;
        scripts.sort_by_key(|(id, script)| (script.seq, *id));
        let read = Snapshot { revision, scripts: Arc::new(scripts) };
        // An older revision, read for an audit, does not push out the newest.
        if cache.as_ref().is_none_or(|kept| kept.revision < revision) {
            *cache = Some(read.clone());
        }
        Ok(read)
    }

    /// A script's text at a revision.
    pub(crate) fn data(&self, revision: u64, id: Id) -> Result<String> {
        let key = id.data_key();
        let damaged = |detail: &str| Error::internal(format!("stored key `{key}`: {detail}"));
        let bytes = self.host.kv_get(revision, &key)?.ok_or_else(|| damaged("is not there"))?;
        String::from_utf8(bytes).map_err(|_| damaged("is not UTF-8"))
    }

    /// Decides on the newest scripts what to change and stores that; decides again when somebody
    /// else was faster.
    ///
    /// An edit without changes stores nothing.
    pub(crate) fn edit<T, E: From<Error>>(
        &self,
        mut decide: impl FnMut(&Snapshot) -> Result<(Vec<Edit>, T), E>,
    ) -> Result<T, E> {
        let _guard = self.editing.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..EDIT_ATTEMPTS_MAX {
            let read = self.newest()?;
            let (edits, outcome) = decide(&read)?;
            if edits.is_empty() {
                return Ok(outcome);
            }
            match self.host.kv_apply(read.revision, &edits) {
                Ok(_) => return Ok(outcome),
                Err(error) if error.status == Status::Conflict => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::conflict("the scripts are being changed by others, try again").into())
    }
}
