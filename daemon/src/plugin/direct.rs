//! Calls through a component's tables, in the process that its library is mapped into.
//!
//! What comes back has a sound form (`batches`); whether it is what was asked for is checked by
//! whoever asked.

use std::ops::Range;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use chrono::{DateTime, Utc};
use rated_plugin::raw::{
    Bytes, CheckFn, CreateFn, DestroyFn, FFI_ArrowArray, FFI_ArrowSchema, RatingVTable, RawCollect,
    RawRate, RawRequest, RawResponse,
};
use rated_plugin::{AsOf, CollectRequest, Error, RateRequest, Request, Response, Result};

use super::batches::{self, Source, Trust};
use super::collector::COLLECT_ROWS_MAX;
use super::fetcher::SCOPES_MAX;
use super::ffi::{self, ErrorSlot, lend};
use super::host_api::{self, Context};
use super::instance::{Frame, Handle};
use super::library::VTable;
use super::module::{EXPLANATION_SIZE_MAX, HEADER_SIZE_MAX, RESPONSE_SIZE_MAX};

/// An instance of a library that is mapped into this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct {
    handle: Handle,
    vtable: VTable,
    trust: Trust,
}

impl Direct {
    pub(super) fn create(
        vtable: VTable,
        trust: Trust,
        context: &'static Context,
        config_json: &[u8],
    ) -> Result<Direct> {
        let (mut pointer, mut error) = (std::ptr::null_mut(), ErrorSlot::new());
        // SAFETY: a checked table's function; the service table and the context live for ever, the
        // rest for the call.
        let status = unsafe {
            (vtable.create())(
                host_api::table(),
                context.reference(),
                lend(config_json),
                &raw mut pointer,
                error.as_mut_ptr(),
            )
        };
        error.outcome(status)?;
        Ok(Direct { handle: Handle(pointer), vtable, trust })
    }

    pub(super) fn check(&self, frame: &Frame<'_>) -> Result<()> {
        let mut error = ErrorSlot::new();
        // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
        let status = unsafe {
            (self.vtable.check())(self.handle.0.cast_const(), frame.raw, error.as_mut_ptr())
        };
        error.outcome(status)
    }

    pub(super) fn collect(
        &self,
        frame: &Frame<'_>,
        request: &CollectRequest,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let VTable::Collector(table) = self.vtable else {
            return Err(Error::internal("not a collector"));
        };
        let metric = serde_json::to_vec(&request.metric)
            .map_err(|error| Error::internal(error.to_string()))?;
        let scopes: Vec<Bytes> = request.scopes.iter().map(|id| lend(id.as_bytes())).collect();
        let raw = RawCollect {
            struct_size: size_of::<RawCollect>(),
            metric: lend(&metric),
            scope_key: lend(request.scope_key.as_bytes()),
            scopes: scopes.as_ptr(),
            scopes_len: scopes.len(),
            begin_ns: nanoseconds(request.begin)?,
            end_ns: nanoseconds(request.end)?,
        };
        let (mut source, mut error) = (Source::empty(), ErrorSlot::new());
        // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
        let status = unsafe {
            let (out, error) = (source.as_mut_ptr(), error.as_mut_ptr());
            (table.collect)(self.handle.0.cast_const(), frame.raw, &raw const raw, out, error)
        };
        error.outcome(status)?;
        // SAFETY: the plugin said OK, so it filled the source.
        unsafe { source.pull(frame, COLLECT_ROWS_MAX, self.trust) }
    }

