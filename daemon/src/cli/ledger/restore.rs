//! `rated ledger restore`: makes a ledger from a backup.
//!
//! Only where there is none. Everything is checked before anything is written; the ledger is built
//! beside its place and moved there at the end. One that was interrupted goes on. What root has
//! restored belongs to the owner of the state folder, so that the daemon can open it.
//!
//! Libraries of plugins are code that the daemon runs when it is asked to rate old rows again, and
//! nothing in a backup proves who has written it: they are restored for those only who say that
//! nobody else could. The daemon loads none but those that the ledger has the checksum of.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::manifest::{DATA, Manifest, ManifestError, Part};
use super::owner::{Owner, make_private};
use super::{FileError, LEDGER_DIR, hash_of, hex, lock, readable, sync_folder};
use crate::cli::progress::Progress;
use crate::cli::{Environment, Outcome, terminal};
use crate::config::Config;
use crate::fault::{Step, passed};
use crate::ledger::sled::restore_records;
use crate::plugin::KeptLibrary;

/// Where it is built.
const STAGING_DIR: &str = "ledger.restoring";

/// What becomes of the libraries in a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Libraries {
    Restored,
    LeftOut,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "there is a ledger in `{}` already, and nothing is written over it\n(hint: stop the daemon and \
     move that folder away)",
    path.display()
)]
struct Occupied {
    path: PathBuf,
}

pub(super) fn run(
    from: &Path,
    libraries: Libraries,
    config: &Path,
    environment: &Environment,
) -> Outcome {
    make_private();
    let config = Config::load(config, environment.iter().cloned())?;
    let state_dir = config.daemon.state_dir;
    let ledger = state_dir.join(LEDGER_DIR);
    if !is_free(&ledger)? {
        return Err(Occupied { path: ledger }.into());
    }
    let manifest = Manifest::read(from)?;
    let total: u64 = manifest.parts().map(|part| part.size).sum();
    let mut progress = Progress::new();
    check(from, &manifest, libraries, &mut progress)?;
    let owner = Owner::of(&state_dir)?;
    owner.check(&state_dir)?;
    passed(Step::RestoreChecked);
    let staging = state_dir.join(STAGING_DIR);
    let data = staging.join(DATA);
    fs::create_dir_all(&data).map_err(FileError::of("make", &data))?;
    let lock_path = state_dir.join("restore.lock");
    let lock = lock(&lock_path)?;
    owner.give(&lock_path)?;
    let mut bytes_done = 0;
    for part in &manifest.files {
        copy(from, &data.join(&part.name), part)?;
        bytes_done += part.size;
        progress.show(|| format!("restored {} of {}", readable(bytes_done), readable(total)));
        passed(Step::RestorePartCopied);
    }
    sync_folder(&data)?;
    passed(Step::RestoreFilesCopied);
    if libraries == Libraries::Restored {
        restore_libraries(from, &manifest, &state_dir, owner)?;
        passed(Step::RestoreLibrariesCopied);
    }
    remove_rest(&staging)?;
    let records = from.join(&manifest.records.file);
    let records = File::open(&records).map_err(FileError::of("read", &records))?;
    restore_records(&staging, records.take(manifest.records.size))?;
    owner.give(&staging)?;
    sync_folder(&staging)?;
    passed(Step::RestoreBuilt);
    if !is_free(&ledger)? {
        return Err(Occupied { path: ledger }.into());
    }
    // A folder that is there is empty; rename replaces it.
    fs::rename(&staging, &ledger).map_err(FileError::of("make", &ledger))?;
    passed(Step::RestoreNamed);
    sync_folder(&state_dir)?;
    fs::remove_file(&lock_path).map_err(FileError::of("remove", &lock_path))?;
    drop((lock, progress));
    terminal::print(&format!(
        "restored into `{}`: the ledger as of {}, {}\n{}",
        ledger.display(),
        manifest.taken_at,
        readable(total),
        said_of_libraries(&manifest, libraries),
    ))?;
    Ok(())
}

/// Before anything is written.
fn check(
    from: &Path,
    manifest: &Manifest,
    libraries: Libraries,
    progress: &mut Progress,
) -> Result<(), ManifestError> {
    let parts: Vec<&Part> = match libraries {
        Libraries::Restored => manifest.with_libraries().collect(),
        Libraries::LeftOut => manifest.parts().collect(),
    };
    let total: u64 = parts.iter().map(|part| part.size).sum();
    let mut bytes_done = 0;
    for part in parts {
        part.check(from)?;
        bytes_done += part.size;
        progress.show(|| format!("checked {} of {}", readable(bytes_done), readable(total)));
    }
    Ok(())
}

fn restore_libraries(
    from: &Path,
    manifest: &Manifest,
    state_dir: &Path,
    owner: Owner,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for part in &manifest.libraries {
        let bytes = part.read(from)?;
        part.library().restore(state_dir, bytes)?;
    }
    owner.give(&KeptLibrary::folder(state_dir))?;
    Ok(())
}

/// Nothing, when there are none.
fn said_of_libraries(manifest: &Manifest, libraries: Libraries) -> String {
    let count = match manifest.libraries.len() {
        0 => return String::new(),
        1 => "1 library that rated rows".to_owned(),
        many => format!("{many} libraries that rated rows"),
    };
    match libraries {
        Libraries::Restored => format!("with {count}\n"),
        Libraries::LeftOut => format!(
            "without {count}: `--with-libraries` restores what `rated ledger audit` may need\n"
        ),
    }
}

/// Where a restore was broken off before there was a ledger: a daemon that began a new one there
/// would look as if nothing had ever been in it.
pub(in crate::cli) fn unfinished(state_dir: &Path) -> Result<Option<PathBuf>, FileError> {
    let staging = state_dir.join(STAGING_DIR);
    let is_unfinished = staging.exists() && is_free(&state_dir.join(LEDGER_DIR))?;
    Ok(is_unfinished.then_some(staging))
}

fn is_free(ledger: &Path) -> Result<bool, FileError> {
    match fs::read_dir(ledger) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        entries => Ok(entries.map_err(FileError::of("read", ledger))?.next().is_none()),
    }
}

/// Unless it is there already.
fn copy(from: &Path, to: &Path, part: &Part) -> Result<(), FileError> {
    if fs::metadata(to).is_ok_and(|metadata| metadata.len() == part.size) {
        let (hasher, _) = hash_of(to, part.size)?;
        if hex(hasher) == part.sha256 {
            return Ok(());
        }
    }
    let path = from.join(&part.file);
    let source = File::open(&path).map_err(FileError::of("read", &path))?;
    let write = || {
        let mut out = File::create(to)?;
        io::copy(&mut source.take(part.size), &mut out)?;
        out.sync_all()
    };
    write().map_err(FileError::of("write", to))
}

/// What an interrupted one has left besides data files: records are quick to write again.
fn remove_rest(staging: &Path) -> Result<(), FileError> {
    for entry in fs::read_dir(staging).map_err(FileError::of("read", staging))? {
        let entry = entry.map_err(FileError::of("read", staging))?;
        let path = entry.path();
        let removed = match entry.file_name().to_str() {
            Some(DATA) => Ok(()),
            _ if path.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        removed.map_err(FileError::of("remove", &path))?;
    }
    Ok(())
}
