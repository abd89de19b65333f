//! sled's folder: opened by one process, written and synced so that power may go at any moment.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

use arc_swap::ArcSwap;

use super::cleaner::Cleaner;
use super::codec::Damage;
use super::files;
use super::header::{Begin, check_header};
use super::lost::Lost;
use super::opening::{OpenError, SledOptions};
use super::seal_group::Group;
use crate::fault::{Step, passed};
use crate::ledger::LedgerError;

/// sled writes its log in pieces of this size; a value or a page of more than a quarter goes into a
/// file of its own, which sled never syncs.
const SEGMENT_SIZE: usize = 4 << 20;

/// A leaf of sled's tree has 16 values at most before it is split, and is written as one piece when
/// it is merged: 17 values and their keys must stay below a quarter of a segment.
pub(super) const VALUE_SIZE_MAX: usize = 40 << 10;
const _: () = assert!(VALUE_SIZE_MAX * 20 < SEGMENT_SIZE / 4);

/// Most bytes of the log between two syncs: well below a segment, because sled may write over a
/// segment whose live pages it has moved without having synced the copies. Only the queue writes.
const SYNC_WINDOW_SIZE: usize = SEGMENT_SIZE / 2;

/// How much of the log a byte that is written or removed takes: besides itself, the leaf it belongs
/// to, which is written anew at every 11th change. With the largest values that was 2.5 to 4.
const LOG_BYTES_PER_BYTE: usize = 4;

/// How often sled cleans segments that are mostly garbage, and syncs that.
const CLEANING_INTERVAL_MS: u64 = 500;

/// The trees; the numbers stand in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    Seals = 18,
    Generations = 19,
}

pub(super) const TABLES: [(Table, &str); 20] = [
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
    (Table::Seals, "seals"),
    (Table::Generations, "generations"),
];

impl Table {
    pub(super) fn name(self) -> &'static str {
        TABLES[self as usize].1
    }

    pub(super) fn from_number(number: u8) -> Option<Table> {
        TABLES.get(usize::from(number)).map(|(table, _)| *table)
    }

    pub(super) fn all() -> impl Iterator<Item = Table> {
        TABLES.iter().map(|(table, _)| *table)
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

    pub(super) fn size(&self) -> usize {
        self.key.len() + self.value_size()
    }
}

#[derive(Debug)]
pub(super) struct Store {
    db: sled::Db,
    trees: Vec<sled::Tree>,
    /// sled's log, opened once more to be synced.
    log: File,
    pub(super) cleaner: Cleaner,
    /// Which half of the journal's keys is written next.
    pub(super) journal_slot: std::sync::atomic::AtomicU8,
    /// The version of the format that was found; `None` = the ledger was begun now.
    pub(super) version_found: Option<u16>,
    /// Groups of records that are not what was written: nobody is given anything of them.
    pub(super) broken: ArcSwap<Vec<Group>>,
    /// Changes that are gone, until somebody accepts that.
    pub(super) lost: OnceLock<Vec<Lost>>,
    /// Why the last change was not written again, if it was not.
    pub(super) unreplayed: OnceLock<String>,
    /// About how many bytes of the log are not synced.
    unsynced: AtomicUsize,
    #[cfg(test)]
    pub(super) failing: std::sync::Mutex<Option<Failing>>,
    /// Held until the end: one daemon for a folder.
    _lock: File,
}

/// What a test lets fail, of a table.
#[cfg(test)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failing {
    /// As a full disk does it.
    Writes(Table),
    /// As a torn page does it: at every access, and whoever goes through the table never gets
    /// behind it. With the keys that the page has.
    Page(Table, std::ops::Range<Vec<u8>>),
    /// As a disk does it that cannot be read.
    Disk(Table),
}

#[cfg(test)]
impl Failing {
    /// A table of one page, torn.
    pub(super) fn all_of(table: Table) -> Failing {
        Failing::Page(table, Vec::new()..vec![0xFF; 64])
    }

    fn read_error(&self, table: Table, key: &[u8]) -> Option<LedgerError> {
        match self {
            Failing::Page(torn, keys) if *torn == table && keys.contains(&key.to_vec()) => {
                Some(damaged(format!("table `{}`", table.name()), Damage("as a test wants")))
            }
            Failing::Disk(failing) if *failing == table => {
                Some(store_error(io::Error::from(io::ErrorKind::Other)))
            }
            _ => None,
        }
    }

    fn write_error(&self, table: Table, key: &[u8]) -> Option<LedgerError> {
        let is_torn = matches!(self, Failing::Page(..)) && self.read_error(table, key).is_some();
        (is_torn || *self == Failing::Writes(table))
            .then(|| store_error(io::Error::from(io::ErrorKind::StorageFull)))
    }
}

/// Keys and values in key order, as far as they can be read: sled does not get behind an error, but
/// gives it again for ever.
struct Scan {
    table: Table,
    entries: Option<sled::Iter>,
    #[cfg(test)]
    failing: Option<Failing>,
}

