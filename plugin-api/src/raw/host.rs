//! What the host lends.

use std::ffi::c_void;

use super::{
    Buffer, Bytes, RawCall, RawEdit, RawError, RawHttpRequest, RawHttpResponse, RawStatus,
};

/// Names the instance to the host: its keys, its log target, its labels.
pub type HostRef = *const c_void;

/// Called for each key of a scan, in key order; any answer but 0 ends the scan.
pub type VisitFn = unsafe extern "C" fn(visitor: *mut c_void, key: Bytes, value: Bytes) -> u32;

/// What the host lends to every instance. Callable from any thread until the instance is destroyed.
#[repr(C)]
#[derive(Debug)]
pub struct HostApi {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// The host's minor version.
    pub abi_minor: u32,
    /// 0.
    pub reserved: u32,
    /// The services that are there: `FEATURE_KV`, `FEATURE_HTTP`.
    pub features: u64,
    /// Levels: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub log_enabled: unsafe extern "C" fn(host: HostRef, level: u32) -> u32,
    /// `target` is the component's name.
    pub log: unsafe extern "C" fn(host: HostRef, level: u32, target: Bytes, message: Bytes),
    /// The scheduler's clock, nanoseconds since the epoch: tests drive it.
    pub now_ns: unsafe extern "C" fn(host: HostRef) -> i64,
    /// Not 0 when the answer is no longer wanted; an atomic load.
    pub is_cancelled: unsafe extern "C" fn(call: *const RawCall) -> u32,
    /// The value of a key as it was at `revision` (`u64::MAX` = now), or `NOT_FOUND`.
    pub kv_get: unsafe extern "C" fn(
        host: HostRef,
        revision: u64,
        key: Bytes,
        out: *mut Buffer,
        error: *mut RawError,
    ) -> RawStatus,
    /// All keys with a prefix as they were at `revision` (`u64::MAX` = now), in key order, from one
    /// snapshot; `out_revision` is the revision read.
    pub kv_scan: unsafe extern "C" fn(
        host: HostRef,
        revision: u64,
        prefix: Bytes,
        visit: VisitFn,
        visitor: *mut c_void,
        out_revision: *mut u64,
        error: *mut RawError,
    ) -> RawStatus,
    /// All edits, durably, if the data is still at `revision`; else none and `CONFLICT`.
    pub kv_apply: unsafe extern "C" fn(
        host: HostRef,
        revision: u64,
        edits: *const RawEdit,
        edits_len: usize,
        out_revision: *mut u64,
        error: *mut RawError,
    ) -> RawStatus,
    /// Adds to a counter of the daemon's `/metrics`, labelled with the instance.
    pub count: unsafe extern "C" fn(host: HostRef, metric: Bytes, by: u64),
    /// Adds a value to a histogram of the daemon's `/metrics`, labelled with the instance.
    pub observe: unsafe extern "C" fn(host: HostRef, metric: Bytes, value: f64),
    /// Null when the host has no HTTP service.
    pub http_send: Option<
        unsafe extern "C" fn(
            host: HostRef,
            call: *const RawCall,
            request: *const RawHttpRequest,
            response: *mut RawHttpResponse,
            error: *mut RawError,
        ) -> RawStatus,
    >,
}
