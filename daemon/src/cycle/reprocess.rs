//! Periods that are collected and rated again, beside the cycle.
//!
//! One reprocessing at a time, the oldest first, period after period, by the same collecting and
//! rating as the cycle's. What comes out is staged in the ledger, where no reader sees it; after
//! the last period one change swaps all of it in. After a restart it goes on behind the last period
//! that was staged wholly; what is staged twice is staged once.
//!
//! A source that fails is asked again, less and less often, and never taken for one that had
//! nothing. Scopes that fail for themselves are put off into a reprocessing of their own, so that
//! the others get through; so are scopes that have become inactive: theirs waits until they are
//! active again. A disabled collector pauses.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::collect::{WorkFailure, Worked, Worker};
use super::failure::Verdict;
use super::failure::text_of;
use super::hold::{Failed, Holds, PANIC_DELAY, Reaction, Subject};
use super::plan::Slice;
use super::settle::{retry_text, source};
use super::staging::{Answer, Ask, AskFailure, Seen, ask};
use crate::config::CollectConfig;
use crate::fault::{Step, passed};
use crate::ledger::{Held, Ledger, RatedSlice, Reprocessing};
use crate::metrics::{Metrics, ReprocessingOutcome, SliceOutcome, Stage};
use crate::usage::{Period, ScopeId};

/// Works on the reprocessings of the ledger. [`Reprocess::step`] begins what may begin, what comes
/// back from [`Reprocess::tasks`] goes to [`Reprocess::take`].
pub(super) struct Reprocess {
    ledger: Arc<dyn Ledger>,
    worker: Arc<Worker>,
    metrics: Arc<Metrics>,
    collect: Arc<CollectConfig>,
    /// Apart from the cycle's: a past that a source cannot tell does not hold up the present.
    pub(super) holds: Holds,
    pub(super) tasks: JoinSet<Event>,
    is_asking: bool,
    is_look_due: bool,
    seen: Seen,
    job: Option<Job>,
}

/// Something a task has come back with.
#[derive(Debug)]
pub(super) enum Event {
    Worked { slice: Slice, worked: Worked },
    Asked { began: DateTime<Utc>, outcome: Result<Answer, AskFailure> },
}

/// The reprocessing under way.
#[derive(Debug)]
struct Job {
    id: u64,
    /// A scope's index here is its index in slices.
    scopes: Arc<[ScopeId]>,
    period: Period,
    last_begin: DateTime<Utc>,
    /// What is left to begin of the period.
    left: Vec<Chunk>,
    /// Metrics of the slices that are worked on.
    in_flight: Vec<usize>,
    rated: Vec<RatedSlice>,
    /// Given to the ledger, not yet known to be there.
    staging: Vec<RatedSlice>,
    /// Scopes that failed for themselves in this period, and how.
    failed: BTreeMap<u32, (Reaction, String)>,
    /// Nothing new begins; it is chosen again when its hold is over.
    is_given_up: bool,
}

/// A slice to be.
#[derive(Debug, Clone)]
struct Chunk {
    metric: usize,
    scopes: Vec<u32>,
    not_before: Option<DateTime<Utc>>,
}

impl Reprocess {
    pub(super) fn new(
        ledger: Arc<dyn Ledger>,
        worker: Arc<Worker>,
        metrics: Arc<Metrics>,
        collect: Arc<CollectConfig>,
        holds: Holds,
    ) -> Reprocess {
        Reprocess {
            ledger,
            worker,
            metrics,
            collect,
            holds,
            tasks: JoinSet::new(),
            is_asking: false,
            is_look_due: true,
            seen: Seen::default(),
            job: None,
        }
    }

    /// Reads the ledger again: reprocessings, scopes, states, mappings may be others now.
    pub(super) fn look(&mut self) {
        self.is_look_due = true;
    }

    /// Plugins, rules or states are others now: what is held back may be tried at once.
    pub(super) fn changed(&mut self, now: DateTime<Utc>) {
        self.holds.changed(now);
        self.look();
    }

