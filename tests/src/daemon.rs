//! The daemon under test: its binary, its configuration, its API.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::Value;

use crate::{Answer, Process, run, send, wait_until};

/// Folder of the binaries of this build.
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    let profile =
        test.parent().and_then(Path::parent).expect("tests run from target/<profile>/deps");
    let daemon = profile.join("rated");
    let name = daemon.display();
    assert!(daemon.exists(), "{name} is not built; `make test` does, or cargo build --workspace");
    profile.to_owned()
}

/// `rated` with arguments, run to its end.
pub fn rated(arguments: &[&str]) -> (bool, String) {
    run(Command::new(build_folder().join("rated")).args(arguments))
}

/// The same, for a command that asks a running daemon.
pub fn rated_asks(url: &str, arguments: &[&str]) -> (bool, String) {
    run(Command::new(build_folder().join("rated")).args(arguments).env("RATED_URL", url))
}

/// Text of a `rated.toml` for the tests: any port, state beside the file, a cycle each second.
#[derive(Debug, Clone)]
pub struct Config {
    pub daemon: String,
    pub collect: String,
    pub plugins: String,
}

impl Config {
    /// Collects hourly from a Prometheus from `start` on.
    pub fn prometheus(url: &str, start: DateTime<Utc>) -> Config {
        Config {
            daemon: "shutdown_grace_secs = 10\n".to_owned(),
            collect: format!(
                "collector = \"prometheus\"\nfetchers = [\"prometheus\"]\n\
                 metrics = \"metrics.toml\"\n\
                 period_secs = 3600\nwait_periods = 2\nscope_key = \"project_id\"\n\
                 start = \"{}\"\n",
                start.format("%Y-%m-%dT%H:%M:%SZ")
            ),
            plugins: format!(
                "[collectors.prometheus]\nurl = \"{url}\"\n\n\
                 [fetchers.prometheus]\nurl = \"{url}\"\nmetric = \"metric_0\"\n\
                 scope_attribute = \"project_id\"\n"
            ),
        }
    }

    /// The same without anybody to bill: rules can be entered before the first period is rated.
    #[must_use]
    pub fn without_scopes(mut self) -> Config {
        self.collect = self.collect.replace("fetchers = [\"prometheus\"]", "fetchers = []");
        self
    }

    /// Another collector of the prometheus kind.
    #[must_use]
    pub fn with_collector(mut self, name: &str, url: &str) -> Config {
        self.plugins +=
            &format!("\n[collectors.{name}]\nplugin = \"prometheus\"\nurl = \"{url}\"\n");
        self
    }

    pub fn text(&self) -> String {
        format!(
            "[daemon]\nstate_dir = \"state\"\nplugin_dirs = [\"plugins\"]\n{}\n\
             [api]\nlisten = \"127.0.0.1:0\"\n\n\
             [collect]\nschedule = \"* * * * * *\"\n{}\n\
             [collect.retry]\ndelay_secs_min = 1\ndelay_secs_max = 2\n\n{}",
            self.daemon, self.collect, self.plugins
        )
    }

    pub fn write(&self, folder: &Path) -> PathBuf {
        let file = folder.join("rated.toml");
        fs::create_dir_all(folder.join("plugins")).expect("a folder of the test");
        fs::write(&file, self.text()).expect("a file of the test");
        file
    }
}

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    pub process: Process,
    pub url: String,
}

impl Daemon {
    /// Starts on the configuration file and waits until it serves.
    pub fn start(config: &Path) -> Daemon {
        Daemon::serving(Daemon::spawn(config))
    }

    /// Waits until a process that was started serves.
    pub fn serving(mut process: Process) -> Daemon {
        let url = process.wait_for_output("the daemon serves", |output| {
            let (_, rest) = output.split_once("api=http")?;
            let (rest, _) = rest.split_once(char::is_whitespace)?;
            Some(format!("http{rest}"))
        });
        Daemon { process, url }
    }

    /// Starts and does not wait.
    pub fn spawn(config: &Path) -> Process {
        let mut command = Command::new(build_folder().join("rated"));
        command.arg("serve").arg("--config").arg(config).env("RATED_LOG", "info");
        Process::start("rated", &mut command)
    }

    /// SIGTERM; the daemon must end cleanly within its grace time.
    pub fn stop(mut self) {
        self.process.signal("TERM");
        let status = self.process.wait(Duration::from_secs(15));
        assert!(status.success(), "ended with {status}:\n{}", self.process.output());
    }

    pub fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Answer {
        let url = format!("{}{path}", self.url);
        send(method, &url, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}\n{}", self.process.output()))
    }

    pub fn get(&self, path: &str) -> Value {
        self.call(&Method::GET, path, None).expect(200)
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(&Method::POST, path, Some(body))
    }

    /// Changes a rating module's state or priority.
    pub fn set_module(&self, module: &str, body: &Value) {
        let path = format!("/v1/rating/modules/{module}");
        assert_eq!(self.call(&Method::PUT, &path, Some(body)).status, 302);
    }

    /// Waits until `scopes` scopes are in the ledger up to (not including) `end`.
    pub fn wait_until_processed(&self, scopes: usize, end: DateTime<Utc>, period_secs: i64) {
        let last = end.timestamp() - period_secs;
        wait_until(&format!("{scopes} scopes up to {end}"), || {
            let states = self.last_processed();
            let done = states.values().filter(|state| state.is_some_and(|time| time >= last));
            (done.count() >= scopes).then_some(())
        });
    }

    /// Begin of the last period of each scope, seconds since the epoch.
    pub fn last_processed(&self) -> BTreeMap<String, Option<i64>> {
        let answer = self.call(&Method::GET, "/v2/scope?limit=100000", None);
        if answer.status == 404 {
            // The contract's way to say "none yet".
            return BTreeMap::new();
        }
        let scopes = answer.expect(200);
        let scopes = scopes["results"].as_array().expect("a list of scopes");
        scopes
            .iter()
            .map(|scope| {
                let id = scope["scope_id"].as_str().expect("an id").to_owned();
                let last = scope["last_processed_timestamp"].as_str().map(|text| {
                    DateTime::parse_from_rfc3339(text).expect("an ISO 8601 date").timestamp()
                });
                (id, last)
            })
            .collect()
    }

    /// A figure of the daemon's own `/metrics`, summed over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.call(&Method::GET, "/metrics", None).text;
        text.lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }
}
