//! A real ledger, and a module that can be told what to do.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rated_plugin::{
    AsOf, Edit, Error, Explanation, Given, Operation, PRICE, PriceBatch, QTY, RateRequest, Rule,
    Steps, UsageBatch, UsageBuilder, decimal_column,
};
use rust_decimal::Decimal;
use tokio::runtime::{Handle, Runtime};

use crate::audit::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    Fact, Filters, KvEdit, Ledger, ModuleState, NewScope, Push, RatedBy, RatedSlice, ScopeChange,
    SliceScope,
};
use crate::rating::{CallFailure, ModuleSet, Modules, Rater, Rating, RatingModule};
use crate::usage::{MetricId, Period, ScopeId, with_decimals};

/// Adds quantity x the number that its key `price` had at the revision; or, where `shares`, the
/// number of rows of the scope in the batch. `sees`: nothing, unless rows have this attribute.
#[derive(Debug, Clone)]
pub(super) struct PerUnit {
    ledger: Arc<SledLedger>,
    pub(super) library: &'static str,
    pub(super) config: &'static str,
    pub(super) shares: bool,
    pub(super) lies: bool,
    pub(super) sees: Option<&'static str>,
    /// How often it was asked for prices.
    pub(super) calls: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Price {
    module: PerUnit,
    price: Decimal,
}

#[derive(Debug, Default)]
pub(super) struct Plugins {
    pub(super) newest: Mutex<Vec<PerUnit>>,
    /// Of other libraries.
    pub(super) kept: Mutex<Vec<PerUnit>>,
}

impl Modules for Plugins {
    fn modules(&self) -> ModuleSet {
        let module = |module: &PerUnit| -> Arc<dyn RatingModule> { Arc::new(module.clone()) };
        let modules = self.newest.lock().unwrap().iter().map(module).collect();
        ModuleSet { generation: 1, modules }
    }

    fn kept_module(&self, _: &str, library_sha256: &str) -> Option<Arc<dyn RatingModule>> {
        let kept = self.kept.lock().unwrap();
        let module = kept.iter().find(|module| module.library == library_sha256)?;
        Some(Arc::new(module.clone()))
    }
}

impl RatingModule for PerUnit {
    fn name(&self) -> &'static str {
        "per-unit"
    }

    fn summary(&self) -> &'static str {
        "A price for each unit"
    }

    fn is_hot_config(&self) -> bool {
        true
    }

    fn is_always_on(&self) -> bool {
        false
    }

    fn library_sha256(&self) -> &str {
        self.library
    }

    fn config_sha256(&self) -> &str {
        self.config
    }

    fn prepare(&self, as_of: AsOf) -> BoxFuture<'_, Result<Arc<dyn Rater>, CallFailure>> {
        let kept = self.ledger.kv_get("rating/per-unit", as_of.revision, "price").unwrap();
        let price =
            kept.map_or(Decimal::ZERO, |bytes| String::from_utf8(bytes).unwrap().parse().unwrap());
        let rater: Arc<dyn Rater> = Arc::new(Price { module: self.clone(), price });
        std::future::ready(Ok(rater)).boxed()
    }
}

impl Price {
    fn prices(&self, usage: &UsageBatch<'_>) -> Vec<Decimal> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for row in 0..usage.rows() {
            *counts.entry(usage.scope_at(row)).or_default() += 1;
        }
        let is_seen = |name| usage.groupby().any(|(known, _)| known == name);
        let added = |row| {
            if self.module.sees.is_some_and(|name| !is_seen(name)) {
                return Decimal::ZERO;
            }
            if self.module.shares {
                return Decimal::from(counts[usage.scope_at(row)]);
            }
            usage.qty_at(row) * self.price
        };
        (0..usage.rows()).map(|row| usage.price_at(row) + added(row)).collect()
    }
}

