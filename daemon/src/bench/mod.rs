//! Data to measure with: a cloud that is always the same for the same seed.
//!
//! [`Cloud`] says what every resource was, used and cost in every hour; everything else shows the
//! same in another form: as rated slices ([`fill`] brings them into a ledger), as text for
//! Prometheus ([`write_open_metrics`]) or another database ([`write_rows`]), as the price list that
//! the prices follow from ([`price_list`]), as sums ([`totals`]). Sums are made from the points
//! alone, with integers: no code of the ledger or of a report takes part, so that their figures can
//! be compared with them to the last digit.
//!
//! This module measures nothing.

mod cloud;
mod columns;
mod fill;
mod prices;
mod sums;
#[cfg(test)]
mod tests;
mod text;
mod texts;

pub use cloud::{Cloud, Hour, Point, Size, SizeError};
pub use fill::{FillError, announce, fill};
pub use prices::price_list;
pub use sums::{Sums, Totals, TotalsError, TotalsQuery, totals};
pub use text::{write_open_metrics, write_rows, write_totals};
