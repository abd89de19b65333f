//! A library's file: may it be loaded, and the private copy that is.
//!
//! The daemon maps copies only: a file that is overwritten in place while its code is mapped ends
//! in a crash at the next call. A copy's name holds its content's hash, so a changed library gets
//! another name, which the dynamic loader needs to load it beside the old one.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use super::elf;
use super::error::{CopyError, LoadError, LoadErrorKind};
use crate::config::LibraryConfig;
use crate::fault::{Step, passed};

/// Longest library, bytes.
pub(super) const FILE_SIZE_MAX: u64 = 512 * 1024 * 1024;
/// Hex digits of the hash in a copy's name.
const NAME_HASH_LEN: usize = 16;
/// What a file's owner alone may do with a copy: read and map it.
const COPY_MODE: u32 = 0o500;

/// A library's content, checked.
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Hex.
    pub(super) sha256: String,
}

/// The first of the checks: the file itself.
pub(super) fn read(path: &Path, config: &LibraryConfig) -> Result<Content, LoadError> {
    let refuse = |reason| LoadError::new(path, reason);
    let unreadable = |error: io::Error| refuse(LoadErrorKind::Unreadable(error.to_string()));
    // Non-blocking: opening a pipe would wait for a writer.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
        .map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    check_metadata(&metadata, geteuid().as_raw()).map_err(refuse)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    (&mut file).take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let size = bytes.len() as u64;
    if size > FILE_SIZE_MAX {
        return Err(refuse(LoadErrorKind::TooLong { size, max: FILE_SIZE_MAX }));
    }
    let sha256 = hex_sha256(&bytes);
    if let Some(wanted) = &config.sha256
        && !wanted.eq_ignore_ascii_case(&sha256)
    {
        let (wanted, found) = (wanted.clone(), sha256);
        return Err(refuse(LoadErrorKind::Hash { wanted, found }));
    }
    elf::check(&bytes).map_err(refuse)?;
    Ok(Content { bytes, sha256 })
}

fn check_metadata(metadata: &fs::Metadata, daemon: u32) -> Result<(), LoadErrorKind> {
    if !metadata.is_file() {
        return Err(LoadErrorKind::NotRegular);
    }
    let owner = metadata.uid();
    if owner != 0 && owner != daemon {
        return Err(LoadErrorKind::Owner { owner, daemon });
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(LoadErrorKind::WritableByOthers);
    }
    if metadata.len() > FILE_SIZE_MAX {
        return Err(LoadErrorKind::TooLong { size: metadata.len(), max: FILE_SIZE_MAX });
    }
    Ok(())
}

/// Hex.
pub(super) fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// The folder of private copies.
#[derive(Debug, Clone)]
pub(super) struct Copies {
    dir: PathBuf,
}

impl Copies {
    /// Those of a state folder; they need not be there yet.
    pub(super) fn of(state_dir: &Path) -> Copies {
        Copies { dir: state_dir.join("plugins") }
    }

