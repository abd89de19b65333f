//! Prices by scripts in Python: the rating module `pyscripts`.
//!
//! Scripts are changed over REST while the daemon runs, and kept by the daemon with all their
//! history. Those in force at a period's begin run in the order of their names over the points of
//! one metric, scope and period, and leave a price for each. They run in processes of their own
//! that have little time, little memory, no files, no network and none of the daemon's secrets;
//! one that fails or overruns fails the period of that scope and nobody else's.
//!
//! This module never runs a script in the daemon's process, and never takes anything from a script
//! but prices.

#![forbid(unsafe_code)]

mod explain;
mod failures;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod moment;
mod python;
mod rating;
mod record;
mod rest;
mod settings;
mod store;

use std::sync::{Arc, Mutex, PoisonError};

use rated_plugin::{AsOf, Call, Component, Host, RatingModule, Request, Response, Result};

use crate::failures::Failures;
use crate::python::{NamedText, Pool, Scripts};
pub use crate::rating::ScriptsRater;
use crate::record::{Id, Script};
pub use crate::settings::{Containment, Settings, Wall};
use crate::store::Store;

/// The rating module.
#[derive(Debug)]
pub struct PyScripts {
    store: Store,
    shared: Arc<Shared>,
    /// The scripts that were in force last: period after period has the same.
    prepared: Mutex<Option<Prepared>>,
}

/// Scripts with what tells them from others.
#[derive(Debug)]
struct Prepared {
    /// Ids and checksums.
    key: Arc<[(Id, String)]>,
    scripts: Arc<Scripts>,
}

/// What raters need as long as they are.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) python: Pool,
}

impl Component for PyScripts {
    const NAME: &'static str = "pyscripts";
    const SUMMARY: &'static str = "PyScripts rating module.";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = Settings;

    fn create(config: Settings, host: Host) -> Result<PyScripts> {
        let limits = config.limits()?;
        let python = Pool::new(host, config.python, limits);
        let shared = Arc::new(Shared { host, python });
        Ok(PyScripts { store: Store::new(host), shared, prepared: Mutex::default() })
    }

    /// Starts a Python process: without one no script can be stored or run.
    fn check(&self, call: &Call) -> Result<()> {
        self.shared.python.try_out(call)
    }
}

impl RatingModule for PyScripts {
    type Rater = ScriptsRater;
    const HOT_CONFIG: bool = true;
    const API_SCHEMA: &'static str = include_str!("rest/openapi.json");

    fn prepare(&self, _call: &Call, as_of: AsOf) -> Result<ScriptsRater> {
        let read = self.store.at(as_of.revision)?;
        let at = as_of.at.naive_utc();
        let mut active: Vec<(Id, &Script)> =
            read.kept().filter(|(_, script)| script.is_active(at)).collect();
        active.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        let key = active.iter().map(|(id, script)| (*id, script.checksum.clone()));
        let key: Arc<[(Id, String)]> = key.collect();
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = prepared.as_ref().filter(|known| known.key == key) {
            return Ok(self.rater(known.scripts.clone(), key));
        }
        let texts = active.iter().map(|(id, script)| {
            let data = self.store.data(read.revision, *id)?;
            Ok(NamedText { name: script.name.clone(), data })
        });
        let scripts = Arc::new(Scripts(texts.collect::<Result<Vec<_>>>()?));
        *prepared = Some(Prepared { key: key.clone(), scripts: scripts.clone() });
        Ok(self.rater(scripts, key))
    }

    fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
        let now = self.shared.host.now();
        let (store, python) = (&self.store, &self.shared.python);
        rest::handle(&rest::Context { store, python, now, call, request })
    }
}

impl PyScripts {
    fn rater(&self, scripts: Arc<Scripts>, ids: Arc<[(Id, String)]>) -> ScriptsRater {
        let failures = Failures::default();
        ScriptsRater { shared: self.shared.clone(), scripts, ids, failures }
    }
}

rated_plugin::export! {
    rating_modules: [PyScripts],
    requires: [kv],
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_sample() {
        assert!(include_str!("../README.md").contains(include_str!("../sample.toml")));
    }

    #[test]
    fn it_conforms() {
        rated_plugin::testing::conformance(super::plugin_decl());
    }
}
