//! A running rating module and the raters it prepares.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use rated_plugin::{
    AsOf, Error, Explanation, Host, Method, RateRequest, Request, Response, Result, Status,
};

use super::call::on_behalf_of;
use super::engine::RaterRef;
use super::error::CallError;
use super::instance::{Frame, Instance, Live};
use super::paths::PathMatch;
use super::slot::{On, Slot};
use super::turns::Turn;
use super::validate;
use crate::metrics::PluginCall;

/// Largest answer of a module to a REST call, bytes.
pub const RESPONSE_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Largest answer of a module that explains prices, bytes.
pub(super) const EXPLANATION_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Longest content type and location, bytes.
pub(super) const HEADER_SIZE_MAX: usize = 1024;

/// A running rating module. Cheap to clone.
#[derive(Clone)]
pub struct Module {
    slot: Arc<Slot>,
    /// For who rates again what was rated.
    replay: Arc<Slot>,
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.name()).finish()
    }
}

impl Module {
    pub(super) fn new(slot: Arc<Slot>, replay: Arc<Slot>) -> Module {
        Module { slot, replay }
    }

    /// The same module for who rates again what was rated, or asks why: on an instance of its own,
    /// made when it is needed. Whatever becomes of that, the one that rates does not notice.
    #[must_use]
    pub fn for_replay(&self) -> Module {
        Module { slot: self.replay.clone(), replay: self.replay.clone() }
    }

    pub(super) fn is_replay_disabled(&self) -> bool {
        self.replay.disabled().is_some()
    }

    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// One sentence; the API's `description`.
    pub fn summary(&self) -> &str {
        &self.slot.component().info.summary
    }

    /// Its rules can be changed while it runs.
    pub fn is_hot_config(&self) -> bool {
        self.slot.component().info.is_hot_config
    }

    /// The API can neither disable it nor change its priority.
    pub fn is_always_on(&self) -> bool {
        self.slot.component().info.is_always_on
    }

    /// Does it answer any REST call?
    pub fn serves_api(&self) -> bool {
        !self.slot.component().api_paths.is_empty()
    }

    /// `OpenAPI` paths, JSON; empty = serves nothing.
    pub fn api_schema(&self) -> &str {
        &self.slot.component().info.api_schema
    }

    /// Whether it serves a method and path below its name.
    pub fn allows(&self, method: Method, path: &str) -> PathMatch {
        self.slot.component().api_paths.find(method, path)
    }

    pub fn library_sha256(&self) -> &str {
        &self.slot.library().info.sha256
    }

    pub fn config_sha256(&self) -> &str {
        self.slot.config_sha256()
    }

    /// Why it takes no calls any more, if so.
    pub fn disabled(&self) -> Option<String> {
        self.slot.disabled()
    }

    /// The rules of an instant, as they were known at a revision of the module's keys.
    pub async fn prepare(&self, as_of: AsOf) -> Result<Rater, CallError> {
        let (slot, rules) = (self.slot.clone(), prepare(&self.slot, as_of).await?);
        Ok(Rater { slot, as_of, current: Arc::new(Current::new(rules)) })
    }

    /// A REST call; keys changed by it are changed by `request.principal`.
    pub async fn handle(&self, request: Request) -> Result<Response, CallError> {
        self.slot
            .call(PluginCall::Handle, On::Current, move |live, frame| {
                let author = request.principal.user_id.clone();
                on_behalf_of(&author, || live.engine().handle(frame, &request))
            })
            .await
    }
}

/// The rules of one instant: immutable, used by any number of slices at once. Cheap to clone.
///
/// Keeps its instance, and with that its generation's code, alive.
#[derive(Clone)]
pub struct Rater {
    slot: Arc<Slot>,
    as_of: AsOf,
    current: Arc<Current>,
}

/// The rules as they are used now: made again when their instance is lost.
struct Current {
    rules: Mutex<Arc<Rules>>,
    /// Held by the one that makes them again.
    making: tokio::sync::Mutex<()>,
}

impl Current {
    fn new(rules: Arc<Rules>) -> Current {
        Current { rules: Mutex::new(rules), making: tokio::sync::Mutex::default() }
    }

    fn get(&self) -> Arc<Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Rules {
    rater: RaterRef,
    /// Raters end before their instance.
    instance: Arc<Instance>,
}

impl fmt::Debug for Rater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rater").field(&self.slot.name()).finish()
    }
}

impl Rater {
    /// The module's name.
    pub fn name(&self) -> &str {
        self.slot.name()
    }

