//! Connections: taken up to a number, held to times, ended in order at the stop.
//!
//! A caller who is slow costs one connection for a known time. The head of a request and the
//! silence between two requests have one limit, an answer that nobody reads has another; a body has
//! its own where bodies are read. Who comes when every place is taken is told so at once.
//!
//! HTTP/1 only: clients of the API speak nothing else, and one protocol has one set of limits.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, error, warn};
use warp::http::{Request, Response};

/// Largest head of a request, bytes. A larger one is answered 431, a longer address 414.
const HEAD_SIZE_MAX: usize = 64 * 1024;

/// Most bytes that are read from a connection before somebody wants them.
const BUFFER_SIZE_MAX: usize = 128 * 1024;

/// Most headers of a request. More are answered 431.
const HEADERS_MAX: usize = 100;

/// How long an answer may lie unread before its connection is cut.
const UNREAD_TIMEOUT: Duration = Duration::from_mins(2);

/// How long nobody is let in after the system had no connection to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What those hear for whom there is no place.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
                             Content-Length: 0\r\nConnection: close\r\n\r\n";

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    /// For the head of a request, and for the silence before the next one.
    pub(super) head_timeout: Duration,
}

/// Serves connections until `stop` resolves, then waits for those that have a request under way.
pub(super) async fn run<S, B>(
    listener: TcpListener,
    limits: Limits,
    service: S,
    stop: impl Future<Output = ()>,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let server = server(limits.head_timeout);
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let mut is_full = false;
    let connections = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                pause_after(error).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            // Told once, not for everybody who comes.
            if !std::mem::replace(&mut is_full, true) {
                warn!(limits.connections_max, "Every connection is taken, callers are sent away.");
            }
            // A new connection takes so few bytes at once; who is gone already misses nothing.
            let _ = stream.try_write(TURNED_AWAY);
            continue;
        };
        is_full = false;
        cut_when_unread(&stream);
        let connection = server.serve_connection(TokioIo::new(stream), service.clone());
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                debug!(%error, "A connection ended early.");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

fn server(head_timeout: Duration) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_header_size(HEAD_SIZE_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(BUFFER_SIZE_MAX);
    server
}

/// The kernel watches: it knows what was sent and not taken, and we need no timer for each write.
fn cut_when_unread(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(Some(UNREAD_TIMEOUT)) {
        debug!(%error, "A connection has no limit for what lies unread.");
    }
}

/// A caller who was gone before he was let in is nothing; a system without room is waited for.
async fn pause_after(error: io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        error!(%error, "No connection can be accepted at the moment.");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}
