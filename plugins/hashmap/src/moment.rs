//! Dates as clients send and read them: naive, UTC, whole seconds.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serializer};

/// A date as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) at: NaiveDateTime,
    /// No time of day was given; `at` is midnight.
    pub(crate) is_date: bool,
    /// An offset or `Z` was given; `at` does not have it applied.
    pub(crate) has_zone: bool,
}

impl Sent {
    /// As the end of something: a date without time is the last second of that day.
    pub(crate) fn as_end(self) -> NaiveDateTime {
        if !self.is_date {
            return self.at;
        }
        self.at.date().and_hms_opt(23, 59, 59).expect("a time of day")
    }
}

/// Reads `2026-11-22`, `2026-11-22T10:00`, `2026-11-22 10:00:00.5+00:00` and the like; years 1 to
/// 9999.
pub(crate) fn parse(text: &str) -> Option<Sent> {
    let text = text.trim();
    let cut = text.find(['T', 't', ' ']).unwrap_or(text.len());
    let (day, rest) = text.split_at(cut);
    let format = if day.contains('-') { "%Y-%m-%d" } else { "%Y%m%d" };
    let well_formed = matches!(day.len(), 8..=10) && day.starts_with(|c: char| c.is_ascii_digit());
    let day = NaiveDate::parse_from_str(day, format).ok().filter(|_| well_formed)?;
    if !(1..=9999).contains(&day.year()) {
        return None;
    }
    if rest.is_empty() {
        return Some(Sent { at: day.and_time(NaiveTime::MIN), is_date: true, has_zone: false });
    }
    let rest = &rest[1..];
    let zone_at = rest.find(['Z', 'z', '+', '-']);
    let (time, zone) = rest.split_at(zone_at.unwrap_or(rest.len()));
    if !zone.is_empty() && !is_zone(zone) {
        return None;
    }
    let time = time.trim();
    let time = ["%H:%M:%S%.f", "%H:%M", "%H%M%S"]
        .iter()
        .find_map(|format| NaiveTime::parse_from_str(time, format).ok())
        // A leap second has no place in a naive date.
        .filter(|time| time.nanosecond() < 1_000_000_000)?;
    let at = day.and_time(time).with_nanosecond(0)?;
    Some(Sent { at, is_date: false, has_zone: !zone.is_empty() })
}

fn is_zone(text: &str) -> bool {
    if text.eq_ignore_ascii_case("z") {
        return true;
    }
    let digits: String = text[1..].chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 2 | 4) {
        return false;
    }
    let (hours, minutes) = digits.split_at(2);
    let is_below = |text: &str, end: u8| text.parse::<u8>().is_ok_and(|number| number < end);
    is_below(hours, 24) && (minutes.is_empty() || is_below(minutes, 60))
}

/// The moment in whole seconds.
pub(crate) fn whole_seconds(at: DateTime<Utc>) -> NaiveDateTime {
    at.naive_utc().with_nanosecond(0).expect("0 is a nanosecond")
}

/// `2026-11-22T10:00:00`, as answers have it.
pub(crate) fn show(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// `2026-11-22 10:00:00`, as texts of errors have it.
pub(crate) fn show_in_text(at: NaiveDateTime) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// `2026-11-22 10:00:00.123456`, as texts of errors have the current time.
pub(crate) fn show_now_in_text(now: DateTime<Utc>) -> String {
    now.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

/// Serialises as text, for `#[serde(with = …)]`.
pub(crate) fn serialize<S: Serializer>(
    at: &NaiveDateTime,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*at))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<NaiveDateTime, D::Error> {
    let text = String::deserialize(deserializer)?;
    let sent = parse(&text).filter(|sent| !sent.has_zone);
    sent.map(|sent| sent.at).ok_or_else(|| serde::de::Error::custom(format!("no date: `{text}`")))
}

/// The same where there may be none.
pub(crate) mod optional {
    use chrono::NaiveDateTime;
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Present(#[serde(deserialize_with = "super::deserialize")] NaiveDateTime);

    #[expect(clippy::ref_option, reason = "serde calls it with a reference to the field")]
    pub(crate) fn serialize<S: Serializer>(
        at: &Option<NaiveDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => serializer.serialize_some(&super::show(*at)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NaiveDateTime>, D::Error> {
        Ok(Option::<Present>::deserialize(deserializer)?.map(|present| present.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, shown: Option<&str>) {
        assert_eq!(parse(text).map(|sent| show(sent.at)).as_deref(), shown, "{text}");
    }

    #[test]
    fn dates_are_read_leniently() {
        check("2014-01-01", Some("2014-01-01T00:00:00"));
        check("2014-01-01T10:11:12", Some("2014-01-01T10:11:12"));
        check("2014-01-01 10:11", Some("2014-01-01T10:11:00"));
        check("2014-01-01T10:11:12.999999", Some("2014-01-01T10:11:12"));
        check("20140101T101112", Some("2014-01-01T10:11:12"));
        check("2014-01-01T01:00:00+02:00", Some("2014-01-01T01:00:00"));
        check("0000-01-01", None);
        check("99999-1-1", None);
        check("2014-01-01T01:00:00+24:00", None);
        check("2014-01-01T01:00:00+99:99", None);
        check("2014-01-01T01:00:00+é", None);
        check("2014-01-01T01:00:00+1é", None);
        check("2014-01-01 01:00:00 -0200", Some("2014-01-01T01:00:00"));
        check("2014-01-01T01:00:00Z", Some("2014-01-01T01:00:00"));
    }

    #[test]
    fn what_is_no_date_is_none() {
        let texts = [
            "",
            "soon",
            "2014-13-01",
            "2014-02-30",
            "2014-01-01T25:00:00",
            "2014-01-01Tnoon",
            "10000-01-01",
            "+2014-01-01",
            "2014-01-01T10:11:60",
            "2014-01-01T10:11:12+",
            "2014-01-01T10:11:12+1:2:3",
            "é",
            "2014-01-01Té",
        ];
        for text in texts {
            check(text, None);
        }
    }
}
