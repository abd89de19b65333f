//! The only place that reads the time.
//!
//! Everything that asks what time it is takes a [`Clock`]; tests give one that they drive.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};

/// The scheduler's clock. May be asked from any thread; need not be steady: the machine's time can
/// be set.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is where the time is read")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// Stands still until it is set.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    pub fn new(now: DateTime<Utc>) -> ManualClock {
        ManualClock(Mutex::new(now))
    }

    pub fn set(&self, now: DateTime<Utc>) {
        // A date is sound whatever happened to the thread that held the lock.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_shows_what_it_was_set_to() {
        let clock = ManualClock::new(DateTime::UNIX_EPOCH);
        let later = DateTime::from_timestamp(5, 0).unwrap();

        clock.set(later);

        assert_eq!(clock.now(), later);
    }
}