type Entry = Result<(sled::IVec, sled::IVec), LedgerError>;

impl Scan {
    fn step(
        &mut self,
        step: impl FnOnce(&mut sled::Iter) -> Option<sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Option<Entry> {
        let entry = step(self.entries.as_mut()?)?.map_err(|error| read_error(self.table, error));
        #[cfg(test)]
        let entry = entry.and_then(|(key, value)| match &self.failing {
            Some(failing) => failing.read_error(self.table, &key).map_or(Ok((key, value)), Err),
            None => Ok((key, value)),
        });
        if entry.is_err() {
            self.entries = None;
        }
        Some(entry)
    }
}

impl Iterator for Scan {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.step(sled::Iter::next)
    }
}

impl DoubleEndedIterator for Scan {
    fn next_back(&mut self) -> Option<Entry> {
        self.step(sled::Iter::next_back)
    }
}

impl Store {
    pub(super) fn open(path: &Path, options: SledOptions) -> Result<Store, OpenError> {
        Store::open_ready(path, options, Begin::Anew)
    }

    /// One that is there and has this program's format already.
    pub(super) fn open_as_it_is(path: &Path, options: SledOptions) -> Result<Store, OpenError> {
        let folder_error = |source| OpenError::folder(path, source);
        let has_log = path.join("db").try_exists().map_err(folder_error)?;
        if !has_log && !files::has_rows(path).map_err(folder_error)? {
            return Err(OpenError::Missing { path: path.to_path_buf() });
        }
        Store::open_ready(path, options, Begin::Never)
    }

    /// For the records of a backup whose rows are there already.
    pub(super) fn open_to_restore(path: &Path, options: SledOptions) -> Result<Store, OpenError> {
        Store::open_ready(path, options, Begin::WithRows)
    }

    fn open_ready(path: &Path, options: SledOptions, begin: Begin) -> Result<Store, OpenError> {
        let store = Store::open_to_read(path, options, begin)?;
        if let Err(error) = store.replay_journal() {
            store.note_unreplayed(error)?;
        }
        store.sync()?;
        passed(Step::StartSynced);
        Ok(store)
    }

    fn open_to_read(path: &Path, options: SledOptions, begin: Begin) -> Result<Store, OpenError> {
        fs::create_dir_all(path).map_err(|source| OpenError::folder(path, source))?;
        let lock = files::lock(path)?;
        passed(Step::StartLocked);
        files::prepare(path).map_err(|source| OpenError::folder(path, source))?;
        passed(Step::StartLeftoversRemoved);
        let (db, cleaner) = Cleaner::begun_by(|| open_sled(path, options));
        let db = db?;
        passed(Step::StartSledOpened);
        let version_found = check_header(&db, path, begin)?;
        passed(Step::StartHeaderWritten);
        let trees = TABLES.iter().map(|(_, name)| db.open_tree(name)).collect::<Result<_, _>>();
        let trees = trees.map_err(store_error)?;
        passed(Step::StartTreesOpened);
        let log = OpenOptions::new().read(true).write(true).open(path.join("db"));
        let log = log.map_err(|source| OpenError::folder(path, source))?;
        let store = Store {
            db,
            trees,
            log,
            cleaner,
            journal_slot: std::sync::atomic::AtomicU8::new(0),
            version_found,
            broken: ArcSwap::default(),
            lost: OnceLock::new(),
            unreplayed: OnceLock::new(),
            unsynced: AtomicUsize::new(0),
            #[cfg(test)]
            failing: std::sync::Mutex::default(),
            _lock: lock,
        };
        files::settle(path).map_err(|source| OpenError::folder(path, source))?;
        passed(Step::StartFoldersSynced);
        Ok(store)
    }

    /// A record. Of a broken group nothing is given: an error says so.
    pub(super) fn get(&self, table: Table, key: &[u8]) -> Result<Option<sled::IVec>, LedgerError> {
        match self.broken_at(table, key) {
            Some(group) => Err(group.damage()),
            None => self.get_as_it_is(table, key),
        }
    }

