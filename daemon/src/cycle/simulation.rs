//! A daemon without its outside: a real ledger, sources that fail when told to, and a clock that
//! only the tests move.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{
    AsOf, CollectRequest, Error, PriceBatch, RateRequest, Status, UsageBatch, UsageBuilder,
};
use rust_decimal::Decimal;
use tokio::sync::{Notify, watch};

use super::backoff::Jitter;
use super::run::{CycleParts, Runner, Stop};
use super::sources::Sources;
use super::status::CycleStatus;
use super::world::metric_ids;
use crate::clock::{Clock, ManualClock};
use crate::config::{CollectConfig, RetryConfig, STATIC_FETCHER, Start};
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    CompletenessQuery, CompletenessState, Fact, Filters, GroupKey, Ledger, Measures, ModuleState,
    SummaryQuery,
};
use crate::metrics::Metrics;
use crate::rating::{CallFailure, ModuleSet, Modules, Rater, Rating, RatingModule};
use crate::usage::{Factor, Metric, MetricId, Mutation, ScopeId, Sum};

pub(super) fn at(hour: i64) -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 11, 1, 0, 0, 0).unwrap() + TimeDelta::hours(hour)
}

/// What the source knows, and the price of one row: whole numbers, so that a model is simple.
pub(super) fn measured(metric: &str, scope: &str, hour: i64) -> Option<Decimal> {
    let mix = |text: &str| text.bytes().fold(7_i64, |sum, byte| sum * 31 + i64::from(byte));
    match (mix(metric) + 3 * mix(scope) + 5 * hour).rem_euclid(11) {
        0 => None,
        1 => Some(Decimal::ZERO),
        n => Some(Decimal::new(n * 1234 + hour, 3)),
    }
}

pub(super) fn rate() -> Decimal {
    Decimal::new(7, 4)
}

/// A source and a rating module that do what they are told.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// (metric, from, to): no answer in these hours of the clock.
    pub(super) outages: Vec<(&'static str, i64, i64)>,
    /// Rows of this scope cannot be rated.
    pub(super) poisoned: Option<&'static str>,
    /// The source's answer is bad whenever it contains this scope.
    pub(super) garbled: Option<&'static str>,
    /// The first hour with such an answer.
    pub(super) garbled_from: i64,
    /// Whoever rates this scope panics.
    pub(super) explosive: Option<&'static str>,
    /// The price of a unit, where it is not [`rate`].
    pub(super) rate: Option<Decimal>,
    /// Periods that begin before this hour are lost.
    pub(super) lost_before: i64,
    /// Calls of this collector never end.
    pub(super) hanging: Option<&'static str>,
    pub(super) generation: u64,
    /// Metric, begin and number of scopes of every question.
    pub(super) asked: Vec<(String, i64, usize)>,
    pub(super) hanging_now: usize,
    /// Metric and time of every panic.
    pub(super) panics: Vec<(String, DateTime<Utc>)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) script: Mutex<Script>,
    pub(super) clock: Arc<ManualClock>,
}

pub(super) type Shared = Arc<World>;

impl World {
    pub(super) fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    fn answer(&self, request: &CollectRequest) -> Result<Vec<RecordBatch>, CallFailure> {
        let mut script = self.script();
        let hour = (request.begin - at(0)).num_hours();
        let name = request.metric.name.as_str();
        script.asked.push((name.to_owned(), hour, request.scopes.len()));
        let now = (self.clock.now() - at(0)).num_hours();
        let is_out =
            |(metric, from, to): &(&str, i64, i64)| *metric == name && *from <= now && now < *to;
        if script.outages.iter().any(is_out) {
            return Err(Error::unavailable("the source is down").into());
        }
        if hour < script.lost_before {
            return Err(Error::not_found("only the present is known").into());
        }
        let is_garbled = |scope: &String| script.garbled == Some(scope);
        if hour >= script.garbled_from && request.scopes.iter().any(is_garbled) {
            return Err(Error::bad_data("`x` is not a number").into());
        }
        let mut rows = UsageBuilder::new(&["flavor"], &[]);
        for scope in &request.scopes {
            if let Some(qty) = measured(name, scope, hour) {
                rows.push(scope, qty, &[Some("small")]).unwrap();
            }
        }
        if rows.is_empty() { Ok(Vec::new()) } else { Ok(vec![rows.finish().unwrap()]) }
    }
}

impl Sources for World {
    fn generation(&self) -> u64 {
        self.script().generation
    }

    fn collectors(&self) -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }

    fn collect(
        &self,
        collector: &str,
        request: CollectRequest,
    ) -> BoxFuture<'static, Result<Vec<RecordBatch>, CallFailure>> {
        if self.script().hanging == Some(collector) {
            self.script().hanging_now += 1;
            return std::future::pending().boxed();
        }
        std::future::ready(self.answer(&request)).boxed()
    }

    fn scopes(&self, _: &str) -> BoxFuture<'static, Result<Vec<String>, CallFailure>> {
        let error = Error::new(Status::Unavailable, "no scopes today");
        std::future::ready(Err(error.into())).boxed()
    }
}

