//! Compaction: bytes on disk before and after it, and how long commits take while it runs.
//!
//! Prints a table; nothing in it is compared with anything.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Decimal128Array, DictionaryArray, RecordBatch};
use arrow_schema::{Field, Schema};
use chrono::{DateTime, Utc};
use rated::ledger::sled::{SledLedger, SledOptions};
use rated::ledger::{
    Compacted, CompactionStep, Fact, Ledger, NewReprocessing, NewScope, Push, RatedBy, RatedSlice,
    SliceScope,
};
use rated::usage::{MetricId, Period, ScopeId};

const START_SECS: i64 = 1_793_491_200;
const HOUR_SECS: i64 = 3600;
const RESOURCES: usize = 20;

fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START_SECS + hour * HOUR_SECS, 0).unwrap()
}

fn metric() -> MetricId {
    MetricId { name: "instance".to_owned(), alt_name: "instance".to_owned() }
}

fn scope(index: usize) -> ScopeId {
    ScopeId::new(&format!("{:032x}", mix(index as u64))).unwrap()
}

/// A number that looks random and is always the same.
fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ seed >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB)
}

/// An hour of some scopes, 20 rows each, rated by that revision.
fn slice(hour: i64, scopes: std::ops::Range<usize>, revision: u64) -> RatedSlice {
    let rows: Vec<u64> =
        (scopes.start * RESOURCES..scopes.end * RESOURCES).map(|row| row as u64).collect();
    let text = |of: &dyn Fn(u64) -> String| -> ArrayRef {
        let texts: Vec<String> = rows.iter().map(|row| of(*row)).collect();
        Arc::new(texts.iter().map(String::as_str).collect::<DictionaryArray<Int32Type>>())
    };
    let decimals = |of: &dyn Fn(u64) -> u64, scale| -> ArrayRef {
        let values = Decimal128Array::from_iter_values(rows.iter().map(|row| i128::from(of(*row))));
        Arc::new(values.with_precision_and_scale(38, scale).unwrap())
    };
    let qty = |row: u64| 1_000 + mix(row ^ hour.cast_unsigned() << 32) % 7_200;
    let columns: [(&str, ArrayRef); 7] = [
        (
            "scope_id",
            text(&|row| scope(usize::try_from(row).unwrap() / RESOURCES).as_str().to_owned()),
        ),
        ("qty", decimals(&qty, 3)),
        ("groupby.id", text(&|row| format!("{:016x}-{row:08x}", mix(row)))),
        ("metadata.flavor_id", text(&|row| format!("flavor-{}", mix(row) % 20))),
        ("metadata.host", text(&|row| format!("compute-{}", mix(row ^ 5) % 64))),
        ("metadata.state", text(&|row| format!("state-{}", mix(row ^ 9) % 2))),
        ("price", decimals(&|row| qty(row) * (1 + revision), 6)),
    ];
    let field = |(name, column): &(&str, ArrayRef)| {
        let is_attribute = name.contains('.');
        Field::new(*name, column.data_type().clone(), is_attribute)
    };
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    let fact = Fact::Collected;
    RatedSlice {
        metric: metric(),
        unit: "instance".to_owned(),
        description: None,
        period: Period::new(at(hour), at(hour + 1)).unwrap(),
        scopes: scopes.map(|index| SliceScope { id: scope(index), fact }).collect(),
        rows: vec![RecordBatch::try_new(Arc::new(schema), columns).unwrap()],
        rated_by: vec![RatedBy { module: "hashmap".into(), revision, library: "5e".repeat(32) }]
            .into(),
    }
}

fn open(path: &Path, scopes: usize) -> SledLedger {
    let ledger = SledLedger::open(path, SledOptions { cache_size_mib: 256 }).unwrap();
    ledger.set_metrics(&[metric()]).unwrap();
    let new = (0..scopes).map(|index| NewScope {
        id: scope(index),
        fetcher: "bench".to_owned(),
        collector: "bench".to_owned(),
        scope_key: "project_id".to_owned(),
        first_period: at(0),
        last_processed: None,
        active: true,
        found_at: at(0),
    });
    ledger.add_scopes(&new.collect::<Vec<_>>()).unwrap();
    ledger
}

/// Of the log alone: what `du` says.
fn file_size(path: &Path) -> u64 {
    std::fs::metadata(path.join("db")).unwrap().len()
}

/// sled frees segments in the background; this waits until it has come to rest.
fn settled_size(path: &Path) -> u64 {
    let mut last = (file_size(path), Instant::now());
    while last.1.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        if file_size(path) != last.0 {
            last = (file_size(path), Instant::now());
        }
    }
    last.0
}

