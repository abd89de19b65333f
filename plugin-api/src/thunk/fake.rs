//! The table of the host in memory.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock};

use super::component::{OK, null};
use super::guard::{guard, guard_quietly};
use crate::raw::{
    ABI_MINOR, Buffer, Bytes, FEATURE_HTTP, FEATURE_KV, HostApi, HostRef, RawCall, RawEdit,
    RawError, RawHttpRequest, RawHttpResponse, RawStatus, VisitFn,
};
use crate::testing::{Cancellation, FakeHost, Shared};
use crate::{Edit, Error, HttpOptions, HttpRequest, Level, Method, Result};

pub(crate) static FAKE_API: HostApi = HostApi {
    struct_size: size_of::<HostApi>(),
    abi_minor: ABI_MINOR as u32,
    reserved: 0,
    features: FEATURE_KV | FEATURE_HTTP,
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

/// The host that libraries are started with: their panic hooks keep it for ever.
pub(crate) static START_HOST: LazyLock<FakeHost> = LazyLock::new(FakeHost::new);

/// Names `host` in [`FAKE_API`]; usable for as long as a clone of it is alive.
pub(crate) fn reference(host: &FakeHost) -> HostRef {
    Arc::as_ptr(host.shared()).cast()
}

/// # Safety
///
/// `host` came from [`reference`] and its host is alive for as long as `'a`.
unsafe fn shared<'a>(host: HostRef) -> &'a Shared {
    // SAFETY: the caller's promise.
    unsafe { &*host.cast::<Shared>() }
}

unsafe extern "C" fn log_enabled(_: HostRef, _: u32) -> u32 {
    1
}

unsafe extern "C" fn log(host: HostRef, level: u32, target: Bytes, message: Bytes) {
    guard_quietly(|| {
        // SAFETY: as for every function of the table: `host` is ours, the rest is lent for this
        // call.
        let (shared, target, message) =
            unsafe { (shared(host), target.as_slice(), message.as_slice()) };
        shared.log(
            Level::from_raw(level),
            &String::from_utf8_lossy(target),
            &String::from_utf8_lossy(message),
        );
    });
}

unsafe extern "C" fn now_ns(host: HostRef) -> i64 {
    // SAFETY: as in `log`.
    unsafe { shared(host) }.now_ns()
}

unsafe extern "C" fn is_cancelled(call: *const RawCall) -> u32 {
    // SAFETY: a call is one that the driver made; its `cancel` is null or the host's.
    let cancellation =
        unsafe { call.as_ref().and_then(|call| call.cancel.cast::<Cancellation>().as_ref()) };
    u32::from(cancellation.is_some_and(Cancellation::ask))
}

unsafe extern "C" fn kv_get(
    host: HostRef,
    revision: u64,
    key: Bytes,
    out: *mut Buffer,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: as in `log`.
        let value = unsafe { shared(host).kv_get(revision, key.as_text()?) }?;
        // SAFETY: the plugin passes a place for the value.
        unsafe { out.write(Buffer::from_vec(value)) };
        Ok(OK)
    })
}

unsafe extern "C" fn kv_scan(
    host: HostRef,
    revision: u64,
    prefix: Bytes,
    visit: VisitFn,
    visitor: *mut c_void,
    out_revision: *mut u64,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: as in `log`.
        let (found, pairs) = unsafe { shared(host).kv_scan(revision, prefix.as_text()?) };
        for (key, value) in &pairs {
            // SAFETY: the plugin's own function with its own pointer, key and value lent for the
            // call.
            let ends =
                unsafe { visit(visitor, Bytes::lend(key.as_bytes()), Bytes::lend(value)) } != 0;
            if ends {
                break;
            }
        }
        // SAFETY: the plugin passes a place for the revision.
        unsafe { *out_revision = found };
        Ok(OK)
    })
}

unsafe extern "C" fn kv_apply(
    host: HostRef,
    revision: u64,
    edits: *const RawEdit,
    edits_len: usize,
    out_revision: *mut u64,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        let raw: &[RawEdit] = if edits_len == 0 || edits.is_null() {
            &[]
        } else {
            // SAFETY: the plugin lends `edits_len` edits for this call.
            unsafe { std::slice::from_raw_parts(edits, edits_len) }
        };
        let edits = raw
            .iter()
            .map(|edit| {
                // SAFETY: lent for this call.
                let (key, value) = unsafe { (edit.key.as_text()?, edit.value.as_slice()) };
                let value = (!edit.value.ptr.is_null()).then(|| value.to_vec());
                Ok(Edit { key: key.to_owned(), value })
            })
            .collect::<Result<Vec<Edit>>>()?;
        // SAFETY: as in `log`; the plugin passes a place for the revision.
        unsafe { *out_revision = shared(host).kv_apply(revision, edits)? };
        Ok(OK)
    })
}

unsafe extern "C" fn count(host: HostRef, metric: Bytes, by: u64) {
    guard_quietly(|| {
        // SAFETY: as in `log`.
        let (shared, metric) = unsafe { (shared(host), metric.as_slice()) };
        shared.count(&String::from_utf8_lossy(metric), by);
    });
}

unsafe extern "C" fn observe(host: HostRef, metric: Bytes, value: f64) {
    guard_quietly(|| {
        // SAFETY: as in `log`.
        let (shared, metric) = unsafe { (shared(host), metric.as_slice()) };
        shared.observe(&String::from_utf8_lossy(metric), value);
    });
}

unsafe extern "C" fn http_send(
    host: HostRef,
    _: *const RawCall,
    request: *const RawHttpRequest,
    response: *mut RawHttpResponse,
    error: *mut RawError,
) -> RawStatus {
    guard(error, || {
        // SAFETY: as in `log`.
        let (shared, request) = unsafe {
            (shared(host), http_request(request.as_ref().ok_or_else(|| null("request"))?)?)
        };
        let answer = shared.http(&request)?;
        let headers = serde_json::to_vec(&answer.headers)
            .map_err(|error| Error::internal(error.to_string()))?;
        // SAFETY: the plugin passes a response of its own, zeroed but for `struct_size`.
        let response = unsafe { response.as_mut() }.ok_or_else(|| null("response"))?;
        response.status = u32::from(answer.status);
        response.headers = Buffer::from_vec(headers);
        response.body = Buffer::from_vec(answer.body);
        Ok(OK)
    })
}

/// # Safety
///
/// Everything `raw` points at is valid during this call.
unsafe fn http_request(raw: &RawHttpRequest) -> Result<HttpRequest> {
    // SAFETY: the caller's promise.
    let (url, headers, body, options) = unsafe {
        (raw.url.as_text()?, raw.headers.as_slice(), raw.body.as_slice(), raw.options.as_slice())
    };
    let invalid = |error: serde_json::Error| Error::invalid_request(error.to_string());
    Ok(HttpRequest {
        method: Method::from_raw(raw.method)
            .ok_or_else(|| Error::invalid_request("no such method"))?,
        url: url.to_owned(),
        headers: match headers {
            [] => BTreeMap::new(),
            headers => serde_json::from_slice(headers).map_err(invalid)?,
        },
        body: body.to_vec(),
        options: match options {
            [] => HttpOptions::default(),
            options => serde_json::from_slice(options).map_err(invalid)?,
        },
    })
}
