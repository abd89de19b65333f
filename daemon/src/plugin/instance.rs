//! A configured instance: made, called, abandoned after a panic or the death of its process,
//! disabled when it keeps failing.

use std::ffi::c_void;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::raw::RawCall;
use rated_plugin::{Error, Result, Status};
use tokio::sync::Semaphore;
use tracing::{error, warn};

use super::batches::Trust;
use super::call::{CallState, CancelOnDrop};
use super::direct::Direct;
use super::engine::{Engine, RaterRef};
use super::error::CallError;
use super::health::Health;
use super::host_api::{Context, Services};
use super::library::{Component, Kind, Library};
use super::pool::{NoThreads, WrittenOff};
use super::process::{Launch, Process, ProcessSettings};
use crate::metrics::PluginCall;

/// The place of an instance in a generation: the instance in it may be abandoned and made anew.
pub(super) struct Slot {
    kind: Kind,
    name: String,
    /// `rating/hashmap`.
    label: Arc<str>,
    library: Arc<Library>,
    /// Index into the library's components.
    component: usize,
    required: bool,
    /// In a process of its own, if so.
    process: Option<ProcessSettings>,
    config_json: Vec<u8>,
    services: Arc<Services>,
    /// Calls on the instance at a time: one if it is serial, else never all threads.
    turns: Arc<Semaphore>,
    /// The same for raters, which are never serial.
    rater_turns: Arc<Semaphore>,
    instance: Mutex<Option<Arc<Instance>>>,
    health: Mutex<Health>,
}

/// What an instance is made from.
pub(super) struct Place<'a> {
    pub(super) library: &'a Arc<Library>,
    pub(super) component: usize,
    /// The daemon must not run without it.
    pub(super) required: bool,
    /// For a process of its own.
    pub(super) process: Option<ProcessSettings>,
    /// Most calls at a time.
    pub(super) calls_max: usize,
}

/// What a plugin made from a configuration. The last reference ends it, unless it was abandoned.
pub(super) struct Instance {
    pub(super) engine: Arc<Engine>,
    abandoned: AtomicBool,
    /// The death of its process was counted.
    mourned: AtomicBool,
    services: Arc<Services>,
    /// Instances end before what they were loaded from.
    _library: Arc<Library>,
}

/// A plugin's own pointer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle(pub(super) *mut c_void);

// SAFETY: the interface says that instances and raters may be used from any thread; serial ones are
// guarded by a semaphore with one permit.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

/// Which instance a call is made on.
pub(super) enum On {
    /// The one in the slot; made if there is none.
    Current,
    /// That of a rater.
    This(Arc<Instance>),
}

/// What a call gets on its thread.
pub(super) struct Frame<'a> {
    pub(super) raw: &'a RawCall,
    pub(super) state: &'a CallState,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.label).finish()
    }
}

