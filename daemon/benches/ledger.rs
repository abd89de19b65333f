//! The ledger: encoding, durable commits, summaries over a million rows, bytes on disk for each
//! row.
//!
//! The rows are like those of a cloud: each scope has resources that stay from hour to hour, six
//! attributes of which two name the resource and its host, quantities that move a little, prices
//! that follow from the flavour.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};
use chrono::DateTime;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rated::ledger::sled::{SledLedger, SledOptions};
use rated::ledger::{
    Fact, Filters, GroupKey, Ledger, Measures, NewScope, RatedBy, RatedSlice, SliceScope,
    SummaryQuery,
};
use rated::usage::{MetricId, Period, ScopeId};

const START_SECS: i64 = 1_793_491_200;
const HOUR_SECS: i64 = 3600;
const RESOURCES: usize = 20;

fn metric(index: usize) -> MetricId {
    MetricId { name: format!("metric_{index}"), alt_name: format!("type_{index}") }
}

fn scope(index: usize) -> ScopeId {
    ScopeId::new(&format!("{:016x}{:016x}", mix(index as u64), mix(!(index as u64)))).unwrap()
}

/// A number that looks random and is always the same.
fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
}

fn column(codes: Vec<i32>, texts: Vec<String>) -> ArrayRef {
    let texts = Arc::new(StringArray::from(texts));
    Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(codes), texts))
}

fn decimals(values: Vec<i128>, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap())
}

/// One metric and hour of many scopes.
fn slice(metric_index: usize, hour: i64, scopes: usize) -> RatedSlice {
    let rows = scopes * RESOURCES;
    let codes = |of: &dyn Fn(usize) -> usize| -> Vec<i32> {
        (0..rows).map(|row| i32::try_from(of(row)).unwrap()).collect()
    };
    let random =
        |row: usize, salt: u64| usize::try_from(mix(row as u64 ^ salt << 40) >> 8).unwrap();
    let names = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|index| format!("{prefix}-{index}")).collect()
    };
    let ids = (0..rows).map(|row| format!("{:016x}-{:08x}", mix(row as u64), row)).collect();
    let qty = |row: usize| {
        // Most resources use the same in every hour; some move.
        let hour = u64::try_from(hour).unwrap();
        let moves = random(row, 9).is_multiple_of(4);
        1_000 + i128::from(mix(if moves { row as u64 ^ hour << 32 } else { row as u64 }) % 7_200)
    };
    let price = |row: usize| qty(row) * i128::try_from(1 + random(row, 1) % 20).unwrap();
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "scope_id",
            column(
                codes(&|row| row / RESOURCES),
                (0..scopes).map(|index| scope(index).as_str().to_owned()).collect(),
            ),
        ),
        ("qty", decimals((0..rows).map(qty).collect(), 3)),
        ("groupby.id", column(codes(&|row| row), ids)),
        ("groupby.region", column(codes(&|row| random(row, 2) % 3), names("region", 3))),
        ("metadata.flavor_id", column(codes(&|row| random(row, 1) % 20), names("flavor", 20))),
        ("metadata.flavor_name", column(codes(&|row| random(row, 1) % 20), names("m1.size", 20))),
        ("metadata.host", column(codes(&|row| random(row, 3) % 64), names("compute", 64))),
        ("metadata.state", column(codes(&|row| random(row, 4) % 16 / 15), names("state", 2))),
        ("price", decimals((0..rows).map(price).collect(), 6)),
    ];
    let field = |(name, column): &(&str, ArrayRef)| {
        let is_attribute = matches!(column.data_type(), DataType::Dictionary(..));
        Field::new(*name, column.data_type().clone(), is_attribute && *name != "scope_id")
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let begin_secs = START_SECS + hour * HOUR_SECS;
    RatedSlice {
        metric: metric(metric_index),
        unit: "instance".to_owned(),
        description: None,
        period: Period::from_secs(begin_secs, begin_secs + HOUR_SECS).unwrap(),
        scopes: (0..scopes)
            .map(|index| SliceScope { id: scope(index), fact: Fact::Collected })
            .collect(),
        rows: vec![RecordBatch::try_new(Arc::new(schema), columns).unwrap()],
        rated_by: vec![RatedBy {
            module: "hashmap".to_owned(),
            revision: 7,
            library: "5e".repeat(32),
        }]
        .into(),
    }
}

