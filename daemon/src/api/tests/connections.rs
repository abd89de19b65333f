//! Connections of callers who are slow, many, or gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::setup::empty;
use crate::config::ApiConfig;

const ALIVE: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
const HALF_A_HEAD: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\nX-Slow: ";

/// Long enough for a busy machine, short enough for a test.
const SHORT: Duration = Duration::from_secs(1);

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(change: impl FnOnce(&mut ApiConfig)) -> Server {
        let mut context = empty().context;
        let mut config = (*context.config).clone();
        change(&mut config.api);
        context.config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(crate::api::serve(listener, context, async {
            let _ = stopped.await;
        }));
        Server { address, stop, task }
    }

    async fn send(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
    }
}

/// All that comes until the other side closes or resets.
async fn read(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn half_heads_are_closed_and_hold_up_nobody() {
    let server = Server::start(|api| api.head_timeout = SHORT).await;
    let mut half_open = Vec::new();
    for _ in 0..100 {
        half_open.push(server.send(HALF_A_HEAD).await);
    }
    half_open.push(server.send("").await);

    let answer = read(server.send(ALIVE).await).await;

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for stream in half_open {
        assert_eq!(read(stream).await, "");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_after_its_answer() {
    let server = Server::start(|api| api.head_timeout = SHORT).await;

    let answer = read(server.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await).await;

    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_408() {
    let server = Server::start(|api| api.body_timeout = SHORT).await;
    let head = "POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\
                Content-Type: application/json\r\nConnection: close\r\n";
    let announced = format!("{head}Content-Length: 10\r\n\r\n{{");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n");

    for request in [announced, chunked] {
        let answer = read(server.send(&request).await).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("the body must be sent within 1 seconds"), "{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn who_finds_every_connection_taken_is_told() {
    let server = Server::start(|api| api.connections_max = 2).await;
    // An answer shows that a connection has its place.
    let mut taken = Vec::new();
    for _ in 0..2 {
        let mut stream = server.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut begin = [0; 13];
        stream.read_exact(&mut begin).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200 ");
        taken.push(stream);
    }

    let refused = read(server.send("").await).await;
    drop(taken.pop());
    let answer = loop {
        let answer = read(server.send(ALIVE).await).await;
        // The place is free when the server has seen the end of its connection.
        if answer.starts_with("HTTP/1.1 200 ") {
            break answer;
        }
        tokio::task::yield_now().await;
    };

    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(answer.ends_with("ok\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_requests_and_not_for_silence() {
    let server = Server::start(|_| {}).await;
    let silent = server.send("").await;
    let half_sent = "POST /v1/rating/quote HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\
                     Expect: 100-continue\r\n\r\n";
    let mut asking = server.send(half_sent).await;
    // The server asks for the body: the request is under way.
    let mut begin = [0; 25];
    asking.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 100 Continue\r\n\r\n");
    let address = server.address;

    server.stop.send(()).unwrap();
    assert_eq!(read(silent).await, "");
    asking.write_all(b"{}").await.unwrap();
    let answer = read(asking).await;
    server.task.await.unwrap();

    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_head_too_large_is_refused() {
    let server = Server::start(|_| {}).await;
    let many = "X-Bomb: 1\r\n".repeat(101);
    let large = format!("X-Bomb: {}\r\n", "x".repeat(64 * 1024));

    for (headers, query, status) in [
        (many.as_str(), String::new(), "431"),
        (large.as_str(), String::new(), "431"),
        ("", format!("?{}", "a".repeat(1024 * 1024)), "4"),
    ] {
        let request = format!(
            "GET /v1/report/total{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"
        );
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may have answered and closed before it was sent whole.
        let _ = stream.write_all(request.as_bytes()).await;
        let answer = read(stream).await;
        let refused = answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}"));
        assert!(refused, "{answer}");
    }
    server.stop().await;
}
