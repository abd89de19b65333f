//! Answers that are sent while they are made.
//!
//! What fits one chunk is an answer like any other. A longer one is on its way when its end is not
//! known yet: when the job then fails, the connection breaks, so that nobody takes what has arrived
//! for all. A job holds a thread; a caller that stops reading, or goes away, ends it.

use std::fmt;
use std::io;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::warn;

use super::answer::AnswerBody;
use super::context::{Context, LongCall};
use super::failure::Failure;
use crate::ledger::Ledger;

/// Bytes sent at once.
const CHUNK_SIZE: usize = 64 << 10;

/// Most chunks that wait for the caller to read them.
const CHUNKS_WAITING_MAX: usize = 4;

/// How long a caller may take to read a chunk.
const CALLER_PAUSE_MAX: Duration = Duration::from_secs(30);

/// How long a caller may take to read all of an answer, our own time not counted.
const CALLER_PAUSES_MAX: Duration = Duration::from_mins(10);

enum Part {
    /// All there is.
    Whole(Vec<u8>),
    Chunk(Vec<u8>),
    /// After chunks only.
    End,
    Failed(Failure),
}

/// Runs a job that writes the body of an answer.
///
/// A job that cannot write any more ends with what [`Outgoing::stopped`] says.
pub(crate) async fn send<F>(
    context: &Context,
    content_type: &str,
    job: F,
) -> Result<AnswerBody, Failure>
where
    F: FnOnce(&dyn Ledger, &mut Outgoing) -> Result<(), Failure> + Send + 'static,
{
    let (sender, mut parts) = mpsc::channel(CHUNKS_WAITING_MAX);
    let runtime = Handle::current();
    let (chunk, waited) = (Vec::new(), Duration::ZERO);
    let mut outgoing = Outgoing { runtime, sender, chunk, sent: Sent::Nothing, waited };
    let job = context.ledger_for_long(LongCall::WritesAnswer, move |ledger| {
        let result = job(ledger, &mut outgoing);
        outgoing.end(result);
        Ok(())
    });
    let mut job = tokio::spawn(job);
    let first = tokio::select! {
        biased;
        part = parts.recv() => part,
        ended = &mut job => match ended {
            Ok(Err(failure)) => return Err(failure),
            _ => parts.recv().await,
        },
    };
    let content_type = content_type.to_owned();
    match first {
        Some(Part::Whole(bytes)) => Ok(AnswerBody::Ready { content_type, bytes: bytes.into() }),
        Some(Part::Chunk(chunk)) => {
            Ok(AnswerBody::Chunks { content_type, chunks: Chunks { first: Some(chunk), parts } })
        }
        Some(Part::Failed(failure)) => Err(failure),
        // A panic; the job says more.
        Some(Part::End) | None => match job.await {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::internal("an answer has no end")),
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Nothing,
    Chunks,
    /// The caller is gone, or has not read for long.
    InVain,
}

/// Where a job writes to.
pub(crate) struct Outgoing {
    runtime: Handle,
    sender: mpsc::Sender<Part>,
    chunk: Vec<u8>,
    sent: Sent,
    /// For the caller.
    waited: Duration,
}

impl Outgoing {
    /// Whether writing has become pointless.
    pub(crate) fn is_stopped(&self) -> bool {
        self.sent == Sent::InVain
    }

    /// Sends what was written so far, however little it is: somebody waits for it.
    pub(crate) fn send_now(&mut self) -> io::Result<()> {
        if !self.chunk.is_empty() {
            let chunk = std::mem::take(&mut self.chunk);
            self.put(Part::Chunk(chunk));
        }
        if self.is_stopped() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn end(mut self, result: Result<(), Failure>) {
        let rest = std::mem::take(&mut self.chunk);
        match (result, self.sent) {
            (_, Sent::InVain) => {}
            (Err(failure), _) => self.put(Part::Failed(failure)),
            (Ok(()), Sent::Nothing) => self.put(Part::Whole(rest)),
            (Ok(()), Sent::Chunks) => {
                self.put(Part::Chunk(rest));
                self.put(Part::End);
            }
        }
    }

    fn put(&mut self, part: Part) {
        if self.is_stopped() {
            return;
        }
        let begin = Instant::now();
        let left = CALLER_PAUSES_MAX.saturating_sub(self.waited);
        let sent = self
            .runtime
            .block_on(async { timeout(left.min(CALLER_PAUSE_MAX), self.sender.send(part)).await });
        self.waited += begin.elapsed();
        self.sent = match sent {
            Ok(Ok(())) => Sent::Chunks,
            Ok(Err(_)) | Err(_) => Sent::InVain,
        };
    }
}

impl io::Write for Outgoing {
    /// Fails once nobody reads.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.capacity() == 0 {
            self.chunk.reserve(CHUNK_SIZE);
        }
        self.chunk.extend_from_slice(bytes);
        if self.chunk.len() >= CHUNK_SIZE {
            let chunk = std::mem::take(&mut self.chunk);
            self.put(Part::Chunk(chunk));
        }
        if self.is_stopped() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a job has written, and will.
pub(crate) struct Chunks {
    first: Option<Vec<u8>>,
    parts: mpsc::Receiver<Part>,
}

/// An answer that has begun will not be finished.
#[derive(Debug, thiserror::Error)]
#[error("the answer could not be finished")]
pub(crate) struct Unfinished;

impl Chunks {
    pub(crate) fn into_stream(
        mut self,
    ) -> impl Stream<Item = Result<Bytes, Unfinished>> + Send + Sync + 'static {
        let mut ended = false;
        futures_util::stream::poll_fn(move |task| self.poll(task, &mut ended))
    }

    fn poll(
        &mut self,
        task: &mut TaskContext<'_>,
        ended: &mut bool,
    ) -> Poll<Option<Result<Bytes, Unfinished>>> {
        if *ended {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first.into())));
        }
        let part = std::task::ready!(self.parts.poll_recv(task));
        *ended = !matches!(part, Some(Part::Chunk(_)));
        Poll::Ready(match part {
            Some(Part::Chunk(chunk)) => Some(Ok(chunk.into())),
            Some(Part::End) => None,
            Some(Part::Failed(failure)) => {
                let error = failure.log_text().unwrap_or("refused while it was sent");
                warn!(error, "An answer broke off, its connection is cut.");
                Some(Err(Unfinished))
            }
            Some(Part::Whole(_)) | None => {
                warn!("An answer broke off, its connection is cut.");
                Some(Err(Unfinished))
            }
        })
    }
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chunks")
    }
}
