use std::fmt;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rated_plugin::{Method, Request, Response};

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
    /// A call that [`Plugins::find_route`] allowed.
    fn handle(
        &self,
        module: &str,
        request: Request,
    ) -> BoxFuture<'_, Result<Response, CallFailure>>;
    /// Is there a collector of that name?
    fn has_collector(&self, name: &str) -> bool;
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

/// How the daemon's work goes.
pub trait Health: fmt::Debug + Send + Sync + 'static {
    fn report(&self) -> HealthReport;
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthReport {
    pub last_cycle_begin: Option<DateTime<Utc>>,
    pub last_cycle_end: Option<DateTime<Utc>>,
    /// What does not work at the moment, for people; no secrets.
    pub troubles: Vec<String>,
}
