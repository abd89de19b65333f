//! The commands of the READMEs do what these say.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rated_tests::{Process, build_folder, get, rated, rated_asks, wait_until};
use tempfile::TempDir;

const SERVER: &str = "http://127.0.0.1:8889";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests have a folder").to_owned()
}

/// Lines of the fenced blocks that are commands.
fn commands(file: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join(file)).unwrap();
    let mut commands = Vec::new();
    let mut is_command = false;
    for line in text.lines() {
        match line {
            "```sh" => is_command = true,
            "```" => is_command = false,
            _ if is_command => commands.push(line.to_owned()),
            _ => {}
        }
    }
    commands
}

/// `make run` without its build, on any port, with a state of its own.
struct Run {
    process: Process,
    url: String,
}

impl Run {
    fn start(state: &Path) -> Run {
        let profile = match build_folder().file_name().and_then(|name| name.to_str()) {
            Some("debug") => "dev".to_owned(),
            Some(name) => name.to_owned(),
            None => panic!("a build has a profile"),
        };
        let mut command = Command::new("make");
        // What is built is there already; building it again would pull it away under other tests.
        command
            .args(["run", "CARGO=true", &format!("PROFILE={profile}")])
            .current_dir(root())
            .env("CARGO_TARGET_DIR", build_folder().parent().expect("it has a folder"))
            .env("RATED__DAEMON__STATE_DIR", state)
            .env("RATED__API__LISTEN", "127.0.0.1:0")
            .env("RATED_LOG", "info")
            .process_group(0);
        let mut process = Process::start("make run", &mut command);
        let url = process.wait_for_output("the daemon serves", |output| {
            let (_, rest) = output.split_once("http://127.0.0.1:")?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            rest.len().gt(&port.len()).then(|| format!("http://127.0.0.1:{port}"))
        });
        Run { process, url }
    }

    /// Waits until the API has figures, and gives the number of rows and what is owed.
    fn bill(&self) -> serde_json::Value {
        wait_until("there is a bill", || {
            let answer = get(&format!("{}/v2/summary?groupby=user,type", self.url));
            assert_eq!(answer.status, 200, "{}", answer.text);
            let summary = answer.json();
            (summary["total"].as_u64() > Some(0)).then_some(summary)
        })
    }

    /// Ctrl-C: the signal goes to make and to the daemon.
    fn stop(mut self) {
        let group = format!("-{}", self.process.id());
        let status = Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap();
        assert!(status.success());
        self.process.wait(Duration::from_secs(20));
        assert!(!self.process.output().contains("panicked"), "{}", self.process.output());
    }
}

#[test]
fn the_commands_of_the_readmes_work() {
    let folder = TempDir::new().unwrap();
    let commands = [commands("README.md"), commands("config/README.md")].concat();
    assert_eq!(commands.first().map(String::as_str), Some("make run"));
    let run = Run::start(&folder.path().join("state"));
    run.bill();

    for command in &commands {
        let words: Vec<&str> = command.split_whitespace().collect();
        match words[..] {
            // The first was just done; the tests of the unit install.
            ["make", "run"] | ["useradd" | "install" | "sed" | "sudo" | "systemctl", ..] => {}
            ["curl", address] => {
                let address = address.trim_matches('\'').replace(SERVER, &run.url);
                let answer = get(&address);
                assert_eq!(answer.status, 200, "{command}: {}", answer.text);
            }
            ["target/release/rated", "check", "--config", file] => {
                let file = root().join(file);
                let (succeeded, text) = rated(&["check", "--config", file.to_str().unwrap()]);
                assert!(succeeded, "{command}: {text}");
            }
            ["target/release/rated", "doctor", "--config", file] => {
                let file = root().join(file);
                let arguments = ["doctor", "--config", file.to_str().unwrap()];
                let (succeeded, text) = rated_asks(&run.url, &arguments);
                assert!(succeeded, "{command}: {text}");
            }
            ["target/release/rated", ref rest @ ..] => {
                let (succeeded, text) = rated_asks(&run.url, rest);
                assert!(succeeded, "{command}: {text}");
            }
            _ => panic!("no test runs `{command}`"),
        }
    }
    run.stop();
}

#[test]
fn a_second_run_goes_on_with_the_ledger_of_the_first() {
    let folder = TempDir::new().unwrap();
    let state = folder.path().join("state");
    // Of the newest period some metrics may still be on their way, so its sums may grow.
    let begins = |run: &Run| {
        run.bill();
        let answer = get(&format!("{}/v2/summary?groupby=time", run.url));
        let summary = answer.json();
        let rows = summary["results"].as_array().expect("rows").clone();
        rows.into_iter().map(|row| row[0].to_string()).collect::<Vec<_>>()
    };

    let run = Run::start(&state);
    let before = begins(&run);
    run.stop();
    let run = Run::start(&state);
    let after = begins(&run);
    run.stop();

    assert!(after.starts_with(&before[..1]), "{before:?} then {after:?}");
}
