//! `rated.toml` and `metrics.toml`: read, checked, explained.
//!
//! [`Config::load`] gives a configuration in which every value is within its bounds, or every
//! problem of both files at once, each with its file, line and field. No value of a plugin's
//! section stands in an error or in a `Debug` output: it may be a password.
//!
//! This module does not know what a plugin accepts; `rated check` asks the plugins themselves.

mod api_section;
#[cfg(test)]
mod asked;
mod auth_section;
mod daemon_file;
mod document;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod metrics_file;
mod number;
mod problem;
mod reader;
mod schedule;
mod secrets;
mod settings;
mod source;
mod tokens_file;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;

pub(crate) use problem::nearest;
pub use problem::{ConfigError, Place, Problem, ProblemKind, Refusal};
pub use secrets::ExposedSecret;
pub use settings::*;
pub(crate) use tokens_file::{TokenEntry, check_token_name, read_tokens};

use self::document::{Table, Value};
use self::problem::Problems;
use self::reader::TableReader;

impl Config {
    /// Reads a file and the metrics file it names.
    ///
    /// `environment` is that of the process; variables that begin with `RATED__` stand for single
    /// fields.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        Config::load_located(path, environment).map(|(config, _)| config)
    }

    /// Also says where the plugins' sections stand, for those who find fault with them.
    pub fn load_located(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<(Config, Sections), ConfigError> {
        let problems = Problems::new(path);
        let mut table = source::read(path, &problems).unwrap_or_default();
        let exposed_secret = secrets::exposed(path, &table);
        variables::apply(&mut table, environment, &problems);
        if problems.is_unreadable() {
            // What was not read would look like missing fields.
            return Err(problem::into_error(vec![problems]));
        }

        let sections = Sections::of(&table);
        let mut root = TableReader::root(table, &problems);
        let mut draft = daemon_file::read(&mut root, path);
        draft.config.exposed_secret = exposed_secret;
        root.finish();

        let metric_problems = Problems::new(&draft.metrics_path)
            .with_file_hint("`collect.metrics` of the configuration names this file");
        let known = metrics_file::Known {
            scope_key: &draft.config.collect.scope_key,
            collectors: &draft.config.collectors,
        };
        draft.config.collect.metrics =
            metrics_file::read(&draft.metrics_path, &known, &metric_problems);
        if problems.is_empty() && metric_problems.is_empty() {
            return Ok((draft.config, sections));
        }
        Err(problem::into_error(vec![problems, metric_problems]))
    }
}

/// A TOML file that is no configuration: every number as it is written, and the line of each entry
/// of its lists, such as `rules[3]`.
pub(crate) fn read_toml(
    path: &Path,
) -> Result<(serde_json::Value, BTreeMap<String, usize>), ConfigError> {
    let problems = Problems::new(path);
    let table = source::read(path, &problems).unwrap_or_default();
    in_json(table, problems)
}

/// The same of a text; problems name `path`.
#[cfg(any(test, fuzzing))]
pub(crate) fn parse_toml(
    text: &str,
    path: &Path,
) -> Result<(serde_json::Value, BTreeMap<String, usize>), ConfigError> {
    let problems = Problems::new(path);
    let table = document::parse(text, &problems);
    in_json(table, problems)
}

fn in_json(
    table: Table,
    problems: Problems,
) -> Result<(serde_json::Value, BTreeMap<String, usize>), ConfigError> {
    let mut lines = BTreeMap::new();
    for (name, entry) in &table {
        let Value::List(list) = &entry.value else { continue };
        for (index, entry) in list.iter().enumerate() {
            if let Place::Line(line) = entry.place {
                lines.insert(format!("{name}[{index}]"), line);
            }
        }
    }
    let mut members = serde_json::Map::new();
    for (name, entry) in table {
        match entry.value.into_json() {
            Ok(value) => {
                members.insert(name, value);
            }
            Err(kind) => problems.add(entry.place, &name, kind),
        }
    }
    if !problems.is_empty() {
        return Err(problem::into_error(vec![problems]));
    }
    Ok((serde_json::Value::Object(members), lines))
}

/// Checks a metrics file that is not written yet; problems name `path`.
pub(crate) fn check_metrics(text: &str, path: &Path, scope_key: &str) -> Result<(), ConfigError> {
    let problems = Problems::new(path);
    let table = document::parse(text, &problems);
    let known = metrics_file::Known { scope_key, collectors: &BTreeMap::new() };
    if !problems.is_unreadable() {
        metrics_file::read_table(table, &known, &problems);
    }
    if problems.is_empty() { Ok(()) } else { Err(problem::into_error(vec![problems])) }
}

/// Where the sections of plugin instances stand.
#[derive(Debug, Clone, Default)]
pub struct Sections(BTreeMap<String, Place>);

impl Sections {
    fn of(root: &Table) -> Sections {
        let mut places = BTreeMap::new();
        for kind in ["collectors", "fetchers", "rating"] {
            let Some(Value::Table(table)) = root.get(kind).map(|entry| &entry.value) else {
                continue;
            };
            for (name, entry) in table {
                places.insert(format!("{kind}.{name}"), entry.place.clone());
            }
        }
        Sections(places)
    }

    /// Of `rating.hashmap`; a section that is not written down stands for the file as a whole.
    pub fn place(&self, section: &str) -> Place {
        self.0.get(section).cloned().unwrap_or(Place::File)
    }
}

#[cfg(test)]
mod auth_tests;
#[cfg(test)]
mod tests;
