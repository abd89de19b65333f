//! What the interface costs: 10,000 rows of 6 columns, there and back, and rated.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use arrow_array::{Array, StructArray};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rated_plugin::testing::{FakeHost, TestModule, round_trip};
use rated_plugin::{
    AsOf, Call, Component, Decimal, Error, Host, PriceBatch, Purpose, RateRequest, Rater,
    RatingModule, RecordBatch, Result, UsageBatch, UsageBuilder, decimal_column,
};

const ROWS: usize = 10_000;

struct PerUnit;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

impl Component for PerUnit {
    const NAME: &'static str = "per-unit";
    const SUMMARY: &'static str = "One price for each unit";
    const SAMPLE_CONFIG: &'static str = "";
    type Config = Settings;

    fn create(_: Settings, _: Host) -> Result<PerUnit> {
        Ok(PerUnit)
    }
}

impl RatingModule for PerUnit {
    type Rater = PerUnit;

    fn prepare(&self, _: &Call, _: AsOf) -> Result<PerUnit> {
        Ok(PerUnit)
    }
}

impl Rater for PerUnit {
    fn rate(&self, _: &Call, _: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        rate(usage)
    }
}

fn rate(usage: &RecordBatch) -> Result<RecordBatch> {
    let usage = UsageBatch::new(usage)?;
    let rate = Decimal::new(125, 5);
    let price = |row| {
        let price = multiply_half_even(usage.qty_at(row), rate)?;
        add_half_even(usage.price_at(row), price)
    };
    let prices: Option<Vec<Decimal>> = (0..usage.rows()).map(price).collect();
    PriceBatch::from_prices(&prices.ok_or_else(|| Error::bad_data("too large a price"))?)
}

/// Six columns: scope, quantity, resource, flavor, region, price so far.
fn usage(rows: usize) -> RecordBatch {
    let mut batch = UsageBuilder::new(&["id"], &["flavor", "region"]);
    for row in 0..rows {
        let (scope, id) = (format!("scope-{}", row % 100), format!("resource-{}", row % 2_000));
        let flavor = ["small", "medium", "large"][row % 3];
        let qty = Decimal::new(i64::try_from(row).unwrap_or(0) * 1_000_003, 9);
        batch
            .push(&scope, qty, &[Some(&id), Some(flavor), Some(["north", "south"][row % 2])])
            .expect("few distinct texts");
    }
    let batch = batch.finish().expect("fits");
    let so_far = decimal_column(&vec![Decimal::new(1, 2); rows]).expect("fits");
    UsageBatch::new(&batch).expect("just built").with_price(so_far).expect("as many rows")
}

fn boundary(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("boundary");
    for rows in [1, ROWS] {
        let batch = usage(rows);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_with_input(BenchmarkId::new("one way", rows), &batch, |bencher, batch| {
            bencher.iter(|| round_trip(black_box(batch)).expect("our own"));
        });
        let data = StructArray::from(batch).into_data();
        group.bench_with_input(BenchmarkId::new("validate", rows), &data, |bencher, data| {
            bencher.iter(|| black_box(data).validate().expect("valid"));
        });
        group.bench_with_input(BenchmarkId::new("validate_full", rows), &data, |bencher, data| {
            bencher.iter(|| black_box(data).validate_full().expect("valid"));
        });
    }
    group.finish();
}

fn rating(criterion: &mut Criterion) {
    let host = FakeHost::new();
    let module = TestModule::new::<PerUnit>(&host, "").expect("no configuration");
    let rater = module.prepare_at(host.now()).expect("no rules");
    let request = RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin: host.now() - Duration::from_hours(1),
        end: host.now(),
    };
    let usage = usage(ROWS);
    let mut group = criterion.benchmark_group("rating");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("without the boundary", |bencher| {
        bencher.iter(|| rate(black_box(&usage)).expect("rates"));
    });
    group.bench_function("through the table", |bencher| {
        bencher.iter(|| rater.rate_trusted(&request, black_box(&usage)).expect("rates"));
    });
    group.bench_function("through the table, validated in full", |bencher| {
        bencher.iter(|| rater.rate_batch(&request, black_box(&usage)).expect("rates"));
    });
    group.bench_function("a call that does nothing", |bencher| {
        bencher.iter(|| module.check().expect("does nothing"));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(3)).sample_size(50);
    targets = boundary, rating
}
criterion_main!(benches);
