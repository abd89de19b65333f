//! The loop that drives the stations: one cycle at a time, everything it does in one place.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{error, info};

use super::backoff::{BackOff, Jitter};
use super::collect::{PlannedMetric, Worked, Worker};
use super::commit::{COMMIT_SLICES_MAX, Finished, Outcome, commit};
use super::discover::{Discover, FetchFailure, Found};
use super::hold::{Holds, Subject};
use super::plan::{Plan, PlanRules, Slice};
use super::reprocess::Reprocess;
use super::sources::Sources;
use super::status::{Cycle, CycleStatus, Trouble};
use super::world::{Synced, metric_ids, read_world};
use crate::clock::Clock;
use crate::config::CollectConfig;
use crate::fault::{Step, passed};
use crate::ledger::{Ledger, LedgerError, is_disk_full};
use crate::metrics::Metrics;
use crate::rating::{ChainKey, Rating};
use crate::usage::ScopeId;

/// Longest sleep: the machine's time may be set while we sleep.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// What the cycle is made of.
pub struct CycleParts {
    pub ledger: Arc<dyn Ledger>,
    pub sources: Arc<dyn Sources>,
    pub rating: Rating,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub collect: CollectConfig,
    /// What the built-in fetcher finds.
    pub static_scopes: Vec<ScopeId>,
    /// Spreads what is tried again.
    pub jitter: Jitter,
}

impl fmt::Debug for CycleParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CycleParts").field("collect", &self.collect).finish_non_exhaustive()
    }
}

/// The running cycle.
#[derive(Debug)]
pub struct CycleTask {
    stop: watch::Sender<Stop>,
    task: JoinHandle<()>,
}

/// How far the stop has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// Nothing new begins.
    Finish,
    /// What still runs is dropped; what is finished is committed.
    Now,
}

impl Cycle {
    /// Starts with a cycle at once, which catches up with everything that became due while nobody
    /// ran.
    pub async fn start(parts: CycleParts) -> Result<(Cycle, CycleTask), LedgerError> {
        let (ledger, ids) = (Arc::clone(&parts.ledger), metric_ids(&parts.collect));
        let set = tokio::task::spawn_blocking(move || ledger.set_metrics(&ids)).await;
        match set.map_err(|error| LedgerError::Store(error.into()))? {
            Ok(()) => {}
            // What is there can be read; the cycle sets them as soon as there is room.
            Err(error) if is_disk_full(&error) => {}
            Err(error) => return Err(error),
        }
        passed(Step::StartMetricsSet);
        let (stop, stopping) = watch::channel(Stop::No);
        let (status, status_seen) = watch::channel(CycleStatus::default());
        let wake = Arc::new(Notify::new());
        let runner = Runner::new(parts, stopping, status, Arc::clone(&wake));
        let task = tokio::spawn(runner.run());
        Ok((Cycle { status: status_seen, wake }, CycleTask { stop, task }))
    }
}

impl CycleTask {
    /// Lets what runs end within `grace`, drops the rest, commits what is finished.
    pub async fn stop(mut self, grace: Duration) {
        let _ = self.stop.send(Stop::Finish);
        if tokio::time::timeout(grace, &mut self.task).await.is_err() {
            let _ = self.stop.send(Stop::Now);
            let _ = (&mut self.task).await;
        }
    }
}

/// Something a task of the runner has come back with.
#[derive(Debug)]
pub(super) enum Event {
    Worked { slice: Slice, worked: Worked },
    Fetched { fetcher: String, began: DateTime<Utc>, outcome: Result<Found, FetchFailure> },
    Synced { began: DateTime<Utc>, outcome: Result<Box<Synced>, String> },
}

/// What one cycle did.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) begin: DateTime<Utc>,
    pub(super) slices: u64,
    pub(super) rows: u64,
    pub(super) failures: u64,
    /// By metric index: periods lost, with the first and the last.
    pub(super) lost: BTreeMap<usize, (u64, i64, i64)>,
}

