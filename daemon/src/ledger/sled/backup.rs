//! A copy of the ledger as it was at one moment, while the ledger goes on.
//!
//! What stands in sled is written aside at the begin (`aside`), for which changes hardly wait
//! unless very many come meanwhile. Data files only ever grow, and whoever began to read before
//! keeps them from being deleted: what they had at that moment can be read for as long as the
//! backup lasts. There is one backup at a time; one that nobody reads is given up, and one that is
//! refused leaves the one that runs.
//!
//! Everything but the journal is in it: what a journal says stands in its place already.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::LEDGER_VERSION;
use super::aside::{Aside, Moment, RecordsError, next_record, read_magic};
use super::data::{FileId, Files};
use super::inner::Inner;
use super::opening::{OpenError, SledOptions};
use super::query::read_error;
use super::readers::Stay;
use super::space::Share;
use super::store::{Store, Write, store_error};
use crate::fault::{Step, passed};
use crate::ledger::{BACKUP_PIECE_SIZE_MAX, BackupPart, BackupPlan, BackupRead, LedgerError};

/// A backup that nobody has read of for so long has ended.
const IDLE: TimeDelta = TimeDelta::minutes(15);
/// Bytes that are hashed at once.
const DIGEST_PIECE_SIZE: u32 = 1 << 20;
/// So many writes are made durable together when records are restored.
const RESTORE_WRITES: usize = 1000;

/// The one backup there may be.
#[derive(Debug, Default)]
pub(super) struct Backups(Option<Arc<Backup>>);

#[derive(Debug)]
struct Backup {
    id: u64,
    /// Sizes as they were.
    files: Arc<Files>,
    /// Without a name: nobody else can write to it, and it is gone when it is closed.
    spool: File,
    records_size: u64,
    last_read: Mutex<DateTime<Utc>>,
    _stay: Stay,
}

impl Inner {
    fn backups(&self) -> MutexGuard<'_, Backups> {
        self.backups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_backup(&self, now: DateTime<Utc>) -> Result<BackupPlan, LedgerError> {
        let mut backups = self.backups();
        let last_id = backups.0.as_ref().map_or(0, |backup| backup.id);
        if let Some(broken) = self.store.broken().first() {
            return Err(broken.damage());
        }
        // Nor of what is left: it would take the place of one that has all.
        if let Some(lost) = self.store.lost().first() {
            return Err(lost.damage());
        }
        if let Some(error) = self.catalog().holes.errors().next() {
            return Err(error);
        }
        // Told from those of an earlier start, too.
        let id = u64::try_from(now.timestamp_millis()).unwrap_or(0).max(last_id + 1);
        // Records are written aside, and once more with what has changed meanwhile.
        self.space.check(2 * self.store.size_on_disk()?, Share::All)?;
        // From here on it takes the place of the one that runs.
        backups.0 = None;
        let stay = self.readers.stay();
        let Moment { catalog, change, spool } = Aside::write(self)?.catch_up()?;
        passed(Step::BackupSpooled);
        let records_size = spool.metadata().map_err(store_error)?.len();
        let files = catalog.files.iter().map(|(file, entry)| (file.to_string(), entry.size));
        let plan =
            BackupPlan { id, change, format: LEDGER_VERSION, records_size, files: files.collect() };
        let (files, last_read) = (catalog.files, Mutex::new(now));
        let backup = Backup { id, files, spool, records_size, last_read, _stay: stay };
        backups.0 = Some(Arc::new(backup));
        Ok(plan)
    }

    fn backup(&self, read: &BackupRead) -> Result<Arc<Backup>, LedgerError> {
        let backups = self.backups();
        let backup = backups.0.as_ref().filter(|backup| backup.id == read.id);
        let backup = backup.ok_or(LedgerError::NoBackup(read.id))?;
        *backup.last_read.lock().unwrap_or_else(PoisonError::into_inner) = read.now;
        Ok(Arc::clone(backup))
    }

    /// Less than was asked for at the end of a part.
    pub(super) fn read_backup(&self, read: &BackupRead) -> Result<Vec<u8>, LedgerError> {
        let backup = self.backup(read)?;
        let size = read.size.min(BACKUP_PIECE_SIZE_MAX);
        backup.read(self, &read.part, read.offset, size)
    }

    /// Of the first `size` bytes of a part.
    pub(super) fn backup_digest(&self, read: &BackupRead) -> Result<[u8; 32], LedgerError> {
        let backup = self.backup(read)?;
        let mut hasher = Sha256::new();
        let mut offset = 0;
        while offset < read.size {
            let size = (read.size - offset).min(u64::from(DIGEST_PIECE_SIZE));
            let bytes = backup.read(self, &read.part, offset, size)?;
            if bytes.is_empty() {
                break;
            }
            hasher.update(&bytes);
            offset += bytes.len() as u64;
        }
        Ok(hasher.finalize().into())
    }

    pub(super) fn end_backup(&self, id: u64) -> Result<(), LedgerError> {
        let mut backups = self.backups();
        if backups.0.as_ref().is_none_or(|backup| backup.id != id) {
            return Err(LedgerError::NoBackup(id));
        }
        backups.0 = None;
        Ok(())
    }

    pub(super) fn end_idle_backup(&self, now: DateTime<Utc>) {
        let mut backups = self.backups();
        let is_idle = backups.0.as_ref().is_some_and(|backup| {
            let last = *backup.last_read.lock().unwrap_or_else(PoisonError::into_inner);
            now - last > IDLE
        });
        if is_idle {
            backups.0 = None;
        }
    }
}

impl Backup {
    fn read(
        &self,
        inner: &Inner,
        part: &BackupPart,
        offset: u64,
        size: u64,
    ) -> Result<Vec<u8>, LedgerError> {
        let within = |end: u64| u32::try_from(size.min(end.saturating_sub(offset))).unwrap_or(0);
        match part {
            BackupPart::Records => {
                let mut bytes = vec![0; within(self.records_size) as usize];
                self.spool.read_exact_at(&mut bytes, offset).map_err(store_error)?;
                Ok(bytes)
            }
            BackupPart::File(name) => {
                let is_it = |(file, _): &(&FileId, _)| file.to_string() == *name;
                let (file, entry) =
                    self.files.iter().find(is_it).ok_or(LedgerError::NoBackup(self.id))?;
                inner.data.with_bytes(*file, offset, within(entry.size), |bytes| {
                    let bytes = bytes.map_err(|error| read_error(error, format!("`data/{name}`")));
                    bytes.map(<[u8]>::to_vec)
                })
            }
        }
    }
}

/// Why records could not be restored: the backup's fault, or that of where they were to go.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot take the records from the backup")]
    Read(#[from] RecordsError),
    #[error("cannot write the ledger")]
    Open(#[from] OpenError),
    #[error("cannot write the ledger")]
    Write(#[from] LedgerError),
}

/// Writes the records of a backup (as `BackupPart::Records` has them) into the folder of a ledger
/// that has none: it has the backup's data files at most. Durable when it returns; after an error
/// the folder holds a part of them, to be thrown away.
pub fn restore_records(path: &Path, records: impl Read) -> Result<(), RestoreError> {
    let mut records = read_magic(records)?;
    let store = Store::open_to_restore(path, SledOptions::default())?;
    let mut writes = Vec::new();
    while let Some((table, key, value)) = next_record(&mut records)? {
        writes.push(Write::put(table, key, value));
        if writes.len() >= RESTORE_WRITES {
            store.write_early(&std::mem::take(&mut writes))?;
        }
    }
    store.write_early(&writes)?;
    passed(Step::RestoreRecordsWritten);
    store.sync()?;
    Ok(())
}
