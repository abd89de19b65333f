//! A copy of the ledger as it was at one moment, while the ledger goes on.
//!
//! What stands in sled is written aside at the begin, while changes wait. Data files only ever
//! grow, and whoever began to read before keeps them from being deleted: what they had at that
//! moment can be read for as long as the backup lasts. There is one backup at a time; one that
//! nobody reads is given up.
//!
//! ```text
//! <ledger>/backup.records      has no name any more once it is open; a start removes what is left
//! records = "rated records\n" 1:u8 { table:u8 key:bytes value:bytes }
//! ```
//!
//! Everything but the journal is in it: what a journal says stands in its place already.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

use super::LEDGER_VERSION;
use super::catalog::Catalog;
use super::codec::Writer;
use super::data::{FileId, Files};
use super::ledger::Inner;
use super::opening::{OpenError, SledOptions};
use super::query::read_error;
use super::readers::Stay;
use super::space::Share;
use super::store::{JOURNAL, Store, Table, VALUE_SIZE_MAX, Write, store_error};
use crate::ledger::{BACKUP_PIECE_SIZE_MAX, BackupPart, BackupPlan, BackupRead, LedgerError};

pub(super) const SPOOL_NAME: &str = "backup.records";
const MAGIC: &[u8] = b"rated records\n\x01";

/// A backup that nobody has read of for so long has ended.
const IDLE: TimeDelta = TimeDelta::minutes(15);
/// Bytes that are hashed at once.
const DIGEST_PIECE_SIZE: u32 = 1 << 20;
/// So many writes are made durable together when records are restored.
const RESTORE_WRITES: usize = 1000;
/// Longest key that is restored, bytes: bounds what damage can make us allocate.
const KEY_SIZE_MAX: usize = 64 << 10;

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
        backups.0 = None;
        if let Some(broken) = self.store.broken().first() {
            return Err(broken.damage());
        }
        // Told from those of an earlier start, too.
        let id = u64::try_from(now.timestamp_millis()).unwrap_or(0).max(last_id + 1);
        self.space.check(self.store.size_on_disk()?, Share::All)?;
        let spool = open_spool(&self.data.ledger_folder().join(SPOOL_NAME)).map_err(store_error)?;
        let stay = self.readers.stay();
        let (catalog, change) = {
            let catalog = self.lock_whole()?;
            write_aside(&self.store, &spool)?;
            (Catalog::clone(&catalog), self.seals.change())
        };
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

fn open_spool(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// All records but those of the journal.
fn write_aside(store: &Store, file: &File) -> Result<(), LedgerError> {
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC).map_err(store_error)?;
    for table in Table::all() {
        for entry in store.range(table, ..) {
            let (key, value) = entry?;
            if table == Table::Meta && key.starts_with(JOURNAL) {
                continue;
            }
            let mut record = Writer::new();
            record.u8(table as u8);
            record.bytes(&key);
            record.bytes(&value);
            out.write_all(&record.into_bytes()).map_err(store_error)?;
        }
    }
    out.flush().map_err(store_error)
}

#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot read the records of the backup")]
    Read(#[source] io::Error),
    #[error("the records of the backup are not what this program writes")]
    Strange,
    #[error("cannot write the ledger")]
    Open(#[from] OpenError),
    #[error("cannot write the ledger")]
    Write(#[from] LedgerError),
}

/// Writes the records of a backup into a ledger that has none: its folder has data files at most.
/// Durable when it returns.
pub fn restore_records(path: &Path, records: impl Read) -> Result<(), RestoreError> {
    let mut records = BufReader::new(records);
    let mut magic = [0; MAGIC.len()];
    records.read_exact(&mut magic).map_err(RestoreError::Read)?;
    if magic != MAGIC {
        return Err(RestoreError::Strange);
    }
    let store = Store::open_to_restore(path, SledOptions::default())?;
    let mut writes = Vec::new();
    loop {
        let mut table = [0];
        if records.read(&mut table).map_err(RestoreError::Read)? == 0 {
            break;
        }
        let table = Table::from_number(table[0]).ok_or(RestoreError::Strange)?;
        let key = read_bytes(&mut records, KEY_SIZE_MAX)?;
        let value = read_bytes(&mut records, VALUE_SIZE_MAX)?;
        writes.push(Write::put(table, key, value));
        if writes.len() >= RESTORE_WRITES {
            store.write_early(&std::mem::take(&mut writes))?;
        }
    }
    store.write_early(&writes)?;
    store.sync()?;
    Ok(())
}

fn read_bytes(records: &mut impl Read, size_max: usize) -> Result<Vec<u8>, RestoreError> {
    let mut size = 0_usize;
    for shift in (0..28).step_by(7) {
        let mut byte = [0];
        records.read_exact(&mut byte).map_err(RestoreError::Read)?;
        size |= usize::from(byte[0] & 0x7F) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if size > size_max {
        return Err(RestoreError::Strange);
    }
    let mut bytes = vec![0; size];
    records.read_exact(&mut bytes).map_err(RestoreError::Read)?;
    Ok(bytes)
}
