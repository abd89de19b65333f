//! A module named `noop` that is always on, changes no price and serves nothing.

use rated_plugin::raw::PluginDecl;
use rated_plugin::{
    AsOf, Call, Component, Host, PriceBatch, RateRequest, Rater, RatingModule, RecordBatch, Result,
    UsageBatch,
};
use serde::Deserialize;

pub(super) fn declaration() -> &'static PluginDecl {
    rated_plugin::declare! { rating_modules: [Quiet] }
}

#[derive(Debug)]
struct Quiet;

#[derive(Debug, Deserialize)]
struct Settings {}

impl Component for Quiet {
    const NAME: &'static str = "noop";
    const SUMMARY: &'static str = "Dummy test module.";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = Settings;

    fn create(_: Settings, _: Host) -> Result<Quiet> {
        Ok(Quiet)
    }
}

impl RatingModule for Quiet {
    type Rater = Quiet;
    const ALWAYS_ON: bool = true;

    fn prepare(&self, _: &Call, _: AsOf) -> Result<Quiet> {
        Ok(Quiet)
    }
}

impl Rater for Quiet {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        PriceBatch::unchanged(&UsageBatch::new(usage)?)
    }
}
