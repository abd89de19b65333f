//! `metrics.toml`: what is measured and how it becomes a quantity.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rust_decimal::Decimal;

use super::daemon_file::{check_attribute, missing_instance};
use super::document::{Entry, Table, Value};
use super::problem::{Place, ProblemKind, Problems, Refusal};
use super::reader::{TableReader, wrong_type};
use super::{InstanceConfig, number, source};
use crate::usage::{CALENDAR_ATTRIBUTES, Factor, Metric, MetricId, Mutation};

/// Most metrics in a file.
const METRICS_MAX: usize = 1000;
/// Most attributes in a list of a metric.
const ATTRIBUTES_MAX: usize = 64;
/// Most entries of a `mutate_map`.
const MAP_MAX: usize = 10_000;

const MUTATIONS: &[&str] = &["NONE", "NUMBOOL", "NOTNUMBOOL", "FLOOR", "CEIL", "MAP"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MutationName {
    None,
    NumBool,
    NotNumBool,
    Floor,
    Ceil,
    Map,
}

/// What a metric may refer to.
pub(super) struct Known<'a> {
    pub(super) scope_key: &'a str,
    pub(super) collectors: &'a BTreeMap<String, InstanceConfig>,
}

pub(super) fn read(path: &Path, known: &Known<'_>, problems: &Problems) -> Vec<Metric> {
    let table = source::read(path, problems).unwrap_or_default();
    if problems.is_unreadable() {
        return Vec::new();
    }
    read_table(table, known, problems)
}

pub(super) fn read_table(table: Table, known: &Known<'_>, problems: &Problems) -> Vec<Metric> {
    let mut root = TableReader::root(table, problems);
    let list = root.take("metric", |value| match value {
        Value::List(list) if list.is_empty() => Err(ProblemKind::Empty),
        Value::List(list) if list.len() > METRICS_MAX => {
            Err(ProblemKind::TooMany { max: METRICS_MAX, got: list.len() })
        }
        Value::List(list) => Ok(list),
        other => Err(wrong_type("a list of tables, each headed `[[metric]]`", &other)),
    });
    root.finish();
    let Some(list) = list else {
        if problems.is_empty() {
            problems.add(Place::File, "metric", ProblemKind::Missing);
        }
        return Vec::new();
    };
    let mut seen = BTreeSet::new();
    let mut metrics = Vec::new();
    for (index, entry) in list.value.into_iter().enumerate() {
        let Some(mut section) = open(index, entry, problems) else { continue };
        let Some(metric) = read_metric(&mut section, known) else { continue };
        if !seen.insert(metric.id.clone()) {
            let kind = ProblemKind::Refused { reason: Refusal::SameMetric };
            let hint = "give one of them another `alt_name`";
            let place = section.place().clone();
            section.fault(place, "alt_name", kind, Some(hint.to_owned()));
        }
        section.finish();
        metrics.push(metric);
    }
    metrics
}

/// Problems name the metric as far as the file does.
fn open(index: usize, entry: Entry, problems: &Problems) -> Option<TableReader<'_>> {
    let Value::Table(table) = entry.value else {
        problems.add(entry.place, "metric", wrong_type("a table", &entry.value));
        return None;
    };
    let text = |key: &str| match table.get(key).map(|entry| &entry.value) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let label = match (text("name"), text("alt_name")) {
        (Some(name), Some(alt_name)) if name != alt_name => format!("{name} ({alt_name})"),
        (Some(name), _) | (None, Some(name)) => name.to_owned(),
        (None, None) => format!("number {}", index + 1),
    };
    Some(TableReader::of_metric(label, entry.place, table, problems))
}

/// `None` when it has no name.
fn read_metric(section: &mut TableReader<'_>, known: &Known<'_>) -> Option<Metric> {
    let name = section.required_text("name");
    let alt_name = section.text("alt_name");
    let unit = section.required_text("unit").map_or(String::new(), |field| field.value);
    let description = section.text("description").map(|field| field.value);
    let groupby = read_groupby(section, known.scope_key);
    let metadata = read_metadata(section, known.scope_key, &groupby);
    let factor = read_factor(section);
    let offset = section.take("offset", into_decimal).map_or(Decimal::ZERO, |field| field.value);
    let mutate = read_mutation(section);
    let collector = read_collector(section, known);
    let skip_zero = read_skip(section);
    let extra_args = section.table("extra_args").into_json();
    let name = name?;
    for field in [Some(&name), alt_name.as_ref()].into_iter().flatten() {
        if let Err(kind) = check_attribute(&field.value) {
            section.refuse(field, kind, None);
        }
    }
    let alt_name = alt_name.map_or_else(|| name.value.clone(), |field| field.value);
    let id = MetricId { name: name.value, alt_name };
    Some(Metric {
        id,
        unit,
        description,
        groupby,
        metadata,
        factor,
        offset,
        mutate,
        collector,
        skip_zero,
        extra_args,
    })
}

/// The scope key and the calendar are dropped: every row has them anyway.
fn read_groupby(section: &mut TableReader<'_>, scope_key: &str) -> Vec<String> {
    let mut names = read_attributes(section, "groupby", |_| Ok(()));
    names.retain(|name| !is_added(name, scope_key));
    names
}

fn read_metadata(
    section: &mut TableReader<'_>,
    scope_key: &str,
    groupby: &[String],
) -> Vec<String> {
    read_attributes(section, "metadata", |name| {
        let reason = if groupby.iter().any(|other| other == name) {
            Refusal::AttributeInBothLists
        } else if is_added(name, scope_key) {
            Refusal::AddedByItself
        } else {
            return Ok(());
        };
        Err(ProblemKind::Attribute { name: name.to_owned(), reason })
    })
}