impl Rater for Price {
    fn rate(
        &self,
        _: RateRequest,
        usage: RecordBatch,
    ) -> BoxFuture<'_, Result<RecordBatch, CallFailure>> {
        self.module.calls.fetch_add(1, Ordering::Relaxed);
        let usage = UsageBatch::new(&usage).unwrap();
        let prices = self.prices(&usage);
        let result = if self.price == Decimal::from(13) {
            Err(Error::bad_data("thirteen").into())
        } else {
            Ok(PriceBatch::from_prices(&prices).unwrap())
        };
        std::future::ready(result).boxed()
    }

    fn explain(
        &self,
        _: RateRequest,
        usage: RecordBatch,
        rows: Range<usize>,
    ) -> BoxFuture<'_, Result<Option<Explanation>, CallFailure>> {
        let usage = UsageBatch::new(&usage).unwrap();
        let steps = |row| {
            let mut steps = Steps::new(usage.qty_at(row), usage.price_at(row));
            let price = if self.module.lies { Decimal::ONE } else { self.price };
            let rule = Given::Rule(Rule::new("price", "price"), price);
            steps.push("amount", Operation::Multiply, [Given::Number(QTY), rule]).unwrap();
            let sum = [Given::Number(PRICE), Given::Number("amount")];
            steps.push(PRICE, Operation::Add, sum).unwrap();
            steps.finish()
        };
        let rows = rows.map(steps).collect();
        std::future::ready(Ok(Some(Explanation { rows }))).boxed()
    }
}

/// As what modules see the scope.
pub(super) const KEY: &str = "project_id";

pub(super) struct Fixture {
    pub(super) ledger: Arc<SledLedger>,
    pub(super) plugins: Arc<Plugins>,
    pub(super) rating: Rating,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

pub(super) fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_380_800 + hour * 3600, 0).unwrap()
}

pub(super) fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub(super) fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

pub(super) fn new_scope(id: &str) -> NewScope {
    NewScope {
        id: scope(id),
        fetcher: "f".to_owned(),
        collector: "c".to_owned(),
        scope_key: KEY.to_owned(),
        first_period: at(0),
        last_processed: None,
        active: true,
        found_at: at(0),
    }
}

/// What a row of these tests is: scope and quantity.
pub(super) type Rows<'a> = &'a [(&'a str, &'a str)];

