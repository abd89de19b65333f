//! A plugin host with what it needs, and questions to put to it.

use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use rated::clock::ManualClock;
use rated::metrics::Metrics;
use rated::plugin::{
    CallError, HostServices, InstanceConfig, Isolation, Module, PluginConfig, PluginHost,
    PluginHostError,
};
use rated_plugin::{
    AsOf, CollectRequest, Decimal, MetricDefinition, Purpose, RateRequest, Request, Response,
    UsageBatch, UsageBuilder, decimal_column,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::hostile;
use crate::keys_ledger::KeysLedger;

/// Everything around a plugin host.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) ledger: Arc<KeysLedger>,
    pub(crate) dir: TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World {
            runtime: Runtime::new().unwrap(),
            clock: Arc::new(ManualClock::new(at(0))),
            metrics: Arc::new(Metrics::new()),
            ledger: Arc::default(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn services(&self) -> HostServices {
        HostServices {
            ledger: self.ledger.clone(),
            clock: self.clock.clone(),
            runtime: self.runtime.handle().clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// Long deadlines: a test that reaches one fails.
    pub(crate) fn config(&self) -> PluginConfig {
        PluginConfig::new(self.dir.path().join("state"))
    }

    /// Calls get 100 ms and as much grace.
    pub(crate) fn hasty(&self) -> PluginConfig {
        let moment = Duration::from_millis(100);
        PluginConfig { call_deadline: moment, call_grace: moment, ..self.config() }
    }

    /// The hostile plugin; `instances` are names and what they do.
    pub(crate) fn hostile(
        &self,
        config: PluginConfig,
        instances: &[(&str, &str)],
    ) -> Result<PluginHost, PluginHostError> {
        let configs = instances.iter().map(|(name, does)| ((*name).to_owned(), does_(does)));
        let config = PluginConfig {
            rating: configs.clone().collect(),
            collectors: configs.clone().collect(),
            fetchers: configs.collect(),
            ..config
        };
        PluginHost::with_embedded(vec![hostile::declaration()], config, self.services())
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The value of a series of the daemon's own metrics; 0 when it is not there.
    pub(crate) fn metric(&self, series: &str) -> String {
        let text = self.metrics.encode();
        let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        found.unwrap_or("0").to_owned()
    }
}

fn does_(does: &str) -> InstanceConfig {
    let config = json!({"does": does}).as_object().unwrap().clone();
    InstanceConfig {
        plugin: Some("hostile".to_owned()),
        required: false,
        isolation: Isolation::Thread,
        config,
    }
}

pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn rows(count: usize) -> RecordBatch {
    let mut rows = UsageBuilder::new(&["flavor"], &[]);
    for _ in 0..count {
        rows.push("a", Decimal::TWO, &[Some("small")]).unwrap();
    }
    let batch = rows.finish().unwrap();
    let prices = decimal_column(&vec![Decimal::ONE; count]).unwrap();
    UsageBatch::new(&batch).unwrap().with_price(prices).unwrap()
}

pub(crate) fn rate_request() -> RateRequest {
    let metric = "cpu".to_owned();
    RateRequest { purpose: Purpose::Period, metric, begin: at(0), end: at(3600) }
}

pub(crate) fn collect_request(scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition::new("cpu").with_groupby(["flavor"]).with_metadata(["zone"]),
        scope_key: "project".to_owned(),
        scopes: scopes.iter().map(|id| (*id).to_owned()).collect(),
        begin: at(0),
        end: at(3600),
    }
}

pub(crate) async fn price(module: &Module, batch: RecordBatch) -> Result<RecordBatch, CallError> {
    let rater = module.prepare(AsOf { at: at(0), revision: u64::MAX }).await?;
    rater.rate(rate_request(), batch).await
}

pub(crate) async fn get(module: &Module, path: &str) -> Result<Response, CallError> {
    module.handle(Request::get(path)).await
}
