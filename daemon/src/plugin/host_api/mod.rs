//! The services the daemon lends to plugins: log, clock, cancellation, keys, metrics, HTTP.
//!
//! Plugins call them from any thread at any time, with whatever they like: every function answers,
//! none panics across the interface, and a reference that a plugin keeps after its instance has
//! ended stays valid (contexts are never freed; there is one for each place that instances have in
//! a generation).

mod context;
mod http;
mod kv;
mod room;
mod said;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rated_plugin::raw::{
    self, Bytes, HostApi, HostRef, RawCall, RawEdit, RawError, RawHttpRequest, RawHttpResponse,
    RawStatus, VisitFn,
};
use rated_plugin::{Error, Result, Status};

pub(super) use context::{Context, Daemon, HttpAnswer, HttpParts, Lender, Services};
pub(super) use room::{Room, Share};

use super::{call, check, ffi};
use crate::plugin::ffi::{borrow, fail};

/// Longest log message, bytes; longer ones are cut.
const LOG_SIZE_MAX: usize = 16 * 1024;
static TABLE: HostApi = HostApi {
    struct_size: size_of::<HostApi>(),
    abi_minor: raw::ABI_MINOR as u32,
    reserved: 0,
    features: check::FEATURES,
    log_enabled,
    log,
    now_ns,
    is_cancelled,
    kv_get,
    kv_scan,
    kv_apply,
    count,
    observe,
    http_send: Some(http_send),
};

pub(super) fn table() -> *const HostApi {
    &raw const TABLE
}

/// Runs a service's body; an error or a panic fills `slot`.
fn answer(slot: *mut RawError, body: impl FnOnce() -> Result<()>) -> RawStatus {
    let error = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return Status::Ok as RawStatus,
        Ok(Err(error)) => error,
        Err(_) => Error::internal("a service of the daemon panicked; its log says where"),
    };
    // SAFETY: the interface says that the caller passes null or an error slot of its own.
    unsafe { fail(slot, error) }
}

fn quietly<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

/// # Safety
///
/// `reference` is null or one that the host gave out.
unsafe fn context<'a>(reference: HostRef) -> Result<&'a dyn Lender> {
    // SAFETY: the caller's promise; contexts live for ever.
    unsafe { Context::of(reference) }.ok_or_else(|| Error::internal("a null host reference"))
}

/// # Safety
///
/// As [`borrow`].
unsafe fn text<'a>(bytes: Bytes) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    std::str::from_utf8(unsafe { borrow(bytes) })
        .map_err(|_| Error::invalid_request("a key or name is not UTF-8"))
}

/// # Safety
///
/// `request` is null or a request whose parts are readable for the chosen lifetime.
unsafe fn http_parts<'a>(request: *const RawHttpRequest) -> Result<HttpParts<'a>> {
    // SAFETY: the caller's promise.
    let raw = unsafe { request.as_ref() }.ok_or_else(|| Error::invalid_request("no request"))?;
    if raw.struct_size < size_of::<RawHttpRequest>() {
        return Err(Error::invalid_request("the request is too short"));
    }
    // SAFETY: the caller's promise.
    let (url, headers, body, options) =
        unsafe { (text(raw.url)?, borrow(raw.headers), borrow(raw.body), borrow(raw.options)) };
    Ok(HttpParts { method: raw.method, url, headers, body, options })
}

/// As much of it as goes into the log.
pub(super) fn logged(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(LOG_SIZE_MAX)]).into_owned()
}

fn level_of(level: u32) -> tracing::Level {
    match level {
        0 | 1 => tracing::Level::ERROR,
        2 => tracing::Level::WARN,
        3 => tracing::Level::INFO,
        4 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    }
}

/// A macro of `tracing` needs its level when it is compiled.
macro_rules! at_level {
    ($level:expr, $macro:ident, $target:expr, $($argument:tt)*) => {
        match level_of($level) {
            tracing::Level::ERROR => at_level!(@ $macro, ERROR, $target, $($argument)*),
            tracing::Level::WARN => at_level!(@ $macro, WARN, $target, $($argument)*),
            tracing::Level::INFO => at_level!(@ $macro, INFO, $target, $($argument)*),
            tracing::Level::DEBUG => at_level!(@ $macro, DEBUG, $target, $($argument)*),
            _ => at_level!(@ $macro, TRACE, $target, $($argument)*),
        }
    };
    (@ enabled, $level:ident, $target:expr,) => {
        tracing::enabled!(target: $target, tracing::Level::$level)
    };
    (@ event, $level:ident, $target:expr, $($argument:tt)*) => {
        tracing::event!(target: $target, tracing::Level::$level, $($argument)*)
    };
}
use at_level;

unsafe extern "C" fn log_enabled(reference: HostRef, level: u32) -> u32 {
    quietly(0, || {
        // SAFETY: a reference of ours.
        let context = unsafe { Context::of(reference) };
        context.map_or(0, |context| u32::from(context.is_logged(level)))
    })
}

