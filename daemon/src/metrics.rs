//! What the daemon counts about itself, in the `OpenMetrics` text format.
//!
//! Every label comes from a closed set: names of the configuration, statuses, route classes. Names
//! that plugins invent are held to [`PLUGIN_METRICS_MAX`]; what comes after is counted under the
//! name `other`. A scope id is never a label.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use rated_plugin::Status;

use crate::ledger::{CompactionStep, LedgerError};

/// Media type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Most pairs of instance and metric name that plugins may bring.
pub const PLUGIN_METRICS_MAX: usize = 256;

/// Longest name of a plugin's metric, bytes.
pub const PLUGIN_METRIC_NAME_SIZE_MAX: usize = 64;

/// How a slice ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SliceOutcome {
    Stored,
    /// It was in the ledger already.
    Known,
    Failed,
}

/// How a reprocessing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReprocessingOutcome {
    Finished,
    /// Some of its scopes go on by themselves, later.
    PutOff,
}

/// The station of the cycle at which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Discover,
    Collect,
    Rate,
    Commit,
}

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

/// How a caller says who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationMethod {
    /// Nothing was said, or more than one thing.
    None,
    Basic,
    Token,
    Keystone,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthenticationOutcome {
    Known,
    Missing,
    Refused,
    /// It could not be checked.
    Unavailable,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AuthenticationLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: &'static str,
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

    fn register_cycle(&mut self) {
        self.plain("slices", "Slices by how they ended", self.slices.clone());
        self.plain("rows", "Rated rows stored", self.rows.clone());
        self.plain("failures", "Failures by station of the cycle", self.failures.clone());
        self.seconds("cycle_duration", "Duration of a cycle", self.cycle_duration.clone());
        self.plain("slices_in_flight", "Slices being worked on", self.slices_in_flight.clone());
        self.plain("scopes", "Scopes known", self.scopes.clone());
        self.seconds(
            "oldest_cursor_lag",
            "How far the active scope that is furthest behind is behind",
            self.cursor_lag.clone(),
        );
    }

    fn register_reprocessing(&mut self) {
        self.plain(
            "reprocessed_slices",
            "Slices of reprocessings by how they ended",
            self.reprocessed_slices.clone(),
        );
        self.plain(
            "reprocessed_periods",
            "Periods of reprocessings that are staged",
            self.reprocessed_periods.clone(),
        );
        self.plain(
            "reprocessings",
            "Reprocessings that were finished, and those put off for some scopes",
            self.reprocessings.clone(),
        );
        self.plain(
            "reprocessings_unfinished",
            "Reprocessings that are under way or wait",
            self.reprocessings_unfinished.clone(),
        );
    }

    fn register_ledger(&mut self) {
        self.plain("commits", "Commits to the ledger by outcome", self.commits.clone());
        self.seconds("commit_duration", "Duration of a commit", self.commit_duration.clone());
        let bytes = self.ledger_bytes.clone();
        self.registry.register_with_unit("ledger_size", "Ledger on disk", Unit::Bytes, bytes);
        self.plain("ledger_rows", "Rated rows in the ledger", self.ledger_rows.clone());
        let free = self.ledger_free.clone();
        let help = "Left on the disk of the ledger";
        self.registry.register_with_unit("ledger_disk_free", help, Unit::Bytes, free);
        self.plain(
            "ledger_takes_changes",
            "1; 0 = the disk is full or a write has failed",
            self.ledger_takes_changes.clone(),
        );
    }

    fn register_compaction(&mut self) {
        self.seconds(
            "compaction_step_duration",
            "Duration of the steps of compaction",
            self.compaction_step_duration.clone(),
        );
        self.plain(
            "compaction_failures",
            "Steps of compaction that failed",
            self.compaction_failures.clone(),
        );
        self.plain(
            "compaction_slices_merged",
            "Slices of the ledger that were put together or written anew",
            self.compaction_slices_merged.clone(),
        );
        self.plain(
            "compaction_rows_dropped",
            "Rows left behind that a reset or a reprocessing had replaced",
            self.compaction_rows_dropped.clone(),
        );
        let deleted = self.compaction_deleted.clone();
        let help = "Data files deleted, what was left of them being elsewhere";
        self.registry.register_with_unit("compaction_deleted", help, Unit::Bytes, deleted);
        let dead = self.compaction_dead.clone();
        let help = "In data files, of rows and sums that nobody sees any more";
        self.registry.register_with_unit("compaction_dead", help, Unit::Bytes, dead);
        self.plain(
            "compaction_periods_summed",
            "Days and months whose sums were made",
            self.compaction_periods_summed.clone(),
        );
        self.seconds(
            "compaction_last_end",
            "When compaction was last through, since 1970; 0 = not since the start",
            self.compaction_ended.clone(),
        );
    }

    fn register_plugins(&mut self) {
        self.plain(
            "plugin_calls",
            "Calls into plugins by instance, call and status",
            self.plugin_calls.clone(),
        );
        self.seconds(
            "plugin_call_duration",
            "Duration of calls into plugins",
            self.plugin_call_duration.clone(),
        );
        self.plain("plugin_panics", "Panics caught in plugins", self.plugin_panics.clone());
        self.plain(
            "plugin_threads_lost",
            "Threads written off because a call did not come back",
            self.plugin_threads_lost.clone(),
        );
        self.plain(
            "plugin_process_deaths",
            "Processes of plugins that ended without being asked to",
            self.plugin_process_deaths.clone(),
        );
        self.plain(
            "plugin_process_restarts",
            "Processes of plugins started again after one that died, or after a panic",
            self.plugin_process_restarts.clone(),
        );
        self.plain(
            "plugin_generations",
            "Generations of plugins loaded; each stays in memory until a restart",
            self.plugin_generations.clone(),
        );
        self.plain("plugin_events", "What plugins count", self.plugin_events.clone());
        self.plain("plugin_values", "What plugins observe", self.plugin_values.clone());
    }

    fn register_requests(&mut self) {
        self.plain("http_requests", "Requests by route and status", self.requests.clone());
        self.seconds(
            "http_request_duration",
            "Duration of requests by route",
            self.request_duration.clone(),
        );
        self.plain(
            "authentications",
            "Callers by how they say who they are, and by outcome",
            self.authentications.clone(),
        );
    }

    fn plain(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register(name, help, metric);
    }

    fn seconds(&mut self, name: &str, help: &str, metric: impl Metric) {
        self.registry.register_with_unit(name, help, Unit::Seconds, metric);
    }

    // ---- the cycle ------------------------------------------------------------------------------

    pub fn slice_began(&self) {
        self.slices_in_flight.inc();
    }

    /// Once for each [`Metrics::slice_began`].
    pub fn slice_ended(&self, outcome: SliceOutcome) {
        self.slices_in_flight.dec();
        let outcome = outcome.label();
        self.slices.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn reprocessed_slice_ended(&self, outcome: SliceOutcome) {
        let outcome = outcome.label();
        self.reprocessed_slices.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn reprocessed_period_ended(&self) {
        self.reprocessed_periods.inc();
    }

    pub fn reprocessing_ended(&self, outcome: ReprocessingOutcome) {
        let outcome = outcome.label();
        self.reprocessings.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn set_reprocessings_unfinished(&self, count: usize) {
        self.reprocessings_unfinished.set(gauge_value(count as u64));
    }

    pub fn rows_stored(&self, rows: u64) {
        self.rows.inc_by(rows);
    }

    pub fn failed_at(&self, stage: Stage) {
        self.failures.get_or_create(&StageLabels { stage: stage.label() }).inc();
    }

    pub fn cycle_ended(&self, duration: Duration) {
        self.cycle_duration.observe(duration.as_secs_f64());
    }

    pub fn set_scopes(&self, count: usize) {
        self.scopes.set(gauge_value(count as u64));
    }

    /// Of the active scope that is furthest behind.
    pub fn set_oldest_cursor_lag_secs(&self, lag_secs: i64) {
        self.cursor_lag.set(lag_secs);
    }

    // ---- the ledger -----------------------------------------------------------------------------

    pub fn commit_ended<T, E>(&self, result: &Result<T, E>, duration: Duration) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.commits.get_or_create(&OutcomeLabels { outcome }).inc();
        self.commit_duration.observe(duration.as_secs_f64());
    }

    pub fn set_ledger_size(&self, bytes_on_disk: u64, rows: u64) {
        self.ledger_bytes.set(gauge_value(bytes_on_disk));
        self.ledger_rows.set(gauge_value(rows));
    }

    /// `None` = the system does not say; then what it said last stays.
    pub fn set_ledger_room(&self, bytes_free: Option<u64>) {
        if let Some(bytes) = bytes_free {
            self.ledger_free.set(gauge_value(bytes));
        }
    }

    pub fn set_ledger_takes_changes(&self, takes_changes: bool) {
        self.ledger_takes_changes.set(i64::from(takes_changes));
    }

    pub fn compaction_stepped(
        &self,
        result: &Result<CompactionStep, LedgerError>,
        duration: Duration,
    ) {
        self.compaction_step_duration.observe(duration.as_secs_f64());
        let Ok(step) = result else {
            self.compaction_failures.inc();
            return;
        };
        self.compaction_slices_merged.inc_by(step.slices_merged);
        self.compaction_rows_dropped.inc_by(step.rows_dropped);
        self.compaction_deleted.inc_by(step.bytes_deleted);
        self.compaction_periods_summed.inc_by(step.periods_summed);
        self.compaction_dead.set(gauge_value(step.bytes_dead));
    }

    /// Everything was looked at.
    pub fn compaction_ended(&self, at: DateTime<Utc>) {
        self.compaction_ended.set(at.timestamp());
    }

    // ---- plugins --------------------------------------------------------------------------------

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
        self.plugin_calls.get_or_create(&labels).inc();
        self.plugin_call_duration
            .get_or_create(&DurationLabels { instance: instance.clone(), call })
            .observe(duration.as_secs_f64());
        if status == Status::Panic {
            self.plugin_panics.get_or_create(&InstanceLabels { instance }).inc();
        }
    }

    pub fn plugin_thread_lost(&self) {
        self.plugin_threads_lost.inc();
    }

    /// It ended without being asked to, or was killed.
    pub fn plugin_process_died(&self, instance: &str) {
        let instance = instance.to_owned();
        self.plugin_process_deaths.get_or_create(&InstanceLabels { instance }).inc();
    }

    pub fn plugin_process_restarted(&self, instance: &str) {
        let instance = instance.to_owned();
        self.plugin_process_restarts.get_or_create(&InstanceLabels { instance }).inc();
    }

    pub fn set_plugin_generations(&self, count: usize) {
        self.plugin_generations.set(gauge_value(count as u64));
    }

    /// A plugin counts something of its own.
    pub fn plugin_count(&self, instance: &str, metric: &str, by: u64) {
        self.plugin_events.get_or_create(&self.plugin_metric(instance, metric)).inc_by(by);
    }

    /// A plugin observes a value of its own.
    pub fn plugin_observe(&self, instance: &str, metric: &str, value: f64) {
        self.plugin_values.get_or_create(&self.plugin_metric(instance, metric)).observe(value);
    }

    fn plugin_metric(&self, instance: &str, metric: &str) -> PluginMetricLabels {
        let sound = !metric.is_empty()
            && metric.len() <= PLUGIN_METRIC_NAME_SIZE_MAX
            && metric.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let pair = (instance.to_owned(), metric.to_owned());
        // A set of names is sound whatever happened to the thread that held it.
        let mut known = self.plugin_metrics_known.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = sound
            && (known.contains(&pair) || (known.len() < PLUGIN_METRICS_MAX && known.insert(pair)));
        let metric = if admitted { metric } else { "other" };
        PluginMetricLabels { instance: instance.to_owned(), metric: metric.to_owned() }
    }

    // ---- requests -------------------------------------------------------------------------------

    /// `route` is a class of paths without anything that a caller chose: `/v1/info/metrics/{id}`.
    pub fn request_ended(&self, route: &'static str, status: u16, duration: Duration) {
        self.requests.get_or_create(&RequestLabels { route, status }).inc();
        self.request_duration.get_or_create(&RouteLabels { route }).observe(duration.as_secs_f64());
    }

    pub fn authentication_ended(
        &self,
        method: AuthenticationMethod,
        outcome: AuthenticationOutcome,
    ) {
        let labels = AuthenticationLabels { method: method.label(), outcome: outcome.label() };
        self.authentications.get_or_create(&labels).inc();
    }

    /// The text of `GET /metrics`; its media type is [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

impl SliceOutcome {
    fn label(self) -> &'static str {
        match self {
            SliceOutcome::Stored => "stored",
            SliceOutcome::Known => "known",
            SliceOutcome::Failed => "failed",
        }
    }
}

impl ReprocessingOutcome {
    fn label(self) -> &'static str {
        match self {
            ReprocessingOutcome::Finished => "finished",
            ReprocessingOutcome::PutOff => "put_off",
        }
    }
}

