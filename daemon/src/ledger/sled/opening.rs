//! How a ledger is opened, and why it cannot be.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::error;

use super::files;
use super::ledger::SledLedger;
use super::space::{Share, Space};
use crate::ledger::{Ailment, LedgerError, Opener};

/// How a ledger is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SledOptions {
    /// Memory for pages read or written lately.
    pub cache_size_mib: u32,
    /// What changes leave of the disk; 0 = they may fill it.
    pub disk_reserve_mib: u32,
    /// How many figures of a scope, metric and period are kept when it is reprocessed, those of
    /// now counted; at least 1.
    pub keep_generations: u32,
}

impl Default for SledOptions {
    fn default() -> SledOptions {
        SledOptions { cache_size_mib: 64, disk_reserve_mib: 0, keep_generations: 2 }
    }
}

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("state folder `{}` is used by another daemon", path.display())]
    InUse { path: PathBuf },
    #[error(
        "state folder `{}` is not writable\n(hint: it must belong to the user that runs \
         the daemon)",
        path.display()
    )]
    NotWritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the ledger in `{}`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the ledger in `{}` has format {found}, this daemon knows up to {known}\n(hint: it was \
         written by a newer version of rated; use that one)",
        path.display()
    )]
    Version { path: PathBuf, found: u16, known: u16 },
    #[error(
        "there is no ledger in `{}`\n(hint: `daemon.state_dir` says where it is; is its disk \
         mounted?)",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error(
        "the ledger in `{}` has an older format than {known}\n(hint: the next start of the daemon \
         raises it; until then the version of rated that wrote it can look at it)",
        path.display()
    )]
    Older { path: PathBuf, known: u16 },
    #[error(
        "the ledger in `{}` is damaged\n(hint: move it away, `rated ledger restore` makes it from \
         a backup)",
        path.display()
    )]
    Sled {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "the ledger in `{}` is damaged in a way that sled does not expect\n(hint: move it away, \
         `rated ledger restore` makes it from a backup)",
        path.display()
    )]
    Panic { path: PathBuf },
    #[error(
        "the ledger in `{}` has lost changes that nobody has been told of\n(hint: `rated ledger \
         verify` tells them; make up for them first)",
        path.display()
    )]
    Untold {
        path: PathBuf,
        #[source]
        source: Box<LedgerError>,
    },
    #[error("cannot read the ledger\n(hint: `rated ledger verify` lists what is damaged)")]
    Read(#[from] LedgerError),
}

impl OpenError {
    pub(super) fn folder(path: &Path, source: io::Error) -> OpenError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::NotWritable { path, source }
            }
            _ => OpenError::Folder { path, source },
        }
    }
}

/// Whether something failed because its disk is full; there may be room again.
pub fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        let is_full = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        };
        let ledger = error.downcast_ref::<LedgerError>();
        let sled = error.downcast_ref::<sled::Error>();
        error.downcast_ref::<io::Error>().is_some_and(is_full)
            || matches!(sled, Some(sled::Error::Io(error)) if is_full(error))
            || matches!(
                ledger,
                Some(LedgerError::NoRoomToOpen { .. } | LedgerError::DiskFull { .. })
            )
    })
}

/// Opens the ledger of a folder, as often as it has to be.
#[derive(Debug)]
pub struct SledOpener {
    /// The ledger's folder; made when it is missing.
    pub path: PathBuf,
    pub options: SledOptions,
}

/// A start removes what a kill has left of it.
pub(super) const PROBE_NAME: &str = "probe";
/// What is written to find out whether something can be.
const PROBE_SIZE: usize = 64 << 10;

impl Opener for SledOpener {
    type Ledger = SledLedger;
    type Error = OpenError;

    fn open(&self) -> Result<SledLedger, OpenError> {
        Space::new(&self.path, self.options.disk_reserve_mib).check_to_open()?;
        let ledger = SledLedger::open(&self.path, self.options)?;
        for trouble in ledger.troubles() {
            error!(trouble, "The ledger is damaged; `rated ledger verify` says what to do.");
        }
        Ok(ledger)
    }

    fn probe(&self, ailment: Ailment) -> io::Result<()> {
        if ailment == Ailment::GivesNoRoom {
            // One that can be read stays open rather than none can be.
            files::read_log(&self.path)?;
        }
        let space = Space::new(&self.path, self.options.disk_reserve_mib);
        space.check(0, Share::All).map_err(io::Error::other)?;
        // What is closed must have room to be opened again.
        space.check_to_open().map_err(io::Error::other)?;
        let probe = self.path.join(PROBE_NAME);
        let mut file = File::create(&probe)?;
        let written = file.write_all(&vec![0xA5; PROBE_SIZE]).and_then(|()| file.sync_all());
        let removed = fs::remove_file(&probe);
        written.and(removed)
    }
}
