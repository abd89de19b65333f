//! Stations of the daemon on the way of a slice: convert, encode, commit durably; then decode and
//! group, over a million rows.
//!
//! The rows are those of `rated bench data`. Rating and parsing are measured where their plugins
//! stand, and answers over HTTP by `compare.sh` beside this file.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::hint::black_box;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rated::bench::{self, Cloud, Hour, Size};
use rated::ledger::sled::{SledLedger, SledOptions};
use rated::ledger::{Filters, GroupKey, Ledger, Measures, RatedSlice, RowsQuery, SummaryQuery};
use rated::usage::{Converter, Factor, Metric, Mutation};
use rust_decimal::Decimal;

/// Of one metric and hour.
const ROWS: u64 = 10_000;

fn cloud(scopes: u32, resources: u32, metrics: u32, hours: u32) -> Cloud {
    let start = DateTime::from_timestamp(1_793_491_200, 0).unwrap();
    Cloud::new(Size { scopes, resources, metrics, hours, start, seed: 1 }).unwrap()
}

fn slice(cloud: &Cloud, hour: u32) -> RatedSlice {
    cloud.slice(Hour { metric: 0, hour }, 0..cloud.size().scopes, 1)
}

fn open(path: &Path) -> SledLedger {
    SledLedger::open(path, SledOptions { cache_size_mib: 256, ..SledOptions::default() }).unwrap()
}

fn bench_convert(criterion: &mut Criterion) {
    let cloud = cloud(500, 20, 1, 1);
    let usage = cloud.usage(Hour { metric: 0, hour: 0 }, 0..500);
    let metric = |numerator, denominator: i64| Metric {
        id: Cloud::metric(0),
        unit: Cloud::UNIT.to_owned(),
        description: None,
        groupby: vec!["id".to_owned(), "region".to_owned()],
        metadata: ["flavor_id", "flavor_name", "host", "state"].map(str::to_owned).to_vec(),
        factor: Factor { numerator, denominator: denominator.into() },
        offset: Decimal::ZERO,
        mutate: Mutation::None,
        collector: None,
        skip_zero: false,
        extra_args: serde_json::Map::new(),
    };
    let mut group = criterion.benchmark_group("convert 10,000 rows");
    group.throughput(Throughput::Elements(ROWS));
    for (name, denominator) in [("factor 1", 1), ("factor 1/1048576", 1 << 20), ("factor 1/3", 3)] {
        let converter = Converter::new(&metric(Decimal::ONE, denominator));
        group.bench_function(name, |bench| {
            bench.iter(|| converter.convert(black_box(&usage)).unwrap());
        });
    }
    group.finish();
}

fn bench_commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(500, 20, 1, 24 * 366);
    let ledger = open(folder.path());
    bench::announce(&cloud, &ledger).unwrap();
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(ROWS));
    let rows = slice(&cloud, 0);
    group.bench_function("encode 10,000 rows", |bench| {
        bench.iter(|| ledger.encoded_size(black_box(&rows)).unwrap());
    });
    let mut next_hour = 0;
    for slices in [1, 8] {
        group.throughput(Throughput::Elements(ROWS * u64::from(slices)));
        group.bench_function(format!("commit {slices} x 10,000 rows, durable"), |bench| {
            bench.iter_batched(
                || {
                    let hours = next_hour..next_hour + slices;
                    next_hour = hours.end;
                    hours.map(|hour| slice(&cloud, hour)).collect::<Vec<_>>()
                },
                |slices| assert_eq!(ledger.commit(slices).unwrap()[0].rows_stored, 10_000),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A million rows: 5 metrics, 100 hours, 100 scopes of 20 resources of each metric.
fn bench_reading(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(100, 100, 5, 100);
    let ledger = open(folder.path());
    bench::fill(&cloud, &ledger, NonZero::<usize>::MIN).unwrap();
    let size = ledger.size().unwrap();
    println!(
        "{} rows: {} bytes on disk, {}.{:02} a row",
        size.rows,
        size.bytes_on_disk,
        size.bytes_on_disk / size.rows,
        size.bytes_on_disk * 100 / size.rows % 100,
    );
    let (begin, end) = (cloud.period(0).begin(), cloud.period(99).end());
    let mut group = criterion.benchmark_group("of 1 M rows");
    group.measurement_time(Duration::from_secs(4)).sample_size(20);
    group.throughput(Throughput::Elements(cloud.points()));
    group.bench_function("decode all", |bench| {
        let query =
            RowsQuery { begin, end, filters: Filters::default(), offset: 0, limit: usize::MAX };
        bench.iter(|| {
            let mut rows = 0;
            let mut count = |group: rated::ledger::RowsGroup| {
                rows += group.rows.num_rows();
                ControlFlow::Continue(())
            };
            ledger.visit_rows(black_box(&query), &mut count).unwrap();
            assert_eq!(rows, 1_000_000);
        });
    });
    let flavor = || GroupKey::Attribute("flavor_id".to_owned());
    let cases = [
        ("total", vec![]),
        ("by time", vec![GroupKey::Time]),
        ("by scope", vec![GroupKey::Scope]),
        ("by scope and type", vec![GroupKey::Scope, GroupKey::Type]),
        ("by flavour", vec![flavor()]),
        ("by scope and flavour", vec![GroupKey::Scope, flavor()]),
    ];
    for (name, group_by) in cases {
        let filters = Filters::default();
        let query = SummaryQuery { begin, end, filters, group_by, measures: Measures::Sums };
        group.bench_function(name, |bench| {
            bench.iter(|| ledger.summarize(black_box(&query)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench_convert, bench_commit, bench_reading);
criterion_main!(benches);
