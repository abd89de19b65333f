//! The ledger: its size, its commits, its compaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Metrics, OutcomeLabels, bytes, gauge_value, plain, seconds, short_durations};
use crate::ledger::{CompactionStep, LedgerError};

#[derive(Debug)]
pub(super) struct Ledger {
    commits: Family<OutcomeLabels, Counter>,
    commit_duration: Histogram,
    size: Gauge,
    rows: Gauge,
    free: Gauge,
    takes_changes: Gauge,
    unwitnessed: Gauge,
    compaction: Compaction,
}

#[derive(Debug)]
struct Compaction {
    step_duration: Histogram,
    failures: Counter,
    slices_merged: Counter,
    rows_dropped: Counter,
    deleted: Counter,
    dead: Gauge,
    periods_summed: Counter,
    ended: Gauge,
}

impl Ledger {
    pub(super) fn register(to: &mut Registry) -> Ledger {
        let takes_changes = "1; 0 = the disk is full or a write has failed";
        let unwitnessed = "1 = no marks can be written: a loss of the last changes is not noticed";
        let durations = short_durations();
        Ledger {
            commits: plain(to, "commits", "Commits to the ledger by outcome"),
            commit_duration: seconds(to, "commit_duration", "Duration of a commit", durations),
            size: bytes(to, "ledger_size", "Ledger on disk"),
            rows: plain(to, "ledger_rows", "Rated rows in the ledger"),
            free: bytes(to, "ledger_disk_free", "Left on the disk of the ledger"),
            takes_changes: plain(to, "ledger_takes_changes", takes_changes),
            unwitnessed: plain(to, "ledger_unwitnessed", unwitnessed),
            compaction: Compaction::register(to),
        }
    }
}

impl Compaction {
    fn register(to: &mut Registry) -> Compaction {
        let step = "Duration of the steps of compaction";
        let merged = "Slices of the ledger that were put together or written anew";
        let dropped = "Rows left behind that a reset or a reprocessing had replaced";
        let deleted = "Data files deleted, what was left of them being elsewhere";
        let dead = "In data files, of rows and sums that nobody sees any more";
        let summed = "Days and months whose sums were made";
        let ended = "When compaction was last through, since 1970; 0 = not since the start";
        Compaction {
            step_duration: seconds(to, "compaction_step_duration", step, short_durations()),
            failures: plain(to, "compaction_failures", "Steps of compaction that failed"),
            slices_merged: plain(to, "compaction_slices_merged", merged),
            rows_dropped: plain(to, "compaction_rows_dropped", dropped),
            deleted: bytes(to, "compaction_deleted", deleted),
            dead: bytes(to, "compaction_dead", dead),
            periods_summed: plain(to, "compaction_periods_summed", summed),
            ended: seconds(to, "compaction_last_end", ended, Gauge::default()),
        }
    }
}

impl Metrics {
    pub fn commit_ended<T, E>(&self, result: &Result<T, E>, duration: Duration) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.ledger.commits.get_or_create(&OutcomeLabels { outcome }).inc();
        self.ledger.commit_duration.observe(duration.as_secs_f64());
    }

    pub fn set_ledger_size(&self, bytes_on_disk: u64, rows: u64) {
        self.ledger.size.set(gauge_value(bytes_on_disk));
        self.ledger.rows.set(gauge_value(rows));
    }

    /// `None` = the system does not say; then what it said last stays.
    pub fn set_ledger_room(&self, bytes_free: Option<u64>) {
        if let Some(bytes) = bytes_free {
            self.ledger.free.set(gauge_value(bytes));
        }
    }

    pub fn set_ledger_witnessed(&self, is_witnessed: bool) {
        self.ledger.unwitnessed.set(i64::from(!is_witnessed));
    }

    pub fn set_ledger_takes_changes(&self, takes_changes: bool) {
        self.ledger.takes_changes.set(i64::from(takes_changes));
    }

    pub fn compaction_stepped(
        &self,
        result: &Result<CompactionStep, LedgerError>,
        duration: Duration,
    ) {
        self.ledger.compaction.step_duration.observe(duration.as_secs_f64());
        let Ok(step) = result else {
            self.ledger.compaction.failures.inc();
            return;
        };
        self.ledger.compaction.slices_merged.inc_by(step.slices_merged);
        self.ledger.compaction.rows_dropped.inc_by(step.rows_dropped);
        self.ledger.compaction.deleted.inc_by(step.bytes_deleted);
        self.ledger.compaction.periods_summed.inc_by(step.periods_summed);
        self.ledger.compaction.dead.set(gauge_value(step.bytes_dead));
    }

    /// Everything was looked at.
    pub fn compaction_ended(&self, at: DateTime<Utc>) {
        self.ledger.compaction.ended.set(at.timestamp());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::value_of;

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
}
