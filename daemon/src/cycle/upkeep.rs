//! Keeps the ledger small while the cycle is idle.
//!
//! One step of [`Ledger::compact`] at a time on a thread meant for what blocks, then a pause that
//! keeps to the share of the time that the configuration allows. A stop waits for the step in
//! flight, which is short; what is left is done after the next start.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use super::failure::text_of;
use super::status::CycleStatus;
use crate::clock::Clock;
use crate::ledger::{Compacted, CompactionStep, Ledger, LedgerError, Retained, Retention};
use crate::metrics::Metrics;

/// How long a ledger is left alone that was looked at from end to end, or that fails.
const REST: Duration = Duration::from_mins(10);
/// How long readers who hold up a step are waited for.
const READERS_PAUSE: Duration = Duration::from_secs(1);
/// How long it rests after damage: it is told of each place, and there may be many.
const DAMAGE_PAUSE: Duration = Duration::from_secs(1);
/// How often is looked for a backup that nobody reads any more.
const BACKUP_LOOK: Duration = Duration::from_mins(1);
/// Longest pause after a step.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// What upkeep is made of.
pub struct UpkeepParts {
    pub ledger: Arc<dyn Ledger>,
    pub cycle: watch::Receiver<CycleStatus>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    /// Most of the time that compaction works; 0 = never.
    pub compaction_percent: u8,
    /// What is forgotten, at the begin of each pass.
    pub retention: Retention,
}

impl fmt::Debug for UpkeepParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = &self.compaction_percent;
        f.debug_struct("UpkeepParts").field("compaction_percent", percent).finish_non_exhaustive()
    }
}

/// The running upkeep.
#[derive(Debug)]
pub struct UpkeepTask {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl UpkeepTask {
    /// Begins when the first cycle has ended.
    pub fn start(parts: UpkeepParts) -> UpkeepTask {
        let (stop, stopping) = watch::channel(false);
        let upkeep = Upkeep { parts, stopping, pass: CompactionStep::default(), forgets: true };
        UpkeepTask { stop, task: tokio::spawn(upkeep.run()) }
    }

    /// Lets the step in flight end.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Err(error) = self.task.await {
            warn!(%error, "The upkeep of the ledger had ended with a panic.");
        }
    }
}

struct Upkeep {
    parts: UpkeepParts,
    stopping: watch::Receiver<bool>,
    /// What was done since everything was last looked at.
    pass: CompactionStep,
    /// Whether there may be something that is older than is kept.
    forgets: bool,
}

impl Upkeep {
    async fn run(mut self) {
        let backups = end_idle_backups(Arc::clone(&self.parts.ledger), self.parts.clock.clone());
        tokio::select! {
            () = self.work() => {}
            () = backups => {}
        }
    }

    async fn work(&mut self) {
        if self.parts.compaction_percent == 0 {
            // A sender that is gone means the same.
            let _ = self.stopping.wait_for(|stopping| *stopping).await;
            return;
        }
        while self.is_idle().await {
            let pause = self.step().await;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A sender that is gone means the same.
                _ = self.stopping.wait_for(|stopping| *stopping) => return,
            }
        }
    }

    /// When the cycle has nothing to do; `false` = it is time to stop.
    async fn is_idle(&mut self) -> bool {
        let is_idle = |status: &CycleStatus| !status.is_running && status.cycles_ended > 0;
        tokio::select! {
            status = self.parts.cycle.wait_for(is_idle) => status.is_ok(),
            _ = self.stopping.wait_for(|stopping| *stopping) => false,
        }
    }

    /// How long to rest after it.
    async fn step(&mut self) -> Duration {
        if self.forgets {
            return self.forget().await;
        }
        let ledger = Arc::clone(&self.parts.ledger);
        let begin = Instant::now();
        let stepped = tokio::task::spawn_blocking(move || ledger.compact()).await;
        let duration = begin.elapsed();
        let result = stepped.unwrap_or_else(|panic| Err(LedgerError::Store(panic.into())));
        self.parts.metrics.compaction_stepped(&result, duration);
        let share = pause_after(duration, self.parts.compaction_percent);
        match result {
            Ok(step) => {
                self.add(step);
                match step.progress {
                    Compacted::Some => share,
                    Compacted::Waits => share.max(READERS_PAUSE),
                    Compacted::All => self.rest(),
                }
            }
            Err(error) => {
                warn!(error = text_of(&error), "Compaction of the ledger failed.");
                rest_after(&error).max(share)
            }
        }
    }

    async fn forget(&mut self) -> Duration {
        let ledger = Arc::clone(&self.parts.ledger);
        let (retention, now) = (self.parts.retention, self.parts.clock.now());
        let begin = Instant::now();
        let forgot = tokio::task::spawn_blocking(move || ledger.retain(retention, now)).await;
        let share = pause_after(begin.elapsed(), self.parts.compaction_percent);
        match forgot.unwrap_or_else(|panic| Err(LedgerError::Store(panic.into()))) {
            Ok(step) => {
                self.forgets = step.has_more;
                let Retained { slices, rows, push_keys, reprocessings, revisions, .. } = step;
                if slices + push_keys + reprocessings + revisions > 0 {
                    info!(
                        slices,
                        rows,
                        push_keys,
                        reprocessings,
                        revisions,
                        "Forgot what is older than the configuration keeps."
                    );
                }
            }
            Err(error) => {
                self.forgets = false;
                warn!(error = text_of(&error), "What is too old could not be forgotten.");
            }
        }
        share
    }

    fn add(&mut self, step: CompactionStep) {
        self.pass.slices_merged += step.slices_merged;
        self.pass.rows_dropped += step.rows_dropped;
        self.pass.periods_summed += step.periods_summed;
        self.pass.bytes_moved += step.bytes_moved;
        self.pass.bytes_deleted += step.bytes_deleted;
    }

    fn rest(&mut self) -> Duration {
        self.forgets = true;
        self.parts.metrics.compaction_ended(self.parts.clock.now());
        let pass = std::mem::take(&mut self.pass);
        if pass != CompactionStep::default() {
            info!(
                slices_merged = pass.slices_merged,
                rows_dropped = pass.rows_dropped,
                periods_summed = pass.periods_summed,
                bytes_moved = pass.bytes_moved,
                bytes_deleted = pass.bytes_deleted,
                "Compacted the ledger.",
            );
        }
        REST
    }
}

