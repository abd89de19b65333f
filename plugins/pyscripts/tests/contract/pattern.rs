//! Texts with placeholders, as the contract has them: `<s1>`, `<now>`, `<today+10 days>`.

use std::collections::HashMap;

use chrono::{DateTime, Days, Utc};
use serde_json::{Map, Value};

/// What the placeholders stand for.
#[derive(Debug, Clone)]
pub(crate) struct Bindings {
    pub(crate) names: HashMap<String, String>,
    pub(crate) now: DateTime<Utc>,
}

/// A placeholder in an answer.
enum Hole {
    /// Known already.
    Text(String),
    /// So many characters, of which all must be one of these.
    Shape { length: usize, of: &'static str },
    /// As a UUID, and remembered under this name.
    Bind(String),
}

const UUID: &str = "0123456789abcdef-";

impl Bindings {
    /// A request's text with everything filled in that is known.
    pub(crate) fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, name, after)) = next_hole(rest) {
            filled.push_str(before);
            match self.hole(name) {
                Hole::Text(text) => filled.push_str(&text),
                Hole::Shape { .. } | Hole::Bind(_) => filled.extend(["<", name, ">"]),
            }
            rest = after;
        }
        filled + rest
    }

    fn hole(&self, name: &str) -> Hole {
        if let Some(text) = self.names.get(name) {
            return Hole::Text(text.clone());
        }
        if let Some(rest) = name.strip_prefix("today+") {
            let (days, form) = rest.split_once(" days").expect("a number of days");
            let day = self.now.date_naive() + Days::new(days.parse().unwrap());
            return Hole::Text(match form {
                ", date only" => day.to_string(),
                ", 23:59:59" => format!("{day}T23:59:59"),
                ", space" => format!("{day} 00:00:00"),
                _ => format!("{day}T00:00:00"),
            });
        }
        match name {
            "now" => Hole::Shape { length: 19, of: "0123456789-:T" },
            "now, microseconds" => Hole::Shape { length: 26, of: "0123456789-:T." },
            "now, space" => Hole::Shape { length: 19, of: "0123456789-: " },
            "now, space, microseconds" => Hole::Shape { length: 26, of: "0123456789-: ." },
            "uuid" => Hole::Shape { length: 36, of: UUID },
            name => Hole::Bind(name.to_owned()),
        }
    }

    /// Does an answer's text fit? Remembers what new names stand for.
    pub(crate) fn fits(&mut self, expected: &str, found: &str) -> bool {
        let Some((before, name, after)) = next_hole(expected) else { return expected == found };
        let Some(found) = found.strip_prefix(before) else { return false };
        let (length, of) = match self.hole(name) {
            Hole::Text(text) => {
                return found.strip_prefix(&text).is_some_and(|rest| self.fits(after, rest));
            }
            Hole::Shape { length, of } => (length, of),
            Hole::Bind(_) => (36, UUID),
        };
        let Some((head, tail)) = found.split_at_checked(length) else { return false };
        if !head.chars().all(|character| of.contains(character)) {
            return false;
        }
        if let Hole::Bind(name) = self.hole(name) {
            self.names.insert(name, head.to_owned());
        }
        self.fits(after, tail)
    }

    /// Does an answer's JSON fit? Lists have any order.
    pub(crate) fn fits_json(&mut self, expected: &Value, found: &Value) -> bool {
        match (expected, found) {
            (Value::String(expected), Value::String(found)) => self.fits(expected, found),
            (Value::Array(expected), Value::Array(found)) => {
                self.fits_list(expected, &mut found.clone())
            }
            (Value::Object(expected), Value::Object(found)) => self.fits_object(expected, found),
            (expected, found) => expected == found,
        }
    }

    fn fits_object(&mut self, expected: &Map<String, Value>, found: &Map<String, Value>) -> bool {
        expected.len() == found.len()
            && expected.iter().all(|(key, value)| {
                found.get(key).is_some_and(|found| self.fits_json(value, found))
            })
    }

    /// Items with known names find theirs first, `<uuid>` takes what is left.
    fn fits_list(&mut self, expected: &[Value], found: &mut Vec<Value>) -> bool {
        if expected.len() != found.len() {
            return false;
        }
        let mut expected: Vec<&Value> = expected.iter().collect();
        expected.sort_by_key(|item| item.to_string().contains("<uuid>"));
        expected.into_iter().all(|item| {
            let mut fits = |candidate: &Value| {
                let mut attempt = self.clone();
                let fits = attempt.fits_json(item, candidate);
                if fits {
                    *self = attempt;
                }
                fits
            };
            let index = found.iter().position(&mut fits);
            index.map(|index| found.remove(index)).is_some()
        })
    }
}

fn next_hole(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once('<')?;
    // `<class 'str'>` is no placeholder.
    if rest.starts_with("class ") {
        let end = before.len() + 1 + rest.find('>')? + 1;
        let (name_before, name, after) = next_hole(&text[end..])?;
        return Some((&text[..end + name_before.len()], name, after));
    }
    let (name, after) = rest.split_once('>')?;
    Some((before, name, after))
}
