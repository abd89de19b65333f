//! The C interface between the daemon and a plugin, version 1.0.
//!
//! Everything here is `#[repr(C)]` and stable for the whole major version: fields are appended,
//! never moved or changed. The C header `include/rated_plugin.h` is generated from this file.
//! Authors of Rust plugins use the safe traits of this crate instead and never name anything in
//! here.
//!
//! Ownership: what is lent ([`Bytes`], [`RawCall`], requests) is valid until the call returns; what
//! is given ([`Buffer`], Arrow structs, [`RawBatches`]) carries its own `release`, which its holder
//! calls exactly once.

#![expect(unsafe_code, reason = "what a table points at may be shared between threads")]

use std::ffi::c_void;

pub use arrow_data::ffi::FFI_ArrowArray;
pub use arrow_schema::ffi::FFI_ArrowSchema;

pub use crate::thunk::arrow::{export_rows, export_schema, import_rows, import_schema};

/// The bytes `RATEDPLG` read as a little-endian integer.
pub const MAGIC: u64 = 0x474c_5044_4554_4152;
/// Must be equal on both sides.
pub const ABI_MAJOR: u16 = 1;
/// How many appended fields the plugin may use; a daemon loads every plugin whose minor is not
/// above its own.
pub const ABI_MINOR: u16 = 0;

/// [`PluginDecl::flags`]: built so that a panic unwinds (required; the guard cannot work without
/// it).
pub const FLAG_UNWINDS: u64 = 1;

/// [`HostApi::features`] and [`PluginDecl::features_required`]: the key-value service.
pub const FEATURE_KV: u64 = 1;
/// [`HostApi::features`] and [`PluginDecl::features_required`]: the HTTP service.
pub const FEATURE_HTTP: u64 = 2;

/// [`ComponentDecl::kind`]: the vtable is a [`CollectorVTable`].
pub const KIND_COLLECTOR: u32 = 1;
/// [`ComponentDecl::kind`]: the vtable is a [`FetcherVTable`].
pub const KIND_FETCHER: u32 = 2;
/// [`ComponentDecl::kind`]: the vtable is a [`RatingVTable`].
pub const KIND_RATING: u32 = 3;

/// [`ComponentDecl::flags`]: the host never makes two calls on one instance at a time.
pub const COMPONENT_SERIAL: u32 = 1;
/// [`ComponentDecl::flags`] of a rating module: its rules can be changed while it runs
/// (`hot-config` of the API).
pub const COMPONENT_HOT_CONFIG: u32 = 2;
/// [`ComponentDecl::flags`] of a rating module: always enabled, priority 1; the API can change
/// neither.
pub const COMPONENT_ALWAYS_ON: u32 = 4;

/// The kind of an outcome: one of the `STATUS_` constants.
pub type RawStatus = u32;

/// [`RawStatus`]: as asked.
pub const STATUS_OK: u32 = 0;
/// [`RawStatus`]: the configuration cannot work; the component is refused.
pub const STATUS_INVALID_CONFIG: u32 = 1;
/// [`RawStatus`]: the request cannot be answered as it stands.
pub const STATUS_INVALID_REQUEST: u32 = 2;
/// [`RawStatus`]: not there; of a collector: this past is lost for ever.
pub const STATUS_NOT_FOUND: u32 = 3;
/// [`RawStatus`]: something else was changed meanwhile.
pub const STATUS_CONFLICT: u32 = 4;
/// [`RawStatus`]: the source does not answer; tried again.
pub const STATUS_UNAVAILABLE: u32 = 5;
/// [`RawStatus`]: the source does not answer in time; tried again.
pub const STATUS_TIMEOUT: u32 = 6;
/// [`RawStatus`]: the caller no longer wants it.
pub const STATUS_CANCELLED: u32 = 7;
/// [`RawStatus`]: the source or the caller lacks the right.
pub const STATUS_UNAUTHORIZED: u32 = 8;
/// [`RawStatus`]: what the source answered makes no sense.
pub const STATUS_BAD_DATA: u32 = 9;
/// [`RawStatus`]: never will be possible; not asked again.
pub const STATUS_UNSUPPORTED: u32 = 10;
/// [`RawStatus`]: the plugin's own mistake.
pub const STATUS_INTERNAL: u32 = 11;
/// [`RawStatus`]: the plugin panicked; the instance is abandoned.
pub const STATUS_PANIC: u32 = 12;
/// [`RawStatus`]: of [`RawBatches::next`]: there is no further batch.
pub const STATUS_END: u32 = 13;

