//! A TOML file as a tree of values that know where they stand.
//!
//! Numbers stay the text they were written as, so that no digit is lost on the way to a decimal or
//! to a plugin.

use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, ProblemKind, Problems};

/// A value and the place of its key, or of itself in a list.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// Decimal digits with an optional minus.
    Integer(String),
    /// As written, without underscores and plus.
    Float(String),
    Boolean(bool),
    Time(String),
    List(Vec<Entry>),
    Table(Table),
    /// From the environment: becomes what its field asks for.
    Variable(String),
}

pub(super) type Table = BTreeMap<String, Entry>;

impl Value {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Variable(_) => "text",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number with a fraction",
            Value::Boolean(_) => "true or false",
            Value::Time(_) => "a date",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// As a plugin gets it. `Err` names what JSON can't say.
    pub(super) fn into_json(self) -> Result<Json, ProblemKind> {
        Ok(match self {
            Value::Text(text) | Value::Time(text) => Json::String(text),
            Value::Integer(text) | Value::Float(text) => {
                let number = serde_json::from_str(&text)
                    .map_err(|_| ProblemKind::Malformed { wanted: "a finite number", got: text })?;
                Json::Number(number)
            }
            Value::Boolean(value) => Json::Bool(value),
            Value::List(list) => Json::Array(
                list.into_iter().map(|entry| entry.value.into_json()).collect::<Result<_, _>>()?,
            ),
            Value::Table(table) => Json::Object(
                table
                    .into_iter()
                    .map(|(key, entry)| Ok((key, entry.value.into_json()?)))
                    .collect::<Result<_, ProblemKind>>()?,
            ),
            Value::Variable(text) => parse_untyped(text).into_json()?,
        })
    }
}

/// A number, `true`, a list … when the text is one in TOML, else the text itself.
fn parse_untyped(text: String) -> Value {
    match DeValue::parse(&text) {
        Ok(value) => convert(value.into_inner(), &Lines::default()),
        Err(_) => Value::Text(text),
    }
}

/// What could be read, with a problem for each place that could not.
pub(super) fn parse(text: &str, problems: &Problems) -> Table {
    let lines = Lines::of(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span();
        let place = span.as_ref().map_or(Place::File, |span| lines.place(span.start));
        let field = span.and_then(|span| text.get(span)).unwrap_or_default();
        // Only the name of a key is repeated: other text may be a part of a password.
        if error.message().contains("duplicate key") {
            problems.add(place, field.trim(), ProblemKind::Duplicate);
        } else {
            problems.add(place, "", ProblemKind::Syntax { reason: error.message().to_owned() });
        }
    }
    convert_table(table.into_inner(), &lines)
}

fn convert_table(table: DeTable<'_>, lines: &Lines) -> Table {
    table
        .into_iter()
        .map(|(key, value)| {
            let place = lines.place(key.span().start);
            let value = convert(value.into_inner(), lines);
            (key.into_inner().into_owned(), Entry { place, value })
        })
        .collect()
}

fn convert(value: DeValue<'_>, lines: &Lines) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(integer) => {
            let text = integer.as_str().trim_start_matches('+');
            match (integer.radix(), i128::from_str_radix(text, integer.radix())) {
                (10, _) | (_, Err(_)) => Value::Integer(text.to_owned()),
                (_, Ok(number)) => Value::Integer(number.to_string()),
            }
        }
        DeValue::Float(float) => Value::Float(float.as_str().trim_start_matches('+').to_owned()),
        DeValue::Boolean(value) => Value::Boolean(value),
        DeValue::Datetime(time) => Value::Time(time.to_string()),
        DeValue::Array(array) => Value::List(
            array
                .into_iter()
                .map(|value| Entry {
                    place: lines.place(value.span().start),
                    value: convert(value.into_inner(), lines),
                })
                .collect(),
        ),
        DeValue::Table(table) => Value::Table(convert_table(table, lines)),
    }
}

/// Where lines begin, bytes.
#[derive(Debug, Default)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Lines {
        let after_breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        Lines(std::iter::once(0).chain(after_breaks).collect())
    }

    fn place(&self, offset: usize) -> Place {
        Place::Line(self.0.partition_point(|begin| *begin <= offset))
    }
}
