//! What came of a piece of work: who goes on, who waits, what is said about it.

use chrono::{DateTime, SubsecRound, Utc};
use tracing::{debug, error, info, warn};

use super::collect::{WorkFailure, Worked};
use super::commit::{Finished, Outcome};
use super::discover::{FetchFailure, Found};
use super::failure::Verdict;
use super::hold::{Failed, Hold, Reaction, Subject};
use super::plan::Slice;
use super::run::{Runner, Tally};
use super::status::{TROUBLES_MAX, Trouble};
use crate::fault::{Step, passed};
use crate::ledger::{Failure, Held};
use crate::metrics::{SliceOutcome, Stage};
use crate::usage::Period;

impl Runner {
    pub(super) fn worked(&mut self, slice: Slice, worked: Worked, now: DateTime<Utc>) {
        let mut notes = Vec::new();
        for failure in &worked.failed {
            let failed = |reaction| Failed {
                at: now,
                began: slice.began,
                reaction,
                reason: failure.reason.clone(),
            };
            let subject = subject_of(&slice, failure);
            let before = self.plan.holds.get(&subject).map_or(0, |hold| hold.attempts);
            let attempts = self.hold_back(&slice, failure, failed);
            if failure.verdict == Verdict::Cancelled {
                continue;
            }
            self.metrics.failed_at(failure.stage);
            let metric = &self.worker.metrics[slice.metric].metric;
            notes.push(Failure {
                metric: metric.id.clone(),
                period: worked.period,
                scopes: failure.scopes.iter().map(|s| self.plan.scope_id(*s).clone()).collect(),
                attempts,
                at: now,
                reason: failure.reason.clone(),
            });
            // What failed together is said once; what keeps failing, less and less often.
            if attempts > before && attempts.is_power_of_two() {
                self.log_failure(&slice, &worked, failure, attempts);
            }
        }
        if let Some(tally) = &mut self.tally {
            tally.failures += worked.failed.len() as u64;
        }
        let failed_as = |is: fn(Verdict) -> bool| worked.failed.iter().any(|f| is(f.verdict));
        if !failed_as(|verdict| matches!(verdict, Verdict::Chain(_))) {
            self.recovered(&Subject::Chain, slice.began);
            if !failed_as(|verdict| matches!(verdict, Verdict::Source(_) | Verdict::Cancelled)) {
                self.recovered(&source(&slice), slice.began);
            }
        }
        self.finished.push_back(Finished { slice, worked, notes });
    }

    /// Attempts so far.
    fn hold_back(
        &mut self,
        slice: &Slice,
        failure: &WorkFailure,
        failed: impl Fn(Reaction) -> Failed,
    ) -> u32 {
        let holds = &mut self.plan.holds;
        let (metric, scopes) = (slice.metric, &failure.scopes);
        match failure.verdict {
            Verdict::Chain(reaction) => holds.failed(Subject::Chain, failed(reaction)).attempts,
            Verdict::Source(reaction) => holds.failed(source(slice), failed(reaction)).attempts,
            Verdict::Cancelled | Verdict::Lost => {
                holds.failed(source(slice), failed(Reaction::Retry)).attempts
            }
            Verdict::Scope(reaction) => holds.failed_together(metric, scopes, &failed(reaction)),
            Verdict::Halve => {
                let failed = failed(Reaction::RetryAfterPanic);
                let attempts = holds.failed_together(metric, scopes, &failed);
                if scopes.len() > 1 {
                    self.plan.halve(metric, scopes);
                }
                attempts
            }
        }
    }

    /// What began before the newest failure proves nothing.
    fn recovered(&mut self, subject: &Subject, began: DateTime<Utc>) {
        if self.plan.holds.get(subject).is_none_or(|hold| began < hold.failed_at) {
            return;
        }
        if let Some(hold) = self.plan.holds.succeeded(subject) {
            let (attempts, subject) = (hold.attempts, self.name_of(subject));
            info!(%subject, failed_attempts = attempts, "Works again.");
        }
    }

