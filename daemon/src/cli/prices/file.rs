//! The price list as a TOML file. Its rules have the form of `[[rating.hashmap.initial_rules]]`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::cli::text;
use crate::config::{self, ConfigError};

const HEAD: &str = "\
# Change it, then `rated prices import FILE` shows what is different and applies all or nothing.
#
# A rule without `level` is a mapping, one with `level` a threshold. A rule without `start` counts
# from now on. Times are UTC. Prices of the past never change: a running rule that is taken out
# ends, one with another cost ends and a new one begins. The file is refused when the list was
# changed since; without the line `revision` it is not.
";

/// What stands in a rule, in this order.
pub(super) const MEMBERS: [&str; 12] = [
    "service",
    "field",
    "value",
    "group",
    "tenant",
    "type",
    "level",
    "cost",
    "start",
    "end",
    "name",
    "description",
];

/// The text of a file; `origin` says where the list comes from.
pub(super) fn render(list: &Value, origin: &str) -> String {
    let mut toml = format!("# The price list of {origin}.\n{HEAD}");
    let mut line = |text: &str| {
        toml.push_str(text);
        toml.push('\n');
    };
    line(&format!("revision = {}", list["revision"]));
    let entries = |name: &str| list[name].as_array().map(Vec::as_slice).unwrap_or_default();
    line(&format!("groups = {}", texts(entries("groups"))));
    for service in entries("services") {
        let fields = service["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
        line("\n[[services]]");
        line(&format!("name = {}", quoted(&text(&service["name"]))));
        line(&format!("fields = {}", texts(fields)));
    }
    for rule in entries("rules") {
        line("\n[[rules]]");
        for member in MEMBERS {
            let Some(value) = rule[member].as_str() else { continue };
            let is_bare =
                matches!(member, "start" | "end") || (member == "level" && is_count(value));
            let value = if is_bare { value.to_owned() } else { quoted(value) };
            line(&format!("{member} = {value}"));
        }
    }
    toml
}

fn texts(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().map(|value| quoted(&text(value))).collect();
    format!("[{}]", texts.join(", "))
}

/// A whole number that TOML reads as it stands.
fn is_count(text: &str) -> bool {
    let is_short = (1..=15).contains(&text.len());
    is_short && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0')
}

/// On one line, whatever is in it.
pub(in crate::cli) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            character if character.is_control() => {
                write!(quoted, "\\u{:04X}", u32::from(character)).expect("writing to a string");
            }
            character => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// A file as it is sent.
#[derive(Debug)]
pub(super) struct PriceFile {
    pub(super) list: Value,
    /// Where each `rules[3]` begins.
    lines: BTreeMap<String, usize>,
}

impl PriceFile {
    pub(super) fn read(path: &Path) -> Result<PriceFile, ConfigError> {
        let (list, lines) = config::read_toml(path)?;
        Ok(PriceFile { list, lines })
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn parse(text: &str, path: &Path) -> Result<PriceFile, ConfigError> {
        let (list, lines) = config::parse_toml(text, path)?;
        Ok(PriceFile { list, lines })
    }

    /// The line of what the daemon found fault with.
    pub(super) fn line_of(&self, text: &str) -> Option<usize> {
        let (_, rest) = text.split_once('`')?;
        let (place, _) = rest.split_once('`')?;
        self.lines.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list() -> Value {
        json!({
            "revision": 7,
            "services": [{"name": "in\"st", "fields": ["flavor"]}, {"name": "disk", "fields": []}],
            "groups": ["a\\b"],
            "rules": [
                {"service": "in\"st", "field": "flavor", "value": "m1\n\u{1b}", "type": "flat",
                    "cost": "0.1000000000000000000000000001", "start": "2026-01-01T00:00:00"},
                {"service": "disk", "group": "a\\b", "tenant": "ü", "type": "rate", "level": "50",
                    "cost": "-0.5", "end": "2027-01-01T00:00:00", "name": "n"},
                {"service": "disk", "type": "rate", "level": "0.5", "cost": "1"},
            ],
        })
    }

    fn read(text: &str) -> PriceFile {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("prices.toml");
        std::fs::write(&path, text).unwrap();
        PriceFile::read(&path).unwrap()
    }

    #[test]
    fn a_file_says_what_the_list_says() {
        let file = read(&render(&list(), "here"));

        let mut expected = list();
        expected["rules"][1]["level"] = json!(50);
        assert_eq!(file.list, expected);
    }

    #[test]
    fn faults_of_the_daemon_have_lines() {
        let file = read("[[rules]]\nservice = \"a\"\n\n[[rules]]\nservice = \"b\"\n");

        assert_eq!(file.line_of("`rules[1]`: missing field `cost`"), Some(4));
        assert_eq!(file.line_of("no rule"), None);
    }
}
