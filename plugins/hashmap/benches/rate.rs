//! What rating costs: a batch of 10,000 rows by price lists of different lengths.
//!
//! All calls go the daemon's way, through the plugin's table and the C data interface, and what
//! comes back is checked in full; a metric without rules shows what that way costs by itself.
//! Before anything is timed, every price is compared with one that is computed row by row.

use std::cell::LazyCell;
use std::collections::HashMap;
use std::hint::black_box;

use arrow_array::RecordBatch;
use chrono::{DateTime, Duration, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rated_hashmap::Hashmap;
use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rated_plugin::testing::{FakeHost, TestModule, TestRater};
use rated_plugin::{Purpose, RateRequest, UsageBatch, UsageBuilder, decimal_column};
use rust_decimal::Decimal;
use serde_json::json;

const ROWS: usize = 10_000;
const SCOPES: usize = 100;
const FLAVORS: usize = 20;
const SYSTEMS: [&str; 3] = ["linux", "windows", "other"];

fn begin() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(20_000)
}

fn request(metric: &str) -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: metric.to_owned(),
        begin: begin(),
        end: begin() + Duration::hours(1),
    }
}

/// One instance of 20 flavors and 3 systems.
struct Row {
    scope: String,
    flavor: String,
    os: &'static str,
    vcpus: u32,
    qty: Decimal,
}

/// Instances in so many different quantities.
fn rows(quantities: usize) -> Vec<Row> {
    let row = |row| Row {
        scope: format!("scope-{}", row % SCOPES),
        flavor: format!("flavor-{}", row * 7 % FLAVORS),
        os: SYSTEMS[row % 3],
        vcpus: 1_u32 << (row % 6),
        qty: Decimal::new(25 * i64::try_from(row % quantities).expect("small") + 100, 2),
    };
    (0..ROWS).map(row).collect()
}

/// The rows as the daemon passes them to its first module, each with an id of its own.
fn batch(rows: &[Row]) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id"], &["flavor", "os", "vcpus"]);
    for (index, row) in rows.iter().enumerate() {
        let (id, vcpus) = (format!("instance-{index}"), row.vcpus.to_string());
        let attributes = [Some(id.as_str()), Some(&row.flavor), Some(row.os), Some(&vcpus)];
        builder.push(&row.scope, row.qty, &attributes).expect("as many attributes as columns");
    }
    let usage = builder.finish().expect("two decimals fit");
    let so_far = decimal_column(&vec![Decimal::ZERO; rows.len()]).expect("zeros fit");
    UsageBatch::new(&usage).and_then(|usage| usage.with_price(so_far)).expect("as many prices")
}

/// A price list of `count` rules as the store has it: a price for each flavor and system, the same
/// for customers with contracts, and thresholds by size.
struct PriceList {
    host: FakeHost,
    seq: u64,
    /// Costs of mappings by field, value and scope.
    mappings: HashMap<(Option<usize>, String, Option<String>), Decimal>,
    /// Levels and costs by field.
    thresholds: Vec<(Option<usize>, Decimal, Decimal)>,
}

impl PriceList {
    fn new(count: usize) -> PriceList {
        let mut list = PriceList {
            host: FakeHost::new(),
            seq: 0,
            mappings: HashMap::new(),
            thresholds: Vec::new(),
        };
        list.put("service", 0, &json!({"name": "instance"}));
        for (index, name) in ["flavor", "os", "vcpus"].iter().enumerate() {
            list.put("field", index, &json!({"name": name, "service": id("service", 0)}));
        }
        list.put("group", 0, &json!({"name": "licences"}));
        for index in 0..count {
            let tenant = index.checked_sub(45).map(|index| format!("scope-{}", index / FLAVORS));
            match index {
                0 => list.mapping(index, None, None, None),
                1..4 => list.mapping(index, Some(1), Some(SYSTEMS[index - 1]), None),
                4..14 => list.threshold(index, None, 100 * index),
                14..24 => list.threshold(index, Some(2), 2 * index),
                _ => {
                    let flavor = format!("flavor-{}", (index + 15) % FLAVORS);
                    list.mapping(index, Some(0), Some(&flavor), tenant.as_deref());
                }
            }
        }
        list
    }

    fn put(&mut self, kind: &str, index: usize, record: &serde_json::Value) {
        self.seq += 1;
        let mut record = record.clone();
        record["v"] = json!(1);
        record["seq"] = json!(self.seq);
        self.host.put(&format!("{kind}/{}", id(kind, index)), record.to_string().as_bytes());
    }

    fn rule(index: usize, field: Option<usize>, tenant: Option<&str>) -> serde_json::Value {
        let parent = match field {
            None => json!({"service": id("service", 0)}),
            Some(field) => json!({"field": id("field", field)}),
        };
        json!({
            "parent": parent,
            "type": if field == Some(2) { "rate" } else { "flat" },
            "cost": cost(index).to_string(),
            "group": (field == Some(1)).then(|| id("group", 0)),
            "tenant": tenant,
            "start": "1970-01-01T00:00:00",
            "end": null,
            "name": null,
            "description": null,
            "created_at": "1970-01-01T00:00:00",
            "created_by": "bench",
            "updated_by": null,
            "deleted": null,
            "deleted_by": null,
        })
    }

    fn mapping(
        &mut self,
        index: usize,
        field: Option<usize>,
        value: Option<&str>,
        tenant: Option<&str>,
    ) {
        let rule = PriceList::rule(index, field, tenant);
        let key = (field, value.unwrap_or_default().to_owned(), tenant.map(str::to_owned));
        self.mappings.insert(key, cost(index));
        self.put("mapping", index, &json!({"value": value, "rule": rule}));
    }

