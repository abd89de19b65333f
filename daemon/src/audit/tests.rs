//! Audits and explanations over a real ledger, with modules that can be told what to do.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
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

use super::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    Fact, Filters, KvEdit, Ledger, ModuleState, NewScope, Push, RatedBy, RatedSlice, SliceScope,
};
use crate::rating::{CallFailure, ModuleSet, Modules, Rater, Rating, RatingModule, Told};
use crate::usage::{MetricId, Period, ScopeId, with_decimals};

/// Adds quantity x the number that its key `price` had at the revision; or, where `shares`, the
/// number of rows of the scope in the batch.
#[derive(Debug, Clone)]
struct PerUnit {
    ledger: Arc<SledLedger>,
    library: &'static str,
    shares: bool,
    lies: bool,
}

#[derive(Debug)]
struct Price {
    module: PerUnit,
    price: Decimal,
}

#[derive(Debug, Default)]
struct Plugins {
    newest: Mutex<Vec<PerUnit>>,
    /// Of other libraries.
    kept: Mutex<Vec<PerUnit>>,
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
        let added = |row| {
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

struct Fixture {
    ledger: Arc<SledLedger>,
    plugins: Arc<Plugins>,
    rating: Rating,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_790_380_800 + hour * 3600, 0).unwrap()
}

fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

/// What a row of these tests is: scope and quantity.
type Rows<'a> = &'a [(&'a str, &'a str)];

impl Fixture {
    fn new() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
        let ledger = Arc::new(ledger);
        let plugins = Arc::new(Plugins::default());
        let module = PerUnit { ledger: ledger.clone(), library: "ab", shares: false, lies: false };
        plugins.newest.lock().unwrap().push(module);
        let on = ModuleState { enabled: true, priority: 1 };
        let defaults = BTreeMap::from([("per-unit".to_owned(), on)]);
        let rating = Rating::new(ledger.clone(), plugins.clone(), defaults);
        ledger.set_metrics(&[metric()]).unwrap();
        let new = |id| NewScope {
            id: scope(id),
            fetcher: "f".to_owned(),
            collector: "c".to_owned(),
            scope_key: "project_id".to_owned(),
            first_period: at(0),
            last_processed: None,
            active: true,
            found_at: at(0),
        };
        ledger.add_scopes(&[new("a"), new("b")]).unwrap();
        let runtime = Runtime::new().unwrap();
        Fixture { ledger, plugins, rating, runtime, _folder: folder }
    }

    fn change(&self, change: impl FnOnce(&mut PerUnit)) {
        change(&mut self.plugins.newest.lock().unwrap()[0]);
    }

    fn set_price(&self, price: &str) {
        let revision = self.ledger.kv_revision("rating/per-unit").unwrap();
        let edits = vec![Edit::put("price", price)];
        let edit = KvEdit { revision, edits, author: "ann".to_owned(), at: at(0) };
        self.ledger.kv_apply("rating/per-unit", &edit).unwrap();
    }

    /// Rates an hour by the rules of now and stores it, with `more` on each price.
    fn store(&self, hour: i64, rows: Rows<'_>, more: &str) {
        let batch = batch(rows);
        let chain = self.runtime.block_on(self.rating.chain(at(hour))).unwrap();
        let request = RateRequest {
            purpose: rated_plugin::Purpose::Period,
            metric: "cpu".to_owned(),
            begin: at(hour),
            end: at(hour + 1),
        };
        let rated = chain.rate(&request, Some("project_id"), &batch);
        let prices = self.runtime.block_on(rated).unwrap();
        let prices: Vec<Decimal> = (0..rows.len())
            .map(|row| rated_plugin::decimal_at(&prices, row).unwrap() + decimal(more))
            .collect();
        let prices = decimal_column(&prices).unwrap();
        let rows = vec![with_decimals(&batch, "price", prices).unwrap()];
        let slice = slice(hour, rows, chain.rated_by().clone());
        assert_eq!(self.ledger.commit(vec![slice]).unwrap()[0].scopes_stored, 2);
    }

