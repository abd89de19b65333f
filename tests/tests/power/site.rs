//! A daemon whose state stands on a disk of the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use rated_tests::{
    Answer, Disk, MountedDisk, PATIENCE, Process, build_folder, now, run, send_with, wait_until,
};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

/// So long that no period ends within a test, unless it runs at midnight; then there is one more.
pub(crate) const PERIOD_SECS: i64 = 86_400;
const DAYS: i64 = 24;
/// Periods that a source gets to be complete.
const WAIT_PERIODS: i64 = 2;
/// What the collector measures of each scope in each period.
pub(crate) const QUANTITY: u64 = 2;
pub(crate) const METRICS: &str = "[[metric]]\nname = \"usage\"\nunit = \"u\"\n";
pub(crate) const SCOPES: [&str; 3] = ["scope-0", "scope-1", "scope-2"];

/// The program with the plugins that it needs, small: it reads them at each start.
fn programs() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("plugins")).unwrap();
        let built = build_folder();
        let copies = [
            (built.join("rated"), folder.path().join("rated")),
            (built.join("librated_hashmap.so"), folder.path().join("librated_hashmap.so")),
            (example_plugin(&built), folder.path().join("plugins/libsource.so")),
        ];
        for (from, to) in copies {
            fs::copy(&from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
            // Without the names of its functions it is a tenth as long; with them it runs as well.
            let _ = Command::new("strip").arg(&to).output();
        }
        folder
    });
    folder.path()
}

pub(crate) fn program() -> PathBuf {
    programs().join("rated")
}

/// A source that answers at once is among the plugins of the hostile set; nobody else builds
/// examples.
fn example_plugin(built: &Path) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let target = built.parent().expect("target/<profile>");
    let mut command = Command::new("cargo");
    command.args(["build", "--offline", "--example", "bad_plugin", "--manifest-path"]);
    // What the runner of this test has set would make cargo build everything again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    let (succeeded, text) = run(command.arg(manifest).env("CARGO_TARGET_DIR", target));
    assert!(succeeded, "{text}");
    target.join("debug/examples/libbad_plugin.so")
}

/// How a start ended.
#[derive(Debug)]
pub(crate) enum Start {
    Serves(Site),
    /// Power went before.
    Cut(Disk),
    /// It gave up though there was power: what it said.
    Failed(Disk, String),
}

/// A daemon at work.
#[derive(Debug)]
pub(crate) struct Site {
    process: Process,
    url: String,
    pub(crate) disk: MountedDisk,
    _folder: TempDir,
}

/// Its process and what it was told.
fn spawn(state: &Path) -> (Process, TempDir) {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("rated.toml"), configuration(state)).unwrap();
    fs::write(folder.path().join("metrics.toml"), METRICS).unwrap();
    let mut command = Command::new(program());
    command.arg("serve").arg("--config").arg(folder.path().join("rated.toml"));
    (Process::start("rated", command.env("RATED_LOG", "info")), folder)
}

/// Where the daemon is, when it has said so.
fn url(process: &Process) -> Option<String> {
    let output = process.output();
    let (_, rest) = output.split_once("api=http")?;
    let (rest, _) = rest.split_once(char::is_whitespace)?;
    Some(format!("http{rest}"))
}

