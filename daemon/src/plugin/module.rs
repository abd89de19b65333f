//! A running rating module and the raters it prepares.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;
use rated_plugin::raw::{
    FFI_ArrowArray, FFI_ArrowSchema, RatingVTable, RawRate, RawRequest, RawResponse,
};
use rated_plugin::{
    AsOf, Error, Explanation, Method, RateRequest, Request, Response, Result, Status,
};

use super::call::on_behalf_of;
use super::collector::{COLLECT_ROWS_MAX, nanoseconds};
use super::error::CallError;
use super::ffi::{self, ErrorSlot, lend};
use super::host_api::Services;
use super::instance::{Frame, Handle, Instance, Live, On, Slot};
use super::library::VTable;
use super::paths::PathMatch;
use super::{batches, validate};
use crate::metrics::PluginCall;

/// Largest answer of a module to a REST call, bytes.
pub const RESPONSE_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Largest answer of a module that explains prices, bytes.
const EXPLANATION_SIZE_MAX: usize = 64 * 1024 * 1024;
/// Longest content type and location, bytes.
const HEADER_SIZE_MAX: usize = 1024;

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
                prepare(&slot, live, frame, as_of)
            })
            .await
    }

    /// A REST call; keys changed by it are changed by `request.principal`.
    pub async fn handle(&self, request: Request) -> Result<Response, CallError> {
        let slot = self.slot.clone();
        self.slot
            .call(PluginCall::Handle, On::Current, move |live, frame| {
                let author = request.principal.user_id.clone();
                on_behalf_of(&author, || handle(&slot, live, frame, &request))
            })
            .await
    }
}

fn table(slot: &Slot) -> Result<RatingVTable> {
    match slot.component().vtable {
        VTable::Rating(table) => Ok(table),
        VTable::Collector(_) | VTable::Fetcher(_) => Err(Error::internal("not a rating module")),
    }
}

fn prepare(slot: &Arc<Slot>, live: &Live<'_>, frame: &Frame<'_>, as_of: AsOf) -> Result<Rater> {
    let table = table(slot)?;
    let (mut pointer, mut error) = (std::ptr::null_mut(), ErrorSlot::new());
    let at_ns = nanoseconds(as_of.at)?;
    let handle = live.instance.handle.0.cast_const();
    // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
    let status = unsafe {
        let (out, error) = (&raw mut pointer, error.as_mut_ptr());
        (table.prepare)(handle, frame.raw, at_ns, as_of.revision, out, error)
    };
    error.outcome(status)?;
    let rules = Rules {
        handle: Handle(pointer),
        table,
        instance: live.instance.clone(),
        services: slot.services().clone(),
    };
    Ok(Rater { slot: slot.clone(), rules: Arc::new(rules) })
}

fn handle(slot: &Slot, live: &Live<'_>, frame: &Frame<'_>, request: &Request) -> Result<Response> {
    let table = table(slot)?;
    let principal = serde_json::to_vec(&request.principal)
        .map_err(|error| Error::internal(error.to_string()))?;
    let raw = RawRequest {
        struct_size: size_of::<RawRequest>(),
        method: request.method as u32,
        reserved: 0,
        path: lend(request.path.as_bytes()),
        query: lend(request.query.as_bytes()),
        content_type: lend(request.content_type.as_bytes()),
        body: lend(&request.body),
        principal: lend(&principal),
    };
    let mut response = RawResponse {
        struct_size: size_of::<RawResponse>(),
        status: 0,
        reserved: 0,
        content_type: ffi::empty_buffer(),
        location: ffi::empty_buffer(),
        body: ffi::empty_buffer(),
    };
    let mut error = ErrorSlot::new();
    let instance = live.instance.handle.0.cast_const();
    // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
    let status = unsafe {
        let (request, response) = (&raw const raw, &raw mut response);
        (table.handle)(instance, frame.raw, request, response, error.as_mut_ptr())
    };
    let RawResponse { status: code, content_type, location, body, .. } = response;
    // SAFETY: the three were empty before the call and the plugin filled them as the interface
    // says; each is taken once, whatever the outcome.
    let (content_type, location, body) = unsafe {
        (
            ffi::take(content_type, HEADER_SIZE_MAX),
            ffi::take(location, HEADER_SIZE_MAX),
            ffi::take(body, RESPONSE_SIZE_MAX),
        )
    };
    error.outcome(status)?;
    let (content_type, location) = (header(content_type?)?, header(location?)?);
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    Ok(Response {
        status: code.ok_or_else(|| Error::internal("the answer has no sound HTTP status"))?,
        content_type,
        location: (!location.is_empty()).then_some(location),
        body: body?,
    })
}

/// A text that can stand in a header.
fn header(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| Error::internal("the answer has a header that cannot be sent"))
}

