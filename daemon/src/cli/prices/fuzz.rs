//! Price lists as a fuzzer has them: a file is refused with a line there is, or sent with every
//! digit of it; a list of the daemon's says the same as a file; a difference is a line each.

use std::path::Path;

use chrono::NaiveDateTime;
use serde_json::{Map, Value, json};

use super::file::{MEMBERS, PriceFile, render};
use super::{describe, table};
use crate::cli::fuzz::check_line;
use crate::cli::table::Style;
use crate::cli::text;
use crate::config::fuzz::check_error;

const FILE: &str = "/nowhere/prices.toml";
/// As the daemon writes it.
const TIME: &str = "%Y-%m-%dT%H:%M:%S";

/// 0: a file; 1: the daemon's list; 2: what it says of a difference.
pub(crate) fn prices(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if choice % 3 == 0 {
        return file(text);
    }
    let Ok(answer) = serde_json::from_str::<Value>(text) else { return };
    if choice % 3 == 1 {
        return list(&answer);
    }
    for line in describe(&answer, Style::Plain) {
        check_line(&line);
    }
}

fn file(text: &str) {
    let file = match PriceFile::parse(text, Path::new(FILE)) {
        Ok(file) => file,
        Err(error) => return check_error(&error, text),
    };
    let lines = text.matches('\n').count() + 1;
    for (name, value) in file.list.as_object().expect("a file is a table") {
        for index in 0..value.as_array().map_or(0, Vec::len) {
            let line = file.line_of(&format!("`{name}[{index}]`: why"));
            assert!(line.is_some_and(|line| (1..=lines).contains(&line)), "{name}[{index}]");
        }
    }
    // Another reader of TOML finds the same in it, as far as it goes: its numbers are shorter.
    if let Ok(other) = toml::from_str::<toml::Table>(text) {
        check_same(&toml::Value::Table(other), &file.list);
    }
    list(&file.list);
}

fn check_same(other: &toml::Value, ours: &Value) {
    match (other, ours) {
        (toml::Value::Table(other), Value::Object(ours)) => {
            assert!(other.keys().all(|name| ours.contains_key(name)) && other.len() == ours.len());
            other.iter().for_each(|(name, value)| check_same(value, &ours[name]));
        }
        (toml::Value::Array(other), Value::Array(ours)) => {
            assert_eq!(other.len(), ours.len());
            other.iter().zip(ours).for_each(|(other, ours)| check_same(other, ours));
        }
        (toml::Value::String(other), Value::String(ours)) => assert_eq!(other, ours),
        (toml::Value::Datetime(other), Value::String(ours)) => assert_eq!(other.to_string(), *ours),
        (toml::Value::Boolean(other), Value::Bool(ours)) => assert_eq!(other, ours),
        (toml::Value::Integer(other), Value::Number(ours)) => {
            assert_eq!(ours.as_str().parse(), Ok(*other));
        }
        (toml::Value::Float(other), Value::Number(ours)) => {
            assert_eq!(ours.as_str().parse(), Ok(*other));
        }
        (other, ours) => panic!("{other} is read as {ours}"),
    }
}

/// What is exported says the same when it is read again.
fn list(list: &Value) {
    drop(table(list).render(Style::Plain));
    let Some(expected) = as_the_daemon_has_it(list) else { return };
    let written = render(list, "here");
    let read = PriceFile::parse(&written, Path::new(FILE));
    let mut again = read.unwrap_or_else(|error| panic!("{error}: {written}")).list;
    for rule in again.get_mut("rules").and_then(Value::as_array_mut).into_iter().flatten() {
        // A whole number is written as one.
        if let Some(level) = rule.get_mut("level") {
            *level = text(level).into();
        }
    }
    assert_eq!(again, expected, "{written}");
}

/// All that a file has of a list; `None` = it is none.
fn as_the_daemon_has_it(list: &Value) -> Option<Value> {
    let texts = |list: &Value| -> Value {
        list.as_array().into_iter().flatten().map(|it| Value::from(text(it))).collect()
    };
    let entries = |name: &str| list[name].as_array().cloned().unwrap_or_default();
    let mut expected = json!({"revision": list["revision"].as_u64()?});
    expected["groups"] = texts(&list["groups"]);
    let services = entries("services");
    let services = services
        .iter()
        .map(|it| json!({"name": text(&it["name"]), "fields": texts(&it["fields"])}))
        .collect::<Vec<_>>();
    let mut rules = Vec::new();
    for rule in entries("rules") {
        let mut members = Map::new();
        for (name, value) in rule.as_object()? {
            if !MEMBERS.contains(&name.as_str()) || value.is_null() {
                continue;
            }
            if matches!(name.as_str(), "start" | "end") {
                NaiveDateTime::parse_from_str(value.as_str()?, TIME)
                    .ok()
                    .filter(|time| time.format(TIME).to_string() == *value)?;
            }
            members.insert(name.clone(), value.as_str()?.into());
        }
        rules.push(Value::Object(members));
    }
    for (name, entries) in [("services", services), ("rules", rules)] {
        if !entries.is_empty() {
            expected[name] = entries.into();
        }
    }
    Some(expected)
}
