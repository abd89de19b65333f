//! What the daemon counts about itself, in the `OpenMetrics` text format.
//!
//! Every label comes from a closed set: names of the configuration, statuses, route classes. Names
//! that plugins invent are held to [`PLUGIN_METRICS_MAX`]; what comes after is counted under the
//! name `other`. A scope id is never a label.

mod cycle;
mod ledger;
mod plugins;
mod requests;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};

pub use self::cycle::{ReprocessingOutcome, SliceOutcome, Stage};
pub use self::plugins::{PLUGIN_METRIC_NAME_SIZE_MAX, PLUGIN_METRICS_MAX, PluginCall};
pub use self::requests::{AuthenticationMethod, AuthenticationOutcome};

use self::cycle::StageLabels;
use self::plugins::{CallLabels, DurationLabels, InstanceLabels, PluginMetricLabels, any_values};
use self::requests::{AuthenticationLabels, RequestLabels, RouteLabels};

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// All of the daemon's metrics; shared by reference, every method may be called from any thread.
pub struct Metrics {
    registry: Registry,
    slices: Family<OutcomeLabels, Counter>,
    rows: Counter,
    failures: Family<StageLabels, Counter>,
    cycle_duration: Histogram,
    commits: Family<OutcomeLabels, Counter>,
    commit_duration: Histogram,
    slices_in_flight: Gauge,
    reprocessed_slices: Family<OutcomeLabels, Counter>,
    reprocessed_periods: Counter,
    reprocessings: Family<OutcomeLabels, Counter>,
    reprocessings_unfinished: Gauge,
    scopes: Gauge,
    cursor_lag: Gauge,
    ledger_bytes: Gauge,
    ledger_rows: Gauge,
    ledger_free: Gauge,
    ledger_takes_changes: Gauge,
    compaction_step_duration: Histogram,
    compaction_failures: Counter,
    compaction_slices_merged: Counter,
    compaction_rows_dropped: Counter,
    compaction_deleted: Counter,
    compaction_dead: Gauge,
    compaction_periods_summed: Counter,
    compaction_ended: Gauge,
    plugin_calls: Family<CallLabels, Counter>,
    plugin_call_duration: Family<DurationLabels, Histogram>,
    plugin_panics: Family<InstanceLabels, Counter>,
    plugin_threads_lost: Counter,
    plugin_process_deaths: Family<InstanceLabels, Counter>,
    plugin_process_restarts: Family<InstanceLabels, Counter>,
    plugin_generations: Gauge,
    plugin_events: Family<PluginMetricLabels, Counter>,
    plugin_values: Family<PluginMetricLabels, Histogram>,
    plugin_metrics_known: Mutex<BTreeSet<(String, String)>>,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram>,
    authentications: Family<AuthenticationLabels, Counter>,
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
        let mut new = Metrics {
            registry: Registry::with_prefix("rated"),
            slices: Family::default(),
            rows: Counter::default(),
            failures: Family::default(),
            cycle_duration: Histogram::new(exponential_buckets(0.01, 2.0, 20)),
            commits: Family::default(),
            commit_duration: short_durations(),
            slices_in_flight: Gauge::default(),
            reprocessed_slices: Family::default(),
            reprocessed_periods: Counter::default(),
            reprocessings: Family::default(),
            reprocessings_unfinished: Gauge::default(),
            scopes: Gauge::default(),
            cursor_lag: Gauge::default(),
            ledger_bytes: Gauge::default(),
            ledger_rows: Gauge::default(),
            ledger_free: Gauge::default(),
            ledger_takes_changes: Gauge::default(),
            compaction_step_duration: short_durations(),
            compaction_failures: Counter::default(),
            compaction_slices_merged: Counter::default(),
            compaction_rows_dropped: Counter::default(),
            compaction_deleted: Counter::default(),
            compaction_dead: Gauge::default(),
            compaction_periods_summed: Counter::default(),
            compaction_ended: Gauge::default(),
            plugin_calls: Family::default(),
            plugin_call_duration: Family::new_with_constructor(short_durations),
            plugin_panics: Family::default(),
            plugin_threads_lost: Counter::default(),
            plugin_process_deaths: Family::default(),
            plugin_process_restarts: Family::default(),
            plugin_generations: Gauge::default(),
            plugin_events: Family::default(),
            plugin_values: Family::new_with_constructor(any_values),
            plugin_metrics_known: Mutex::default(),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(short_durations),
            authentications: Family::default(),
        };
        new.register_cycle();
        new.register_reprocessing();
        new.register_ledger();
        new.register_compaction();
        new.register_plugins();
        new.register_requests();
        new
    }

    fn plain(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    fn seconds(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register_with_unit(name, help, Unit::Seconds, metric);
    }

    /// The text of `GET /metrics`; its media type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
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
