//! Data files: rows and sums of slices, beside sled.
//!
//! ```text
//! <ledger>/data/YYYY-MM.NUMBER    the slices that begin in that month (UTC)
//! file    = header { extent }
//! header  = frame('D', 1) "rated data\n"
//! extent  = { rollup } { block }        of one slice, without a gap
//! ```
//!
//! What is written stays as it is for ever: a slice's record says where its extent begins and how
//! long each part is. Each part has a checksum of its own.
//!
//! tree    key                               record
//! files   month:i32be number:u32be          frame('E', 1) size:uint dead:uint
//!         (the sign bit of `month` flipped; months since the year 0)
//!
//! `size` is how much of the file is in the ledger. What stands behind it was being written when
//! the daemon was killed, or a write had failed: it is written over. `dead` of it belongs to no
//! slice any more; `compaction` copies what is left elsewhere and deletes the file. A file that
//! the tree does not name is none of the ledger's and is deleted at a start that finds nothing
//! missing or damaged. A number is not used
//! again before that.
//!
//! A change writes its extents and syncs the files before the journal names them.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime};

use super::catalog::Catalog;
use super::codec::{Damage, Kind, Reader, Writer};
use super::holes::Holes;
use super::queue::Stage;
use super::slice::{Slice, SliceKey};
use super::store::{Store, Table, Write, damaged};
use super::{load, sums};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, hex};

const HEADER: Kind = Kind(b'D', 1);
const ENTRY: Kind = Kind(b'E', 1);
const MAGIC: &[u8] = b"rated data\n";
/// Kind, version, magic and checksum.
pub(super) const HEADER_SIZE: u64 = HEADER_LEN as u64;
const HEADER_LEN: usize = 2 + 11 + 4;

/// A file with so many bytes gets no further extent.
const FILE_SIZE_MAX: u64 = 64 << 20;
/// Most files that are kept open to be read, and to be written.
const OPEN_MAX: usize = 128;

/// Most bytes that a thread keeps to read into.
const MEMORY_KEPT_MAX: usize = 2 << 20;