    pub(super) fn scopes(&self, frame: &Frame<'_>) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let VTable::Fetcher(table) = self.vtable else {
            return Err(Error::internal("not a fetcher"));
        };
        let (mut source, mut error) = (Source::empty(), ErrorSlot::new());
        let handle = self.handle.0.cast_const();
        // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
        let status =
            unsafe { (table.scopes)(handle, frame.raw, source.as_mut_ptr(), error.as_mut_ptr()) };
        error.outcome(status)?;
        // SAFETY: the plugin said OK, so it filled the source.
        unsafe { source.pull(frame, SCOPES_MAX, self.trust) }
    }

    /// A rater, to be ended by [`Direct::release_rater`].
    pub(super) fn prepare(&self, frame: &Frame<'_>, as_of: AsOf) -> Result<Handle> {
        let table = self.rating()?;
        let (mut pointer, mut error) = (std::ptr::null_mut(), ErrorSlot::new());
        let at_ns = nanoseconds(as_of.at)?;
        let handle = self.handle.0.cast_const();
        // SAFETY: a checked table's function on its own instance; all pointers outlive the call.
        let status = unsafe {
            let (out, error) = (&raw mut pointer, error.as_mut_ptr());
            (table.prepare)(handle, frame.raw, at_ns, as_of.revision, out, error)
        };
        error.outcome(status)?;
        Ok(Handle(pointer))
    }

    /// One batch for one batch; whether its rows are prices is not looked at.
    pub(super) fn rate(
        &self,
        rater: Handle,
        frame: &Frame<'_>,
        request: &RateRequest,
        usage: RecordBatch,
    ) -> Result<RecordBatch> {
        let table = self.rating()?;
        let raw = raw_rate(request)?;
        let (mut array, mut schema) = batches::export(usage)?;
        let (mut out, mut out_schema) = (FFI_ArrowArray::empty(), FFI_ArrowSchema::empty());
        let mut error = ErrorSlot::new();
        // SAFETY: a checked table's function on its own rater; the plugin moves the two inputs out
        // of their places, all pointers outlive the call.
        let status = unsafe {
            (table.rate)(
                rater.0.cast_const(),
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
        unsafe {
            let schema = batches::import_schema(&out_schema)?;
            batches::import(out, &schema, COLLECT_ROWS_MAX, self.trust)
        }
    }

    /// JSON, of any form; `None` = it gives no reasons.
    pub(super) fn explain(
        &self,
        rater: Handle,
        frame: &Frame<'_>,
        request: &RateRequest,
        (usage, rows): (RecordBatch, Range<usize>),
    ) -> Result<Option<Vec<u8>>> {
        let Some(explain) = self.rating()?.explain else { return Ok(None) };
        let raw = raw_rate(request)?;
        let (mut array, mut schema) = batches::export(usage)?;
        let (mut json, mut error) = (ffi::empty_buffer(), ErrorSlot::new());
        // SAFETY: a checked table's function on its own rater; the plugin moves the two inputs out
        // of their places, all pointers outlive the call.
        let status = unsafe {
            explain(
                rater.0.cast_const(),
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
        json.map(Some)
    }

    pub(super) fn handle(&self, frame: &Frame<'_>, request: &Request) -> Result<Response> {
        let table = self.rating()?;
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
        let instance = self.handle.0.cast_const();
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
        sound_response(code, (content_type?, location?), body?)
    }

    /// Ends a rater that [`Direct::prepare`] made, once, when no call on it is under way.
    pub(super) fn release_rater(&self, rater: Handle) {
        if let Ok(table) = self.rating() {
            // SAFETY: the caller's promise; the interface lets any thread end what it made.
            unsafe { (table.release_rater)(rater.0) };
        }
    }

    /// Ends the instance, once, when no call on it is under way and its raters have ended.
    pub(super) fn destroy(self) {
        // SAFETY: the caller's promise; the interface lets any thread end what it made.
        unsafe { (self.vtable.destroy())(self.handle.0) };
    }

    fn rating(&self) -> Result<RatingVTable> {
        match self.vtable {
            VTable::Rating(table) => Ok(table),
            VTable::Collector(_) | VTable::Fetcher(_) => {
                Err(Error::internal("not a rating module"))
            }
        }
    }
}

impl VTable {
    fn create(self) -> CreateFn {
        match self {
            VTable::Collector(table) => table.create,
            VTable::Fetcher(table) => table.create,
            VTable::Rating(table) => table.create,
        }
    }

    fn destroy(self) -> DestroyFn {
        match self {
            VTable::Collector(table) => table.destroy,
            VTable::Fetcher(table) => table.destroy,
            VTable::Rating(table) => table.destroy,
        }
    }

    fn check(self) -> CheckFn {
        match self {
            VTable::Collector(table) => table.check,
            VTable::Fetcher(table) => table.check,
            VTable::Rating(table) => table.check,
        }
    }
}

fn raw_rate(request: &RateRequest) -> Result<RawRate> {
    Ok(RawRate {
        struct_size: size_of::<RawRate>(),
        purpose: request.purpose as u32,
        reserved: 0,
        metric: lend(request.metric.as_bytes()),
        begin_ns: nanoseconds(request.begin)?,
        end_ns: nanoseconds(request.end)?,
    })
}

/// What a module answers, if it can be sent on.
pub(super) fn sound_response(
    code: u32,
    (content_type, location): (Vec<u8>, Vec<u8>),
    body: Vec<u8>,
) -> Result<Response> {
    let (content_type, location) = (header(content_type)?, header(location)?);
    let code = u16::try_from(code).ok().filter(|code| (200..600).contains(code));
    Ok(Response {
        status: code.ok_or_else(|| Error::internal("the answer has no sound HTTP status"))?,
        content_type,
        location: (!location.is_empty()).then_some(location),
        body,
    })
}

/// A text that can stand in a header.
fn header(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| Error::internal("the answer has a header that cannot be sent"))
}

pub(super) fn nanoseconds(instant: DateTime<Utc>) -> Result<i64> {
    instant
        .timestamp_nanos_opt()
        .ok_or_else(|| Error::invalid_request(format!("{instant} is out of a plugin's reach")))
}