impl Stage {
    fn label(self) -> &'static str {
        match self {
            Stage::Discover => "discover",
            Stage::Collect => "collect",
            Stage::Rate => "rate",
            Stage::Commit => "commit",
        }
    }
}

impl AuthenticationMethod {
    pub fn label(self) -> &'static str {
        match self {
            AuthenticationMethod::None => "none",
            AuthenticationMethod::Basic => "basic",
            AuthenticationMethod::Token => "token",
            AuthenticationMethod::Keystone => "keystone",
        }
    }
}

impl AuthenticationOutcome {
    fn label(self) -> &'static str {
        match self {
            AuthenticationOutcome::Known => "known",
            AuthenticationOutcome::Missing => "missing",
            AuthenticationOutcome::Refused => "refused",
            AuthenticationOutcome::Unavailable => "unavailable",
        }
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

/// From 0.1 ms to 52 s.
fn short_durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

/// A plugin's unit is unknown: one bucket for each power of ten.
fn any_values() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 10.0, 13))
}

fn gauge_value(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value_of(metrics: &Metrics, series: &str) -> Option<String> {
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

    #[test]
    fn steps_of_compaction_are_added_up() {
        let metrics = Metrics::new();
        let step = CompactionStep {
            slices_merged: 5,
            rows_dropped: 3,
            bytes_deleted: 700,
            bytes_dead: 2,
            periods_summed: 1,
            ..CompactionStep::default()
        };

        for result in [Ok(step), Ok(step), Err(LedgerError::Stopped)] {
            metrics.compaction_stepped(&result, Duration::from_millis(3));
        }
        metrics.compaction_ended(DateTime::from_timestamp(77, 5).unwrap());

        let values = [
            ("step_duration_seconds_count", "3"),
            ("failures_total", "1"),
            ("slices_merged_total", "10"),
            ("rows_dropped_total", "6"),
            ("deleted_bytes_total", "1400"),
            ("dead_bytes", "2"),
            ("periods_summed_total", "2"),
            ("last_end_seconds", "77"),
        ];
        for (name, value) in values {
            let found = value_of(&metrics, &format!("rated_compaction_{name}"));
            assert_eq!(found.as_deref(), Some(value), "{name}");
        }
    }

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