/// What a backup holds is given back, whether anything is compacted or not. Without an end.
async fn end_idle_backups(ledger: Arc<dyn Ledger>, clock: Arc<dyn Clock>) {
    loop {
        let (ledger, now) = (Arc::clone(&ledger), clock.now());
        let ended = tokio::task::spawn_blocking(move || ledger.end_idle_backup(now)).await;
        if let Ok(Err(error)) = ended {
            warn!(error = text_of(&error), "A backup that nobody reads could not be ended.");
        }
        tokio::time::sleep(BACKUP_LOOK).await;
    }
}

fn rest_after(error: &LedgerError) -> Duration {
    match error {
        LedgerError::Damaged { .. } => DAMAGE_PAUSE,
        LedgerError::DiskFull { .. } | LedgerError::Stopped | LedgerError::Closed => PAUSE_MAX,
        _ => REST,
    }
}

/// So long that the step before took no more than its share.
fn pause_after(duration: Duration, percent: u8) -> Duration {
    let percent = u32::from(percent.clamp(1, 100));
    (duration * (100 - percent) / percent).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::clock::ManualClock;
    use crate::ledger::sled::{SledLedger, SledOptions};
    use crate::ledger::{BackupPart, BackupRead};

    #[test]
    fn a_step_takes_its_share_of_the_time() {
        let pause = |millis, percent| pause_after(Duration::from_millis(millis), percent);

        assert_eq!(pause(10, 20), Duration::from_millis(40));
        assert_eq!(pause(10, 100), Duration::ZERO);
        assert_eq!(pause(10, 1), Duration::from_millis(990));
        assert_eq!(pause(10_000, 1), PAUSE_MAX);
    }

    #[test]
    fn damage_does_not_flood_the_log() {
        let (place, detail) = ("a slice".to_owned(), "it ends early".to_owned());

        assert_eq!(rest_after(&LedgerError::Damaged { place, detail }), Duration::from_secs(1));
    }

    const LAST_END: &str = "rated_compaction_last_end_seconds";

    fn value_of(metrics: &Metrics, series: &str) -> String {
        let text = metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.unwrap().trim().to_owned()
    }

    #[tokio::test]
    async fn it_works_after_a_cycle_and_ends_when_told() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
        let metrics = Arc::new(Metrics::new());
        let (status, cycle) = watch::channel(CycleStatus::default());
        let clock = ManualClock::new(DateTime::from_timestamp(77, 0).unwrap());
        let task = UpkeepTask::start(UpkeepParts {
            ledger: Arc::new(ledger),
            cycle,
            metrics: Arc::clone(&metrics),
            clock: Arc::new(clock),
            compaction_percent: 20,
            retention: Retention::default(),
        });
        status.send_modify(|status| status.is_running = true);
        assert_eq!(value_of(&metrics, LAST_END), "0");

        let ended = CycleStatus { cycles_ended: 1, ..CycleStatus::default() };
        status.send_replace(ended);
        let is_through = async {
            while value_of(&metrics, LAST_END) != "77" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), is_through).await.unwrap();

        // It rests for minutes now; a stop does not wait for that.
        tokio::time::timeout(Duration::from_secs(30), task.stop()).await.unwrap();
    }

    /// It holds room, whether anything is compacted or not.
    #[tokio::test]
    async fn a_backup_that_nobody_reads_ends_without_compaction_too() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let begun = DateTime::from_timestamp(77, 0).unwrap();
        let later = begun + chrono::TimeDelta::hours(1);
        let plan = ledger.begin_backup(begun).unwrap();
        let (_status, cycle) = watch::channel(CycleStatus::default());
        let task = UpkeepTask::start(UpkeepParts {
            ledger: Arc::clone(&ledger),
            cycle,
            metrics: Arc::new(Metrics::new()),
            clock: Arc::new(ManualClock::new(later)),
            compaction_percent: 0,
            retention: Retention::default(),
        });

        // As of then: to look at it does not keep it.
        let (part, offset, size, now) = (BackupPart::Records, 0, 1, begun);
        let read = BackupRead { id: plan.id, part, offset, size, now };
        let has_ended = async {
            while ledger.read_backup(&read).is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), has_ended).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), task.stop()).await.unwrap();
    }
}
