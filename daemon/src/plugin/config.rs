//! What the plugin host is given: its share of the configuration, and the services it lends to
//! plugins.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::find;
use super::library::Kind;
use super::process::ProcessSettings;
use crate::clock::Clock;
use crate::config::{Config, InstanceConfig, Isolation, LibraryConfig};
use crate::ledger::Ledger;
use crate::metrics::Metrics;

/// The running program, even when its file has been replaced meanwhile.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// Somebody who looks through the pages of an explanation asks more often than that.
const REPLAY_IDLE: Duration = Duration::from_secs(30);
/// As `process_memory_mib` of the configuration.
const PROCESS_MEMORY_DEFAULT: u64 = 1 << 30;
/// As `keep_libraries`.
const KEEP_LIBRARIES_DEFAULT: usize = 32;

/// What the host lends to plugins, kept by the daemon.
#[derive(Clone)]
pub struct HostServices {
    /// Keeps the plugins' key-value data.
    pub ledger: Arc<dyn Ledger>,
    pub clock: Arc<dyn Clock>,
    /// The HTTP service runs on it; it must have threads of its own (`rt-multi-thread`) where
    /// plugins are called from a thread that waits ([`crate::plugin::PluginHost::start`]).
    pub runtime: tokio::runtime::Handle,
    pub metrics: Arc<Metrics>,
}

impl fmt::Debug for HostServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostServices").finish_non_exhaustive()
    }
}

/// The plugin host's share of the configuration.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Every `*.so` in them is a plugin.
    pub plugin_dirs: Vec<PathBuf>,
    /// Then come the `librated_*.so` of this folder: that of the executable.
    pub bundled_dir: Option<PathBuf>,
    /// Private copies go to its folder `plugins`.
    pub state_dir: PathBuf,
    /// Blocking threads for calls, at least 1.
    pub threads: usize,
    pub call_deadline: Duration,
    /// How much longer than its deadline a call may take before its thread is written off.
    pub call_grace: Duration,
    /// The program that runs plugins in processes of their own: this one.
    pub runner: PathBuf,
    /// What each of those processes may take, bytes.
    pub process_memory_bytes: u64,
    /// How many private copies are kept because their libraries rated something, the newest.
    pub keep_libraries: usize,
    /// How long an instance that rates again what was rated, or says why, is kept when nobody asks.
    pub replay_idle: Duration,
    /// By file name.
    pub libraries: BTreeMap<String, LibraryConfig>,
    /// By instance name.
    pub collectors: BTreeMap<String, InstanceConfig>,
    /// By instance name.
    pub fetchers: BTreeMap<String, InstanceConfig>,
    /// By instance name; every rating module found gets an instance, configured or not.
    pub rating: BTreeMap<String, InstanceConfig>,
}

impl PluginConfig {
    /// No folders and no instances; the copies go below `state_dir`.
    pub fn new(state_dir: impl Into<PathBuf>) -> PluginConfig {
        PluginConfig {
            plugin_dirs: Vec::new(),
            bundled_dir: None,
            state_dir: state_dir.into(),
            threads: 4,
            call_deadline: Duration::from_mins(1),
            call_grace: Duration::from_secs(10),
            runner: PathBuf::from(OWN_PROGRAM),
            process_memory_bytes: PROCESS_MEMORY_DEFAULT,
            keep_libraries: KEEP_LIBRARIES_DEFAULT,
            replay_idle: REPLAY_IDLE,
            libraries: BTreeMap::new(),
            collectors: BTreeMap::new(),
            fetchers: BTreeMap::new(),
            rating: BTreeMap::new(),
        }
    }
}

impl From<&Config> for PluginConfig {
    fn from(config: &Config) -> PluginConfig {
        PluginConfig {
            plugin_dirs: config.daemon.plugin_dirs.clone(),
            bundled_dir: find::executable_dir(),
            state_dir: config.daemon.state_dir.clone(),
            threads: config.plugins.threads,
            call_deadline: Duration::from_secs(config.plugins.call_deadline_secs.into()),
            call_grace: Duration::from_secs(config.plugins.call_grace_secs.into()),
            runner: PathBuf::from(OWN_PROGRAM),
            process_memory_bytes: u64::from(config.plugins.process_memory_mib) << 20,
            keep_libraries: config.plugins.keep_libraries,
            replay_idle: REPLAY_IDLE,
            libraries: config.plugins.libraries.clone(),
            collectors: config.collectors.clone(),
            fetchers: config.fetchers.clone(),
            rating: config.rating.clone(),
        }
    }
}

impl PluginConfig {
    /// The instances of a component, and where they run; a rating module that nobody names has one
    /// all the same.
    pub fn instances_of(&self, kind: Kind, component: &str) -> Vec<(String, Isolation)> {
        let instances = match kind {
            Kind::Collector => &self.collectors,
            Kind::Fetcher => &self.fetchers,
            Kind::Rating => &self.rating,
        };
        let is_of = |(name, instance): &(&String, &InstanceConfig)| {
            instance.plugin.as_deref().unwrap_or(name) == component
        };
        let named = instances.iter().filter(is_of);
        let mut all: Vec<(String, Isolation)> =
            named.map(|(name, instance)| (name.clone(), instance.isolation)).collect();
        if kind == Kind::Rating && all.is_empty() && !instances.contains_key(component) {
            all.push((component.to_owned(), Isolation::Thread));
        }
        all
    }

    /// Most calls of one instance at a time: never all threads.
    pub(super) fn calls_max(&self) -> u32 {
        u32::try_from(self.threads * 3 / 4).unwrap_or(u32::MAX).max(1)
    }

    /// The same for one that rates again: the one that rates comes first.
    pub(super) fn replay_calls_max(&self) -> u32 {
        u32::try_from(self.threads / 4).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn process_settings(&self) -> ProcessSettings {
        let (program, memory_bytes) = (self.runner.clone(), self.process_memory_bytes);
        ProcessSettings { program, memory_bytes }
    }

    /// Everything that is configured to run in a process of its own.
    pub(super) fn isolated(&self) -> impl Iterator<Item = (&String, &InstanceConfig)> {
        let all = self.collectors.iter().chain(&self.fetchers).chain(&self.rating);
        all.filter(|(_, instance)| instance.isolation == Isolation::Process)
    }
}
