//! Components made and called as the daemon does it: through their own tables.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{Decimal128Array, RecordBatch};
use rust_decimal::Decimal;

use super::FakeHost;
use crate::batch::read_scopes;
use crate::private::Tables;
use crate::raw::{ComponentDecl, KIND_COLLECTOR, KIND_FETCHER, KIND_RATING, PluginDecl};
use crate::thunk::driver::{Driven, DrivenRater, Pulled, components, given_and_taken, static_text};
use crate::{
    AsOf, CollectRequest, Collector, Error, Explanation, Fetcher, Host, PriceBatch, RateRequest,
    RatingModule, Request, Response, Result, UsageBatch,
};

/// A batch as the other side of the interface sees it: through the Arrow C Data Interface.
///
/// ```
/// use rated_plugin::{Decimal, PriceBatch, testing::round_trip};
///
/// let prices = PriceBatch::from_prices(&[Decimal::ONE, Decimal::TWO])?;
/// assert_eq!(round_trip(&prices.slice(1, 1))?, prices.slice(1, 1));
/// # Ok::<(), rated_plugin::Error>(())
/// ```
pub fn round_trip(batch: &RecordBatch) -> Result<RecordBatch> {
    given_and_taken(batch)
}

/// A TOML table as the JSON that components are given. Dates become texts.
pub fn config_json(toml: &str) -> Result<serde_json::Value> {
    let table: toml::Table =
        toml.parse().map_err(|error: toml::de::Error| Error::invalid_config(error.to_string()))?;
    Ok(json_value(toml::Value::Table(table)))
}

fn json_value(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(flag) => flag.into(),
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(values) => values.into_iter().map(json_value).collect(),
        toml::Value::Table(table) => {
            table.into_iter().map(|(key, value)| (key, json_value(value))).collect()
        }
    }
}

fn json_text(toml: &str) -> Result<Vec<u8>> {
    Ok(config_json(toml)?.to_string().into_bytes())
}

/// A collector under test.
pub struct TestCollector {
    instance: Arc<Driven>,
}

impl TestCollector {
    /// Makes an instance from a configuration in TOML.
    pub fn new<C: Collector>(host: &FakeHost, config: &str) -> Result<TestCollector> {
        TestCollector::of(Tables::<C>::COLLECTOR, host, config)
    }

    /// The same for a collector that is known by its declaration alone.
    pub fn from_plugin(
        plugin: &'static PluginDecl,
        name: &str,
        host: &FakeHost,
        config: &str,
    ) -> Result<TestCollector> {
        TestCollector::of(find(plugin, KIND_COLLECTOR, name)?, host, config)
    }

    fn of(decl: &'static ComponentDecl, host: &FakeHost, config: &str) -> Result<TestCollector> {
        let instance = Driven::create(decl, host, &json_text(config)?)?;
        Ok(TestCollector { instance })
    }

    /// Calls `check`.
    pub fn check(&self) -> Result<()> {
        self.instance.check()
    }

    /// Collects, and pulls all batches; each is checked against `usage/1`.
    pub fn collect(&self, request: &CollectRequest) -> Result<Vec<RecordBatch>> {
        let mut pulled = self.instance.collect(request)?;
        let batches = pull_all(&mut pulled)?;
        for batch in &batches {
            UsageBatch::new(batch)?;
        }
        Ok(batches)
    }
}

/// A fetcher under test.
pub struct TestFetcher {
    instance: Arc<Driven>,
}

impl TestFetcher {
    /// Makes an instance from a configuration in TOML.
    pub fn new<C: Fetcher>(host: &FakeHost, config: &str) -> Result<TestFetcher> {
        TestFetcher::of(Tables::<C>::FETCHER, host, config)
    }

    /// The same for a fetcher that is known by its declaration alone.
    pub fn from_plugin(
        plugin: &'static PluginDecl,
        name: &str,
        host: &FakeHost,
        config: &str,
    ) -> Result<TestFetcher> {
        TestFetcher::of(find(plugin, KIND_FETCHER, name)?, host, config)
    }

