//! Compaction: bytes on disk before and after it, and how long commits take while it runs.
//!
//! Prints a table; nothing in it is compared with anything.

#![expect(clippy::unwrap_used, reason = "a benchmark ends at the first error")]

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rated::bench::{self, Cloud, Hour, Size};
use rated::ledger::sled::{SledLedger, SledOptions};
use rated::ledger::{Compacted, CompactionStep, Ledger, NewReprocessing, Push, RatedSlice};

/// One metric, 20 resources for each scope.
fn cloud(scopes: u32) -> Cloud {
    let start = DateTime::from_timestamp(1_793_491_200, 0).unwrap();
    Cloud::new(Size { scopes, resources: 20, metrics: 1, hours: 721, start, seed: 1 }).unwrap()
}

fn at(cloud: &Cloud, hour: u32) -> DateTime<Utc> {
    cloud.period(hour).begin()
}

/// An hour of all scopes, rated by that revision.
fn slice(cloud: &Cloud, hour: u32, revision: u64) -> RatedSlice {
    cloud.slice(Hour { metric: 0, hour }, 0..cloud.size().scopes, revision)
}

/// An hour of one scope, from somebody outside.
fn push(ledger: &SledLedger, cloud: &Cloud, hour: u32) {
    let slices = vec![cloud.slice(Hour { metric: 0, hour }, 0..1, 1)];
    let (scope_key, author) = (Cloud::SCOPE_KEY.to_owned(), "bench".to_owned());
    ledger.push(Push { slices, scope_key, key: None, at: at(cloud, 0), author }).unwrap();
}

fn open(path: &Path, cloud: &Cloud) -> SledLedger {
    let ledger =
        SledLedger::open(path, SledOptions { cache_size_mib: 256, ..SledOptions::default() })
            .unwrap();
    bench::announce(cloud, &ledger).unwrap();
    ledger
}

/// Of all files in the folder and below it.
fn folder_size(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).unwrap();
    // A file may go between being listed and being looked at.
    let known =
        entries.map(Result::unwrap).filter_map(|entry| Some((entry.metadata().ok()?, entry)));
    let size = |(about, entry): (std::fs::Metadata, std::fs::DirEntry)| {
        if about.is_dir() { folder_size(&entry.path()) } else { about.len() }
    };
    known.map(size).sum()
}

/// Space is freed in the background; this waits until it has come to rest.
fn settled_size(path: &Path) -> u64 {
    let mut last = (folder_size(path), Instant::now());
    while last.1.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(100));
        if folder_size(path) != last.0 {
            last = (folder_size(path), Instant::now());
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

fn measure(name: &str, path: &Path, ledger: SledLedger, cloud: &Cloud) {
    let rows = ledger.size().unwrap().rows;
    let before = settled_size(path);
    let (done, duration, longest) = compact(&ledger);
    let after = settled_size(path);
    // What the next start and some commits leave of it.
    drop(ledger);
    let ledger = open(path, cloud);
    let reopened = settled_size(path);
    println!(
        "{name}: {rows} rows; folder {before} bytes, compacted {after}, opened again {reopened}; \
         {} slices merged, {} rows dropped, {} bytes moved and {} deleted in \
         {duration:?}, longest step {longest:?}",
        done.slices_merged, done.rows_dropped, done.bytes_moved, done.bytes_deleted,
    );
    assert_eq!(ledger.size().unwrap().rows, rows);
}

/// For each of ten periods 720 pushes of 20 rows of one scope.
fn little_slices() {
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(1);
    let ledger = open(folder.path(), &cloud);
    for count in 0..7200 {
        push(&ledger, &cloud, count % 10);
    }
    measure("10 x 720 little slices", folder.path(), ledger, &cloud);
}

/// A month of 100 scopes, reprocessed once.
fn reprocessed_month() {
    const HOURS: u32 = 720;
    let folder = tempfile::tempdir().unwrap();
    let cloud = cloud(100);
    let ledger = open(folder.path(), &cloud);
    for first in (0..HOURS).step_by(24) {
        let slices = (first..first + 24).map(|hour| slice(&cloud, hour, 1));
        ledger.commit(slices.collect()).unwrap();
    }
    println!("a month: folder {} bytes", settled_size(folder.path()));
    let new = NewReprocessing {
        scopes: cloud.scopes().to_vec(),
        reason: "bench".to_owned(),
        start: at(&cloud, 0),
        end: at(&cloud, HOURS - 1),
        at: at(&cloud, HOURS),
        author: "bench".to_owned(),
    };
    let id = ledger.add_reprocessing(&new).unwrap();
    for first in (0..HOURS).step_by(24) {
        let slices = (first..first + 24).map(|hour| slice(&cloud, hour, 2));
        ledger.stage_reprocessed(id, slices.collect()).unwrap();
    }
    ledger.finish_reprocessing(id).unwrap();
    measure("a month, reprocessed", folder.path(), ledger, &cloud);
}

/// Commits of 2,000 rows, alone and beside compaction that never pauses.
fn latencies() {
    let cloud = cloud(100);
    for is_compacted in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path(), &cloud);
        for count in 0..3000 {
            push(&ledger, &cloud, count % 50);
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
                let slices = vec![slice(&cloud, hour, 1)];
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
