//! Discovering, collecting, rating; the same again for what is reprocessed.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use super::{Metrics, OutcomeLabels, gauge_value, plain, seconds};

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

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Debug)]
pub(super) struct Cycle {
    slices: Family<OutcomeLabels, Counter>,
    rows: Counter,
    failures: Family<StageLabels, Counter>,
    duration: Histogram,
    slices_in_flight: Gauge,
    scopes: Gauge,
    cursor_lag: Gauge,
    reprocessed_slices: Family<OutcomeLabels, Counter>,
    reprocessed_periods: Counter,
    reprocessings: Family<OutcomeLabels, Counter>,
    reprocessings_unfinished: Gauge,
}

impl Cycle {
    pub(super) fn register(to: &mut Registry) -> Cycle {
        let durations = Histogram::new(exponential_buckets(0.01, 2.0, 20));
        let behind = "How far the active scope that is furthest behind is behind";
        let reprocessings = "Reprocessings that were finished, and those put off for some scopes";
        let unfinished = "Reprocessings that are under way or wait";
        Cycle {
            slices: plain(to, "slices", "Slices by how they ended"),
            rows: plain(to, "rows", "Rated rows stored"),
            failures: plain(to, "failures", "Failures by station of the cycle"),
            duration: seconds(to, "cycle_duration", "Duration of a cycle", durations),
            slices_in_flight: plain(to, "slices_in_flight", "Slices being worked on"),
            scopes: plain(to, "scopes", "Scopes known"),
            cursor_lag: seconds(to, "oldest_cursor_lag", behind, Gauge::default()),
            reprocessed_slices: plain(
                to,
                "reprocessed_slices",
                "Slices of reprocessings by how they ended",
            ),
            reprocessed_periods: plain(
                to,
                "reprocessed_periods",
                "Periods of reprocessings that are staged",
            ),
            reprocessings: plain(to, "reprocessings", reprocessings),
            reprocessings_unfinished: plain(to, "reprocessings_unfinished", unfinished),
        }
    }
}

impl Metrics {
    pub fn slice_began(&self) {
        self.cycle.slices_in_flight.inc();
    }

    /// Once for each [`Metrics::slice_began`].
    pub fn slice_ended(&self, outcome: SliceOutcome) {
        self.cycle.slices_in_flight.dec();
        let outcome = outcome.label();
        self.cycle.slices.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn reprocessed_slice_ended(&self, outcome: SliceOutcome) {
        let outcome = outcome.label();
        self.cycle.reprocessed_slices.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn reprocessed_period_ended(&self) {
        self.cycle.reprocessed_periods.inc();
    }

    pub fn reprocessing_ended(&self, outcome: ReprocessingOutcome) {
        let outcome = outcome.label();
        self.cycle.reprocessings.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn set_reprocessings_unfinished(&self, count: usize) {
        self.cycle.reprocessings_unfinished.set(gauge_value(count as u64));
    }

    pub fn rows_stored(&self, rows: u64) {
        self.cycle.rows.inc_by(rows);
    }

    pub fn failed_at(&self, stage: Stage) {
        self.cycle.failures.get_or_create(&StageLabels { stage: stage.label() }).inc();
    }

    pub fn cycle_ended(&self, duration: Duration) {
        self.cycle.duration.observe(duration.as_secs_f64());
    }

    pub fn set_scopes(&self, count: usize) {
        self.cycle.scopes.set(gauge_value(count as u64));
    }

    /// Of the active scope that is furthest behind.
    pub fn set_oldest_cursor_lag_secs(&self, lag_secs: i64) {
        self.cycle.cursor_lag.set(lag_secs);
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