fn open(path: &Path, metrics: usize, scopes: usize) -> SledLedger {
    let ledger = SledLedger::open(path, SledOptions { cache_size_mib: 256 }).unwrap();
    ledger.set_metrics(&(0..metrics).map(metric).collect::<Vec<_>>()).unwrap();
    let time = DateTime::from_timestamp(START_SECS, 0).unwrap();
    let new = (0..scopes).map(|index| NewScope {
        id: scope(index),
        fetcher: "bench".to_owned(),
        collector: "bench".to_owned(),
        scope_key: "project_id".to_owned(),
        first_period: time,
        last_processed: None,
        active: true,
        found_at: time,
    });
    ledger.add_scopes(&new.collect::<Vec<_>>()).unwrap();
    ledger
}

fn query(group_by: &[GroupKey]) -> SummaryQuery {
    SummaryQuery {
        begin: DateTime::from_timestamp(START_SECS, 0).unwrap(),
        end: DateTime::from_timestamp(START_SECS + 10_000 * HOUR_SECS, 0).unwrap(),
        filters: Filters::default(),
        group_by: group_by.to_vec(),
        measures: Measures::Sums,
    }
}

fn bench_commit(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), 1, 500);
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(10_000));
    let rows = slice(0, 0, 500);
    group.bench_function("encode 10,000 rows", |bench| {
        bench.iter(|| ledger.encoded_size(black_box(&rows)).unwrap());
    });
    let mut hour = -1;
    group.bench_function("commit 10,000 rows, durable", |bench| {
        bench.iter_batched(
            || {
                hour += 1;
                vec![slice(0, hour, 500)]
            },
            |slices| assert_eq!(ledger.commit(slices).unwrap()[0].rows_stored, 10_000),
            BatchSize::PerIteration,
        );
    });
    group.throughput(Throughput::Elements(80_000));
    group.bench_function("commit 8 x 10,000 rows, durable", |bench| {
        bench.iter_batched(
            || {
                hour += 8;
                (hour - 7..=hour).map(|hour| slice(0, hour, 500)).collect()
            },
            |slices| assert_eq!(ledger.commit(slices).unwrap()[7].rows_stored, 10_000),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// A million rows: 5 metrics, 100 hours, 100 scopes of 20 resources.
fn bench_summaries(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), 5, 100);
    for metric in 0..5 {
        for first in (0..100).step_by(10) {
            let slices = (first..first + 10).map(|hour| slice(metric, hour, 100));
            ledger.commit(slices.collect()).unwrap();
        }
    }
    let size = ledger.size().unwrap();
    let encoded: usize =
        (0..5).map(|metric| ledger.encoded_size(&slice(metric, 50, 100)).unwrap()).sum();
    println!(
        "{} rows: {} bytes on disk, {}.{:02} a row; blocks alone {}.{:02} a row",
        size.rows,
        size.bytes_on_disk,
        size.bytes_on_disk / size.rows,
        size.bytes_on_disk * 100 / size.rows % 100,
        encoded / 10_000,
        encoded / 100 % 100,
    );
    let mut group = criterion.benchmark_group("summary of 1 M rows");
    group.measurement_time(Duration::from_secs(4)).sample_size(20);
    let flavor = || GroupKey::Attribute("flavor_id".to_owned());
    let cases = [
        ("total", vec![]),
        ("by time", vec![GroupKey::Time]),
        ("by scope", vec![GroupKey::Scope]),
        ("by scope and type", vec![GroupKey::Scope, GroupKey::Type]),
        ("by flavour", vec![flavor()]),
        ("by scope and flavour", vec![GroupKey::Scope, flavor()]),
    ];
    for (name, keys) in cases {
        let query = query(&keys);
        group.bench_function(name, |bench| {
            bench.iter(|| ledger.summarize(black_box(&query)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, bench_commit, bench_summaries);
criterion_main!(benches);