    fn audit(&self) -> (AuditCounts, Vec<Finding>) {
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

    fn explain(&self, id: &str, offset: usize, limit: usize) -> ExplainedPage {
        let request = ExplainRequest {
            scope: scope(id),
            begin: at(0),
            end: at(100),
            types: None,
            offset,
            limit,
        };
        explain((&*self.ledger, &self.rating, &self.handle()), &request).unwrap()
    }

    fn handle(&self) -> Handle {
        self.runtime.handle().clone()
    }
}

fn metric() -> MetricId {
    MetricId { name: "cpu_seconds".to_owned(), alt_name: "cpu".to_owned() }
}

fn batch(rows: Rows<'_>) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id"], &[]);
    for (scope, qty) in rows {
        builder.push(scope, decimal(qty), &[Some("r")]).unwrap();
    }
    builder.finish().unwrap()
}

fn slice(hour: i64, rows: Vec<RecordBatch>, rated_by: Arc<[RatedBy]>) -> RatedSlice {
    let scopes = ["a", "b"].map(|id| SliceScope { id: scope(id), fact: Fact::Collected });
    RatedSlice {
        metric: metric(),
        unit: "s".to_owned(),
        description: None,
        period: Period::new(at(hour), at(hour + 1)).unwrap(),
        scopes: scopes.to_vec(),
        rows,
        rated_by,
    }
}

const TWO: Rows<'_> = &[("a", "1.5"), ("b", "2"), ("a", "3")];

#[test]
fn what_was_rated_by_older_rules_is_proved_by_them() {
    let fixture = Fixture::new();
    fixture.store(0, TWO, "0");
    fixture.set_price("0.1");
    fixture.store(1, TWO, "0");
    fixture.set_price("0.25");
    fixture.store(2, TWO, "0");

    let (counts, findings) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 9, equal: 9, ..AuditCounts::default() });
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_price_that_is_another_is_told_with_its_row_and_its_rules() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0.01");

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.rows, counts.equal, counts.different), (6, 3, 3));
    assert!(counts.is_wrong());
    let Finding::Difference(last) = findings.last().unwrap() else { panic!("{findings:?}") };
    assert_eq!((findings.len(), last.row, last.scope.as_str()), (3, 0, "b"));
    let Finding::Difference(second) = &findings[1] else { panic!("{findings:?}") };
    assert_eq!((second.row, second.scope.as_str(), second.period.begin()), (1, "a", at(1)));
    assert_eq!((second.stored, second.computed), (decimal("0.31"), decimal("0.3")));
    assert_eq!((second.rated_by[0].module.as_str(), second.rated_by[0].revision), ("per-unit", 1));
    assert!(second.is_by_same_libraries);
}

#[test]
fn another_library_than_the_one_that_rated_proves_nothing() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    let old = fixture.plugins.newest.lock().unwrap()[0].clone();
    fixture.change(|module| module.library = "cd");

    let (without, _) = fixture.audit();
    fixture.plugins.kept.lock().unwrap().push(old);
    let (with, _) = fixture.audit();

    let other = AuditCounts { rows: 3, equal_by_other_library: 3, ..AuditCounts::default() };
    assert_eq!(without, other);
    assert_eq!(with, AuditCounts { rows: 3, equal: 3, ..AuditCounts::default() });
}

#[test]
fn what_cannot_be_rated_is_counted_apart_and_told_once() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0");
    fixture.plugins.newest.lock().unwrap().clear();

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.rows, counts.not_compared, counts.is_wrong()), (6, 6, false));
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, "there is no rating module `per-unit`");
    let page = fixture.explain("a", 0, 10);
    assert!(matches!(&page.groups[0].way, Way::Lost { reason } if *reason == told.reason));
}

