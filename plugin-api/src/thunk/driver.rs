//! Calls through a component's table, as the host makes them.

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Array, RecordBatch, StructArray};
use arrow_schema::SchemaRef;

use super::arrow::{export_rows, export_schema, import_rows, import_schema};
use super::fake::{FAKE_API, START_HOST, reference};
use crate::raw::{
    Buffer, Bytes, CheckFn, CollectorVTable, ComponentDecl, CreateFn, DestroyFn, FFI_ArrowArray,
    FFI_ArrowSchema, FetcherVTable, KIND_COLLECTOR, KIND_FETCHER, KIND_RATING, PluginDecl,
    RatingVTable, RawBatches, RawCall, RawCollect, RawError, RawRate, RawRequest, RawResponse,
    RawStatus,
};
use crate::testing::FakeHost;
use crate::{
    AsOf, CollectRequest, Error, Explanation, RateRequest, Request, Response, Result, Status,
};

/// The components of a plugin, after `start`.
pub(crate) fn components(plugin: &'static PluginDecl) -> Result<Vec<&'static ComponentDecl>> {
    // SAFETY: a declaration's promises: `start` may be called, with a table and a reference that
    // live for ever here.
    let status = unsafe { (plugin.start)(&raw const FAKE_API, reference(&START_HOST)) };
    if status != Status::Ok as RawStatus {
        return Err(Error::new(Status::from_raw(status), "`start` failed"));
    }
    if plugin.components_len > 0 && plugin.components.is_null() {
        return Err(Error::internal("`components` is null"));
    }
    (0..plugin.components_len)
        .map(|index| {
            // SAFETY: a declaration's promises: `components_len` pointers to static declarations.
            unsafe { (*plugin.components.add(index)).as_ref() }
                .ok_or_else(|| Error::internal(format!("component {index} is null")))
        })
        .collect()
}

/// A text of a declaration.
pub(crate) fn static_text(text: Bytes) -> Result<&'static str> {
    // SAFETY: a declaration's promises: its texts are static.
    unsafe { text.as_text() }
}