/// [`RawError::flags`]: the same call may succeed later.
pub const ERROR_RETRYABLE: u32 = 1;
/// [`RawError::flags`]: the same rows in smaller batches may succeed (a decimal column cannot hold
/// all of them).
pub const ERROR_SPLIT: u32 = 2;

/// Bytes lent for the length of one call, or for ever when they sit in a static.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Bytes {
    pub ptr: *const u8,
    pub len: usize,
}

/// Bytes given away: the receiver calls `release` once, from any thread.
#[repr(C)]
#[derive(Debug)]
pub struct Buffer {
    pub ptr: *mut u8,
    pub len: usize,
    pub release: Option<unsafe extern "C" fn(*mut Buffer)>,
    pub private_data: *mut c_void,
}

/// The caller passes it zeroed; whoever fails fills it.
#[repr(C)]
#[derive(Debug)]
pub struct RawError {
    pub status: RawStatus,
    pub flags: u32,
    pub message: Buffer,
}

/// One call's surroundings; lives on the caller's stack.
#[repr(C)]
#[derive(Debug)]
pub struct RawCall {
    pub struct_size: usize,
    /// Scheduler time, nanoseconds since the epoch; `i64::MAX` = none.
    pub deadline_ns: i64,
    /// W3C trace context.
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    /// For [`HostApi::is_cancelled`].
    pub cancel: *const c_void,
}

/// What `rated_plugin_entry` returns; a static.
#[repr(C)]
#[derive(Debug)]
pub struct PluginDecl {
    pub magic: u64,
    pub struct_size: u32,
    pub abi_major: u16,
    pub abi_minor: u16,
    pub features_required: u64,
    pub flags: u64,
    pub name: Bytes,
    pub version: Bytes,
    /// Compiler and interface crate, for people: `rustc 1.95.0, rated-plugin 0.1.0`.
    pub built_with: Bytes,
    /// Pointers, so that [`ComponentDecl`] may grow.
    pub components: *const *const ComponentDecl,
    pub components_len: usize,
    /// Connects the plugin's log and panic hook to the host; called once for each loaded copy.
    pub start: unsafe extern "C" fn(*const HostApi, HostRef) -> RawStatus,
}

// SAFETY: a PluginDecl is read-only, and everything it points at is static and read-only too;
// whoever makes one promises that (the export macro does; a C plugin's declarations are `const`).
unsafe impl Sync for PluginDecl {}
// SAFETY: as above.
unsafe impl Sync for ComponentDecl {}

/// One collector, fetcher or rating module of a plugin; a static.
#[repr(C)]
#[derive(Debug)]
pub struct ComponentDecl {
    pub struct_size: usize,
    pub kind: u32,
    pub flags: u32,
    /// `[a-z][a-z0-9-]{0,31}`, unique in the daemon for each kind.
    pub name: Bytes,
    /// One sentence for people; the `description` of the API.
    pub summary: Bytes,
    /// TOML: the keys of the component's configuration table.
    pub sample_config: Bytes,
    /// JSON Schema of the configuration; may be empty.
    pub config_schema: Bytes,
    /// `OpenAPI` `paths` object (JSON) that `handle` serves, relative to the module; empty = serves
    /// nothing.
    pub api_schema: Bytes,
    pub vtable: *const c_void,
}

/// Makes an instance from its configuration (JSON). Opens no connection.
pub type CreateFn = unsafe extern "C" fn(
    *const HostApi,
    HostRef,
    config_json: Bytes,
    out: *mut *mut c_void,
    *mut RawError,
) -> RawStatus;
/// Ends an instance or a rater; the pointer is never used again.
pub type DestroyFn = unsafe extern "C" fn(*mut c_void);
/// Does the outside world answer?
pub type CheckFn = unsafe extern "C" fn(*const c_void, *const RawCall, *mut RawError) -> RawStatus;