    /// Begins what may begin now, at most so many slices at once; none = only what is finished is
    /// stored. A source that the cycle holds back is not asked here either.
    pub(super) fn step(&mut self, now: DateTime<Utc>, cycle_holds: &Holds, places: usize) {
        if !self.is_asking
            && !self.holds.holds(&Subject::Ledger, now)
            && let Some(next) = self.next_ask(now, places > 0)
        {
            self.is_asking = true;
            let (ledger, collect) = (Arc::clone(&self.ledger), Arc::clone(&self.collect));
            self.tasks.spawn(async move {
                let asked = tokio::task::spawn_blocking(move || ask(&*ledger, &collect, next));
                let outcome = asked.await.unwrap_or_else(|_| Err(AskFailure::of_our_panic()));
                Event::Asked { began: now, outcome }
            });
        }
        self.start_slices(now, cycle_holds, places);
    }

    /// When what is held back may go on, if it is not yet over.
    pub(super) fn next_end(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let left = self.job.iter().flat_map(|job| &job.left).filter_map(|chunk| chunk.not_before);
        left.filter(|until| *until > now).chain(self.holds.next_end(now)).min()
    }

    pub(super) fn take(&mut self, event: Event, now: DateTime<Utc>) {
        match event {
            Event::Worked { slice, worked } => self.worked(&slice, worked, now),
            Event::Asked { began, outcome } => {
                self.is_asking = false;
                match outcome {
                    Ok(answer) => {
                        self.recovered(&Subject::Ledger, began);
                        self.answered(answer, now);
                    }
                    Err(failure) => self.ask_failed(failure, began, now),
                }
            }
        }
    }

    // ---- the ledger -----------------------------------------------------------------------------

    fn next_ask(&mut self, now: DateTime<Utc>, goes_on: bool) -> Option<Ask> {
        if let Some(job) = &mut self.job {
            if !job.rated.is_empty() {
                job.staging = std::mem::take(&mut job.rated);
                return Some(Ask::Stage { id: job.id, slices: job.staging.clone() });
            }
            if job.is_given_up && job.in_flight.is_empty() {
                self.job = None;
                self.is_look_due = true;
            }
        }
        if !goes_on {
            return None;
        }
        if self.is_look_due {
            self.is_look_due = false;
            return Some(Ask::Look);
        }
        if self.job.is_none() {
            self.job = self.choose(now);
        }
        self.job.as_ref()?.is_period_done().then(|| self.end_period(now)).flatten()
    }

    /// The oldest that is not held back, of those with an active scope.
    fn choose(&self, now: DateTime<Utc>) -> Option<Job> {
        let may_go_on = |one: &&Reprocessing| {
            !self.holds.holds(&Subject::Reprocessing(one.id), now)
                && one.scopes.iter().any(|scope| self.seen.active.contains(scope))
        };
        let mut candidates = self.seen.unfinished.iter().filter(may_go_on);
        let job = candidates.find_map(|chosen| Job::new(chosen, &self.collect))?;
        let (id, scopes, period) = (job.id, job.scopes.len(), job.period);
        info!(id, scopes, %period, "Reprocessing from this period on.");
        Some(job)
    }

    /// Everything of the period that could be had is staged.
    fn end_period(&mut self, now: DateTime<Utc>) -> Option<Ask> {
        let job = self.job.as_mut()?;
        let off = job.put_off(&self.seen.active);
        if off.len() < job.scopes.len() {
            let put_off = off.iter().map(|scope| job.scopes[*scope as usize].clone()).collect();
            let (id, begin) = (job.id, job.period.begin());
            return Some(Ask::EndPeriod { id, begin, put_off, is_last: job.is_last_period() });
        }
        // Nobody is left: it is tried again as it is, later.
        if let Some((reaction, reason)) = job.failed.values().next().cloned() {
            let failed = Failed { at: now, began: now, reaction, reason };
            self.holds.failed(Subject::Reprocessing(job.id), failed);
        }
        self.job = None;
        Some(Ask::Look)
    }