    pub(super) fn committed(&mut self, committed: Vec<(Finished, Outcome)>) {
        let now = self.clock.now();
        passed(Step::CycleCommitted);
        self.is_sync_overtaken |= self.is_syncing;
        for (finished, outcome) in committed {
            let Finished { slice, worked, .. } = &finished;
            let first_secs = slice.period.begin_secs();
            match outcome {
                Outcome::Stored { scopes, rows } => {
                    self.stored(slice, worked, scopes, rows);
                    if !worked.rated.is_empty() {
                        self.recovered(&Subject::Ledger, now);
                    }
                }
                Outcome::Refused(reason) => {
                    error!(metric = self.metric_name(slice.metric), period = %slice.period, reason,
                        "The ledger refused a slice, will retry.");
                    let (at, began) = (now, slice.began);
                    let reaction = Reaction::RetryFew;
                    let failed = Failed { at, began, reaction, reason };
                    self.plan.holds.failed(source(slice), failed);
                    self.plan.put_back(slice.metric, &slice.scopes, first_secs);
                    self.slice_failed(Stage::Commit);
                }
                Outcome::Failed(reason) => {
                    self.ledger_failed(slice.began, reason, now);
                    self.plan.put_back(slice.metric, &slice.scopes, first_secs);
                    self.slice_failed(Stage::Commit);
                }
            }
            self.plan.ended(slice);
        }
    }

    fn stored(&mut self, slice: &Slice, worked: &Worked, scopes: usize, rows: usize) {
        let metric = slice.metric;
        let scopes_given: usize = worked.rated.iter().map(|rated| rated.scopes.len()).sum();
        if scopes < scopes_given {
            self.plan.doubt(metric, &worked.done);
            self.is_sync_due = true;
        } else {
            self.plan.stored(metric, &worked.done, worked.done_next_begin);
        }
        let begin = worked.period.begin_secs();
        for failure in &worked.failed {
            match failure.verdict {
                Verdict::Scope(_) | Verdict::Halve => {
                    self.plan.put_aside(metric, &failure.scopes, begin);
                }
                _ => self.plan.put_back(metric, &failure.scopes, begin),
            }
        }
        let outcome = match (worked.rated.is_empty(), scopes) {
            (true, _) => SliceOutcome::Failed,
            (false, 0) => SliceOutcome::Known,
            (false, _) => SliceOutcome::Stored,
        };
        self.metrics.slice_ended(outcome);
        self.metrics.rows_stored(rows as u64);
        self.status.send_modify(|status| status.rows_stored += rows as u64);
        let Some(tally) = &mut self.tally else { return };
        tally.slices += 1;
        tally.rows += rows as u64;
        let left_behind = &worked.rated[..worked.periods_lost];
        if let ([first, ..], [.., newest]) = (left_behind, left_behind) {
            let (first, newest) = (first.period.begin_secs(), newest.period.begin_secs());
            let lost = tally.lost.entry(metric).or_insert((0, first, newest));
            lost.0 += worked.periods_lost as u64;
            lost.1 = lost.1.min(first);
            lost.2 = lost.2.max(newest);
        }
    }

    fn slice_failed(&mut self, stage: Stage) {
        self.metrics.failed_at(stage);
        self.metrics.slice_ended(SliceOutcome::Failed);
        if let Some(tally) = &mut self.tally {
            tally.failures += 1;
        }
    }

    pub(super) fn ledger_failed(
        &mut self,
        began: DateTime<Utc>,
        reason: String,
        now: DateTime<Utc>,
    ) {
        let failed = Failed { at: now, began, reaction: Reaction::Retry, reason };
        let before = self.plan.holds.get(&Subject::Ledger).map_or(0, |hold| hold.attempts);
        let hold = self.plan.holds.failed(Subject::Ledger, failed);
        if hold.attempts > before && hold.attempts.is_power_of_two() {
            let (attempts, reason) = (hold.attempts, &hold.reason);
            error!(attempts, reason, "The ledger failed, nothing is collected for a while.");
        }
    }

