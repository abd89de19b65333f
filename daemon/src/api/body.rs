//! Bodies of requests: read whole, or handed to a job while they come in.
//!
//! A body has a size and a time, and so has every pause in it. A job that reads a body holds a
//! thread; what a caller sends at once is waited for without one.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use warp::http::{HeaderMap, StatusCode, header};

use super::call::Call;
use super::context::{Context, LongCall};
use super::failure::Failure;
use crate::ledger::Ledger;

/// So much of a streamed body, or all of it, is waited for before a thread begins to read.
const HEAD_SIZE: usize = 64 << 10;

/// Most parts of a body that wait to be read, as large as the connection delivers them.
const PARTS_WAITING_MAX: usize = 4;

pub(crate) type BodyStream = BoxStream<'static, Result<Bytes, BrokenOff>>;

/// The connection ended before the body did.
#[derive(Debug)]
pub(crate) struct BrokenOff;

/// How much a body may have, and how long it may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) size_max: usize,
    /// For one pause.
    pub(crate) longest_pause: Duration,
    /// For all of it, without the time that our side takes.
    pub(crate) time_max: Duration,
}

impl BodyLimits {
    /// Of a body that is read whole.
    pub(crate) fn whole(size_max: usize, time_max: Duration) -> BodyLimits {
        BodyLimits { size_max, longest_pause: time_max, time_max }
    }
}

/// A body that has not been read, to be taken once.
#[derive(Default)]
pub(crate) struct Unread(Mutex<Option<BodyStream>>);

impl Unread {
    pub(crate) fn new(body: BodyStream) -> Unread {
        Unread(Mutex::new(Some(body)))
    }

    fn take(&self) -> Option<BodyStream> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unread")
    }
}

/// The whole body.
pub(crate) async fn read_whole(
    headers: &HeaderMap,
    body: BodyStream,
    limits: BodyLimits,
) -> Result<Bytes, Failure> {
    let mut source = Source::new(headers, body, limits)?;
    let mut bytes = BytesMut::new();
    while let Some(part) = source.next().await? {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.freeze())
}

/// Runs a job that reads the call's body while it comes in. When the body breaks off the job sees
/// an error of the reader, and the caller is told why.
pub(crate) async fn receive<T, F>(
    context: &Context,
    call: &Call,
    limits: BodyLimits,
    job: F,
) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce(&dyn Ledger, &mut BodyReader) -> Result<T, Failure> + Send + 'static,
{
    let body = call.unread.take().ok_or_else(|| Failure::internal("the body is read twice"))?;
    let mut source = Source::new(&call.headers, body, limits)?;
    let mut head = VecDeque::new();
    while source.size < HEAD_SIZE
        && let Some(part) = source.next().await?
    {
        head.push_back(part);
    }
    let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
    let mut reader = BodyReader { ready: head, parts, ended: false };
    let job = context.ledger_for_long(LongCall::ReadsBody, move |ledger| job(ledger, &mut reader));
    let (result, fed) = tokio::join!(job, source.feed(sender));
    fed?;
    result
}

/// A body on its way in, within its limits.
struct Source {
    body: BodyStream,
    limits: BodyLimits,
    size: usize,
    waited: Duration,
}

