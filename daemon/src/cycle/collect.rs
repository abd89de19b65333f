//! One slice from its source to rated rows, or to the failures that stood in the way.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow_array::RecordBatch;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{CollectRequest, MetricDefinition};
use tokio::sync::watch;

use super::bisect::bisect;
use super::failure::{self, Verdict};
use super::hold::Reaction;
use super::plan::Slice;
use super::rate::{Rows, lost};
use super::run::Stop;
use super::sources::Sources;
use crate::fault::{Step, passed};
use crate::ledger::RatedSlice;
use crate::metrics::Stage;
use crate::rating::{CallFailure, Chain, Rating, RatingError};
use crate::usage::{Converter, Metric, Period, ScopeId};

/// Periods that a slice runs ahead before it is committed: they share one commit, and the source
/// does not wait for the disk after each of them.
const RUN_PERIODS_MAX: usize = 24;

/// Rows after which a slice runs ahead no further.
const RUN_ROWS_MAX: usize = 10_000;

/// Periods that a slice runs ahead through a past that is lost.
const LOST_RUN_MAX: usize = 512;

/// Scopes times periods that one slice may note before it is committed: memory is limited.
const RUN_NOTES_MAX: usize = 1 << 16;

/// Further calls to a source to find the scopes whose data is bad.
const COLLECT_CALLS_MAX: usize = 32;

/// Further calls to the module chain to find the scopes whose rows are bad.
const RATE_CALLS_MAX: usize = 256;

/// A metric of the configuration, made ready.
#[derive(Debug, Clone)]
pub(super) struct PlannedMetric {
    pub(super) metric: Arc<Metric>,
    pub(super) definition: MetricDefinition,
    pub(super) converter: Arc<Converter>,
}

impl PlannedMetric {
    pub(super) fn new(metric: &Metric) -> PlannedMetric {
        PlannedMetric {
            metric: Arc::new(metric.clone()),
            definition: MetricDefinition {
                name: metric.id.name.clone(),
                alt_name: metric.id.alt_name.clone(),
                unit: metric.unit.clone(),
                groupby: metric.groupby.clone(),
                metadata: metric.metadata.clone(),
                extra_args: metric.extra_args.clone(),
            },
            converter: Arc::new(Converter::new(metric)),
        }
    }
}

/// What became of a slice.
#[derive(Debug)]
pub(super) struct Worked {
    /// To be committed in this order: periods that are lost, then those that were collected, each
    /// of them in parts, `period` last.
    pub(super) rated: Vec<RatedSlice>,
    /// Begin of each scope's next period once `rated` is in the ledger, for the scopes that did not
    /// fail.
    pub(super) done: Vec<u32>,
    pub(super) done_next_begin: i64,
    /// The period worked on last; the failed scopes stand there.
    pub(super) period: Period,
    pub(super) periods_lost: usize,
    pub(super) periods_collected: usize,
    pub(super) failed: Vec<WorkFailure>,
}

/// Scopes that could not be worked on, and why.
#[derive(Debug, Clone)]
pub(super) struct WorkFailure {
    pub(super) stage: Stage,
    pub(super) scopes: Vec<u32>,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

/// Works on slices; shared by all of them.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) sources: Arc<dyn Sources>,
    pub(super) rating: Rating,
    pub(super) metrics: Vec<PlannedMetric>,
    pub(super) scope_key: Arc<str>,
    pub(super) stop: watch::Receiver<Stop>,
}

impl Worker {
    /// `ids` are those of the slice's scopes. Never panics.
    pub(super) async fn work(self: Arc<Worker>, slice: Slice, ids: Vec<ScopeId>) -> Worked {
        let work = AssertUnwindSafe(self.work_unguarded(&slice, &ids)).catch_unwind();
        work.await.unwrap_or_else(|_| {
            let failure = failure::of_our_panic();
            let verdict = Verdict::Source(Reaction::RetryFew);
            Worked::failed(&slice, Stage::Collect, verdict, failure.to_string())
        })
    }

    async fn work_unguarded(&self, slice: &Slice, ids: &[ScopeId]) -> Worked {
        if !self.sources.collectors().iter().any(|name| **name == *slice.collector) {
            let reason = format!("there is no collector `{}`", slice.collector);
            let verdict = Verdict::Source(Reaction::WaitForChange);
            return Worked::failed(slice, Stage::Collect, verdict, reason);
        }
        // What cannot be rated is not asked for.
        if let Err(error) = self.rating.chain(slice.period.begin()).await {
            return Worked::failed_by_chain(slice, &error);
        }
        self.run_ahead(slice, ids).await
    }

    /// Works on period after period until one fails, nothing more is due or enough is gathered.
    async fn run_ahead(&self, slice: &Slice, ids: &[ScopeId]) -> Worked {
        let mut worked = Worked::nothing(slice);
        let mut period = slice.period;
        loop {
            let answer = self.ask(slice, period, ids).await;
            passed(Step::CycleCollected);
            let is_lost =
                answer.as_ref().is_err_and(|failure| failure::of_collect(failure) == Verdict::Lost);
            if is_lost && worked.periods_collected > 0 {
                // The next slice begins with it.
                return worked;
            }
            worked.begin(period);
            if is_lost {
                worked.rated.push(lost(&self.metrics[slice.metric].metric, period, ids));
                worked.periods_lost += 1;
                worked.done.clone_from(&slice.scopes);
            } else {
                match self.rating.chain(period.begin()).await {
                    Ok(chain) => {
                        let asked = Asked { slice, ids, chain };
                        self.collect_and_rate(&asked, answer, &mut worked).await;
                    }
                    Err(error) => worked.failed = Worked::failed_by_chain(slice, &error).failed,
                }
            }
            match period.next() {
                Some(next) if self.goes_on(slice, &worked, next) => period = next,
                _ => return worked,
            }
        }
    }

