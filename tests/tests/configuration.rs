//! Bad input gets a message that says where and what to do, and nothing is lost.
#![forbid(unsafe_code)]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;
use rated_tests::{Config, Daemon, rated};
use tempfile::TempDir;

/// A folder with a sound configuration that a test then spoils.
fn site() -> TempDir {
    let folder = TempDir::new().unwrap();
    let metrics = "[[metric]]\nname = \"m\"\nunit = \"u\"\n";
    fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    sound().write(folder.path());
    folder
}

fn sound() -> Config {
    Config::prometheus("http://127.0.0.1:1", DateTime::UNIX_EPOCH)
}

/// `rated check` and `rated serve` must both refuse, with all of `words` in the message.
fn refused(folder: &Path, words: &[&str]) {
    let file = folder.join("rated.toml");
    for command in ["check", "serve"] {
        let (succeeded, text) = rated(&[command, "--config", file.to_str().unwrap()]);
        assert!(!succeeded, "{command} accepted it:\n{text}");
        for word in words {
            assert!(text.contains(word), "{command}: no `{word}` in:\n{text}");
        }
        assert!(!text.contains("panicked"), "{text}");
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_sound_configuration_passes_the_check() {
    let folder = site();
    let file = folder.path().join("rated.toml");

    let (succeeded, text) = rated(&["check", "--config", file.to_str().unwrap()]);

    assert!(succeeded, "{text}");
}

#[test]
fn an_unreadable_file_is_named() {
    let folder = site();
    fs::remove_file(folder.path().join("rated.toml")).unwrap();
    refused(folder.path(), &["rated.toml", "No such file"]);
    fs::create_dir(folder.path().join("rated.toml")).unwrap();
    refused(folder.path(), &["rated.toml", "directory"]);
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    let folder = site();
    let text = sound().text().replace("wait_periods", "wait_period");
    write(folder.path(), "rated.toml", &text);
    refused(folder.path(), &["rated.toml", "line 15", "wait_period`", "wait_periods"]);
}

#[test]
fn a_bad_cron_schedule_is_explained() {
    let folder = site();
    write(folder.path(), "rated.toml", &sound().text().replace("* * * * * *", "every day"));
    refused(folder.path(), &["rated.toml", "line", "schedule", "every day"]);
}

#[test]
fn a_period_out_of_bounds_is_told_both_bounds() {
    let folder = site();
    write(folder.path(), "rated.toml", &sound().text().replace("= 3600", "= 5"));
    refused(folder.path(), &["period_secs", "between 10 and 86400", "got 5"]);
}

#[test]
fn a_bad_metric_definition_names_file_metric_and_field() {
    let folder = site();
    for (bad, words) in [
        ("mutate = \"MAP\"", ["metrics.toml", "m", "mutate_map"]),
        ("factor = \"1/0\"", ["metrics.toml", "m", "factor"]),
        ("groupby = [\"a\"]\nmetadata = [\"a\"]", ["metrics.toml", "m", "a"]),
        ("unite = \"u\"", ["metrics.toml", "unite", "unit"]),
    ] {
        let text = format!("[[metric]]\nname = \"m\"\nunit = \"u\"\n{bad}\n");
        write(folder.path(), "metrics.toml", &text);
        refused(folder.path(), &words);
    }
}

#[test]
fn an_environment_variable_overrides_one_value() {
    let folder = site();
    let file = folder.path().join("rated.toml");
    let binary = rated_tests::build_folder().join("rated");
    let mut command = std::process::Command::new(binary);
    command.args(["check", "--config", file.to_str().unwrap()]);

    let (succeeded, text) = rated_tests::run(command.env("RATED__COLLECT__PERIOD_SECS", "7"));
    assert!(!succeeded && text.contains("RATED__COLLECT__PERIOD_SECS"), "{text}");
    let (succeeded, text) = rated_tests::run(command.env("RATED__COLLECT__PERIOD_SECS", "60"));
    assert!(succeeded, "{text}");
}

#[test]
fn a_port_in_use_is_named() {
    let folder = site();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    write(folder.path(), "rated.toml", &sound().text().replace("127.0.0.1:0", &address));

    let mut process = Daemon::spawn(&folder.path().join("rated.toml"));
    let status = process.wait(Duration::from_secs(20));

    assert!(!status.success());
    assert!(process.output().contains(&address), "{}", process.output());
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named() {
    let folder = site();
    // A file where the folder should be: even root cannot write there.
    write(folder.path(), "state", "");

    let mut process = Daemon::spawn(&folder.path().join("rated.toml"));
    let status = process.wait(Duration::from_secs(20));

    assert!(!status.success());
    let state = folder.path().join("state");
    assert!(process.output().contains(state.to_str().unwrap()), "{}", process.output());
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let folder = site();
    let file = folder.path().join("rated.toml");
    let first = Daemon::start(&file);

    let mut second = Daemon::spawn(&file);
    let status = second.wait(Duration::from_secs(20));

    assert!(!status.success());
    assert!(second.output().contains("another"), "{}", second.output());
    assert_eq!(first.get("/healthcheck")["reasons"][0], "OK");
    first.stop();
}
