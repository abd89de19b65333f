//! Room on the disk: a change is refused in time, so that sled never runs into a full disk.
//!
//! A data file that does not fit has changed nothing, but after a failed write of sled the ledger
//! has to be opened again. So every group asks first whether the reserve would still be there
//! afterwards. Others may fill the disk at the same moment: the reserve makes that unlikely, and
//! what happens then is written down in `queue`.
//!
//! Upkeep that gives room may use half of the reserve.
//!
//! Opening a ledger takes room, too, before anything of it can be read: a copy of sled's snapshot,
//! a new one, and a log that goes on in new segments. A new ledger needs the reserve besides.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::statvfs::statvfs;
use tracing::{error, info};

use super::files;
use crate::ledger::LedgerError;

/// How much of sled's log a journaled byte takes at most: its journal, its place, and the pages
/// beside it that are written anew.
pub(super) const WRITTEN_PER_BYTE: u64 = 4;

/// What sled's log and the journal that is replayed take at most in an opening.
const OPENING_SIZE: u64 = 2 << 20;

#[derive(Debug)]
pub(super) struct Space {
    folder: PathBuf,
    reserve: u64,
    is_short: AtomicBool,
}

/// How much of the reserve a change must leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Share {
    #[default]
    All,
    /// It gives room.
    Half,
}

impl Space {
    pub(super) fn new(folder: &Path, reserve_mib: u32) -> Space {
        let reserve = u64::from(reserve_mib) << 20;
        Space { folder: folder.to_owned(), reserve, is_short: AtomicBool::new(false) }
    }

    /// Whether there is room for so many bytes more.
    pub(super) fn check(&self, size: u64, share: Share) -> Result<(), LedgerError> {
        // A disk that cannot even say it will say so when it is written.
        let Some(free) = self.free() else { return Ok(()) };
        let reserve = match share {
            Share::All => self.reserve,
            Share::Half => self.reserve / 2,
        };
        if free >= reserve.saturating_add(size) || self.reserve == 0 {
            if share == Share::All && self.is_short.swap(false, Ordering::Relaxed) {
                info!(free_mib = free >> 20, "There is room on the disk again, changes are taken.");
            }
            return Ok(());
        }
        let (free_mib, reserve_mib) = (free >> 20, reserve >> 20);
        if share == Share::All && !self.is_short.swap(true, Ordering::Relaxed) {
            error!(
                folder = %self.folder.display(),
                free_mib,
                reserve_mib,
                "The disk is nearly full, no changes are taken; delete something, give it more \
                 room, or lower `ledger.disk_reserve_mib`."
            );
        }
        Err(LedgerError::DiskFull { free_mib, reserve_mib })
    }

    /// Whether there is room to open the ledger in the folder.
    pub(super) fn check_to_open(&self) -> Result<(), LedgerError> {
        let Some(free) = self.free() else { return Ok(()) };
        let snapshot = files::snapshot_size(&self.folder);
        let is_new = !self.folder.join("db").exists();
        let reserve = if is_new { self.reserve } else { 0 };
        let needed = OPENING_SIZE + 2 * snapshot + reserve;
        if free >= needed {
            return Ok(());
        }
        Err(LedgerError::NoRoomToOpen {
            free_mib: free >> 20,
            needed_mib: needed.div_ceil(1 << 20),
        })
    }

    /// Bytes that the daemon may still write. `None` = the system does not say.
    pub(super) fn free(&self) -> Option<u64> {
        // A ledger that is new has no folder yet.
        let found = self.folder.ancestors().find_map(|folder| statvfs(folder).ok())?;
        Some(found.blocks_available().saturating_mul(found.fragment_size()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_touch_the_reserve_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::new(folder.path(), 1);
        let free = space.free().unwrap();

        space.check(0, Share::All).unwrap();
        let error = space.check(free, Share::All).unwrap_err();

        assert!(matches!(error, LedgerError::DiskFull { reserve_mib: 1, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("of which 1 MiB are kept free"), "{text}");
        Space::new(folder.path(), 0).check(u64::MAX, Share::All).unwrap();
    }

    #[test]
    fn a_new_ledger_needs_the_reserve_and_an_old_one_room_for_snapshots() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::new(&folder.path().join("ledger"), u32::MAX);
        assert!(space.check_to_open().is_err());
        std::fs::create_dir(folder.path().join("ledger")).unwrap();
        std::fs::write(folder.path().join("ledger/db"), "a log").unwrap();

        space.check_to_open().unwrap();

        let snapshot = std::fs::File::create(folder.path().join("ledger/snap.01")).unwrap();
        snapshot.set_len(space.free().unwrap() / 2 + 1).unwrap();
        assert!(matches!(space.check_to_open(), Err(LedgerError::NoRoomToOpen { .. })));
    }
}
