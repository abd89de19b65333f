//! Single values from the environment: `RATED__API__LISTEN=127.0.0.1:9000`.

use super::document::{Entry, Table, Value};
use super::problem::{Place, ProblemKind, Problems};
use super::secrets;

const PREFIX: &str = "RATED__";
const SEPARATOR: &str = "__";

/// Puts the values of variables that begin with [`PREFIX`] into the tree, over those of the file.
///
/// Whether a field of that name exists is found out when the tree is read, as for the fields of the
/// file.
pub(super) fn apply(
    root: &mut Table,
    environment: impl Iterator<Item = (String, String)>,
    problems: &Problems,
) {
    let mut variables: Vec<(String, String)> =
        environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, text) in variables {
        let segments: Vec<String> =
            name[PREFIX.len()..].split(SEPARATOR).map(str::to_lowercase).collect();
        let place = Place::Variable(name.clone());
        if segments.iter().any(String::is_empty) || !put(root, &segments, place.clone(), text) {
            problems.add(place, &segments.join("."), ProblemKind::UnknownField);
        }
    }
}

/// `false` when a part of the path is there and is not a table.
fn put(table: &mut Table, segments: &[String], place: Place, text: String) -> bool {
    let Some((segment, rest)) = segments.split_first() else { return false };
    let key = key_like(table, segment);
    if rest.is_empty() {
        // Where the file says that it is text, it stays text, and a password does in any case: it
        // may look like a number.
        let value = match table.get(&key).map(|entry| &entry.value) {
            Some(Value::Text(_)) => Value::Text(text),
            Some(Value::Table(_)) => return false,
            _ if secrets::is_name(&key) => Value::Text(text),
            _ => Value::Variable(text),
        };
        table.insert(key, Entry { place, value });
        return true;
    }
    let entry = table
        .entry(key)
        .or_insert_with(|| Entry { place: place.clone(), value: Value::Table(Table::new()) });
    match &mut entry.value {
        Value::Table(inner) => put(inner, rest, place, text),
        _ => false,
    }
}

/// Names of instances may have hyphens, names of variables may not.
fn key_like(table: &Table, segment: &str) -> String {
    let same = |key: &&String| key.to_lowercase().replace('-', "_") == *segment;
    table.keys().find(same).cloned().unwrap_or_else(|| segment.to_owned())
}

/// The variable of a field that was meant: the path with one segment replaced.
pub(super) fn renamed(variable: &str, depth: usize, key: &str) -> String {
    let mut segments: Vec<String> =
        variable[PREFIX.len()..].split(SEPARATOR).map(str::to_owned).collect();
    if let Some(segment) = segments.get_mut(depth) {
        *segment = key.to_uppercase().replace('-', "_");
    }
    format!("{PREFIX}{}", segments.join(SEPARATOR))
}