pub(super) struct Runner {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) sources: Arc<dyn Sources>,
    pub(super) rating: Rating,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) collect: Arc<CollectConfig>,
    pub(super) plan: Plan,
    pub(super) worker: Arc<Worker>,
    discover: Arc<Discover>,
    pub(super) tasks: JoinSet<Event>,
    pub(super) commits: JoinSet<Vec<(Finished, Outcome)>>,
    pub(super) reprocess: Reprocess,
    pub(super) finished: VecDeque<Finished>,
    /// Fetchers to be asked as soon as they may.
    pub(super) fetchers_due: BTreeSet<String>,
    pub(super) fetchers_asked: BTreeSet<String>,
    pub(super) is_sync_due: bool,
    pub(super) is_syncing: bool,
    /// A commit ended while the ledger was being read: perhaps something was changed after the one
    /// and before the other, and nobody knows.
    pub(super) is_sync_overtaken: bool,
    stamp: Option<(ChainKey, u64)>,
    /// What is not rated because records of the ledger are damaged.
    pub(super) held: Vec<Trouble>,
    next_tick: DateTime<Utc>,
    pub(super) tally: Option<Tally>,
    pub(super) status: watch::Sender<CycleStatus>,
    stop: watch::Receiver<Stop>,
    wake: Arc<Notify>,
}

impl Runner {
    pub(super) fn new(
        parts: CycleParts,
        stop: watch::Receiver<Stop>,
        status: watch::Sender<CycleStatus>,
        wake: Arc<Notify>,
    ) -> Runner {
        let CycleParts { ledger, sources, rating, metrics, clock, .. } = parts;
        let collect = Arc::new(parts.collect);
        let rules = PlanRules {
            period_secs: collect.period_secs,
            wait_periods: collect.wait_periods,
            slice_scopes_max: collect.slice_scopes_max,
            slices_in_flight_max: collect.slices_in_flight_max,
        };
        let back_off = BackOff::new(collect.retry);
        let worker = Arc::new(Worker {
            sources: Arc::clone(&sources),
            rating: rating.clone(),
            metrics: collect.metrics.iter().map(PlannedMetric::new).collect(),
            scope_key: collect.scope_key.as_str().into(),
            stop: stop.clone(),
        });
        let reprocess = Reprocess::new(
            Arc::clone(&ledger),
            Arc::clone(&worker),
            Arc::clone(&metrics),
            Arc::clone(&collect),
            Holds::new(back_off, parts.jitter.clone()),
        );
        let discover = Discover {
            sources: Arc::clone(&sources),
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            collect: Arc::clone(&collect),
            static_scopes: parts.static_scopes,
        };
        Runner {
            plan: Plan::new(rules, Holds::new(back_off, parts.jitter), collect.metrics.len()),
            worker,
            discover: Arc::new(discover),
            tasks: JoinSet::new(),
            commits: JoinSet::new(),
            reprocess,
            finished: VecDeque::new(),
            fetchers_due: BTreeSet::new(),
            fetchers_asked: BTreeSet::new(),
            is_sync_due: false,
            is_syncing: false,
            is_sync_overtaken: false,
            stamp: None,
            held: Vec::new(),
            // The first cycle starts at once.
            next_tick: clock.now(),
            tally: None,
            ledger,
            sources,
            rating,
            metrics,
            clock,
            collect,
            status,
            stop,
            wake,
        }
    }

    async fn run(mut self) {
        while let Some(wake_at) = self.step() {
            self.wait(wake_at).await;
        }
    }

