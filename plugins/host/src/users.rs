//! Users: their names, and the fetcher that finds those who have or had processes.
//!
//! The collectors of this library tell which users they have seen, so that somebody whose processes
//! never live long enough to meet the fetcher is found as well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rated_plugin::{Batches, Call, Component, Error, Fetcher, Host, Result};
use serde::Deserialize;

use crate::machine::{Machine as _, Procfs};
use crate::sampler::UsersSeen;
use crate::settings::{proc_dir_default, procfs};

/// Most names in `include` and `exclude`.
const NAMES_MAX: usize = 10_000;
/// Most names that are remembered.
const NAMES_KNOWN_MAX: usize = 100_000;

/// The users seen by this library, by the proc folder they were seen in.
static USERS_SEEN: LazyLock<Mutex<BTreeMap<PathBuf, UsersSeen>>> = LazyLock::new(Mutex::default);

pub(crate) fn users_seen(proc_dir: &Path) -> UsersSeen {
    let mut all = USERS_SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(proc_dir.to_owned()).or_default())
}

/// The names of users, as far as they have one.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Mutex<BTreeMap<u32, String>>,
}

impl Names {
    /// The user's name, or the number as text.
    pub(crate) fn of(&self, uid: u32) -> String {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = known.get(&uid) {
            return name.clone();
        }
        match nix::unistd::User::from_uid(uid.into()) {
            Ok(Some(user)) if !user.name.is_empty() => {
                if known.len() < NAMES_KNOWN_MAX {
                    known.insert(uid, user.name.clone());
                }
                user.name
            }
            // Not remembered: it may get a name.
            _ => uid.to_string(),
        }
    }
}

/// The configuration of the fetcher.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersSettings {
    #[serde(default)]
    include: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    #[serde(default)]
    uid_min: u32,
    #[serde(default = "proc_dir_default")]
    proc_dir: PathBuf,
}

/// Finds the users of this machine.
#[derive(Debug)]
pub struct HostUsers {
    machine: Mutex<Procfs>,
    users_seen: UsersSeen,
    names: Names,
    settings: UsersSettings,
}

impl Component for HostUsers {
    const NAME: &'static str = "host";
    const SUMMARY: &'static str = "Takes the users of this machine as scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample-fetcher.toml");
    type Config = UsersSettings;

    fn create(settings: UsersSettings, _host: Host) -> Result<HostUsers> {
        for (key, names) in [("include", &settings.include), ("exclude", &settings.exclude)] {
            if names.len() > NAMES_MAX {
                return Err(Error::invalid_config(format!(
                    "`{key}`: must have 0 to {NAMES_MAX} names, got {}",
                    names.len()
                )));
            }
            if names.iter().any(String::is_empty) {
                return Err(Error::invalid_config(format!("`{key}`: has an empty name")));
            }
        }
        let users = HostUsers {
            machine: Mutex::new(procfs(&settings.proc_dir, Path::new("/nonexistent"))),
            users_seen: users_seen(&settings.proc_dir),
            names: Names::default(),
            settings,
        };
        users.look().map_err(|error| Error::invalid_config(error.message))?;
        Ok(users)
    }
}

impl HostUsers {
    fn look(&self) -> Result<BTreeSet<u32>> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        let snapshot = machine.look().map_err(|error| {
            Error::unavailable(format!(
                "cannot look at the processes in `{}`: {error}",
                self.settings.proc_dir.display()
            ))
        })?;
        let mut seen = self.users_seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.extend(snapshot.processes.values().map(|process| process.uid));
        Ok(seen.clone())
    }
}

impl Fetcher for HostUsers {
    fn scopes(&self, _call: &Call) -> Result<Batches> {
        let UsersSettings { include, exclude, uid_min, .. } = &self.settings;
        let found = self.look()?;
        let names = found.into_iter().filter(|uid| uid >= uid_min).map(|uid| self.names.of(uid));
        let wanted = |name: &String| {
            (include.is_empty() || include.contains(name)) && !exclude.contains(name)
        };
        Ok(Batches::scopes(names.filter(wanted).collect::<BTreeSet<String>>()))
    }
}
