//! A loaded library and what it declares, checked and copied out of its tables.

use std::fmt;
use std::path::PathBuf;

use rated_plugin::raw::{CollectorVTable, FetcherVTable, PluginDecl, RatingVTable};

use super::paths::ApiPaths;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Collector,
    Fetcher,
    Rating,
}

impl Kind {
    /// First half of an instance's name in the ledger and in metrics: `rating/hashmap`.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Collector => "collector",
            Kind::Fetcher => "fetcher",
            Kind::Rating => "rating",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Collector => "collector",
            Kind::Fetcher => "fetcher",
            Kind::Rating => "rating module",
        })
    }
}

/// A library for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryInfo {
    /// Where it was found.
    pub path: PathBuf,
    pub name: String,
    pub version: String,
    /// Compiler and interface crate.
    pub built_with: String,
    pub sha256: String,
    /// Batches from it get the cheap checks only.
    pub trusted: bool,
    pub components: Vec<ComponentInfo>,
}

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentInfo {
    pub kind: Kind,
    pub name: String,
    pub summary: String,
    /// TOML.
    pub sample_config: String,
    /// JSON Schema; may be empty.
    pub config_schema: String,
    /// `OpenAPI` paths, JSON; empty = serves nothing.
    pub api_schema: String,
    /// No two calls at a time.
    pub is_serial: bool,
    pub is_hot_config: bool,
    pub is_always_on: bool,
}

/// A library that can be used: its code is in this process and stays there, or comes into those
/// that its instances have of their own.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) info: LibraryInfo,
    pub(super) components: Vec<Component>,
    /// `None`: its code is not in this process.
    pub(super) declaration: Option<Declaration>,
    /// The private copy; `None` = it is part of the program.
    pub(super) copy: Option<PathBuf>,
}

/// A plugin's static tables.
#[derive(Debug, Clone, Copy)]
pub(super) struct Declaration(pub(super) &'static PluginDecl);

// SAFETY: the tables are statics that nobody writes to, and the interface lets any thread call what
// they name.
unsafe impl Send for Declaration {}
// SAFETY: as above.
unsafe impl Sync for Declaration {}

/// One collector, fetcher or rating module of a library.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) info: ComponentInfo,
    pub(super) api_paths: ApiPaths,
    /// `None`: its code is not in this process.
    pub(super) vtable: Option<VTable>,
}

/// Every function in it that must be there was checked not to be null.
#[derive(Debug, Clone, Copy)]
pub(super) enum VTable {
    Collector(&'static CollectorVTable),
    Fetcher(&'static FetcherVTable),
    /// A copy: that of an older plugin ends earlier.
    Rating(RatingVTable),
}
