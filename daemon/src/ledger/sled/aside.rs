//! All records but the journal's as of one moment, written aside while changes go on.
//!
//! To write them takes long when there are many, and nobody is to wait for that: 57 MiB of them (24
//! months of 10 metrics by the hour, of 10,000 scopes, and a million texts) took 0.7 s in a program
//! built for development. So first all are written as they come, and meanwhile the keys of every
//! change are noted; then changes wait for as long as it takes to read those keys again, and what
//! was written of them before is left out. Only where they are very many, or very large, changes
//! wait while all is written once more.
//!
//! ```text
//! records = "rated records\n" 1:u8 { table:u8 key:bytes value:bytes }
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalog::Catalog;
use super::codec::Writer;
use super::inner::Inner;
use super::journal::JOURNAL;
use super::store::{Store, Table, VALUE_SIZE_MAX, Write, store_error};
use crate::ledger::LedgerError;

/// In the ledger's folder until it is open; a start removes what a kill has left.
pub(super) const SPOOL_NAME: &str = "backup.records";
const MAGIC: &[u8] = b"rated records\n\x01";
/// When more keys than that change meanwhile, or their values have more bytes, changes wait while
/// all is written once more.
const KEYS_MAX: usize = if cfg!(test) { 100 } else { 10_000 };
const SIZE_MAX: usize = 64 << 20;
/// Longest key that is read, bytes: bounds what damage can make us allocate.
const KEY_SIZE_MAX: usize = 64 << 10;

type Keys = BTreeSet<(Table, Vec<u8>)>;

/// Keys that have changed since somebody began to note them.
#[derive(Debug, Default)]
pub(super) struct Changed(Mutex<Option<Keys>>);

impl Changed {
    /// A group is about to get to its places. Everything that it has written.
    pub(super) fn note<'a>(&self, writes: impl IntoIterator<Item = &'a Write>) {
        if let Some(keys) = &mut *self.lock() {
            let writes = writes.into_iter().filter(|_| keys.len() <= KEYS_MAX);
            let new: Vec<_> = writes.map(|write| (write.table, write.key.clone())).collect();
            keys.extend(new);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Keys>> {
        // A set of keys is sound whatever happened to the thread that held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records that are written aside, but for what has changed meanwhile.
#[derive(Debug)]
pub(super) struct Aside<'a> {
    inner: &'a Inner,
    spool: File,
}

/// Everything as of one moment.
#[derive(Debug)]
pub(super) struct Moment {
    pub(super) catalog: Catalog,
    /// The number of the last change.
    pub(super) change: u64,
    pub(super) spool: File,
}

impl<'a> Aside<'a> {
    /// One at a time.
    pub(super) fn write(inner: &'a Inner) -> Result<Aside<'a>, LedgerError> {
        let aside = Aside { inner, spool: open_spool(inner).map_err(store_error)? };
        {
            // What is on its way gets there before, or is noted.
            let _no_change = inner.lock_whole()?;
            *inner.changed.lock() = Some(Keys::new());
        }
        write_all(&inner.store, &aside.spool)?;
        Ok(aside)
    }

    pub(super) fn catch_up(self) -> Result<Moment, LedgerError> {
        let inner = self.inner;
        let catalog = inner.lock_whole()?;
        let moment = |spool| Moment {
            catalog: Catalog::clone(&catalog),
            change: inner.seals.change(),
            spool,
        };
        let keys = inner.changed.lock().take().unwrap_or_default();
        let all_of_it = || {
            let spool = open_spool(inner).map_err(store_error)?;
            write_all(&inner.store, &spool)?;
            Ok(moment(spool))
        };
        if keys.len() > KEYS_MAX {
            return all_of_it();
        }
        let (mut now, mut size) = (Vec::new(), 0);
        for (table, key) in &keys {
            if is_copied(*table, key)
                && let Some(value) = inner.store.get(*table, key)?
            {
                size += value.len();
                now.push((*table, key, value));
            }
            if size > SIZE_MAX {
                return all_of_it();
            }
        }
        let moment = moment(open_spool(inner).map_err(store_error)?);
        drop(catalog);
        let mut out = begin_records(&moment.spool)?;
        let mut before = self.spool.try_clone().map_err(store_error)?;
        before.rewind().map_err(store_error)?;
        let mut before = read_magic(before).map_err(store_error)?;
        while let Some((table, key, value)) = next_record(&mut before).map_err(store_error)? {
            let place = (table, key);
            if !keys.contains(&place) {
                write_record(&mut out, table, &place.1, &value)?;
            }
        }
        for (table, key, value) in now {
            write_record(&mut out, table, key, &value)?;
        }
        out.flush().map_err(store_error)?;
        drop(out);
        Ok(moment)
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        *self.inner.changed.lock() = None;
    }
}

/// What a journal says stands in its place already.
fn is_copied(table: Table, key: &[u8]) -> bool {
    table != Table::Meta || !key.starts_with(JOURNAL)
}

/// Without a name, so that nobody else writes to it, and it is gone when it is closed.
fn open_spool(inner: &Inner) -> io::Result<File> {
    let path: PathBuf = inner.data.ledger_folder().join(SPOOL_NAME);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

fn write_all(store: &Store, file: &File) -> Result<(), LedgerError> {
    let mut out = begin_records(file)?;
    for table in Table::all() {
        for entry in store.range(table, ..) {
            let (key, value) = entry?;
            if is_copied(table, &key) {
                write_record(&mut out, table, &key, &value)?;
            }
        }
    }
    out.flush().map_err(store_error)
}

fn begin_records(file: &File) -> Result<BufWriter<&File>, LedgerError> {
    let mut out = BufWriter::new(file);
    out.write_all(MAGIC).map_err(store_error)?;
    Ok(out)
}

fn write_record(
    out: &mut impl io::Write,
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<(), LedgerError> {
    let mut record = Writer::new();
    record.u8(table as u8);
    record.bytes(key);
    record.bytes(value);
    out.write_all(&record.into_bytes()).map_err(store_error)
}

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    #[error("cannot read the records")]
    Read(#[from] io::Error),
    #[error("the records are not what this program writes")]
    Strange,
}

pub(super) fn read_magic<R: Read>(records: R) -> Result<BufReader<R>, RecordsError> {
    let mut records = BufReader::new(records);
    let mut magic = [0; MAGIC.len()];
    records.read_exact(&mut magic)?;
    if magic == MAGIC { Ok(records) } else { Err(RecordsError::Strange) }
}

pub(super) type Record = (Table, Vec<u8>, Vec<u8>);

/// `None` = that was the last one.
pub(super) fn next_record(records: &mut impl Read) -> Result<Option<Record>, RecordsError> {
    let mut table = [0];
    if records.read(&mut table)? == 0 {
        return Ok(None);
    }
    let table = Table::from_number(table[0]).ok_or(RecordsError::Strange)?;
    let key = read_bytes(records, KEY_SIZE_MAX)?;
    let value = read_bytes(records, VALUE_SIZE_MAX)?;
    Ok(Some((table, key, value)))
}

fn read_bytes(records: &mut impl Read, size_max: usize) -> Result<Vec<u8>, RecordsError> {
    let mut size = 0_usize;
    for shift in (0..28).step_by(7) {
        let mut byte = [0];
        records.read_exact(&mut byte)?;
        size |= usize::from(byte[0] & 0x7F) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    if size > size_max {
        return Err(RecordsError::Strange);
    }
    let mut bytes = vec![0; size];
    records.read_exact(&mut bytes)?;
    Ok(bytes)
}
