//! What is asked and answered.

use super::{Buffer, Bytes};

/// One metric of one period for many scopes: the source is asked once, the batch's `scope_id`
/// column tells rows apart.
#[repr(C)]
#[derive(Debug)]
pub struct RawCollect {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// JSON: the metric's whole definition, `extra_args` included.
    pub metric: Bytes,
    /// The attribute that names the scope.
    pub scope_key: Bytes,
    /// The scopes asked for; rows of others are an error.
    pub scopes: *const Bytes,
    /// 0 = every scope.
    pub scopes_len: usize,
    /// The period's begin, nanoseconds since the epoch, inclusive.
    pub begin_ns: i64,
    /// The period's end, exclusive.
    pub end_ns: i64,
}

/// What the rows of a batch to rate have in common.
#[repr(C)]
#[derive(Debug)]
pub struct RawRate {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// 0 period, 1 quote, 2 replay.
    pub purpose: u32,
    /// 0.
    pub reserved: u32,
    /// The metric type rated, `alt_name` applied.
    pub metric: Bytes,
    /// The period's begin, nanoseconds since the epoch, inclusive.
    pub begin_ns: i64,
    /// The period's end, exclusive.
    pub end_ns: i64,
}

/// A REST call passed on to a rating module.
#[repr(C)]
#[derive(Debug)]
pub struct RawRequest {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// 1 GET, 2 POST, 3 PUT, 4 DELETE, 5 PATCH.
    pub method: u32,
    /// 0.
    pub reserved: u32,
    /// Below the module's name, percent-decoded, with a leading slash and no trailing one:
    /// `/mappings/<id>`.
    pub path: Bytes,
    /// As the client sent it, still percent-encoded, without the question mark.
    pub query: Bytes,
    /// The `Content-Type` header; may be empty.
    pub content_type: Bytes,
    /// At most 1 MiB.
    pub body: Bytes,
    /// JSON: `{"user_id", "scope_id", "roles", "is_admin"}`; never a token.
    pub principal: Bytes,
}

/// The answer to a [`RawRequest`]; the caller passes it zeroed but for `struct_size`.
#[repr(C)]
#[derive(Debug)]
pub struct RawResponse {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// An HTTP status, 200 to 599.
    pub status: u32,
    /// 0.
    pub reserved: u32,
    /// The `Content-Type` header; empty = none.
    pub content_type: Buffer,
    /// The `Location` header, relative to the module (`/mappings/<id>`); empty = none.
    pub location: Buffer,
    /// The body; may be empty.
    pub body: Buffer,
}

/// A request that the host sends for a plugin.
#[repr(C)]
#[derive(Debug)]
pub struct RawHttpRequest {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// As in [`RawRequest::method`].
    pub method: u32,
    /// 0.
    pub reserved: u32,
    /// Absolute, `http` or `https`.
    pub url: Bytes,
    /// JSON object of header names to values.
    pub headers: Bytes,
    /// The body; may be empty.
    pub body: Bytes,
    /// JSON: see [`crate::HttpOptions`]; empty = defaults.
    pub options: Bytes,
}

/// The answer to a [`RawHttpRequest`]; the caller passes it zeroed but for `struct_size`.
#[repr(C)]
#[derive(Debug)]
pub struct RawHttpResponse {
    /// `size_of` of this struct as its maker knows it; fields beyond are not read.
    pub struct_size: usize,
    /// The HTTP status, whatever it is.
    pub status: u32,
    /// 0.
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
    /// UTF-8.
    pub key: Bytes,
    /// What the key is to be; null removes it.
    pub value: Bytes,
}
