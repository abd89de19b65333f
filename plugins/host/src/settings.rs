//! What the configuration of both components has in common, and the collector's own keys.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use rated_plugin::{Error, Result};
use serde::Deserialize;

use crate::machine::Procfs;

/// Longest time between two looks, seconds.
const SAMPLE_SECS_MAX: u64 = 60;
/// Longest time that looks are kept, seconds: a week.
const HISTORY_SECS_MAX: u64 = 7 * 24 * 3600;

pub(crate) fn proc_dir_default() -> PathBuf {
    PathBuf::from("/proc")
}

fn cgroup_dir_default() -> PathBuf {
    PathBuf::from("/sys/fs/cgroup")
}

fn sample_secs_default() -> u64 {
    2
}

fn history_secs_default() -> u64 {
    6 * 3600
}

/// The configuration of the collector.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageSettings {
    #[serde(default = "sample_secs_default")]
    sample_secs: u64,
    #[serde(default = "history_secs_default")]
    history_secs: u64,
    #[serde(default = "proc_dir_default")]
    pub(crate) proc_dir: PathBuf,
    #[serde(default = "cgroup_dir_default")]
    pub(crate) cgroup_dir: PathBuf,
}

impl UsageSettings {
    pub(crate) fn sample_interval(&self) -> Result<Duration> {
        within("sample_secs", self.sample_secs, 1, SAMPLE_SECS_MAX).map(Duration::from_secs)
    }

    pub(crate) fn history(&self) -> Result<Duration> {
        within("history_secs", self.history_secs, self.sample_secs, HISTORY_SECS_MAX)
            .map(Duration::from_secs)
    }
}

fn within(key: &str, value: u64, min: u64, max: u64) -> Result<u64> {
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(Error::invalid_config(format!("`{key}`: must be between {min} and {max}, got {value}")))
}

/// A proc file system in this machine's clock ticks.
pub(crate) fn procfs(proc_dir: &Path, cgroup_dir: &Path) -> Procfs {
    let ticks_per_sec = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let ticks_per_sec = ticks_per_sec.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100);
    Procfs::new(proc_dir, cgroup_dir, ticks_per_sec)
}
