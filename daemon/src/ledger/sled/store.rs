//! sled's folder: opened by one process, written and synced so that power may go at any moment.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::codec::{self, Damage, Kind, Packed, Reader, Writer};
use super::ledger::{OpenError, SledOptions};
use super::{HEADER_MAGIC, LEDGER_VERSION};
use crate::ledger::LedgerError;

/// sled writes its log in pieces of this size; a value or a page of more than a quarter goes into a
/// file of its own, which sled never syncs.
const SEGMENT_SIZE: usize = 4 << 20;

/// A leaf of sled's tree has 16 values at most before it is split, and is written as one piece when
/// it is merged: 17 values and their keys must stay below a quarter of a segment.
pub(super) const VALUE_SIZE_MAX: usize = 40 << 10;
const _: () = assert!(VALUE_SIZE_MAX * 20 < SEGMENT_SIZE / 4);

/// Most bytes that are written between two syncs: well below a segment, because sled may write over
/// a segment whose live pages it has moved without having synced the copies. Only the queue writes.
const SYNC_WINDOW_SIZE: usize = 1 << 20;

/// How often sled cleans segments that are mostly garbage, and syncs that.
const CLEANING_INTERVAL_MS: u64 = 500;

/// The trees; the numbers stand in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Table {
    Meta = 0,
    Scopes = 1,
    Metrics = 2,
    Cursors = 3,
    Slices = 4,
    /// Up to format 3; empty since.
    Rollups = 5,
    /// Up to format 3; empty since.
    Blocks = 6,
    Texts = 7,
    Kv = 8,
    States = 9,
    Notes = 10,
    Chains = 11,
    /// Up to format 3; empty since.
    Removed = 12,
    Pushes = 13,
    Reprocessings = 14,
    Staged = 15,
    Files = 16,
    Sums = 17,
}

const TABLES: [(Table, &str); 18] = [
    (Table::Meta, "meta"),
    (Table::Scopes, "scopes"),
    (Table::Metrics, "metrics"),
    (Table::Cursors, "cursors"),
    (Table::Slices, "slices"),
    (Table::Rollups, "rollups"),
    (Table::Blocks, "blocks"),
    (Table::Texts, "texts"),
    (Table::Kv, "kv"),
    (Table::States, "states"),
    (Table::Notes, "notes"),
    (Table::Chains, "chains"),
    (Table::Removed, "removed"),
    (Table::Pushes, "pushes"),
    (Table::Reprocessings, "reprocessings"),
    (Table::Staged, "staged"),
    (Table::Files, "files"),
    (Table::Sums, "sums"),
];

impl Table {
    pub(super) fn name(self) -> &'static str {
        TABLES[self as usize].1
    }
}

/// One change of one key; no value = remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

impl Write {
    pub(super) fn put(table: Table, key: Vec<u8>, value: Vec<u8>) -> Write {
        Write { table, key, value: Some(value) }
    }

    pub(super) fn remove(table: Table, key: Vec<u8>) -> Write {
        Write { table, key, value: None }
    }

    /// Whether the store takes it; longer values are cut up by those who write them.
    pub(super) fn fits(&self) -> bool {
        self.value_size() <= VALUE_SIZE_MAX
    }

    pub(super) fn value_size(&self) -> usize {
        self.value.as_ref().map_or(0, Vec::len)
    }

    fn size(&self) -> usize {
        self.key.len() + self.value_size()
    }
}

#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    /// sled's log, opened once more to be synced.
    log: File,
    /// Which half of the journal's keys is written next.
    journal_slot: std::sync::atomic::AtomicU8,
    /// Held until the end: one daemon for a folder.
    _lock: File,
}

const JOURNAL: &[u8] = b"journal";
const JOURNAL_KIND: Kind = Kind(b'J', 2);
/// About how many bytes of writes are packed together: well below what a packed column may have.
const JOURNAL_PIECE_SIZE: usize = 8 << 20;
const HEADER: &[u8] = b"header";
const HEADER_KIND: Kind = Kind(b'L', 1);