impl Slot {
    pub(super) fn new(
        name: &str,
        place: &Place<'_>,
        config_json: Vec<u8>,
        services: &Arc<Services>,
    ) -> Slot {
        let Place { library, component, required, calls_max, .. } = *place;
        let info = &library.components[component].info;
        let turns = if info.is_serial { 1 } else { calls_max };
        Slot {
            kind: info.kind,
            name: name.to_owned(),
            label: format!("{}/{name}", info.kind.label()).into(),
            library: library.clone(),
            component,
            required,
            process: place.process.clone(),
            config_json,
            services: services.clone(),
            turns: Arc::new(Semaphore::new(turns)),
            rater_turns: Arc::new(Semaphore::new(calls_max)),
            instance: Mutex::new(None),
            health: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_required(&self) -> bool {
        self.required
    }

    pub(super) fn component(&self) -> &Component {
        &self.library.components[self.component]
    }

    pub(super) fn library(&self) -> &Library {
        &self.library
    }

    pub(super) fn trust(&self) -> Trust {
        if self.library.info.trusted { Trust::Values } else { Trust::None }
    }

    /// Why it takes no calls any more.
    pub(super) fn disabled(&self) -> Option<String> {
        lock(&self.health).disabled()
    }

    /// Makes the instance, on a thread of the pool; waits.
    pub(super) fn create(self: &Arc<Self>) -> Result<(), CallError> {
        self.call_blocking(PluginCall::Create, |_, _| Ok(()))
    }

    /// Does the outside world answer? Waits.
    pub(super) fn check(self: &Arc<Self>) -> Result<(), CallError> {
        self.call_blocking(PluginCall::Check, |live, frame| live.engine().check(frame))
    }

    fn call_blocking(
        self: &Arc<Self>,
        what: PluginCall,
        work: impl FnOnce(&Live<'_>, &Frame<'_>) -> Result<()> + Send + 'static,
    ) -> Result<(), CallError> {
        let slot = self.clone();
        let outcome =
            self.services.pool.run_blocking(move |call| slot.run(what, On::Current, call, work));
        outcome.unwrap_or_else(|WrittenOff| Err(self.written_off(what))).map_err(|e| self.failed(e))
    }

    /// Calls the instance on a thread of the pool. A caller that goes away cancels the call.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        what: PluginCall,
        on: On,
        work: impl FnOnce(&Live<'_>, &Frame<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, CallError> {
        let turns = match what {
            PluginCall::Rate | PluginCall::Explain => &self.rater_turns,
            _ => &self.turns,
        };
        let Ok(turn) = turns.clone().acquire_owned().await else {
            return Err(self.failed(self.stopped()));
        };
        let seat = self.services.pool.seat().await.map_err(|NoThreads| {
            self.failed(Error::unavailable("no thread is left for plugins; restart the daemon"))
        })?;
        let call = Arc::new(CallState::new());
        let guard = CancelOnDrop(call.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let slot = self.clone();
        self.services.pool.submit(
            Some(seat),
            call,
            move |call| {
                // Until the call ends, not until its caller goes away.
                let _turn = turn;
                slot.run(what, on, call, work)
            },
            move |outcome| {
                // The caller may have gone away.
                let _ = sender.send(outcome);
            },
        );
        let outcome = match receiver.await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(WrittenOff)) => Err(self.written_off(what)),
            Err(_) => Err(Error::internal("the call was abandoned; the log says why")),
        };
        drop(guard);
        outcome.map_err(|error| self.failed(error))
    }

    /// On a thread of the pool: the instance, then the call, then what follows from its outcome.
    fn run<T>(
        self: &Arc<Self>,
        what: PluginCall,
        on: On,
        call: &CallState,
        work: impl FnOnce(&Live<'_>, &Frame<'_>) -> Result<T>,
    ) -> Result<T> {
        let begin = Instant::now();
        let deadline = TimeDelta::from_std(self.services.pool.deadline())
            .ok()
            .and_then(|time| self.services.lent.clock.now().checked_add_signed(time))
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        let raw = call.raw(deadline);
        let frame = Frame { raw: &raw, state: call };
        let instance = match on {
            _ if self.disabled().is_some() => Err(self.stopped()),
            On::Current => self.instance(&frame),
            On::This(instance) => Ok(instance),
        };
        let outcome = instance
            .as_ref()
            .map_err(Clone::clone)
            .and_then(|instance| work(&Live { instance }, &frame));
        let outcome = outcome.map_err(|error| self.understood(call, error));
        let status = outcome.as_ref().map_or_else(|error| error.status, |_| Status::Ok);
        match &instance {
            Ok(instance) if instance.is_dead() => self.mourn(instance),
            Ok(instance) if status == Status::Panic => {
                self.panicked(what, Some(instance), outcome.as_ref().err());
            }
            // A process that does not start in time was killed.
            Err(_) if status == Status::Panic || (status == Status::Timeout && self.is_apart()) => {
                self.panicked(what, None, outcome.as_ref().err());
            }
            _ => {}
        }
        if !call.is_written_off() {
            let metrics = &self.services.lent.metrics;
            metrics.plugin_call_ended(&self.label, what, status, begin.elapsed());
        }
        outcome
    }

    /// A call that was cancelled because its time was over ran out of time; nobody asked it to be
    /// quiet.
    fn understood(&self, call: &CallState, error: Error) -> Error {
        if error.status != Status::Cancelled || !call.is_overdue() {
            return error;
        }
        let deadline = self.services.pool.deadline();
        Error::new(Status::Timeout, format!("did not end within {deadline:?}"))
    }

    /// The instance; made if there is none.
    fn instance(self: &Arc<Self>, frame: &Frame<'_>) -> Result<Arc<Instance>> {
        let mut current = lock(&self.instance);
        if let Some(instance) = current.clone().filter(|instance| instance.is_dead()) {
            // It died while nobody called it.
            *current = None;
            self.mourn_removed(&instance);
            if self.disabled().is_some() {
                return Err(self.stopped());
            }
        }
        if let Some(instance) = current.as_ref() {
            return Ok(instance.clone());
        }
        let wait = lock(&self.health).wait(self.services.lent.clock.now());
        if let Some(wait) = wait.filter(|_| self.is_apart()) {
            let text = format!("its process died and is started again in {wait:.0?}");
            return Err(Error::unavailable(text));
        }
        let made = Arc::new(self.make(frame)?);
        *current = Some(made.clone());
        Ok(made)
    }

    fn make(&self, frame: &Frame<'_>) -> Result<Instance> {
        let engine = match &self.process {
            None => Engine::Thread(self.make_here()?),
            Some(settings) => Engine::Process(self.make_apart(settings, frame)?),
        };
        Ok(Instance {
            engine: Arc::new(engine),
            abandoned: AtomicBool::new(false),
            mourned: AtomicBool::new(false),
            services: self.services.clone(),
            _library: self.library.clone(),
        })
    }

    fn make_here(&self) -> Result<Direct> {
        let context = Context::for_instance(self.label.clone(), &self.services);
        let vtable = self.component().vtable;
        let vtable = vtable.ok_or_else(|| Error::internal("its library is not in the daemon"))?;
        Direct::create(vtable, self.trust(), context, &self.config_json)
    }

    fn make_apart(&self, settings: &ProcessSettings, frame: &Frame<'_>) -> Result<Process> {
        if lock(&self.health).is_restart() {
            self.services.lent.metrics.plugin_process_restarted(&self.label);
        }
        let info = &self.component().info;
        let launch = Launch {
            settings,
            label: &self.label,
            library: self.library.copy.as_deref(),
            trusted: self.library.info.trusted,
            services: &self.services,
        };
        let process = Process::start(&launch)?;
        process.create(frame, info.kind, &info.name, &self.config_json)?;
        Ok(process)
    }

    /// Does it run in a process of its own?
    pub(super) fn is_apart(&self) -> bool {
        self.process.is_some()
    }

    /// After a panic nobody knows in which state the instance is: it is left as it is, and the next
    /// call makes another.
    fn panicked(&self, what: PluginCall, instance: Option<&Arc<Instance>>, error: Option<&Error>) {
        if let Some(instance) = instance {
            instance.abandon();
            self.remove(instance);
        }
        let reason = error.map(|error| error.message.as_str()).unwrap_or_default();
        warn!(instance = %self.label, reason, "A plugin panicked, its instance is made anew.");
        // Whoever asks why a price is what it is must not be able to stop the rating.
        if what != PluginCall::Explain {
            self.failed_again("panicked", reason);
        }
    }

    /// What a process that died leaves: it counts as a panic does, once.
    fn mourn(&self, instance: &Arc<Instance>) {
        self.remove(instance);
        self.mourn_removed(instance);
    }

    fn mourn_removed(&self, instance: &Arc<Instance>) {
        if !instance.mourned.swap(true, Ordering::Relaxed) && !instance.is_abandoned() {
            let reason = instance.engine.death();
            warn!(instance = %self.label, reason, "The process of a plugin died.");
            self.failed_again("lost its process", &reason);
        }
    }

    fn remove(&self, instance: &Arc<Instance>) {
        let mut current = lock(&self.instance);
        if current.as_ref().is_some_and(|current| Arc::ptr_eq(current, instance)) {
            *current = None;
        }
    }

    fn failed_again(&self, what: &str, reason: &str) {
        let too_often = lock(&self.health).failed(self.services.lent.clock.now());
        if let Some((times, minutes)) = too_often {
            self.disable(&format!("{what} {times} times in {minutes} minutes: {reason}"));
        }
    }

    fn written_off(&self, what: PluginCall) -> Error {
        let pool = &self.services.pool;
        let (deadline, grace) = (pool.deadline(), pool.grace());
        let text = format!("{what:?} did not end within {deadline:?} and {grace:?} of grace");
        self.disable(&text);
        let metrics = &self.services.lent.metrics;
        metrics.plugin_call_ended(&self.label, what, Status::Timeout, deadline + grace);
        Error::new(Status::Timeout, text)
    }

    /// Takes no calls any more, until the plugins are loaded again.
    fn disable(&self, reason: &str) {
        if !lock(&self.health).disable(reason) {
            return;
        }
        error!(instance = %self.label, reason, "A plugin is disabled until plugins are reloaded.");
        // Who waits for a turn is told at once.
        self.turns.close();
        self.rater_turns.close();
    }

    fn stopped(&self) -> Error {
        let reason = self.disabled().unwrap_or_default();
        Error::unavailable(format!("is disabled until plugins are reloaded: {reason}"))
    }

    fn failed(&self, error: Error) -> CallError {
        let stopped = self.disabled().is_some();
        CallError { instance: self.label.clone(), error, stopped }
    }
}

/// An instance that a call is made on.
pub(super) struct Live<'a> {
    pub(super) instance: &'a Arc<Instance>,
}

impl Live<'_> {
    pub(super) fn engine(&self) -> &Engine {
        &self.instance.engine
    }
}

impl Instance {
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Has its process died?
    pub(super) fn is_dead(&self) -> bool {
        self.engine.is_dead()
    }

    fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Ends a rater, later, on a thread of the pool: a plugin's destructor may take its time.
    pub(super) fn release_later(self: Arc<Self>, rater: RaterRef) {
        if self.is_abandoned() {
            return;
        }
        // The instance's last reference may go with this one, so it is kept until the rater has
        // ended.
        let services = self.services.clone();
        let end = move |_: &CallState| self.engine.release_rater(rater);
        services.pool.submit(None, Arc::new(CallState::new()), end, |_| {});
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_abandoned() {
            self.engine.abandon();
            return;
        }
        let (engine, grace) = (self.engine.clone(), self.services.pool.grace());
        let end = move |_: &CallState| engine.end(grace);
        self.services.pool.submit(None, Arc::new(CallState::new()), end, |_| {});
    }
}

/// What a panic of a plugin leaves is whole: no plugin runs while these are held, but to make an
/// instance.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