impl Source {
    fn new(headers: &HeaderMap, body: BodyStream, limits: BodyLimits) -> Result<Source, Failure> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let announced = announced.and_then(|text| text.parse::<usize>().ok());
        if announced.is_some_and(|size| size > limits.size_max) {
            return Err(too_large(limits.size_max));
        }
        Ok(Source { body, limits, size: 0, waited: Duration::ZERO })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        let left = self.limits.time_max.saturating_sub(self.waited);
        let begin = Instant::now();
        let part = timeout(left.min(self.limits.longest_pause), self.body.next()).await;
        self.waited += begin.elapsed();
        let part = match part {
            Err(_) => return Err(self.timed_out(left)),
            Ok(None) => return Ok(None),
            Ok(Some(Err(BrokenOff))) => {
                return Err(Failure::bad_request("the body ended before its end"));
            }
            Ok(Some(Ok(part))) => part,
        };
        self.size = self.size.saturating_add(part.len());
        if self.size > self.limits.size_max {
            return Err(too_large(self.limits.size_max));
        }
        Ok(Some(part))
    }

    fn timed_out(&self, left: Duration) -> Failure {
        let text = if left <= self.limits.longest_pause {
            format!("the body must be sent within {} seconds", self.limits.time_max.as_secs())
        } else {
            let pause = self.limits.longest_pause.as_secs();
            format!("the body must be sent without a pause of more than {pause} seconds")
        };
        Failure::Refused { status: StatusCode::REQUEST_TIMEOUT, text }
    }

    /// Hands the body on. When nobody reads any more the rest is thrown away: a caller that is
    /// still sending would not see an answer.
    async fn feed(mut self, sender: mpsc::Sender<Part>) -> Result<(), Failure> {
        let mut is_read = true;
        while let Some(part) = self.next().await? {
            is_read = is_read && sender.send(Part::Bytes(part)).await.is_ok();
        }
        if is_read {
            // The job may have ended by itself.
            let _ = sender.send(Part::End).await;
        }
        Ok(())
    }
}

fn too_large(size_max: usize) -> Failure {
    Failure::Refused {
        status: StatusCode::PAYLOAD_TOO_LARGE,
        text: format!("the body must be at most {size_max} bytes long"),
    }
}

enum Part {
    Bytes(Bytes),
    /// Without it the body is not whole.
    End,
}

/// A body as a blocking reader.
pub(crate) struct BodyReader {
    ready: VecDeque<Bytes>,
    parts: mpsc::Receiver<Part>,
    ended: bool,
}

impl io::Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(part) = self.ready.front_mut() {
                let size = part.len().min(buffer.len());
                part.copy_to_slice(&mut buffer[..size]);
                if part.is_empty() {
                    self.ready.pop_front();
                }
                if size > 0 || buffer.is_empty() {
                    return Ok(size);
                }
                continue;
            }
            if self.ended {
                return Ok(0);
            }
            match self.parts.blocking_recv() {
                Some(Part::Bytes(part)) => self.ready.push_back(part),
                Some(Part::End) => self.ended = true,
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use futures_util::stream;

    use super::*;

    const LIMITS: BodyLimits = BodyLimits {
        size_max: 4,
        longest_pause: Duration::from_millis(20),
        time_max: Duration::from_millis(50),
    };

    /// What a job reads, and what the caller is told.
    async fn feed(parts: BodyStream) -> (io::Result<String>, Result<(), StatusCode>) {
        let source = Source::new(&HeaderMap::new(), parts, LIMITS).unwrap();
        let (sender, parts) = mpsc::channel(PARTS_WAITING_MAX);
        let mut reader = BodyReader { ready: VecDeque::new(), parts, ended: false };
        let job = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text)
        });
        let fed = source.feed(sender).await.map_err(|failure| failure.status());
        (job.await.unwrap(), fed)
    }

    fn parts(parts: &'static [&'static str]) -> BodyStream {
        stream::iter(parts).map(|part| Ok(Bytes::from_static(part.as_bytes()))).boxed()
    }

    #[tokio::test]
    async fn a_body_arrives_in_parts_and_whole() {
        let (read, fed) = feed(parts(&["a", "", "bc", "d"])).await;

        assert_eq!((read.unwrap().as_str(), fed), ("abcd", Ok(())));
    }

    #[tokio::test]
    async fn what_is_not_whole_is_no_body() {
        let broken = parts(&["a"]).chain(stream::iter([Err(BrokenOff)])).boxed();
        let stalled = parts(&["a"]).chain(stream::pending()).boxed();
        let long = parts(&["ab", "cd", "e"]);

        for (body, status) in [(broken, 400), (stalled, 408), (long, 413)] {
            let (read, fed) = feed(body).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(fed.unwrap_err().as_u16(), status);
        }
    }

    #[tokio::test]
    async fn a_body_that_drips_has_an_end() {
        let drip = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            Some((Ok(Bytes::new()), ()))
        });

        let (read, fed) = feed(drip.boxed()).await;

        assert!(read.is_err());
        assert_eq!(fed, Err(StatusCode::REQUEST_TIMEOUT));
    }
}
