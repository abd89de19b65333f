//! All plugins of a daemon: found, loaded, made, changed under way, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rated_plugin::raw::PluginDecl;
use tracing::{error, info, warn};

use super::config::{HostServices, PluginConfig};
use super::error::{LoadError, LoadErrorKind, PluginHostError, Refusal};
use super::file::{self, Content, Copies};
use super::find;
use super::generation::{self, CheckFailed, Generation};
use super::host_api::Services;
use super::kept::KeptModules;
use super::library::{Declaration, Library};
use super::load;
use super::pool::{Pool, PoolLimits};
use super::process;
use super::reload::ReloadReport;
use crate::fault::{Step, passed};
use crate::ledger::is_disk_full;

/// Most times that libraries are loaded in one process: their code stays in memory, about 1 MiB
/// each time.
pub const GENERATIONS_MAX: usize = 32;

/// Most threads that hang in plugins at a time and are replaced by others.
const LOST_THREADS_MAX: usize = 64;

/// All plugins: loads them, makes their instances, reloads them.
///
/// Generations and what was made of them may outlive it; the services end with the last of them.
pub struct PluginHost {
    pub(super) config: PluginConfig,
    pub(super) services: Arc<Services>,
    current: ArcSwap<Generation>,
    /// Held while the current generation is replaced; `true` = stopped, it stays empty.
    stopped: Mutex<bool>,
    /// Held as long as a reload takes.
    loaded: Mutex<Loaded>,
    pub(super) origin: Origin,
    pub(super) kept: KeptModules,
}

/// Where libraries come from.
pub(super) enum Origin {
    Folders(Copies),
    Embedded(Vec<Declaration>),
}

/// What is in the process for good.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Private copies that were started, and why that failed.
    pub(super) started: BTreeMap<PathBuf, Option<LoadErrorKind>>,
    /// How often a generation brought new code.
    pub(super) generations: usize,
    pub(super) number: u64,
}

/// What the folders hold now.
#[derive(Default)]
pub(super) struct Candidates {
    pub(super) files: Vec<(PathBuf, Content)>,
    pub(super) refused: Vec<Refusal>,
}

impl fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PluginHost").field("config", &self.config).finish_non_exhaustive()
    }
}

impl PluginHost {
    /// Finds, checks and loads every library, makes every configured instance. What is refused is
    /// in [`Generation::refused`], and is an error only when configured as `required`.
    ///
    /// Waits for the plugins: call it off the async threads.
    pub fn start(
        config: PluginConfig,
        services: HostServices,
    ) -> Result<PluginHost, PluginHostError> {
        let host = PluginHost::new(config, services)?;
        host.load()?;
        Ok(host)
    }

    /// Without any plugin yet.
    pub fn new(
        config: PluginConfig,
        services: HostServices,
    ) -> Result<PluginHost, PluginHostError> {
        let copies = Copies::of(&config.state_dir);
        PluginHost::of(config, services, Origin::Folders(copies))
    }

    /// With plugins that are part of the program, for tests: no file is looked at, a reload makes
    /// the same again.
    pub fn with_embedded(
        declarations: Vec<&'static PluginDecl>,
        config: PluginConfig,
        services: HostServices,
    ) -> Result<PluginHost, PluginHostError> {
        let declarations = declarations.into_iter().map(Declaration).collect();
        let host = PluginHost::of(config, services, Origin::Embedded(declarations))?;
        host.load()?;
        Ok(host)
    }

    fn of(
        config: PluginConfig,
        lent: HostServices,
        origin: Origin,
    ) -> Result<PluginHost, PluginHostError> {
        let limits = PoolLimits {
            threads: config.threads,
            deadline: config.call_deadline,
            grace: config.call_grace,
            lost_threads_max: LOST_THREADS_MAX,
        };
        if config.isolated().next().is_some() {
            process::warn_of_less(config.process_memory_bytes);
        }
        let (metrics, replay_idle) = (lent.metrics.clone(), config.replay_idle);
        let pool = Pool::start(limits, move || metrics.plugin_thread_lost())
            .map_err(PluginHostError::Threads)?;
        Ok(PluginHost {
            config,
            services: Arc::new(Services::new(lent, pool, replay_idle)),
            current: ArcSwap::default(),
            stopped: Mutex::default(),
            loaded: Mutex::default(),
            origin,
            kept: KeptModules::default(),
        })
    }

    /// Makes the first generation. May be tried again after an error: what is in the process
    /// already is not started twice.
    pub fn load(&self) -> Result<(), PluginHostError> {
        let mut loaded = self.lock_loaded();
        if let Origin::Folders(copies) = &self.origin {
            copies.make_folder().map_err(|error| {
                let path = copies.dir().to_owned();
                PluginHostError::StateDir { path, error }
            })?;
        }
        let candidates = self.candidates();
        self.remove_unused_copies(&candidates);
        let mut generation = self.build(candidates, &mut loaded)?;
        let (failed, _) = generation::check(&generation, CheckFailed::Tolerated, |_| true);
        generation.remove(failed);
        let refused = generation.refused.iter();
        for refusal in refused.clone() {
            warn!(reason = %refusal, "A plugin or an instance of one is refused.");
        }
        let required: Vec<Refusal> = refused.filter(|refusal| refusal.required).cloned().collect();
        if !required.is_empty() {
            return Err(PluginHostError::Refused(required));
        }
        drop(loaded);
        self.swap(generation)
    }