impl Store {
    pub(super) fn open(path: &Path, options: SledOptions) -> Result<Store, OpenError> {
        fs::create_dir_all(path).map_err(|source| OpenError::folder(path, source))?;
        let lock = lock_folder(path)?;
        remove_leftovers(path).map_err(|source| OpenError::folder(path, source))?;
        let db = open_sled(path, options)?;
        check_header(&db, path)?;
        let trees = TABLES.iter().map(|(_, name)| db.open_tree(name)).collect::<Result<_, _>>();
        let trees = trees.map_err(store_error)?;
        let log = OpenOptions::new().read(true).write(true).open(path.join("db"));
        let log = log.map_err(|source| OpenError::folder(path, source))?;
        let store = Store {
            db,
            trees,
            log,
            journal_slot: std::sync::atomic::AtomicU8::new(0),
            _lock: lock,
        };
        sync_folders(path).map_err(|source| OpenError::folder(path, source))?;
        store.replay_journal()?;
        store.sync()?;
        Ok(store)
    }

    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<sled::IVec>, LedgerError> {
        self.tree(table).get(key).map_err(|error| read_error(table, error))
    }

    /// Keys and values in key order.
    pub(super) fn range(
        &self,
        table: Table,
        range: impl std::ops::RangeBounds<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), LedgerError>> {
        let entries = self.tree(table).range(range);
        entries.map(move |entry| entry.map_err(|error| read_error(table, error)))
    }

    pub(super) fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Result<(sled::IVec, sled::IVec), LedgerError>> {
        let entries = self.tree(table).scan_prefix(prefix);
        entries.map(move |entry| entry.map_err(|error| read_error(table, error)))
    }

    pub(super) fn size_on_disk(&self) -> Result<u64, LedgerError> {
        self.db.size_on_disk().map_err(store_error)
    }

    /// Writes what no reader looks at yet.
    pub(super) fn write_early(&self, writes: &[Write]) -> Result<(), LedgerError> {
        let mut unsynced = 0;
        for write in writes {
            unsynced += write.size();
            if unsynced > SYNC_WINDOW_SIZE {
                self.sync()?;
                unsynced = write.size();
            }
            // What is removed makes sled move what stays beside it.
            unsynced += self.write_one(write)?;
        }
        Ok(())
    }

    /// After this the writes are durable, all or none of them, but not in their places yet:
    /// [`Store::apply`] puts them there, now or when the store is opened again.
    pub(super) fn journal(&self, writes: &[Write]) -> Result<(), LedgerError> {
        use std::sync::atomic::Ordering::Relaxed;
        let slot = self.journal_slot.fetch_xor(1, Relaxed);
        let body = encode_writes(writes);
        let parts: Vec<&[u8]> = body.chunks(VALUE_SIZE_MAX).collect();
        let [inline] = parts.as_slice() else {
            return self.journal_in_parts(slot, &parts);
        };
        self.write_journal_header(slot, 0, inline)
    }

    fn journal_in_parts(&self, slot: u8, parts: &[&[u8]]) -> Result<(), LedgerError> {
        let mut early = Vec::new();
        for (index, part) in (0_u32..).zip(parts) {
            early.push(Write::put(Table::Meta, journal_part_key(slot, index), part.to_vec()));
        }
        self.write_early(&early)?;
        let crc = crc32fast::hash(&parts.concat());
        self.write_journal_header(slot, parts.len(), &crc.to_le_bytes())
    }

    fn write_journal_header(&self, slot: u8, parts: usize, rest: &[u8]) -> Result<(), LedgerError> {
        let mut header = Writer::framed(JOURNAL_KIND);
        header.u8(slot);
        header.count(parts);
        header.raw(rest);
        self.write_one(&Write::put(Table::Meta, JOURNAL.to_vec(), header.seal()))?;
        self.sync()
    }

    /// Puts journaled writes into their places. No sync at the end: until the next journal is
    /// durable, and with it all that was written before, this one is replayed at every start.
    pub(super) fn apply(&self, writes: &[Write]) -> Result<(), LedgerError> {
        self.write_early(writes)
    }

