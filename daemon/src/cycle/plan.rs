//! What is due, in which order, and how much of it at once.
//!
//! A slice is one metric of one period for many scopes, asked of one collector. Of the same metric
//! and scope the periods are handed out one after the other, each after the one before is in the
//! ledger. Different metrics, and different collectors, do not wait for each other.
//!
//! Pure: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::hold::{Holds, Subject};
use super::track::Track;
use crate::usage::{Period, ScopeId, last_due_begin_secs};

/// The configuration's part of the plan.
#[derive(Debug, Clone)]
pub(super) struct PlanRules {
    pub(super) period_secs: u32,
    pub(super) wait_periods: u32,
    pub(super) slice_scopes_max: usize,
    pub(super) slices_in_flight_max: usize,
}

impl PlanRules {
    /// Begin of the newest period that is due: the source had `wait_periods` more to be complete.
    pub(super) fn last_due_begin(&self, now: DateTime<Utc>) -> i64 {
        last_due_begin_secs(now, self.period_secs, self.wait_periods)
    }
}

/// What the ledger and the configuration say now.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// By scope index; scopes are never removed, new ones come last.
    pub(super) scopes: Vec<ScopeId>,
    pub(super) active: Vec<bool>,
    /// By metric index, then scope index.
    pub(super) next_begin: Vec<Vec<i64>>,
    /// By metric index.
    pub(super) collectors: Vec<Arc<str>>,
    /// Collectors that somebody has disabled.
    pub(super) disabled: BTreeSet<String>,
}

/// One metric of one period for many scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    /// Index of the metric.
    pub(super) metric: usize,
    pub(super) collector: Arc<str>,
    pub(super) period: Period,
    /// Indexes, ascending.
    pub(super) scopes: Vec<u32>,
    /// Begin of the newest period of the same length that is due.
    pub(super) last_due_begin: i64,
    pub(super) began: DateTime<Utc>,
}

/// Hands out slices and takes them back.
#[derive(Debug)]
pub(super) struct Plan {
    rules: PlanRules,
    pub(super) holds: Holds,
    world: World,
    tracks: Vec<Track>,
    /// Slices handed out, by metric index and collector; the collector of a metric may change
    /// meanwhile.
    in_flight: BTreeMap<(usize, Arc<str>), usize>,
    last_due_begin: i64,
    round: u32,
    /// When the first of the scopes that were put aside may go on.
    release_at: Option<DateTime<Utc>>,
}

impl Plan {
    /// Nothing is due before the first [`Plan::sync`].
    pub(super) fn new(rules: PlanRules, holds: Holds, metric_count: usize) -> Plan {
        Plan {
            rules,
            holds,
            world: World::default(),
            tracks: (0..metric_count).map(|_| Track::default()).collect(),
            in_flight: BTreeMap::new(),
            last_due_begin: i64::MIN,
            round: 0,
            release_at: None,
        }
    }

    /// Call it before the ledger is read for [`Plan::sync`].
    pub(super) fn begin_sync(&mut self) {
        self.round = self.round.wrapping_add(1);
    }

    /// Whether scopes stand where they stood.
    pub(super) fn is_continued_by(&self, world: &World) -> bool {
        world.scopes.starts_with(&self.world.scopes)
    }

    pub(super) fn sync(&mut self, world: World) {
        for (track, next_begin) in self.tracks.iter_mut().zip(&world.next_begin) {
            track.sync(next_begin, &world.active, self.round);
        }
        self.world = world;
    }

    /// A tick: what became due until now is planned from now on.
    pub(super) fn set_due(&mut self, now: DateTime<Utc>) {
        self.last_due_begin = self.rules.last_due_begin(now);
    }

    pub(super) fn scope_id(&self, scope: u32) -> &ScopeId {
        &self.world.scopes[scope as usize]
    }

    pub(super) fn scope_count(&self) -> usize {
        self.world.scopes.len()
    }

    pub(super) fn slices_in_flight(&self) -> usize {
        self.in_flight.values().sum()
    }

    /// Begin of the oldest period that an active scope needs next.
    pub(super) fn furthest_behind(&self) -> Option<i64> {
        self.tracks.iter().filter_map(Track::furthest_behind).min()
    }

    /// The next slice to work on now, if there is one: oldest period first, but no collector takes
    /// the places of the others, and a metric that takes more than its part of its collector's
    /// places comes last.
    pub(super) fn next(&mut self, now: DateTime<Utc>) -> Option<Slice> {
        if self.holds.holds(&Subject::Ledger, now) || self.holds.holds(&Subject::Chain, now) {
            return None;
        }
        self.release(now);
        let due: Vec<usize> =
            (0..self.tracks.len()).filter(|metric| self.is_due(*metric)).collect();
        let metric = self.choose(&due, now)?;
        let (begin, scopes) = self.tracks[metric].take(self.rules.slice_scopes_max)?;
        let Some(period) = Period::from_secs(begin, begin + i64::from(self.rules.period_secs))
        else {
            // A cursor beyond what a date can say; whatever wrote it, there is nothing to collect.
            self.tracks[metric].put_aside(&scopes, begin, self.round);
            return None;
        };
        let collector = Arc::clone(&self.world.collectors[metric]);
        *self.in_flight.entry((metric, Arc::clone(&collector))).or_default() += 1;
        // What failed lately goes on a period at a time: what is sound gets into the ledger, and
        // whatever moved on counts as a success.
        let is_held = self.is_held(metric, &scopes);
        let last_due_begin = if is_held { begin } else { self.last_due_begin };
        Some(Slice { metric, collector, period, scopes, last_due_begin, began: now })
    }