impl Site {
    /// Power may go in the start-up; when the daemon serves it is safe until somebody says else.
    pub(crate) fn start(disk: Disk) -> Start {
        let disk = MountedDisk::mount(disk);
        let (mut process, folder) = spawn(&disk.path());
        let begin = Instant::now();
        loop {
            let url = url(&process);
            // From here on nothing is cut unless it was already.
            let is_cut = disk.with(|disk| {
                if url.is_some() {
                    disk.spare();
                }
                disk.is_cut()
            });
            if is_cut {
                process.kill();
                return Start::Cut(disk.unmount());
            }
            if let Some(url) = url {
                return Start::Serves(Site { process, url, disk, _folder: folder });
            }
            if !process.is_running() {
                // What it said last may be on its way.
                thread::sleep(Duration::from_millis(100));
                let said = process.output();
                process.kill();
                return Start::Failed(disk.unmount(), said);
            }
            assert!(begin.elapsed() < PATIENCE, "does not start:\n{}", process.output());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until a daemon that has no address yet says something.
    pub(crate) fn start_to_say(disk: Disk, text: &str) -> Site {
        let disk = MountedDisk::mount(disk);
        let (mut process, folder) = spawn(&disk.path());
        process.wait_for_output(text, |output| output.contains(text).then_some(()));
        Site { process, url: String::new(), disk, _folder: folder }
    }

    /// Waits until it serves.
    pub(crate) fn serves(&mut self) {
        self.process
            .wait_for_output("the daemon serves", |output| output.split_once("api=http").map(drop));
        self.url = wait_until("its address", || url(&self.process));
    }

    /// Where it answers before it serves.
    pub(crate) fn answers_at(&mut self, url: String) {
        self.url = url;
    }

    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// On a folder of this machine instead; its disk is not used.
    pub(crate) fn start_in(folder: &Path) -> Site {
        let (mut process, config) = spawn(folder);
        process
            .wait_for_output("the daemon serves", |output| output.split_once("api=http").map(drop));
        let url = wait_until("its address", || url(&process));
        Site { process, url, disk: MountedDisk::mount(Disk::default()), _folder: config }
    }

    /// Whatever comes of it; an error is a connection that failed.
    pub(crate) fn call_any(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        send_with(method, &format!("{}{path}", self.url), headers, body)
    }

    pub(crate) fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Asked {
        self.call_with(method, path, &[], body)
    }

    pub(crate) fn call_with(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Asked {
        let is_cut = || self.disk.with(|disk| disk.is_cut());
        match self.call_any(method, path, headers, body) {
            Ok(answer) if answer.status < 500 => Asked::Answered(answer),
            Ok(_) | Err(_) if is_cut() => Asked::Lost,
            Ok(answer) => {
                let (status, text) = (answer.status, answer.text);
                Asked::Broken(format!("{method} {path}: {status} {text}\n{}", self.output()))
            }
            Err(error) => Asked::Broken(format!("{method} {path}: {error}\n{}", self.output())),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    /// The daemon is no more; what is on the disk.
    pub(crate) fn kill(mut self) -> Disk {
        self.process.kill();
        self.disk.unmount()
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Asked {
    Answered(Answer),
    /// Power has gone: nobody knows what has been done.
    Lost,
    /// The daemon failed though there was power.
    Broken(String),
}

pub(crate) fn configuration(disk: &Path) -> String {
    let plugins = programs().join("plugins");
    let (state, plugins) = (disk.join("state"), plugins.display());
    let state = state.display();
    let start = first_day().format("%Y-%m-%dT%H:%M:%SZ");
    let scopes = SCOPES.map(|scope| format!("\"{scope}\"")).join(", ");
    format!(
        "[daemon]\nstate_dir = \"{state}\"\nplugin_dirs = [\"{plugins}\"]\n\
         [api]\nlisten = \"127.0.0.1:0\"\n\
         [collect]\nschedule = \"* * * * * *\"\ncollector = \"source\"\nfetchers = [\"static\"]\n\
         metrics = \"metrics.toml\"\nperiod_secs = {PERIOD_SECS}\nwait_periods = {WAIT_PERIODS}\n\
         scope_key = \"project_id\"\nstart = \"{start}\"\n\
         [collect.retry]\ndelay_secs_min = 1\ndelay_secs_max = 2\n\
         [collectors.source]\nplugin = \"hostile\"\n\
         [fetchers.static]\nscopes = [{scopes}]\n\
         [rating.hashmap]\nenabled = true\n\
         [ledger]\ncompaction_percent = 100\n"
    )
}

/// The begin of the first day that is collected, the same during a test.
pub(crate) fn first_day() -> DateTime<Utc> {
    static DAY: OnceLock<DateTime<Utc>> = OnceLock::new();
    *DAY.get_or_init(|| {
        let today = now().with_hour(0).and_then(|time| time.with_minute(0));
        let today = today.and_then(|time| time.with_second(0)?.with_nanosecond(0));
        today.expect("every day has a begin") - TimeDelta::days(DAYS + WAIT_PERIODS)
    })
}

pub(crate) fn day(index: u64) -> DateTime<Utc> {
    first_day() + TimeDelta::days(i64::try_from(index).expect("a small number"))
}

/// The day of a date in the forms of the API.
pub(crate) fn day_index(text: &str) -> u64 {
    let date = DateTime::parse_from_rfc3339(text).expect("an ISO 8601 date");
    let secs = date.timestamp() - first_day().timestamp();
    u64::try_from(secs / PERIOD_SECS).expect("not before the first day")
}

/// How many days are due.
pub(crate) fn days_due() -> u64 {
    let secs = now().timestamp() - first_day().timestamp();
    u64::try_from(secs / PERIOD_SECS - WAIT_PERIODS).expect("the first day is past")
}
