//! What stands between `<` and `>` in requests and answers of the record.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime, Timelike, Utc};
use rated_tests::now;

/// What the requests of a section have brought to light so far.
#[derive(Debug, Clone)]
pub struct Known {
    begin: DateTime<Utc>,
    /// `svc` -> its identifier.
    pub names: BTreeMap<String, String>,
}

enum Placeholder {
    Uuid,
    Hex32,
    /// When the request was made, or an earlier one.
    Now {
        separator: char,
        has_fraction: bool,
    },
    /// A date that the recording worked out.
    Date(String),
    /// An identifier that an answer has given.
    Name(String),
}

impl Known {
    pub fn starting_now() -> Known {
        Known { begin: now(), names: BTreeMap::new() }
    }

    /// A request with its placeholders replaced.
    pub fn fill(&self, text: &str) -> Result<String, String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, placeholder, after)) = self.next_placeholder(rest) {
            filled += before;
            match placeholder {
                Placeholder::Date(date) => filled += &date,
                Placeholder::Name(name) => {
                    let known = self.names.get(&name);
                    filled += known.ok_or_else(|| format!("nothing has given <{name}> so far"))?;
                }
                _ => return Err(format!("nothing to send for a placeholder of {text}")),
            }
            rest = after;
        }
        Ok(filled + rest)
    }

    /// Compares a text of an answer, and learns the names in it.
    pub fn compare(&mut self, recorded: &str, found: &str, is_cut: bool) -> Result<(), String> {
        let differs = || Err(format!("{found:?} instead of {recorded:?}"));
        let (mut rest, mut left) = (recorded, found);
        while let Some((before, placeholder, after)) = self.next_placeholder(rest) {
            let Some(value) = left.strip_prefix(before) else { return differs() };
            let Some((value, end)) = value.split_at_checked(placeholder.length()) else {
                return differs();
            };
            if !self.fits(placeholder, value) {
                return differs();
            }
            (rest, left) = (after, end);
        }
        if left == rest || is_cut && left.starts_with(rest) { Ok(()) } else { differs() }
    }

    fn fits(&mut self, placeholder: Placeholder, value: &str) -> bool {
        match placeholder {
            Placeholder::Uuid => is_uuid(value),
            Placeholder::Hex32 => value.chars().all(is_hex),
            Placeholder::Date(date) => date == value,
            Placeholder::Name(name) => match self.names.get(&name) {
                Some(known) => known == value,
                None if is_uuid(value) => {
                    self.names.insert(name, value.to_owned());
                    true
                }
                None => false,
            },
            Placeholder::Now { separator, has_fraction } => {
                let fraction = if has_fraction { "%.6f" } else { "" };
                let form = format!("%Y-%m-%d{separator}%H:%M:%S{fraction}");
                let time = NaiveDateTime::parse_from_str(value, &form);
                let begin = self.begin.naive_utc().with_nanosecond(0).expect("a whole second");
                time.is_ok_and(|time| begin <= time && time <= now().naive_utc())
            }
        }
    }

    /// What is before, the placeholder, what is after.
    fn next_placeholder<'a>(&self, text: &'a str) -> Option<(&'a str, Placeholder, &'a str)> {
        let mut from = 0;
        while let Some(open) = text[from..].find('<') {
            let open = from + open;
            let close = open + text[open..].find('>')?;
            if let Some(placeholder) = self.placeholder(&text[open + 1..close]) {
                return Some((&text[..open], placeholder, &text[close + 1..]));
            }
            from = open + 1;
        }
        None
    }

    fn placeholder(&self, text: &str) -> Option<Placeholder> {
        let mut words = text.split(", ");
        let first = words.next()?;
        let words: Vec<&str> = words.collect();
        let separator = if words.contains(&"space") { ' ' } else { 'T' };
        match first {
            "uuid" => return Some(Placeholder::Uuid),
            "hex32" => return Some(Placeholder::Hex32),
            "now" => {
                let has_fraction = words.contains(&"microseconds");
                return Some(Placeholder::Now { separator, has_fraction });
            }
            _ => {}
        }
        if let Some(date) = self.date(first) {
            let time = if words.contains(&"23:59:59") { "23:59:59" } else { "00:00:00" };
            let text = if words.contains(&"date only") {
                date.to_string()
            } else {
                format!("{date}{separator}{time}")
            };
            return Some(Placeholder::Date(text));
        }
        // The names are short; `<timestamp>`, for instance, is a part of a message.
        let letters = text.trim_end_matches(|c: char| c.is_ascii_digit());
        let is_name =
            (1..=3).contains(&letters.len()) && letters.chars().all(|c| c.is_ascii_lowercase());
        is_name.then(|| Placeholder::Name(text.to_owned()))
    }

    fn date(&self, text: &str) -> Option<NaiveDate> {
        let today = self.begin.date_naive();
        let month = today.with_day(1).expect("every month has a first day");
        match text {
            "month-start" => Some(month),
            "next-month" => month.checked_add_months(chrono::Months::new(1)),
            _ => {
                let days = text.strip_prefix("today+")?.strip_suffix(" days")?;
                today.checked_add_days(Days::new(days.parse().ok()?))
            }
        }
    }
}

impl Placeholder {
    /// In characters, all of them ASCII.
    fn length(&self) -> usize {
        match self {
            Placeholder::Uuid | Placeholder::Name(_) => 36,
            Placeholder::Hex32 => 32,
            Placeholder::Now { has_fraction: false, .. } => 19,
            Placeholder::Now { has_fraction: true, .. } => 26,
            Placeholder::Date(date) => date.len(),
        }
    }
}

pub fn is_uuid(text: &str) -> bool {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || is_hex(c))
}

fn is_hex(c: char) -> bool {
    c.is_ascii_digit() || ('a'..='f').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "7606a24a-b8ad-4ae0-be6c-3d7a41334a2e";

    #[test]
    fn a_name_keeps_what_it_was_given_first() {
        let mut known = Known::starting_now();
        let other = ID.replace('7', "8");

        assert!(known.fill("/services/<svc>").is_err());
        assert_eq!(known.compare("No <svc>!", &format!("No {ID}!"), false), Ok(()));

        assert_eq!(known.fill("/services/<svc>").unwrap(), format!("/services/{ID}"));
        assert_eq!(known.compare("<svc>", ID, false), Ok(()));
        assert!(known.compare("<svc>", &other, false).is_err());
        assert!(known.compare("<svc>", "short", false).is_err());
    }

    #[test]
    fn times_are_of_the_moment() {
        let mut known = Known::starting_now();
        let moment = now().format("%Y-%m-%dT%H:%M:%S").to_string();

        assert_eq!(known.compare("<now>+00:00", &format!("{moment}+00:00"), false), Ok(()));
        assert!(known.compare("<now>", "2026-01-01T00:00:00", false).is_err());
        assert!(known.compare("<now, microseconds>", &moment, false).is_err());
        assert!(known.compare("<now, space>", &moment, false).is_err());
    }

    #[test]
    fn what_only_looks_like_a_placeholder_is_a_text() {
        let mut known = Known::starting_now();
        let text = "Expected '<class 'str'>', path '[<timestamp>]'";

        assert_eq!(known.compare(text, text, false), Ok(()));
        assert!(known.compare(text, "Expected", false).is_err());
        assert_eq!(known.compare("Exp", text, true), Ok(()));
    }
}
