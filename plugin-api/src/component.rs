//! The traits a plugin author implements.

use arrow_array::RecordBatch;
use serde::de::DeserializeOwned;

use crate::{AsOf, Batches, Call, CollectRequest, Host, RateRequest, Request, Response, Result};

/// What every collector, fetcher and rating module has: a name, a configuration, a way to make it.
///
/// The host makes one instance for each configuration and may call it from several threads at once.
pub trait Component: Sized + Send + Sync + 'static {
    /// `[a-z][a-z0-9-]{0,31}`, unique in a daemon for each kind.
    const NAME: &'static str;
    /// One sentence, shown by the API and by `rated plugin list`.
    const SUMMARY: &'static str;
    /// TOML: every key of the configuration with a working value and a comment.
    const SAMPLE_CONFIG: &'static str;
    /// JSON Schema of the configuration, for editors and web forms; empty = none.
    const CONFIG_SCHEMA: &'static str = "";
    /// The configuration table; use `#[serde(deny_unknown_fields)]`.
    type Config: DeserializeOwned;

    /// Checks the configuration and makes the instance. Opens no connection: that is for
    /// [`Component::check`].
    fn create(config: Self::Config, host: Host) -> Result<Self>;

    /// Does the outside world answer? Called after `create` at start and at reload.
    fn check(&self, call: &Call) -> Result<()> {
        let _ = call;
        Ok(())
    }
}

/// Measures what scopes used.
pub trait Collector: Component {
    /// One metric of one period for many scopes, as batches of schema `usage/1` (see
    /// [`crate::UsageBuilder`]).
    ///
    /// No row for a scope means "no data": only say so when the source said so. A partial answer is
    /// an error. [`crate::Status::NotFound`] means that this time is lost for ever; the daemon
    /// records the period as failed and goes on. Every other error stops or delays the metric.
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches>;
}

/// Finds who is to be billed.
pub trait Fetcher: Component {
    /// All scopes there are now, as batches of schema `scopes/1` (see [`Batches::scopes`]).
    fn scopes(&self, call: &Call) -> Result<Batches>;
}

/// Turns usage into prices.
pub trait RatingModule: Component {
    /// Rules in force at one instant; immutable.
    type Rater: Rater;
    /// Its rules can be changed while it runs.
    const HOT_CONFIG: bool = false;
    /// Always enabled; the API cannot change that.
    const ALWAYS_ON: bool = false;
    /// The `paths` object (`OpenAPI`, JSON) that [`RatingModule::handle`] serves; empty = serves
    /// nothing.
    const API_SCHEMA: &'static str = "";

    /// A snapshot of the rules that are in force at `as_of.at`, as they were known at
    /// `as_of.revision`.
    fn prepare(&self, call: &Call, as_of: AsOf) -> Result<Self::Rater>;

    /// A REST call below `/v1/rating/module_config/<NAME>`.
    fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
        let _ = (call, request);
        Ok(Response::not_found())
    }
}

/// Rates batches, from any number of threads at once.
pub trait Rater: Send + Sync + 'static {
    /// One price for each row of `usage` (schema `usage/1` with the column `price`, the price so
    /// far), in the same order, as a batch of schema `price/1` (see [`crate::PriceBatch`]).
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch>;
}
