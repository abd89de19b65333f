//! Encryption of the listener.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rated_tests::{Daemon, wait_until};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use reqwest::Certificate;
use reqwest::blocking::Client;
use serde_json::Value;

use crate::site::{Site, client as rated, says};

const API: &str = "[api.tls]\ncert_file = \"cert.pem\"\nkey_file = \"key.pem\"\n";

/// Signed by itself.
struct Pair {
    certificate: String,
    key: String,
}

impl Pair {
    fn new() -> Pair {
        Pair::valid(2020, 2099)
    }

    fn valid(from: i32, to: i32) -> Pair {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(to, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn write(&self, site: &Site) {
        site.write("cert.pem", &self.certificate);
        site.write("key.pem", &self.key);
    }

    /// Trusts this one and nobody else.
    fn client(&self) -> Client {
        // Another test of the same process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let certificate = Certificate::from_pem(self.certificate.as_bytes()).unwrap();
        Client::builder()
            .tls_certs_only([certificate])
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .unwrap()
    }
}

fn is_answered(client: &Client, daemon: &Daemon) -> bool {
    client.get(format!("{}/healthz", daemon.url)).send().is_ok()
}

#[test]
fn a_new_certificate_comes_into_force_and_cuts_nobody_off() {
    let site = Site::new();
    let (first, second) = (Pair::new(), Pair::new());
    first.write(&site);
    let mut daemon = site.start(API);
    assert!(daemon.url.starts_with("https://"), "{}", daemon.url);
    let old = first.client();
    let root: Value =
        serde_json::from_str(&old.get(format!("{}/", daemon.url)).send().unwrap().text().unwrap())
            .unwrap();
    let link = root["versions"][0]["links"][0]["href"].as_str().unwrap();
    assert_eq!(link, format!("{}/v1", daemon.url));

    second.write(&site);
    daemon.process.signal("HUP");
    let new = wait_until("the new certificate is in force", || {
        let new = second.client();
        is_answered(&new, &daemon).then_some(new)
    });

    assert!(is_answered(&old, &daemon), "an open connection was cut off");
    assert!(!is_answered(&first.client(), &daemon), "the old certificate is still in force");

    // Mismatched: what was in force stays.
    site.write("cert.pem", &first.certificate);
    says(&mut daemon, "do not belong together");
    assert!(is_answered(&second.client(), &daemon));
    Pair::valid(2020, 2021).write(&site);
    says(&mut daemon, "expired on 2021-01-01");
    assert!(is_answered(&second.client(), &daemon));
    assert!(is_answered(&new, &daemon));
    assert!(!daemon.process.output().contains("PRIVATE KEY"));
    daemon.stop();
}

#[test]
fn an_unusable_pair_is_refused_at_the_start() {
    let site = Site::new();
    let pair = Pair::new();

    let text = site.fails(API);
    assert!(text.contains(&site.file("cert.pem")) && text.contains("No such file"), "{text}");
    pair.write(&site);
    site.write("key.pem", Pair::new().key);
    let text = site.fails(API);
    assert!(text.contains("do not belong together"), "{text}");
    Pair::valid(2020, 2021).write(&site);
    let text = site.fails(API);
    assert!(text.contains(&site.file("cert.pem")) && text.contains("expired on"), "{text}");
    let (succeeded, text) = rated(&["check", "--config", &site.file("rated.toml")], &[]);
    assert!(!succeeded && text.contains("expired on"), "{text}");
}

#[test]
fn a_key_that_everybody_can_read_is_worth_a_warning() {
    let site = Site::new();
    Pair::new().write(&site);

    let mut daemon = site.start(API);

    says(&mut daemon, "Everybody on this machine can read a secret file");
    says(&mut daemon, &site.file("key.pem"));
    daemon.stop();
}

#[test]
fn slow_handshakes_hold_up_nobody() {
    let site = Site::new();
    let pair = Pair::new();
    pair.write(&site);
    let daemon = site.start(&format!("head_timeout_secs = 1\nconnections_max = 40\n{API}"));
    let address = daemon.url.trim_start_matches("https://");
    // A handshake begins with 22; these say no more than that, or nothing.
    let mut slow: Vec<TcpStream> = (0..30)
        .map(|index| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&[22][..index % 2]).unwrap();
            stream
        })
        .collect();

    assert!(is_answered(&pair.client(), &daemon));

    for stream in &mut slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut rest = Vec::new();
        // Closed or reset, not waited for.
        let ended = stream.read_to_end(&mut rest);
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "a slow caller keeps its connection");
    }
    daemon.stop();
}

#[test]
fn plain_http_is_told_what_is_spoken() {
    let site = Site::new();
    Pair::new().write(&site);
    let daemon = site.start(API);
    let mut stream = TcpStream::connect(daemon.url.trim_start_matches("https://")).unwrap();

    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();

    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("this port speaks https\n"), "{answer}");
    daemon.stop();
}

#[test]
fn the_command_line_trusts_whom_it_is_told_to() {
    let site = Site::new();
    Pair::new().write(&site);
    let daemon = site.start(API);
    let list = ["module", "list", "--url", &daemon.url];
    let file = site.file("cert.pem");

    let (succeeded, text) = rated(&[&list[..], &["--ca-file", &file]].concat(), &[]);
    assert!(succeeded && text.contains("hashmap"), "{text}");
    let (succeeded, text) = rated(&list, &[("RATED_CA_FILE", &file)]);
    assert!(succeeded, "{text}");
    let (succeeded, text) = rated(&[&list[..], &["--ca-file", "/no/such"]].concat(), &[]);
    assert!(!succeeded && text.contains("/no/such") && text.contains("RATED_CA_FILE"), "{text}");
    // Somebody else's.
    site.write("other.pem", Pair::new().certificate);
    let (succeeded, text) = rated(&list, &[("RATED_CA_FILE", &site.file("other.pem"))]);
    assert!(!succeeded && text.contains("certificate"), "{text}");
    daemon.stop();
}
