//! What goes wrong with plugins: a library is refused, an instance is refused, a call brings
//! nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rated_plugin::{Error, Status};

use super::library::Kind;
use crate::ledger::LedgerError;

/// A library that is not loaded, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plugin `{}`: {reason}", path.display())]
pub struct LoadError {
    pub path: PathBuf,
    pub reason: LoadErrorKind,
}

impl LoadError {
    pub(super) fn new(path: &Path, reason: LoadErrorKind) -> LoadError {
        LoadError { path: path.to_owned(), reason }
    }
}

/// Version of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbiVersion {
    pub major: u16,
    pub minor: u16,
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadErrorKind {
    #[error("cannot read it: {0}")]
    Unreadable(String),
    #[error("is not a regular file")]
    NotRegular,
    #[error("belongs to user {owner}; it must belong to root or to the daemon's user ({daemon})")]
    Owner { owner: u32, daemon: u32 },
    #[error("can be written by everybody; take the right away with `chmod o-w`")]
    WritableByOthers,
    #[error("is {size} bytes long, at most {max} are accepted")]
    TooLong { size: u64, max: u64 },
    #[error(
        "has the SHA-256 {found}, the configuration asks for {wanted}; \
         it was changed, or `sha256` in `[plugins.libraries]` is out of date"
    )]
    Hash { wanted: String, found: String },
    #[error("is not a shared library of this machine: {0}")]
    Elf(&'static str),
    #[error("is cut short: has {size} bytes, {needed} are needed; copy it again, then reload")]
    CutShort { size: u64, needed: u64 },
    #[error("cannot keep a private copy `{}`: {reason}", copy.display())]
    Copy { copy: PathBuf, reason: String },
    #[error("the dynamic loader refuses it: {said}{hint}")]
    Loader { said: String, hint: &'static str },
    #[error("is not a rated plugin: it has no symbol `rated_plugin_entry`")]
    NoEntry,
    #[error("is not a rated plugin: `rated_plugin_entry` returns nothing")]
    NoDeclaration,
    #[error("is not a rated plugin: its description begins with a wrong magic number")]
    Magic,
    #[error("needs ABI {wanted}, this daemon has {offered}; upgrade rated")]
    TooNew { wanted: AbiVersion, offered: AbiVersion },
    #[error("was built for ABI {wanted}, this daemon has {offered}; rebuild the plugin")]
    TooOld { wanted: AbiVersion, offered: AbiVersion },
    #[error("its {what} is {size} bytes long, at least {needed} are needed; rebuild the plugin")]
    TableTooShort { what: String, size: usize, needed: usize },
    #[error(
        "was built so that a panic ends the process; build it with `panic = \"unwind\"` \
         and set the flag that says so"
    )]
    Aborts,
    #[error("needs services that this daemon does not have: {0}; upgrade rated")]
    MissingFeatures(String),
    #[error("its {what} is missing")]
    Missing { what: String },
    #[error("its {what} is {size} bytes long, at most {max} are accepted")]
    TextTooLong { what: String, size: usize, max: usize },
    #[error("its {what} is not UTF-8")]
    NotText { what: String },
    #[error("has {found} components, at most {max} are accepted")]
    TooManyComponents { found: usize, max: usize },
    #[error("component {index} is of the unknown kind {kind}")]
    UnknownKind { index: usize, kind: u32 },
    #[error("the name `{0}` is not of the form `[a-z][a-z0-9-]{{0,31}}`")]
    BadName(String),
    #[error("its {kind} `{name}` is already provided by `{}`; remove one of the two", by.display())]
    Duplicate { kind: Kind, name: String, by: PathBuf },
    #[error("the paths that `{name}` serves cannot be read: {reason}")]
    ApiSchema { name: String, reason: String },
    /// In words of the process that tried.
    #[error("{0}")]
    Apart(String),
    /// The process that tried died of it, or hung.
    #[error("{0}")]
    Harmful(String),
    #[error("cannot be looked at in a process of its own: {0}")]
    NoProcess(String),
    #[error("its start failed with the status {0}")]
    Start(u32),
}

/// Something that is not there, and why; the daemon runs without it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub subject: RefusedSubject,
    /// For people.
    pub reason: String,
    /// The configuration says that the daemon must not run without it.
    pub required: bool,
    /// Of the library's content, so that the same refusal is known again.
    pub(super) sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedSubject {
    Library(PathBuf),
    Instance { kind: Kind, name: String },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            RefusedSubject::Library(path) => {
                write!(f, "plugin `{}`: {}", path.display(), self.reason)
            }
            RefusedSubject::Instance { kind, name } => {
                write!(f, "{kind} `{name}`: {}", self.reason)
            }
        }
    }
}

/// A call that brought nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{instance}: {error}")]
pub struct CallError {
    /// As in the ledger and in the metrics: `rating/hashmap`.
    pub instance: Arc<str>,
    /// Says what the scheduler and the API do about it; the message is for the log, and on 4xx for
    /// the caller.
    pub error: Error,
    /// The instance takes no calls any more until the plugins are loaded again.
    pub stopped: bool,
    /// It was lost with a process in which others were under way, so it may not be to blame.
    pub(super) is_shared: bool,
}

impl CallError {
    pub fn status(&self) -> Status {
        self.error.status
    }
}

/// A private copy of a library that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep a private copy `{}`", copy.display())]
pub struct CopyError {
    pub(super) copy: PathBuf,
    #[source]
    pub(super) error: io::Error,
}

impl CopyError {
    /// The library is not loaded.
    pub(super) fn into_load_error(self, path: &Path) -> LoadError {
        let (copy, reason) = (self.copy, self.error.to_string());
        LoadError::new(path, LoadErrorKind::Copy { copy, reason })
    }
}

/// An instance that would have changed its keys, and there was no room for that.
#[derive(Debug, thiserror::Error)]
#[error("{kind} `{name}` cannot be made")]
pub struct KeysError {
    pub kind: Kind,
    pub name: String,
    #[source]
    pub error: LedgerError,
}

/// Why the plugin host does not start or does not reload.
#[derive(Debug, thiserror::Error)]
pub enum PluginHostError {
    #[error("cannot use the folder `{}` for the plugins' private copies", path.display())]
    StateDir {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error("cannot start the threads for plugins")]
    Threads(#[source] io::Error),
    /// For want of room alone; whatever else keeps a library from being copied refuses it.
    #[error("plugin `{}`", path.display())]
    Copy {
        path: PathBuf,
        #[source]
        error: CopyError,
    },
    #[error(transparent)]
    NoRoomForKeys(Box<KeysError>),
    #[error("{}", list(.0))]
    Refused(Vec<Refusal>),
    #[error(
        "plugins were changed {loaded} times since the start and each change stays in memory \
         (at most {max}); restart the daemon to load more"
    )]
    TooManyGenerations { loaded: usize, max: usize },
    #[error("the plugin host has been stopped")]
    Stopped,
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}