    /// Makes the folder, for the daemon's user alone.
    pub(super) fn make_folder(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    pub(super) fn open(dir: PathBuf) -> io::Result<Copies> {
        let copies = Copies { dir };
        copies.make_folder()?;
        Ok(copies)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where the copy of a library is or will be.
    pub(super) fn path(&self, source: &Path, sha256: &str) -> PathBuf {
        self.dir.join(copy_name(source, sha256))
    }

    /// The copy of a library that was found at `source`, durable; made when it is not there yet.
    pub(super) fn keep(&self, source: &Path, content: &Content) -> Result<PathBuf, CopyError> {
        let copy = self.path(source, &content.sha256);
        if fs::read(&copy).is_ok_and(|bytes| bytes == content.bytes) {
            return Ok(copy);
        }
        match self.write(&copy, &content.bytes) {
            Ok(()) => Ok(copy),
            Err(error) => Err(CopyError { copy, error }),
        }
    }

    /// Under another name first: a copy is whole as soon as it has its name.
    fn write(&self, copy: &Path, bytes: &[u8]) -> io::Result<()> {
        let unfinished = copy.with_extension("so.new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(COPY_MODE).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        passed(Step::PluginCopyWritten);
        fs::rename(&unfinished, copy)?;
        passed(Step::PluginCopyNamed);
        File::open(&self.dir)?.sync_all()
    }

    /// The copy of a library with this checksum, if there is one.
    pub(super) fn find(&self, sha256: &str) -> Option<PathBuf> {
        let hash = sha256.get(..NAME_HASH_LEN)?;
        let mut paths = fs::read_dir(&self.dir).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            is_copy(path)
                && path.extension().is_some_and(|extension| extension == "so")
                && stem.rsplit_once('-').is_some_and(|(_, found)| found == hash)
        })
    }

    /// Removes the copies that are not in `used`, and unfinished ones; other files stay. How many
    /// went.
    pub(super) fn remove_unused(&self, used: &BTreeSet<PathBuf>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !used.contains(&path) && is_copy(&path) {
                fs::remove_file(&path)?;
                passed(Step::PluginCopyRemoved);
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// `<name>-<first 16 of sha256>.so`.
pub(super) fn copy_name(source: &Path, sha256: &str) -> String {
    let stem = source.file_stem().unwrap_or_default().to_string_lossy();
    let stem = stem.strip_prefix("lib").unwrap_or(&stem);
    let name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' })
        .take(64)
        .collect();
    format!("{name}-{}.so", &sha256[..NAME_HASH_LEN])
}

pub(super) fn is_copy(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let name = name.strip_suffix(".new").unwrap_or(name);
    name.strip_suffix(".so").and_then(|stem| stem.rsplit_once('-')).is_some_and(|(_, hash)| {
        hash.len() == NAME_HASH_LEN && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(bytes: &[u8]) -> Content {
        Content { bytes: bytes.to_vec(), sha256: hex_sha256(bytes) }
    }

    #[test]
    fn a_copy_is_named_by_its_content_and_private() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::open(root.path().join("plugins")).unwrap();

        let copy = copies.keep(Path::new("/x/libacme.so"), &content(b"one")).unwrap();

        assert_eq!(copy, root.path().join("plugins/acme-7692c3ad3540bb80.so"));
        assert_eq!(fs::read(&copy).unwrap(), b"one");
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, COPY_MODE);
        assert_eq!(fs::metadata(copies.dir()).unwrap().mode() & 0o777, 0o700);
        assert_eq!(copies.keep(Path::new("/x/libacme.so"), &content(b"one")).unwrap(), copy);
        assert_eq!(copies.find(&content(b"one").sha256), Some(copy));
        assert_eq!(copies.find(&content(b"two").sha256), None);
    }

    #[test]
    fn a_damaged_copy_is_made_again() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::open(root.path().to_owned()).unwrap();
        let copy = copies.keep(Path::new("libacme.so"), &content(b"one")).unwrap();
        fs::remove_file(&copy).unwrap();
        fs::write(&copy, b"half").unwrap();
        fs::write(copy.with_extension("so.new"), b"power went away").unwrap();

        let again = copies.keep(Path::new("libacme.so"), &content(b"one")).unwrap();

        assert_eq!(fs::read(again).unwrap(), b"one");
    }

    #[test]
    fn only_unused_copies_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let copies = Copies::open(root.path().to_owned()).unwrap();
        let used = copies.keep(Path::new("libacme.so"), &content(b"one")).unwrap();
        let unused = copies.keep(Path::new("libacme.so"), &content(b"two")).unwrap();
        fs::write(root.path().join("acme-0123456789abcdef.so.new"), "").unwrap();
        fs::write(root.path().join("notes.so"), "").unwrap();

        let removed = copies.remove_unused(&BTreeSet::from([used.clone()])).unwrap();

        assert_eq!(removed, 2);
        assert!(used.exists() && !unused.exists());
        assert!(root.path().join("notes.so").exists());
    }
}