    /// The generation to use for new work.
    pub fn generation(&self) -> Arc<Generation> {
        self.current.load_full()
    }

    /// Looks at the folders again; new or changed libraries are loaded beside the old ones, all
    /// instances made anew and checked, then swapped in at once. On any failure the old generation
    /// stays.
    ///
    /// Waits for the plugins: call it off the async threads.
    pub fn reload(&self) -> Result<ReloadReport, PluginHostError> {
        super::reload::reload(self)
    }

    /// Waits for calls to end, `grace` at most; ends the instances that nobody uses any more.
    pub async fn stop(&self, grace: Duration) {
        {
            let mut stopped = self.lock_stopped();
            *stopped = true;
            self.current.store(Arc::default());
        }
        self.lock_kept().clear();
        let pool = &self.services.pool;
        if tokio::time::timeout(grace, pool.idle()).await.is_err() {
            warn!(?grace, "Calls to plugins did not end in time, they are left behind.");
            pool.cancel_all();
            // The kernel would kill those processes with this one, but not what they have started.
            pool.kill_elsewhere();
        }
        pool.close();
    }

    /// From now on work is done with this generation.
    pub(super) fn swap(&self, generation: Generation) -> Result<(), PluginHostError> {
        let stopped = self.lock_stopped();
        if *stopped {
            return Err(PluginHostError::Stopped);
        }
        self.current.store(Arc::new(generation));
        passed(Step::PluginsSwapped);
        Ok(())
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.lock_stopped()
    }

    fn lock_stopped(&self) -> MutexGuard<'_, bool> {
        self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock_loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is in the folders.
    pub(super) fn candidates(&self) -> Candidates {
        let mut candidates = Candidates::default();
        if self.is_embedded() {
            return candidates;
        }
        let found = find::find(&self.config.plugin_dirs, self.config.bundled_dir.as_deref());
        let refused = found.refused.iter().map(|error| Refusal::of_library(error, None));
        candidates.refused = refused.collect();
        for path in found.files {
            match file::read(&path, &self.config.library(&path)) {
                Ok(content) => candidates.files.push((path, content)),
                Err(error) => candidates.refused.push(Refusal::of_library(&error, None)),
            }
        }
        candidates
    }

    /// Are there no files to look at?
    pub(super) fn is_embedded(&self) -> bool {
        matches!(self.origin, Origin::Embedded(_))
    }

    /// Whether the library's code is among those started.
    pub(super) fn is_started(
        &self,
        path: &Path,
        sha256: &str,
        started: &BTreeMap<PathBuf, Option<LoadErrorKind>>,
    ) -> bool {
        match &self.origin {
            Origin::Folders(copies) => started.contains_key(&copies.path(path, sha256)),
            Origin::Embedded(_) => true,
        }
    }

    /// Loads the libraries and makes the instances; what cannot be is among the refused. An error
    /// is a want of room: none of them is missing for that.
    pub(super) fn build(
        &self,
        candidates: Candidates,
        loaded: &mut Loaded,
    ) -> Result<Generation, PluginHostError> {
        let Candidates { files, mut refused } = candidates;
        let opened: Vec<Arc<Library>> = match &self.origin {
            Origin::Embedded(declarations) => declarations
                .iter()
                .filter_map(|declaration| keep(load::embedded(declaration.0), None, &mut refused))
                .collect(),
            // All of them first: nothing is mapped before there is room for the last one.
            Origin::Folders(copies) => copied(copies, &files, &mut refused)?
                .into_iter()
                .filter_map(|(path, content, copy)| {
                    let opened = self.open(path, content, &copy);
                    keep(opened, Some(&content.sha256), &mut refused)
                })
                .collect(),
        };
        let unique = generation::without_duplicates(opened, &mut refused);
        let libraries = self.start_new(unique, &mut refused, loaded);
        loaded.number += 1;
        let built =
            generation::build(loaded.number, &libraries, refused, &self.config, &self.services)?;
        passed(Step::PluginsMade);
        Ok(built)
    }

    /// Maps a library, unless all that is wanted of it runs elsewhere.
    fn open(&self, path: &Path, content: &Content, copy: &Path) -> Result<Library, LoadError> {
        let config = self.config.library(path);
        if self.config.isolated().next().is_some() {
            let apart = (&self.config.process_settings(), &self.services);
            match load::describe(path, content, copy, &config, apart) {
                Ok(described) if generation::is_apart(&described, &self.config) => {
                    return Ok(described);
                }
                Ok(_) => {}
                // What cannot have to do with processes is not refused for the want of them, nor
                // in their words; but what killed one shall not be tried here.
                Err(LoadError {
                    reason: LoadErrorKind::NoProcess(_) | LoadErrorKind::Apart(_),
                    ..
                }) if !self.may_be_isolated(content) => {}
                Err(error) => return Err(error),
            }
        }
        load::open(path, content, copy, &config)
    }