    /// Said when it is found.
    pub(super) fn note_held(&mut self, held: Vec<Held>, now: DateTime<Utc>) {
        let known = std::mem::take(&mut self.held);
        for Held { place, detail } in held {
            let trouble = known.iter().find(|trouble| trouble.subject == place).cloned();
            self.held.push(trouble.unwrap_or_else(|| {
                error!(place, detail, "A damaged record; what it is about is not rated.");
                Trouble { subject: place, since: now, attempts: 1, reason: detail }
            }));
        }
    }

    pub(super) fn fetched(
        &mut self,
        fetcher: String,
        began: DateTime<Utc>,
        outcome: Result<Found, FetchFailure>,
        now: DateTime<Utc>,
    ) {
        passed(Step::CycleFetched);
        self.fetchers_asked.remove(&fetcher);
        let subject = Subject::Fetcher(fetcher.clone());
        match outcome {
            Ok(found) => {
                self.recovered(&subject, began);
                for _ in 0..found.ids_refused {
                    self.metrics.failed_at(Stage::Discover);
                }
                if found.scopes_added > 0 {
                    info!(fetcher, count = found.scopes_added, "New scopes.");
                    self.is_sync_due = true;
                }
            }
            Err(FetchFailure { reaction, reason }) => {
                self.metrics.failed_at(Stage::Discover);
                let failed = Failed { at: now, began, reaction, reason };
                let hold = self.plan.holds.failed(subject, failed);
                if hold.attempts.is_power_of_two() {
                    let (attempts, reason) = (hold.attempts, &hold.reason);
                    let retry = retry_text(hold);
                    warn!(fetcher, attempts, reason, retry, "Scopes could not be fetched.");
                }
                self.fetchers_due.insert(fetcher);
            }
        }
    }

    fn log_failure(&self, slice: &Slice, worked: &Worked, failure: &WorkFailure, attempts: u32) {
        let (metric, collector) = (self.metric_name(slice.metric), &*slice.collector);
        let (period, scopes, reason) = (worked.period, failure.scopes.len(), &failure.reason);
        let Some(hold) = self.plan.holds.get(&subject_of(slice, failure)) else { return };
        let retry = retry_text(hold);
        match (failure.stage, failure.scopes.as_slice()) {
            (Stage::Rate, [scope]) => {
                let scope = self.plan.scope_id(*scope);
                warn!(metric, %scope, %period, attempts, reason, retry, "Rating failed.");
            }
            (Stage::Rate, _) => {
                warn!(metric, scopes, %period, attempts, reason, retry, "Rating failed.");
            }
            (_, [scope]) => {
                let scope = self.plan.scope_id(*scope);
                warn!(metric, collector, %scope, %period, attempts, reason, retry,
                    "Collection failed.");
            }
            _ => warn!(metric, collector, scopes, %period, attempts, reason, retry,
                "Collection failed."),
        }
    }

    // ---- the cycle's end and its status ----

    pub(super) fn end_cycle(&mut self, now: DateTime<Utc>) {
        let Some(tally) = self.tally.take() else { return };
        passed(Step::CycleEnded);
        self.publish_lag(now);
        let duration = (now - tally.begin).to_std().unwrap_or_default();
        self.metrics.cycle_ended(duration);
        self.log_lost(&tally);
        let (slices, rows, failures) = (tally.slices, tally.rows, tally.failures);
        let duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if slices > 0 {
            info!(slices, rows, failures, duration_ms, "Cycle ended.");
        } else {
            debug!(failures, duration_ms, "Cycle ended, nothing was due.");
        }
        self.status.send_modify(|status| {
            status.is_running = false;
            status.end = Some(now);
            status.cycles_ended += 1;
        });
    }

