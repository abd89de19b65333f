//! Calls from a plugin into its host.

use std::collections::BTreeMap;
use std::ffi::c_void;

use crate::host::KvPairs;
use crate::raw::{
    Buffer, Bytes, HostApi, HostRef, RawCall, RawEdit, RawError, RawHttpRequest, RawHttpResponse,
    RawStatus,
};
use crate::{Edit, Error, HttpRequest, HttpResponse, Result, Status};

/// A host's table and the instance's name in it.
#[derive(Clone, Copy)]
pub(crate) struct HostHandle {
    api: &'static HostApi,
    reference: HostRef,
    target: &'static str,
}

// SAFETY: the interface says that a HostApi may be called with its reference from any thread.
unsafe impl Send for HostHandle {}
// SAFETY: as above.
unsafe impl Sync for HostHandle {}

impl HostHandle {
    /// # Safety
    ///
    /// `api` is null, or a table that may be called with `reference` for as long as the handle or a
    /// copy is used.
    pub(super) unsafe fn new(
        api: *const HostApi,
        reference: HostRef,
        target: &'static str,
    ) -> Result<HostHandle> {
        // SAFETY: the caller's promise.
        let api = unsafe { api.as_ref() }
            .ok_or_else(|| Error::internal("the host passed no table of services"))?;
        if api.struct_size < size_of::<HostApi>() {
            return Err(Error::internal("the host's table of services is too short"));
        }
        Ok(HostHandle { api, reference, target })
    }

    pub(crate) fn features(&self) -> u64 {
        self.api.features
    }

    pub(crate) fn is_logged(&self, level: u32) -> bool {
        // SAFETY: as promised to `HostHandle::new`; nothing else is passed.
        unsafe { (self.api.log_enabled)(self.reference, level) != 0 }
    }

    pub(crate) fn log(&self, level: u32, message: &str) {
        let (target, message) = (lend(self.target), lend(message));
        // SAFETY: as promised to `HostHandle::new`; both texts outlive the call.
        unsafe { (self.api.log)(self.reference, level, target, message) }
    }

    pub(crate) fn now_ns(&self) -> i64 {
        // SAFETY: as promised to `HostHandle::new`.
        unsafe { (self.api.now_ns)(self.reference) }
    }

    pub(crate) fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        let mut value = Buffer::EMPTY;
        answered(|error| {
            // SAFETY: as promised to `HostHandle::new`; key, value and error outlive the call.
            unsafe { (self.api.kv_get)(self.reference, revision, lend(key), &raw mut value, error) }
        })?;
        // SAFETY: filled by the host, or still empty.
        Ok(unsafe { value.take() })
    }

    pub(crate) fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        let mut visited = Visited { pairs: Vec::new(), is_text: true };
        let visitor: *mut c_void = (&raw mut visited).cast();
        let mut found = 0;
        answered(|error| {
            // SAFETY: as promised to `HostHandle::new`; `visit` is only called with `visitor`,
            // during this call.
            unsafe {
                (self.api.kv_scan)(
                    self.reference,
                    revision,
                    lend(prefix),
                    visit,
                    visitor,
                    &raw mut found,
                    error,
                )
            }
        })?;
        if visited.is_text { Ok((found, visited.pairs)) } else { Err(key_is_no_text()) }
    }

    pub(crate) fn kv_apply(&self, revision: u64, edits: &[Edit]) -> Result<u64> {
        let raw: Vec<RawEdit> = edits
            .iter()
            .map(|edit| RawEdit {
                key: lend(&edit.key),
                value: edit.value.as_ref().map_or(Bytes::NULL, |value| Bytes::lend(value)),
            })
            .collect();
        let mut written = 0;
        answered(|error| {
            // SAFETY: as promised to `HostHandle::new`; the edits outlive the call. An empty value
            // is not null: an empty Vec's pointer is dangling, never null.
            unsafe {
                (self.api.kv_apply)(
                    self.reference,
                    revision,
                    raw.as_ptr(),
                    raw.len(),
                    &raw mut written,
                    error,
                )
            }
        })?;
        Ok(written)
    }

    pub(crate) fn count(&self, metric: &str, by: u64) {
        // SAFETY: as promised to `HostHandle::new`; the text outlives the call.
        unsafe { (self.api.count)(self.reference, lend(metric), by) }
    }

    pub(crate) fn observe(&self, metric: &str, value: f64) {
        // SAFETY: as promised to `HostHandle::new`; the text outlives the call.
        unsafe { (self.api.observe)(self.reference, lend(metric), value) }
    }

    pub(crate) fn http(&self, call: &CallHandle, request: &HttpRequest) -> Result<HttpResponse> {
        let send = self
            .api
            .http_send
            .ok_or_else(|| Error::new(Status::Unsupported, "the daemon has no HTTP service"))?;
        let headers = json(&request.headers)?;
        let options = json(&request.options)?;
        let raw = RawHttpRequest {
            struct_size: size_of::<RawHttpRequest>(),
            method: request.method as u32,
            reserved: 0,
            url: lend(&request.url),
            headers: Bytes::lend(&headers),
            body: Bytes::lend(&request.body),
            options: Bytes::lend(&options),
        };
        let mut response = RawHttpResponse {
            struct_size: size_of::<RawHttpResponse>(),
            status: 0,
            reserved: 0,
            headers: Buffer::EMPTY,
            body: Buffer::EMPTY,
        };
        answered(|error| {
            // SAFETY: as promised to `HostHandle::new`; request, response and error outlive the
            // call.
            unsafe { send(self.reference, call.raw, &raw const raw, &raw mut response, error) }
        })?;
        // SAFETY: filled by the host, or still empty.
        let (headers, body) = unsafe { (response.headers.take(), response.body.take()) };
        let headers: BTreeMap<String, String> = if headers.is_empty() {
            BTreeMap::new()
        } else {
            serde_json::from_slice(&headers)
                .map_err(|error| Error::internal(format!("headers from the host: {error}")))?
        };
        let status = u16::try_from(response.status)
            .map_err(|_| Error::internal("an HTTP status out of range from the host"))?;
        Ok(HttpResponse { status, headers, body })
    }
}

