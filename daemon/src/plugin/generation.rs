//! The instances that work is done with, and how a set of them is made.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rated_plugin::Status;
use serde_json::{Map, Value};
use tracing::warn;

use super::collector::Collector;
use super::config::PluginConfig;
use super::error::{
    CallError, KeysError, LoadError, LoadErrorKind, PluginHostError, Refusal, RefusedSubject,
};
use super::fetcher::Fetcher;
use super::host_api::Services;
use super::library::{Kind, Library, LibraryInfo};
use super::module::Module;
use super::slot::{Duty, Place, Slot};
use crate::config::{InstanceConfig, Isolation};

/// What an instance says when it is asked whether it can work.
#[derive(Debug)]
pub struct Checked {
    pub kind: Kind,
    pub name: String,
    /// An error is the reason why not.
    pub outcome: Result<(), String>,
}

/// Immutable set of instances that work is done with from start to end.
///
/// An instance in it may be made anew after a panic or be disabled; none is added or taken away.
#[derive(Debug, Default)]
pub struct Generation {
    pub(super) number: u64,
    collectors: BTreeMap<String, Collector>,
    fetchers: BTreeMap<String, Fetcher>,
    modules: BTreeMap<String, Module>,
    pub(super) slots: Vec<Arc<Slot>>,
    pub(super) libraries: Vec<LibraryInfo>,
    pub(super) refused: Vec<Refusal>,
}

impl Generation {
    /// Grows with every reload that changed something.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub fn collector(&self, name: &str) -> Option<&Collector> {
        self.collectors.get(name)
    }

    pub fn fetcher(&self, name: &str) -> Option<&Fetcher> {
        self.fetchers.get(name)
    }

    pub fn module(&self, name: &str) -> Option<&Module> {
        self.modules.get(name)
    }

    /// By name.
    pub fn collectors(&self) -> impl Iterator<Item = &Collector> {
        self.collectors.values()
    }

    /// By name.
    pub fn fetchers(&self) -> impl Iterator<Item = &Fetcher> {
        self.fetchers.values()
    }

    /// By name.
    pub fn modules(&self) -> impl Iterator<Item = &Module> {
        self.modules.values()
    }

    pub fn libraries(&self) -> &[LibraryInfo] {
        &self.libraries
    }

    /// What is not there, and why.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// Asks every instance whether its outside world answers, all at once; waits for them.
    pub fn ask_all(&self) -> Vec<Checked> {
        let answers = ask_all(&self.slots, None);
        let checked = |(index, outcome): (usize, Result<(), CallError>)| {
            let slot = &self.slots[index];
            let outcome = outcome.map_err(|error| error.error.message);
            Checked { kind: slot.kind(), name: slot.name().to_owned(), outcome }
        };
        answers.into_iter().map(checked).collect()
    }

    /// Is an instance missing that making all of them anew might bring back?
    pub(super) fn is_ailing(&self) -> bool {
        let refused = self
            .refused
            .iter()
            .any(|refusal| matches!(refusal.subject, RefusedSubject::Instance { .. }));
        let is_disabled = |slot: &Arc<Slot>| slot.disabled().is_some();
        refused
            || self.slots.iter().any(is_disabled)
            || self.modules.values().any(Module::is_replay_disabled)
    }

    /// Takes out instances that are not to be used.
    pub(super) fn remove(&mut self, failed: Vec<Refusal>) {
        for refusal in failed {
            let RefusedSubject::Instance { kind, name } = &refusal.subject else { continue };
            self.slots.retain(|slot| slot.kind() != *kind || slot.name() != name);
            match kind {
                Kind::Collector => drop(self.collectors.remove(name)),
                Kind::Fetcher => drop(self.fetchers.remove(name)),
                Kind::Rating => drop(self.modules.remove(name)),
            }
            self.refused.push(refusal);
        }
    }

    /// With what rates again, if it is a module.
    fn add(&mut self, slot: Arc<Slot>, replay: Slot) {
        let name = slot.name().to_owned();
        match slot.kind() {
            Kind::Collector => drop(self.collectors.insert(name, Collector::new(slot.clone()))),
            Kind::Fetcher => drop(self.fetchers.insert(name, Fetcher::new(slot.clone()))),
            Kind::Rating => {
                drop(self.modules.insert(name, Module::new(slot.clone(), Arc::new(replay))));
            }
        }
        self.slots.push(slot);
    }
}

impl Refusal {
    /// Is it that library with that content?
    pub(super) fn is_of(&self, path: &Path, sha256: &str) -> bool {
        matches!(&self.subject, RefusedSubject::Library(refused) if refused == path)
            && self.sha256.as_deref() == Some(sha256)
    }

