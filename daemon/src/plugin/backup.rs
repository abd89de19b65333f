//! Libraries that rated something, on their way into a backup and back.
//!
//! What is read is a private copy whose content fits its checksum; a damaged one is left out. What
//! comes back is a private copy again, which nothing but its checksum in the ledger gets loaded.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::error::CopyError;
use super::file::{self, Content, Copies, FILE_SIZE_MAX};
use super::host::{Origin, PluginHost};
use super::kept::source_of;

/// A private copy of a library that rated something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptLibrary {
    /// Of the copy.
    pub name: String,
    /// Hexadecimal.
    pub sha256: String,
    pub size: u64,
}

impl KeptLibrary {
    /// Whether copies are called so.
    pub fn is_name(name: &str) -> bool {
        file::is_copy(Path::new(name))
    }

    /// Whether the name is that of a copy of something with this checksum, and of a size that is
    /// loaded.
    pub fn is_sound(&self) -> bool {
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        self.sha256.len() == 64
            && self.sha256.bytes().all(is_hex)
            && self.size <= FILE_SIZE_MAX
            && file::copy_name(&source_of(Path::new(&self.name)), &self.sha256) == self.name
    }

    /// Where copies are.
    pub fn folder(state_dir: &Path) -> PathBuf {
        Copies::of(state_dir).dir().to_owned()
    }

    /// Puts the copy into a state folder, durable. Its content must have that checksum.
    pub fn restore(&self, state_dir: &Path, bytes: Vec<u8>) -> Result<(), CopyError> {
        assert_eq!(file::hex_sha256(&bytes), self.sha256, "checked by who has read it");
        let copies = Copies::of(state_dir);
        copies.make_folder().map_err(|error| CopyError { copy: copies.dir().to_owned(), error })?;
        let content = Content { bytes, sha256: self.sha256.clone() };
        copies.keep(&source_of(Path::new(&self.name)), &content).map(drop)
    }
}

impl PluginHost {
    /// Of these libraries, by their checksums, those of which a whole copy is there. Reads them.
    pub fn kept_libraries(&self, sha256s: &[String]) -> Vec<KeptLibrary> {
        let Origin::Folders(copies) = &self.origin else { return Vec::new() };
        sha256s.iter().filter_map(|sha256| kept(copies, sha256)).collect()
    }

    /// Some bytes of a copy, fewer at its end; `None` = there is none.
    pub fn read_kept_library(
        &self,
        sha256: &str,
        offset: u64,
        size: usize,
    ) -> Option<io::Result<Vec<u8>>> {
        let Origin::Folders(copies) = &self.origin else { return None };
        let copy = copies.find(sha256)?;
        Some(read_piece(&copy, offset, size))
    }
}

fn kept(copies: &Copies, sha256: &str) -> Option<KeptLibrary> {
    let copy = copies.find(sha256)?;
    let bytes = match fs::read(&copy) {
        Ok(bytes) => bytes,
        Err(error) => {
            let copy = copy.display();
            warn!(%copy, %error, "The copy of a library cannot be read, a backup goes without it.");
            return None;
        }
    };
    if file::hex_sha256(&bytes) != sha256 {
        let copy = copy.display();
        warn!(%copy, "The copy of a library is damaged, a backup goes without it.");
        return None;
    }
    let name = copy.file_name()?.to_str()?.to_owned();
    let library = KeptLibrary { name, sha256: sha256.to_owned(), size: bytes.len() as u64 };
    library.is_sound().then_some(library)
}

fn read_piece(copy: &Path, offset: u64, size: usize) -> io::Result<Vec<u8>> {
    let file = File::open(copy)?;
    let left = file.metadata()?.len().saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(size)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library(name: &str, bytes: &[u8]) -> KeptLibrary {
        let (name, sha256) = (name.to_owned(), file::hex_sha256(bytes));
        KeptLibrary { name, sha256, size: bytes.len() as u64 }
    }

    #[test]
    fn only_the_name_of_a_copy_is_sound() {
        assert!(library("acme-7692c3ad3540bb80.so", b"one").is_sound());
        for name in [
            "",
            "acme.so",
            "acme-0000c3ad3540bb80.so",
            "acme-7692c3ad3540bb80",
            "../acme-7692c3ad3540bb80.so",
            "/acme-7692c3ad3540bb80.so",
            "a/b-7692c3ad3540bb80.so",
            "a b-7692c3ad3540bb80.so",
            ".acme-7692c3ad3540bb80.so",
            "libacme-7692c3ad3540bb80.so",
        ] {
            assert!(!library(name, b"one").is_sound(), "{name}");
        }
        let sound = library("acme-7692c3ad3540bb80.so", b"one");
        assert!(!KeptLibrary { size: FILE_SIZE_MAX + 1, ..sound.clone() }.is_sound());
        let sha256 = sound.sha256.to_uppercase();
        assert!(!KeptLibrary { sha256, ..sound }.is_sound());
    }

    #[test]
    fn what_is_restored_is_a_copy_that_is_found_and_read() {
        let state = tempfile::tempdir().unwrap();
        let library = library("acme-7692c3ad3540bb80.so", b"one");

        library.restore(state.path(), b"one".to_vec()).unwrap();
        // As often as somebody likes.
        library.restore(state.path(), b"one".to_vec()).unwrap();

        let copies = Copies::of(state.path());
        assert_eq!(kept(&copies, &library.sha256), Some(library.clone()));
        let copy = copies.find(&library.sha256).unwrap();
        assert_eq!(read_piece(&copy, 1, 100).unwrap(), b"ne");
        assert_eq!(read_piece(&copy, 9, 100).unwrap(), b"");
        fs::remove_file(&copy).unwrap();
        fs::write(&copy, "other").unwrap();
        assert_eq!(kept(&copies, &library.sha256), None, "it is damaged");
    }
}
