//! Modules from libraries that rated what is in the ledger, and are not in use any more.
//!
//! Their private copies are kept for as long as the ledger names them, the newest of them at least.
//! One is loaded when somebody rates an old period again, in a process of its own that ends when
//! nobody asks any more: nothing of it stays. It is never used for new work. A module that cannot
//! run apart (`pyscripts`) cannot be had once its library was replaced, and whoever asks is told
//! so.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Map;
use tracing::{info, warn};

use super::file;
use super::host::{Origin, PluginHost};
use super::library::Kind;
use super::load;
use super::module::Module;
use super::slot::{Duty, Place, Slot};
use crate::config::LibraryConfig;

/// How long a library that cannot be had is not tried again.
const RETRY_DELAY: TimeDelta = TimeDelta::minutes(1);

/// By name and the library's checksum.
pub(super) type KeptModules = Mutex<BTreeMap<(String, String), Kept>>;

pub(super) enum Kept {
    Module(Module),
    /// Why not may pass: memory, processes, a disk.
    Failed(DateTime<Utc>),
}

impl PluginHost {
    /// The rating module of that name from the library with this checksum, if its copy is there.
    /// Blocks as long as loading it takes.
    pub fn kept_module(&self, name: &str, library_sha256: &str) -> Option<Module> {
        let key = (name.to_owned(), library_sha256.to_owned());
        let now = self.services.lent.clock.now();
        match self.lock_kept().get(&key) {
            Some(Kept::Module(module)) => return Some(module.clone()),
            // A clock that was set back makes no delay longer.
            Some(Kept::Failed(at)) if (TimeDelta::zero()..RETRY_DELAY).contains(&(now - *at)) => {
                return None;
            }
            Some(Kept::Failed(_)) | None => {}
        }
        let kept = match self.load_kept(name, library_sha256) {
            Ok(module) => {
                info!(module = name, library = library_sha256, "An older library is loaded again.");
                Kept::Module(module)
            }
            Err(reason) => {
                let library = library_sha256;
                warn!(module = name, library, reason, "The library that rated cannot be had.");
                Kept::Failed(now)
            }
        };
        let mut known = self.lock_kept();
        // Somebody else may have been faster.
        if !matches!(known.get(&key), Some(Kept::Module(_))) {
            known.insert(key.clone(), kept);
        }
        match known.get(&key) {
            Some(Kept::Module(module)) => Some(module.clone()),
            Some(Kept::Failed(_)) | None => None,
        }
    }

    pub(super) fn lock_kept(&self) -> MutexGuard<'_, BTreeMap<(String, String), Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load_kept(&self, name: &str, sha256: &str) -> Result<Module, String> {
        let Origin::Folders(copies) = &self.origin else { return Err("there are no files".into()) };
        let copy = copies.find(sha256).ok_or("there is no copy of it")?;
        let wanted = LibraryConfig { sha256: Some(sha256.to_owned()), ..LibraryConfig::default() };
        let content = file::read(&copy, &wanted).map_err(|error| error.to_string())?;
        if self.is_stopped() {
            return Err("the daemon stops".into());
        }
        let settings = self.config.process_settings();
        let (source, apart) = (source_of(&copy), (&settings, &self.services));
        let library = load::describe(&source, &content, &copy, &LibraryConfig::default(), apart)
            .map_err(|error| error.to_string())?;
        let library = &Arc::new(library);
        let config = self.config.rating.get(name);
        let component = config.and_then(|config| config.plugin.as_deref()).unwrap_or(name);
        let is_it = |info: &super::library::ComponentInfo| {
            info.kind == Kind::Rating && info.name == component
        };
        let component = library.components.iter().position(|it| is_it(&it.info));
        let component = component.ok_or("it has no such module")?;
        let config = config.map_or_else(Map::new, |config| config.config.clone());
        let json = serde_json::to_vec(&config).expect("maps of texts are JSON");
        let (process, duty) = (Some(settings), Duty::Replay);
        let place = Place { library, component, required: false, process, calls_max: 1, duty };
        let slot = Arc::new(Slot::new(name, &place, json, &self.services));
        slot.create().map_err(|failed| failed.error.message)?;
        Ok(Module::new(slot.clone(), slot))
    }
}

/// What a copy was made of, as far as its name says it.
pub(super) fn source_of(copy: &std::path::Path) -> PathBuf {
    let stem = copy.file_stem().unwrap_or_default().to_string_lossy();
    let name = stem.rsplit_once('-').map_or(stem.as_ref(), |(name, _)| name);
    PathBuf::from(format!("{name}.so"))
}
