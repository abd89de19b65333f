//! The real python-cloudkittyclient, alone and as a part of `openstack`, against the built daemon.
//!
//! Every command of part 2 of REST.md is run with either program and with either version of the
//! API that knows it, and the test fails when the client has a command that was not run. What
//! works against the daemon must end with 0; what cannot is declared, with the reason.
//!
//! The requests themselves are the client's business: that it follows a 302 thirty times with the
//! same PUT, for instance, is only seen in that the commands work.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use chrono::Datelike;
use rated_tests::{Daemon, now, python_program, run};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Commands that part 2 does not show: they stand behind the row with that command.
const MORE: [(u32, &str, &str); 2] = [
    (1, "module enable hashmap", "module disable hashmap"),
    // The client's own format; it knows the rows of version 1 only.
    (1, "dataframes get", "dataframes get -f df-to-csv"),
];

/// Commands that end with 1 whatever the daemon does.
const CANNOT: [(&str, &str); 2] = [
    ("scope patch", "the client returns the answer, a dictionary, as its exit status"),
    (
        "dataframes get -b 2015-01-04T00:00:00 -e 2015-01-05T00:00:00 --filter type:x --filter a:b",
        "the contract answers 404 when nothing is found",
    ),
];

/// Placeholders of part 2, in the order in which a command gives them, and the column they are in.
const LEARNT: [(&str, &str, &[&str]); 6] = [
    ("hashmap service create", "Service ID", &["svc"]),
    ("hashmap field create", "Field ID", &["fld"]),
    ("hashmap group create", "Group ID", &["grp"]),
    ("hashmap mapping create", "Mapping ID", &["m1", "m2"]),
    ("hashmap threshold create", "Threshold ID", &["t1"]),
    ("pyscript create", "Script ID", &["scr", "scr2"]),
];

const CONFIG: &str = r#"
[daemon]
state_dir = "state"
[api]
listen = "127.0.0.1:0"
[collect]
# Nothing happens unless a command asks for it.
schedule = "0 0 0 1 1 *"
fetchers = []
metrics = "metrics.toml"
"#;

/// A row of part 2.
#[derive(Debug, Clone)]
struct Row {
    version: u32,
    command: String,
    /// How it ended against the recorded server.
    recorded_status: i32,
}

#[derive(Debug, Deserialize)]
struct Ended {
    command: String,
    status: i32,
    output: String,
    errors: String,
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(data("REST.md")).unwrap();
    let (_, text) = text.split_once("\n# Part 2").expect("REST.md has a second part");
    let mut rows = Vec::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [version, command, _] = cells[..] else { continue };
        let Ok(version) = version.parse() else { continue };
        let (command, remark) = command.split_once("<br>").unwrap_or((command, ""));
        let recorded_status = i32::from(remark == "*exit 1*");
        let command = command.trim_matches('`').to_owned();
        let more = MORE.iter().filter(|(of, after, _)| *of == version && *after == command);
        let more: Vec<Row> = more
            .map(|(_, _, command)| {
                let command = (*command).to_owned();
                Row { version, command, recorded_status: 0 }
            })
            .collect();
        rows.push(Row { version, command, recorded_status });
        rows.extend(more);
    }
    assert!(rows.len() > 70, "part 2 was not read: {} rows", rows.len());
    rows
}

/// The client's commands: `hashmap service create` -> what runs it.
fn entry_points(group: &str) -> BTreeMap<String, String> {
    let (succeeded, text) =
        run(Command::new(python_program("python")).arg(data("client/run.py")).arg(group));
    assert!(succeeded, "{text}");
    let points: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    assert!(!points.is_empty(), "the client has no group {group}");
    let words = |name: &str| name.trim_start_matches("rating_").replace('_', " ");
    points.into_iter().map(|(name, value)| (words(&name), value)).collect()
}

/// One of the programs, speaking one version of the API.
#[derive(Debug)]
struct Client {
    program: &'static str,
    version: u32,
    /// What stands before a command.
    prefix: &'static str,
    version_option: &'static str,
    group: String,
}

impl Client {
    fn cloudkitty(version: u32) -> Client {
        Client {
            program: "cloudkitty",
            version,
            prefix: "",
            version_option: "--os-rating-api-version",
            group: format!("cloudkittyclient_v{version}"),
        }
    }

    fn openstack(version: u32) -> Client {
        Client {
            program: "openstack",
            version,
            prefix: "rating ",
            version_option: "--rating-api-version",
            group: format!("openstack.rating.v{version}"),
        }
    }

    /// The rows that this client knows. A command of version 1 that is the same code in version 2
    /// is run there too.
    fn rows(&self, rows: &[Row]) -> Vec<Row> {
        let (first, mine) = (entry_points("cloudkittyclient_v1"), entry_points(&self.group));
        let code = |points: &BTreeMap<String, String>, command: &str| {
            let is_it = |name: &str| format!("{command} ").starts_with(&format!("{name} "));
            points.iter().find(|(name, _)| is_it(name)).map(|(_, value)| value.clone())
        };
        let rows: Vec<Row> = rows
            .iter()
            .filter(|row| {
                let is_same = || code(&first, &row.command) == code(&mine, &row.command);
                row.version == self.version || (row.version < self.version && is_same())
            })
            .cloned()
            .collect();
        for name in mine.keys() {
            let is_run = rows.iter().any(|row| row.command.starts_with(name));
            assert!(is_run, "{}: nothing runs `{name}`", self.group);
        }
        rows
    }

