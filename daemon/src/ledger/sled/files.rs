//! sled's files, before and after it opens them: what it leaves to luck when power goes.
//!
//! - A start that was broken off leaves half a snapshot, which sled would take for the newest one
//!   and give up; a whole one gets its name, which is what the start would have done next.
//! - A start gives the new snapshot its name and deletes the old one without a sync between: a file
//!   system may have done the second and not the first. Without any snapshot sled can find nothing
//!   in a log whose first segments have been used again, and begins anew. So there is a copy of the
//!   old one (`kept.NAME`) until the folder is synced.
//! - What sled cannot read of its log is the end of it, and it writes over what follows. What the
//!   system keeps of the log in memory may be what a failed sync has lost. So the log is read from
//!   the disk, from end to end, before every start.
//! - `conf` and names in folders are never synced by sled. A `conf` whose checksum does not fit is
//!   made anew by it; it says nothing but what the daemon asks for anyway.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::aside::SPOOL_NAME;
use super::opening::{OpenError, PROBE_NAME};

const SNAPSHOT: &str = "snap.";
const UNFINISHED: &str = ".generating";
const KEPT: &str = "kept.";
/// How much of the log is read at once.
const READ_SIZE: usize = 1 << 20;

/// For one daemon at a time.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path.join("lock"));
    let file = file.map_err(|source| OpenError::folder(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_path_buf() }),
        Err(TryLockError::Error(source)) => Err(OpenError::folder(path, source)),
    }
}

/// Before sled opens its files; what a killed daemon has left of a backup, or of a look
/// whether the folder can be written, goes.
pub(super) fn prepare(path: &Path) -> io::Result<()> {
    for left in [SPOOL_NAME, PROBE_NAME] {
        match fs::remove_file(path.join(left)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for name in names(path, SNAPSHOT)?.iter().filter(|name| name.ends_with(UNFINISHED)) {
        let unfinished = path.join(name);
        if is_sealed(&fs::read(&unfinished)?) {
            File::open(&unfinished)?.sync_all()?;
            fs::rename(&unfinished, path.join(name.trim_end_matches(UNFINISHED)))?;
        } else {
            fs::remove_file(&unfinished)?;
        }
    }
    // One that power broke off was never needed: it is made before anything is deleted.
    let is_whole = |name: &&String| fs::read(path.join(name)).is_ok_and(|bytes| is_sealed(&bytes));
    let kept = names(path, KEPT)?;
    if let Some(newest) = kept.iter().rev().find(is_whole)
        && names(path, SNAPSHOT)?.is_empty()
    {
        fs::rename(path.join(newest), path.join(newest.trim_start_matches(KEPT)))?;
    }
    if let Some(newest) = names(path, SNAPSHOT)?.last() {
        let mut copy = File::create(path.join(format!("{KEPT}{newest}")))?;
        copy.write_all(&fs::read(path.join(newest))?)?;
        copy.sync_all()?;
    }
    File::open(path)?.sync_all()?;
    let conf = path.join("conf");
    if fs::read(&conf).is_ok_and(|bytes| !is_conf(&bytes)) {
        fs::remove_file(conf)?;
    }
    read_log(path)
}

/// When sled has opened them, and before anything is acknowledged.
pub(super) fn settle(path: &Path) -> io::Result<()> {
    File::open(path.join("conf"))?.sync_all()?;
    File::open(path.join("blobs"))?.sync_all()?;
    File::open(path)?.sync_all()?;
    for kept in names(path, KEPT)? {
        fs::remove_file(path.join(kept))?;
    }
    let path = path.canonicalize()?;
    let mut above = path.ancestors().skip(1);
    above.next().map_or(Ok(()), |state| File::open(state)?.sync_all())?;
    for folder in above {
        // The state folder may be as new as all this; who may not look into its parent has not
        // made it.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// Bytes of the newest snapshot, as far as they can be known.
pub(super) fn snapshot_size(path: &Path) -> u64 {
    let names = names(path, SNAPSHOT).unwrap_or_default();
    let size = |name: &String| fs::metadata(path.join(name)).map_or(0, |found| found.len());
    names.iter().filter(|name| !name.ends_with(UNFINISHED)).map(size).max().unwrap_or(0)
}

/// Whether there are data files: then there was a header once.
pub(super) fn has_rows(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path.join("data")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        entries => Ok(entries?.next().is_some()),
    }
}

/// Files with that prefix, in order.
fn names(path: &Path, prefix: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.extend(entry?.file_name().into_string().ok());
    }
    names.retain(|name| name.starts_with(prefix));
    names.sort();
    Ok(names)
}

/// A snapshot ends with the length of its content, and a checksum of it.
fn is_sealed(snapshot: &[u8]) -> bool {
    let Some((rest, crc)) = snapshot.split_last_chunk::<4>() else { return false };
    let Some((content, len)) = rest.split_last_chunk::<8>() else { return false };
    u64::from_le_bytes(*len) == content.len() as u64
        && u32::from_le_bytes(*crc) == crc32fast::hash(content)
}

/// It ends with a checksum.
fn is_conf(conf: &[u8]) -> bool {
    let sealed = conf.split_last_chunk::<4>();
    sealed.is_some_and(|(content, crc)| u32::from_le_bytes(*crc) == crc32fast::hash(content))
}

/// From end to end, and from the disk.
pub(super) fn read_log(path: &Path) -> io::Result<()> {
    let mut log = match File::open(path.join("db")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        log => log?,
    };
    posix_fadvise(&log, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
    let mut piece = vec![0; READ_SIZE];
    while log.read(&mut piece)? > 0 {}
    Ok(())
}
