//! How an instance fares: a few failures are borne, too many in a short time disable it.
//!
//! A failure is a panic, or the death of its process; both count alike. The first is made up for at
//! once, the second after [`RESTART_DELAY`]. A death with several calls under way is nobody's for
//! certain: when it is repeated by one of them alone, both count as one.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// So many failures within [`FAILURES_WINDOW`] disable an instance.
const FAILURES_MAX: usize = 3;
const FAILURES_WINDOW: TimeDelta = TimeDelta::minutes(10);
/// How long a process is not started again after its second death.
const RESTART_DELAY: TimeDelta = TimeDelta::seconds(1);
/// So long after a death that several calls share there is no such delay: they are made once more.
const REPETITION: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: VecDeque<(DateTime<Utc>, Blame)>,
    last_shared: Option<DateTime<Utc>>,
    has_failed: bool,
    /// Why it takes no calls any more.
    disabled: Option<String>,
}

/// Is it known which call a failure comes of?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    Certain,
    /// One of several.
    Shared,
}

impl Health {
    pub(super) fn disabled(&self) -> Option<String> {
        self.disabled.clone()
    }

    /// Has it failed before?
    pub(super) fn is_restart(&self) -> bool {
        self.has_failed
    }

    /// One more failure; when there were too many, how many in how many minutes.
    pub(super) fn failed(&mut self, now: DateTime<Utc>, blame: Blame) -> Option<(usize, i64)> {
        self.has_failed = true;
        self.failures.retain(|(at, _)| now - *at < FAILURES_WINDOW);
        if blame == Blame::Certain
            && self.failures.back().is_some_and(|(_, last)| *last == Blame::Shared)
        {
            self.failures.pop_back();
        }
        if blame == Blame::Shared {
            self.last_shared = Some(now);
        }
        self.failures.push_back((now, blame));
        if self.failures.len() > FAILURES_MAX {
            self.failures.pop_front();
        }
        let too_often = self.failures.len() >= FAILURES_MAX;
        too_often.then_some((FAILURES_MAX, FAILURES_WINDOW.num_minutes()))
    }

    /// How long nothing is started again.
    pub(super) fn wait(&self, now: DateTime<Utc>) -> Option<Duration> {
        let mut recent =
            self.failures.iter().map(|(at, _)| *at).filter(|at| now - *at < FAILURES_WINDOW);
        let (from, delay) = match recent.clone().count() {
            0 | 1 => return None,
            FAILURES_MAX.. => (recent.next()?, FAILURES_WINDOW),
            _ if self.last_shared.is_some_and(|at| now - at < REPETITION) => return None,
            _ => (recent.next_back()?, RESTART_DELAY),
        };
        // A clock that was set back makes no delay longer.
        let left = (from + delay - now).min(delay);
        left.to_std().ok().filter(|left| !left.is_zero())
    }

    /// `false`: it was disabled before.
    pub(super) fn disable(&mut self, reason: &str) -> bool {
        let is_new = self.disabled.is_none();
        self.disabled.get_or_insert_with(|| reason.to_owned());
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_first_death_is_made_up_for_at_once_the_second_after_a_delay() {
        let mut health = Health::default();
        assert_eq!(health.wait(at(0)), None);

        assert_eq!(health.failed(at(0), Blame::Certain), None);
        assert_eq!(health.wait(at(0)), None);
        assert_eq!(health.failed(at(10), Blame::Certain), None);

        assert_eq!(health.wait(at(10)), Some(Duration::from_secs(1)));
        assert_eq!(health.wait(at(11)), None);
        assert_eq!(health.wait(at(0)), Some(Duration::from_secs(1)), "the clock was set back");
        assert_eq!(health.failed(at(20), Blame::Certain), Some((3, 10)));
        assert_eq!(health.wait(at(20)), Some(Duration::from_secs(580)), "of who is not disabled");
        assert_eq!(health.wait(at(600)), None);
    }

    #[test]
    fn failures_are_forgotten_after_ten_minutes() {
        let mut health = Health::default();
        for minute in [0, 5, 11, 16] {
            assert_eq!(health.failed(at(minute * 60), Blame::Certain), None, "{minute}");
        }
        assert_eq!(health.failed(at(20 * 60), Blame::Certain), Some((3, 10)));
    }

    #[test]
    fn a_death_that_one_call_repeats_alone_counts_once_and_others_count_each() {
        let mut health = Health::default();
        for minute in [0, 6, 12, 18, 24] {
            let now = at(minute * 60);
            assert_eq!(health.failed(now, Blame::Shared), None, "{minute}");
            assert_eq!(health.wait(now), None, "{minute}");
            assert_eq!(health.failed(now, Blame::Certain), None, "{minute}");
            assert_eq!(health.wait(now), None, "{minute}: others are made once more");
        }

        let mut health = Health::default();
        assert_eq!(health.failed(at(0), Blame::Shared), None);
        assert_eq!(health.failed(at(1), Blame::Shared), None);
        assert_eq!(health.failed(at(2), Blame::Shared), Some((3, 10)));
    }
}
