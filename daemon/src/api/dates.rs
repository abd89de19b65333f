//! Dates as clients write them, and as the two API versions show them.

use chrono::{DateTime, Datelike as _, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc};
use chrono::{Months, SecondsFormat, Timelike as _};

/// A date or a date and time, in the forms of ISO 8601 and with a space instead of the `T`; without
/// a zone it is UTC.
///
/// An offset that lost its `+` (it means a space in a query) is understood too.
pub(crate) fn parse(text: &str) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let (date_text, rest) = match text.find(['T', 't', ' ']) {
        Some(at) => (&text[..at], text[at + 1..].trim_start()),
        None => (text, ""),
    };
    let date = parse_date(date_text)?;
    if rest.is_empty() {
        return (date_text.len() == text.len()).then(|| date.and_time(NaiveTime::MIN).and_utc());
    }
    let split = rest.find(['Z', 'z', '+', '-', ' ']).unwrap_or(rest.len());
    let time = parse_time(&rest[..split])?;
    let offset = parse_offset(rest[split..].trim())?;
    let local = date.and_time(time).and_local_timezone(offset).single()?;
    // The year 0 and years of five digits have no form that clients could read back.
    let instant = local.with_timezone(&Utc);
    (1..=9999).contains(&instant.year()).then_some(instant)
}

fn parse_date(text: &str) -> Option<NaiveDate> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let form = match text.len() {
        8 if !text.contains('-') => "%Y%m%d",
        10 => "%Y-%m-%d",
        7 => return parse_date(&format!("{text}-01")),
        _ => return None,
    };
    let date = NaiveDate::parse_from_str(text, form).ok().filter(|_| digits)?;
    (1..=9999).contains(&date.year()).then_some(date)
}

fn parse_time(text: &str) -> Option<NaiveTime> {
    let (whole, fraction) = match text.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, fraction),
        None => (text, "0"),
    };
    let form = match (whole.len(), whole.contains(':')) {
        (8, true) => "%H:%M:%S",
        (5, true) => "%H:%M",
        (6, false) => "%H%M%S",
        (4, false) => "%H%M",
        (2, false) => return parse_time(&format!("{whole}00")),
        _ => return None,
    };
    let sound = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9).filter(|_| sound)?.parse().ok()?;
    // A leap second would be read as the second before it.
    let time = NaiveTime::parse_from_str(whole, form).ok().filter(|time| time.nanosecond() == 0)?;
    time.with_nanosecond(nanoseconds)
}

fn parse_offset(text: &str) -> Option<FixedOffset> {
    if text.is_empty() || text.eq_ignore_ascii_case("z") {
        return FixedOffset::east_opt(0);
    }
    let (sign, digits) = match text.split_at_checked(1)? {
        ("-", digits) => (-1, digits),
        ("+", digits) => (1, digits),
        _ => (1, text),
    };
    let digits: String = digits.chars().filter(|&character| character != ':').collect();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let sound = hours < 24 && minutes < 60;
    FixedOffset::east_opt(sign * (hours * 3600 + minutes * 60)).filter(|_| sound)
}

/// The first instants of an instant's month and of the next one.
pub(crate) fn month_of(instant: DateTime<Utc>) -> (DateTime<Utc>, DateTime<Utc>) {
    let first = instant.date_naive().with_day(1).expect("every month has a first day");
    let next = first.checked_add_months(Months::new(1)).unwrap_or(NaiveDate::MAX);
    let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
    (midnight(first), midnight(next))
}

/// As v1 shows it: no zone, a fraction only when there is one.
pub(crate) fn naive(instant: DateTime<Utc>) -> String {
    let form = if instant.nanosecond() / 1000 == 0 {
        "%Y-%m-%dT%H:%M:%S"
    } else {
        "%Y-%m-%dT%H:%M:%S%.6f"
    };
    let naive: NaiveDateTime = instant.naive_utc();
    naive.format(form).to_string()
}

/// As v2 shows it: `+00:00`, a fraction only when there is one.
pub(crate) fn zoned(instant: DateTime<Utc>) -> String {
    let micros = instant.nanosecond() / 1000 != 0;
    let form = if micros { SecondsFormat::Micros } else { SecondsFormat::Secs };
    instant.to_rfc3339_opts(form, false)
}

#[cfg(test)]
mod tests {
    use chrono::SubsecRound as _;
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(parse(text).map(zoned).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn all_usual_forms_are_read() {
        check("2015-01-04", "2015-01-04T00:00:00+00:00");
        check("20150104", "2015-01-04T00:00:00+00:00");
        check("2015-01", "2015-01-01T00:00:00+00:00");
        check("2015-01-04T10:00:00Z", "2015-01-04T10:00:00+00:00");
        check("2015-01-04 10:00", "2015-01-04T10:00:00+00:00");
        check("20150104T100000Z", "2015-01-04T10:00:00+00:00");
        check("2015-01-04T12:00:00+02:00", "2015-01-04T10:00:00+00:00");
        check("2015-01-04T12:00:00 02:00", "2015-01-04T10:00:00+00:00");
        check("2015-01-04 12:00:00-0130", "2015-01-04T13:30:00+00:00");
        check("2015-01-04T00:00:00.5", "2015-01-04T00:00:00.500000+00:00");
    }

    #[test]
    fn other_texts_are_no_dates() {
        for text in [
            "",
            "soon",
            "2015-13-01",
            "2015-02-30",
            "2015-01-04T",
            "2015-01-04T25:00:00",
            "2015-01-04T10:00:60",
            "2015-01-04T10:00:60.5",
            "2015-01-04Tx",
            "2015-01-04T10:00:00+25:00",
            "2015-01-04T10:00:00.",
            "0000-01-01",
            "99999-01-01",
            "+015-01-04",
            "2015-01-04T10:00:00é",
            "é",
            "1",
            "-1",
            "2015-01-04T10:00:00+é1",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let instant = parse("2024-12-31T23:59:59").unwrap();
        let (begin, end) = month_of(instant);
        assert_eq!(
            (naive(begin), naive(end)),
            ("2024-12-01T00:00:00".into(), "2025-01-01T00:00:00".into())
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_date_or_none(text in "[-0-9TZ:. +é]{0,30}") {
            if let Some(date) = parse(&text) {
                prop_assert_eq!(parse(&zoned(date)), Some(date.trunc_subsecs(6)));
            }
        }
    }
}