    fn answered(&mut self, answer: Answer, now: DateTime<Utc>) {
        match answer {
            Answer::Seen(seen) => {
                let before = std::mem::replace(&mut self.seen, *seen);
                let count = self.seen.unfinished.len() + self.seen.held.len();
                self.metrics.set_reprocessings_unfinished(count);
                let is_new = |(id, _): &(&u64, &Held)| !before.held.contains_key(id);
                for (id, held) in self.seen.held.iter().filter(is_new) {
                    let reason = text_of(&held.clone().error());
                    warn!(id, reason, "A reprocessing waits until a damaged record is restored.");
                }
                let is_gone = |job: &Job| !self.seen.unfinished.iter().any(|one| one.id == job.id);
                if self.job.as_ref().is_some_and(is_gone) {
                    self.give_up();
                }
            }
            Answer::Staged => self.job.iter_mut().for_each(|job| job.staging.clear()),
            Answer::PeriodEnded { put_off_as, is_finished } => {
                self.period_ended(put_off_as, is_finished, now);
            }
            // Somebody else has ended it.
            Answer::Gone => self.give_up(),
        }
    }

    fn period_ended(&mut self, put_off_as: Option<u64>, is_finished: bool, now: DateTime<Utc>) {
        self.metrics.reprocessed_period_ended();
        let Some(job) = &mut self.job else { return };
        let id = job.id;
        self.holds.succeeded(&Subject::Reprocessing(id));
        if let Some(other) = put_off_as {
            self.metrics.reprocessing_ended(ReprocessingOutcome::PutOff);
            if let Some((reaction, reason)) = job.failed.values().next().cloned() {
                let failed = Failed { at: now, began: now, reaction, reason };
                self.holds.failed(Subject::Reprocessing(other), failed);
            }
            warn!(id, other, "Scopes of a reprocessing were put off into one of their own.");
        }
        if is_finished {
            self.metrics.reprocessing_ended(ReprocessingOutcome::Finished);
            let scopes = job.scopes.len();
            info!(id, scopes, "Reprocessing finished, its new rows are what reports show.");
        }
        let next = job.period.next().filter(|_| put_off_as.is_none() && !is_finished);
        if let Some(next) = next {
            job.begin_period(next, &self.collect);
        } else {
            self.job = None;
            self.is_look_due = true;
        }
    }

    fn ask_failed(&mut self, failure: AskFailure, began: DateTime<Utc>, now: DateTime<Utc>) {
        let AskFailure { is_of_the_data, reason } = failure;
        let job = self.job.as_ref().filter(|_| is_of_the_data);
        let (subject, reaction) = match &job {
            Some(job) => (Subject::Reprocessing(job.id), Reaction::RetryFew),
            None => (Subject::Ledger, Reaction::Retry),
        };
        self.metrics.failed_at(Stage::Commit);
        let id = self.job.as_ref().map(|job| job.id);
        error!(id, reason, "The ledger failed in a reprocessing, will retry.");
        self.holds.failed(subject, Failed { at: now, began, reaction, reason });
        if is_of_the_data {
            return self.give_up();
        }
        self.is_look_due = true;
        if let Some(job) = &mut self.job {
            let staging = std::mem::take(&mut job.staging);
            job.rated.extend(staging);
        }
    }

    fn give_up(&mut self) {
        if let Some(job) = &mut self.job {
            job.is_given_up = true;
            job.rated.clear();
            job.staging.clear();
        }
        self.is_look_due = true;
    }

    // ---- slices ---------------------------------------------------------------------------------