    fn threshold(&mut self, index: usize, field: Option<usize>, level: usize) {
        let rule = PriceList::rule(index, field, None);
        self.thresholds.push((field, Decimal::from(level), cost(index)));
        let level = level.to_string();
        self.put("threshold", index, &json!({"level": level, "dated": false, "rule": rule}));
    }

    fn module(&self) -> TestModule {
        TestModule::new::<Hashmap>(&self.host, "").expect("an empty configuration is one")
    }
}

/// What the rules say, rule by rule.
impl PriceList {
    fn mapping_for(&self, field: Option<usize>, value: &str, scope: &str) -> Option<Decimal> {
        let of = |scope: Option<&str>| {
            self.mappings.get(&(field, value.to_owned(), scope.map(str::to_owned))).copied()
        };
        of(Some(scope)).or_else(|| of(None))
    }

    fn threshold_for(&self, field: Option<usize>, value: Decimal) -> Option<(Decimal, Decimal)> {
        let reached = self.thresholds.iter().filter(|it| it.0 == field && it.1 <= value);
        reached.map(|(_, level, cost)| (*level, *cost)).max()
    }

    fn price(&self, row: &Row) -> Decimal {
        let flats = [
            self.mapping_for(None, "", &row.scope),
            self.mapping_for(Some(0), &row.flavor, &row.scope),
        ];
        let flat = flats.into_iter().flatten().max().unwrap_or_default();
        let plain = product(flat, row.qty);
        let by_vcpus = self.threshold_for(Some(2), Decimal::from(row.vcpus));
        let price = match (self.threshold_for(None, row.qty), by_vcpus) {
            (Some((level, cost)), other) if other.is_none_or(|(other, _)| other <= level) => {
                sum(plain, cost)
            }
            (_, Some((_, cost))) => product(product(cost, flat), row.qty),
            (_, None) => plain,
        };
        let licence = self.mapping_for(Some(1), row.os, &row.scope).unwrap_or_default();
        sum(price, product(licence, row.qty))
    }

    /// The module's prices, when all are as they should be.
    fn checked_rater(&self, batches: &[(usize, Vec<Row>, RecordBatch)]) -> TestRater {
        let rater = self.module().prepare_at(begin()).expect("the rules are as the store has them");
        for (_, rows, batch) in batches {
            let prices = rater.rate(&request("instance"), batch).expect("rates");
            let expected: Vec<Decimal> = rows.iter().map(|row| self.price(row)).collect();
            assert_eq!(prices, expected, "every price is what the rules say");
            let total: Decimal = expected.iter().sum();
            assert!(total > Decimal::ZERO, "the rules price something");
        }
        rater
    }
}

fn product(a: Decimal, b: Decimal) -> Decimal {
    multiply_half_even(a, b).expect("small numbers")
}

fn sum(a: Decimal, b: Decimal) -> Decimal {
    add_half_even(a, b).expect("small numbers")
}

fn cost(index: usize) -> Decimal {
    Decimal::new(1 + i64::try_from(index % 9999).expect("small"), 4)
}

fn id(kind: &str, index: usize) -> String {
    let kind = kind.bytes().fold(0_u32, |sum, byte| sum * 31 + u32::from(byte));
    format!("{kind:08x}-0000-4000-8000-{index:012x}")
}

/// Apart, so that its instructions can be counted by themselves.
#[inline(never)]
fn rate_once(rater: &TestRater, request: &RateRequest, batch: &RecordBatch) -> RecordBatch {
    rater.rate_batch(request, batch).expect("rates")
}

fn rate(criterion: &mut Criterion) {
    let batches = [1, 97, ROWS].map(|quantities| {
        let rows = rows(quantities);
        let batch = batch(&rows);
        (quantities, rows, batch)
    });
    let mut group = criterion.benchmark_group("rate 10,000 rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    for count in [10, 145, 1_000, 10_000, 100_000] {
        // Made when the first filter asks for it.
        let rater = LazyCell::new(|| PriceList::new(count).checked_rater(&batches));
        let request = request("instance");
        for (quantities, _, batch) in &batches {
            group.bench_function(format!("{count} rules, {quantities} quantities"), |bencher| {
                let rater = &*rater;
                bencher.iter(|| rate_once(rater, &request, black_box(batch)));
            });
        }
    }
    let mut rows = rows(97);
    for row in &mut rows {
        row.qty += Decimal::new(1, 26);
    }
    let batch = batch(&rows);
    let long = [(97, rows, batch)];
    let rater = LazyCell::new(|| PriceList::new(145).checked_rater(&long));
    let own_request = request("instance");
    group.bench_function("145 rules, 97 quantities that need rounding", |bencher| {
        let rater = &*rater;
        bencher.iter(|| rate_once(rater, &own_request, black_box(&long[0].2)));
    });
    let request = request("other");
    group.bench_function("no rules for the metric", |bencher| {
        let rater = &*rater;
        bencher.iter(|| rate_once(rater, &request, black_box(&batches[0].2)));
    });
    group.finish();
}

fn prepare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prepare");
    group.sample_size(20);
    for count in [145, 100_000] {
        let list = LazyCell::new(|| PriceList::new(count));
        group.bench_function(format!("{count} rules, read and prepared"), |bencher| {
            let prepare = |module: TestModule| module.prepare_at(begin()).expect("prepares");
            bencher.iter_batched(|| list.module(), prepare, BatchSize::PerIteration);
        });
        let module = LazyCell::new(|| list.module());
        group.bench_function(format!("{count} rules, again"), |bencher| {
            let module = &*module;
            module.prepare_at(begin()).expect("prepares");
            bencher.iter(|| module.prepare_at(begin()).expect("prepares"));
        });
    }
    group.finish();
}

criterion_group!(benches, rate, prepare);
criterion_main!(benches);
