//! The tables of what each caller is answered.

use std::fs;
use std::path::Path;

use crate::site::CALLERS;

/// `| request | body | one cell for each caller |`
#[derive(Debug)]
pub struct Row {
    /// Counted from 1.
    pub line: usize,
    /// As it stands there.
    pub request: String,
    pub method: String,
    /// Path and query.
    pub target: String,
    pub accept: String,
    /// JSON, or nothing.
    pub body: String,
    /// A status, and the marks that the answer holds.
    pub cells: Vec<String>,
}

/// Reads a table of `tests/data/policy`; a row that makes no sense ends the test.
pub fn read(name: &str) -> Vec<Row> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/policy").join(name);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    let lines = text.lines().enumerate().filter(|(_, line)| line.starts_with("| `"));
    lines.map(|(index, line)| row(name, index + 1, line)).collect()
}

fn row(name: &str, line: usize, text: &str) -> Row {
    let mut cells: Vec<String> =
        text.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    assert_eq!(cells.len(), 2 + CALLERS.len(), "{name}:{line}: {text}");
    let answers = cells.split_off(2);
    let body = cells[1].trim_matches('`').to_owned();
    let request = cells[0].trim_matches('`').to_owned();
    let mut words = request.split(' ');
    let method = words.next().unwrap().to_owned();
    let target = words.next().unwrap_or_else(|| panic!("{name}:{line}: no path")).to_owned();
    let accept = words.next().unwrap_or("application/json").to_owned();
    Row { line, request, method, target, accept, body, cells: answers }
}
