//! The configuration as the rest of the daemon sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rated_plugin::access::SecretSource;

use super::ExposedSecret;
use crate::ledger::Retention;
use crate::ledger::sled::SledOptions;
use crate::usage::{Metric, ScopeId};

/// `rated.toml` with its `metrics.toml`, checked. Paths are absolute or relative to the working
/// folder.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file all this was read from.
    pub source: PathBuf,
    /// Worth a warning.
    pub exposed_secret: Option<ExposedSecret>,
    pub daemon: DaemonConfig,
    pub api: ApiConfig,
    pub collect: CollectConfig,
    pub plugins: PluginsConfig,
    /// By instance name.
    pub collectors: BTreeMap<String, InstanceConfig>,
    /// By instance name, without the built-in [`STATIC_FETCHER`].
    pub fetchers: BTreeMap<String, InstanceConfig>,
    /// What the built-in [`STATIC_FETCHER`] finds: `[fetchers.static] scopes`.
    pub static_scopes: Vec<ScopeId>,
    /// By module name.
    pub rating: BTreeMap<String, InstanceConfig>,
    /// State of the modules that nobody has set through the API yet; a module without an entry is
    /// disabled.
    pub rating_defaults: BTreeMap<String, ModuleDefaults>,
    pub ledger: LedgerConfig,
}

/// Name of the fetcher that is built in; it may stand in [`CollectConfig::fetchers`].
pub const STATIC_FETCHER: &str = "static";

#[derive(Debug, Clone)]
pub struct DaemonConfig {
    pub state_dir: PathBuf,
    pub plugin_dirs: Vec<PathBuf>,
    /// A filter as `tracing_subscriber::EnvFilter` reads it.
    pub log: String,
    pub log_format: LogFormat,
    /// How long work in flight may take to end at a stop.
    pub shutdown_grace_secs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct ApiConfig {
    pub listen: SocketAddr,
    /// Without it, callers speak plain HTTP.
    pub tls: Option<TlsConfig>,
    pub auth: Auth,
    /// Rules that stand for the default ones.
    pub policy: Option<PathBuf>,
    pub connections_max: usize,
    /// For the head of a request, and for the silence between two requests.
    pub head_timeout: Duration,
    /// For the body of a request.
    pub body_timeout: Duration,
    /// Of a push, bytes.
    pub body_size_max: usize,
    pub cors_allowed_origins: Vec<String>,
}

/// PEM files with the certificate of the listener (and those above it) and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// How callers of the API are known.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Everybody who reaches the API may do everything.
    None,
    Methods(Box<AuthMethods>),
}

/// At least one is there.
#[derive(Debug, Clone, Default)]
pub struct AuthMethods {
    pub basic: Option<BasicConfig>,
    pub token: Option<TokenConfig>,
    pub keystone: Option<KeystoneConfig>,
}

/// Users with passwords.
#[derive(Debug, Clone)]
pub struct BasicConfig {
    pub htpasswd_file: PathBuf,
    /// By name. Who is not there has no rights.
    pub users: BTreeMap<String, Rights>,
}

/// What a user or token of our own is good for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rights {
    pub roles: Vec<String>,
    /// The caller's own.
    pub scope: Option<ScopeId>,
}

#[derive(Debug, Clone)]
pub struct TokenConfig {
    pub file: PathBuf,
}

/// `OpenStack`'s identity service.
#[derive(Debug, Clone)]
pub struct KeystoneConfig {
    /// Without the version and without a slash at its end.
    pub url: String,
    pub login: KeystoneLogin,
    /// Instead of the system's authorities.
    pub ca_file: Option<PathBuf>,
    pub timeout: Duration,
    /// How long a token is believed without asking again.
    pub cache: Duration,
    /// The address that callers are told.
    pub www_authenticate_uri: String,
}

/// How the daemon proves to Keystone who asks.
#[derive(Debug, Clone)]
pub enum KeystoneLogin {
    Password { user: KeystoneName, project: KeystoneName, password: SecretSource },
    ApplicationCredential { id: String, secret: SecretSource },
}

/// A user or a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeystoneName {
    Id(String),
    Name { name: String, domain: KeystoneDomain },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeystoneDomain {
    Id(String),
    Name(String),
}

#[derive(Debug, Clone)]
pub struct CollectConfig {
    /// When a cycle starts, UTC.
    pub schedule: cron::Schedule,
    /// 10 to 86400, divides 86400.
    pub period_secs: u32,
    /// How many periods a source gets to be complete.
    pub wait_periods: u32,
    /// The attribute that names the scope.
    pub scope_key: String,
    /// Of metrics that name none.
    pub collector: String,
    pub fetchers: Vec<String>,
    /// In the order of `metrics.toml`; not empty.
    pub metrics: Vec<Metric>,
    /// The first period of a new scope.
    pub start: Start,
    pub slice_scopes_max: usize,
    pub slices_in_flight_max: usize,
    pub retry: RetryConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The period at the begin of the month in which the scope is found.
    Month,
    /// The period in which the scope is found.
    Now,
    /// Aligned down to the begin of a period.
    At(DateTime<Utc>),
}

/// Bounds of the doubling delay after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryConfig {
    pub delay_secs_min: u32,
    pub delay_secs_max: u32,
}

#[derive(Debug, Clone)]
pub struct PluginsConfig {
    /// Blocking threads for calls.
    pub threads: usize,
    pub call_deadline_secs: u32,
    /// How much longer than its deadline a call may take before its thread is written off.
    pub call_grace_secs: u32,
    /// What a plugin in a process of its own may take.
    pub process_memory_mib: u32,
    /// How many libraries that rated something are kept, the newest.
    pub keep_libraries: usize,
    /// By file name, such as `librated_hashmap.so`.
    pub libraries: BTreeMap<String, LibraryConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LibraryConfig {
    /// Lower-case hex; another content is refused.
    pub sha256: Option<String>,
    /// Batches from it get the cheap checks only.
    pub trusted: bool,
}

/// Where an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In the daemon, on threads of it: the fastest.
    #[default]
    Thread,
    /// In a process of its own, which may die alone.
    Process,
}

/// One instance of a plugin's component.
#[derive(Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    /// Name of the component; `None` = the instance's own name.
    pub plugin: Option<String>,
    /// Without it the daemon does not start.
    pub required: bool,
    pub isolation: Isolation,
    /// The plugin's own keys. Numbers keep their digits.
    pub config: serde_json::Map<String, serde_json::Value>,
}

impl fmt::Debug for InstanceConfig {
    /// Keys only: a value may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceConfig")
            .field("plugin", &self.plugin)
            .field("required", &self.required)
            .field("isolation", &self.isolation)
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .finish()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModuleDefaults {
    pub enabled: bool,
    pub priority: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerConfig {
    pub cache_size_mib: u32,
    /// What changes leave of the disk; 0 = they may fill it.
    pub disk_reserve_mib: u32,
    /// Most of the time, while the cycle is idle, that compaction works; 0 = never.
    pub compaction_percent: u8,
    /// How many figures are kept when something is reprocessed, those of now counted.
    pub keep_generations: u32,
    pub retention: Retention,
}

impl LedgerConfig {
    /// How the ledger is opened.
    pub fn options(&self) -> SledOptions {
        let LedgerConfig { cache_size_mib, disk_reserve_mib, keep_generations, .. } = *self;
        SledOptions { cache_size_mib, disk_reserve_mib, keep_generations }
    }
}
