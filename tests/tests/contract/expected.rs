//! JSON as recorded: with placeholders in its texts, and perhaps cut off at `[...]`.

use std::iter::Peekable;
use std::str::CharIndices;

use chrono::DateTime;
use serde_json::Value;

use crate::placeholders::Known;

/// How a recorded list and an answered one compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Same,
    Any,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Cut off before it was to be seen what it is.
    Anything,
    Text {
        text: String,
        is_cut: bool,
    },
    /// Digits as recorded.
    Number(String),
    /// `true`, `false`, `null`.
    Word(String),
    List {
        items: Vec<Expected>,
        is_cut: bool,
    },
    Object {
        fields: Vec<(String, Expected)>,
        is_cut: bool,
    },
}

impl Expected {
    /// Nothing when it is not JSON.
    pub fn parse(text: &str) -> Option<Expected> {
        let text = text.trim();
        let (text, is_cut) = match text.strip_suffix("[...]") {
            Some(begin) => (begin.trim_end(), true),
            None => (text, false),
        };
        let mut reader = Reader { text, rest: text.char_indices().peekable(), is_cut };
        let value = reader.value()?;
        reader.skip_space();
        reader.rest.next().is_none().then_some(value)
    }

    /// With its dates in UTC, as far as they have another offset.
    pub fn in_utc(&self) -> Expected {
        match self {
            Expected::Text { text, is_cut } => {
                let date = DateTime::parse_from_rfc3339(text);
                let text = match date {
                    Ok(date) => date.to_utc().format("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
                    Err(_) => text.clone(),
                };
                Expected::Text { text, is_cut: *is_cut }
            }
            Expected::List { items, is_cut } => {
                let items = items.iter().map(Expected::in_utc).collect();
                Expected::List { items, is_cut: *is_cut }
            }
            Expected::Object { fields, is_cut } => {
                let fields =
                    fields.iter().map(|(name, value)| (name.clone(), value.in_utc())).collect();
                Expected::Object { fields, is_cut: *is_cut }
            }
            other => other.clone(),
        }
    }

    /// Says where and how an answer differs.
    pub fn compare(&self, found: &Value, order: Order, known: &mut Known) -> Result<(), String> {
        let differs = || Err(format!("{found} instead of {self:?}"));
        match (self, found) {
            (Expected::Anything, _) => Ok(()),
            (Expected::Text { text, is_cut }, Value::String(found)) => {
                known.compare(text, found, *is_cut)
            }
            (Expected::Number(text), Value::Number(found)) => {
                if is_same_number(text, &found.to_string()) { Ok(()) } else { differs() }
            }
            (Expected::Word(word), Value::Bool(_) | Value::Null) => {
                let found = found.to_string();
                if *word == found { Ok(()) } else { differs() }
            }
            (Expected::List { items, is_cut }, Value::Array(found)) => {
                if items.len() > found.len() || (!is_cut && items.len() < found.len()) {
                    return Err(format!("{} items instead of {}", found.len(), items.len()));
                }
                match order {
                    Order::Same => in_order(items, found, known),
                    Order::Any => in_any_order(items, found, known),
                }
            }
            (Expected::Object { fields, is_cut }, Value::Object(found)) => {
                for (name, expected) in fields {
                    let value = found.get(name).ok_or_else(|| format!("no `{name}`"))?;
                    expected
                        .compare(value, order, known)
                        .map_err(|error| format!("{name}: {error}"))?;
                }
                let extra = found.keys().find(|key| fields.iter().all(|(name, _)| name != *key));
                match extra {
                    Some(extra) if !is_cut => Err(format!("`{extra}` was not recorded")),
                    _ => Ok(()),
                }
            }
            _ => differs(),
        }
    }
}

fn in_order(items: &[Expected], found: &[Value], known: &mut Known) -> Result<(), String> {
    for (index, (expected, found)) in items.iter().zip(found).enumerate() {
        expected
            .compare(found, Order::Same, known)
            .map_err(|error| format!("[{index}]: {error}"))?;
    }
    Ok(())
}

fn in_any_order(items: &[Expected], found: &[Value], known: &mut Known) -> Result<(), String> {
    let mut left: Vec<&Value> = found.iter().collect();
    for (index, expected) in items.iter().enumerate() {
        let mut last = String::new();
        let place = left.iter().position(|value| {
            let mut attempt = known.clone();
            match expected.compare(value, Order::Any, &mut attempt) {
                Ok(()) => {
                    *known = attempt;
                    true
                }
                Err(error) => {
                    last = error;
                    false
                }
            }
        });
        let place = place.ok_or_else(|| format!("nothing is like item {index}: {last}"))?;
        left.remove(place);
    }
    Ok(())
}

/// Figures are the same to the last digit; but what was recorded from a sum of doubles (16 or 17
/// digits) stands for the decimals near it: there our figures are exact.
fn is_same_number(recorded: &str, found: &str) -> bool {
    if recorded == found {
        return true;
    }
    let digits: String = recorded.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_start_matches('0').len();
    let (Ok(recorded), Ok(found)) = (recorded.parse::<f64>(), found.parse::<f64>()) else {
        return false;
    };
    (16..=17).contains(&digits) && (recorded - found).abs() <= recorded.abs() * 4.0 * f64::EPSILON
}

struct Reader<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    /// May the text end anywhere?
    is_cut: bool,
}

