//! A stop while everything is under way.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rated_tests::{
    Daemon, DataSet, Exact, send, steady_quantity, steady_scope, summary, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::steady_config;

const SCOPES: usize = 40;
const HOURS: usize = 120;
const PUSHERS: usize = 3;
const POINTS: usize = 50;
/// As `steady_config` has it.
const GRACE: Duration = Duration::from_secs(10);

fn body(project: &str) -> Value {
    let point = |index: usize| {
        json!({
            "vol": {"unit": "piece", "qty": index}, "rating": {"price": 1},
            "groupby": {"project_id": project}, "metadata": {},
        })
    };
    let points: Vec<Value> = (0..POINTS).map(point).collect();
    let period = json!({"begin": "2019-07-23T12:00:00", "end": "2019-07-23T13:00:00"});
    json!({"dataframes": [{"period": period, "usage": {"gift": points}}]})
}

#[test]
fn a_stop_under_load_is_in_time_and_loses_nothing_it_acknowledged() {
    check_stop("thread", |daemon| daemon.process.signal("TERM"));
}

/// As a terminal or a container does it, and a unit without `KillMode=mixed`.
#[test]
fn a_stop_that_reaches_processes_of_plugins_too_loses_nothing() {
    check_stop("process", |daemon| {
        let children = children_of(daemon.process.id());
        assert!(!children.is_empty(), "the plugin runs in a process");
        daemon.process.signal("TERM");
        for child in children {
            let status = Command::new("kill").args(["-s", "TERM", &child.to_string()]).status();
            status.unwrap();
        }
    });
}

/// Those that it started, and those that they did.
fn children_of(process: u32) -> Vec<u32> {
    let parent_of = |entry: fs::DirEntry| -> Option<(u32, u32)> {
        let child = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        // Its name, in parentheses, may have any character in it.
        let (_, behind_name) = stat.rsplit_once(") ")?;
        Some((child, behind_name.split(' ').nth(1)?.parse().ok()?))
    };
    let pairs: Vec<(u32, u32)> =
        fs::read_dir("/proc").unwrap().filter_map(|entry| parent_of(entry.ok()?)).collect();
    let mut found = vec![process];
    let mut index = 0;
    while index < found.len() {
        let parent = found[index];
        found.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(child, _)| *child));
        index += 1;
    }
    found.split_off(1)
}

fn check_stop(isolation: &str, stop: impl Fn(&Daemon)) {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, SCOPES, 2, HOURS);
    let file = steady_config(folder.path(), SCOPES, (data.begin, data.end()));
    let text = fs::read_to_string(&file).unwrap();
    let apart = format!("[collectors.steady]\nisolation = \"{isolation}\"\n");
    fs::write(&file, text.replace("[collectors.steady]\n", &apart)).unwrap();
    let mut daemon = Daemon::start(&file);
    let (acknowledged, sent) = (Mutex::new(Vec::new()), AtomicUsize::new(0));
    let url = format!("{}/v2/dataframes", daemon.url);
    let push = || {
        loop {
            let project = format!("pushed-{}", sent.fetch_add(1, Ordering::Relaxed));
            // Refused or cut off when the daemon stops.
            match send(&Method::POST, &url, Some(&body(&project))) {
                Ok(answer) if answer.status == 204 => acknowledged.lock().unwrap().push(project),
                _ => return,
            }
        }
    };

    let duration = thread::scope(|scope| {
        for _ in 0..PUSHERS {
            scope.spawn(push);
        }
        wait_until("pushes and a cycle are under way", || {
            let is_cycle_on = daemon.metric("rated_slices_total") > 3.0;
            (acknowledged.lock().unwrap().len() > 5 && is_cycle_on).then_some(())
        });
        let begin = Instant::now();
        stop(&daemon);
        let status = daemon.process.wait(GRACE + Duration::from_secs(5));
        assert!(status.success(), "ended with {status}:\n{}", daemon.process.output());
        begin.elapsed()
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    println!("{} of {} pushes; stopped in {duration:?}", acknowledged.len(), sent.into_inner());
    assert!(duration < GRACE, "took {duration:?}");
    assert!(daemon.process.output().contains("orderly=true"), "{}", daemon.process.output());
    expect_all(&file, &data, &acknowledged);
}

/// What was pushed and acknowledged is there once, and what was collected.
fn expect_all(file: &Path, data: &DataSet, acknowledged: &[String]) {
    let daemon = Daemon::start(file);
    let day = DataSet::ending_lately(1, 1, 1, 1).begin;
    let (begin, end) = ("2019-07-01T00:00:00Z".parse().unwrap(), day - chrono::Days::new(700));
    let pushed = summary(&daemon, begin, end, "project_id");
    let units = Exact::parse(&(POINTS * (POINTS - 1) / 2).to_string());
    for project in acknowledged {
        let found = pushed.iter().filter(|row| row[4] == project.as_str());
        let sums: Vec<Exact> = found.map(|row| Exact::parse(&row[2].to_string())).collect();
        assert_eq!(sums, [units], "{project}");
    }
    daemon.wait_until_processed(SCOPES, data.end(), 3600);
    let collected = summary(&daemon, data.begin, data.end(), "type");
    let quantity = |metric| -> Exact {
        let name = DataSet::metric_name(metric);
        let all = (0..SCOPES).flat_map(|scope| (0..2).map(move |resource| (scope, resource)));
        let used = |(scope, resource): (usize, usize)| -> u64 {
            let hours = (0..HOURS).map(|hour| data.hour(hour));
            hours.map(|at| steady_quantity(&name, &steady_scope(scope), resource, at)).sum()
        };
        Exact::parse(&format!("{}e-4", all.map(used).sum::<u64>()))
    };
    let found: Vec<Exact> = collected.iter().map(|row| Exact::parse(&row[2].to_string())).collect();
    assert_eq!(found, [quantity(0), quantity(1)]);
    daemon.stop();
}
