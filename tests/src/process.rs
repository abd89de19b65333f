//! Child processes that end with the test.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Longest wait for anything a test waits for.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A running child; killed when dropped. What it prints is kept for the message of a failing test.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: [JoinHandle<()>; 2],
}

/// How long the last of what an ended process printed may be on its way.
const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Process {
    pub fn start(name: &str, command: &mut Command) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let readers = [
            keep_lines(child.stdout.take().expect("piped"), Arc::clone(&output)),
            keep_lines(child.stderr.take().expect("piped"), Arc::clone(&output)),
        ];
        Process { name: name.to_owned(), child, output, readers }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Most memory that it ever had, bytes, as the kernel counts it.
    pub fn memory_peak(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        kib.expect("the kernel says so") * 1024
    }

    /// Everything printed so far, both streams.
    pub fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `find` finds something in what the process printed.
    pub fn wait_for_output<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = find(&self.output()) {
                return found;
            }
            let ended = self.child.try_wait().expect("the child can be waited for");
            if let Some(status) = ended {
                self.read_to_end();
                if let Some(found) = find(&self.output()) {
                    return found;
                }
                panic!("{} ended ({status}) before {what}:\n{}", self.name, self.output());
            }
            assert!(start.elapsed() < PATIENCE, "{}: no {what}:\n{}", self.name, self.output());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for what an ended process printed last. A grandchild may hold the pipes longer.
    fn read_to_end(&self) {
        let start = Instant::now();
        while !self.readers.iter().all(JoinHandle::is_finished) && start.elapsed() < READ_PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, then reaps.
    pub fn kill(&mut self) {
        // Already ended is as good as killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by name (`TERM`, `HUP`, `INT`, `STOP`, `CONT`).
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.id().to_string()])
            .status()
            .expect("`kill` is there");
        assert!(status.success(), "cannot signal {}", self.name);
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the child can be waited for").is_none()
    }

    /// Waits for the end; panics when it takes longer than `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                self.read_to_end();
                return status;
            }
            assert!(start.elapsed() < limit, "{} does not end:\n{}", self.name, self.output());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("---- {} ----\n{}", self.name, last_lines(&self.output(), 60));
        }
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn keep_lines(stream: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            writeln!(output, "{line}").expect("writing to a string");
        }
    })
}

/// Runs a command to its end: whether it succeeded, and what it printed on both streams.
pub fn run(command: &mut Command) -> (bool, String) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// Asks until `ask` has an answer.
pub fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