/// A module that looks at all rows of a scope gets all of them, though a block ends between them.
#[test]
fn rows_of_a_scope_are_seen_together_where_that_matters() {
    let fixture = Fixture::new();
    fixture.change(|module| module.shares = true);
    let many: Vec<(&str, &str)> =
        (0..20_000).map(|row| (if row < 15_000 { "a" } else { "b" }, "1")).collect();
    fixture.store(0, &many, "0");

    let (counts, findings) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 20_000, equal: 20_000, ..AuditCounts::default() });
    assert!(findings.is_empty());
    let page = fixture.explain("a", 14_990, 20);
    assert_eq!((page.total, page.groups.len()), (15_000, 1));
    assert_eq!((page.groups[0].first_row, page.groups[0].rows.len()), (14_990, 10));
    assert!(page.groups[0].rows.iter().all(|row| row.computed() == row.stored));
}

#[test]
fn pushed_rows_were_rated_elsewhere() {
    let fixture = Fixture::new();
    let prices = decimal_column(&[decimal("7"), decimal("8"), decimal("9")]).unwrap();
    let rows = vec![with_decimals(&batch(TWO), "price", prices).unwrap()];
    let metric = MetricId { name: "cpu".to_owned(), alt_name: "cpu".to_owned() };
    let slices = vec![RatedSlice { metric, ..slice(0, rows, Arc::new([])) }];
    let scope_key = "project_id".to_owned();
    let author = "somebody".to_owned();
    let push = Push { slices, scope_key, key: None, at: at(0), author };
    fixture.ledger.push(push).unwrap();

    let (counts, _) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 3, pushed: 3, ..AuditCounts::default() });
    let page = fixture.explain("a", 0, 10);
    assert_eq!((page.total, &page.groups[0].way), (2, &Way::Pushed));
    assert_eq!(page.groups[0].rows[1].stored, decimal("9"));
}

#[test]
fn an_audit_ends_when_nobody_listens() {
    let fixture = Fixture::new();
    fixture.store(0, TWO, "0");
    let request = AuditRequest { begin: at(-30), end: at(100), filters: Filters::default() };

    let parts: (&dyn Ledger, _, _) = (&*fixture.ledger, &fixture.rating, &fixture.handle());
    let ended = audit(parts, &request, &mut |_| ControlFlow::Break(()));

    assert!(matches!(ended, Err(AuditError::Stopped)));
}

#[test]
fn steps_are_told_with_the_rules_of_their_time() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.set_price("0.2");
    fixture.store(1, TWO, "0");

    let page = fixture.explain("a", 1, 2);

    assert_eq!((page.total, page.groups.len()), (4, 2));
    let told: Vec<(usize, u64, Decimal)> = page
        .groups
        .iter()
        .flat_map(|group| group.rows.iter().map(move |row| (group, row)))
        .map(|(group, row)| {
            assert_eq!(row.computed(), row.stored);
            let Told::Steps(steps) = &row.reasons[0].told else { panic!("{row:?}") };
            let rule = &steps[0].operands[1];
            (group.first_row, group.group.rated_by[0].revision, rule.value)
        })
        .collect();
    assert_eq!(told, [(1, 1, decimal("0.1")), (0, 2, decimal("0.2"))]);
}

#[test]
fn reasons_that_do_not_lead_to_the_price_are_not_told() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.change(|module| module.lies = true);

    let page = fixture.explain("a", 0, 10);

    let row = &page.groups[0].rows[1];
    assert_eq!(row.computed(), decimal("0.3"));
    assert_eq!(row.reasons[0].told, Told::Wrong("the steps lead to 3".to_owned()));
}

#[test]
fn a_module_that_fails_leaves_its_rows_out() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    let revision = fixture.ledger.kv_revision("rating/per-unit").unwrap();
    fixture.set_price("13");
    let by =
        RatedBy { module: "per-unit".to_owned(), revision: revision + 1, library: "ab".to_owned() };
    let prices = decimal_column(&[Decimal::ONE; 3]).unwrap();
    let rows = vec![with_decimals(&batch(TWO), "price", prices).unwrap()];
    fixture.ledger.commit(vec![slice(1, rows, Arc::new([by]))]).unwrap();

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.equal, counts.not_compared), (3, 3));
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, "rating module `per-unit` failed: thirteen");
    assert_eq!(told.period.begin(), at(1));
}
