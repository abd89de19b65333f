//! `rated ledger`: is it whole, are its prices right, a copy of it, and back from a copy.

mod audit;
mod backup;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod manifest;
mod owner;
mod restore;
mod verify;

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

pub(super) use self::owner::name as owner_name;
pub(super) use self::restore::unfinished as unfinished_restore;

use super::client::Server;
use super::{ConfigFile, Environment, Outcome};
use crate::clock::Clock;

/// The ledger's folder below the state folder.
pub(super) const LEDGER_DIR: &str = "ledger";

/// Bytes that are read from a file at once.
const PIECE_SIZE: usize = 1 << 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum LedgerCommand {
    /// Read all that is stored and list what is damaged
    ///
    /// Asks the running daemon, or reads the state folder when no daemon uses it; that needs this
    /// program's format of the ledger, and raises no older one. Ends with 0 = the ledger is whole;
    /// 1 = something is damaged; 2 = it could not be looked at.
    Verify {
        #[command(flatten)]
        file: ConfigFile,
        /// Print the findings as JSON
        #[arg(long)]
        json: bool,
        /// Without a running daemon only: take the ledger as it is for whole, once what is missing
        /// has been made up for. Figures of periods that acknowledged changes were lost of are
        /// answered again, and rating goes on; a record that is damaged stays damaged
        #[arg(long)]
        accept: bool,
    },
    /// Rate everything in a range again as it was rated, and compare
    ///
    /// Ends with 0 = every row that was rated here has the price that its rules lead to, computed
    /// by the libraries that rated it. 1 = a difference, or damage. 2 = nothing wrong was found,
    /// but not all was proved: there are no such rows, or they are not kept any more, or could not
    /// be compared, or were compared by another library only; or the audit could not be done.
    /// 75 = it could not be done because a disk is full.
    Audit {
        #[command(flatten)]
        arguments: audit::AuditArguments,
    },
    /// Copy the ledger of the running daemon into a folder
    ///
    /// What is there already is not copied again. The daemon gives one backup at a time: another
    /// one that is begun ends the first. Files are for whoever runs this alone. In it are libraries
    /// of plugins that rated something, too; the configuration is not.
    Backup {
        /// The folder, on this machine: a backup, an empty one, or none yet
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Make the ledger from a backup, where there is none
    ///
    /// Run it as the daemon's user, or as root: then the ledger belongs to the owner of the state
    /// folder.
    Restore {
        /// A folder that `rated ledger backup` has written
        #[arg(long, value_name = "DIR")]
        from: PathBuf,
        /// Restore the libraries of plugins, too, by which `rated ledger audit` rates old rows
        /// again. The daemon runs them: only if nobody else could write that folder
        #[arg(long)]
        with_libraries: bool,
        #[command(flatten)]
        file: ConfigFile,
    },
}

pub(super) fn run(
    command: &LedgerCommand,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    #[cfg(debug_assertions)]
    super::kill_steps::arm(environment)?;
    match command {
        LedgerCommand::Verify { file, json, accept: false } => {
            verify::run(&file.path, server, *json, environment)
        }
        LedgerCommand::Verify { file, accept: true, .. } => verify::accept(&file.path, environment),
        LedgerCommand::Audit { arguments } => audit::run(arguments, server, clock, environment),
        LedgerCommand::Backup { to } => backup::run(to, server, environment),
        LedgerCommand::Restore { from, with_libraries, file } => {
            let libraries = match with_libraries {
                true => restore::Libraries::Restored,
                false => restore::Libraries::LeftOut,
            };
            restore::run(from, libraries, &file.path, environment)
        }
    }
}

/// Something with a folder or a file of a backup.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} `{}`", path.display())]
pub(super) struct FileError {
    what: &'static str,
    path: PathBuf,
    #[source]
    error: io::Error,
}

impl FileError {
    fn of<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
        move |error| FileError { what, path: path.to_owned(), error }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("`{}` is being written by somebody else", path.display())]
struct InUse {
    path: PathBuf,
}

/// One command for a folder; held until it is dropped.
fn lock(path: &Path) -> Result<File, Box<dyn std::error::Error + Send + Sync>> {
    let file = File::options().write(true).create(true).truncate(false).open(path);
    let file = file.map_err(FileError::of("write", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(InUse { path: path.to_owned() }.into()),
        Err(TryLockError::Error(error)) => Err(FileError::of("lock", path)(error).into()),
    }
}

fn sync_folder(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|folder| folder.sync_all());
    synced.map_err(FileError::of("sync", path))
}

/// A hash of the first `size` bytes of a file, or of fewer when it is shorter; and how many.
fn hash_of(path: &Path, size: u64) -> Result<(Sha256, u64), FileError> {
    let mut hasher = Sha256::new();
    let mut done = 0;
    let mut file = File::open(path).map_err(FileError::of("read", path))?.take(size);
    let mut piece = vec![0; PIECE_SIZE];
    loop {
        let read = file.read(&mut piece).map_err(FileError::of("read", path))?;
        if read == 0 {
            return Ok((hasher, done));
        }
        hasher.update(&piece[..read]);
        done += read as u64;
    }
}

fn hex(hasher: Sha256) -> String {
    crate::ledger::hex(&hasher.finalize())
}

/// `1.5 GiB`, for people.
fn readable(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let (mut unit, mut scale) = (0, 1_u64);
    while unit + 1 < UNITS.len() && bytes / scale >= 1024 {
        unit += 1;
        scale *= 1024;
    }
    let tenths = u128::from(bytes) * 10 / u128::from(scale);
    match unit {
        0 => format!("{bytes} {}", UNITS[0]),
        _ => format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        assert_eq!(readable(0), "0 bytes");
        assert_eq!(readable(1023), "1023 bytes");
        assert_eq!(readable(1536), "1.5 KiB");
        assert_eq!(readable(5 << 30), "5.0 GiB");
    }
}
