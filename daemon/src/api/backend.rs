use std::fmt;
use std::io;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rated_plugin::{Method, Request, Response};

use crate::plugin::KeptLibrary;
use crate::rating::CallFailure;

/// The plugins, as far as the API speaks of them.
///
/// A trait, so that the API is tested without loading a library.
pub trait Plugins: fmt::Debug + Send + Sync + 'static {
    /// Looks for new libraries; on failure the old ones stay and the text, for people, says why.
    /// Blocks.
    fn reload(&self) -> Result<(), String>;
    /// Does the module serve this? `path` is below the module's name.
    fn find_route(&self, module: &str, method: Method, path: &str) -> ModuleRoute;
    /// Checksum of the library a module comes from, hexadecimal; `None` = there is no such module.
    fn library_sha256(&self, module: &str) -> Option<String>;
    /// A call that [`Plugins::find_route`] allowed.
    fn handle(
        &self,
        module: &str,
        request: Request,
    ) -> BoxFuture<'_, Result<Response, CallFailure>>;
    /// What each module says that it serves: its name, and JSON (see the plugin interface).
    fn api_schemas(&self) -> Vec<(String, String)>;
    /// Is there a collector of that name?
    fn has_collector(&self, name: &str) -> bool;
    /// Of these libraries, by their checksums, those that can be copied. Blocks.
    fn kept_libraries(&self, sha256s: &[String]) -> Vec<KeptLibrary>;
    /// Some bytes of one of them, fewer at its end; `None` = there is none. Blocks.
    fn read_kept_library(
        &self,
        sha256: &str,
        offset: u64,
        size: usize,
    ) -> Option<io::Result<Vec<u8>>>;
}

/// What a module says to a method and a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModuleRoute {
    Allowed,
    WrongMethod,
    NoSuchPath,
    /// There is such a module, but it serves nothing.
    NotConfigurable,
    NoSuchModule,
}

/// The cycle, as far as the API speaks of it.
pub trait CycleView: fmt::Debug + Send + Sync + 'static {
    fn report(&self) -> CycleReport;
    /// Rules, states or mappings have changed: what failed or waited may go on now.
    fn wake(&self);
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CycleReport {
    /// Of the newest cycle.
    pub last_begin: Option<DateTime<Utc>>,
    /// Of the newest cycle that ended.
    pub last_end: Option<DateTime<Utc>>,
    /// Begin of the oldest period that somebody still waits for.
    pub furthest_behind: Option<DateTime<Utc>>,
    /// What does not work at the moment, for people; no secrets.
    pub troubles: Vec<String>,
}