/// The rules of one instant: immutable, used by any number of slices at once. Cheap to clone.
///
/// Keeps its instance, and with that its generation's code, alive.
#[derive(Clone)]
pub struct Rater {
    slot: Arc<Slot>,
    rules: Arc<Rules>,
}

struct Rules {
    handle: Handle,
    table: RatingVTable,
    /// Raters end before their instance.
    instance: Arc<Instance>,
    services: Arc<Services>,
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
        let on = On::This(self.rules.instance.clone());
        self.slot
            .call(PluginCall::Rate, on, move |_, frame| {
                rater.rules.rate(&rater.slot, frame, &request, usage)
            })
            .await
    }
}

impl Rater {
    /// How the prices of some rows come about; `None` = the module gives no reasons. One list of
    /// steps for each row; whether they hold is not checked.
    pub async fn explain(
        &self,
        request: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> Result<Option<Explanation>, CallError> {
        let rater = self.clone();
        let on = On::This(self.rules.instance.clone());
        let explain = move |_: &Live<'_>, frame: &Frame<'_>| match rater
            .rules
            .explain(frame, &request, usage, rows)
        {
            Err(error) if error.status == Status::Unsupported => Ok(None),
            explanation => explanation,
        };
        self.slot.call(PluginCall::Explain, on, explain).await
    }
}

impl Rules {
    fn explain(
        &self,
        frame: &Frame<'_>,
        request: &RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> Result<Option<Explanation>> {
        let Some(explain) = self.table.explain else { return Ok(None) };
        let raw = raw_request(request)?;
        let (mut array, mut schema) = batches::export(usage)?;
        let (mut json, mut error) = (ffi::empty_buffer(), ErrorSlot::new());
        // SAFETY: a checked table's function on its own rater; the plugin moves the two inputs out
        // of their places, all pointers outlive the call.
        let status = unsafe {
            explain(
                self.handle.0.cast_const(),
                frame.raw,
                &raw const raw,
                &raw mut array,
                &raw mut schema,
                rows.start,
                rows.len(),
                &raw mut json,
                error.as_mut_ptr(),
            )
        };
        // SAFETY: it was empty before the call and the plugin filled it as the interface says.
        let json = unsafe { ffi::take(json, EXPLANATION_SIZE_MAX) };
        error.outcome(status)?;
        let explanation: Explanation = serde_json::from_slice(&json?)
            .map_err(|error| Error::internal(format!("the reasons are not understood: {error}")))?;
        if explanation.rows.len() != rows.len() {
            let (found, wanted) = (explanation.rows.len(), rows.len());
            let text = format!("expected the reasons of {wanted} rows, got {found}");
            return Err(Error::internal(text));
        }
        Ok(Some(explanation))
    }

    fn rate(
        &self,
        slot: &Slot,
        frame: &Frame<'_>,
        request: &RateRequest,
        usage: RecordBatch,
    ) -> Result<RecordBatch> {
        let rows = usage.num_rows();
        let raw = raw_request(request)?;
        let (mut array, mut schema) = batches::export(usage)?;
        let (mut out, mut out_schema) = (FFI_ArrowArray::empty(), FFI_ArrowSchema::empty());
        let mut error = ErrorSlot::new();
        // SAFETY: a checked table's function on its own rater; the plugin moves the two inputs out
        // of their places, all pointers outlive the call.
        let status = unsafe {
            (self.table.rate)(
                self.handle.0.cast_const(),
                frame.raw,
                &raw const raw,
                &raw mut array,
                &raw mut schema,
                &raw mut out,
                &raw mut out_schema,
                error.as_mut_ptr(),
            )
        };
        error.outcome(status)?;
        // SAFETY: the plugin said that it wrote a schema and a batch of it.
        let prices = unsafe {
            let schema = batches::import_schema(&out_schema)?;
            batches::import(out, &schema, COLLECT_ROWS_MAX, slot.trust())?
        };
        validate::prices(&prices, rows)
    }
}

fn raw_request(request: &RateRequest) -> Result<RawRate> {
    Ok(RawRate {
        struct_size: size_of::<RawRate>(),
        purpose: purpose(request),
        reserved: 0,
        metric: lend(request.metric.as_bytes()),
        begin_ns: nanoseconds(request.begin)?,
        end_ns: nanoseconds(request.end)?,
    })
}

/// As the interface numbers them.
fn purpose(request: &RateRequest) -> u32 {
    match request.purpose {
        rated_plugin::Purpose::Period => 0,
        rated_plugin::Purpose::Quote => 1,
        rated_plugin::Purpose::Replay => 2,
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if self.instance.is_abandoned() {
            return;
        }
        // The instance's last reference may go with this one, so it is kept until the rater has
        // ended.
        Instance::end_later(
            &self.services,
            self.table.release_rater,
            self.handle,
            Some(self.instance.clone()),
        );
    }
}