    /// One line, however many periods.
    fn log_lost(&self, tally: &Tally) {
        let periods: u64 = tally.lost.values().map(|(count, _, _)| count).sum();
        let first = tally.lost.values().map(|(_, first, _)| *first).min();
        let last = tally.lost.values().map(|(_, _, last)| *last).max();
        let (Some(first), Some(last)) = (first, last) else { return };
        let end = last + i64::from(self.collect.period_secs);
        let range = Period::from_secs(first, end).map(|range| range.to_string());
        let metrics: Vec<String> =
            tally.lost.keys().map(|metric| self.metric_name(*metric)).collect();
        let metrics = metrics.join(", ");
        warn!(metrics, periods, range, "Lost: the source can never tell these periods any more.");
    }

    /// Tells the watchers when something they see is another.
    pub(super) fn publish(&mut self) {
        let troubles = self.troubles();
        let (in_flight, scopes) = (self.plan.slices_in_flight(), self.plan.scope_count());
        self.status.send_if_modified(|status| {
            let is_same = (status.slices_in_flight, status.scopes) == (in_flight, scopes)
                && status.troubles == troubles;
            (status.slices_in_flight, status.scopes) = (in_flight, scopes);
            status.troubles = troubles;
            !is_same
        });
    }

    /// Looks at every cursor, so only now and then.
    pub(super) fn publish_lag(&mut self, now: DateTime<Utc>) {
        let behind = self.plan.furthest_behind();
        if let Some(begin) = behind {
            self.metrics.set_oldest_cursor_lag_secs((now.timestamp() - begin).max(0));
        }
        let behind = behind.and_then(|begin| DateTime::from_timestamp(begin, 0));
        self.status.send_modify(|status| status.furthest_behind = behind);
    }

    fn troubles(&self) -> Vec<Trouble> {
        let trouble = |(subject, hold): (String, &Hold)| Trouble {
            subject,
            since: hold.since,
            attempts: hold.attempts,
            reason: hold.reason.clone(),
        };
        let of_cycle = self.plan.holds.iter().map(|(of, hold)| (self.name_of(of), hold));
        let of_reprocessing = self.reprocess.holds.iter().map(|(of, hold)| match of {
            Subject::Reprocessing(_) => (self.name_of(of), hold),
            other => (format!("reprocessing: {}", self.name_of(other)), hold),
        });
        let held = self.held.iter().cloned();
        held.chain(of_cycle.chain(of_reprocessing).map(trouble)).take(TROUBLES_MAX).collect()
    }

    fn metric_name(&self, metric: usize) -> String {
        self.worker.metrics[metric].metric.id.to_string()
    }

    fn name_of(&self, subject: &Subject) -> String {
        match subject {
            Subject::Ledger => "the ledger".to_owned(),
            Subject::Chain => "rating".to_owned(),
            Subject::Source { collector, metric } => {
                format!("metric `{}` of collector `{collector}`", self.metric_name(*metric))
            }
            Subject::Scope { metric, scope } => {
                let (scope, metric) = (self.plan.scope_id(*scope), self.metric_name(*metric));
                format!("metric `{metric}` of scope `{scope}`")
            }
            Subject::Fetcher(name) => format!("fetcher `{name}`"),
            Subject::Reprocessing(id) => format!("reprocessing {id}"),
        }
    }
}

pub(super) fn source(slice: &Slice) -> Subject {
    Subject::Source { collector: slice.collector.to_string(), metric: slice.metric }
}

/// What stands for the failure: of scopes that failed together, the first.
fn subject_of(slice: &Slice, failure: &WorkFailure) -> Subject {
    match failure.verdict {
        Verdict::Chain(_) => Subject::Chain,
        Verdict::Scope(_) | Verdict::Halve => {
            Subject::Scope { metric: slice.metric, scope: failure.scopes[0] }
        }
        Verdict::Source(_) | Verdict::Cancelled | Verdict::Lost => source(slice),
    }
}

pub(super) fn retry_text(hold: &Hold) -> String {
    match hold.until {
        Some(until) => until.trunc_subsecs(0).to_rfc3339(),
        None => "when plugins, rules or states change".to_owned(),
    }
}