    /// Everything written so far is on the disk when this returns.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        self.db.flush().map_err(store_error)?;
        self.log.sync_data().map_err(store_error)
    }

    /// How many bytes a removal took away.
    fn write_one(&self, write: &Write) -> Result<usize, LedgerError> {
        let tree = self.tree(write.table);
        let Some(value) = &write.value else {
            let removed = tree.remove(&write.key).map_err(store_error)?;
            return Ok(removed.map_or(0, |value| value.len()));
        };
        let size = value.len();
        // The journal's header carries a little more than one value.
        assert!(size <= VALUE_SIZE_MAX + 64, "a stored value has {size} bytes");
        tree.insert(&write.key, value.as_slice()).map_err(store_error)?;
        Ok(0)
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
    }

    fn replay_journal(&self) -> Result<(), LedgerError> {
        let Some(bytes) = self.get(Table::Meta, JOURNAL)? else { return Ok(()) };
        let damaged = |damage| damaged("journal".to_owned(), damage);
        let mut header = Reader::versioned(JOURNAL_KIND, &bytes).map_err(damaged)?.1;
        let slot = header.u8().map_err(damaged)?;
        let parts = header.count(usize::from(u16::MAX)).map_err(damaged)?;
        let body = if parts == 0 {
            header.raw(header.left()).map_err(damaged)?.to_vec()
        } else {
            self.read_journal_parts(slot, parts, header)?
        };
        let writes = decode_writes(&body).map_err(damaged)?;
        self.journal_slot.store((slot & 1) ^ 1, std::sync::atomic::Ordering::Relaxed);
        self.apply(&writes)
    }

    fn read_journal_parts(
        &self,
        slot: u8,
        parts: usize,
        mut header: Reader<'_>,
    ) -> Result<Vec<u8>, LedgerError> {
        let damaged = |damage| damaged("journal".to_owned(), damage);
        let mut body = Vec::new();
        for (index, _) in (0_u32..).zip(0..parts) {
            let part = self.get(Table::Meta, &journal_part_key(slot, index))?;
            body.extend_from_slice(&part.ok_or(damaged(Damage("a part is missing")))?);
        }
        let crc = header.raw(4).map_err(damaged)?;
        if crc == crc32fast::hash(&body).to_le_bytes() {
            Ok(body)
        } else {
            Err(damaged(Damage("its checksum does not fit")))
        }
    }
}

fn journal_part_key(slot: u8, index: u32) -> Vec<u8> {
    [JOURNAL, &[b'/', slot], &index.to_be_bytes()].concat()
}

/// Packed, in pieces.
pub(super) fn encode_writes(writes: &[Write]) -> Vec<u8> {
    let mut body = Writer::new();
    let mut piece = Writer::new();
    for write in writes {
        piece.u8(write.table as u8);
        piece.bytes(&write.key);
        piece.u8(u8::from(write.value.is_some()));
        if let Some(value) = &write.value {
            piece.bytes(value);
        }
        if piece.len() >= JOURNAL_PIECE_SIZE {
            let full = std::mem::replace(&mut piece, Writer::new());
            codec::pack(&mut body, &full.into_bytes());
        }
    }
    codec::pack(&mut body, &piece.into_bytes());
    body.into_bytes()
}

pub(super) fn decode_writes(body: &[u8]) -> Result<Vec<Write>, Damage> {
    let mut pieces = Reader::new(body);
    let mut writes = Vec::new();
    while !pieces.is_empty() {
        let piece = Packed::read(&mut pieces)?.unpack()?;
        let mut reader = Reader::new(&piece);
        while !reader.is_empty() {
            let table = TABLES.get(usize::from(reader.u8()?)).ok_or(Damage("it names no table"))?;
            let key = reader.bytes()?.to_vec();
            let value = match reader.u8()? {
                0 => None,
                _ => Some(reader.bytes()?.to_vec()),
            };
            writes.push(Write { table: table.0, key, value });
        }
    }
    Ok(writes)
}

