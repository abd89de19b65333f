//! The collector: one query for one metric, one period and many scopes.

use rated_plugin::{Batches, Call, CollectRequest, Collector, Component, Error, Host, Result};

use crate::query::{Arguments, Query};
use crate::series::Series;
use crate::server::Prometheus;
use crate::settings::settings;

settings! {
    /// The configuration of the collector.
    CollectorSettings {}
}

/// Measures by asking a Prometheus server.
#[derive(Debug)]
pub struct PrometheusCollector {
    server: Prometheus,
}

impl Component for PrometheusCollector {
    const NAME: &'static str = "prometheus";
    const SUMMARY: &'static str = "Asks a Prometheus server, one query for many scopes";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = CollectorSettings;

    fn create(config: CollectorSettings, host: Host) -> Result<PrometheusCollector> {
        Ok(PrometheusCollector { server: Prometheus::new(host, config.access()?) })
    }

    fn check(&self, call: &Call) -> Result<()> {
        self.server.check(call)
    }
}

impl Collector for PrometheusCollector {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        let arguments = Arguments::of(&request.metric)?;
        let query = Query::new(request, &arguments)?;
        let located = |error: Error| {
            let message = format!("metric `{}`: {}", request.metric.name, error.message);
            self.server.place(Error { message, ..error })
        };
        let response = self.server.query(call, &query.text, Some(&query.time)).map_err(located)?;
        let mut series = Series::new(call, request, &query.labels, arguments.precision());
        self.server.read(&response, &mut series).map_err(located)?;
        Ok(Batches::one(series.finish().map_err(located)?))
    }
}