fn is_added(name: &str, scope_key: &str) -> bool {
    name == scope_key || CALENDAR_ATTRIBUTES.contains(&name)
}

fn read_attributes(
    section: &mut TableReader<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), ProblemKind>,
) -> Vec<String> {
    let Some(list) = section.texts(key) else { return Vec::new() };
    if list.value.len() > ATTRIBUTES_MAX {
        let kind = ProblemKind::TooMany { max: ATTRIBUTES_MAX, got: list.value.len() };
        section.refuse(&list, kind, None);
    }
    let mut names: Vec<String> = Vec::new();
    for field in list.value {
        let sound = check_attribute(&field.value).and_then(|()| check(&field.value));
        if let Err(kind) = sound {
            section.refuse(&field, kind, None);
        } else if names.contains(&field.value) {
            section.refuse(&field, ProblemKind::Repeated { name: field.value.clone() }, None);
        } else {
            names.push(field.value);
        }
    }
    names
}

fn read_factor(section: &mut TableReader<'_>) -> Factor {
    let one = Factor { numerator: Decimal::ONE, denominator: Decimal::ONE };
    let factor = section.take("factor", |value| {
        let (Value::Integer(text) | Value::Float(text) | Value::Text(text)) = value else {
            return Err(wrong_type("a number or a fraction such as `\"1/1024\"`", &value));
        };
        let wanted = "a number or a fraction of at most 28 digits such as `\"1/1024\"`";
        number::factor(&text).ok_or(ProblemKind::Malformed { wanted, got: text })
    });
    factor.map_or(one, |field| field.value)
}

fn into_decimal(value: Value) -> Result<Decimal, ProblemKind> {
    let (Value::Integer(text) | Value::Float(text) | Value::Text(text)) = value else {
        return Err(wrong_type("a number", &value));
    };
    let wanted = "a number of at most 28 digits";
    number::decimal(&text).ok_or(ProblemKind::Malformed { wanted, got: text })
}

fn read_mutation(section: &mut TableReader<'_>) -> Mutation {
    const NAMES: [MutationName; 6] = [
        MutationName::None,
        MutationName::NumBool,
        MutationName::NotNumBool,
        MutationName::Floor,
        MutationName::Ceil,
        MutationName::Map,
    ];
    let place = section.place_of("mutate_map");
    let has_map = section.has("mutate_map");
    let name = section.choice("mutate", MUTATIONS, &NAMES, MutationName::None);
    let map = section.take("mutate_map", |value| match value {
        Value::Table(table) if table.is_empty() => Err(ProblemKind::Empty),
        Value::Table(table) if table.len() > MAP_MAX => {
            Err(ProblemKind::TooMany { max: MAP_MAX, got: table.len() })
        }
        Value::Table(table) => Ok(table),
        other => Err(wrong_type("a table of numbers", &other)),
    });
    let map = map.map_or(BTreeMap::new(), |field| read_map(section, field.value));
    if (name == MutationName::Map) != has_map {
        let reason = if has_map { Refusal::MapUnused } else { Refusal::MapMissing };
        section.fault(place, "mutate_map", ProblemKind::Refused { reason }, None);
    }
    match name {
        MutationName::None => Mutation::None,
        MutationName::NumBool => Mutation::NumBool,
        MutationName::NotNumBool => Mutation::NotNumBool,
        MutationName::Floor => Mutation::Floor,
        MutationName::Ceil => Mutation::Ceil,
        MutationName::Map => Mutation::Map(map),
    }
}

fn read_map(section: &TableReader<'_>, table: Table) -> BTreeMap<Decimal, Decimal> {
    let mut map = BTreeMap::new();
    for (key, entry) in table {
        let name = format!("mutate_map.{key}");
        let Some(from) = number::decimal(key.trim()) else {
            let wanted = "a number, in quotes";
            section.fault(entry.place, &name, ProblemKind::Malformed { wanted, got: key }, None);
            continue;
        };
        match into_decimal(entry.value) {
            Err(kind) => {
                let hint = "a key with a fraction needs quotes: `\"0.5\" = 1`";
                section.fault(entry.place, &name, kind, Some(hint.to_owned()));
            }
            // `1` and `1.0` are the same number.
            Ok(_) if map.contains_key(&from) => {
                section.fault(entry.place, &name, ProblemKind::Repeated { name: key }, None);
            }
            Ok(to) => {
                map.insert(from, to);
            }
        }
    }
    map
}

fn read_collector(section: &mut TableReader<'_>, known: &Known<'_>) -> Option<String> {
    let field = section.text("collector")?;
    if !known.collectors.contains_key(&field.value) {
        let (kind, hint) = missing_instance("collector", &field.value, known.collectors.keys());
        section.refuse(&field, kind, Some(hint));
    }
    Some(field.value)
}

/// `skip_zero`, or its long form. An expression over the price can't be asked before rating, so
/// there is no other yet.
fn read_skip(section: &mut TableReader<'_>) -> bool {
    let skip_zero = section.boolean("skip_zero", false);
    let Some(field) = section.text("skip") else { return skip_zero };
    let tokens: String = field.value.split_whitespace().collect();
    if tokens == "qty==0" {
        return true;
    }
    let kind = ProblemKind::Refused { reason: Refusal::SkipExpression };
    section.refuse(&field, kind, Some("`skip_zero = true` leaves out zeros".to_owned()));
    skip_zero
}
