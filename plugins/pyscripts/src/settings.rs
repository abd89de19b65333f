//! The configuration: which Python, and what its processes may take.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use rated_plugin::{Error, Result};
use serde::Deserialize;

const PROCESSES: RangeInclusive<u64> = 1..=64;
const SECONDS: RangeInclusive<u64> = 1..=600;
const MEMORY_MIB: RangeInclusive<u64> = 64..=65_536;
/// Most modules that are loaded beforehand.
const MODULES_MAX: usize = 100;

/// `[rating.pyscripts]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A path, or a name to look for in `PATH`; `python3` when not given.
    pub python: Option<PathBuf>,
    #[serde(default = "processes")]
    pub processes: u64,
    #[serde(default = "cpu_secs")]
    pub cpu_secs: u64,
    #[serde(default = "wall_secs")]
    pub wall_secs: u64,
    #[serde(default = "memory_mib")]
    pub memory_mib: u64,
    /// What scripts can import.
    #[serde(default = "modules")]
    pub modules: Vec<String>,
    /// What must stand around them, or none runs.
    #[serde(default)]
    pub containment: Containment,
    /// Walls that are not even tried: how a test sees that the others hold without them.
    #[serde(skip)]
    pub left_out: Vec<Wall>,
}

/// The walls without which no script is run; what else the kernel gives is built all the same.
///
/// Limits always stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Containment {
    /// None.
    Limits,
    /// The filter of system calls.
    #[default]
    Filter,
    /// Filter and namespaces.
    Full,
}

/// What the kernel may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wall {
    /// No files, no network and no other process are there to be reached.
    Namespaces,
    /// System calls that could reach them are refused.
    Filter,
}

fn processes() -> u64 {
    4
}

fn cpu_secs() -> u64 {
    5
}

fn wall_secs() -> u64 {
    10
}

fn memory_mib() -> u64 {
    512
}

fn modules() -> Vec<String> {
    let names = "bisect calendar collections copy datetime decimal enum fractions functools \
                 itertools json math operator re statistics string time";
    names.split_whitespace().map(str::to_owned).collect()
}

/// What holds for every process.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) processes: usize,
    pub(crate) cpu_secs: u64,
    pub(crate) wall: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) modules: Vec<String>,
    pub(crate) containment: Containment,
    pub(crate) left_out: Vec<Wall>,
}

impl Settings {
    pub(crate) fn limits(&self) -> Result<Limits> {
        check("processes", self.processes, &PROCESSES)?;
        check("cpu_secs", self.cpu_secs, &SECONDS)?;
        check("wall_secs", self.wall_secs, &SECONDS)?;
        check("memory_mib", self.memory_mib, &MEMORY_MIB)?;
        if self.modules.len() > MODULES_MAX {
            return Err(Error::invalid_config(format!(
                "`modules`: has {} names, at most {MODULES_MAX} are allowed",
                self.modules.len()
            )));
        }
        if let Some(name) = self.modules.iter().find(|name| !is_module_name(name)) {
            return Err(Error::invalid_config(format!("`modules`: `{name}` names no module")));
        }
        Ok(Limits {
            processes: usize::try_from(self.processes).unwrap_or(1),
            cpu_secs: self.cpu_secs,
            wall: Duration::from_secs(self.wall_secs),
            memory_bytes: self.memory_mib << 20,
            modules: self.modules.clone(),
            containment: self.containment,
            left_out: self.left_out.clone(),
        })
    }
}

fn check(key: &str, value: u64, range: &RangeInclusive<u64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (least, most) = (range.start(), range.end());
    Err(Error::invalid_config(format!("`{key}`: must be between {least} and {most}, got {value}")))
}

fn is_module_name(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c == '_' || c.is_ascii_alphabetic())
            && part.chars().all(|c| c == '_' || c.is_ascii_alphanumeric())
    };
    name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    use rated_plugin::testing::config_json;

    use super::*;

    fn limits(toml: &str) -> Result<Limits> {
        let settings = serde_json::from_value::<Settings>(config_json(toml)?);
        settings.map_err(|error| Error::invalid_config(error.to_string()))?.limits()
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        let sample = limits(include_str!("../sample.toml")).unwrap();

        assert_eq!(format!("{sample:?}"), format!("{:?}", limits("").unwrap()));
    }

    #[test]
    fn a_limit_out_of_range_is_named_with_both_ends() {
        let message = |toml| limits(toml).unwrap_err().message;

        let expected = "`processes`: must be between 1 and 64, got 0";
        assert_eq!(message("processes = 0"), expected);
        assert_eq!(message("wall_secs = 601"), "`wall_secs`: must be between 1 and 600, got 601");
        assert!(message("memory_mib = 1").starts_with("`memory_mib`: must be between 64"));
        assert_eq!(message("modules = ['a;b']"), "`modules`: `a;b` names no module");
    }
}