fn check_header(db: &sled::Db, path: &Path) -> Result<(), OpenError> {
    let meta = db.open_tree(Table::Meta.name()).map_err(store_error)?;
    let mut header = Writer::framed(HEADER_KIND);
    header.raw(HEADER_MAGIC);
    header.count(usize::from(LEDGER_VERSION));
    let header = header.seal();
    let Some(bytes) = meta.get(HEADER).map_err(store_error)? else {
        meta.insert(HEADER, header).map_err(store_error)?;
        return Ok(());
    };
    let place = || format!("header of `{}`", path.display());
    let found = read_header(&bytes).map_err(|damage| damaged(place(), damage))?;
    if found <= LEDGER_VERSION {
        // Records of older versions are read as they are; older programs must read no newer ones.
        meta.insert(HEADER, header).map_err(store_error)?;
        return Ok(());
    }
    Err(OpenError::Version { path: path.to_path_buf(), found, known: LEDGER_VERSION })
}

/// The version is read before anything that a version may change.
fn read_header(bytes: &[u8]) -> Result<u16, Damage> {
    let mut reader = Reader::framed(HEADER_KIND, bytes)?;
    if reader.raw(HEADER_MAGIC.len())? != HEADER_MAGIC {
        return Err(Damage("it does not begin as a ledger does"));
    }
    u16::try_from(reader.uint()?).map_err(|_| Damage("its version is too big"))
}

fn lock_folder(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path.join("lock"));
    let file = file.map_err(|source| OpenError::folder(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(OpenError::folder(path, source)),
    }
}

/// What a killed start leaves behind, and sled would stumble over: half a snapshot (it takes it for
/// the newest one and gives up), and a `conf` that never reached the disk.
fn remove_leftovers(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(path.join(&*name))?;
        }
    }
    let is_new = fs::metadata(path.join("db")).map_or(true, |log| log.len() == 0);
    if !is_new {
        return Ok(());
    }
    match fs::remove_file(path.join("conf")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn open_sled(path: &Path, options: SledOptions) -> Result<sled::Db, OpenError> {
    let config = sled::Config::new()
        .path(path)
        .segment_size(SEGMENT_SIZE)
        .cache_capacity(u64::from(options.cache_size_mib.max(1)) << 20)
        .flush_every_ms(Some(CLEANING_INTERVAL_MS));
    for _ in 0..LOCK_ATTEMPTS {
        // Damage that sled does not expect makes it panic.
        let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| config.open()));
        let path = || PathBuf::from(path);
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(source))) if is_locked(&source) => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Ok(Err(sled::Error::Io(source))) => return Err(OpenError::folder(&path(), source)),
            Ok(Err(source)) => {
                return Err(OpenError::Sled { path: path(), source: Box::new(source) });
            }
            Err(_) => return Err(OpenError::Panic { path: path() }),
        }
    }
    Err(OpenError::InUse { path: path.to_path_buf() })
}

/// sled's own lock outlives a database that was just closed by a moment.
const LOCK_ATTEMPTS: usize = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

fn is_locked(error: &io::Error) -> bool {
    error.to_string().starts_with("could not acquire lock")
}

fn sync_folders(path: &Path) -> io::Result<()> {
    File::open(path.join("conf"))?.sync_all()?;
    File::open(path.join("blobs"))?.sync_all()?;
    File::open(path)?.sync_all()?;
    let parent = path.canonicalize()?;
    parent.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// A page whose checksum does not fit is damage, not a failing disk.
fn read_error(table: Table, error: sled::Error) -> LedgerError {
    match error {
        sled::Error::Corruption { .. } => {
            damaged(format!("table `{}`", table.name()), Damage("a page of sled is torn"))
        }
        error => store_error(error),
    }
}

pub(super) fn store_error(error: impl std::error::Error + Send + Sync + 'static) -> LedgerError {
    LedgerError::Store(Box::new(error))
}

pub(super) fn damaged(place: String, damage: Damage) -> LedgerError {
    LedgerError::Damaged { place, detail: damage.0.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_many_pieces_is_read_back() {
        let write = |number: u32| match number % 3 {
            0 => Write::remove(Table::Slices, number.to_be_bytes().to_vec()),
            _ => Write::put(Table::Blocks, number.to_be_bytes().to_vec(), vec![7; VALUE_SIZE_MAX]),
        };
        let writes: Vec<Write> = (0..900).map(write).collect();
        let size: usize = writes.iter().map(Write::size).sum();
        assert!(size > 2 * JOURNAL_PIECE_SIZE);

        let read = decode_writes(&encode_writes(&writes)).unwrap();

        assert!(read == writes);
    }
}
