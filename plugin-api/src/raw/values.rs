//! Bytes, errors and the call they belong to.

use std::ffi::c_void;

use super::RawStatus;

/// Bytes lent for the length of one call, or for ever when they sit in a static.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    /// Null when absent, where that can be said.
    pub ptr: *const u8,
    /// Bytes at `ptr`.
    pub len: usize,
}

/// Bytes given away: the receiver calls `release` once, from any thread.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    /// Null when empty.
    pub ptr: *mut u8,
    /// Bytes at `ptr`.
    pub len: usize,
    /// Null when there is nothing to release.
    pub release: Option<unsafe extern "C" fn(buffer: *mut Buffer)>,
    /// The maker's own.
    pub private_data: *mut c_void,
}

/// The caller passes it zeroed; whoever fails fills it.
#[repr(C)]
#[derive(Debug)]
pub struct RawError {
    /// The same as the call returns.
    pub status: RawStatus,
    /// `ERROR_RETRYABLE`, `ERROR_SPLIT`.
    pub flags: u32,
    /// UTF-8: a lower-case fragment without a full stop.
    pub message: Buffer,
}

/// One call's surroundings; lives on the caller's stack.
#[repr(C)]
#[derive(Debug)]
pub struct RawCall {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// Scheduler time, nanoseconds since the epoch; `i64::MAX` = none.
    pub deadline_ns: i64,
    /// W3C trace context.
    pub trace_id: [u8; 16],
    /// Of the span that makes the call.
    pub span_id: [u8; 8],
    /// For `HostApi::is_cancelled`.
    pub cancel: *const c_void,
}
