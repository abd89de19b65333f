//! A configured instance: called, made anew after a panic or the death of its process, disabled
//! when it keeps failing.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::{Error, Result, Status};
use tracing::{error, warn};

use super::batches::Trust;
use super::call::{CallState, CancelOnDrop};
use super::direct::Direct;
use super::engine::Engine;
use super::error::CallError;
use super::file;
use super::health::{Blame, Health};
use super::host_api::{Context, Daemon, Services};
use super::instance::{Frame, Instance, Live};
use super::library::{Component, Kind, Library};
use super::pool::{NoThreads, WrittenOff};
use super::process::{Launch, Process, ProcessSettings};
use super::standing::{Found, Standing};
use super::turns::{Closed, Turn, Turns};
use crate::metrics::PluginCall;

/// The place of an instance in a generation: the instance in it may be abandoned and made anew.
pub(super) struct Slot {
    kind: Kind,
    name: String,
    duty: Duty,
    /// `rating/hashmap`, or `replay/hashmap`.
    label: Arc<str>,
    library: Arc<Library>,
    /// Index into the library's components.
    component: usize,
    required: bool,
    /// In a process of its own, if so.
    process: Option<ProcessSettings>,
    config_json: Vec<u8>,
    config_sha256: String,
    services: Arc<Services>,
    /// What instances in this process are lent: nothing of it is an instance's own, and it is never
    /// freed.
    context: OnceLock<&'static Context>,
    /// Calls on the instance at a time: one if it is serial, else never all threads.
    turns: Turns,
    /// The same for raters, which are never serial.
    rater_turns: Turns,
    standing: Arc<Standing>,
    health: Mutex<Health>,
}

/// What an instance is for. Instances of different duties have nothing in common but their library,
/// their configuration and their keys: what becomes of one is nothing to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Duty {
    /// Collects, finds, rates, serves its API.
    Work,
    /// Rates again what was rated, and says why. Made when it is needed, ended when it is not; may
    /// read keys and change none.
    Replay,
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
    pub(super) calls_max: u32,
    pub(super) duty: Duty,
}

/// No instance, and why.
struct NotMade {
    error: Error,
    /// The plugin panicked of it, or its process died.
    is_failure: bool,
}

impl From<Error> for NotMade {
    fn from(error: Error) -> NotMade {
        NotMade { is_failure: error.status == Status::Panic, error }
    }
}

/// Instead of `rating`, in metrics and in the log.
const REPLAY_LABEL: &str = "replay";

/// Which instance a call is made on.
pub(super) enum On {
    /// The one in the slot; made if there is none.
    Current,
    /// That of a rater.
    This(Arc<Instance>),
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Slot").field(&self.label).finish()
    }
}

/// Of JSON, sorted by key.
fn sha256_of(json: &[u8]) -> String {
    let sorted = serde_json::from_slice(json).map(|mut value: serde_json::Value| {
        value.sort_all_objects();
        value.to_string()
    });
    file::hex_sha256(sorted.as_ref().map_or(json, String::as_bytes))
}

impl Slot {
    pub(super) fn new(
        name: &str,
        place: &Place<'_>,
        config_json: Vec<u8>,
        services: &Arc<Services>,
    ) -> Slot {
        let Place { library, component, required, calls_max, duty, .. } = *place;
        let info = &library.components[component].info;
        let turns = if info.is_serial { 1 } else { calls_max };
        let area = match duty {
            Duty::Work => info.kind.label(),
            Duty::Replay => REPLAY_LABEL,
        };
        Slot {
            kind: info.kind,
            name: name.to_owned(),
            duty,
            label: format!("{area}/{name}").into(),
            library: library.clone(),
            component,
            required,
            process: place.process.clone(),
            config_sha256: sha256_of(&config_json),
            config_json,
            services: services.clone(),
            context: OnceLock::new(),
            turns: Turns::new(turns),
            rater_turns: Turns::new(calls_max),
            standing: Arc::default(),
            health: Mutex::default(),
        }
    }

    /// Hex. The order of keys does not matter.
    pub(super) fn config_sha256(&self) -> &str {
        &self.config_sha256
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
        let turn = self.turn(what).await?;
        self.call_in(turn, what, on, work).await
    }

