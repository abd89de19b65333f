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
use super::instance::{Frame, Instance, Live, On, Slot};
use super::paths::PathMatch;
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
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Module").field(&self.name()).finish()
    }
}

impl Module {
    pub(super) fn new(slot: Arc<Slot>) -> Module {
        Module { slot }
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

    /// Why it takes no calls any more, if so.
    pub fn disabled(&self) -> Option<String> {
        self.slot.disabled()
    }

    /// The rules of an instant, as they were known at a revision of the module's keys.
    pub async fn prepare(&self, as_of: AsOf) -> Result<Rater, CallError> {
        let slot = self.slot.clone();
        self.slot
            .call(PluginCall::Prepare, On::Current, move |live, frame| {
                let rater = live.engine().prepare(frame, as_of)?;
                let rules = Rules { rater, instance: live.instance.clone() };
                Ok(Rater { slot, as_of, rules: Arc::new(Mutex::new(Arc::new(rules))) })
            })
            .await
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
    /// Made again when their process has died.
    rules: Arc<Mutex<Arc<Rules>>>,
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
        let rater = self.clone();
        self.slot
            .call(PluginCall::Rate, self.place(), move |live, frame| {
                let rules = rater.on(live, frame)?;
                let rows = usage.num_rows();
                let prices = live.engine().rate(rules.rater, frame, &request, usage)?;
                validate::prices(&prices, rows)
            })
            .await
    }

    /// How the prices of some rows come about; `None` = the module gives no reasons. One list of
    /// steps for each row; whether they hold is not checked.
    pub async fn explain(
        &self,
        request: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> Result<Option<Explanation>, CallError> {
        let rater = self.clone();
        self.slot
            .call(PluginCall::Explain, self.place(), move |live, frame| {
                let rules = rater.on(live, frame)?;
                let wanted = rows.len();
                match live.engine().explain(rules.rater, frame, &request, (usage, rows)) {
                    Err(error) if error.status == Status::Unsupported => Ok(None),
                    Err(error) => Err(error),
                    Ok(json) => json.map(|json| explanation(&json, wanted)).transpose(),
                }
            })
            .await
    }

    fn rules(&self) -> Arc<Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a call on it is made.
    fn place(&self) -> On {
        let rules = self.rules();
        if self.is_lost(&rules) { On::Current } else { On::This(rules.instance.clone()) }
    }

    /// Have the rules died with their process, and can they be made again as they were? Those of a
    /// revision can; "as they are now" may be others by now.
    fn is_lost(&self, rules: &Rules) -> bool {
        rules.instance.is_dead()
            && self.as_of.revision != Host::NOW
            && !self.slot.component().info.is_serial
    }

    /// The rules on that instance.
    fn on(&self, live: &Live<'_>, frame: &Frame<'_>) -> Result<Arc<Rules>> {
        let rules = self.rules();
        if Arc::ptr_eq(&rules.instance, live.instance) {
            return Ok(rules);
        }
        let rater = live.engine().prepare(frame, self.as_of)?;
        let rules = Arc::new(Rules { rater, instance: live.instance.clone() });
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules.clone();
        Ok(rules)
    }
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
