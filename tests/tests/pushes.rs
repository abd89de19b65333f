//! Large pushes: all of it or nothing, in far less memory than a document of it would take.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::time::Duration;

use rated_tests::{Config, Daemon, DataSet, Exact};
use reqwest::blocking::Client;
use serde_json::json;
use tempfile::TempDir;

const MEBIBYTE: usize = 1 << 20;
const BODY_SIZE: usize = 50 * MEBIBYTE;
const MACHINES: usize = 1000;

/// A daemon that nobody is to be billed by but those who are pushed.
fn daemon(folder: &Path) -> Daemon {
    let data = DataSet::ending_lately(1, 1, 1, 1);
    fs::write(folder.join("metrics.toml"), data.metrics_toml()).unwrap();
    let config = Config::prometheus("http://127.0.0.1:9", data.begin).without_scopes();
    Daemon::start(&config.write(folder))
}

/// Hours of machines until the size is reached, and how many points they are.
fn large_body() -> (String, usize) {
    let mut body = String::with_capacity(BODY_SIZE + MEBIBYTE);
    let mut points = 0;
    for hour in 0.. {
        let begin = format!("2019-07-{:02}T{:02}:00:00+00:00", 1 + hour / 24, hour % 24);
        let end = format!("2019-07-{:02}T{:02}:59:59+00:00", 1 + hour / 24, hour % 24);
        let comma = if hour == 0 { r#"{"dataframes": ["# } else { ", " };
        let period = format!(r#"{{"begin": "{begin}", "end": "{end}"}}"#);
        write!(body, r#"{comma}{{"period": {period}, "usage": {{"instance": ["#).unwrap();
        for machine in 0..MACHINES {
            let comma = if machine == 0 { "" } else { ", " };
            let project = machine % 50;
            write!(
                body,
                r#"{comma}{{"vol": {{"unit": "instance", "qty": 1.{machine:03}}},
"rating": {{"price": 0.{machine:05}}},
"groupby": {{"project_id": "8f82cc70e50c466e8624{project:012}",
"id": "7606a24a-b8ad-4ae0-be6c-{machine:012}"}},
"metadata": {{"flavor": "m1.large", "zone": "nova"}}}}"#
            )
            .unwrap();
            points += 1;
        }
        body.push_str("]}}");
        if body.len() >= BODY_SIZE {
            break;
        }
    }
    body.push_str("]}");
    (body, points)
}

fn client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().timeout(Duration::from_mins(5)).no_proxy().build().unwrap()
}

/// A figure of the daemon's memory, bytes.
fn memory(daemon: &Daemon, figure: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)).unwrap();
    let kibibytes: usize = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
    kibibytes * 1024
}

/// How far the daemon's memory grows while something is done.
fn growth<T>(daemon: &Daemon, act: impl FnOnce() -> T) -> (T, usize) {
    // The highest mark begins anew.
    fs::write(format!("/proc/{}/clear_refs", daemon.process.id()), "5").unwrap();
    let before = memory(daemon, "VmRSS");
    let result = act();
    (result, memory(daemon, "VmHWM").saturating_sub(before))
}

#[test]
fn a_large_push_is_kept_whole_in_little_memory() {
    let folder = TempDir::new().unwrap();
    let daemon = daemon(folder.path());
    let (body, points) = large_body();
    let size = body.len();
    let url = format!("{}/v2/dataframes", daemon.url);
    let client = client();
    let push = || {
        let request = client.post(&url).header("Content-Type", "application/json").body(body);
        request.send().unwrap().status().as_u16()
    };

    let (status, pushed) = growth(&daemon, push);

    assert_eq!(status, 204, "{}", daemon.process.output());
    println!("{points} points, {size} bytes: the daemon grew by {pushed}");
    // As a document of JSON values they would take more than ten times their text; in columns they
    // take about half of it, and the text itself is not kept.
    assert!(pushed < size, "grew by {pushed} for {size} bytes");

    let range = "begin=2019-07-01&end=2019-08-01";
    let page = daemon.get(&format!("/v2/dataframes?limit=1&{range}"));
    assert_eq!(page["total"], json!(points));
    let summary = daemon.get(&format!("/v2/summary?{range}"));
    let hours = points / MACHINES;
    let thousandths = hours * (0..MACHINES).map(|machine| 1000 + machine).sum::<usize>();
    let expected = Exact::parse(&format!("{thousandths}e-3"));
    assert_eq!(Exact::parse(&summary["results"][0][2].to_string()), expected);

    let read = || {
        let request = client.get(format!("{url}?{range}")).header("Accept", "text/csv");
        BufReader::new(request.send().unwrap()).lines().map(Result::unwrap).count()
    };
    let (lines, shown) = growth(&daemon, read);
    assert_eq!(lines, points + 1);
    println!("as CSV: the daemon grew by {shown}");
    assert!(shown < size / 2, "grew by {shown} to show {points} points");
    daemon.stop();
}

#[test]
fn what_breaks_off_or_is_too_large_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let daemon = daemon(folder.path());
    let address = daemon.url.strip_prefix("http://").unwrap();
    let point = r#"{"vol": {"unit": "x", "qty": 1}, "groupby": {}, "metadata": {}}"#;
    let period = r#"{"begin": "2019-07-23T12:00:00", "end": "2019-07-23T13:00:00"}"#;
    let body =
        format!(r#"{{"dataframes": [{{"period": {period}, "usage": {{"m": [{point}]}}}}]}}"#);
    let send = |announced: usize| {
        let mut stream = TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v2/dataframes HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\
             Content-Length: {announced}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        if announced > body.len() {
            stream.shutdown(Shutdown::Write).unwrap();
        }
        let mut answer = String::new();
        // The daemon may close without a word.
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let total = || {
        let client = client();
        let url = format!("{}/v2/dataframes?begin=2019-07-01&end=2019-08-01", daemon.url);
        client.get(url).send().unwrap().status().as_u16()
    };

    let cut = send(body.len() + 1);
    let large = send(65 * MEBIBYTE);

    assert!(!cut.starts_with("HTTP/1.1 2"), "{cut}");
    assert!(large.starts_with("HTTP/1.1 413 "), "{large}");
    assert_eq!(total(), 404);
    assert!(send(body.len()).starts_with("HTTP/1.1 204 "));
    assert_eq!(total(), 200);
    daemon.stop();
}
