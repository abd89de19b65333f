use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Utc};

use super::chain::{Chain, ChainCache, ChainKey};
use super::{CallFailure, ModuleSet, Modules, RatingModule};
use crate::ledger::{Ledger, LedgerError, ModuleState};

/// The state of a module nobody has said anything about.
pub const MODULE_STATE_DEFAULT: ModuleState = ModuleState { enabled: false, priority: 1 };

/// Rates usage with the enabled modules; keeps their states. Cheap to clone.
#[derive(Clone)]
pub struct Rating {
    ledger: Arc<dyn Ledger>,
    pub(super) plugins: Arc<dyn Modules>,
    /// For modules seen for the first time.
    defaults: Arc<BTreeMap<String, ModuleState>>,
    chains: Arc<Mutex<ChainCache>>,
}

/// A module as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleView {
    pub name: String,
    pub description: String,
    pub enabled: bool,
    pub priority: i64,
    pub hot_config: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum RatingError {
    #[error("there is no rating module `{0}`")]
    NoModule(String),
    /// Without it everything would cost less, in silence.
    #[error(
        "rating module `{0}` is enabled and not there\n(hint: the log of the start says why; mend \
         it and reload, or disable the module)"
    )]
    NotThere(String),
    #[error("cannot read or write the state of the rating modules")]
    Ledger(#[source] Arc<LedgerError>),
    #[error("rating module `{module}` failed")]
    Call {
        module: String,
        #[source]
        failure: CallFailure,
    },
    /// The rows as we made them; ours to mend, or the data's.
    #[error("cannot make the rows to rate")]
    Rows(#[source] rated_plugin::Error),
    #[error("the thread that read the ledger ended early")]
    Interrupted,
}

impl RatingError {
    /// Would fewer rows at a time do?
    pub(super) fn asks_for_less(&self) -> bool {
        match self {
            RatingError::Call { failure, .. } => failure.error.split,
            RatingError::Rows(error) => error.split,
            _ => false,
        }
    }
}

impl From<LedgerError> for RatingError {
    fn from(error: LedgerError) -> RatingError {
        RatingError::Ledger(Arc::new(error))
    }
}

impl Rating {
    /// `defaults`: by module name, what the configuration says of modules seen for the first time.
    pub fn new(
        ledger: Arc<dyn Ledger>,
        plugins: Arc<dyn Modules>,
        defaults: BTreeMap<String, ModuleState>,
    ) -> Rating {
        Rating {
            ledger,
            plugins,
            defaults: Arc::new(defaults),
            chains: Arc::new(Mutex::new(ChainCache::default())),
        }
    }

    /// Sorted by name.
    pub async fn modules(&self) -> Result<Vec<ModuleView>, RatingError> {
        let set = self.plugins.modules();
        let states = self.states(&set).await?;
        Ok(set.modules.iter().map(|module| view(&**module, &states)).collect())
    }

    pub async fn module(&self, name: &str) -> Result<ModuleView, RatingError> {
        let set = self.plugins.modules();
        let states = self.states(&set).await?;
        Ok(view(&**find(&set, name)?, &states))
    }

    /// `None` leaves as it is. A module that is always on keeps its state, whatever is asked. One
    /// that is not there can still be disabled. A state that cannot be read is whole again when all
    /// of it is said.
    pub async fn set_module(
        &self,
        name: &str,
        enabled: Option<bool>,
        priority: Option<i64>,
    ) -> Result<(), RatingError> {
        let set = self.plugins.modules();
        let old = match (find(&set, name), enabled) {
            (Ok(module), _) if module.is_always_on() => return Ok(()),
            (Ok(_), _) => self.states(&set).await.map(|states| states[name]),
            (Err(error), Some(false)) => {
                let missing = self.missing(&set)?.remove(name);
                Ok(missing.ok_or(error)?)
            }
            (Err(error), _) => return Err(error),
        };
        let new = match (enabled, priority, &old) {
            (Some(enabled), Some(priority), _) => ModuleState { enabled, priority },
            (_, _, Ok(old)) => ModuleState {
                enabled: enabled.unwrap_or(old.enabled),
                priority: priority.unwrap_or(old.priority),
            },
            (_, _, Err(_)) => return old.map(drop),
        };
        if old.is_ok_and(|old| old == new) {
            return Ok(());
        }
        let name = name.to_owned();
        self.off_thread(move |ledger| ledger.set_module_state(&name, new)).await
    }

    /// The enabled modules with the rules in force at `at`, highest priority first, as everything
    /// stands now.
    ///
    /// Made once for each instant and state of the world, then taken from memory.
    pub async fn chain(&self, at: DateTime<Utc>) -> Result<Arc<Chain>, RatingError> {
        let set = self.plugins.modules();
        let key = self.key(&set).await?;
        if let Some(chain) = self.cache().get(at, &key) {
            return Ok(chain);
        }
        let chain = Arc::new(Chain::prepare(at, &key, &set).await?);
        self.cache().put(at, key, Arc::clone(&chain));
        Ok(chain)
    }

    /// For an instant that nobody will ask about again.
    pub(super) async fn chain_once(&self, at: DateTime<Utc>) -> Result<Chain, RatingError> {
        let set = self.plugins.modules();
        let key = self.key(&set).await?;
        Chain::prepare(at, &key, &set).await
    }

    /// What chains made now are made of; another key = other prices may come out.
    pub async fn key_now(&self) -> Result<ChainKey, RatingError> {
        self.key(&self.plugins.modules()).await
    }

    async fn key(&self, set: &ModuleSet) -> Result<ChainKey, RatingError> {
        self.ledger.check_rules()?;
        let states = self.states(set).await?;
        if let Some(name) = self.missing(set)?.into_keys().next() {
            return Err(RatingError::NotThere(name));
        }
        let mut enabled: Vec<(i64, String)> = states
            .into_iter()
            .filter(|(_, state)| state.enabled)
            .map(|(name, state)| (state.priority, name))
            .collect();
        enabled.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let generation = set.generation;
        self.off_thread(move |ledger| {
            let mut modules = Vec::with_capacity(enabled.len());
            for (_, name) in enabled {
                let revision = ledger.kv_revision(&format!("rating/{name}"))?;
                modules.push((name, revision));
            }
            Ok(ChainKey { generation, modules })
        })
        .await
    }

    /// The states of the modules there are; those seen for the first time get theirs from the
    /// configuration, for good.
    async fn states(&self, set: &ModuleSet) -> Result<BTreeMap<String, ModuleState>, RatingError> {
        let stored = self.ledger.module_states()?;
        let (mut states, mut new) = (BTreeMap::new(), Vec::new());
        for module in &set.modules {
            let name = module.name().to_owned();
            let state = if module.is_always_on() {
                ModuleState { enabled: true, ..MODULE_STATE_DEFAULT }
            } else if let Some(state) = stored.get(&name) {
                *state
            } else {
                let state = self.defaults.get(&name).copied().unwrap_or(MODULE_STATE_DEFAULT);
                new.push((name.clone(), state));
                state
            };
            states.insert(name, state);
        }
        if !new.is_empty() {
            let set_new = move |ledger: &dyn Ledger| {
                new.iter().try_for_each(|(name, state)| ledger.set_module_state(name, *state))
            };
            self.off_thread(set_new).await?;
        }
        Ok(states)
    }

    /// The enabled modules that are not there: refused at the start, or gone from their folder.
    fn missing(&self, set: &ModuleSet) -> Result<BTreeMap<String, ModuleState>, RatingError> {
        let mut enabled = BTreeMap::clone(&self.defaults);
        enabled.extend(self.ledger.module_states()?);
        enabled.retain(|name, state| state.enabled && find(set, name).is_err());
        Ok(enabled)
    }

    async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, RatingError> {
        let ledger = Arc::clone(&self.ledger);
        tokio::task::spawn_blocking(move || work(&*ledger))
            .await
            .map_err(|_| RatingError::Interrupted)?
            .map_err(RatingError::from)
    }

    /// Lets go of all rules, and with them of the instances that hold them: modules can end.
    pub fn forget(&self) {
        *self.cache() = ChainCache::default();
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, ChainCache> {
        // A panic elsewhere leaves a cache that is still true: entries are only ever added whole.
        self.chains.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Rating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rating").field("plugins", &self.plugins).finish_non_exhaustive()
    }
}

fn find<'a>(set: &'a ModuleSet, name: &str) -> Result<&'a Arc<dyn RatingModule>, RatingError> {
    set.modules
        .iter()
        .find(|module| module.name() == name)
        .ok_or_else(|| RatingError::NoModule(name.to_owned()))
}

fn view(module: &dyn RatingModule, states: &BTreeMap<String, ModuleState>) -> ModuleView {
    let state = states.get(module.name()).copied().unwrap_or(MODULE_STATE_DEFAULT);
    ModuleView {
        name: module.name().to_owned(),
        description: module.summary().to_owned(),
        enabled: state.enabled,
        priority: state.priority,
        hot_config: module.is_hot_config(),
    }
}
