//! Everything needed to write a collector, fetcher or rating module for `rated`.
//!
//! The smallest whole plugin, a rating module that adds 0.25 for each unit:
//!
//! ```
//! #![forbid(unsafe_code)]
//! use rated_plugin::decimal::{add_half_even, multiply_half_even};
//! use rated_plugin::{
//!     AsOf, Call, Component, Decimal, Error, Host, PriceBatch, RateRequest, Rater, RatingModule,
//!     RecordBatch, Result, UsageBatch,
//! };
//!
//! struct Flat;
//!
//! #[derive(serde::Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Settings {}
//!
//! impl Component for Flat {
//!     const NAME: &'static str = "flat";
//!     const SUMMARY: &'static str = "One price for each unit";
//!     const SAMPLE_CONFIG: &'static str = "";
//!     type Config = Settings;
//!     fn create(_: Settings, _: Host) -> Result<Flat> {
//!         Ok(Flat)
//!     }
//! }
//!
//! impl RatingModule for Flat {
//!     type Rater = Flat;
//!     fn prepare(&self, _: &Call, _: AsOf) -> Result<Flat> {
//!         Ok(Flat)
//!     }
//! }
//!
//! impl Rater for Flat {
//!     fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
//!         let usage = UsageBatch::new(usage)?;
//!         let price = |row| {
//!             multiply_half_even(usage.qty_at(row), Decimal::new(25, 2))
//!                 .and_then(|price| add_half_even(usage.price_at(row), price))
//!                 .ok_or_else(|| Error::bad_data("the price is too large"))
//!         };
//!         PriceBatch::from_prices(&(0..usage.rows()).map(price).collect::<Result<Vec<_>>>()?)
//!     }
//! }
//!
//! rated_plugin::export! { rating_modules: [Flat] }
//!
//! // And its test, of one line:
//! # fn main() {
//! rated_plugin::testing::conformance(plugin_decl());
//! # }
//! ```
//!
//! With `crate-type = ["cdylib"]` that is a library to drop into the daemon's plugin folder. The
//! crate's `README.md` goes through it step by step; `plugins/noop` is a folder to copy.
//!
//! # What there is
//!
//! - [`Collector`] measures, [`Fetcher`] finds who is billed, [`RatingModule`] makes a [`Rater`]
//!   that turns usage into prices; each is a [`Component`].
//! - [`UsageBuilder`], [`UsageBatch`] and [`PriceBatch`] make and read the columns that pass
//!   between host and plugin; [`Batches`] is an answer in pieces.
//! - [`Host`] is what the daemon lends: log, clock, key-value store, metrics, HTTP. [`Call`] says
//!   when an answer is due and whether it is still wanted.
//! - [`decimal`] is where money is multiplied and rounded, and where texts become numbers.
//! - [`Explanation`] is how prices came about, in [`Steps`] that the daemon computes again.
//! - [`access`] is how a server is reached: address, certificates, time limits, secrets.
//! - [`testing`] is a host in memory and a conformance test.
//! - [`isolation`] says what happens to a daemon when a plugin goes wrong, in either mode.
//! - [`raw`] is the C interface below all this.
//!
//! # What is guaranteed
//!
//! - A panic ends at the edge of the call, as [`Status::Panic`]: the daemon abandons the instance
//!   and makes a new one. It is no way to report errors.
//! - Components are called from several threads at once (but those in C that are marked
//!   `RATED_COMPONENT_SERIAL`), one [`Batches`] from one thread at a time. No call comes from an
//!   asynchronous thread: blocking is fine.
//! - A library is never unloaded; statics and threads' locals stay valid.
//! - Whether a plugin runs in the daemon or in a process of its own is the operator's choice, and
//!   the answers are the same.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod access;
mod batch;
mod batches;
mod builder;
mod component;
pub mod decimal;
mod explain;
mod export;
mod host;
pub mod isolation;
mod layout;
mod number;
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
pub use explain::*;
pub use host::*;
pub use request::*;
pub use status::*;

// What the signatures above speak of, so that a plugin needs no second version of these crates.
pub use arrow_array::RecordBatch;
pub use chrono::{DateTime, Utc};
pub use rust_decimal::Decimal;
pub use serde_json;

/// What the macros use; no part of the interface.
#[doc(hidden)]
pub mod private {
    pub use crate::thunk::tables::{Tables, is_component_name, plugin_decl};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
