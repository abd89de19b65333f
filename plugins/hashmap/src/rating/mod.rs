//! From usage to prices.
//!
//! [`PriceList`] is what [`crate::snapshot::Snapshot`] says about one moment, laid out for looking
//! up; it rates batches from any number of threads. The work for a row does not grow with the
//! number of rules: rows are sorted into combinations of the attributes that rules look at, rules
//! are applied once for each combination, and what is left for a row is its quantity.
//!
//! Arithmetic is decimal, 28 significant digits, rounded half to even, in one order: `rate ×
//! flat × quantity`, then the service's threshold.
//!
//! This module knows neither the store nor the API.

mod breaks;
mod columns;
mod ladder;
mod levels;
mod line;
mod plan;
mod plans;
mod points;
mod price_list;
mod rows;
mod sorts;

pub(crate) use price_list::PriceList;