/// The module, and its rules.
#[derive(Debug, Clone)]
pub(super) struct Flat(Shared);

#[derive(Debug)]
pub(super) struct WithModule(Shared);

impl Modules for WithModule {
    fn modules(&self) -> ModuleSet {
        let generation = self.0.script().generation;
        ModuleSet { generation, modules: vec![Arc::new(Flat(Arc::clone(&self.0)))] }
    }
}

impl RatingModule for Flat {
    fn name(&self) -> &'static str {
        "flat"
    }

    fn summary(&self) -> &'static str {
        "One price"
    }

    fn is_hot_config(&self) -> bool {
        true
    }

    fn is_always_on(&self) -> bool {
        false
    }

    fn library_sha256(&self) -> &'static str {
        "00"
    }

    fn config_sha256(&self) -> &'static str {
        "cd"
    }

    fn prepare(&self, _: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>> {
        let rater: Arc<dyn Rater> = Arc::new(self.clone());
        std::future::ready(Ok(rater)).boxed()
    }
}

impl Rater for Flat {
    fn rate(
        &self,
        request: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>> {
        let mut script = self.0.script();
        let rows = UsageBatch::new(&usage).unwrap();
        let has = |scope| (0..rows.rows()).any(|row| Some(rows.scope_at(row)) == scope);
        let result = if has(script.poisoned) {
            Err(Error::internal("no price for that").into())
        } else if has(script.explosive) {
            let now = self.0.clock.now();
            script.panics.push((request.metric, now));
            Err(Error::new(Status::Panic, "panicked at lib.rs:1").into())
        } else {
            let rate = script.rate.unwrap_or(rate());
            let prices: Vec<Decimal> =
                (0..rows.rows()).map(|row| rows.qty_at(row) * rate).collect();
            Ok(PriceBatch::from_prices(&prices).unwrap())
        };
        std::future::ready(result).boxed()
    }
}

/// A daemon without its outside.
pub(super) struct Simulation {
    dir: tempfile::TempDir,
    pub(super) world: Shared,
    pub(super) ledger: Arc<SledLedger>,
    pub(super) runner: Runner,
    pub(super) commits: usize,
    /// Keeps the runner running.
    _stop: watch::Sender<Stop>,
}

/// (metric, its collector); a metric's type is its name.
pub(super) const METRICS: [(&str, &str); 3] = [("cpu", "a"), ("ram", "a"), ("disk", "b")];
pub(super) const SCOPES: [&str; 5] = ["s0", "s1", "s2", "s3", "s4"];
pub(super) const WAIT_PERIODS: u32 = 1;

pub(super) fn collect_config() -> CollectConfig {
    let metric = |(name, collector): (&str, &str)| Metric {
        id: MetricId { name: name.to_owned(), alt_name: name.to_owned() },
        unit: "unit".to_owned(),
        description: None,
        groupby: vec!["flavor".to_owned()],
        metadata: Vec::new(),
        factor: Factor { numerator: Decimal::ONE, denominator: Decimal::ONE },
        offset: Decimal::ZERO,
        mutate: Mutation::None,
        collector: Some(collector.to_owned()),
        skip_zero: false,
        extra_args: serde_json::Map::new(),
    };
    CollectConfig {
        schedule: cron::Schedule::from_str("0 */5 * * * *").unwrap(),
        period_secs: 3600,
        wait_periods: WAIT_PERIODS,
        scope_key: "project_id".to_owned(),
        collector: "a".to_owned(),
        fetchers: vec![STATIC_FETCHER.to_owned()],
        metrics: METRICS.into_iter().map(metric).collect(),
        start: Start::At(at(0)),
        slice_scopes_max: 1000,
        slices_in_flight_max: 4,
        retry: RetryConfig { delay_secs_min: 60, delay_secs_max: 3600 },
    }
}

impl Simulation {
    pub(super) fn new(hour: i64, script: Script) -> Simulation {
        let clock = Arc::new(ManualClock::new(at(hour)));
        let world = Arc::new(World { script: Mutex::new(script), clock });
        Simulation::start(tempfile::tempdir().unwrap(), world, collect_config())
    }

    pub(super) fn start(
        dir: tempfile::TempDir,
        world: Shared,
        collect: CollectConfig,
    ) -> Simulation {
        let simulation = Simulation::start_without_metrics(dir, world, collect);
        simulation.ledger.set_metrics(&metric_ids(&simulation.runner.collect)).unwrap();
        simulation
    }