    fn is_held(&self, metric: usize, scopes: &[u32]) -> bool {
        let is_held =
            |scope: &u32| self.holds.get(&Subject::Scope { metric, scope: *scope }).is_some();
        self.holds.get(&self.source(metric)).is_some() || scopes.iter().any(is_held)
    }

    fn is_due(&self, metric: usize) -> bool {
        let Some(collector) = self.world.collectors.get(metric) else { return false };
        !self.world.disabled.contains(&**collector)
            && self.tracks[metric].oldest().is_some_and(|begin| begin <= self.last_due_begin)
    }

    fn choose(&self, due: &[usize], now: DateTime<Utc>) -> Option<usize> {
        let collector = |metric: usize| &self.world.collectors[metric];
        let mut metrics_by_collector: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
        for metric in due {
            metrics_by_collector.entry(collector(*metric)).or_default().insert(*metric);
        }
        for (metric, collector) in self.in_flight.keys() {
            metrics_by_collector.entry(collector).or_default().insert(*metric);
        }
        let places = (self.rules.slices_in_flight_max / metrics_by_collector.len().max(1)).max(1);
        let taken = |collector: &str| -> usize {
            let of_collector = self.in_flight.iter().filter(|((_, by), _)| **by == *collector);
            of_collector.map(|(_, count)| count).sum()
        };
        let candidates = due
            .iter()
            .copied()
            .filter(|metric| taken(collector(*metric)) < places && self.may_be_asked(*metric, now));
        candidates.min_by_key(|metric| {
            let metrics = metrics_by_collector[&**collector(*metric)].len();
            let part = (places / metrics).max(1);
            let in_flight = self.metric_in_flight(*metric);
            (in_flight >= part, self.tracks[*metric].oldest(), in_flight, *metric)
        })
    }

    /// A source that failed is asked by one slice alone until it has answered.
    fn may_be_asked(&self, metric: usize, now: DateTime<Utc>) -> bool {
        match self.holds.get(&self.source(metric)) {
            None => true,
            Some(hold) => hold.is_over(now) && self.metric_in_flight(metric) == 0,
        }
    }

    fn metric_in_flight(&self, metric: usize) -> usize {
        let collector = Arc::clone(&self.world.collectors[metric]);
        self.in_flight.get(&(metric, collector)).copied().unwrap_or(0)
    }

    fn source(&self, metric: usize) -> Subject {
        Subject::Source { collector: self.world.collectors[metric].as_ref().to_owned(), metric }
    }

    fn release(&mut self, now: DateTime<Utc>) {
        if self.release_at.is_none_or(|at| at > now) {
            return;
        }
        for (metric, track) in self.tracks.iter_mut().enumerate() {
            let holds = &self.holds;
            track.release(|scope| !holds.holds(&Subject::Scope { metric, scope }, now));
        }
        let scope_ends = self.holds.iter().filter_map(|(subject, hold)| match subject {
            Subject::Scope { .. } => hold.until,
            _ => None,
        });
        self.release_at = scope_ends.filter(|until| *until > now).min();
    }

    /// Plugins, rules or states are others now: what is held back may be tried at once.
    pub(super) fn changed(&mut self, now: DateTime<Utc>) {
        self.holds.changed(now);
        self.release_at = Some(now);
    }

    // ---- taking back ----

    /// Once for each slice, whatever became of it, after all of its scopes were put somewhere.
    pub(super) fn ended(&mut self, slice: &Slice) {
        let key = (slice.metric, Arc::clone(&slice.collector));
        if let Some(count) = self.in_flight.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&key);
            }
        }
    }

    /// These are in the ledger up to that begin.
    pub(super) fn stored(&mut self, metric: usize, scopes: &[u32], next_begin: i64) {
        for scope in scopes {
            self.holds.succeeded(&Subject::Scope { metric, scope: *scope });
        }
        self.tracks[metric].rejoin(scopes);
        self.tracks[metric].put_back(scopes, next_begin, self.round);
    }

    /// Of these the ledger has not stored what it was given: their cursors are others than we
    /// thought, as after a reset. They go on after the next [`Plan::begin_sync`].
    pub(super) fn doubt(&mut self, metric: usize, scopes: &[u32]) {
        self.tracks[metric].doubt(scopes, self.round);
    }

    /// Nothing became of these, or their source is held back: to be tried from that begin on.
    pub(super) fn put_back(&mut self, metric: usize, scopes: &[u32], next_begin: i64) {
        self.tracks[metric].put_back(scopes, next_begin, self.round);
    }

    /// These failed for themselves and are held back, each by a hold of its own.
    pub(super) fn put_aside(&mut self, metric: usize, scopes: &[u32], next_begin: i64) {
        self.tracks[metric].put_aside(scopes, next_begin, self.round);
        for scope in scopes {
            let hold = self.holds.get(&Subject::Scope { metric, scope: *scope });
            // Without a hold there is nothing to wait for.
            let until = hold.map_or(Some(DateTime::UNIX_EPOCH), |hold| hold.until);
            if let Some(until) = until {
                self.release_at = Some(self.release_at.map_or(until, |at| at.min(until)));
            }
        }
    }

    /// Somebody among these makes a plugin panic: halves of them are tried apart from now on.
    pub(super) fn halve(&mut self, metric: usize, scopes: &[u32]) {
        let (low, high) = scopes.split_at(scopes.len() / 2);
        self.tracks[metric].set_apart(low);
        self.tracks[metric].set_apart(high);
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
