//! Between the safe traits and the C tables: the only `unsafe` code of this crate beside `raw`.
//!
//! Every `extern "C"` function of a plugin is a generic function in here whose body runs inside
//! [`guard::guard`], so that no panic ever crosses the interface. Inputs are owned first, outputs
//! are written last and only on success.
//!
//! The contracts relied upon throughout are those of the crate's C header: pointers the other side
//! passes are null or valid for the length of the call, lent bytes stay unchanged meanwhile, and
//! what is given away is used by one side.
#![expect(unsafe_code, reason = "this is the place for it")]

pub(crate) mod arrow;
mod batches;
mod component;
pub(crate) mod driver;
pub(crate) mod fake;
mod guard;
mod host_calls;
mod memory;
mod rating;
pub(crate) mod tables;

pub(crate) use host_calls::{CallHandle, HostHandle};
