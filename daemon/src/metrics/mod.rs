//! What the daemon counts about itself, in the `OpenMetrics` text format.
//!
//! Every label comes from a closed set: names of the configuration, statuses, route classes. Names
//! that plugins invent are held to [`PLUGIN_METRICS_MAX`]; what comes after is counted under the
//! name `other`. A scope id is never a label.

mod cycle;
mod ledger;
mod plugins;
mod requests;

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::cycle::{ReprocessingOutcome, SliceOutcome, Stage};
pub use self::plugins::{PLUGIN_METRIC_NAME_SIZE_MAX, PLUGIN_METRICS_MAX, PluginCall};
pub use self::requests::{AuthenticationMethod, AuthenticationOutcome};

use self::cycle::Cycle;
use self::ledger::Ledger;
use self::plugins::Plugins;
use self::requests::Requests;

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// All of the daemon's metrics; shared by reference, every method may be called from any thread.
/// What each part counts, and how it is told, stands in the part's file.
pub struct Metrics {
    cycle: Cycle,
    ledger: Ledger,
    plugins: Plugins,
    requests: Requests,
    registry: Registry,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut registry = Registry::with_prefix("rated");
        Metrics {
            cycle: Cycle::register(&mut registry),
            ledger: Ledger::register(&mut registry),
            plugins: Plugins::register(&mut registry),
            requests: Requests::register(&mut registry),
            registry,
        }
    }

    /// The text of `GET /metrics`; its media type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// Makes a metric, and lets the registry know it.
fn plain<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn bytes<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

/// One that has its own way of being made.
fn seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

/// From 0.1 ms to 52 s.
fn short_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    pub(super) fn value_of(metrics: &Metrics, series: &str) -> Option<String> {
        let text = metrics.encode();
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next().map(str::to_owned)
    }

    #[test]
    fn names_carry_their_units() {
        let metrics = Metrics::new();
        metrics.slice_began();
        metrics.slice_ended(SliceOutcome::Stored);
        metrics.rows_stored(7);
        metrics.set_ledger_size(4096, 7);
        metrics.commit_ended(&Ok::<(), ()>(()), Duration::from_millis(3));
        metrics.request_ended("/v2/summary", 200, Duration::from_millis(1));
        metrics.set_oldest_cursor_lag_secs(3600);

        let value = |series| value_of(&metrics, series);
        assert_eq!(value("rated_slices_total{outcome=\"stored\"}").as_deref(), Some("1"));
        assert_eq!(value("rated_slices_in_flight").as_deref(), Some("0"));
        assert_eq!(value("rated_rows_total").as_deref(), Some("7"));
        assert_eq!(value("rated_ledger_size_bytes").as_deref(), Some("4096"));
        assert_eq!(value("rated_commit_duration_seconds_count").as_deref(), Some("1"));
        assert_eq!(value("rated_oldest_cursor_lag_seconds").as_deref(), Some("3600"));
        assert_eq!(
            value("rated_http_requests_total{route=\"/v2/summary\",status=\"200\"}").as_deref(),
            Some("1")
        );
        assert!(metrics.encode().ends_with("# EOF\n"));
    }
}
