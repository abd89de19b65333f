//! Calls into plugins, and what plugins count themselves.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use rated_plugin::Status;

use super::{Metrics, gauge_value, plain, seconds, short_durations};

/// Most pairs of instance and metric name that plugins may bring.
pub const PLUGIN_METRICS_MAX: usize = 256;

/// Longest name of a plugin's metric, bytes.
pub const PLUGIN_METRIC_NAME_SIZE_MAX: usize = 64;

/// What is called in a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginCall {
    Create,
    Check,
    Collect,
    Scopes,
    Prepare,
    Rate,
    Explain,
    Handle,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    instance: String,
    call: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstanceLabels {
    instance: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    instance: String,
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginMetricLabels {
    instance: String,
    metric: String,
}

#[derive(Debug)]
pub(super) struct Plugins {
    calls: Family<CallLabels, Counter>,
    call_duration: Family<DurationLabels, Histogram>,
    panics: Family<InstanceLabels, Counter>,
    threads_lost: Counter,
    process_deaths: Family<InstanceLabels, Counter>,
    process_restarts: Family<InstanceLabels, Counter>,
    generations: Gauge,
    events: Family<PluginMetricLabels, Counter>,
    values: Family<PluginMetricLabels, Histogram>,
    /// Names that plugins have brought.
    known: Mutex<BTreeSet<(String, String)>>,
}

impl Plugins {
    pub(super) fn register(to: &mut Registry) -> Plugins {
        let durations = Family::new_with_constructor(short_durations as fn() -> Histogram);
        let lost = "Threads written off because a call did not come back";
        let deaths = "Processes of plugins that ended without being asked to";
        let restarts = "Processes of plugins started again after one that died, or after a panic";
        let generations = "Generations of plugins loaded; each stays in memory until a restart";
        let calls = "Calls into plugins by instance, call and status";
        let duration = "Duration of calls into plugins";
        Plugins {
            calls: plain(to, "plugin_calls", calls),
            call_duration: seconds(to, "plugin_call_duration", duration, durations),
            panics: plain(to, "plugin_panics", "Panics caught in plugins"),
            threads_lost: plain(to, "plugin_threads_lost", lost),
            process_deaths: plain(to, "plugin_process_deaths", deaths),
            process_restarts: plain(to, "plugin_process_restarts", restarts),
            generations: plain(to, "plugin_generations", generations),
            events: plain(to, "plugin_events", "What plugins count"),
            values: observed(to, "plugin_values", "What plugins observe"),
            known: Mutex::default(),
        }
    }
}

/// Of any unit.
fn observed(to: &mut Registry, name: &str, help: &str) -> Family<PluginMetricLabels, Histogram> {
    let metric = Family::new_with_constructor(any_values as fn() -> Histogram);
    to.register(name, help, metric.clone());
    metric
}

impl Metrics {
    /// `instance` as in the ledger: `rating/hashmap`.
    pub fn plugin_call_ended(
        &self,
        instance: &str,
        call: PluginCall,
        status: Status,
        duration: Duration,
    ) {
        let (instance, call) = (instance.to_owned(), call.label());
        let labels = CallLabels { instance: instance.clone(), call, status: status_label(status) };
        self.plugins.calls.get_or_create(&labels).inc();
        self.plugins
            .call_duration
            .get_or_create(&DurationLabels { instance: instance.clone(), call })
            .observe(duration.as_secs_f64());
        if status == Status::Panic {
            self.plugins.panics.get_or_create(&InstanceLabels { instance }).inc();
        }
    }

    pub fn plugin_thread_lost(&self) {
        self.plugins.threads_lost.inc();
    }

    /// It ended without being asked to, or was killed.
    pub fn plugin_process_died(&self, instance: &str) {
        let instance = instance.to_owned();
        self.plugins.process_deaths.get_or_create(&InstanceLabels { instance }).inc();
    }

    pub fn plugin_process_restarted(&self, instance: &str) {
        let instance = instance.to_owned();
        self.plugins.process_restarts.get_or_create(&InstanceLabels { instance }).inc();
    }

    pub fn set_plugin_generations(&self, count: usize) {
        self.plugins.generations.set(gauge_value(count as u64));
    }

    /// A plugin counts something of its own.
    pub fn plugin_count(&self, instance: &str, metric: &str, by: u64) {
        self.plugins.events.get_or_create(&self.plugin_metric(instance, metric)).inc_by(by);
    }

    /// A plugin observes a value of its own.
    pub fn plugin_observe(&self, instance: &str, metric: &str, value: f64) {
        self.plugins.values.get_or_create(&self.plugin_metric(instance, metric)).observe(value);
    }

    fn plugin_metric(&self, instance: &str, metric: &str) -> PluginMetricLabels {
        let sound = !metric.is_empty()
            && metric.len() <= PLUGIN_METRIC_NAME_SIZE_MAX
            && metric.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let pair = (instance.to_owned(), metric.to_owned());
        // A set of names is sound whatever happened to the thread that held it.
        let mut known = self.plugins.known.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = sound
            && (known.contains(&pair) || (known.len() < PLUGIN_METRICS_MAX && known.insert(pair)));
        let metric = if admitted { metric } else { "other" };
        PluginMetricLabels { instance: instance.to_owned(), metric: metric.to_owned() }
    }
}

impl PluginCall {
    fn label(self) -> &'static str {
        match self {
            PluginCall::Create => "create",
            PluginCall::Check => "check",
            PluginCall::Collect => "collect",
            PluginCall::Scopes => "scopes",
            PluginCall::Prepare => "prepare",
            PluginCall::Rate => "rate",
            PluginCall::Explain => "explain",
            PluginCall::Handle => "handle",
        }
    }
}