    /// As on a disk that is full.
    pub(super) fn start_without_metrics(
        dir: tempfile::TempDir,
        world: Shared,
        collect: CollectConfig,
    ) -> Simulation {
        let ledger = SledLedger::open(dir.path(), SledOptions::default()).unwrap();
        let ledger = Arc::new(ledger);
        let defaults = [("flat".to_owned(), ModuleState { enabled: true, priority: 1 })];
        let plugins = Arc::new(WithModule(Arc::clone(&world)));
        let parts = CycleParts {
            ledger: ledger.clone(),
            sources: world.clone(),
            rating: Rating::new(ledger.clone(), plugins, defaults.into()),
            metrics: Arc::new(Metrics::new()),
            clock: world.clock.clone(),
            collect,
            static_scopes: SCOPES.iter().map(|id| ScopeId::new(id).unwrap()).collect(),
            jitter: Jitter::new(3),
        };
        let (stop, stopping) = watch::channel(Stop::No);
        let (status, _) = watch::channel(CycleStatus::default());
        let runner = Runner::new(parts, stopping, status, Arc::new(Notify::new()));
        Simulation { dir, world, ledger, runner, commits: 0, _stop: stop }
    }

    /// Lets the clock jump from one thing to do to the next, up to that hour and what is done then.
    pub(super) async fn run_until(&mut self, hour: i64) {
        loop {
            let wake_at = self.step().await;
            if wake_at.is_some_and(|wake_at| wake_at > at(hour)) {
                return self.world.clock.set(self.world.clock.now().max(at(hour)));
            }
            wake_at.inspect(|wake_at| self.world.clock.set(*wake_at));
        }
    }

    /// One thing; when nothing is under way, the time of the next.
    pub(super) async fn step(&mut self) -> Option<DateTime<Utc>> {
        let wake_at = self.runner.step().unwrap();
        let hanging = self.world.script().hanging_now;
        let is_idle = self.runner.commits.is_empty() && self.runner.reprocess.tasks.is_empty();
        if self.runner.tasks.len() == hanging && is_idle {
            return Some(wake_at);
        }
        tokio::select! {
            Some(event) = self.runner.tasks.join_next() => self.runner.take(event.unwrap()),
            Some(committed) = self.runner.commits.join_next() => {
                self.commits += 1;
                self.runner.committed(committed.unwrap());
            }
            Some(event) = self.runner.reprocess.tasks.join_next() => {
                let now = self.world.clock.now();
                self.runner.reprocess.take(event.unwrap(), now);
            }
        }
        None
    }

    /// The process ends here and now, and starts again.
    pub(super) async fn restart(self) -> Simulation {
        let Simulation { dir, world, ledger, runner, .. } = self;
        let collect = (*runner.collect).clone();
        drop(runner);
        let mut ledger = Some(ledger);
        while let Some(shared) = ledger.take() {
            // A commit may be under way on another thread.
            ledger = Arc::try_unwrap(shared).err();
            tokio::task::yield_now().await;
        }
        Simulation::start(dir, world, collect)
    }

    /// Hours of each metric and scope in the ledger, as a number; all facts must be as measured.
    pub(super) fn hours_stored(&self, metric: &str, scope: &str) -> usize {
        let all = CompletenessQuery { begin: at(0), end: at(10_000), scopes: None };
        let known = self.ledger.completeness(&all).unwrap();
        let mut hours = BTreeSet::new();
        for one in known {
            let CompletenessState::Known(fact) = one.state else { continue };
            if one.scope.as_str() == scope && one.metric.name == metric {
                let hour = (one.period.begin() - at(0)).num_hours();
                let expected = match measured(metric, scope, hour) {
                    _ if hour < self.world.script().lost_before => Fact::Lost,
                    None => Fact::NoData,
                    Some(qty) if qty.is_zero() => Fact::Zero,
                    Some(_) => Fact::Collected,
                };
                assert_eq!(fact, expected, "{metric} {scope} {hour}");
                assert!(hours.insert(hour), "{metric} {scope} {hour} twice");
            }
        }
        // Without a hole.
        assert_eq!(hours.last().map_or(0, |last| last + 1), i64::try_from(hours.len()).unwrap());
        hours.len()
    }

    pub(super) fn all_hours(&self) -> Vec<usize> {
        let hours = METRICS
            .iter()
            .flat_map(|(metric, _)| SCOPES.iter().map(|scope| self.hours_stored(metric, scope)));
        hours.collect()
    }

    /// The sums of the ledger against those of the model, to the last digit.
    pub(super) fn check_totals(&self, hours: i64) {
        let groups = self.ledger.summarize(&SummaryQuery {
            begin: at(0),
            end: at(10_000),
            filters: Filters::default(),
            group_by: vec![GroupKey::Scope, GroupKey::Type],
            measures: Measures::Sums,
        });
        let mut found: Vec<String> = groups
            .unwrap()
            .iter()
            .map(|group| {
                format!("{} {} {} {}", group.keys[0], group.keys[1], group.qty, group.price)
            })
            .collect();
        found.sort();
        let mut expected = Vec::new();
        for (metric, _) in METRICS {
            for scope in SCOPES {
                let lost_before = self.world.script().lost_before;
                let rows = (lost_before..hours).filter_map(|hour| measured(metric, scope, hour));
                let qty: Decimal = rows.sum();
                let (qty, price) = (Sum::from_decimal(qty), Sum::from_decimal(qty * rate()));
                expected.push(format!("{scope} {metric} {qty} {price}"));
            }
        }
        expected.sort();
        assert_eq!(found, expected);
    }
}
