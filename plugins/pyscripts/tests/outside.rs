//! A run as it is seen from outside. The one test of this file is alone with its processes.

#![cfg(test)]

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{Purpose, RateRequest, Request, Status, UsageBuilder};
use rated_pyscripts::PyScripts;
use serde_json::json;

/// More than it takes a process to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Processes that came from this one, each with the fields of its status.
fn descendants() -> BTreeMap<u32, BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // It may be gone by now.
        let Ok(text) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let pairs = text.lines().filter_map(|line| line.split_once(":\t"));
        all.insert(id, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect());
    }
    let mut found: Vec<u32> = vec![std::process::id()];
    for at in 0.. {
        let Some(parent) = found.get(at).map(u32::to_string) else { break };
        let children = all.iter().filter(|(_, fields): &(_, &BTreeMap<_, _>)| {
            fields.get("PPid") == Some(&parent) && !fields["State"].starts_with('Z')
        });
        found.extend(children.map(|(id, _)| *id));
    }
    all.retain(|id, _| found[1..].contains(id));
    all
}

fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        thread::yield_now();
    }
}

/// What the run has, told by the kernel.
fn check_run(id: u32, fields: &BTreeMap<String, String>) {
    let process = Path::new("/proc").join(id.to_string());
    let limits = std::fs::read_to_string(process.join("limits")).unwrap();
    for name in ["core file size", "file size", "open files", "processes"] {
        let line = limits.lines().find(|line| line.starts_with(&format!("Max {name}"))).unwrap();
        assert_eq!(line.split_whitespace().rev().nth(1), Some("0"), "{line}");
    }
    for rights in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(fields[rights].trim_start_matches('0'), "", "{rights}");
    }
    assert_eq!(fields["NoNewPrivs"], "1");
    let memory = std::fs::read_to_string(process.join("oom_score_adj")).unwrap();
    assert_eq!(memory.trim(), "1000", "the first to go when memory is short");
    if nix::unistd::geteuid().is_root() {
        check_as_root(&process, fields);
    } else {
        // Nobody may look inside, not even whom it belongs to.
        assert!(std::fs::read_dir(process.join("fd")).is_err());
    }
}

fn check_as_root(process: &Path, fields: &BTreeMap<String, String>) {
    assert_eq!(fields["Uid"], "65534\t65534\t65534\t65534");
    assert_eq!(fields["Groups"].trim(), "");
    let files = std::fs::read_dir(process.join("fd")).unwrap().flatten();
    let mut files: Vec<String> = files
        .map(|file| {
            let target = std::fs::read_link(file.path()).unwrap();
            let kind = target.to_string_lossy().split(':').next().unwrap_or_default().to_owned();
            format!("{} {kind}", file.file_name().to_string_lossy())
        })
        .collect();
    files.sort();
    assert_eq!(files, ["0 /dev/null", "1 /dev/null", "2 /dev/null", "3 pipe"]);
}

/// Where the run stands, when the kernel gives namespaces.
fn check_namespaces(id: u32) {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let process = Path::new("/proc").join(id.to_string());
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
        let theirs = std::fs::read_link(process.join("ns").join(name)).unwrap();
        let ours = std::fs::read_link(Path::new("/proc/self/ns").join(name)).unwrap();
        assert_ne!(theirs, ours, "{name}");
    }
    let root = process.join("root");
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "the root is empty");
    assert!(std::fs::write(root.join("file"), "").is_err(), "the root cannot be written");
    let devices = std::fs::read_to_string(process.join("net/dev")).unwrap();
    let devices: Vec<&str> = devices.lines().skip(2).map(str::trim_start).collect();
    assert!(devices.iter().all(|line| line.starts_with("lo:")), "{devices:?}");
}

#[test]
fn a_run_has_nothing_and_leaves_nothing() {
    let host = FakeHost::new();
    let config = "processes = 1\nwall_secs = 60";
    let module = TestModule::new::<PyScripts>(&host, config).unwrap();
    let script = json!({"name": "s", "data": "import time\ntime.sleep(50)", "start": null});
    let post = Request::post("/scripts", script.to_string());
    assert_eq!(module.handle(&post).unwrap().status, 201);
    let has_namespaces = !host.logged()[0].message.contains("without namespaces");
    let begin = host.now();
    let request = RateRequest {
        purpose: Purpose::Period,
        metric: "cpu".to_owned(),
        begin,
        end: begin + chrono::Duration::hours(1),
    };
    let mut usage = UsageBuilder::new(&["project_id"], &[]);
    usage.push("a", "1".parse().unwrap(), &[Some("a")]).unwrap();
    let usage = usage.finish().unwrap();
    let rater = module.prepare_at(begin).unwrap();

    thread::scope(|scope| {
        let run = scope.spawn(|| rater.rate(&request, &usage));
        let (id, fields) = wait_until("a run is filtered", || {
            descendants().into_iter().find(|(_, fields)| fields["Seccomp"] == "2")
        });
        check_run(id, &fields);
        if has_namespaces {
            check_namespaces(id);
        }
        host.cancel();
        assert_eq!(run.join().unwrap().unwrap_err().status, Status::Cancelled);
    });

    wait_until("a cancelled run leaves no process", || descendants().is_empty().then_some(()));
    let other = TestModule::new::<PyScripts>(&FakeHost::new(), config).unwrap();
    assert_eq!(other.handle(&post).unwrap().status, 201);
    assert!(!descendants().is_empty(), "a process waits for work");
    drop(other);
    wait_until("a module leaves no process", || descendants().is_empty().then_some(()));
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let left = left.filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("rated-pyscripts-{}", std::process::id()))
    });
    assert_eq!(left.count(), 0, "no folder is left");
}
