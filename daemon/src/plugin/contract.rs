//! What the rest of the daemon sees of plugins. SKETCH: signatures are the agreement, bodies and fields are open.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::RecordBatch;
use rated_plugin::{AsOf, CollectRequest, Principal, RateRequest, Request, Response};

/// What the host lends to plugins, kept by the daemon.
pub struct HostServices {
    pub ledger: Arc<dyn crate::ledger::Ledger>,     // the key-value data
    pub clock: Arc<dyn crate::clock::Clock>,
    pub runtime: tokio::runtime::Handle,            // http_send blocks on it
    pub metrics: Arc<crate::metrics::Metrics>,
}

/// All plugins: loads them, makes their instances, reloads them.
pub struct PluginHost;

impl PluginHost {
    /// Finds, checks and loads every library, makes every configured instance; a refused library or instance is in
    /// `PluginHost::generation().refused()`, and is an error only when configured as `required`.
    pub fn start(config: PluginConfig, services: HostServices) -> Result<PluginHost, PluginHostError>;
    /// The generation to use for new work.
    pub fn generation(&self) -> Arc<Generation>;
    /// Looks at the folders again; new or changed libraries are loaded beside the old ones, all instances made anew and
    /// checked, then swapped in at once; on any failure the old generation stays.
    pub fn reload(&self) -> Result<ReloadReport, PluginHostError>;     // blocking
    /// Waits for calls to end, `grace` at most; destroys what is idle.
    pub async fn stop(&self, grace: std::time::Duration);
}

/// From the configuration.
pub struct PluginConfig {
    pub plugin_dirs: Vec<PathBuf>,
    pub state_dir: PathBuf,              // copies go to <state_dir>/plugins
    pub threads: usize,                  // blocking threads for calls
    pub call_deadline: std::time::Duration,
    pub call_grace: std::time::Duration,
    pub libraries: BTreeMap<String, LibraryConfig>,   // by file name: sha256, trusted
    pub collectors: BTreeMap<String, InstanceConfig>, // by instance name
    pub fetchers: BTreeMap<String, InstanceConfig>,
    pub rating: BTreeMap<String, InstanceConfig>,     // every rating module found gets an instance, configured or not
}
pub struct InstanceConfig {
    pub plugin: Option<String>,          // component name; default: the instance's own name
    pub required: bool,
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// Immutable set of instances that work is done with from start to end.
pub struct Generation;
impl Generation {
    pub fn collector(&self, name: &str) -> Option<&Collector>;
    pub fn fetcher(&self, name: &str) -> Option<&Fetcher>;
    pub fn module(&self, name: &str) -> Option<&Module>;
    pub fn collectors(&self) -> impl Iterator<Item = &Collector>;
    pub fn modules(&self) -> impl Iterator<Item = &Module>;      // by name
    pub fn libraries(&self) -> &[LibraryInfo];
    pub fn refused(&self) -> &[Refusal];
}

/// A running collector instance. Cheap to clone.
#[derive(Clone)] pub struct Collector;
impl Collector {
    pub fn name(&self) -> &str;
    /// Batches checked against `usage/1`, the metric's attributes and the scopes asked for.
    pub async fn collect(&self, request: CollectRequest) -> Result<Vec<RecordBatch>, CallError>;
}
#[derive(Clone)] pub struct Fetcher;
impl Fetcher {
    pub fn name(&self) -> &str;
    pub async fn scopes(&self) -> Result<Vec<String>, CallError>;
}
#[derive(Clone)] pub struct Module;
impl Module {
    pub fn name(&self) -> &str;
    pub fn summary(&self) -> &str;
    pub fn is_hot_config(&self) -> bool;
    pub fn is_always_on(&self) -> bool;
    pub fn serves_api(&self) -> bool;         // api_schema not empty
    pub fn allows(&self, method, path) -> PathMatch  // Allowed | WrongMethod | NotFound, from api_schema
    pub fn library_sha256(&self) -> &str;
    pub async fn prepare(&self, as_of: AsOf) -> Result<Rater, CallError>;
    pub async fn handle(&self, request: Request) -> Result<Response, CallError>;
}
#[derive(Clone)] pub struct Rater;             // holds its instance and generation alive
impl Rater {
    /// Prices for the rows of `usage` (`price/1`, row count and nulls checked).
    pub async fn rate(&self, request: RateRequest, usage: RecordBatch) -> Result<RecordBatch, CallError>;
}

/// Status, message for the log, retryable, split; plus `Stopped` when the instance is disabled or written off.
pub struct CallError { pub error: rated_plugin::Error, .. }
