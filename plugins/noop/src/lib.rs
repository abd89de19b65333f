//! The smallest rating module: one price for each unit of anything.
//!
//! Here that price is zero, so prices stay as the other modules made them. To make a module of your
//! own, copy this folder and read its `README.md`.
#![forbid(unsafe_code)]

use std::ops::Range;

use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rated_plugin::{
    AsOf, Call, Component, Decimal, Error, Explanation, Given, Host, Operation, PRICE, PriceBatch,
    QTY, RateRequest, Rater, RatingModule, RecordBatch, Result, Rule, Step, Steps, UsageBatch,
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
        PriceBatch::from_prices(&self.prices(request, &usage)?)
    }

    fn explain(
        &self,
        _call: &Call,
        _request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        let usage = UsageBatch::new(usage)?;
        let steps = |row| self.steps(usage.qty_at(row), usage.price_at(row));
        Ok(Explanation { rows: rows.map(steps).collect::<Result<_>>()? })
    }
}

impl PerUnit {
    fn prices(&self, request: &RateRequest, usage: &UsageBatch<'_>) -> Result<Vec<Decimal>> {
        let price_of = |row| {
            multiply_half_even(usage.qty_at(row), self.price_per_unit)
                .and_then(|price| add_half_even(usage.price_at(row), price))
                .ok_or_else(|| {
                    Error::bad_data(format!("metric `{}`: the price is too large", request.metric))
                })
        };
        (0..usage.rows()).map(price_of).collect()
    }

    /// The same computation, told. No step = the price stays as it is.
    fn steps(&self, qty: Decimal, price: Decimal) -> Result<Vec<Step>> {
        let mut steps = Steps::new(qty, price);
        if !self.price_per_unit.is_zero() {
            let unit = Given::Rule(Rule::new("constant", "PRICE_PER_UNIT"), self.price_per_unit);
            steps.push("amount", Operation::Multiply, [Given::Number(QTY), unit])?;
            let sum = [Given::Number(PRICE), Given::Number("amount")];
            steps.push(PRICE, Operation::Add, sum)?;
        }
        Ok(steps.finish())
    }
}

rated_plugin::export! { rating_modules: [Noop] }

#[cfg(test)]
mod tests {
    use rated_plugin::testing::{FakeHost, TestModule, conformance};
    use rated_plugin::{DateTime, Purpose, UsageBuilder};

    use super::*;

    #[test]
    fn it_bears_what_every_module_must() {
        conformance(plugin_decl());
    }

    #[test]
    fn prices_stay_as_they_are() {
        let usage = usage(&["1.5", "0", "-2"]);
        let module = TestModule::new::<Noop>(&FakeHost::new(), Noop::SAMPLE_CONFIG).unwrap();

        let prices = module.prepare_at(request().begin).unwrap().rate(&request(), &usage).unwrap();

        assert_eq!(prices, ["0", "0", "0"].map(decimal));
    }

    #[test]
    fn a_price_per_unit_is_added_to_the_price_so_far() {
        let usage = usage(&["1.5", "0", "-2"]);
        let so_far = rated_plugin::decimal_column(&["10", "20", "30"].map(decimal)).unwrap();
        let usage = UsageBatch::new(&usage).unwrap().with_price(so_far).unwrap();
        let rules = PerUnit { price_per_unit: decimal("0.25") };

        let prices = rules.prices(&request(), &UsageBatch::new(&usage).unwrap()).unwrap();

        assert_eq!(prices, ["10.375", "20", "29.5"].map(decimal));
    }

    #[test]
    fn the_steps_lead_to_the_price() {
        let rules = PerUnit { price_per_unit: decimal("0.25") };

        let steps = rules.steps(decimal("1.5"), decimal("10")).unwrap();

        let price = rated_plugin::check_steps(&steps, decimal("1.5"), decimal("10"));
        assert_eq!(price, Ok(decimal("10.375")));
        let free = PerUnit { price_per_unit: Decimal::ZERO }.steps(Decimal::ONE, Decimal::ONE);
        assert!(free.unwrap().is_empty());
    }

    #[test]
    fn the_readme_shows_the_sample() {
        assert!(include_str!("../README.md").contains(Noop::SAMPLE_CONFIG));
    }

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn request() -> RateRequest {
        RateRequest {
            purpose: Purpose::Period,
            metric: "cpu".to_owned(),
            begin: DateTime::from_timestamp(0, 0).unwrap(),
            end: DateTime::from_timestamp(3600, 0).unwrap(),
        }
    }

    fn usage(quantities: &[&str]) -> RecordBatch {
        let mut builder = UsageBuilder::new::<&str>(&[], &[]);
        for quantity in quantities {
            builder.push("scope", decimal(quantity), &[]).unwrap();
        }
        builder.finish().unwrap()
    }
}
