//! A daemon that has nothing to do but answer, and what is sent to it byte by byte.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use chrono::DateTime;
use rated_tests::{Config, Daemon};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const HASHMAP: &str = "/v1/rating/module_config/hashmap";
pub(crate) const MIB: usize = 1024 * 1024;

/// Longer than every limit of the daemon.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Site {
    pub(crate) daemon: Daemon,
    _folder: TempDir,
}

impl Site {
    /// Nobody to bill, nothing to collect: only the API is at work.
    pub(crate) fn start(api: &str) -> Site {
        let folder = TempDir::new().unwrap();
        let metrics = "[[metric]]\nname = \"cpu\"\nunit = \"s\"\n";
        fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
        let start = DateTime::from_timestamp(1_700_000_000 - 1_700_000_000 % 3600, 0).unwrap();
        let config = Config::prometheus("http://127.0.0.1:9", start).without_scopes();
        let file = config.write(folder.path());
        let text = config.text().replace("[api]\n", &format!("[api]\n{api}"));
        fs::write(&file, text).unwrap();
        Site { daemon: Daemon::start(&file), _folder: folder }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let address = self.daemon.url.strip_prefix("http://").unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// All that comes back until the connection is closed.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // The daemon may have answered and closed before it has read everything.
        let _ = stream.write_all(request);
        rest(&mut stream)
    }

    /// Status and body of a request that closes its connection.
    pub(crate) fn send(
        &self,
        method: &str,
        target: &str,
        kind: &str,
        body: &[u8],
    ) -> (u16, String) {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\
             Connection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = self.raw(&[head.as_bytes(), body].concat());
        status_and_body(&answer)
    }

    pub(crate) fn get(&self, target: &str) -> (u16, String) {
        self.send("GET", target, "application/json", b"")
    }

    /// The daemon is as well as before.
    pub(crate) fn is_well(&self) {
        assert_eq!(self.get("/healthz").0, 200);
        assert_eq!(self.get("/readyz").0, 200);
    }

    pub(crate) fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.process.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub(crate) fn service(&self) -> String {
        let made = self.daemon.post(&format!("{HASHMAP}/services"), &json!({"name": "compute"}));
        made.expect(201)["service_id"].as_str().unwrap().to_owned()
    }
}

/// A reset is an end as well; silence is not.
pub(crate) fn rest(stream: &mut TcpStream) -> String {
    let begin = Instant::now();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(begin.elapsed() < PATIENCE, "no end: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status 0 is a connection that was closed without an answer.
pub(crate) fn status_and_body(answer: &str) -> (u16, String) {
    if answer.is_empty() {
        return (0, String::new());
    }
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status.unwrap_or_else(|| panic!("no status: {answer}")), body.unwrap_or_default())
}

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[track_caller]
pub(crate) fn refused((status, body): (u16, String), what: &str) {
    assert!((400..500).contains(&status), "{what}: {status} {}", shortened(&body));
    let says = ["faultstring", "message", "title"];
    let document: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    let is_said = says.iter().any(|name| document[name].is_string());
    assert!(is_said || body.starts_with("<!doctype html>"), "{what}: {}", shortened(&body));
}
