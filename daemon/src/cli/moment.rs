//! Times as people type them: a date, a date and time, RFC 3339, or counted back from now.

use std::str::FromStr;

use chrono::{DateTime, Duration, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Utc};

use crate::clock::Clock;

/// Largest number of days that is counted back, so that no date is out of range.
const DAYS_MAX: i64 = 366 * 1000;

/// A point in time on the command line; without a zone it is UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(DateTime<Utc>),
    /// So long before now.
    Ago(Duration),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no time: such as 2026-11-24, \"2026-11-24 10:00\", 2026-11-24T10:00:00+01:00, now or now-1d"
)]
pub(super) struct MomentError;

impl Moment {
    pub(super) fn resolve(self, clock: &dyn Clock) -> DateTime<Utc> {
        match self {
            Moment::At(at) => at,
            Moment::Ago(ago) => clock.now() - ago,
        }
    }

    /// As the API reads it, in whole seconds.
    pub(super) fn to_text(self, clock: &dyn Clock) -> String {
        show(self.resolve(clock))
    }
}

/// `2026-11-24T10:00:00Z`
pub(super) fn show(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// A time of the API in the one form that this program shows; anything else as it is.
pub(super) fn tidy(text: &str) -> String {
    text.parse::<Moment>().ok().map_or_else(
        || text.to_owned(),
        |moment| match moment {
            Moment::At(at) => show(at),
            Moment::Ago(_) => text.to_owned(),
        },
    )
}

impl FromStr for Moment {
    type Err = MomentError;

    fn from_str(text: &str) -> Result<Moment, MomentError> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("now") {
            return ago(rest).map(Moment::Ago).ok_or(MomentError);
        }
        if let Ok(at) = DateTime::parse_from_rfc3339(text) {
            return Ok(Moment::At(at.to_utc()));
        }
        if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Moment::At(date.and_time(NaiveTime::MIN).and_utc()));
        }
        let forms = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M"];
        let mut found =
            forms.iter().filter_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
        found.next().map(|at| Moment::At(at.and_utc())).ok_or(MomentError)
    }
}

/// What stands after `now`: nothing, or `-<count><unit>`.
fn ago(rest: &str) -> Option<Duration> {
    if rest.is_empty() {
        return Some(Duration::zero());
    }
    let rest = rest.strip_prefix('-')?;
    let unit = rest.chars().next_back()?;
    let count: u32 = rest.strip_suffix(unit)?.parse().ok()?;
    let unit = match unit {
        'm' => Duration::minutes(1),
        'h' => Duration::hours(1),
        'd' => Duration::days(1),
        'w' => Duration::weeks(1),
        _ => return None,
    };
    let ago = unit.checked_mul(i32::try_from(count).ok()?)?;
    (ago <= Duration::days(DAYS_MAX)).then_some(ago)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    fn check(text: &str, expected: Option<&str>) {
        let now = DateTime::parse_from_rfc3339("2026-11-24T12:30:00Z").unwrap().to_utc();
        let clock = ManualClock::new(now);
        let found = text.parse::<Moment>().ok().map(|moment| moment.to_text(&clock));
        assert_eq!(found.as_deref(), expected, "{text}");
    }

    #[test]
    fn usual_forms_are_read() {
        check("2026-11-24", Some("2026-11-24T00:00:00Z"));
        check("2026-11-24 10:00", Some("2026-11-24T10:00:00Z"));
        check("2026-11-24T10:00:05", Some("2026-11-24T10:00:05Z"));
        check("2026-11-24T10:00:00+02:00", Some("2026-11-24T08:00:00Z"));
        check("now", Some("2026-11-24T12:30:00Z"));
        check("now-90m", Some("2026-11-24T11:00:00Z"));
        check("now-1d", Some("2026-11-23T12:30:00Z"));
        check("now-2w", Some("2026-11-10T12:30:00Z"));
    }

    #[test]
    fn other_texts_are_no_time() {
        for text in [
            "",
            "soon",
            "2026-13-01",
            "now+1d",
            "now-",
            "now-d",
            "now-1y",
            "now-4294967295w",
            "now-é",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn times_of_the_api_look_alike() {
        assert_eq!(tidy("2019-01-01T00:00:00+00:00"), "2019-01-01T00:00:00Z");
        assert_eq!(tidy("2019-01-01T00:00:00"), "2019-01-01T00:00:00Z");
        assert_eq!(tidy("never"), "never");
    }
}