    /// Begins whatever may begin now; when to look again though nothing has come back, or `None` =
    /// stopped.
    pub(super) fn step(&mut self) -> Option<DateTime<Utc>> {
        let now = self.clock.now();
        // Whoever could stop us is gone: then nobody waits for us either.
        let is_abandoned = self.stop.has_changed().is_err();
        let stop = if is_abandoned { Stop::Now } else { *self.stop.borrow_and_update() };
        if stop == Stop::Now {
            self.tasks.abort_all();
            self.reprocess.tasks.abort_all();
        }
        if stop == Stop::No {
            self.tick(now);
            self.start_fetchers(now);
            self.start_sync(now);
            self.start_slices(now);
        }
        self.start_commit();
        let places = if stop == Stop::No { self.places_to_reprocess() } else { 0 };
        self.reprocess.step(now, &self.plan.holds, places);
        if self.tasks.is_empty() && self.commits.is_empty() {
            self.end_cycle(now);
            if stop != Stop::No && self.reprocess.tasks.is_empty() {
                return None;
            }
        }
        self.publish();
        let held_until = [self.plan.holds.next_end(now), self.reprocess.next_end(now)];
        let held_until = held_until.into_iter().flatten().min();
        Some(held_until.map_or(self.next_tick, |until| until.min(self.next_tick)))
    }

    /// One slice beside a cycle that is at work, so that both go on; half of the places otherwise.
    fn places_to_reprocess(&self) -> usize {
        match self.plan.slices_in_flight() {
            0 => (self.collect.slices_in_flight_max / 2).max(1),
            _ => 1,
        }
    }

    /// Looks at the ledger again: scopes, states, mappings, reprocessings.
    pub(super) fn look(&mut self) {
        self.is_sync_due = true;
        self.reprocess.look();
    }

    /// A tick during a cycle is joined into it: what became due, new scopes and changed states are
    /// taken up at once.
    fn tick(&mut self, now: DateTime<Utc>) {
        let next_tick = self.collect.schedule.after(&now).next();
        let next_tick = next_tick.unwrap_or(DateTime::<Utc>::MAX_UTC);
        if now < self.next_tick {
            // Earlier than we thought when the machine's time was set back.
            self.next_tick = self.next_tick.min(next_tick);
            return;
        }
        self.next_tick = next_tick;
        self.begin_cycle(now);
        self.plan.set_due(now);
        self.fetchers_due.extend(self.collect.fetchers.iter().cloned());
        self.look();
    }

    pub(super) fn begin_cycle(&mut self, now: DateTime<Utc>) {
        if self.tally.is_none() {
            let (slices, rows, failures) = (0, 0, 0);
            self.tally = Some(Tally { begin: now, slices, rows, failures, lost: BTreeMap::new() });
            passed(Step::CycleBegun);
            self.status.send_modify(|status| {
                status.is_running = true;
                status.begin = Some(now);
            });
        }
    }

    fn start_fetchers(&mut self, now: DateTime<Utc>) {
        for fetcher in self.fetchers_due.clone() {
            let is_held = self.plan.holds.holds(&Subject::Fetcher(fetcher.clone()), now);
            if is_held || self.fetchers_asked.contains(&fetcher) {
                continue;
            }
            self.begin_cycle(now);
            self.fetchers_due.remove(&fetcher);
            self.fetchers_asked.insert(fetcher.clone());
            let discover = Arc::clone(&self.discover);
            self.tasks.spawn(async move {
                let fetch = AssertUnwindSafe(discover.fetch(fetcher.clone())).catch_unwind();
                let outcome = fetch.await.unwrap_or_else(|_| Err(FetchFailure::of_our_panic()));
                Event::Fetched { fetcher, began: now, outcome }
            });
        }
    }

