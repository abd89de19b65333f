//! The C interface between the daemon and a plugin, version 1.1.
//!
//! Everything here is `#[repr(C)]` and stable for the whole major version: fields are appended,
//! never moved or changed. The C header `include/rated_plugin.h` is generated from these files.
//! Authors of Rust plugins use the safe traits of this crate instead and never name anything in
//! here.
//!
//! Ownership: what is lent ([`Bytes`], [`RawCall`], requests) is valid until the call returns; what
//! is given ([`Buffer`], Arrow structs, [`RawBatches`]) carries its own `release`, which its holder
//! calls exactly once. On any status but OK (and END of [`RawBatches::next`]) outputs stay as they
//! were, but for the [`RawError`].

mod calls;
mod constants;
mod decl;
mod host;
mod tables;
mod values;

pub use arrow_data::ffi::FFI_ArrowArray;
pub use arrow_schema::ffi::FFI_ArrowSchema;

pub use crate::thunk::arrow::{export_rows, export_schema, import_rows, import_schema};
pub use calls::*;
pub use constants::*;
pub use decl::*;
pub use host::*;
pub use tables::*;
pub use values::*;
