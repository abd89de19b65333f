//! Benchmarks over little data: they still run, and every digit is right.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use chrono::{DateTime, Utc};
use rated_tests::{Config, Daemon, bench_program, build_folder, rated};
use rust_decimal::Decimal;
use serde_json::Value;
use tempfile::TempDir;

/// So far ahead that the daemon never collects any of it.
const START: &str = "2199-01-01T00:00:00Z";

/// `rated bench data` of 5 scopes and 2 hours.
fn data(output: &[&str]) -> String {
    let start = format!("--start={START}");
    let size = ["bench", "data", "--scopes=5", "--hours=2", &start];
    let (succeeded, text) = rated(&[&size[..], output].concat());
    assert!(succeeded, "{text}");
    text
}

fn number(value: &Value) -> Decimal {
    value.to_string().parse().unwrap()
}

#[test]
fn a_ledger_of_made_up_data_answers_with_its_exact_totals() {
    let folder = TempDir::new().unwrap();
    let start: DateTime<Utc> = START.parse().unwrap();
    let config = Config::prometheus("http://127.0.0.1:1", start).without_scopes();
    let config = config.write(folder.path());
    let metrics = (0..5).fold(String::new(), |mut text, index| {
        let names = format!("name = \"metric_{index}\"\nalt_name = \"type_{index}\"");
        write!(text, "[[metric]]\n{names}\nunit = \"unit\"\n").unwrap();
        text
    });
    fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    let ledger = folder.path().join("state/ledger");
    fs::create_dir_all(&ledger).unwrap();
    data(&["--ledger", ledger.to_str().unwrap()]);
    let mut expected: Vec<(String, String, Decimal, Decimal)> = Vec::new();
    for line in data(&["--totals=project_id,flavor_id"]).lines() {
        let cells: Vec<&str> = line.split(',').collect();
        let (qty, price) = (cells[2].parse().unwrap(), cells[3].parse().unwrap());
        expected.push((cells[0].to_owned(), cells[1].to_owned(), qty, price));
    }
    expected.sort();

    let daemon = Daemon::start(&config);
    let range = "begin=2199-01-01&end=2199-01-02";
    let path = format!("/v2/summary?{range}&groupby=project_id,flavor_id&limit=1000");
    let answer = daemon.get(&path);
    let rows = answer["results"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found: Vec<_> =
        rows.map(|row| (text(&row[4]), text(&row[5]), number(&row[2]), number(&row[3]))).collect();
    found.sort();

    assert!(found.len() > 20);
    assert_eq!(found, expected);
    let frames = daemon.get(&format!("/v2/dataframes?{range}&limit=1"));
    assert_eq!(frames["total"], 5 * 20 * 2);
    daemon.stop();
}

#[test]
fn the_comparison_with_duckdb_finds_every_digit_equal() {
    let folder = TempDir::new().unwrap();
    let table = folder.path().join("table.md");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/benches/compare.py");

    let mut command = Command::new(bench_program("python"));
    command.arg(script).args(["--scopes=5", "--hours=48", "--runs=1", "--summaries-only"]);
    command.arg("--rated").arg(build_folder().join("rated"));
    command.arg("--output").arg(&table).arg("--criterion").arg(folder.path());
    let (succeeded, text) = rated_tests::run(&mut command);

    assert!(succeeded, "{text}");
    let table = fs::read_to_string(table).unwrap();
    assert!(table.contains("| exact: 0.0 M | every digit | "), "{table}");
    assert!(table.contains(" groups equal | yes |"), "{table}");
}