    fn start_slices(&mut self, now: DateTime<Utc>, cycle_holds: &Holds, places: usize) {
        let Some(job) = self.job.as_mut().filter(|job| !job.is_given_up) else { return };
        while job.in_flight.len() < places {
            let (seen, holds) = (&self.seen, &self.holds);
            let may = |chunk: &Chunk| {
                chunk.not_before.is_none_or(|until| until <= now)
                    && may_be_asked(chunk.metric, seen, &job.in_flight, [cycle_holds, holds], now)
            };
            let Some(index) = job.left.iter().position(may) else { return };
            let Chunk { metric, scopes, .. } = job.left.remove(index);
            let takes_part = |scope: &u32| {
                let is_active = seen.active.contains(&job.scopes[*scope as usize]);
                is_active && !job.failed.contains_key(scope)
            };
            let scopes: Vec<u32> = scopes.into_iter().filter(takes_part).collect();
            if scopes.is_empty() {
                continue;
            }
            let ids = scopes.iter().map(|scope| job.scopes[*scope as usize].clone()).collect();
            let (collector, period) = (Arc::clone(&seen.routes.collectors[metric]), job.period);
            let last_due_begin = period.begin_secs();
            let slice = Slice { metric, collector, period, scopes, last_due_begin, began: now };
            job.in_flight.push(metric);
            let station = Arc::clone(&self.worker);
            self.tasks.spawn(async move {
                let worked = station.work(slice.clone(), ids).await;
                Event::Worked { slice, worked }
            });
        }
    }

    fn worked(&mut self, slice: &Slice, worked: Worked, now: DateTime<Utc>) {
        passed(Step::ReprocessWorked);
        let is_failed = worked.rated.is_empty();
        let outcome = if is_failed { SliceOutcome::Failed } else { SliceOutcome::Stored };
        self.metrics.reprocessed_slice_ended(outcome);
        let Some(job) = &mut self.job else { return };
        if let Some(index) = job.in_flight.iter().position(|metric| *metric == slice.metric) {
            job.in_flight.swap_remove(index);
        }
        job.rated.extend(worked.rated);
        let is_source_bad =
            |failure: &WorkFailure| !matches!(failure.verdict, Verdict::Scope(_) | Verdict::Halve);
        if !worked.failed.iter().any(is_source_bad) {
            self.recovered(&Subject::Chain, slice.began);
            self.recovered(&source(slice), slice.began);
        }
        for failure in worked.failed {
            self.failed(slice, failure, now);
        }
    }

    fn failed(&mut self, slice: &Slice, failure: WorkFailure, now: DateTime<Utc>) {
        let WorkFailure { stage, scopes, verdict, reason } = failure;
        let Some(job) = &mut self.job else { return };
        let metric = slice.metric;
        if verdict != Verdict::Cancelled {
            self.metrics.failed_at(stage);
        }
        let (subject, reaction) = match verdict {
            Verdict::Chain(reaction) => (Subject::Chain, reaction),
            Verdict::Source(reaction) => (source(slice), reaction),
            Verdict::Cancelled | Verdict::Lost => (source(slice), Reaction::Retry),
            Verdict::Scope(reaction) => {
                return job.scopes_failed(&scopes, reaction, &reason);
            }
            Verdict::Halve if scopes.len() == 1 => {
                return job.scopes_failed(&scopes, Reaction::RetryAfterPanic, &reason);
            }
            Verdict::Halve => {
                let not_before = Some(now + PANIC_DELAY);
                let (low, high) = scopes.split_at(scopes.len() / 2);
                let half = |scopes: &[u32]| Chunk { metric, scopes: scopes.to_vec(), not_before };
                return job.left.extend([half(low), half(high)]);
            }
        };
        job.left.insert(0, Chunk { metric, scopes, not_before: None });
        let attempts_before = self.holds.get(&subject).map_or(0, |hold| hold.attempts);
        let failed = Failed { at: now, began: slice.began, reaction, reason };
        let hold = self.holds.failed(subject, failed);
        if hold.attempts > attempts_before && hold.attempts.is_power_of_two() {
            let (collector, period, attempts) = (&*slice.collector, slice.period, hold.attempts);
            let (metric, reason) = (&self.worker.metrics[metric].metric.id, &hold.reason);
            let (id, retry) = (job.id, retry_text(hold));
            warn!(id, %metric, collector, %period, attempts, reason, retry,
                "A period could not be reprocessed.");
        }
    }