#[derive(Clone, Copy)]
enum Table {
    Collector(&'static CollectorVTable),
    Fetcher(&'static FetcherVTable),
    Rating(RatingVTable),
}

impl Table {
    fn of(component: &'static ComponentDecl) -> Result<Table> {
        // SAFETY: a declaration's promises: the table is static, of the kind's type and as long as
        // it says.
        let table = unsafe {
            let sized = component.vtable.cast::<usize>();
            let wanted = match component.kind {
                KIND_COLLECTOR => size_of::<CollectorVTable>(),
                KIND_FETCHER => size_of::<FetcherVTable>(),
                KIND_RATING => RatingVTable::SIZE_MIN,
                kind => return Err(Error::internal(format!("unknown kind {kind}"))),
            };
            if sized.is_null() || sized.read() < wanted {
                return Err(Error::internal("the component's table is missing or too short"));
            }
            match component.kind {
                KIND_COLLECTOR => Table::Collector(&*component.vtable.cast()),
                KIND_FETCHER => Table::Fetcher(&*component.vtable.cast()),
                _ => Table::Rating(RatingVTable::read(component.vtable.cast())),
            }
        };
        Ok(table)
    }

    fn common(self) -> (CreateFn, DestroyFn, CheckFn) {
        match self {
            Table::Collector(table) => (table.create, table.destroy, table.check),
            Table::Fetcher(table) => (table.create, table.destroy, table.check),
            Table::Rating(table) => (table.create, table.destroy, table.check),
        }
    }
}

/// A made instance; ended when the last user lets go, unless it panicked.
pub(crate) struct Driven {
    table: Table,
    pointer: *mut c_void,
    host: FakeHost,
    poisoned: std::sync::atomic::AtomicBool,
}

// SAFETY: the interface says that instances are used from any thread, several at once; the test kit
// drives no component that sets the serial flag from more than one (see `conformance`).
unsafe impl Send for Driven {}
// SAFETY: as above.
unsafe impl Sync for Driven {}

impl Driven {
    pub(crate) fn create(
        component: &'static ComponentDecl,
        host: &FakeHost,
        config_json: &[u8],
    ) -> Result<Arc<Driven>> {
        let table = Table::of(component)?;
        let mut pointer = std::ptr::null_mut();
        answered(|error| {
            // SAFETY: the table's own function; host and configuration outlive the call, the host
            // the instance too.
            unsafe {
                (table.common().0)(
                    &raw const FAKE_API,
                    reference(host),
                    Bytes::lend(config_json),
                    &raw mut pointer,
                    error,
                )
            }
        })?;
        let poisoned = std::sync::atomic::AtomicBool::new(false);
        Ok(Arc::new(Driven { table, pointer, host: host.clone(), poisoned }))
    }

    fn raw_call(&self) -> RawCall {
        RawCall {
            struct_size: size_of::<RawCall>(),
            deadline_ns: self.host.shared().now_ns().saturating_add(60_000_000_000),
            trace_id: *b"rated-plugin-tst",
            span_id: *b"rated-pl",
            cancel: (&raw const self.host.shared().cancellation).cast(),
        }
    }

    /// Calls, and remembers a panic.
    fn ask(&self, call: impl FnOnce(*const RawCall, *mut RawError) -> RawStatus) -> Result<()> {
        let raw_call = self.raw_call();
        let outcome = answered(|error| call(&raw const raw_call, error));
        if outcome.as_ref().is_err_and(|error| error.status == Status::Panic) {
            self.poisoned.store(true, std::sync::atomic::Ordering::SeqCst);
        }
        outcome
    }

    pub(crate) fn check(&self) -> Result<()> {
        // SAFETY: the table's own instance; call and error outlive the call.
        self.ask(|call, error| unsafe { (self.table.common().2)(self.pointer, call, error) })
    }

    pub(crate) fn collect(self: &Arc<Self>, request: &CollectRequest) -> Result<Pulled> {
        let Table::Collector(table) = self.table else { return Err(wrong_kind()) };
        let metric = serde_json::to_vec(&request.metric)
            .map_err(|error| Error::internal(error.to_string()))?;
        let scopes: Vec<Bytes> =
            request.scopes.iter().map(|scope| Bytes::lend(scope.as_bytes())).collect();
        let raw = RawCollect {
            struct_size: size_of::<RawCollect>(),
            metric: Bytes::lend(&metric),
            scope_key: Bytes::lend(request.scope_key.as_bytes()),
            scopes: scopes.as_ptr(),
            scopes_len: scopes.len(),
            begin_ns: ns(request.begin)?,
            end_ns: ns(request.end)?,
        };
        let mut batches = RawBatches::EMPTY;
        self.ask(|call, error| {
            // SAFETY: the table's own instance; everything lent outlives the call.
            unsafe { (table.collect)(self.pointer, call, &raw const raw, &raw mut batches, error) }
        })?;
        Pulled::new(self.clone(), batches)
    }

    pub(crate) fn scopes(self: &Arc<Self>) -> Result<Pulled> {
        let Table::Fetcher(table) = self.table else { return Err(wrong_kind()) };
        let mut batches = RawBatches::EMPTY;
        self.ask(|call, error| {
            // SAFETY: the table's own instance; everything lent outlives the call.
            unsafe { (table.scopes)(self.pointer, call, &raw mut batches, error) }
        })?;
        Pulled::new(self.clone(), batches)
    }

    pub(crate) fn prepare(self: &Arc<Self>, as_of: AsOf) -> Result<DrivenRater> {
        let Table::Rating(table) = self.table else { return Err(wrong_kind()) };
        let at_ns = ns(as_of.at)?;
        let mut pointer = std::ptr::null_mut();
        self.ask(|call, error| {
            // SAFETY: the table's own instance; everything lent outlives the call.
            unsafe {
                (table.prepare)(self.pointer, call, at_ns, as_of.revision, &raw mut pointer, error)
            }
        })?;
        Ok(DrivenRater { instance: self.clone(), table, pointer })
    }

    pub(crate) fn handle(&self, request: &Request) -> Result<Response> {
        let Table::Rating(table) = self.table else { return Err(wrong_kind()) };
        let principal = serde_json::to_vec(&request.principal)
            .map_err(|error| Error::internal(error.to_string()))?;
        let raw = RawRequest {
            struct_size: size_of::<RawRequest>(),
            method: request.method as u32,
            reserved: 0,
            path: Bytes::lend(request.path.as_bytes()),
            query: Bytes::lend(request.query.as_bytes()),
            content_type: Bytes::lend(request.content_type.as_bytes()),
            body: Bytes::lend(&request.body),
            principal: Bytes::lend(&principal),
        };
        let mut response = RawResponse {
            struct_size: size_of::<RawResponse>(),
            status: 0,
            reserved: 0,
            content_type: Buffer::EMPTY,
            location: Buffer::EMPTY,
            body: Buffer::EMPTY,
        };
        let outcome = self.ask(|call, error| {
            // SAFETY: the table's own instance; everything lent outlives the call.
            unsafe { (table.handle)(self.pointer, call, &raw const raw, &raw mut response, error) }
        });
        // SAFETY: filled by the plugin, or still empty.
        let (content_type, location, body) = unsafe {
            (response.content_type.take(), response.location.take(), response.body.take())
        };
        outcome?;
        let text =
            |bytes| String::from_utf8(bytes).map_err(|_| Error::internal("a header is not UTF-8"));
        let status = u16::try_from(response.status).ok().filter(|code| (200..600).contains(code));
        let location = text(location)?;
        Ok(Response {
            status: status.ok_or_else(|| {
                Error::internal(format!("HTTP status {} is none", response.status))
            })?,
            content_type: text(content_type)?,
            location: (!location.is_empty()).then_some(location),
            body,
        })
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        // As the host does: an instance that panicked is abandoned.
        if !self.poisoned.load(std::sync::atomic::Ordering::SeqCst) {
            // SAFETY: made by `create` of the same table, not used again.
            unsafe { (self.table.common().1)(self.pointer) };
        }
    }
}

/// A prepared rater; holds its instance.
pub(crate) struct DrivenRater {
    instance: Arc<Driven>,
    table: RatingVTable,
    pointer: *mut c_void,
}

// SAFETY: the interface says that raters are used from any thread, several at once, serial or not.
unsafe impl Send for DrivenRater {}
// SAFETY: as above.
unsafe impl Sync for DrivenRater {}

impl DrivenRater {
    /// What the module answers, checked in full.
    pub(crate) fn rate(&self, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        validated(self.rate_trusted(request, usage)?)
    }

    /// The same, checked in form only.
    pub(crate) fn rate_trusted(
        &self,
        request: &RateRequest,
        usage: &RecordBatch,
    ) -> Result<RecordBatch> {
        let raw = raw_rate(request)?;
        let mut schema = export_schema(usage.schema_ref())?;
        let mut array = export_rows(usage.clone());
        let mut out_array = FFI_ArrowArray::empty();
        let mut out_schema = FFI_ArrowSchema::empty();
        let outcome = self.instance.ask(|call, error| {
            // SAFETY: the table's own rater; everything lent outlives the call, both inputs are
            // moved in.
            unsafe {
                (self.table.rate)(
                    self.pointer,
                    call,
                    &raw const raw,
                    &raw mut array,
                    &raw mut schema,
                    &raw mut out_array,
                    &raw mut out_schema,
                    error,
                )
            }
        });
        if !array.is_released() || schema.release().is_some() {
            return Err(Error::internal("`rate` did not take its inputs"));
        }
        outcome?;
        let schema = import_schema(&out_schema)?;
        // SAFETY: the plugin promises that they belong together.
        unsafe { import_rows(out_array, &schema) }
    }
}

impl DrivenRater {
    /// Whether the module gives reasons at all.
    pub(crate) fn can_explain(&self) -> bool {
        self.table.explain.is_some()
    }

    pub(crate) fn explain(
        &self,
        request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        let unsupported = || Error::new(Status::Unsupported, "the table has no `explain`");
        let explain = self.table.explain.ok_or_else(unsupported)?;
        let raw = raw_rate(request)?;
        let mut schema = export_schema(usage.schema_ref())?;
        let mut array = export_rows(usage.clone());
        let mut json = Buffer::EMPTY;
        let outcome = self.instance.ask(|call, error| {
            // SAFETY: the table's own rater; everything lent outlives the call, both inputs are
            // moved in.
            unsafe {
                explain(
                    self.pointer,
                    call,
                    &raw const raw,
                    &raw mut array,
                    &raw mut schema,
                    rows.start,
                    rows.len(),
                    &raw mut json,
                    error,
                )
            }
        });
        // SAFETY: filled by the plugin, or still empty.
        let json = unsafe { json.take() };
        if !array.is_released() || schema.release().is_some() {
            return Err(Error::internal("`explain` did not take its inputs"));
        }
        outcome?;
        serde_json::from_slice(&json)
            .map_err(|error| Error::bad_data(format!("`explain` answers no explanation: {error}")))
    }
}

fn raw_rate(request: &RateRequest) -> Result<RawRate> {
    Ok(RawRate {
        struct_size: size_of::<RawRate>(),
        purpose: request.purpose as u32,
        reserved: 0,
        metric: Bytes::lend(request.metric.as_bytes()),
        begin_ns: ns(request.begin)?,
        end_ns: ns(request.end)?,
    })
}

impl Drop for DrivenRater {
    fn drop(&mut self) {
        // SAFETY: made by `prepare` of the same table, not used again.
        unsafe { (self.table.release_rater)(self.pointer) };
    }
}

/// Batches of an instance, pulled; holds the instance.
pub(crate) struct Pulled {
    instance: Arc<Driven>,
    raw: RawBatches,
    schema: SchemaRef,
}

impl Pulled {
    fn new(instance: Arc<Driven>, raw: RawBatches) -> Result<Pulled> {
        let mut pulled =
            Pulled { instance, raw, schema: SchemaRef::new(arrow_schema::Schema::empty()) };
        let ask = pulled.raw.schema.ok_or_else(|| Error::internal("batches without `schema`"))?;
        let mut schema = FFI_ArrowSchema::empty();
        answered(|error| {
            // SAFETY: the batches' own function, place and error outlive the call.
            unsafe { ask(&raw mut pulled.raw, &raw mut schema, error) }
        })?;
        pulled.schema = import_schema(&schema)?;
        Ok(pulled)
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, checked in full; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<RecordBatch>> {
        let ask = self.raw.next.ok_or_else(|| Error::internal("batches without `next`"))?;
        let mut array = FFI_ArrowArray::empty();
        let raw = &raw mut self.raw;
        let mut ended = false;
        self.instance.ask(|call, error| {
            // SAFETY: the batches' own function; everything lent outlives the call.
            let status = unsafe { ask(raw, call, &raw mut array, error) };
            ended = status == Status::End as RawStatus;
            if ended { Status::Ok as RawStatus } else { status }
        })?;
        if ended {
            return Ok(None);
        }
        // SAFETY: the plugin promises that every batch is of the stream's schema.
        validated(unsafe { import_rows(array, &self.schema) }?).map(Some)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        if let Some(release) = self.raw.release {
            // SAFETY: given to us, released once.
            unsafe { release(&raw mut self.raw) };
        }
    }
}

/// A batch given away and taken back, as the other side sees it.
pub(crate) fn given_and_taken(batch: &RecordBatch) -> Result<RecordBatch> {
    let schema = import_schema(&export_schema(batch.schema_ref())?)?;
    // SAFETY: rows and schema are of one batch.
    unsafe { import_rows(export_rows(batch.clone()), &schema) }
}

fn validated(batch: RecordBatch) -> Result<RecordBatch> {
    StructArray::from(batch.clone())
        .into_data()
        .validate_full()
        .map_err(|error| Error::bad_data(error.to_string()))?;
    Ok(batch)
}

fn wrong_kind() -> Error {
    Error::internal("the component is of another kind")
}

fn ns(at: chrono::DateTime<chrono::Utc>) -> Result<i64> {
    at.timestamp_nanos_opt().ok_or_else(|| Error::invalid_request("a time out of range"))
}

/// Calls, and turns the answer into a result.
fn answered(call: impl FnOnce(*mut RawError) -> RawStatus) -> Result<()> {
    let mut error = RawError::EMPTY;
    let status = call(&raw mut error);
    // SAFETY: filled by the plugin, or still empty.
    let error = unsafe { error.take(status) };
    if status == Status::Ok as RawStatus { Ok(()) } else { Err(error) }
}
