//! Connections: taken up to a number, held to times, ended in order at the stop.
//!
//! A caller who is slow costs one connection for a known time. The head of a request and the
//! silence between two requests have one limit, an answer that nobody reads has another; a body has
//! its own where bodies are read. Who comes when every place is taken is told so at once.
//!
//! With a certificate, agreeing on the encryption takes place and time of a connection as the head
//! of a request does. Who speaks plain HTTP there is told so.
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
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::server::TlsStream;
use tracing::{debug, error, warn};
use warp::http::{Request, Response};

use super::tls::Tls;

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

/// What those hear who speak plain HTTP where encryption is spoken.
const ENCRYPTED_ONLY: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
                                Content-Length: 23\r\nConnection: close\r\n\r\n\
                                this port speaks https\n";

/// Where connections come in, and how.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Arc<Tls>>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    /// For the head of a request, and for the silence before the next one.
    pub(super) head_timeout: Duration,
}

/// Serves connections until `stop` resolves, then waits for those that have a request under way.
pub(super) async fn run<S, B>(
    port: Port,
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
    let Port { listener, tls } = port;
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let mut is_full = false;
    let connections = GracefulShutdown::new();
    let (stopping, is_stopping) = watch::channel(false);
    let door = Door { server: server(limits.head_timeout), service, limits, tls, is_stopping };
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
            if door.tls.is_none() {
                // A new connection takes so few bytes at once; who is gone already misses nothing.
                let _ = stream.try_write(TURNED_AWAY);
            }
            continue;
        };
        is_full = false;
        cut_when_unread(&stream);
        let (door, watcher) = (door.clone(), connections.watcher());
        tokio::spawn(async move {
            let _place = place;
            door.let_in(stream, watcher).await;
        });
    }
    drop(listener);
    // Nobody is left to hear it when no connection is open.
    let _ = stopping.send(true);
    drop(door);
    connections.shutdown().await;
}

/// What every connection needs.
#[derive(Clone)]
struct Door<S> {
    server: http1::Builder,
    service: S,
    limits: Limits,
    tls: Option<Arc<Tls>>,
    is_stopping: watch::Receiver<bool>,
}

impl<S, B> Door<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    async fn let_in(self, stream: TcpStream, watcher: Watcher) {
        let Some(tls) = self.tls.clone() else { return self.serve(stream, watcher).await };
        let mut is_stopping = self.is_stopping.clone();
        let encrypted = tokio::select! {
            encrypted = tokio::time::timeout(self.limits.head_timeout, encrypt(&tls, stream)) => {
                encrypted
            }
            // Nothing was asked yet, so nothing is lost.
            _ = is_stopping.wait_for(|stopping| *stopping) => return,
        };
        match encrypted {
            Ok(Ok(stream)) => self.serve(stream, watcher).await,
            Ok(Err(error)) => debug!(%error, "A connection could not be encrypted."),
            Err(_) => debug!("A connection took too long to be encrypted."),
        }
    }

    async fn serve<I>(self, stream: I, watcher: Watcher)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.server.serve_connection(TokioIo::new(stream), self.service);
        if let Err(error) = watcher.watch(connection).await {
            debug!(%error, "A connection ended early.");
        }
    }
}

async fn encrypt(tls: &Tls, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A handshake begins with 22, a request with a letter.
    if first[0].is_ascii_uppercase() {
        // What was not read when the connection ends would make the system take back our answer.
        let _ = stream.try_read(&mut [0; 16 * 1024]);
        let _ = stream.try_write(ENCRYPTED_ONLY);
        return Err(io::Error::other("it speaks plain HTTP"));
    }
    tls.acceptor().accept(stream).await
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
