//! Everything needed to write a collector, fetcher or rating module for `rated`.
#![deny(unsafe_code)]

mod batch;
mod batches;
mod builder;
mod component;
pub mod decimal;
mod export;
mod host;
mod layout;
pub mod raw;
mod request;
mod status;
pub mod testing;
mod thunk;

pub use batch::*;
pub use batches::*;
pub use builder::*;
pub use component::*;
pub use decimal::{SCALE_MAX, decimal_at, decimal_column};
pub use host::*;
pub use request::*;
pub use status::*;

// What the signatures above speak of, so that a plugin needs no second version of these crates.
pub use arrow_array::RecordBatch;
pub use chrono::{DateTime, Utc};
pub use rust_decimal::Decimal;

/// What the macros use; no part of the interface.
#[doc(hidden)]
pub mod private {
    pub use crate::thunk::tables::{Tables, is_component_name, plugin_decl};
}