    /// What began before the newest failure proves nothing.
    fn recovered(&mut self, subject: &Subject, began: DateTime<Utc>) {
        if self.holds.get(subject).is_some_and(|hold| began >= hold.failed_at) {
            self.holds.succeeded(subject);
        }
    }
}

impl Job {
    /// `None` = its periods are outside of what dates can say.
    fn new(reprocessing: &Reprocessing, collect: &CollectConfig) -> Option<Job> {
        let Reprocessing { id, ref scopes, start, end, current, .. } = *reprocessing;
        let period_secs = i64::from(collect.period_secs);
        let period = |begin: i64| Period::from_secs(begin, begin.checked_add(period_secs)?);
        let next = match current {
            None => period(start.timestamp())?,
            Some(current) => period(current.timestamp())?.next()?,
        };
        let mut job = Job {
            id,
            scopes: scopes.as_slice().into(),
            period: next,
            last_begin: end,
            left: Vec::new(),
            in_flight: Vec::new(),
            rated: Vec::new(),
            staging: Vec::new(),
            failed: BTreeMap::new(),
            is_given_up: false,
        };
        if next.begin() <= end {
            job.begin_period(next, collect);
        } else {
            // Everything is staged, only the swap is missing.
            job.period = period(current?.timestamp())?;
        }
        Some(job)
    }

    fn begin_period(&mut self, period: Period, collect: &CollectConfig) {
        self.period = period;
        self.failed.clear();
        let count = u32::try_from(self.scopes.len()).expect("a ledger has fewer scopes");
        let all: Vec<u32> = (0..count).collect();
        for metric in 0..collect.metrics.len() {
            let chunk = |scopes: &[u32]| {
                let scopes = scopes.to_vec();
                Chunk { metric, scopes, not_before: None }
            };
            self.left.extend(all.chunks(collect.slice_scopes_max.max(1)).map(chunk));
        }
    }

    fn is_period_done(&self) -> bool {
        !self.is_given_up
            && self.left.is_empty()
            && self.in_flight.is_empty()
            && self.rated.is_empty()
            && self.staging.is_empty()
    }

    fn is_last_period(&self) -> bool {
        self.period.end() > self.last_begin
    }

    /// Scopes that are to go on by themselves.
    fn put_off(&self, active: &HashSet<ScopeId>) -> Vec<u32> {
        let is_off = |(index, id): (u32, &ScopeId)| {
            (self.failed.contains_key(&index) || !active.contains(id)).then_some(index)
        };
        (0..).zip(self.scopes.iter()).filter_map(is_off).collect()
    }

    fn scopes_failed(&mut self, scopes: &[u32], reaction: Reaction, reason: &str) {
        let (id, period, count) = (self.id, self.period, scopes.len());
        if let Some(scope) = scopes.first().map(|first| &self.scopes[*first as usize]) {
            warn!(id, %scope, scopes = count, %period, reason,
                "Scopes could not be reprocessed, the others go on.");
        }
        for scope in scopes {
            self.failed.entry(*scope).or_insert_with(|| (reaction, reason.to_owned()));
        }
    }
}

/// A source that failed is asked by one slice alone until it has answered.
fn may_be_asked(
    metric: usize,
    seen: &Seen,
    in_flight: &[usize],
    holds: [&Holds; 2],
    now: DateTime<Utc>,
) -> bool {
    let Some(collector) = seen.routes.collectors.get(metric) else { return false };
    let source = Subject::Source { collector: collector.as_ref().to_owned(), metric };
    !seen.routes.disabled.contains(&**collector)
        && holds.iter().all(|holds| {
            !holds.holds(&Subject::Chain, now)
                && match holds.get(&source) {
                    None => true,
                    Some(hold) => hold.is_over(now) && !in_flight.contains(&metric),
                }
        })
}

impl fmt::Debug for Reprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reprocess").field("job", &self.job).finish_non_exhaustive()
    }
}