thread_local! {
    static MEMORY: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A calendar month, UTC: months since the year 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Month(pub(super) i32);

impl Month {
    /// The month of a moment; seconds beyond chrono's years are in the last month it knows.
    pub(super) fn of(secs: i64) -> Month {
        let last = if secs < 0 {
            DateTime::<chrono::Utc>::MIN_UTC
        } else {
            DateTime::<chrono::Utc>::MAX_UTC
        };
        let time = DateTime::from_timestamp(secs, 0).unwrap_or(last);
        Month(time.year() * 12 + i32::try_from(time.month0()).expect("a month is below 12"))
    }

    pub(super) fn begin_secs(self) -> i64 {
        let month = u32::try_from(self.0.rem_euclid(12) + 1).expect("a month is below 13");
        let day = NaiveDate::from_ymd_opt(self.0.div_euclid(12), month, 1);
        // Beyond chrono's years nothing begins.
        let end = if self.0 < 0 { i64::MIN } else { i64::MAX };
        day.map_or(end, |day| day.and_time(NaiveTime::MIN).and_utc().timestamp())
    }

    pub(super) fn end_secs(self) -> i64 {
        Month(self.0.saturating_add(1)).begin_secs()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileId {
    pub(super) month: Month,
    pub(super) number: u32,
}

impl FileId {
    pub(super) fn key(self) -> Vec<u8> {
        let month = (self.month.0.cast_unsigned() ^ 1 << 31).to_be_bytes();
        [month, self.number.to_be_bytes()].concat()
    }

    pub(super) fn from_key(key: &[u8]) -> Option<FileId> {
        let (month, number) = key.split_first_chunk::<4>()?;
        let month = Month((u32::from_be_bytes(*month) ^ 1 << 31).cast_signed());
        Some(FileId { month, number: u32::from_be_bytes(number.try_into().ok()?) })
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.month, self.number)
    }
}

/// What the ledger knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileEntry {
    pub(super) size: u64,
    pub(super) dead: u64,
}

impl FileEntry {
    const NEW: FileEntry = FileEntry { size: HEADER_SIZE, dead: 0 };

    fn encode(self) -> Vec<u8> {
        let mut record = Writer::framed(ENTRY);
        record.uint(self.size);
        record.uint(self.dead);
        record.seal()
    }

    fn decode(record: &[u8]) -> Result<FileEntry, Damage> {
        let mut reader = Reader::framed(ENTRY, record)?;
        let entry = FileEntry { size: reader.uint()?, dead: reader.uint()? };
        reader.end()?;
        Ok(entry)
    }

    /// Of slices, dead or alive.
    pub(super) fn content(self) -> u64 {
        self.size.saturating_sub(HEADER_SIZE)
    }
}

pub(super) type Files = BTreeMap<FileId, FileEntry>;

/// Bytes on their way into a file.
#[derive(Debug)]
pub(super) struct Extent {
    file: FileId,
    offset: u64,
    bytes: Vec<u8>,
}

impl Extent {
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// Gives a slice's parts a place in its month's newest file.
pub(super) fn place(stage: &mut Stage, slice: &mut Slice, bytes: Vec<u8>) {
    place_outside(stage, slice, bytes, None);
}

/// As `place`, anywhere but in one file.
pub(super) fn place_outside(
    stage: &mut Stage,
    slice: &mut Slice,
    bytes: Vec<u8>,
    outside: Option<FileId>,
) {
    let month = Month::of(slice.period.begin_secs());
    let of_month = FileId { month, number: 0 }..=FileId { month, number: u32::MAX };
    let newest = stage.catalog.files.range(of_month).next_back();
    let first = stage.catalog.first_file;
    let has_room = |(file, entry): &(&FileId, &FileEntry)| {
        entry.size < FILE_SIZE_MAX && Some(**file) != outside && file.number >= first
    };
    let file = if let Some((file, _)) = newest.filter(has_room) {
        *file
    } else {
        let number = stage.catalog.next_file;
        stage.catalog.next_file += 1;
        FileId { month, number }
    };
    stage.changed_files.insert(file);
    let entry = Arc::make_mut(&mut stage.catalog.files).entry(file).or_insert(FileEntry::NEW);
    slice.file = file.number;
    slice.offset = entry.size;
    entry.size += bytes.len() as u64;
    stage.extents.push(Extent { file, offset: slice.offset, bytes });
}

/// Bytes of a slice will not be read any more.
pub(super) fn bury(stage: &mut Stage, file: FileId, size: u64) {
    if let Some(entry) = Arc::make_mut(&mut stage.catalog.files).get_mut(&file) {
        entry.dead += size;
        stage.changed_files.insert(file);
    }
}

/// Forgets a file that has no slice any more.
pub(super) fn forget(stage: &mut Stage, file: FileId) {
    Arc::make_mut(&mut stage.catalog.files).remove(&file);
    stage.changed_files.insert(file);
}

/// The records of files that a group has changed.
pub(super) fn write_changed(stage: &mut Stage) {
    for file in std::mem::take(&mut stage.changed_files) {
        let record = stage.catalog.files.get(&file).map(|entry| entry.encode());
        stage.journaled.push(Write { table: Table::Files, key: file.key(), value: record });
    }
}

/// Deletes sums of days and months, and tells from the slices what is in files and what of it is
/// dead: after records were lost. Files of a month with a damaged slice stay as they are.
pub(super) fn count_anew(store: &Store) -> Result<(), LedgerError> {
    let mut writes = vec![Write::remove(Table::Meta, sums::STALE_KEY.to_vec())];
    for entry in store.prefix(Table::Sums, &[]) {
        writes.push(Write::remove(Table::Sums, entry?.0.to_vec()));
    }
    let mut live: BTreeMap<FileId, u64> = BTreeMap::new();
    let mut ends: BTreeMap<FileId, u64> = BTreeMap::new();
    let mut unclear = BTreeSet::new();
    for (table, prefix_size) in [(Table::Slices, 0), (Table::Staged, 8), (Table::Generations, 8)] {
        for entry in store.prefix(table, &[]) {
            let (key, record) = entry?;
            let wrong = |damage| damaged("a slice".to_owned(), damage);
            let key = key.get(prefix_size..).unwrap_or_default();
            let Ok(slice) = Slice::decode(key, &record) else {
                let begin_secs = SliceKey::read(key).map_err(wrong)?.begin_secs;
                unclear.insert(Month::of(begin_secs));
                continue;
            };
            *live.entry(slice.data_file()).or_default() += slice.extent_size();
            let end = ends.entry(slice.data_file()).or_insert(HEADER_SIZE);
            *end = slice.offset.saturating_add(slice.extent_size()).max(*end);
        }
    }
    let mut files = load(store, &mut Holes::default())?;
    for (file, end) in ends {
        let entry = files.entry(file).or_insert(FileEntry::NEW);
        entry.size = entry.size.max(end);
    }
    for (file, entry) in files.into_iter().filter(|(file, _)| !unclear.contains(&file.month)) {
        let live = live.get(&file).copied().unwrap_or(0);
        let dead = entry.content().saturating_sub(live);
        let record = FileEntry { dead, ..entry }.encode();
        writes.push(Write::put(Table::Files, file.key(), record));
    }
    store.journal(&writes)?;
    store.apply(&writes)
}

pub(super) fn check_entry(key: &[u8], record: &[u8]) -> Result<(), Damage> {
    FileId::from_key(key).ok_or(Damage("its key is not understood"))?;
    FileEntry::decode(record).map(|_| ())
}

/// What the ledger knows of its files, into a catalog.
pub(super) fn load_into(
    store: &Store,
    catalog: &mut Catalog,
    holes: &mut Holes,
) -> Result<(), LedgerError> {
    let files = load(store, holes)?;
    let next = |file: &FileId| file.number.saturating_add(1);
    catalog.next_file = files.keys().map(next).max().unwrap_or(0);
    catalog.files = Arc::new(files);
    Ok(())
}

pub(super) fn load(store: &Store, holes: &mut Holes) -> Result<Files, LedgerError> {
    let mut files = Files::new();
    for entry in store.range_as_it_is(Table::Files, ..) {
        let Some((key, record)) = holes.take(Table::Files, &[], entry)? else { break };
        let file = FileId::from_key(&key);
        match file
            .ok_or(Damage("its key is not understood"))
            .and_then(|file| Ok((file, FileEntry::decode(&record)?)))
        {
            Ok((file, entry)) => {
                files.insert(file, entry);
            }
            Err(damage) => {
                let name = file.map_or_else(|| hex(&key), |file| file.to_string());
                holes.add(Table::Files, &key, format!("record of file `data/{name}`"), damage);
            }
        }
    }
    load::check_table(store, Table::Files, holes);
    Ok(files)
}

/// The folder of data files.
#[derive(Debug)]
pub(super) struct DataFiles {
    folder: PathBuf,
    open: Mutex<Open>,
}

type Handles = HashMap<FileId, Arc<File>>;

#[derive(Debug, Default)]
struct Open {
    to_read: Handles,
    to_write: Handles,
}

impl DataFiles {
    /// Makes the folder when it is missing.
    pub(super) fn open(ledger: &Path) -> io::Result<DataFiles> {
        let folder = ledger.join("data");
        match fs::create_dir(&folder) {
            Ok(()) => {
                passed(Step::StartDataFolderMade);
                File::open(ledger)?.sync_all()?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        Ok(DataFiles { folder, open: Mutex::default() })
    }

    /// Deletes the files that the ledger does not know: their change never became durable, or it
    /// was the one that let go of them.
    pub(super) fn remove_strays(&self, files: &Files) -> io::Result<()> {
        let known: BTreeSet<String> = files.keys().map(FileId::to_string).collect();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if is_data_file(&name) && !known.contains(&*name) {
                fs::remove_file(self.folder.join(&*name))?;
                passed(Step::StartStrayRemoved);
            }
        }
        Ok(())
    }

    /// Of the files that are there, known or not.
    pub(super) fn highest_number(&self) -> io::Result<Option<u32>> {
        let mut highest = None;
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let name = name.to_string_lossy();
            if is_data_file(&name) {
                let number = name.rsplit('.').next().and_then(|number| number.parse().ok());
                highest = highest.max(number);
            }
        }
        Ok(highest)
    }

    /// Writes extents and syncs their files. After an error nothing of them is in the ledger, and
    /// the same places may be written again.
    pub(super) fn append(&self, extents: &[Extent]) -> io::Result<()> {
        let mut by_file: BTreeMap<FileId, Vec<&Extent>> = BTreeMap::new();
        for extent in extents {
            by_file.entry(extent.file).or_default().push(extent);
        }
        // One after the other: a push may be of more months than files may be open.
        for (file, extents) in by_file {
            let file = self.to_write(file)?;
            for extent in extents {
                file.write_all_at(&extent.bytes, extent.offset)?;
                passed(Step::GroupExtentWritten);
            }
            file.sync_data()?;
            passed(Step::GroupExtentsSynced);
        }
        Ok(())
    }

    /// Gives `visit` some bytes of a file. They are read into memory that the thread keeps: to ask
    /// the system for it each time costs as much as reading.
    pub(super) fn with_bytes<T>(
        &self,
        file: FileId,
        offset: u64,
        size: u32,
        visit: impl FnOnce(io::Result<&[u8]>) -> T,
    ) -> T {
        let mut memory = MEMORY.take();
        let size = size as usize;
        if memory.len() < size {
            memory.resize(size, 0);
        }
        let read = self.read(file, offset, &mut memory[..size]);
        let result = visit(read.map(|()| &memory[..size]));
        if memory.len() <= MEMORY_KEPT_MAX {
            MEMORY.set(memory);
        }
        result
    }

    fn read(&self, file: FileId, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let kept = self.lock().to_read.get(&file).cloned();
        let handle = if let Some(handle) = kept {
            handle
        } else {
            let handle = Arc::new(File::open(self.path(file))?);
            keep(&mut self.lock().to_read, file, &handle);
            handle
        };
        handle.read_exact_at(bytes, offset)
    }

    /// How long a file is, if it begins as it should.
    pub(super) fn check_header(&self, file: FileId) -> Result<u64, Damage> {
        let mut header = [0; HEADER_LEN];
        self.read(file, 0, &mut header).map_err(|_| Damage("it is missing or cannot be read"))?;
        let mut reader = Reader::framed(HEADER, &header)?;
        if reader.raw(MAGIC.len())? != MAGIC {
            return Err(Damage("it does not begin as a data file does"));
        }
        let metadata = fs::metadata(self.path(file));
        metadata.map(|metadata| metadata.len()).map_err(|_| Damage("it cannot be read"))
    }

    /// A file that nobody reads any more. How many bytes it had.
    pub(super) fn remove(&self, file: FileId) -> io::Result<u64> {
        let mut open = self.lock();
        open.to_read.remove(&file);
        open.to_write.remove(&file);
        drop(open);
        let size = fs::metadata(self.path(file)).map_or(0, |metadata| metadata.len());
        match fs::remove_file(self.path(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(size),
        }
    }

    /// Made, with its header, when it is not there.
    fn to_write(&self, file: FileId) -> io::Result<Arc<File>> {
        if let Some(handle) = self.lock().to_write.get(&file) {
            return Ok(Arc::clone(handle));
        }
        let mut options = OpenOptions::new();
        let handle = options.write(true).create(true).truncate(false).open(self.path(file))?;
        if handle.metadata()?.len() < HEADER_SIZE {
            passed(Step::GroupFileMade);
            // First its name: should that fail, the next attempt comes here again.
            File::open(&self.folder)?.sync_all()?;
            passed(Step::GroupFileNamed);
            let mut header = Writer::framed(HEADER);
            header.raw(MAGIC);
            handle.write_all_at(&header.seal(), 0)?;
        }
        let handle = Arc::new(handle);
        keep(&mut self.lock().to_write, file, &handle);
        Ok(handle)
    }

    pub(super) fn ledger_folder(&self) -> &Path {
        self.folder.parent().expect("the folder of data files is below the ledger's")
    }

    fn path(&self, file: FileId) -> PathBuf {
        self.folder.join(file.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A set of handles is sound whatever happened to the thread that held it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(handles: &mut Handles, file: FileId, handle: &Arc<File>) {
    if handles.len() >= OPEN_MAX {
        // Those who use one hold it.
        handles.clear();
    }
    handles.insert(file, Arc::clone(handle));
}

/// Whether a name reads like `2026-11.3`; years may be longer, and negative.
fn is_data_file(name: &str) -> bool {
    let Some((month, number)) = name.split_once('.') else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let month = month.strip_prefix('-').unwrap_or(month).rsplit_once('-');
    is_number(number) && month.is_some_and(|(year, month)| is_number(year) && is_number(month))
}