fn status_label(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::InvalidConfig => "invalid_config",
        Status::InvalidRequest => "invalid_request",
        Status::NotFound => "not_found",
        Status::Conflict => "conflict",
        Status::Unavailable => "unavailable",
        Status::Timeout => "timeout",
        Status::Cancelled => "cancelled",
        Status::Unauthorized => "unauthorized",
        Status::BadData => "bad_data",
        Status::Unsupported => "unsupported",
        Status::Internal => "internal",
        Status::Panic => "panic",
        Status::End => "end",
    }
}

/// A plugin's unit is unknown: one bucket for each power of ten.
fn any_values() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 10.0, 13))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::value_of;

    #[test]
    fn a_panic_is_counted_as_a_call_and_as_a_panic() {
        let metrics = Metrics::new();

        let duration = Duration::from_millis(1);
        metrics.plugin_call_ended("rating/acme", PluginCall::Rate, Status::Panic, duration);

        let call =
            "rated_plugin_calls_total{instance=\"rating/acme\",call=\"rate\",status=\"panic\"}";
        assert_eq!(value_of(&metrics, call).as_deref(), Some("1"));
        let panics = "rated_plugin_panics_total{instance=\"rating/acme\"}";
        assert_eq!(value_of(&metrics, panics).as_deref(), Some("1"));
    }

    #[test]
    fn names_that_plugins_invent_are_bounded() {
        let metrics = Metrics::new();

        for index in 0..PLUGIN_METRICS_MAX + 10 {
            metrics.plugin_count("rating/acme", &format!("name_{index}"), 1);
        }
        metrics.plugin_count("rating/acme", "name_0", 1);
        metrics.plugin_observe("rating/acme", "not a name", 1.0);

        let series = |name: &str| {
            value_of(
                &metrics,
                &format!("rated_plugin_events_total{{instance=\"rating/acme\",metric=\"{name}\"}}"),
            )
        };
        assert_eq!(series("name_0").as_deref(), Some("2"));
        assert_eq!(series("other").as_deref(), Some("10"));
    }
}
