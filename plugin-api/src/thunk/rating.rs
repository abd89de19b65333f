//! The calls of rating modules.

use std::ffi::c_void;

use arrow_array::RecordBatch;

use super::arrow::{export_rows, export_schema, import_rows, import_schema};
use super::component::{OK, call, instance, instant, null};
use super::guard::guard;
use super::host_calls::HostHandle;
use crate::raw::{
    Buffer, FFI_ArrowArray, FFI_ArrowSchema, RawCall, RawError, RawRate, RawRequest, RawResponse,
    RawStatus,
};
use crate::{
    AsOf, Error, Method, Principal, Purpose, RateRequest, Rater, RatingModule, Request, Result,
};

/// What a rater pointer points at.
pub(super) struct Prepared<R> {
    rater: R,
    host: HostHandle,
}

pub(super) unsafe extern "C" fn prepare<C: RatingModule>(
    this: *const c_void,
    raw_call: *const RawCall,
    as_of_ns: i64,
    revision: u64,
    out: *mut *mut c_void,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host passes an instance of this table, and a call that outlives this one.
        let (this, call) = unsafe {
            let this = instance::<C>(this)?;
            (this, call(raw_call, &this.host))
        };
        let rater = this.component.prepare(&call, AsOf { at: instant(as_of_ns), revision })?;
        let prepared = Box::into_raw(Box::new(Prepared { rater, host: this.host }));
        // SAFETY: the host passes a place for the pointer.
        unsafe { *out = prepared.cast() };
        Ok(OK)
    })
}

pub(super) unsafe extern "C" fn rate<R: Rater>(
    rater: *const c_void,
    raw_call: *const RawCall,
    request: *const RawRate,
    array: *mut FFI_ArrowArray,
    schema: *mut FFI_ArrowSchema,
    out_array: *mut FFI_ArrowArray,
    out_schema: *mut FFI_ArrowSchema,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // First of all, so that every way out releases them.
        // SAFETY: the host moves both structs in, which belong together.
        let usage = unsafe { moved_in(array, schema) }?;
        // SAFETY: the host passes a rater that `prepare` of this table made; the rest is lent for
        // this call.
        let (prepared, call, request) = unsafe {
            let prepared = rater.cast::<Prepared<R>>().as_ref().ok_or_else(|| null("rater"))?;
            let request = request.as_ref().ok_or_else(|| null("request"))?;
            (prepared, call(raw_call, &prepared.host), rate_request(request)?)
        };
        let prices = prepared.rater.rate(&call, &request, &usage)?;
        drop(usage);
        let schema = export_schema(prices.schema_ref())?;
        let rows = export_rows(prices);
        // SAFETY: the host passes places for both.
        unsafe {
            out_array.write(rows);
            out_schema.write(schema);
        }
        Ok(OK)
    })
}

pub(super) unsafe extern "C" fn explain<R: Rater>(
    rater: *const c_void,
    raw_call: *const RawCall,
    request: *const RawRate,
    array: *mut FFI_ArrowArray,
    schema: *mut FFI_ArrowSchema,
    first_row: usize,
    rows: usize,
    out_json: *mut Buffer,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: as in `rate`, for all of them.
        let (prepared, call, request, usage) = unsafe {
            let usage = moved_in(array, schema)?;
            let prepared = rater.cast::<Prepared<R>>().as_ref().ok_or_else(|| null("rater"))?;
            let request = request.as_ref().ok_or_else(|| null("request"))?;
            (prepared, call(raw_call, &prepared.host), rate_request(request)?, usage)
        };
        let end = first_row.checked_add(rows).filter(|end| *end <= usage.num_rows());
        let end = end.ok_or_else(|| Error::invalid_request("there are not so many rows"))?;
        let explanation = prepared.rater.explain(&call, &request, &usage, first_row..end)?;
        let json =
            serde_json::to_vec(&explanation).map_err(|error| Error::internal(error.to_string()))?;
        // SAFETY: the host passes an empty buffer.
        unsafe { out_json.write(Buffer::from_vec(json)) };
        Ok(OK)
    })
}

/// The batch that the host moves in.
///
/// # Safety
///
/// As the interface says of `rate`.
unsafe fn moved_in(
    array: *mut FFI_ArrowArray,
    schema: *mut FFI_ArrowSchema,
) -> Result<RecordBatch> {
    // First of all, so that every way out releases them.
    // SAFETY: the host moves both structs in; what is left in its place is released.
    let (array, schema) = unsafe {
        let array = (!array.is_null()).then(|| FFI_ArrowArray::from_raw(array));
        let schema = (!schema.is_null()).then(|| FFI_ArrowSchema::from_raw(schema));
        (array.ok_or_else(|| null("array"))?, schema.ok_or_else(|| null("schema"))?)
    };
    let schema = import_schema(&schema)?;
    // SAFETY: the host promises that array and schema belong together.
    unsafe { import_rows(array, &schema) }
}

/// # Safety
///
/// Everything `raw` points at is valid during this call.
unsafe fn rate_request(raw: &RawRate) -> Result<RateRequest> {
    let purpose = Purpose::from_raw(raw.purpose).ok_or_else(|| {
        Error::invalid_request(format!("purpose {} is not known to this plugin", raw.purpose))
    })?;
    Ok(RateRequest {
        purpose,
        // SAFETY: the caller's promise.
        metric: unsafe { raw.metric.as_text() }?.to_owned(),
        begin: instant(raw.begin_ns),
        end: instant(raw.end_ns),
    })
}

pub(super) unsafe extern "C" fn handle<C: RatingModule>(
    this: *const c_void,
    raw_call: *const RawCall,
    request: *const RawRequest,
    response: *mut RawResponse,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: the host passes an instance of this table; the rest is lent for this call.
        let (this, call, request) = unsafe {
            let this = instance::<C>(this)?;
            let request = request.as_ref().ok_or_else(|| null("request"))?;
            (this, call(raw_call, &this.host), http_request(request)?)
        };
        let answer = this.component.handle(&call, &request)?;
        // SAFETY: the host passes a response of its own, zeroed but for `struct_size`.
        let response = unsafe { response.as_mut() }.ok_or_else(|| null("response"))?;
        response.status = u32::from(answer.status);
        response.content_type = Buffer::from_vec(answer.content_type.into_bytes());
        response.location = Buffer::from_vec(answer.location.unwrap_or_default().into_bytes());
        response.body = Buffer::from_vec(answer.body);
        Ok(OK)
    })
}

/// # Safety
///
/// Everything `raw` points at is valid during this call.
unsafe fn http_request(raw: &RawRequest) -> Result<Request> {
    let method = Method::from_raw(raw.method)
        .ok_or_else(|| Error::invalid_request(format!("method {} is not known", raw.method)))?;
    // SAFETY: the caller's promise, for all of them.
    let (path, query, content_type, body, principal) = unsafe {
        (
            raw.path.as_text()?,
            raw.query.as_text()?,
            raw.content_type.as_text()?,
            raw.body.as_slice(),
            raw.principal.as_slice(),
        )
    };
    let principal = if principal.is_empty() {
        Principal::default()
    } else {
        serde_json::from_slice(principal)
            .map_err(|error| Error::invalid_request(format!("principal: {error}")))?
    };
    Ok(Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        content_type: content_type.to_owned(),
        body: body.to_vec(),
        principal,
    })
}