    /// Does a library hold the name of anything that is to run in a process of its own?
    fn may_be_isolated(&self, content: &Content) -> bool {
        self.config.isolated().any(|(name, instance)| {
            let name = instance.plugin.as_ref().unwrap_or(name).as_bytes();
            content.bytes.windows(name.len().max(1)).any(|bytes| bytes == name)
        })
    }

    /// Is all that is wanted of it in processes of its own? Asks such a process.
    pub(super) fn runs_apart(&self, path: &Path, content: &Content) -> bool {
        let Origin::Folders(copies) = &self.origin else { return false };
        if self.config.isolated().next().is_none() {
            return false;
        }
        let Ok(copy) = copies.keep(path, content) else { return false };
        let apart = (&self.config.process_settings(), &self.services);
        load::describe(path, content, &copy, &self.config.library(path), apart)
            .is_ok_and(|described| generation::is_apart(&described, &self.config))
    }

    /// Starts the libraries that are new in this process.
    pub(super) fn start_new(
        &self,
        libraries: Vec<Arc<Library>>,
        refused: &mut Vec<Refusal>,
        loaded: &mut Loaded,
    ) -> Vec<Arc<Library>> {
        let mut brought_code = false;
        let kept = libraries
            .into_iter()
            .filter(|library| {
                let info = &library.info;
                let copy = match &self.origin {
                    Origin::Folders(copies) => copies.path(&info.path, &info.sha256),
                    Origin::Embedded(_) => info.path.clone(),
                };
                let failed = match loaded.started.get(&copy) {
                    Some(None) => return true,
                    Some(Some(reason)) => Some(reason.clone()),
                    None => {
                        // What runs elsewhere stays in nobody's memory.
                        brought_code |= library.declaration.is_some();
                        let failed = load::start(library).err().map(|error| error.reason);
                        loaded.started.insert(copy, failed.clone());
                        failed
                    }
                };
                if let Some(reason) = failed {
                    let error = LoadError::new(&info.path, reason);
                    refused.push(Refusal::of_library(&error, Some(info.sha256.clone())));
                    return false;
                }
                let path = info.path.display();
                info!(plugin = info.name, version = info.version, %path, "Plugin loaded.");
                true
            })
            .collect();
        if brought_code {
            loaded.generations += 1;
            self.services.lent.metrics.set_plugin_generations(loaded.generations);
        }
        kept
    }

    fn remove_unused_copies(&self, candidates: &Candidates) {
        let Origin::Folders(copies) = &self.origin else { return };
        let used = candidates.files.iter();
        let used = used.map(|(path, content)| copies.path(path, &content.sha256));
        // What was rated by them can be rated again as it was.
        let rated = match self.services.lent.ledger.libraries() {
            Ok(rated) => rated,
            Err(error) => {
                warn!(%error, "Which copies of plugins are unused cannot be told, all are kept.");
                return;
            }
        };
        let kept = rated.iter().take(self.config.keep_libraries);
        let kept = kept.filter_map(|sha256| copies.find(sha256));
        let used = used.chain(kept).collect();
        if let Err(error) = copies.remove_unused(&used) {
            let dir = copies.dir().display();
            error!(%dir, %error, "Cannot remove unused copies of plugins.");
        }
    }
}

/// The private copy of each library that can be had.
fn copied<'a>(
    copies: &Copies,
    files: &'a [(PathBuf, Content)],
    refused: &mut Vec<Refusal>,
) -> Result<Vec<(&'a Path, &'a Content, PathBuf)>, PluginHostError> {
    let mut made = Vec::new();
    for (path, content) in files {
        match copies.keep(path, content) {
            Ok(copy) => made.push((path.as_path(), content, copy)),
            Err(error) if is_disk_full(&error) => {
                return Err(PluginHostError::Copy { path: path.clone(), error });
            }
            Err(error) => {
                let error = error.into_load_error(path);
                refused.push(Refusal::of_library(&error, Some(content.sha256.clone())));
            }
        }
    }
    Ok(made)
}

/// The library, or what is refused.
fn keep(
    opened: Result<Library, LoadError>,
    sha256: Option<&String>,
    refused: &mut Vec<Refusal>,
) -> Option<Arc<Library>> {
    match opened {
        Ok(library) => Some(Arc::new(library)),
        Err(error) => {
            refused.push(Refusal::of_library(&error, sha256.cloned()));
            None
        }
    }
}

impl PluginConfig {
    pub(super) fn library(&self, path: &Path) -> crate::config::LibraryConfig {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.libraries.get(name).cloned().unwrap_or_default()
    }
}
