//! Asks a daemon that may be gone at any moment.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use rated_tests::{Answer, PATIENCE, Process, send_with};
use reqwest::Method;
use serde_json::Value;

/// The daemon has ended: whoever drives it gives up.
#[derive(Debug)]
pub(crate) struct Gone;

pub(crate) type Driven<T> = Result<T, Gone>;

/// How long one that breaks a connection off may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// A daemon under way.
#[derive(Debug)]
pub(crate) struct Client {
    process: Process,
    program: PathBuf,
    url: String,
}

impl Client {
    /// Starts a daemon and does not wait for it. `kill_at` is a step and a count.
    pub(crate) fn spawn(program: &Path, config: &Path, kill_at: Option<&str>, log: &str) -> Client {
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config).env("RATED_LOG", log);
        if let Some(kill_at) = kill_at {
            command.env("RATED_KILL_AT", kill_at);
        }
        let (program, url) = (program.to_owned(), String::new());
        Client { process: Process::start("rated", &mut command), program, url }
    }

    /// Waits until it serves.
    pub(crate) fn serves(&mut self) -> Driven<()> {
        let begin = Instant::now();
        loop {
            if let Some((_, rest)) = self.process.output().split_once("api=http") {
                let (rest, _) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                self.url = format!("http{rest}");
                return Ok(());
            }
            if !self.process.is_running() {
                return Err(Gone);
            }
            assert!(begin.elapsed() < PATIENCE, "does not serve:\n{}", self.process.output());
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Kills a process that the daemon has started for this plugin.
    pub(crate) fn kill_child(&self, label: &str) {
        let is_it = |(_, arguments): &&(u32, String)| arguments.trim_end().ends_with(label);
        let running = crate::site::running(&self.program);
        // It may be between two processes.
        if let Some((id, _)) = running.iter().find(is_it) {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
        }
    }

    /// How it ended; it must, and soon.
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.process.wait(END_PATIENCE)
    }

    pub(crate) fn terminate(&self) {
        self.process.signal("TERM");
    }

    pub(crate) fn output(&self) -> String {
        self.process.output()
    }

    pub(crate) fn call(
        &mut self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Driven<Answer> {
        self.call_with(method, path, &[], body)
    }

    pub(crate) fn call_with(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Driven<Answer> {
        let url = format!("{}{path}", self.url);
        match send_with(method, &url, headers, body) {
            Ok(answer) => Ok(answer),
            Err(error) => {
                let begin = Instant::now();
                while self.process.is_running() {
                    let said = self.output();
                    assert!(begin.elapsed() < END_PATIENCE, "{method} {path}: {error}\n{said}");
                    thread::sleep(Duration::from_millis(2));
                }
                Err(Gone)
            }
        }
    }

    /// What is there; a status of 404 is an empty answer.
    pub(crate) fn get(&mut self, path: &str) -> Driven<Value> {
        let answer = self.call(&Method::GET, path, None)?;
        Ok(if answer.status == 404 { Value::Null } else { answer.expect(200) })
    }

    /// A request that must be answered with one of these.
    pub(crate) fn say(
        &mut self,
        method: &Method,
        path: &str,
        body: &Value,
        statuses: &[u16],
    ) -> Driven<Value> {
        let answer = self.call(method, path, Some(body))?;
        let status = answer.status;
        assert!(statuses.contains(&status), "{method} {path}: {status} {}", answer.text);
        Ok(if answer.text.is_empty() { Value::Null } else { answer.json() })
    }

    /// Asks until it is so.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&mut Client) -> Driven<bool>,
    ) -> Driven<()> {
        let begin = Instant::now();
        while !is_so(self)? {
            let said = self.output();
            assert!(begin.elapsed() < PATIENCE, "waited in vain: {what}\n{said}");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