    fn goes_on(&self, slice: &Slice, worked: &Worked, next: Period) -> bool {
        let notes = (worked.rated.len() + 1) * slice.scopes.len();
        worked.failed.is_empty()
            && next.begin_secs() <= slice.last_due_begin
            && worked.periods_lost < LOST_RUN_MAX
            && worked.periods_collected < RUN_PERIODS_MAX
            && notes <= RUN_NOTES_MAX
            && worked.rows() < RUN_ROWS_MAX
            && *self.stop.borrow() == Stop::No
    }

    fn ask(
        &self,
        slice: &Slice,
        period: Period,
        ids: &[ScopeId],
    ) -> BoxFuture<'static, Result<Vec<RecordBatch>, CallFailure>> {
        let request = CollectRequest {
            metric: self.metrics[slice.metric].definition.clone(),
            scope_key: self.scope_key.as_ref().to_owned(),
            scopes: ids.iter().map(|id| id.as_str().to_owned()).collect(),
            begin: period.begin(),
            end: period.end(),
        };
        self.sources.collect(&slice.collector, request)
    }

    async fn collect_and_rate(
        &self,
        asked: &Asked<'_>,
        first: Result<Vec<RecordBatch>, CallFailure>,
        worked: &mut Worked,
    ) {
        worked.periods_collected += 1;
        let period = worked.period;
        let isolates =
            |failure: &CallFailure| matches!(failure::of_collect(failure), Verdict::Scope(_));
        let ask = |scopes: Vec<u32>| self.ask(asked.slice, period, &asked.ids_of(&scopes));
        let scopes = asked.slice.scopes.clone();
        // Nobody's data was good: then it is the source that is bad, not each of its scopes.
        let is_source_bad = |done: usize| done == 0 && scopes.len() > 1;
        let collected = bisect(scopes.clone(), first, COLLECT_CALLS_MAX, isolates, ask).await;
        for (failed, failure) in collected.failed {
            let verdict = match failure::of_collect(&failure) {
                Verdict::Scope(reaction) if is_source_bad(collected.done.len()) => {
                    Verdict::Source(reaction)
                }
                // Lost for some only: asked again by themselves in the next attempt.
                Verdict::Lost => Verdict::Source(Reaction::Retry),
                verdict => verdict,
            };
            worked.fail(Stage::Collect, failed, verdict, failure.error.message);
        }
        for (scopes, batches) in collected.done {
            self.rate(asked, scopes, batches, worked).await;
        }
    }

    async fn rate(
        &self,
        asked: &Asked<'_>,
        scopes: Vec<u32>,
        batches: Vec<RecordBatch>,
        worked: &mut Worked,
    ) {
        let metric = &self.metrics[asked.slice.metric];
        let rows = Rows {
            metric: Arc::clone(&metric.metric),
            converter: Arc::clone(&metric.converter),
            period: worked.period,
            scope_key: Arc::clone(&self.scope_key),
            chain: Arc::clone(&asked.chain),
            batches: batches.into(),
        };
        let rate = |scopes: Vec<u32>| rows.clone().rate(asked.ids_of(&scopes)).boxed();
        let isolates = |error: &RatingError| matches!(failure::of_rating(error), Verdict::Scope(_));
        let first = rate(scopes.clone()).await;
        let rated = bisect(scopes, first, RATE_CALLS_MAX, isolates, rate).await;
        passed(Step::CycleRated);
        for (scopes, rated) in rated.done {
            worked.done.extend(scopes);
            worked.rated.push(rated);
        }
        for (scopes, error) in rated.failed {
            let verdict = failure::of_rating(&error);
            worked.fail(Stage::Rate, scopes, verdict, failure::text_of(&error));
        }
    }
}

/// A slice with the ids of its scopes, and what rates it.
#[derive(Debug)]
struct Asked<'a> {
    slice: &'a Slice,
    ids: &'a [ScopeId],
    chain: Arc<Chain>,
}

impl Asked<'_> {
    /// The ids of some of the slice's scopes; both lists are in the same order.
    fn ids_of(&self, scopes: &[u32]) -> Vec<ScopeId> {
        let position =
            |scope: &u32| self.slice.scopes.binary_search(scope).expect("one of the slice's");
        scopes.iter().map(|scope| self.ids[position(scope)].clone()).collect()
    }
}

impl Worked {
    fn nothing(slice: &Slice) -> Worked {
        Worked {
            rated: Vec::new(),
            done: Vec::new(),
            done_next_begin: slice.period.begin_secs(),
            period: slice.period,
            periods_lost: 0,
            periods_collected: 0,
            failed: Vec::new(),
        }
    }

    /// Whatever is known of the scopes is of this period from now on.
    fn begin(&mut self, period: Period) {
        self.period = period;
        self.done.clear();
        self.done_next_begin = period.end_secs();
    }

    fn rows(&self) -> usize {
        self.rated.iter().flat_map(|rated| &rated.rows).map(RecordBatch::num_rows).sum()
    }

    fn fail(&mut self, stage: Stage, scopes: Vec<u32>, verdict: Verdict, reason: String) {
        self.failed.push(WorkFailure { stage, scopes, verdict, reason });
    }

    fn failed(slice: &Slice, stage: Stage, verdict: Verdict, reason: String) -> Worked {
        let scopes = slice.scopes.clone();
        let failed = vec![WorkFailure { stage, scopes, verdict, reason }];
        Worked { failed, ..Worked::nothing(slice) }
    }

    fn failed_by_chain(slice: &Slice, error: &RatingError) -> Worked {
        let (verdict, reason) = (failure::of_chain(error), failure::text_of(error));
        Worked::failed(slice, Stage::Rate, verdict, reason)
    }
}
