use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

/// A half-open time range `[begin, end)` of whole seconds, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    begin_secs: i64,
    end_secs: i64,
}

impl Period {
    /// `None` when empty or outside what a date can say.
    pub fn new(begin: DateTime<Utc>, end: DateTime<Utc>) -> Option<Period> {
        Period::from_secs(begin.timestamp(), end.timestamp())
    }

    /// Seconds since the epoch.
    pub fn from_secs(begin_secs: i64, end_secs: i64) -> Option<Period> {
        let sound = begin_secs < end_secs
            && DateTime::from_timestamp(begin_secs, 0).is_some()
            && DateTime::from_timestamp(end_secs, 0).is_some();
        sound.then_some(Period { begin_secs, end_secs })
    }

    /// The period of that length, aligned to the epoch, that contains an instant.
    pub fn containing(instant: DateTime<Utc>, period_secs: u32) -> Option<Period> {
        let length = i64::from(period_secs);
        let begin = instant.timestamp().checked_div_euclid(length)?.checked_mul(length)?;
        Period::from_secs(begin, begin.checked_add(length)?)
    }

    /// The period of the same length that begins where this one ends.
    pub fn next(self) -> Option<Period> {
        Period::from_secs(
            self.end_secs,
            self.end_secs.checked_add(self.end_secs - self.begin_secs)?,
        )
    }

    pub fn begin(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.begin_secs, 0).expect("checked by Period::from_secs")
    }

    pub fn end(self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.end_secs, 0).expect("checked by Period::from_secs")
    }

    pub fn begin_secs(self) -> i64 {
        self.begin_secs
    }

    pub fn end_secs(self) -> i64 {
        self.end_secs
    }
}

/// Begin of the newest period that is due: it has ended, and `wait_periods` more have passed, in
/// which the source could become complete.
pub fn last_due_begin_secs(now: DateTime<Utc>, period_secs: u32, wait_periods: u32) -> i64 {
    let period = i64::from(period_secs);
    let ago = period.saturating_mul(1 + i64::from(wait_periods));
    (now.timestamp() - ago).div_euclid(period) * period
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::Secs, true);
        write!(f, "{}/{}", form(self.begin()), form(self.end()))
    }
}
