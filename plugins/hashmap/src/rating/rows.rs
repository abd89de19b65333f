//! The price of each row: along the lines of its combination's plan, or one by one.

use std::sync::Arc;

use arrow_array::{Decimal128Array, RecordBatch};
use rated_plugin::decimal::decimal_column;
use rated_plugin::{Call, Error, Result, UsageBatch};
use rust_decimal::Decimal;

use super::columns::Combinations;
use super::plan::{Plan, sum};
use super::points::Points;
use super::price_list::ServicePrices;

/// How many rows are rated between two looks at whether the caller still waits.
pub(super) const ROWS_PER_LOOK: usize = 4096;

/// The prices of a batch, and what was odd about it.
#[derive(Debug)]
pub(crate) struct Rated {
    pub(crate) prices: Decimal128Array,
    /// Attributes of rows that thresholds ask for a number and that are none.
    pub(crate) not_numeric: u64,
}

impl ServicePrices {
    /// The price so far of each row of `usage`, plus what this list says.
    pub(crate) fn rate(
        &self,
        call: &Call,
        batch: &RecordBatch,
        usage: &UsageBatch<'_>,
    ) -> Result<Rated> {
        let combinations = Combinations::of(self, batch, usage)?;
        let plans = self.plans.of(self, &combinations).ok_or_else(too_large)?;
        let rows = &combinations.rows;
        let prices = match Points::of(&plans, rows, usage)? {
            Some(points) => points.prices(call)?,
            None => self.one_by_one(call, &plans, rows, usage)?,
        };
        let mut not_numeric = 0;
        if plans.iter().any(|plan| plan.not_numeric > 0) {
            not_numeric = rows.iter().map(|row| plans[*row as usize].not_numeric).sum();
        }
        Ok(Rated { prices, not_numeric })
    }

    /// Every price in decimals, rounded step by step.
    fn one_by_one(
        &self,
        call: &Call,
        plans: &[Arc<Plan>],
        rows: &[u32],
        usage: &UsageBatch<'_>,
    ) -> Result<Decimal128Array> {
        let mut prices = Vec::with_capacity(rows.len());
        // By plan the last quantity and its price: mostly the next one is the same.
        let mut last: Vec<Option<(Decimal, Decimal)>> = vec![None; plans.len()];
        for (row, plan) in rows.iter().enumerate() {
            if row % ROWS_PER_LOOK == 0 {
                call.check_cancelled()?;
            }
            let (plan, last) = (&plans[*plan as usize], &mut last[*plan as usize]);
            let qty = usage.qty_at(row);
            let price = match *last {
                Some((known, price)) if known == qty => price,
                _ => plan.price(self, qty).ok_or_else(too_large)?,
            };
            *last = Some((qty, price));
            prices.push(sum(usage.price_at(row), price).ok_or_else(too_large)?);
        }
        decimal_column(&prices)
    }
}

fn too_large() -> Error {
    Error::bad_data("a price has more than 28 digits before the point")
}