    /// The same of a broken group too.
    pub(super) fn get_as_it_is(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<sled::IVec>, LedgerError> {
        #[cfg(test)]
        if let Some(failing) = &*self.failing.lock().unwrap()
            && let Some(error) = failing.read_error(table, key)
        {
            return Err(error);
        }
        self.tree(table).get(key).map_err(|error| read_error(table, error))
    }

    /// Keys and values in key order. Of slices the caller asks for broken months.
    pub(super) fn range(
        &self,
        table: Table,
        range: impl RangeBounds<Vec<u8>>,
    ) -> impl DoubleEndedIterator<Item = Entry> {
        let begin = match range.start_bound() {
            Bound::Included(begin) | Bound::Excluded(begin) => begin.as_slice(),
            Bound::Unbounded => &[],
        };
        let broken = self.broken_at(table, begin).filter(|group| group.month().is_none());
        let entries = broken.is_none().then(|| self.range_as_it_is(table, range));
        entries.into_iter().flatten().chain(broken.map(|group| Err(group.damage())))
    }

    /// The same of a broken group too.
    pub(super) fn range_as_it_is<R: RangeBounds<Vec<u8>>>(
        &self,
        table: Table,
        range: R,
    ) -> impl DoubleEndedIterator<Item = Entry> + use<R> {
        self.scan(table, |tree| tree.range(range))
    }

    pub(super) fn prefix(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> impl DoubleEndedIterator<Item = Entry> {
        let broken = self.broken_at(table, prefix).filter(|group| group.month().is_none());
        let entries = || self.scan(table, |tree| tree.scan_prefix(prefix));
        let entries = broken.is_none().then(entries);
        entries.into_iter().flatten().chain(broken.map(|group| Err(group.damage())))
    }

    fn scan(&self, table: Table, entries: impl FnOnce(&sled::Tree) -> sled::Iter) -> Scan {
        Scan {
            table,
            entries: Some(entries(self.tree(table))),
            #[cfg(test)]
            failing: self.failing.lock().unwrap().clone(),
        }
    }

    /// As damage would do it: no seal knows.
    #[cfg(test)]
    pub(super) fn put_as_it_is(&self, table: Table, key: &[u8], value: &[u8]) {
        self.tree(table).insert(key, value).unwrap();
    }

    #[cfg(test)]
    pub(super) fn remove_as_it_is(&self, table: Table, key: &[u8]) {
        self.tree(table).remove(key).unwrap();
    }

    pub(super) fn size_on_disk(&self) -> Result<u64, LedgerError> {
        self.db.size_on_disk().map_err(store_error)
    }

    /// Writes what no reader looks at yet.
    pub(super) fn write_early(&self, writes: &[Write]) -> Result<(), LedgerError> {
        self.write_all(writes, Step::GroupWritingEarly)
    }

    pub(super) fn write_all(&self, writes: &[Write], step: Step) -> Result<(), LedgerError> {
        for write in writes {
            self.write_one(write)?;
            passed(step);
        }
        Ok(())
    }

    /// Puts journaled writes into their places. No sync at the end: until the next journal is
    /// durable, and with it all that was written before, this one is replayed at every start.
    pub(super) fn apply(&self, writes: &[Write]) -> Result<(), LedgerError> {
        self.write_all(writes, Step::GroupApplying)
    }

    /// Everything written so far is on the disk when this returns.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        self.db.flush().map_err(store_error)?;
        passed(Step::GroupFlushed);
        self.log.sync_data().map_err(store_error)?;
        self.unsynced.store(0, Relaxed);
        Ok(())
    }

    /// Syncs before, when there would be too much that is not.
    pub(super) fn write_one(&self, write: &Write) -> Result<(), LedgerError> {
        #[cfg(test)]
        if let Some(failing) = &*self.failing.lock().unwrap()
            && let Some(error) = failing.write_error(write.table, &write.key)
        {
            return Err(error);
        }
        let unsynced = LOG_BYTES_PER_BYTE * write.size();
        if self.unsynced.load(Relaxed) + unsynced > SYNC_WINDOW_SIZE {
            self.sync()?;
        }
        self.unsynced.fetch_add(unsynced, Relaxed);
        let tree = self.tree(write.table);
        let Some(value) = &write.value else {
            let removed = tree.remove(&write.key).map_err(store_error)?;
            // What is removed makes sled move what stays beside it.
            let removed = removed.map_or(0, |value| value.len());
            self.unsynced.fetch_add(LOG_BYTES_PER_BYTE * removed, Relaxed);
            return Ok(());
        };
        let size = value.len();
        // The journal's header carries a little more than one value.
        assert!(size <= VALUE_SIZE_MAX + 64, "a stored value has {size} bytes");
        tree.insert(&write.key, value.as_slice()).map_err(store_error)?;
        Ok(())
    }

    fn tree(&self, table: Table) -> &sled::Tree {
        &self.trees[table as usize]
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

/// A page whose checksum does not fit is damage, not a failing disk.
pub(super) fn read_error(table: Table, error: sled::Error) -> LedgerError {
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

    /// Whatever is written by however many calls.
    #[test]
    fn less_than_a_segment_is_ever_not_synced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), SledOptions::default()).unwrap();
        let mut unsynced_max = 0;
        for number in 0..400_u32 {
            let key = (number % 50).to_be_bytes().to_vec();
            let write = match number % 80 {
                0..50 => Write::put(Table::Texts, key, vec![7; VALUE_SIZE_MAX]),
                _ => Write::remove(Table::Texts, key),
            };

            store.write_early(&[write]).unwrap();

            unsynced_max = unsynced_max.max(store.unsynced.load(Relaxed));
        }
        assert!(unsynced_max > SYNC_WINDOW_SIZE / 2, "{unsynced_max}");
        assert!(unsynced_max < SEGMENT_SIZE, "{unsynced_max}");
    }
}
