//! The smallest rating module: one price for each unit of anything.
//!
//! Here that price is zero, so prices stay as the other modules made them. To make a module of your
//! own, copy this folder and read its `README.md`.
#![forbid(unsafe_code)]

use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rated_plugin::{
    AsOf, Call, Component, Decimal, Error, Host, PriceBatch, RateRequest, Rater, RatingModule,
    RecordBatch, Result, UsageBatch,
};
use serde::Deserialize;

/// Added to a row's price for each unit of its quantity.
const PRICE_PER_UNIT: Decimal = Decimal::ZERO;

/// The module; it keeps nothing.
#[derive(Debug)]
pub struct Noop;

/// The configuration: no keys.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

impl Component for Noop {
    const NAME: &'static str = "noop";
    const SUMMARY: &'static str = "Dummy test module.";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = Settings;

    fn create(_config: Settings, _host: Host) -> Result<Noop> {
        Ok(Noop)
    }
}

impl RatingModule for Noop {
    type Rater = PerUnit;
    const ALWAYS_ON: bool = true;

    fn prepare(&self, _call: &Call, _as_of: AsOf) -> Result<PerUnit> {
        Ok(PerUnit { price_per_unit: PRICE_PER_UNIT })
    }
}

/// The rules of one instant: a single price.
#[derive(Debug)]
pub struct PerUnit {
    price_per_unit: Decimal,
}

impl Rater for PerUnit {
    fn rate(
        &self,
        _call: &Call,
        request: &RateRequest,
        usage: &RecordBatch,
    ) -> Result<RecordBatch> {
        let usage = UsageBatch::new(usage)?;
        if self.price_per_unit.is_zero() {
            return PriceBatch::unchanged(&usage);
        }
        let price_of = |row| {
            multiply_half_even(usage.qty_at(row), self.price_per_unit)
                .and_then(|price| add_half_even(usage.price_at(row), price))
                .ok_or_else(|| {
                    Error::bad_data(format!("metric `{}`: the price is too large", request.metric))
                })
        };
        let prices = (0..usage.rows()).map(price_of).collect::<Result<Vec<Decimal>>>()?;
        PriceBatch::from_prices(&prices)
    }
}

rated_plugin::export! { rating_modules: [Noop] }