    /// Calls the current instance for what may be done twice: a call that was lost with the
    /// instance's process, and perhaps not to blame for it, is made once more, alone.
    pub(super) async fn call_twice<T: Send + 'static>(
        self: &Arc<Self>,
        what: PluginCall,
        work: impl FnOnce(&Live<'_>, &Frame<'_>) -> Result<T> + Clone + Send + 'static,
    ) -> Result<T, CallError> {
        match self.call(what, On::Current, work.clone()).await {
            Err(failure) if failure.is_shared => {
                let turn = self.turn_alone(what).await?;
                self.call_in(turn, what, On::Current, work).await
            }
            outcome => outcome,
        }
    }

    /// Waits.
    pub(super) async fn turn(&self, what: PluginCall) -> Result<Turn, CallError> {
        self.turns(what).next().await.map_err(|Closed| self.failed(self.stopped()))
    }

    /// Waits until no other call of that sort is under way; none begins before this one has ended.
    pub(super) async fn turn_alone(&self, what: PluginCall) -> Result<Turn, CallError> {
        self.turns(what).all().await.map_err(|Closed| self.failed(self.stopped()))
    }

    fn turns(&self, what: PluginCall) -> &Turns {
        match what {
            PluginCall::Rate | PluginCall::Explain => &self.rater_turns,
            _ => &self.turns,
        }
    }

    /// The same for who has a turn.
    pub(super) async fn call_in<T: Send + 'static>(
        self: &Arc<Self>,
        turn: Turn,
        what: PluginCall,
        on: On,
        work: impl FnOnce(&Live<'_>, &Frame<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T, CallError> {
        let seat = self.services.pool.seat().await.map_err(|NoThreads| {
            self.failed(Error::unavailable("no thread is left for plugins; restart the daemon"))
        })?;
        let call = Arc::new(CallState::new());
        let guard = CancelOnDrop(call.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let slot = self.clone();
        self.services.pool.submit(
            Some(seat),
            call.clone(),
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
        outcome.map_err(|error| CallError { is_shared: call.is_shared(), ..self.failed(error) })
    }

    /// On a thread of the pool: the instance, then the call, then what follows from its outcome.
    fn run<T>(
        self: &Arc<Self>,
        what: PluginCall,
        on: On,
        call: &Arc<CallState>,
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
            _ if self.disabled().is_some() => Err(self.stopped().into()),
            On::Current => self.instance(&frame),
            On::This(instance) => Ok(instance),
        };
        let outcome = match &instance {
            Ok(instance) => work(&Live { instance }, &frame),
            Err(not_made) => Err(not_made.error.clone()),
        };
        let outcome = outcome.map_err(|error| self.understood(call, error));
        let reason = || outcome.as_ref().err().map_or("", |error| error.message.as_str());
        let status = outcome.as_ref().map_or_else(|error| error.status, |_| Status::Ok);
        match &instance {
            Ok(instance) if instance.is_dead() => self.mourn(instance),
            Ok(instance) if status == Status::Panic => self.panicked(Some(instance), reason()),
            Err(not_made) if not_made.is_failure => self.panicked(None, reason()),
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
    fn instance(self: &Arc<Self>, frame: &Frame<'_>) -> Result<Arc<Instance>, NotMade> {
        let pool = &self.services.pool;
        let patience = || frame.state.time_left().unwrap_or(pool.deadline());
        loop {
            let making = match self.standing.find(frame, patience()) {
                // It died while nobody called it.
                Found::Instance(instance) if instance.is_dead() => {
                    self.mourn(&instance);
                    continue;
                }
                Found::Instance(instance) => return Ok(instance),
                Found::Late => {
                    return Err(Error::unavailable("is still being made by another call").into());
                }
                Found::Closed => return Err(self.stopped().into()),
                Found::Nobody(making) => making,
            };
            let wait = lock(&self.health).wait(self.services.lent.clock.now());
            if let Some(wait) = wait.filter(|_| self.process.is_some() || self.is_replay()) {
                let what = if self.process.is_some() {
                    "its process died and is started again"
                } else {
                    "it panicked and is made again"
                };
                let text = format!("{what} in {wait:.0?}");
                return Err(Error::unavailable(text).into());
            }
            let made = Instance::new(self.make(frame)?, &self.services, &self.library);
            if !making.done(&made) {
                return Err(self.stopped().into());
            }
            if self.is_replay() {
                self.end_when_idle();
            }
            return Ok(made);
        }
    }

    fn is_replay(&self) -> bool {
        self.duty == Duty::Replay
    }

    /// An instance that is seldom needed is not kept.
    fn end_when_idle(self: &Arc<Self>) {
        let (slot, idle) = (Arc::downgrade(self), self.services.replay_idle);
        self.services.lent.runtime.spawn(async move {
            loop {
                tokio::time::sleep(idle).await;
                let Some(slot) = slot.upgrade() else { return };
                if slot.standing.end_if_unused() {
                    return;
                }
            }
        });
    }

    fn make(&self, frame: &Frame<'_>) -> Result<Engine, NotMade> {
        match &self.process {
            None => Ok(Engine::Thread(self.make_here()?)),
            Some(settings) => self.make_apart(settings, frame).map(Engine::Process),
        }
    }

    fn make_here(&self) -> Result<Direct> {
        let context = *self.context.get_or_init(|| Context::new(self.lender()));
        let vtable = self.component().vtable;
        let vtable = vtable.ok_or_else(|| Error::internal("its library is not in the daemon"))?;
        Direct::create(vtable, self.trust(), context, &self.config_json)
    }

    fn make_apart(
        &self,
        settings: &ProcessSettings,
        frame: &Frame<'_>,
    ) -> Result<Process, NotMade> {
        if lock(&self.health).is_restart() {
            self.services.lent.metrics.plugin_process_restarted(&self.label);
        }
        let info = &self.component().info;
        let launch = Launch {
            settings,
            label: &self.label,
            lender: self.lender(),
            library: self.library.copy.as_deref(),
            trusted: self.library.info.trusted,
            services: &self.services,
        };
        let process = Process::start(launch)?;
        match process.create(frame, info.kind, &info.name, &self.config_json) {
            Ok(()) => Ok(process),
            // One that was killed because its time was over is among them.
            Err(error) if process.is_dead() => Err(NotMade { error, is_failure: true }),
            Err(error) => Err(error.into()),
        }
    }

    /// What the instance is lent, and in whose name.
    fn lender(&self) -> Daemon {
        let keys = format!("{}/{}", self.kind.label(), self.name).into();
        match self.duty {
            Duty::Work => Daemon::for_instance(keys, &self.services),
            Duty::Replay => Daemon::for_replay(self.label.clone(), keys, &self.services),
        }
    }

    /// After a panic nobody knows in which state the instance is: it is left as it is, and the next
    /// call makes another.
    fn panicked(&self, instance: Option<&Arc<Instance>>, reason: &str) {
        if let Some(instance) = instance {
            instance.abandon();
            self.standing.remove(instance);
        }
        warn!(instance = %self.label, reason, "A plugin panicked, its instance is made anew.");
        self.failed_again("panicked", Blame::Certain, reason);
    }

    /// What a process that died leaves: it counts as a panic does, once.
    fn mourn(&self, instance: &Arc<Instance>) {
        self.standing.remove(instance);
        if instance.mourn() {
            let (reason, blame) = (instance.engine.death(), instance.engine.blame());
            warn!(instance = %self.label, reason, "The process of a plugin died.");
            self.failed_again("lost its process", blame, &reason);
        }
    }

    fn failed_again(&self, what: &str, blame: Blame, reason: &str) {
        let too_often = lock(&self.health).failed(self.services.lent.clock.now(), blame);
        match too_often {
            // Who asks for reasons can make a module fail, and shall not take them from everybody
            // else: it is made again when the failures are long enough ago.
            Some(_) if self.is_replay() => {}
            Some((times, minutes)) => {
                self.disable(&format!("{what} {times} times in {minutes} minutes: {reason}"));
            }
            None => {}
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
        // Who waits for a turn, or for the instance, is told at once.
        self.turns.close();
        self.rater_turns.close();
        if let Some(instance) = self.standing.close() {
            instance.abandon();
        }
    }

    fn stopped(&self) -> Error {
        let reason = self.disabled().unwrap_or_default();
        Error::unavailable(format!("is disabled until plugins are reloaded: {reason}"))
    }

    fn failed(&self, error: Error) -> CallError {
        let stopped = self.disabled().is_some();
        CallError { instance: self.label.clone(), error, stopped, is_shared: false }
    }
}

/// No plugin runs while it is held.
fn lock(mutex: &Mutex<Health>) -> MutexGuard<'_, Health> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_another_one_if_a_value_is_not_if_lines_have_moved() {
        let of = |json: &str| sha256_of(json.as_bytes());
        let before = of(r#"{"fee": "0.25", "limits": {"a": 1, "b": [2, 3]}}"#);

        assert_eq!(of(r#"{"limits": {"b": [2, 3], "a": 1}, "fee": "0.25"}"#), before);
        assert_ne!(of(r#"{"fee": "0.30", "limits": {"a": 1, "b": [2, 3]}}"#), before);
        assert_ne!(of(r#"{"fee": "0.25", "limits": {"a": 1, "b": [3, 2]}}"#), before);
    }
}
