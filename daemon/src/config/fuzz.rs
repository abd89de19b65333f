//! Files as a fuzzer has them: every one is a configuration within its bounds, or a list of
//! problems that says where each of them is.

use std::path::Path;

use chrono::DateTime;
use rated_plugin::UsageBuilder;
use rust_decimal::Decimal;

use super::daemon_file::Draft;
use super::document::Table;
use super::problem::{Place, Problems, into_error};
use super::reader::TableReader;
use super::{ConfigError, Sections, daemon_file, document, metrics_file, tokens_file, variables};
use crate::usage::Converter;

/// Nothing there is read.
const FILE: &str = "/nowhere/rated.toml";

/// `rated.toml`; behind a NUL the environment, a `NAME=VALUE` in each line.
pub(crate) fn daemon(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (text, environment) = text.split_once('\0').unwrap_or((text, ""));
    let problems = Problems::new(Path::new(FILE));
    let mut table = document::parse(text, &problems);
    let pairs = environment.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
    variables::apply(&mut table, pairs, &problems);
    if !problems.is_unreadable() {
        read(table, &problems);
    }
    check_problems(problems, text);
}

fn read(table: Table, problems: &Problems) {
    let _ = Sections::of(&table);
    let mut root = TableReader::root(table, problems);
    let Draft { config, .. } = daemon_file::read(&mut root, Path::new(FILE));
    root.finish();
    if problems.is_empty() {
        let times = config.collect.schedule.after(&DateTime::UNIX_EPOCH);
        assert!(times.take(3).is_sorted(), "a schedule goes back in time");
        let _ = format!("{config:?}");
    }
}

/// `metrics.toml`.
pub(crate) fn metrics(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let problems = Problems::new(Path::new(FILE));
    let table = document::parse(text, &problems);
    if !problems.is_unreadable() {
        let collectors = std::collections::BTreeMap::new();
        let known = metrics_file::Known { scope_key: "project_id", collectors: &collectors };
        let metrics = metrics_file::read_table(table, &known, &problems);
        if problems.is_empty() {
            assert!(!metrics.is_empty(), "no metric and no problem");
        }
        for metric in &metrics {
            convert(&Converter::new(metric));
        }
    }
    check_problems(problems, text);
}

/// Whatever a factor, an offset and a mutation are, quantities are converted or refused.
fn convert(converter: &Converter) {
    let mut rows = UsageBuilder::new::<&str>(&[], &[]);
    let quantities = [
        Decimal::ZERO,
        Decimal::ONE,
        Decimal::NEGATIVE_ONE,
        Decimal::new(5, 1),
        Decimal::new(1, 28),
    ];
    for quantity in quantities {
        rows.push("scope", quantity, &[]).expect("it has few digits");
    }
    let largest = {
        let mut rows = UsageBuilder::new::<&str>(&[], &[]);
        rows.push("scope", Decimal::MAX, &[]).expect("one number fits");
        rows
    };
    for rows in [rows, largest] {
        let batch = rows.finish().expect("the numbers fit one scale");
        if let Ok(converted) = converter.convert(&batch) {
            let count: usize =
                converted.batches.iter().map(arrow_array::RecordBatch::num_rows).sum();
            assert!(count <= batch.num_rows());
        }
    }
}

/// A file of tokens.
pub(crate) fn tokens(bytes: &[u8]) {
    match tokens_file::read_tokens(bytes, Path::new(FILE)) {
        Ok(tokens) => {
            let mut names: Vec<&str> = tokens.iter().map(|token| token.name.as_str()).collect();
            names.sort_unstable();
            assert!(names.is_sorted_by(|left, right| left < right), "{names:?}");
        }
        Err(error) => check_error(&error, &String::from_utf8_lossy(bytes)),
    }
}

fn check_problems(problems: Problems, text: &str) {
    if problems.is_empty() {
        return;
    }
    check_error(&into_error(vec![problems]), text);
}

/// Every problem is on a line there is.
pub(crate) fn check_error(error: &ConfigError, text: &str) {
    assert!(!error.to_string().is_empty());
    // The line behind the last break counts.
    let lines = text.matches('\n').count() + 1;
    for problem in error.problems() {
        if let Place::Line(line) = problem.place {
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
        }
    }
}
