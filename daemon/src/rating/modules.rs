use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use rated_plugin::{AsOf, Explanation, RateRequest};

/// What rating asks of the plugins. The plugin host answers it; tests answer it themselves.
///
/// Called from any number of tasks at once.
pub trait Modules: fmt::Debug + Send + Sync + 'static {
    /// The modules of the newest generation.
    fn modules(&self) -> ModuleSet;

    /// The same for who rates again what was rated, or asks why: whatever becomes of their calls
    /// touches nothing of what rates.
    fn modules_for_replay(&self) -> ModuleSet {
        self.modules()
    }

    /// The module of that name as a library with this checksum has it, where the library is not
    /// that of the newest generation but its copy was kept; for the same purpose. Blocks as long as
    /// loading it takes.
    fn kept_module(&self, name: &str, library_sha256: &str) -> Option<Arc<dyn RatingModule>> {
        let _ = (name, library_sha256);
        None
    }
}

/// The modules of one generation of plugins.
#[derive(Debug, Clone)]
pub struct ModuleSet {
    /// Another number = other libraries or other instances.
    pub generation: u64,
    /// Sorted by name.
    pub modules: Vec<Arc<dyn RatingModule>>,
}

/// One rating module.
pub trait RatingModule: fmt::Debug + Send + Sync + 'static {
    fn name(&self) -> &str;
    /// One sentence.
    fn summary(&self) -> &str;
    fn is_hot_config(&self) -> bool;
    fn is_always_on(&self) -> bool;
    /// SHA-256, hex.
    fn library_sha256(&self) -> &str;
    /// SHA-256, hex, of what the module is told by its section of `rated.toml`.
    fn config_sha256(&self) -> &str;
    fn prepare(&self, as_of: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>>;
}

/// Rules of one module at one instant.
pub trait Rater: fmt::Debug + Send + Sync + 'static {
    /// One price for each row, checked (`price/1`).
    fn rate(
        &self,
        request: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>>;

    /// How the prices of some rows of a batch come about, a list of steps for each; `None` = the
    /// module gives no reasons.
    fn explain(
        &self,
        request: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> BoxFuture<'_, Result<Option<Explanation>, CallFailure>> {
        let _ = (request, usage, rows);
        std::future::ready(Ok(None)).boxed()
    }
}

/// A call to a plugin that brought nothing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct CallFailure {
    pub error: rated_plugin::Error,
    /// The instance takes no calls any more until the plugins are loaded again.
    pub stopped: bool,
}

impl From<rated_plugin::Error> for CallFailure {
    fn from(error: rated_plugin::Error) -> CallFailure {
        CallFailure { error, stopped: false }
    }
}