    fn run(&self, rows: &[Row]) -> Vec<String> {
        let folder = TempDir::new().unwrap();
        let rows = self.rows(rows);
        let daemon = start(folder.path());
        let frames = folder.path().join("frames.json");
        fs::write(&frames, frames_of_this_month().to_string()).unwrap();
        if self.version == 1 {
            // Version 2 adds them by a command.
            daemon.post("/v2/dataframes", &frames_of_this_month()).expect(204);
        }

        let results = self.ask(&daemon, &rows, &frames);

        let mut failures = Vec::new();
        let mut table = format!("{} with version {}\n", self.program, self.version);
        for (row, ended) in rows.iter().zip(&results) {
            let cannot = CANNOT.iter().find(|(command, _)| row.command.starts_with(command));
            let expected = i32::from(cannot.is_some());
            let there = row.recorded_status;
            let command = &ended.command;
            let line = first_line(ended);
            writeln!(table, "  {:>2} (there {there})  {command}\n       {line}", ended.status)
                .expect("writing to a string");
            if let Some((_, reason)) = cannot {
                writeln!(table, "       expected: {reason}").expect("writing to a string");
            }
            if ended.status != expected || ended.errors.contains("Traceback") {
                failures
                    .push(format!("{}{command}: {}\n{}", self.prefix, ended.status, ended.errors));
            }
        }
        println!("{table}");
        if results.len() != rows.len() {
            failures.push(format!("{} of {} commands were run", results.len(), rows.len()));
        }
        if self.version == 2 {
            check_scopes(&daemon);
        }
        daemon.stop();
        failures
    }

    fn ask(&self, daemon: &Daemon, rows: &[Row], frames: &Path) -> Vec<Ended> {
        let mut given: BTreeMap<&str, usize> = BTreeMap::new();
        let mut commands = Vec::new();
        for row in rows {
            let command = row.command.replace("FILE", frames.to_str().unwrap());
            let mut step = json!({"command": format!("{}{command}", self.prefix)});
            for (begin, column, names) in LEARNT {
                if row.command.starts_with(begin) {
                    let count = given.entry(begin).or_default();
                    step["learn"] = json!({ names[*count]: column });
                    *count += 1;
                }
            }
            commands.push(step);
        }
        let options = [
            "--os-auth-type",
            "cloudkitty-noauth",
            "--os-endpoint",
            &daemon.url,
            self.version_option,
            &self.version.to_string(),
        ];
        let plan = json!({"program": self.program, "options": options, "commands": commands});
        let mut child = Command::new(python_program("python"))
            .arg(data("client/run.py"))
            // A person's own clouds are none of this test's business.
            .env("OS_CLIENT_CONFIG_FILE", "none.yaml")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(plan.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn start(folder: &Path) -> Daemon {
    let file = folder.join("rated.toml");
    fs::write(&file, CONFIG).unwrap();
    fs::copy(data("contract/metrics.toml"), folder.join("metrics.toml")).unwrap();
    let daemon = Daemon::start(&file);
    for (index, id) in ["aaaa", "bbbb", "cccc"].into_iter().enumerate() {
        let scope = json!({
            "scope_id": id, "scope_key": "key1", "fetcher": "fet1", "collector": "col1",
            "last_processed_timestamp": format!("2019-0{0}-0{0}T00:00:00Z", index + 1),
        });
        daemon.post("/v2/scope", &scope).expect(200);
    }
    daemon
}

fn frames_of_this_month() -> Value {
    let today = now().date_naive();
    let day = today.with_day(1).expect("every month has a first day");
    let point = |id: &str| {
        json!({
            "vol": {"unit": "nothing", "qty": 1}, "rating": {"price": 1.337},
            "groupby": {"fake_meta": 1.0, "project_id": "p", "id": id},
            "metadata": {"dummy": true},
        })
    };
    let period =
        json!({"begin": format!("{day}T00:00:00+00:00"), "end": format!("{day}T01:00:00+00:00")});
    json!({"dataframes": [{"period": period, "usage": {"cpu": [point("cpu-1"), point("cpu-2")]}}]})
}

/// The first line that says something: of a table, its first row.
fn first_line(ended: &Ended) -> String {
    let lines = ended.output.lines().chain(ended.errors.lines()).map(str::trim);
    let lines: Vec<&str> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('+')).collect();
    let line = match lines[..] {
        [] => "(no output)",
        [head, row, ..] if head.starts_with('|') => row,
        [line, ..] => line,
    };
    line.chars().take(100).collect()
}

/// What became of the scopes: resets by this client were refused, and its patches end with 1.
fn check_scopes(daemon: &Daemon) {
    let scopes = daemon.get("/v2/scope");
    let scope = |index: usize| &scopes["results"][index];
    assert_eq!(scope(1)["last_processed_timestamp"], "2018-12-31T00:00:00+00:00");
    assert_eq!((&scope(0)["collector"], &scope(0)["active"]), (&json!("c"), &json!(false)));
}

#[test]
fn every_command_of_the_client_works() {
    let rows = rows();
    let clients =
        [Client::cloudkitty(1), Client::cloudkitty(2), Client::openstack(1), Client::openstack(2)];

    let failures: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> =
            clients.iter().map(|client| scope.spawn(|| client.run(&rows))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });

    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
