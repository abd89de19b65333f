//! How an instance fares: a few failures are borne, too many in a short time disable it.
//!
//! A failure is a panic, or the death of its process; both count alike. The first is made up for at
//! once, later ones after a delay that doubles.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// So many failures within [`FAILURES_WINDOW`] disable an instance.
const FAILURES_MAX: usize = 3;
const FAILURES_WINDOW: TimeDelta = TimeDelta::minutes(10);
/// How long a process is not started again after its second death.
const RESTART_DELAY: TimeDelta = TimeDelta::seconds(1);

#[derive(Debug, Default)]
pub(super) struct Health {
    failures: VecDeque<DateTime<Utc>>,
    has_failed: bool,
    /// Why it takes no calls any more.
    disabled: Option<String>,
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
    pub(super) fn failed(&mut self, now: DateTime<Utc>) -> Option<(usize, i64)> {
        self.has_failed = true;
        self.failures.retain(|at| now - *at < FAILURES_WINDOW);
        self.failures.push_back(now);
        let too_often = self.failures.len() >= FAILURES_MAX;
        too_often.then_some((FAILURES_MAX, FAILURES_WINDOW.num_minutes()))
    }

    /// How long nothing is started again.
    pub(super) fn wait(&self, now: DateTime<Utc>) -> Option<Duration> {
        let last = *self.failures.back()?;
        let recent = self.failures.iter().filter(|at| now - **at < FAILURES_WINDOW).count();
        let doublings = u32::try_from(recent.checked_sub(2)?).ok()?;
        let delay = RESTART_DELAY * 2_i32.checked_pow(doublings)?;
        // A clock that was set back makes no delay longer.
        let left = (last + delay - now).min(delay);
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

        assert_eq!(health.failed(at(0)), None);
        assert_eq!(health.wait(at(0)), None);
        assert_eq!(health.failed(at(10)), None);

        assert_eq!(health.wait(at(10)), Some(Duration::from_secs(1)));
        assert_eq!(health.wait(at(11)), None);
        assert_eq!(health.wait(at(0)), Some(Duration::from_secs(1)), "the clock was set back");
        assert_eq!(health.failed(at(20)), Some((3, 10)));
    }

    #[test]
    fn failures_are_forgotten_after_ten_minutes() {
        let mut health = Health::default();
        for minute in [0, 5, 11, 16] {
            assert_eq!(health.failed(at(minute * 60)), None, "{minute}");
        }
        assert_eq!(health.failed(at(20 * 60)), Some((3, 10)));
    }
}