    fn of(decl: &'static ComponentDecl, host: &FakeHost, config: &str) -> Result<TestFetcher> {
        let instance = Driven::create(decl, host, &json_text(config)?)?;
        Ok(TestFetcher { instance })
    }

    /// Calls `check`.
    pub fn check(&self) -> Result<()> {
        self.instance.check()
    }

    /// All scopes, in the order given.
    pub fn scopes(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for batch in pull_all(&mut self.instance.scopes()?)? {
            let ids = read_scopes(&batch)?;
            found.extend(ids.iter().flatten().map(str::to_owned));
        }
        Ok(found)
    }
}

/// A rating module under test.
pub struct TestModule {
    instance: Arc<Driven>,
}

impl TestModule {
    /// Makes an instance from a configuration in TOML.
    pub fn new<C: RatingModule>(host: &FakeHost, config: &str) -> Result<TestModule> {
        TestModule::of(Tables::<C>::RATING, host, config)
    }

    /// The same for a rating module that is known by its declaration alone.
    pub fn from_plugin(
        plugin: &'static PluginDecl,
        name: &str,
        host: &FakeHost,
        config: &str,
    ) -> Result<TestModule> {
        TestModule::of(find(plugin, KIND_RATING, name)?, host, config)
    }

    fn of(decl: &'static ComponentDecl, host: &FakeHost, config: &str) -> Result<TestModule> {
        let instance = Driven::create(decl, host, &json_text(config)?)?;
        Ok(TestModule { instance })
    }

    /// Calls `check`.
    pub fn check(&self) -> Result<()> {
        self.instance.check()
    }

    /// The rules of an instant.
    pub fn prepare(&self, as_of: AsOf) -> Result<TestRater> {
        Ok(TestRater { rater: self.instance.prepare(as_of)? })
    }

    /// The rules in force at `at`, as they are known now.
    pub fn prepare_at(&self, at: chrono::DateTime<chrono::Utc>) -> Result<TestRater> {
        self.prepare(AsOf { at, revision: Host::NOW })
    }

    /// A REST call.
    pub fn handle(&self, request: &Request) -> Result<Response> {
        self.instance.handle(request)
    }
}

/// A rater under test; usable from several threads.
pub struct TestRater {
    rater: DrivenRater,
}

impl TestRater {
    /// The `price/1` batch for `usage`, checked.
    pub fn rate_batch(&self, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let prices = self.rater.rate(request, usage)?;
        PriceBatch::read(&prices, usage.num_rows())?;
        Ok(prices)
    }

    /// The `price/1` batch for `usage`, its values unchecked, as from a plugin that is configured
    /// as trusted.
    pub fn rate_trusted(&self, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        self.rater.rate_trusted(request, usage)
    }

    /// How the prices of some rows of `usage` came about; whether the steps lead to them is for
    /// [`crate::check_steps`] to say.
    pub fn explain(
        &self,
        request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        self.rater.explain(request, usage, rows)
    }

    /// The prices of the rows of `usage`.
    pub fn rate(&self, request: &RateRequest, usage: &RecordBatch) -> Result<Vec<Decimal>> {
        let prices = self.rate_batch(request, usage)?;
        all_decimals(PriceBatch::read(&prices, usage.num_rows())?)
    }
}

fn find(plugin: &'static PluginDecl, kind: u32, name: &str) -> Result<&'static ComponentDecl> {
    components(plugin)?
        .into_iter()
        .find(|component| component.kind == kind && static_text(component.name) == Ok(name))
        .ok_or_else(|| Error::not_found(format!("no such component `{name}`")))
}

fn all_decimals(column: &Decimal128Array) -> Result<Vec<Decimal>> {
    (0..column.len()).map(|row| crate::decimal_at(column, row)).collect()
}

fn pull_all(pulled: &mut Pulled) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while let Some(batch) = pulled.next()? {
        batches.push(batch);
    }
    Ok(batches)
}

macro_rules! opaque_debug {
    ($($name:ident),*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        })*
    };
}
opaque_debug!(TestCollector, TestFetcher, TestModule, TestRater);
