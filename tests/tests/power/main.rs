//! Power goes at any moment: what was acknowledged is there, what was not is there wholly or not at
//! all, totals are exact, and the daemon goes on.
//!
//! The daemon's state stands on a disk of the test ([`rated_tests::Disk`]), which forgets what was
//! not synced. A schedule is a new disk, a first start and many cuts: in the start-up, also that
//! after a cut, or while clients push, change prices, reset and reprocess and the cycle collects
//! and compacts. After each start the whole content is compared with a model. At the end, with
//! power, each day that is due must get into the ledger, once.
//!
//! `RATED_TEST_POWER_CUTS=n` sets how many cuts there are in all (for nights, by `cargo test`: the
//! other runner ends tests that take minutes), `RATED_TEST_POWER_SEED=n` runs that one schedule.
//! What is drawn (what clients do, the moment of a cut as a number of operations, what survives)
//! follows from the seed; which thread comes first does not. So the disk of a failure is kept, and
//! the daemon fails on it again.
#![forbid(unsafe_code)]

mod client;
mod faults;
mod full;
mod model;
mod schedule;
mod site;

use std::thread;

use rated_tests::{Access, Fault};
use schedule::{Outcome, Schedule};

/// In all tests of this file together.
const CUTS: u64 = 1000;
/// Tests that share them, so that the runner spreads them.
const TESTS: u64 = 4;
/// With more the disk would only get fuller.
const CUTS_OF_SCHEDULE: u64 = 125;
/// At the same time in one test.
const THREADS: u64 = 2;

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{name}` is a whole number, not `{text}`")))
}

/// One of the tests' part of the cuts.
fn survive(test: u64) {
    if let Some(seed) = variable("RATED_TEST_POWER_SEED") {
        if seed % TESTS == test {
            let outcome = Schedule::new(seed).run(CUTS_OF_SCHEDULE);
            println!("{outcome}");
            outcome.expect_sound();
        }
        return;
    }
    let cuts = variable("RATED_TEST_POWER_CUTS").unwrap_or(CUTS) / TESTS;
    let schedules = cuts.div_ceil(CUTS_OF_SCHEDULE);
    let run = |thread: u64| -> Vec<Outcome> {
        let numbers = (0..schedules).filter(|number| number % THREADS == thread);
        let run = |number: u64| {
            let cuts = CUTS_OF_SCHEDULE.min(cuts - number * CUTS_OF_SCHEDULE);
            let outcome = Schedule::new(number * TESTS + test).run(cuts);
            println!("{outcome}");
            outcome
        };
        numbers.map(run).collect()
    };
    let outcomes: Vec<Outcome> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let survived: u64 = outcomes.iter().map(|outcome| outcome.cuts).sum();
    println!("{survived} power cuts");
    outcomes.iter().for_each(Outcome::expect_sound);
    assert_eq!(survived, cuts);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_1() {
    survive(0);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_2() {
    survive(1);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_3() {
    survive(2);
}

#[test]
fn what_was_acknowledged_survives_power_cuts_4() {
    survive(3);
}

/// What a violation says that is a loss: the model misses something, or the daemon knows of it.
const LOSSES: [&str; 4] =
    ["but it must be", "changes that were acknowledged are lost", "damaged", ": 503 "];

/// The disk takes no notice of some syncs; the model must see what that costs, and nothing when it
/// does take notice.
fn must_be_noticed(fault: &Fault) {
    const ATTEMPTS: u64 = 5;
    for seed in 0..ATTEMPTS {
        let outcome = Schedule::new(seed).with_fault(fault.clone()).run(CUTS_OF_SCHEDULE);
        println!("{outcome}");
        if let Some(violation) = &outcome.violation {
            assert!(LOSSES.iter().any(|loss| violation.contains(loss)), "another one:\n{outcome}");
            Schedule::new(seed).run(outcome.cuts + 1).expect_sound();
            return;
        }
    }
    panic!("nothing was lost without the sync: {fault:?}");
}

/// `fdatasync` of sled's log is ours, sled itself calls `fsync` now and then, which counts.
#[test]
fn without_our_sync_of_the_log_acknowledged_changes_are_lost() {
    must_be_noticed(&Fault::ignored(Access::DataSync, "ledger/db"));
}

#[test]
fn without_our_sync_of_data_files_acknowledged_rows_are_lost() {
    must_be_noticed(&Fault::ignored(Access::DataSync, "ledger/data/"));
}
