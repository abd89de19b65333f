//! Discovering, collecting, rating; the same again for what is reprocessed.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;

use super::{Metrics, OutcomeLabels, gauge_value};

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
pub(super) struct StageLabels {
    stage: &'static str,
}

impl Metrics {
    pub(super) fn register_cycle(&mut self) {
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

    pub(super) fn register_reprocessing(&mut self) {
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