unsafe extern "C" fn log(reference: HostRef, level: u32, target: Bytes, message: Bytes) {
    quietly((), || {
        // SAFETY: lent for this call; a reference of ours.
        let (context, target, message) =
            unsafe { (Context::of(reference), borrow(target), borrow(message)) };
        let Some(context) = context else { return };
        context.log(level, &logged(target), &logged(message));
    });
}

unsafe extern "C" fn now_ns(reference: HostRef) -> i64 {
    quietly(0, || {
        // SAFETY: a reference of ours.
        unsafe { Context::of(reference) }.map_or(0, Lender::now_ns)
    })
}

unsafe extern "C" fn is_cancelled(call: *const RawCall) -> u32 {
    // SAFETY: the interface says: the call that is under way on this stack.
    unsafe { call::state_of(call) }.map_or(0, |state| u32::from(state.is_cancelled()))
}

unsafe extern "C" fn kv_get(
    reference: HostRef,
    revision: u64,
    key: Bytes,
    out: *mut raw::Buffer,
    error: *mut RawError,
) -> RawStatus {
    answer(error, || {
        // SAFETY: lent for this call; a reference of ours.
        let (context, key) = unsafe { (context(reference)?, text(key)?) };
        let value = context.kv_get(revision, key)?;
        // SAFETY: `out` is null or the caller's.
        if let Some(out) = unsafe { out.as_mut() } {
            *out = ffi::give(value);
        }
        Ok(())
    })
}

unsafe extern "C" fn kv_scan(
    reference: HostRef,
    revision: u64,
    prefix: Bytes,
    visit: VisitFn,
    visitor: *mut c_void,
    out_revision: *mut u64,
    error: *mut RawError,
) -> RawStatus {
    answer(error, || {
        // SAFETY: lent for this call; a reference of ours.
        let (context, prefix) = unsafe { (context(reference)?, text(prefix)?) };
        let (read, pairs) = context.kv_scan(revision, prefix)?;
        // SAFETY: `out_revision` is null or the caller's.
        if let Some(out) = unsafe { out_revision.as_mut() } {
            *out = read;
        }
        for (key, value) in &pairs {
            // SAFETY: the plugin's function with the plugin's visitor; key and value outlive the
            // visit.
            let ends = unsafe { visit(visitor, ffi::lend(key.as_bytes()), ffi::lend(value)) };
            if ends != 0 {
                break;
            }
        }
        Ok(())
    })
}

unsafe extern "C" fn kv_apply(
    reference: HostRef,
    revision: u64,
    edits: *const RawEdit,
    edits_len: usize,
    out_revision: *mut u64,
    error: *mut RawError,
) -> RawStatus {
    answer(error, || {
        // SAFETY: a reference of ours; `edits` holds `edits_len` edits, lent for this call.
        let (context, edits) = unsafe { (context(reference)?, kv::edits(edits, edits_len)?) };
        let written = context.kv_apply(revision, edits)?;
        // SAFETY: `out_revision` is null or the caller's.
        if let Some(out) = unsafe { out_revision.as_mut() } {
            *out = written;
        }
        Ok(())
    })
}

unsafe extern "C" fn count(reference: HostRef, metric: Bytes, by: u64) {
    quietly((), || {
        // SAFETY: lent for this call; a reference of ours.
        if let (Some(context), Ok(metric)) = unsafe { (Context::of(reference), text(metric)) } {
            context.count(metric, by);
        }
    });
}

unsafe extern "C" fn observe(reference: HostRef, metric: Bytes, value: f64) {
    quietly((), || {
        // SAFETY: lent for this call; a reference of ours.
        if let (Some(context), Ok(metric)) = unsafe { (Context::of(reference), text(metric)) } {
            context.observe(metric, value);
        }
    });
}

unsafe extern "C" fn http_send(
    reference: HostRef,
    call: *const RawCall,
    request: *const RawHttpRequest,
    response: *mut RawHttpResponse,
    error: *mut RawError,
) -> RawStatus {
    answer(error, || {
        // SAFETY: a reference of ours; call and request are lent for this call.
        let (context, state, request) =
            unsafe { (context(reference)?, call::state_of(call), http_parts(request)?) };
        let answer = context.http(state, &request)?;
        // SAFETY: `response` is null or the caller's.
        let out = unsafe { response.as_mut() }
            .ok_or_else(|| Error::invalid_request("no place for the response"))?;
        if out.struct_size < size_of::<RawHttpResponse>() {
            return Err(Error::invalid_request("the place for the response is too short"));
        }
        out.status = u32::from(answer.status);
        out.headers = ffi::give(answer.headers);
        out.body = ffi::give(answer.body);
        Ok(())
    })
}
