//! `rated doctor` beside daemons that are well, stopped, and wrongly set up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rated_tests::{Daemon, DataSet, FakeSource, Misbehaviour, build_folder, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::steady_config;

/// Exit code and document.
fn doctor(config: &Path, url: Option<&str>) -> (Option<i32>, Value) {
    doctor_with(config, url, &[])
}

fn doctor_with(config: &Path, url: Option<&str>, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(build_folder().join("rated"));
    command.args(["doctor", "--json", "--config"]).arg(config).args(more).env_remove("RATED_URL");
    if let Some(url) = url {
        command.args(["--url", url]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let document = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code(), document)
}

/// The levels of all findings of that name, in order.
fn levels(document: &Value, name: &str) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    let found = findings.filter(|finding| finding["name"] == name);
    found.map(|finding| finding["level"].as_str().unwrap().to_owned()).collect()
}

fn site() -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 2, 1, 2);
    let file = steady_config(folder.path(), 2, (data.begin, data.end()));
    (folder, file)
}

#[test]
fn a_doctor_finds_a_daemon_that_is_well() {
    let (folder, file) = site();
    fs::create_dir(folder.path().join("state")).unwrap();
    fs::set_permissions(folder.path().join("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let daemon = Daemon::start(&file);
    wait_until("a cycle has ended", || {
        (daemon.metric("rated_cycle_duration_seconds_count") > 0.0).then_some(())
    });

    let (code, document) = doctor(&file, Some(&daemon.url));

    assert_eq!(code, Some(0), "{document:#}");
    let names = [
        "configuration",
        "plugins",
        "collector steady",
        "fetcher steady",
        "rating module hashmap",
        "state folder",
        "ledger files",
        "sync",
        "clock",
        "ledger lock",
        "open files",
        "daemon",
        "last cycle",
        "collected",
        "ledger",
    ];
    for name in names {
        let found = levels(&document, name);
        // How fast the disk is, and who sets the clock, is the machine's business.
        let is_machine = ["sync", "clock", "open files"].contains(&name);
        assert!(found == ["ok"] || (is_machine && !found.is_empty()), "{name}: {document:#}");
    }
    daemon.stop();
    let (code, document) = doctor(&file, Some("http://127.0.0.1:9"));
    assert_eq!(code, Some(0), "a stopped daemon is a warning: {document:#}");
    assert_eq!(levels(&document, "ledger lock"), ["warn"]);
    assert_eq!(levels(&document, "daemon"), ["warn"]);
    let (code, document) = doctor_with(&file, Some("http://127.0.0.1:9"), &["--running"]);
    assert_eq!(code, Some(1), "it is meant to run: {document:#}");
    assert_eq!(levels(&document, "daemon"), ["fail"]);
}

/// What a daemon says that is not well, or not to everybody.
#[test]
fn a_doctor_understands_a_daemon_that_is_not_ready_or_does_not_tell() {
    let (_folder, file) = site();
    let said = |status: u16, ready: bool, troubles: &[&str]| {
        let answer = json!({
            "ready": ready, "last_cycle_begin": null, "last_cycle_end": "2026-11-01T00:00:00+00:00",
            "furthest_behind": null, "troubles": troubles, "troubles_withheld": ready,
        });
        let source = FakeSource::start(Misbehaviour::Answer(status, answer.to_string()));
        doctor(&file, Some(&source.url)).1
    };

    let full = said(503, false, &["the source is away"]);
    let withheld = said(200, true, &[]);

    let of = |document: &Value, name: &str| {
        let findings = document["findings"].as_array().unwrap();
        findings.iter().find(|finding| finding["name"] == name).cloned().unwrap()
    };
    assert_eq!(of(&full, "daemon")["text"], "the ledger takes no changes");
    assert_eq!(of(&full, "held back")["text"], "the source is away");
    assert_eq!(levels(&full, "last cycle"), ["warn"]);
    assert_eq!(levels(&withheld, "daemon"), ["ok"]);
    let held_back = of(&withheld, "held back");
    assert_eq!(held_back["level"], "warn");
    assert!(held_back["hint"].as_str().unwrap().contains("RATED_TOKEN"), "{held_back}");
}

#[test]
fn a_doctor_whose_reader_has_enough_does_not_panic() {
    let (_folder, file) = site();
    for command in
        [&["doctor", "--json", "--config"][..], &["doctor", "--config"], &["check", "--config"]]
    {
        let mut child = Command::new(build_folder().join("rated"));
        child.args(command).arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().unwrap();
        drop(child.stdout.take());

        let output = child.wait_with_output().unwrap();

        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!printed.contains("panicked"), "{command:?}: {printed}");
        assert_eq!(output.status.code(), Some(0), "{command:?}: {printed}");
    }
}

#[test]
fn a_doctor_names_what_fails_and_what_to_do() {
    let (folder, file) = site();
    let source = FakeSource::start(Misbehaviour::Answer(503, "out for lunch".to_owned()));
    let text = fs::read_to_string(&file).unwrap();
    let url = &source.url;
    let broken = format!("{text}\n[collectors.prometheus]\nurl = \"{url}\"\n");
    fs::write(&file, broken).unwrap();
    // A file in the place of the folder.
    fs::write(folder.path().join("state"), "").unwrap();

    let (code, document) = doctor(&file, Some("http://127.0.0.1:9"));

    assert_eq!(code, Some(1), "{document:#}");
    assert_eq!(document["worst"], "fail");
    assert_eq!(levels(&document, "collector prometheus"), ["fail"]);
    assert_eq!(levels(&document, "collector steady"), ["ok"]);
    assert_eq!(levels(&document, "state folder"), ["fail"]);
    let findings = document["findings"].as_array().unwrap();
    let bad = findings.iter().filter(|finding| finding["level"] != "ok");
    assert!(bad.clone().all(|finding| finding["hint"].is_string()), "{document:#}");
}

#[test]
fn a_doctor_tells_a_wrong_configuration_by_its_exit_code() {
    let (_folder, file) = site();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("period_secs = 3600", "period_secs = 5")).unwrap();

    let (code, document) = doctor(&file, None);

    assert_eq!(code, Some(2), "{document:#}");
    assert_eq!(levels(&document, "configuration"), ["fail"]);
}
