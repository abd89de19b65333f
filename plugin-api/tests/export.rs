//! A plugin of all three kinds in a crate that forbids `unsafe`, as authors write it.
#![forbid(unsafe_code)]

use arrow_array::RecordBatch;
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Fetcher, Host, PriceBatch,
    RateRequest, Rater, RatingModule, Result, UsageBatch, UsageBuilder,
};
use rust_decimal::Decimal;

rated_plugin::export! {
    collectors: [Counter],
    fetchers: [Counter],
    rating_modules: [Flat],
    requires: [kv, http],
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

struct Counter;

impl Component for Counter {
    const NAME: &'static str = "counter";
    const SUMMARY: &'static str = "One of everything";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = Nothing;
    fn create(_: Nothing, _: Host) -> Result<Counter> {
        Ok(Counter)
    }
}

impl Collector for Counter {
    fn collect(&self, _: &Call, request: &CollectRequest) -> Result<Batches> {
        let mut rows = UsageBuilder::new::<&str>(&[], &[]);
        for scope in &request.scopes {
            rows.push(scope, Decimal::ONE, &[])?;
        }
        Ok(Batches::one(rows.finish()?))
    }
}

impl Fetcher for Counter {
    fn scopes(&self, _: &Call) -> Result<Batches> {
        Ok(Batches::scopes(["a"]))
    }
}

struct Flat;

impl Component for Flat {
    const NAME: &'static str = "flat";
    const SUMMARY: &'static str = "The same price";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = Nothing;
    fn create(_: Nothing, _: Host) -> Result<Flat> {
        Ok(Flat)
    }
}

impl RatingModule for Flat {
    type Rater = Flat;
    const HOT_CONFIG: bool = true;
    fn prepare(&self, _: &Call, _: AsOf) -> Result<Flat> {
        Ok(Flat)
    }
}

impl Rater for Flat {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        PriceBatch::unchanged(&UsageBatch::new(usage)?)
    }
}

#[test]
fn the_declaration_names_what_the_macro_was_given() {
    let declaration = plugin_decl();

    assert_eq!(declaration.magic.to_le_bytes(), *b"RATEDPLG");
    assert_eq!(declaration.components_len, 3);
    assert_eq!(declaration.features_required, 3);
    assert_eq!(declaration.flags, rated_plugin::raw::FLAG_UNWINDS);
    assert!(std::ptr::eq(rated_plugin_entry(), declaration));
}