    pub(super) fn of_library(error: &LoadError, sha256: Option<String>) -> Refusal {
        Refusal {
            subject: RefusedSubject::Library(error.path.clone()),
            reason: error.reason.to_string(),
            required: false,
            sha256,
        }
    }
}

/// Takes out the libraries that bring a component which is there already.
pub(super) fn without_duplicates(
    libraries: Vec<Arc<Library>>,
    refused: &mut Vec<Refusal>,
) -> Vec<Arc<Library>> {
    let mut owners: BTreeMap<(Kind, String), Arc<Library>> = BTreeMap::new();
    let mut kept = Vec::new();
    for library in libraries {
        let mut names: Vec<(Kind, String)> = Vec::new();
        let clash = library.components.iter().find_map(|component| {
            let (kind, name) = (component.info.kind, component.info.name.clone());
            let key = (kind, name.clone());
            let by = owners.get(&key).map(|owner| owner.info.path.clone());
            let by = by.or_else(|| names.contains(&key).then(|| library.info.path.clone()));
            names.push(key);
            by.map(|by| LoadErrorKind::Duplicate { kind, name, by })
        });
        if let Some(reason) = clash {
            let error = LoadError::new(&library.info.path, reason);
            refused.push(Refusal::of_library(&error, Some(library.info.sha256.clone())));
            continue;
        }
        owners.extend(names.into_iter().map(|key| (key, library.clone())));
        kept.push(library);
    }
    kept
}

/// Makes every instance of the configuration from the libraries; waits for the plugins.
///
/// What cannot be made is among the refused.
pub(super) fn build(
    number: u64,
    libraries: &[Arc<Library>],
    refused: Vec<Refusal>,
    config: &PluginConfig,
    services: &Arc<Services>,
) -> Result<Generation, PluginHostError> {
    let infos = libraries.iter().map(|library| library.info.clone()).collect();
    let mut generation = Generation { number, libraries: infos, refused, ..Generation::default() };
    let wanted = wanted(libraries, config);
    for (kind, name, instance) in wanted {
        let refuse = |reason| Refusal {
            subject: RefusedSubject::Instance { kind, name: name.clone() },
            reason,
            required: instance.required,
            sha256: None,
        };
        let component = instance.plugin.as_deref().unwrap_or(&name);
        let Some((library, index)) = find(libraries, kind, component) else {
            let reason = not_found(libraries, kind, component, &generation.refused);
            generation.refused.push(refuse(reason));
            continue;
        };
        let json = serde_json::to_vec(&instance.config).expect("maps of texts are JSON");
        let is_apart = instance.isolation == Isolation::Process;
        let process = is_apart.then(|| config.process_settings());
        let required = instance.required;
        let (duty, calls_max) = (Duty::Work, config.calls_max());
        let place = Place { library, component: index, required, process, calls_max, duty };
        let slot = Arc::new(Slot::new(&name, &place, json.clone(), services));
        let replay = Place { duty: Duty::Replay, calls_max: config.replay_calls_max(), ..place };
        services.take_refused_for_room();
        match slot.create() {
            Ok(()) => generation.add(slot, Slot::new(&name, &replay, json, services)),
            Err(failed) => match services.take_refused_for_room() {
                Some(error) if required => {
                    let failed = KeysError { kind, name, error };
                    return Err(PluginHostError::NoRoomForKeys(Box::new(failed)));
                }
                _ => generation.refused.push(refuse(failed.error.message)),
            },
        }
    }
    Ok(generation)
}

/// The configured instances, and one of every rating module that no configuration names.
fn wanted(
    libraries: &[Arc<Library>],
    config: &PluginConfig,
) -> Vec<(Kind, String, InstanceConfig)> {
    let of = |kind: Kind, instances: &BTreeMap<String, InstanceConfig>| {
        let named = instances.iter();
        named.map(|(name, config)| (kind, name.clone(), config.clone())).collect::<Vec<_>>()
    };
    let mut wanted = of(Kind::Collector, &config.collectors);
    wanted.extend(of(Kind::Fetcher, &config.fetchers));
    wanted.extend(of(Kind::Rating, &config.rating));
    let components = libraries.iter().flat_map(|library| &library.components);
    for component in components.filter(|component| component.info.kind == Kind::Rating) {
        let name = &component.info.name;
        let is_named = config.rating.iter().any(|(instance, config)| {
            instance == name || config.plugin.as_ref().is_some_and(|plugin| plugin == name)
        });
        if !is_named {
            let config = InstanceConfig {
                plugin: None,
                required: false,
                isolation: Isolation::Thread,
                config: Map::<String, Value>::new(),
            };
            wanted.push((Kind::Rating, name.clone(), config));
        }
    }
    wanted
}

