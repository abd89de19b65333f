//! The HTTP service, against a server that answers as told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rated_plugin::{Request, Status};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::support::World;

/// Speaks TLS, asks for a client certificate, answers one request with `pong`.
fn serve_encrypted() -> SocketAddr {
    let (authority, chain, key) = (certificates("authority"), certificates("server"), key());
    let mut roots = RootCertStore::empty();
    roots.add(authority[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = ServerConnection::new(config.clone()).unwrap();
            let mut stream = StreamOwned::new(tls, connection.unwrap());
            let mut asked = Vec::new();
            let mut part = [0; 1024];
            // A client that is turned away ends the conversation.
            while let Ok(length @ 1..) = stream.read(&mut part) {
                asked.extend_from_slice(&part[..length]);
                if asked.ends_with(b"ping") {
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong").unwrap();
                    break;
                }
            }
        }
    });
    address
}

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plugin/testdata").join(name)
}

fn certificates(name: &str) -> Vec<CertificateDer<'static>> {
    let file = testdata(&format!("{name}.pem"));
    CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect()
}

fn key() -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(testdata("server.key.pem")).unwrap()
}

/// Answers every connection with `answer`, then keeps it open; returns what it was asked first.
fn serve(answer: &'static [u8]) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"ping") {
                let mut part = [0; 1024];
                let length = connection.read(&mut part).unwrap();
                asked.extend_from_slice(&part[..length]);
            }
            // The test may have ended.
            let _ = sender.send(String::from_utf8(asked).unwrap());
            connection.write_all(answer).unwrap();
            open.push(connection);
        }
    });
    (address, receiver)
}

fn send(world: &World, url: &str, options: &Value) -> Result<Value, (Status, String)> {
    let host = world.hostile(world.hasty(), &[("one", "")]).unwrap();
    let plugins = host.generation();
    let body = json!({"url": url, "options": options}).to_string();
    let request = Request::post("/send", body);
    let answer = world.wait(plugins.module("one").unwrap().handle(request));
    let answer = answer.map_err(|failure| (failure.status(), failure.to_string()))?;
    Ok(serde_json::from_slice(&answer.body).unwrap())
}

#[test]
fn a_request_goes_out_and_its_answer_comes_back() {
    let world = World::new();
    let (address, asked) = serve(
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nX-A: 1\r\nX-A: 2\r\n\
          Content-Length: 4\r\n\r\npong",
    );

    let answer = send(&world, &format!("http://{address}/x?y=1"), &json!(null)).unwrap();

    assert_eq!(answer["status"], 302, "redirects are not followed");
    assert_eq!(answer["body"], "pong");
    assert_eq!(answer["headers"]["x-a"], "1, 2");
    let asked = asked.recv().unwrap();
    assert!(asked.starts_with("POST /x?y=1 HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("authorization: Bearer secret\r\n"), "{asked}");
    assert!(asked.contains("user-agent: rated/"), "{asked}");
}

#[test]
fn a_body_that_is_too_long_is_not_taken() {
    let world = World::new();
    let (address, _asked) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\npongs");

    let options = json!({"body_size_max": 4});
    let (status, text) = send(&world, &format!("http://{address}/"), &options).unwrap_err();

    assert_eq!(status, Status::BadData);
    assert!(text.contains("longer than 4 bytes"), "{text}");
}

#[test]
fn a_server_that_never_answers_ends_with_the_calls_deadline() {
    let world = World::new();
    let (address, _asked) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\np");
    let begin = Instant::now();

    let (status, text) = send(&world, &format!("http://{address}/"), &json!(null)).unwrap_err();

    assert_eq!(status, Status::Timeout, "{text}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "0");
}

#[test]
fn errors_name_the_server_and_no_secrets() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);

    let url = format!("http://user:secret@{address}/secret?token=secret");
    let (status, text) = send(&world, &url, &json!(null)).unwrap_err();

    assert_eq!(status, Status::Unavailable);
    assert!(text.contains(&format!("http://{address}")), "{text}");
    assert!(text.contains("refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_request_that_cannot_be_sent_says_why() {
    let world = World::new();
    let check = |url: &str, options: Value, status: Status, expected: &str| {
        let (found, text) = send(&world, url, &options).unwrap_err();
        assert_eq!(found, status, "{text}");
        assert!(text.contains(expected), "{text}");
    };
    let none = || json!(null);

    check("file:///etc/passwd", none(), Status::InvalidRequest, "the scheme `file`");
    check("not a url", none(), Status::InvalidRequest, "the URL of a request cannot be read");
    let half = json!({"cert_file": "/x"});
    check("https://localhost/", half, Status::InvalidConfig, "needs both");
    let absent = json!({"ca_file": "/absent/ca.pem"});
    check("https://localhost/", absent, Status::InvalidConfig, "cannot read `/absent/ca.pem`");
}

#[test]
fn servers_and_clients_are_known_by_their_certificates() {
    let world = World::new();
    let url = format!("https://{}/", serve_encrypted());
    let of = |name: &str| testdata(name).to_str().unwrap().to_owned();
    let (authority, cert, key) = (of("authority.pem"), of("client.pem"), of("client.key.pem"));

    let known = json!({"ca_file": authority, "cert_file": cert, "key_file": key});
    let answer = send(&world, &url, &known).unwrap();
    assert_eq!(answer["body"], "pong");

    let strange = json!({"ca_file": cert, "cert_file": cert, "key_file": key});
    let (status, text) = send(&world, &url, &strange).unwrap_err();
    assert_eq!(status, Status::Unavailable);
    assert!(text.contains("certificate"), "{text}");

    let anonymous = json!({"ca_file": authority});
    let (status, _) = send(&world, &url, &anonymous).unwrap_err();
    // In TLS 1.3 the server refuses after the client's handshake is done, and that may get lost.
    assert!(matches!(status, Status::Unavailable | Status::Timeout), "{status:?}");

    let keyless = json!({"ca_file": authority, "cert_file": cert, "key_file": cert});
    let (status, text) = send(&world, &url, &keyless).unwrap_err();
    assert_eq!(status, Status::InvalidConfig, "{text}");
}
