//! `rated doctor` beside daemons that are well, stopped, and wrongly set up.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rated_tests::{Daemon, DataSet, FakeSource, Misbehaviour, build_folder, wait_until};
use serde_json::Value;
use tempfile::TempDir;

use crate::steady_config;

/// Exit code and document.
fn doctor(config: &Path, url: Option<&str>) -> (Option<i32>, Value) {
    let mut command = Command::new(build_folder().join("rated"));
    command.args(["doctor", "--json", "--config"]).arg(config).env_remove("RATED_URL");
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