/// Does everything that is wanted of a library run in processes of its own?
pub(super) fn is_apart(library: &Library, config: &PluginConfig) -> bool {
    library.components.iter().all(|component| {
        let instances = config.instances_of(component.info.kind, &component.info.name);
        instances.iter().all(|(_, isolation)| *isolation == Isolation::Process)
    })
}

fn find<'a>(
    libraries: &'a [Arc<Library>],
    kind: Kind,
    name: &str,
) -> Option<(&'a Arc<Library>, usize)> {
    libraries.iter().find_map(|library| {
        let mut components = library.components.iter();
        let index = components.position(|c| c.info.kind == kind && c.info.name == name)?;
        Some((library, index))
    })
}

fn not_found(libraries: &[Arc<Library>], kind: Kind, name: &str, refused: &[Refusal]) -> String {
    let components = libraries.iter().flat_map(|library| &library.components);
    let found: Vec<String> = components
        .filter(|component| component.info.kind == kind)
        .map(|component| format!("`{}`", component.info.name))
        .collect();
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    let libraries = refused
        .iter()
        .filter(|refusal| matches!(refusal.subject, RefusedSubject::Library(_)))
        .count();
    let hint = match libraries {
        0 => String::new(),
        count => format!("; {count} libraries were refused"),
    };
    format!("no plugin has a {kind} `{name}` (found: {found}{hint})")
}

/// How long a start waits for the checks of its instances.
const START_PATIENCE: Duration = Duration::from_millis(300);

/// The answers that came in time, in order; a later failure is only logged.
fn ask_all(
    slots: &[Arc<Slot>],
    patience: Option<Duration>,
) -> BTreeMap<usize, Result<(), CallError>> {
    let (sender, answers) = mpsc::channel();
    for (index, slot) in slots.iter().enumerate() {
        let (slot, sender) = (slot.clone(), sender.clone());
        // The check itself runs on the pool; this thread only waits for it.
        let wait = move || {
            let outcome = slot.check();
            if let Err(mpsc::SendError((_, Err(late)))) = sender.send((index, outcome)) {
                warn_of(&late);
            }
        };
        if let Err(error) = thread::Builder::new().name("plugin-check".to_owned()).spawn(wait) {
            warn!(%error, "An instance is not checked: no thread can be had.");
        }
    }
    drop(sender);
    let end = patience.map(|patience| Instant::now() + patience);
    let next = || match end {
        Some(end) => answers.recv_timeout(end.saturating_duration_since(Instant::now())).ok(),
        None => answers.recv().ok(),
    };
    std::iter::from_fn(next).collect()
}

fn warn_of(error: &CallError) {
    warn!(instance = %error.instance, reason = %error.error, "A plugin's check failed.");
}

/// What [`check`] makes of an instance that does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckFailed {
    /// The daemon starts: the outside world may come back.
    Tolerated,
    /// Only if the library is the one that ran before, and the outside world is at fault.
    Strict,
}

/// Asks every instance whether the outside world answers, all at once.
///
/// The refusals are of those that are not to be used; the texts of those that are, all the same.
/// A start does not wait for longer than [`START_PATIENCE`]: a source that hangs is no reason to
/// keep the API and the other sources waiting.
pub(super) fn check(
    generation: &Generation,
    how: CheckFailed,
    is_known: impl Fn(&LibraryInfo) -> bool,
) -> (Vec<Refusal>, Vec<String>) {
    let (mut failed, mut tolerated) = (Vec::new(), Vec::new());
    let patience = match how {
        CheckFailed::Tolerated => Some(START_PATIENCE),
        CheckFailed::Strict => None,
    };
    for (index, outcome) in ask_all(&generation.slots, patience) {
        let slot = &generation.slots[index];
        let Err(error) = outcome else { continue };
        let is_tolerated = match how {
            CheckFailed::Tolerated => error.status() != Status::InvalidConfig,
            CheckFailed::Strict => error.error.retryable && is_known(&slot.library().info),
        };
        if is_tolerated {
            warn_of(&error);
            tolerated.push(error.to_string());
        } else {
            failed.push(Refusal {
                subject: RefusedSubject::Instance {
                    kind: slot.kind(),
                    name: slot.name().to_owned(),
                },
                reason: error.error.message,
                required: slot.is_required(),
                sha256: None,
            });
        }
    }
    (failed, tolerated)
}
