//! The ledger: its size, its commits, its compaction.

use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::registry::Unit;

use super::{Metrics, OutcomeLabels, gauge_value};
use crate::ledger::{CompactionStep, LedgerError};

impl Metrics {
    pub(super) fn register_ledger(&mut self) {
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

    pub(super) fn register_compaction(&mut self) {
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
