//! What files say, read again when they change.
//!
//! A daemon runs for months, certificates and lists of users do not. What cannot be used at the
//! start is an error; what cannot be used later leaves in force what was there before, and the log
//! says so, once.
//!
//! The content is compared, not the time of a change: an hour-old file that is moved into place is
//! new, too.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::failure::chain;

/// Largest file, bytes.
const FILE_SIZE_MAX: u64 = 4 << 20;

/// May everybody on the machine see what is in the files?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Privacy {
    Public,
    /// It is worth a warning.
    Secret,
}

/// Why files cannot be used. No text of theirs stands in it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("`{}` is larger than {FILE_SIZE_MAX} bytes", path.display())]
    TooLarge { path: PathBuf },
    #[error(transparent)]
    Unusable(Box<dyn Error + Send + Sync>),
}

/// Files with a meaning.
pub(crate) struct Kept<T> {
    /// For the log.
    what: &'static str,
    files: Vec<(PathBuf, Privacy)>,
    read: Box<ReadContents<T>>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

/// The meaning of the contents, in the order of the files.
type ReadContents<T> = dyn Fn(&[Vec<u8>]) -> Result<T, Box<dyn Error + Send + Sync>> + Send + Sync;

struct Seen {
    /// Of the contents in force.
    digest: [u8; 32],
    /// Why what is there now is not in force.
    refused: Option<String>,
}

impl<T> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Kept<T> {
    pub(crate) fn load<E: Into<Box<dyn Error + Send + Sync>>>(
        what: &'static str,
        files: Vec<(PathBuf, Privacy)>,
        read: impl Fn(&[Vec<u8>]) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Kept<T>, FileError> {
        let read = move |contents: &[Vec<u8>]| read(contents).map_err(Into::into);
        let contents = contents(&files)?;
        let meaning = read(&contents).map_err(FileError::Unusable)?;
        warn_of_readers(&files);
        Ok(Kept {
            what,
            files,
            read: Box::new(read),
            current: ArcSwap::from_pointee(meaning),
            seen: Mutex::new(Seen { digest: digest(&contents), refused: None }),
        })
    }

    /// What is in force.
    pub(crate) fn now(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Looks at the files; blocks.
    pub(crate) fn reread(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (what, file) = (self.what, self.files[0].0.display());
        let outcome = contents(&self.files).and_then(|contents| {
            let digest = digest(&contents);
            if digest == seen.digest {
                return Ok(None);
            }
            let meaning = (self.read)(&contents).map_err(FileError::Unusable)?;
            Ok(Some((digest, meaning)))
        });
        match outcome {
            Ok(None) => {
                if seen.refused.take().is_some() {
                    info!(what, %file, "A file is again what it was.");
                }
            }
            Ok(Some((digest, meaning))) => {
                self.current.store(Arc::new(meaning));
                *seen = Seen { digest, refused: None };
                info!(what, %file, "A file has changed and was read again.");
                warn_of_readers(&self.files);
            }
            Err(error) => {
                let error = chain(&error);
                if seen.refused.as_ref() != Some(&error) {
                    warn!(
                        what,
                        error, "A file has changed and cannot be used, what it said before holds."
                    );
                    seen.refused = Some(error);
                }
            }
        }
    }
}

fn contents(files: &[(PathBuf, Privacy)]) -> Result<Vec<Vec<u8>>, FileError> {
    files.iter().map(|(path, _)| content(path)).collect()
}

fn content(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |error| FileError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Err(FileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn digest(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut whole = Sha256::new();
    for content in contents {
        whole.update(Sha256::digest(content));
    }
    whole.finalize().into()
}

fn warn_of_readers(files: &[(PathBuf, Privacy)]) {
    for (path, privacy) in files {
        if *privacy == Privacy::Secret && is_readable_by_all(path) {
            warn!(
                file = %path.display(),
                "Everybody on this machine can read a secret file; `chmod o-r` ends that."
            );
        }
    }
}

fn is_readable_by_all(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("is no number")]
    struct NoNumber;

    fn number(path: &Path) -> Result<Kept<u32>, FileError> {
        Kept::load("number", vec![(path.to_owned(), Privacy::Public)], |contents| {
            let text = std::str::from_utf8(&contents[0]).map_err(|_| NoNumber)?;
            text.parse().map_err(|_| NoNumber)
        })
    }

    #[test]
    fn what_cannot_be_used_leaves_in_force_what_was() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("number");
        fs::write(&path, "1").unwrap();
        let kept = number(&path).unwrap();

        fs::write(&path, "x").unwrap();
        kept.reread();
        assert_eq!(*kept.now(), 1);
        fs::remove_file(&path).unwrap();
        kept.reread();
        assert_eq!(*kept.now(), 1);
        fs::write(&path, "2").unwrap();
        kept.reread();
        assert_eq!(*kept.now(), 2);
    }

    #[test]
    fn at_the_start_it_is_an_error_with_the_file() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("number");

        let missing = chain(&number(&path).unwrap_err());
        assert!(missing.contains(path.to_str().unwrap()) && missing.contains("No such file"));
        fs::write(&path, "x").unwrap();
        assert_eq!(chain(&number(&path).unwrap_err()), "is no number");
        let long = usize::try_from(FILE_SIZE_MAX).unwrap() + 1;
        fs::write(&path, "1".repeat(long)).unwrap();
        assert!(matches!(number(&path).unwrap_err(), FileError::TooLarge { .. }));
    }
}