#[repr(C)]
#[derive(Debug)]
pub struct CollectorVTable {
    pub struct_size: usize,
    pub create: CreateFn,
    pub destroy: DestroyFn,
    pub check: CheckFn,
    pub collect: unsafe extern "C" fn(
        *const c_void,
        *const RawCall,
        *const RawCollect,
        out: *mut RawBatches,
        *mut RawError,
    ) -> RawStatus,
}

#[repr(C)]
#[derive(Debug)]
pub struct FetcherVTable {
    pub struct_size: usize,
    pub create: CreateFn,
    pub destroy: DestroyFn,
    pub check: CheckFn,
    pub scopes: unsafe extern "C" fn(
        *const c_void,
        *const RawCall,
        out: *mut RawBatches,
        *mut RawError,
    ) -> RawStatus,
}

#[repr(C)]
#[derive(Debug)]
pub struct RatingVTable {
    pub struct_size: usize,
    pub create: CreateFn,
    pub destroy: DestroyFn,
    pub check: CheckFn,
    /// An immutable snapshot: the rules in force at `as_of_ns` (the begin of the period rated), as
    /// they were known at `revision` of the instance's key-value data (`u64::MAX` = now).
    pub prepare: unsafe extern "C" fn(
        *const c_void,
        *const RawCall,
        as_of_ns: i64,
        revision: u64,
        out_rater: *mut *mut c_void,
        *mut RawError,
    ) -> RawStatus,
    pub release_rater: DestroyFn,
    /// Moves the two input structs in, whatever the outcome; on OK writes the two output structs.
    pub rate: unsafe extern "C" fn(
        rater: *const c_void,
        *const RawCall,
        *const RawRate,
        array: *mut FFI_ArrowArray,
        schema: *mut FFI_ArrowSchema,
        out_array: *mut FFI_ArrowArray,
        out_schema: *mut FFI_ArrowSchema,
        *mut RawError,
    ) -> RawStatus,
    pub handle: unsafe extern "C" fn(
        *const c_void,
        *const RawCall,
        *const RawRequest,
        *mut RawResponse,
        *mut RawError,
    ) -> RawStatus,
}

/// Batches pulled one at a time; unlike `ArrowArrayStream` it keeps the whole error.
#[repr(C)]
#[derive(Debug)]
pub struct RawBatches {
    pub schema: Option<
        unsafe extern "C" fn(*mut RawBatches, *mut FFI_ArrowSchema, *mut RawError) -> RawStatus,
    >,
    /// OK with a batch, or END.
    pub next: Option<
        unsafe extern "C" fn(
            *mut RawBatches,
            *const RawCall,
            *mut FFI_ArrowArray,
            *mut RawError,
        ) -> RawStatus,
    >,
    pub release: Option<unsafe extern "C" fn(*mut RawBatches)>,
    pub private_data: *mut c_void,
}

/// One metric of one period for many scopes: the source is asked once, the batch's `scope_id`
/// column tells rows apart.
#[repr(C)]
#[derive(Debug)]
pub struct RawCollect {
    pub struct_size: usize,
    /// JSON: the metric's whole definition, `extra_args` included.
    pub metric: Bytes,
    pub scope_key: Bytes,
    pub scopes: *const Bytes,
    /// 0 = every scope.
    pub scopes_len: usize,
    pub begin_ns: i64,
    pub end_ns: i64,
}

#[repr(C)]
#[derive(Debug)]
pub struct RawRate {
    pub struct_size: usize,
    /// 0 period, 1 quote, 2 replay.
    pub purpose: u32,
    pub reserved: u32,
    /// The metric type rated, `alt_name` applied.
    pub metric: Bytes,
    pub begin_ns: i64,
    pub end_ns: i64,
}

/// A REST call passed on to a rating module.
#[repr(C)]
#[derive(Debug)]
pub struct RawRequest {
    pub struct_size: usize,
    /// 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 PATCH.
    pub method: u32,
    pub reserved: u32,
    /// Below the module's name, percent-decoded, with a leading slash and no trailing one:
    /// `/mappings/<id>`.
    pub path: Bytes,
    /// As the client sent it, still percent-encoded, without the question mark.
    pub query: Bytes,
    pub content_type: Bytes,
    pub body: Bytes,
    /// JSON: `{"user_id", "scope_id", "roles", "is_admin"}`; never a token.
    pub principal: Bytes,
}