    fn start_sync(&mut self, now: DateTime<Utc>) {
        // What is under way will find out when it is committed.
        if self.is_sync_overtaken && self.tasks.is_empty() && self.commits.is_empty() {
            (self.is_sync_due, self.is_sync_overtaken) = (true, false);
        }
        if !self.is_sync_due || self.is_syncing || self.plan.holds.holds(&Subject::Ledger, now) {
            return;
        }
        (self.is_sync_due, self.is_syncing) = (false, true);
        self.plan.begin_sync();
        let (ledger, rating) = (Arc::clone(&self.ledger), self.rating.clone());
        let (collect, sources) = (Arc::clone(&self.collect), Arc::clone(&self.sources));
        self.tasks.spawn(async move {
            let sync = AssertUnwindSafe(read_world(ledger, rating, collect, sources));
            let outcome = sync.catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err("the daemon itself panicked".to_owned()));
            Event::Synced { began: now, outcome: outcome.map(Box::new) }
        });
    }

    fn start_slices(&mut self, now: DateTime<Utc>) {
        while let Some(slice) = self.plan.next(now) {
            self.begin_cycle(now);
            self.metrics.slice_began();
            let ids: Vec<ScopeId> =
                slice.scopes.iter().map(|scope| self.plan.scope_id(*scope).clone()).collect();
            let station = Arc::clone(&self.worker);
            self.tasks.spawn(async move {
                let worked = station.work(slice.clone(), ids).await;
                Event::Worked { slice, worked }
            });
        }
    }

    /// While a commit runs, what finishes meanwhile gathers for the next one.
    fn start_commit(&mut self) {
        if !self.commits.is_empty() || self.finished.is_empty() {
            return;
        }
        let (mut batch, mut slices) = (Vec::new(), 0);
        while let Some(next) = self.finished.front() {
            slices += next.worked.rated.len();
            if slices > COMMIT_SLICES_MAX && !batch.is_empty() {
                break;
            }
            batch.extend(self.finished.pop_front());
        }
        let (ledger, metrics) = (Arc::clone(&self.ledger), Arc::clone(&self.metrics));
        self.commits.spawn_blocking(move || commit(&*ledger, &metrics, batch));
    }

    async fn wait(&mut self, wake_at: DateTime<Utc>) {
        // A millisecond more, as a sleep is counted in milliseconds and may end a little early.
        let sleep = wake_at - self.clock.now() + TimeDelta::milliseconds(1);
        let sleep = sleep.to_std().unwrap_or(Duration::ZERO).min(SLEEP_MAX);
        tokio::select! {
            Some(event) = self.tasks.join_next() => match event {
                Ok(event) => self.take(event),
                Err(error) if error.is_cancelled() => {}
                Err(error) => error!(%error, "A task of the cycle ended early."),
            },
            Some(committed) = self.commits.join_next() => match committed {
                Ok(committed) => self.committed(committed),
                Err(error) => error!(%error, "A commit ended early, restart the daemon."),
            },
            Some(event) = self.reprocess.tasks.join_next() => match event {
                Ok(event) => self.reprocess.take(event, self.clock.now()),
                Err(error) if error.is_cancelled() => {}
                Err(error) => error!(%error, "A task of a reprocessing ended early."),
            },
            () = self.wake.notified() => self.look(),
            _ = self.stop.changed() => {}
            () = tokio::time::sleep(sleep) => {}
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        let now = self.clock.now();
        match event {
            Event::Worked { slice, worked } => self.worked(slice, worked, now),
            Event::Fetched { fetcher, began, outcome } => {
                self.fetched(fetcher, began, outcome, now);
            }
            Event::Synced { began, outcome } => {
                self.is_syncing = false;
                match outcome {
                    Ok(synced) if self.plan.is_continued_by(&synced.world) => {
                        self.synced(*synced, now);
                    }
                    Ok(_) => {
                        self.is_sync_due = true;
                        // Opened again in place, with a record damaged meanwhile.
                        let reason =
                            "the ledger lists other scopes than before, restart the daemon";
                        self.ledger_failed(began, reason.to_owned(), now);
                    }
                    Err(reason) => {
                        self.is_sync_due = true;
                        self.ledger_failed(began, reason, now);
                    }
                }
            }
        }
    }

    fn synced(&mut self, synced: Synced, now: DateTime<Utc>) {
        passed(Step::CycleSynced);
        self.plan.sync(synced.world);
        self.note_held(synced.held, now);
        if self.stamp.as_ref().is_some_and(|stamp| *stamp != synced.stamp) {
            info!("Plugins, rules or states have changed, what failed is tried again.");
            self.plan.changed(now);
            self.reprocess.changed(now);
        }
        self.stamp = Some(synced.stamp);
        self.publish_lag(now);
        self.metrics.set_scopes(self.plan.scope_count());
        self.metrics.set_ledger_size(synced.bytes_on_disk, synced.rows);
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runner").field("plan", &self.plan).finish_non_exhaustive()
    }
}
