//! From usage to prices.
//!
//! [`PriceList`] is what [`crate::snapshot::Snapshot`] says about one moment, laid out for looking
//! up; it rates batches from any number of threads. The work for a row does not grow with the
//! number of rules:
//!
//! 1. [`columns`] sorts rows into combinations of the attributes that rules look at;
//! 2. [`plan`] applies the rules to a combination, once: [`plans`] are kept for other batches;
//! 3. what is left for a row is its quantity: between two thresholds of the service the price is a
//!    [`line`], whose [`points`] are computed in whole numbers;
//! 4. where that may not be exact, the prices of the batch are computed one by one ([`rows`]).
//!
//! [`explain`] tells how a price came about: the same rules in the same order, as steps.
//!
//! Arithmetic is decimal, 28 significant digits, rounded half to even, in one order: `rate ×
//! flat × quantity`, then the service's threshold. A line is for numbers where nothing is rounded.
//!
//! This module knows neither the store nor the API.

mod breaks;
mod columns;
mod explain;
mod ladder;
mod levels;
mod line;
mod plan;
mod plans;
mod points;
mod price_list;
mod quick_hash;
mod rows;
mod sorts;

pub(crate) use price_list::PriceList;