#[repr(C)]
#[derive(Debug)]
pub struct RawResponse {
    pub struct_size: usize,
    /// An HTTP status, 200 to 599.
    pub status: u32,
    pub reserved: u32,
    pub content_type: Buffer,
    /// The `Location` header, relative to the module (`/mappings/<id>`); empty = none.
    pub location: Buffer,
    pub body: Buffer,
}

/// A request that the host sends for a plugin.
#[repr(C)]
#[derive(Debug)]
pub struct RawHttpRequest {
    pub struct_size: usize,
    /// As in [`RawRequest::method`].
    pub method: u32,
    pub reserved: u32,
    /// Absolute, `http` or `https`.
    pub url: Bytes,
    /// JSON object of header names to values.
    pub headers: Bytes,
    pub body: Bytes,
    /// JSON: see [`crate::HttpOptions`]; empty = defaults.
    pub options: Bytes,
}

#[repr(C)]
#[derive(Debug)]
pub struct RawHttpResponse {
    pub struct_size: usize,
    pub status: u32,
    pub reserved: u32,
    /// JSON object of lower-case header names to values.
    pub headers: Buffer,
    /// Decompressed.
    pub body: Buffer,
}

/// One change to the instance's own keys; a null `value.ptr` removes the key.
#[repr(C)]
#[derive(Debug)]
pub struct RawEdit {
    pub key: Bytes,
    pub value: Bytes,
}

/// Names the instance to the host: its keys, its log target, its labels.
pub type HostRef = *const c_void;

/// Called for each key of a scan, in key order; any answer but 0 ends the scan.
pub type VisitFn = unsafe extern "C" fn(*mut c_void, key: Bytes, value: Bytes) -> u32;

/// What the host lends to every instance. Callable from any thread until the instance is destroyed.
#[repr(C)]
#[derive(Debug)]
pub struct HostApi {
    pub struct_size: usize,
    pub abi_minor: u32,
    pub reserved: u32,
    pub features: u64,
    /// Levels: 1 error, 2 warn, 3 info, 4 debug, 5 trace.
    pub log_enabled: unsafe extern "C" fn(HostRef, level: u32) -> u32,
    pub log: unsafe extern "C" fn(HostRef, level: u32, target: Bytes, message: Bytes),
    /// The scheduler's clock, nanoseconds since the epoch: tests drive it.
    pub now_ns: unsafe extern "C" fn(HostRef) -> i64,
    pub is_cancelled: unsafe extern "C" fn(*const RawCall) -> u32,
    /// The value of a key as it was at `revision` (`u64::MAX` = now), or `NOT_FOUND`.
    pub kv_get: unsafe extern "C" fn(
        HostRef,
        revision: u64,
        key: Bytes,
        out: *mut Buffer,
        *mut RawError,
    ) -> RawStatus,
    /// All keys with a prefix as they were at `revision` (`u64::MAX` = now), in key order, from one
    /// snapshot; `out_revision` is the revision read.
    pub kv_scan: unsafe extern "C" fn(
        HostRef,
        revision: u64,
        prefix: Bytes,
        visit: VisitFn,
        visitor: *mut c_void,
        out_revision: *mut u64,
        *mut RawError,
    ) -> RawStatus,
    /// All edits, durably, if the data is still at `revision`; else none and `CONFLICT`.
    pub kv_apply: unsafe extern "C" fn(
        HostRef,
        revision: u64,
        edits: *const RawEdit,
        edits_len: usize,
        out_revision: *mut u64,
        *mut RawError,
    ) -> RawStatus,
    /// Adds to a counter of the daemon's `/metrics`, labelled with the instance.
    pub count: unsafe extern "C" fn(HostRef, metric: Bytes, by: u64),
    /// Adds a value to a histogram of the daemon's `/metrics`, labelled with the instance.
    pub observe: unsafe extern "C" fn(HostRef, metric: Bytes, value: f64),
    /// Null when the host has no HTTP service.
    pub http_send: Option<
        unsafe extern "C" fn(
            HostRef,
            *const RawCall,
            *const RawHttpRequest,
            *mut RawHttpResponse,
            *mut RawError,
        ) -> RawStatus,
    >,
}

/// The entry symbol's name and type.
pub const ENTRY_SYMBOL: &str = "rated_plugin_entry";
pub type EntryFn = unsafe extern "C" fn() -> *const PluginDecl;