    /// Prices for the rows of `usage`, in their order: the column `price` (`price/1`), no nulls.
    pub async fn rate(
        &self,
        request: RateRequest,
        usage: RecordBatch,
    ) -> Result<RecordBatch, CallError> {
        let work = move |rules: Arc<Rules>, request: RateRequest, usage: RecordBatch| {
            move |live: &Live<'_>, frame: &Frame<'_>| {
                let rows = usage.num_rows();
                let prices = live.engine().rate(rules.rater, frame, &request, usage)?;
                validate::prices(&prices, rows)
            }
        };
        self.call_twice(PluginCall::Rate, |rules| work(rules, request.clone(), usage.clone())).await
    }

    /// How the prices of some rows come about; `None` = the module gives no reasons. One list of
    /// steps for each row; whether they hold is not checked.
    pub async fn explain(
        &self,
        request: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> Result<Option<Explanation>, CallError> {
        let work = move |rules: Arc<Rules>, request: RateRequest, usage: RecordBatch| {
            let (rows, wanted) = (rows.clone(), rows.len());
            move |live: &Live<'_>, frame: &Frame<'_>| match live.engine().explain(
                rules.rater,
                frame,
                &request,
                (usage, rows),
            ) {
                Err(error) if error.status == Status::Unsupported => Ok(None),
                Err(error) => Err(error),
                Ok(json) => json.map(|json| explanation(&json, wanted)).transpose(),
            }
        };
        let again = |rules| work(rules, request.clone(), usage.clone());
        self.call_twice(PluginCall::Explain, again).await
    }

    /// Rules never change, so what was lost with a process, and perhaps not to blame for it, is
    /// done once more, alone.
    async fn call_twice<T, W>(
        &self,
        what: PluginCall,
        work: impl Fn(Arc<Rules>) -> W,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        W: FnOnce(&Live<'_>, &Frame<'_>) -> Result<T> + Send + 'static,
    {
        let turn = self.slot.turn(what).await?;
        match self.call_in(turn, what, &work).await {
            Err(failure) if failure.is_shared => {
                let turn = self.slot.turn_alone(what).await?;
                self.call_in(turn, what, &work).await
            }
            outcome => outcome,
        }
    }

    async fn call_in<T, W>(
        &self,
        turn: Turn,
        what: PluginCall,
        work: &impl Fn(Arc<Rules>) -> W,
    ) -> Result<T, CallError>
    where
        T: Send + 'static,
        W: FnOnce(&Live<'_>, &Frame<'_>) -> Result<T> + Send + 'static,
    {
        let rules = self.rules().await?;
        let instance = rules.instance.clone();
        self.slot.call_in(turn, what, On::This(instance), work(rules)).await
    }

    /// The rules; made again, once for everybody, if they were lost and can be as they were. Those
    /// of a revision can; "as they are now" may be others by now.
    async fn rules(&self) -> Result<Arc<Rules>, CallError> {
        let is_lost = |rules: &Rules| rules.instance.is_lost() && self.as_of.revision != Host::NOW;
        let rules = self.current.get();
        if !is_lost(&rules) {
            return Ok(rules);
        }
        let _making = self.current.making.lock().await;
        let rules = self.current.get();
        if !is_lost(&rules) {
            return Ok(rules);
        }
        let made = prepare(&self.slot, self.as_of).await?;
        *self.current.rules.lock().unwrap_or_else(PoisonError::into_inner) = made.clone();
        Ok(made)
    }
}

async fn prepare(slot: &Arc<Slot>, as_of: AsOf) -> Result<Arc<Rules>, CallError> {
    let prepare = move |live: &Live<'_>, frame: &Frame<'_>| {
        let rater = live.engine().prepare(frame, as_of)?;
        Ok(Arc::new(Rules { rater, instance: live.instance.clone() }))
    };
    slot.call_twice(PluginCall::Prepare, prepare).await
}

fn explanation(json: &[u8], wanted: usize) -> Result<Explanation> {
    let explanation: Explanation = serde_json::from_slice(json)
        .map_err(|error| Error::internal(format!("the reasons are not understood: {error}")))?;
    let found = explanation.rows.len();
    if found != wanted {
        let text = format!("expected the reasons of {wanted} rows, got {found}");
        return Err(Error::internal(text));
    }
    Ok(explanation)
}

impl Drop for Rules {
    fn drop(&mut self) {
        self.instance.clone().release_later(self.rater);
    }
}
