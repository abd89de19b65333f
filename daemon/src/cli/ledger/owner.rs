//! Whose files a command makes in the state folder.
//!
//! The daemon must be able to open what a command has made there, whoever ran it, and nobody else
//! is to read what people pay.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, User, geteuid};

use super::FileError;

/// Files that are made from now on are for their owner alone.
pub(super) fn make_private() {
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
}

/// Who owns the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    user: u32,
    group: u32,
}

#[derive(Debug, thiserror::Error)]
#[error(
    "the state folder `{}` belongs to `{owner}`, and this runs as `{me}`\n(hint: run it as \
     `{owner}`, or as root)",
    path.display()
)]
pub(super) struct NotOurs {
    path: PathBuf,
    owner: String,
    me: String,
}

impl Owner {
    /// Of the state folder, which is made when it is missing.
    pub(super) fn of(state_dir: &Path) -> Result<Owner, FileError> {
        fs::create_dir_all(state_dir).map_err(FileError::of("make", state_dir))?;
        let metadata = fs::metadata(state_dir).map_err(FileError::of("read", state_dir))?;
        Ok(Owner { user: metadata.uid(), group: metadata.gid() })
    }

    /// Whether what is made now can be used by the owner.
    pub(super) fn check(self, state_dir: &Path) -> Result<(), NotOurs> {
        let me = geteuid();
        if me.is_root() || me.as_raw() == self.user {
            return Ok(());
        }
        Err(NotOurs {
            path: state_dir.to_owned(),
            owner: name(Uid::from_raw(self.user)),
            me: name(me),
        })
    }

    /// Gives a folder and all that is in it to the owner, if it is root's to give.
    pub(super) fn give(self, path: &Path) -> Result<(), FileError> {
        if !geteuid().is_root() || self.user == 0 {
            return Ok(());
        }
        let metadata = fs::symlink_metadata(path).map_err(FileError::of("read", path))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path).map_err(FileError::of("read", path))? {
                self.give(&entry.map_err(FileError::of("read", path))?.path())?;
            }
        }
        match lchown(path, Some(self.user), Some(self.group)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::of("give the daemon's user", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// `root`, or a number where nobody has it.
pub(in crate::cli) fn name(id: Uid) -> String {
    let found = User::from_uid(id).ok().flatten();
    found.map_or_else(|| id.to_string(), |user| user.name)
}
