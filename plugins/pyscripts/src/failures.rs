//! Runs that failed lately.
//!
//! When a script fails for a scope among many, the daemon finds that scope by asking again with
//! fewer at a time. Each of those calls would let the same run overrun again, and the other scopes'
//! prices wait for it. So a failure is remembered for a minute, for exactly the same points and
//! scripts, and a call that has such points in it fails at once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::serde_json;
use sha2::{Digest, Sha256};

use crate::python::{Points, Wrong};

/// How long a failure holds.
const REMEMBERED: TimeDelta = TimeDelta::minutes(1);
/// Most failures that are remembered.
const FAILURES_MAX: usize = 1000;

/// Failures of the same scripts.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<Key, (DateTime<Utc>, Wrong)>>);

/// SHA-256 of the points.
type Key = [u8; 32];

impl Failures {
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// What these points failed with less than a minute ago.
    pub(crate) fn of(&self, points: &Points<'_>, now: DateTime<Utc>) -> Option<Wrong> {
        let key = key(points);
        let mut known = self.lock();
        known.retain(|_, (at, _)| now - *at < REMEMBERED);
        known.get(&key).map(|(_, wrong)| wrong.clone())
    }

    pub(crate) fn remember(&self, points: &Points<'_>, wrong: Wrong, now: DateTime<Utc>) {
        let key = key(points);
        let mut known = self.lock();
        known.retain(|_, (at, _)| now - *at < REMEMBERED);
        if known.len() < FAILURES_MAX {
            known.insert(key, (now, wrong));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (DateTime<Utc>, Wrong)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(points: &Points<'_>) -> Key {
    let mut hash = Sha256::new();
    serde_json::to_writer(&mut hash, points).expect("all keys are texts");
    hash.finalize().into()
}
