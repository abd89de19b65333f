//! The functions of a component.

use std::ffi::c_void;

use super::{
    Buffer, Bytes, FFI_ArrowArray, FFI_ArrowSchema, HostApi, HostRef, RawCall, RawCollect,
    RawError, RawRate, RawRequest, RawResponse, RawStatus,
};

/// Makes an instance from its configuration (JSON). Opens no connection.
pub type CreateFn = unsafe extern "C" fn(
    api: *const HostApi,
    host: HostRef,
    config_json: Bytes,
    out: *mut *mut c_void,
    error: *mut RawError,
) -> RawStatus;
/// Ends an instance or a rater; the pointer is never used again.
pub type DestroyFn = unsafe extern "C" fn(pointer: *mut c_void);
/// Does the outside world answer?
pub type CheckFn = unsafe extern "C" fn(
    instance: *const c_void,
    call: *const RawCall,
    error: *mut RawError,
) -> RawStatus;

/// The table of a collector.
#[repr(C)]
#[derive(Debug)]
pub struct CollectorVTable {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// Makes an instance; on OK writes it.
    pub create: CreateFn,
    /// Ends an instance; after its raters and batches.
    pub destroy: DestroyFn,
    /// Asks whether the outside world answers.
    pub check: CheckFn,
    /// Measures; on OK writes the batches, of schema `usage/1`.
    pub collect: unsafe extern "C" fn(
        instance: *const c_void,
        call: *const RawCall,
        request: *const RawCollect,
        out: *mut RawBatches,
        error: *mut RawError,
    ) -> RawStatus,
}

/// The table of a fetcher.
#[repr(C)]
#[derive(Debug)]
pub struct FetcherVTable {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// Makes an instance; on OK writes it.
    pub create: CreateFn,
    /// Ends an instance; after its raters and batches.
    pub destroy: DestroyFn,
    /// Asks whether the outside world answers.
    pub check: CheckFn,
    /// Finds the scopes; on OK writes the batches, of schema `scopes/1`.
    pub scopes: unsafe extern "C" fn(
        instance: *const c_void,
        call: *const RawCall,
        out: *mut RawBatches,
        error: *mut RawError,
    ) -> RawStatus,
}

/// The table of a rating module.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct RatingVTable {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// Makes an instance; on OK writes it.
    pub create: CreateFn,
    /// Ends an instance; after its raters and batches.
    pub destroy: DestroyFn,
    /// Asks whether the outside world answers.
    pub check: CheckFn,
    /// An immutable snapshot: the rules in force at `as_of_ns` (the begin of the period rated), as
    /// they were known at `revision` of the instance's key-value data (`u64::MAX` = now).
    pub prepare: unsafe extern "C" fn(
        instance: *const c_void,
        call: *const RawCall,
        as_of_ns: i64,
        revision: u64,
        out_rater: *mut *mut c_void,
        error: *mut RawError,
    ) -> RawStatus,
    /// Ends a rater; before its instance.
    pub release_rater: DestroyFn,
    /// Moves the two input structs in, whatever the outcome; on OK writes the two output structs.
    pub rate: unsafe extern "C" fn(
        rater: *const c_void,
        call: *const RawCall,
        request: *const RawRate,
        array: *mut FFI_ArrowArray,
        schema: *mut FFI_ArrowSchema,
        out_array: *mut FFI_ArrowArray,
        out_schema: *mut FFI_ArrowSchema,
        error: *mut RawError,
    ) -> RawStatus,
    /// Answers a REST call; on OK has filled the response.
    pub handle: unsafe extern "C" fn(
        instance: *const c_void,
        call: *const RawCall,
        request: *const RawRequest,
        response: *mut RawResponse,
        error: *mut RawError,
    ) -> RawStatus,
    /// Since 1.1; null = gives no reasons. How `rate` comes to the prices of `rows` rows from
    /// `first_row` on. Moves the two input structs in as `rate` does; on OK fills the buffer, which
    /// has its own `release`, with JSON, UTF-8: `{"rows": [[step, ...], ...]}`, as many lists as
    /// `rows`, with `step` = `{"sets": name, "operation": "take" | "add" | "multiply" | "max",
    /// "operands": [operand, ...], "result": decimal}`. An operand is `{"name": name, "value":
    /// decimal}` for a number that is set already, `{"rule": {"kind": text, "id": text, any: text,
    /// ...}, "value": decimal}` for one that a rule says, `{"value": decimal}` for any other.
    /// Decimals are texts ("0.25"); the numbers `qty` and `price` (so far) are set before the first
    /// step, after the last one `price` is the row's price. `Unsupported` = no reasons for these
    /// rows. It is called on an instance of its own, never on the one that rates for bills, and can
    /// change no keys.
    pub explain: Option<
        unsafe extern "C" fn(
            rater: *const c_void,
            call: *const RawCall,
            request: *const RawRate,
            array: *mut FFI_ArrowArray,
            schema: *mut FFI_ArrowSchema,
            first_row: usize,
            rows: usize,
            out_json: *mut Buffer,
            error: *mut RawError,
        ) -> RawStatus,
    >,
}

impl RatingVTable {
    /// Its size in 1.0, which ends before `explain`.
    pub const SIZE_MIN: usize = std::mem::offset_of!(RatingVTable, explain);
}

/// Batches pulled one at a time; unlike `ArrowArrayStream` it keeps the whole error.
#[repr(C)]
#[derive(Debug)]
pub struct RawBatches {
    /// The schema of every batch; asked once, before the first batch.
    pub schema: Option<
        unsafe extern "C" fn(
            batches: *mut RawBatches,
            out: *mut FFI_ArrowSchema,
            error: *mut RawError,
        ) -> RawStatus,
    >,
    /// OK with a batch, or END.
    pub next: Option<
        unsafe extern "C" fn(
            batches: *mut RawBatches,
            call: *const RawCall,
            out: *mut FFI_ArrowArray,
            error: *mut RawError,
        ) -> RawStatus,
    >,
    /// Ends the batches, at any time; called once.
    pub release: Option<unsafe extern "C" fn(batches: *mut RawBatches)>,
    /// The maker's own.
    pub private_data: *mut c_void,
}