impl Fixture {
    pub(super) fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
        let ledger = Arc::new(ledger);
        let plugins = Arc::new(Plugins::default());
        let module = PerUnit {
            ledger: ledger.clone(),
            library: "ab",
            config: "cd",
            shares: false,
            lies: false,
            sees: None,
            calls: Arc::default(),
        };
        plugins.newest.lock().unwrap().push(module);
        let on = ModuleState { enabled: true, priority: 1 };
        let defaults = BTreeMap::from([("per-unit".to_owned(), on)]);
        let rating = Rating::new(ledger.clone(), plugins.clone(), defaults);
        ledger.set_metrics(&[metric()]).unwrap();
        ledger.add_scopes(&[new_scope("a"), new_scope("b")]).unwrap();
        let runtime = Runtime::new().unwrap();
        Fixture { ledger, plugins, rating, runtime, folder }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut PerUnit)) {
        change(&mut self.plugins.newest.lock().unwrap()[0]);
    }

    pub(super) fn set_price(&self, price: &str) {
        let revision = self.ledger.kv_revision("rating/per-unit").unwrap();
        let edits = vec![Edit::put("price", price)];
        let edit = KvEdit { revision, edits, author: "ann".to_owned(), at: at(0) };
        self.ledger.kv_apply("rating/per-unit", &edit).unwrap();
    }

    /// Rates an hour by the rules of now and stores it, with `more` on each price.
    pub(super) fn store(&self, hour: i64, rows: Rows<'_>, more: &str) {
        let slice = self.rated(hour, rows, more);
        assert_eq!(self.ledger.commit(vec![slice]).unwrap()[0].scopes_stored, 2);
    }

    /// The same before it is stored.
    pub(super) fn rated(&self, hour: i64, rows: Rows<'_>, more: &str) -> RatedSlice {
        let batch = batch(rows);
        let chain = self.runtime.block_on(self.rating.chain(at(hour))).unwrap();
        let request = RateRequest {
            purpose: rated_plugin::Purpose::Period,
            metric: "cpu".to_owned(),
            begin: at(hour),
            end: at(hour + 1),
        };
        let rated = chain.rate(&request, Some(KEY), &batch);
        let prices = self.runtime.block_on(rated).unwrap();
        let prices: Vec<Decimal> = (0..rows.len())
            .map(|row| rated_plugin::decimal_at(&prices, row).unwrap() + decimal(more))
            .collect();
        let prices = decimal_column(&prices).unwrap();
        let rows = vec![with_decimals(&batch, "price", prices).unwrap()];
        slice(hour, rows, chain.rated_by().clone())
    }

    pub(super) fn change_scope_key(&self, id: &str, key: &str) {
        let change = ScopeChange { scope_key: Some(key.to_owned()), ..ScopeChange::default() };
        self.ledger.change_scope(&scope(id), &change).unwrap();
    }

    pub(super) fn push(&self, slices: Vec<RatedSlice>) {
        let (scope_key, author) = (KEY.to_owned(), "somebody".to_owned());
        let push = Push { slices, scope_key, key: None, at: at(0), author };
        self.ledger.push(push).unwrap();
    }

    /// Flips a bit in the rows that were stored first.
    pub(super) fn damage_first_block(&self) {
        let data = self.folder.path().join("data");
        let file = std::fs::read_dir(data).unwrap().next().unwrap().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        // Its kind and version.
        let block = bytes.windows(2).position(|frame| frame == *b"B\x03").unwrap();
        bytes[block + 20] ^= 1;
        std::fs::write(&file, bytes).unwrap();
    }

    pub(super) fn audit(&self) -> (AuditCounts, Vec<Finding>) {
        let request = AuditRequest { begin: at(-30), end: at(100), filters: Filters::default() };
        let mut findings = Vec::new();
        let counts =
            audit((&*self.ledger, &self.rating, &self.handle()), &request, &mut |finding| {
                if !matches!(finding, Finding::Progress { .. }) {
                    findings.push(finding);
                }
                ControlFlow::Continue(())
            });
        (counts.unwrap(), findings)
    }

    pub(super) fn explain(&self, id: &str, offset: usize, limit: usize) -> ExplainedPage {
        self.explain_while(id, (offset, limit), &|| true)
    }

    pub(super) fn explain_while(
        &self,
        id: &str,
        (offset, limit): (usize, usize),
        goes_on: &dyn Fn() -> bool,
    ) -> ExplainedPage {
        let request = ExplainRequest {
            scope: scope(id),
            begin: at(0),
            end: at(100),
            types: None,
            offset,
            limit,
        };
        explain((&*self.ledger, &self.rating, &self.handle()), &request, goes_on).unwrap()
    }

    pub(super) fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }
}

pub(super) fn metric() -> MetricId {
    MetricId { name: "cpu_seconds".to_owned(), alt_name: "cpu".to_owned() }
}

pub(super) fn batch(rows: Rows<'_>) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id"], &[]);
    for (scope, qty) in rows {
        builder.push(scope, decimal(qty), &[Some("r")]).unwrap();
    }
    builder.finish().unwrap()
}

pub(super) fn slice(hour: i64, rows: Vec<RecordBatch>, rated_by: Arc<[RatedBy]>) -> RatedSlice {
    let scopes = ["a", "b"].map(|id| SliceScope { id: scope(id), fact: Fact::Collected });
    RatedSlice {
        metric: metric(),
        unit: "s".to_owned(),
        description: None,
        period: Period::new(at(hour), at(hour + 1)).unwrap(),
        scopes: scopes.to_vec(),
        rows,
        rated_by,
        rated_scope_key: Some(KEY.into()),
    }
}

pub(super) const TWO: Rows<'_> = &[("a", "1.5"), ("b", "2"), ("a", "3")];