fn compact(ledger: &SledLedger) -> (CompactionStep, Duration, Duration) {
    let mut all = CompactionStep::default();
    let mut longest = Duration::ZERO;
    let begin = Instant::now();
    loop {
        let before = Instant::now();
        let step = ledger.compact().unwrap();
        longest = longest.max(before.elapsed());
        all.slices_merged += step.slices_merged;
        all.rows_dropped += step.rows_dropped;
        all.bytes_moved += step.bytes_moved;
        all.bytes_deleted += step.bytes_deleted;
        if step.progress == Compacted::All {
            return (all, begin.elapsed(), longest);
        }
    }
}

fn measure(name: &str, path: &Path, ledger: SledLedger, scopes: usize) {
    let rows = ledger.size().unwrap().rows;
    let before = settled_size(path);
    let (done, duration, longest) = compact(&ledger);
    let after = settled_size(path);
    // What the next start and some commits leave of it.
    drop(ledger);
    let ledger = open(path, scopes);
    let reopened = settled_size(path);
    println!(
        "{name}: {rows} rows; file {before} bytes, compacted {after}, opened again {reopened}; \
         {} slices merged, {} rows dropped, {} bytes moved and {} deleted in \
         {duration:?}, longest step {longest:?}",
        done.slices_merged, done.rows_dropped, done.bytes_moved, done.bytes_deleted,
    );
    assert_eq!(ledger.size().unwrap().rows, rows);
}

/// For each of ten periods 720 pushes of 20 rows of one scope.
fn little_slices() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), 1);
    for count in 0..7200 {
        let period = slice(count % 10, 0..1, 1).period;
        let slices = vec![RatedSlice { period, ..slice(count, 0..1, 1) }];
        let (scope_key, author) = ("project_id".to_owned(), "bench".to_owned());
        ledger.push(Push { slices, scope_key, key: None, at: at(0), author }).unwrap();
    }
    measure("10 x 720 little slices", folder.path(), ledger, 1);
}

/// A month of 100 scopes, reprocessed once.
fn reprocessed_month() {
    const HOURS: i64 = 720;
    const SCOPES: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path(), SCOPES);
    for first in (0..HOURS).step_by(24) {
        let slices = (first..first + 24).map(|hour| slice(hour, 0..SCOPES, 1));
        ledger.commit(slices.collect()).unwrap();
    }
    println!("a month: file {} bytes", settled_size(folder.path()));
    let new = NewReprocessing {
        scopes: (0..SCOPES).map(scope).collect(),
        reason: "bench".to_owned(),
        start: at(0),
        end: at(HOURS - 1),
        at: at(HOURS),
        author: "bench".to_owned(),
    };
    let id = ledger.add_reprocessing(&new).unwrap();
    for first in (0..HOURS).step_by(24) {
        let slices = (first..first + 24).map(|hour| slice(hour, 0..SCOPES, 2));
        ledger.stage_reprocessed(id, slices.collect()).unwrap();
    }
    ledger.finish_reprocessing(id).unwrap();
    measure("a month, reprocessed", folder.path(), ledger, SCOPES);
}

/// Commits of 2,000 rows, alone and beside compaction that never pauses.
fn latencies() {
    for is_compacted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path(), 100);
        for count in 0..3000 {
            let slices = vec![RatedSlice {
                period: slice(count % 50, 0..1, 1).period,
                ..slice(count, 0..1, 1)
            }];
            let (scope_key, author) = ("project_id".to_owned(), "bench".to_owned());
            ledger.push(Push { slices, scope_key, key: None, at: at(0), author }).unwrap();
        }
        let is_done = AtomicBool::new(false);
        let (mut durations, steps) = std::thread::scope(|threads| {
            let upkeep = threads.spawn(|| {
                let mut steps = 0;
                while is_compacted && !is_done.load(Ordering::SeqCst) {
                    ledger.compact().unwrap();
                    steps += 1;
                }
                steps
            });
            let mut durations = Vec::new();
            for hour in 0..200 {
                let slices = vec![slice(hour, 0..100, 1)];
                let begin = Instant::now();
                ledger.commit(slices).unwrap();
                durations.push(begin.elapsed());
            }
            is_done.store(true, Ordering::SeqCst);
            (durations, upkeep.join().unwrap())
        });
        durations.sort();
        println!(
            "200 commits of 2,000 rows, {steps} steps of compaction beside: median {:?}, p90 {:?}, \
             p99 {:?}, longest {:?}",
            durations[100], durations[180], durations[198], durations[199],
        );
    }
}

fn main() {
    little_slices();
    reprocessed_month();
    latencies();
}