impl Reader<'_> {
    fn skip_space(&mut self) {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.rest.peek().map(|(_, c)| *c)
    }

    fn position(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn value(&mut self) -> Option<Expected> {
        match self.peek() {
            None => self.is_cut.then_some(Expected::Anything),
            Some('{') => self.object(),
            Some('[') => self.list(),
            Some('"') => {
                let (text, is_cut) = self.text()?;
                Some(Expected::Text { text, is_cut })
            }
            Some(_) => self.scalar(),
        }
    }

    fn object(&mut self) -> Option<Expected> {
        let mut fields = Vec::new();
        self.rest.next();
        loop {
            match self.peek() {
                None => return self.is_cut.then_some(Expected::Object { fields, is_cut: true }),
                Some('}') => {
                    self.rest.next();
                    return Some(Expected::Object { fields, is_cut: false });
                }
                Some(',') => {
                    self.rest.next();
                }
                Some('"') => {
                    let (name, is_cut) = self.text()?;
                    if is_cut || self.peek().is_none() {
                        return self.is_cut.then_some(Expected::Object { fields, is_cut: true });
                    }
                    self.rest.next_if(|(_, c)| *c == ':')?;
                    fields.push((name, self.value()?));
                }
                Some(_) => return None,
            }
        }
    }

    fn list(&mut self) -> Option<Expected> {
        let mut items = Vec::new();
        self.rest.next();
        loop {
            match self.peek() {
                None => return self.is_cut.then_some(Expected::List { items, is_cut: true }),
                Some(']') => {
                    self.rest.next();
                    return Some(Expected::List { items, is_cut: false });
                }
                Some(',') => {
                    self.rest.next();
                }
                Some(_) => items.push(self.value()?),
            }
        }
    }

    /// The text, and whether its end is missing.
    fn text(&mut self) -> Option<(String, bool)> {
        let begin = self.position();
        self.rest.next();
        let mut is_escaped = false;
        for (at, c) in self.rest.by_ref() {
            match c {
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                '"' => return Some((serde_json::from_str(&self.text[begin..=at]).ok()?, false)),
                _ => {}
            }
        }
        let whole = self.text[begin..].trim_end_matches('\\');
        let text = serde_json::from_str(&format!("{whole}\"")).ok()?;
        self.is_cut.then_some((text, true))
    }

    fn scalar(&mut self) -> Option<Expected> {
        let begin = self.position();
        while self
            .rest
            .next_if(|(_, c)| !matches!(c, ',' | ']' | '}') && !c.is_whitespace())
            .is_some()
        {}
        let end = self.position();
        let word = &self.text[begin..end];
        if end == self.text.len() && self.is_cut {
            return Some(Expected::Anything);
        }
        match serde_json::from_str(word).ok()? {
            Value::Number(_) => Some(Expected::Number(word.to_owned())),
            _ => Some(Expected::Word(word.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(recorded: &str, found: &str) -> Result<(), String> {
        let expected = Expected::parse(recorded).expect("JSON");
        let found = serde_json::from_str(found).unwrap();
        expected.compare(&found, Order::Same, &mut Known::starting_now())
    }

    #[test]
    fn what_is_cut_may_go_on() {
        let recorded = r#"{"total": 2, "list": [{"a": 1.0, "b": "on [...]"#;

        assert_eq!(check(recorded, r#"{"total":2,"list":[{"b":"one","a":1.0},3],"x":1}"#), Ok(()));
        assert!(check(recorded, r#"{"total":2,"list":[{"b":"two","a":1.0}]}"#).is_err());
        assert!(check(recorded, r#"{"total":2,"list":[]}"#).is_err());
        assert!(check(recorded, r#"{"total":3,"list":[{"b":"one","a":1.0}]}"#).is_err());
    }

    #[test]
    fn what_is_whole_is_all() {
        assert_eq!(check(r#"{"a": [1, null]}"#, r#"{"a": [1, null]}"#), Ok(()));
        assert!(check(r#"{"a": [1]}"#, r#"{"a": [1, null]}"#).is_err());
        assert!(check(r#"{"a": [1]}"#, r#"{"a": [1], "b": 2}"#).is_err());
        assert!(check(r#"{"a": [1, 2]}"#, r#"{"a": [2, 1]}"#).is_err());
        assert!(check(r#"{"a": null}"#, r#"{"a": false}"#).is_err());
        assert!(check(r#"{"a": 1}"#, r#"{"a": "1"}"#).is_err());
    }

    #[test]
    fn figures_are_exact_unless_doubles_were_recorded() {
        assert_eq!(check("0.15000000000000002", "0.15"), Ok(()));
        assert_eq!(check("0.015217391304347827", "0.0152173913043478260869565217"), Ok(()));
        assert!(check("0.15000000000000002", "0.1500000000001").is_err());
        assert!(check("0.15", "0.15000000000000002").is_err());
        assert!(check("0.0152173913043478260869565217", "0.015217391304347827").is_err());
        assert!(check("69.0", "69").is_err());
    }
}