fn lend(text: &str) -> Bytes {
    Bytes::lend(text.as_bytes())
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))
}

fn key_is_no_text() -> Error {
    Error::bad_data("a key is not UTF-8")
}

/// Calls, and turns the answer into a result.
fn answered(call: impl FnOnce(*mut RawError) -> RawStatus) -> Result<()> {
    let mut error = RawError::EMPTY;
    let status = call(&raw mut error);
    // SAFETY: filled by the host, or still empty.
    let error = unsafe { error.take(status) };
    if status == Status::Ok as RawStatus { Ok(()) } else { Err(error) }
}

struct Visited {
    pairs: KvPairs,
    is_text: bool,
}

unsafe extern "C" fn visit(visitor: *mut c_void, key: Bytes, value: Bytes) -> u32 {
    let mut ends = 1;
    super::guard::guard_quietly(|| {
        // SAFETY: `visitor` is the `Visited` of the `kv_scan` under way; key and value are lent for
        // this call.
        let (visited, key, value) =
            unsafe { (&mut *visitor.cast::<Visited>(), key.as_text(), value.as_slice()) };
        match key {
            Ok(key) => {
                visited.pairs.push((key.to_owned(), value.to_vec()));
                ends = 0;
            }
            Err(_) => visited.is_text = false,
        }
    });
    ends
}

/// The host's view of the call under way.
#[derive(Debug)]
pub(crate) struct CallHandle {
    raw: *const RawCall,
    is_cancelled: Option<unsafe extern "C" fn(*const RawCall) -> u32>,
}

// SAFETY: a RawCall is read-only during the call, and the interface says that `is_cancelled` may be
// asked from any thread. A `Call` is only lent to authors, so none outlives it.
unsafe impl Send for CallHandle {}
// SAFETY: as above.
unsafe impl Sync for CallHandle {}

impl CallHandle {
    /// # Safety
    ///
    /// `raw` is null, or valid and understood by `host` for as long as the handle is used.
    pub(super) unsafe fn new(raw: *const RawCall, host: &HostHandle) -> CallHandle {
        CallHandle { raw, is_cancelled: (!raw.is_null()).then_some(host.api.is_cancelled) }
    }

    fn get(&self) -> Option<&RawCall> {
        // SAFETY: as promised to `CallHandle::new`.
        unsafe { self.raw.as_ref() }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        // SAFETY: as promised to `CallHandle::new`.
        self.is_cancelled.is_some_and(|ask| unsafe { ask(self.raw) != 0 })
    }

    pub(crate) fn deadline_ns(&self) -> i64 {
        self.get().map_or(i64::MAX, |call| call.deadline_ns)
    }

    pub(crate) fn trace(&self) -> ([u8; 16], [u8; 8]) {
        self.get().map_or(([0; 16], [0; 8]), |call| (call.trace_id, call.span_id))
    }
}
