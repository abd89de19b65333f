//! The daemon's end: calls put to a process, and what follows when it does not answer.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::{Schema, SchemaRef};
use rated_plugin::{AsOf, CollectRequest, Error, RateRequest, Request, Response, Result, Status};

use super::mailbox::{Mailbox, Next};
use super::message::{self, Head, Load, Order, SentResponse};
use super::report::Report;
use super::watch::{Ending, Waiter, Watched};
use super::wire::{Reader, Writer};
use super::{columns, serve};
use crate::fault::{Step, passed};
use crate::plugin::batches::BATCHES_MAX;
use crate::plugin::call::{CallState, Interrupt};
use crate::plugin::collector::COLLECT_ROWS_MAX;
use crate::plugin::direct::{nanoseconds, sound_response};
use crate::plugin::fetcher::SCOPES_MAX;
use crate::plugin::health::Blame;
use crate::plugin::host_api::{Daemon, Services};
use crate::plugin::instance::Frame;
use crate::plugin::library::Kind;
use crate::plugin::module::{EXPLANATION_SIZE_MAX, HEADER_SIZE_MAX, RESPONSE_SIZE_MAX};

/// What every process of a daemon is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plugin) struct ProcessSettings {
    pub(in crate::plugin) program: PathBuf,
    pub(in crate::plugin) memory_bytes: u64,
}

/// What one process is started with.
#[derive(Debug)]
pub(in crate::plugin) struct Launch<'a> {
    pub(in crate::plugin) settings: &'a ProcessSettings,
    /// For who lists processes.
    pub(in crate::plugin) label: &'a str,
    /// In whose name it asks.
    pub(in crate::plugin) lender: Daemon,
    /// The private copy.
    pub(in crate::plugin) library: Option<&'a Path>,
    pub(in crate::plugin) trusted: bool,
    pub(in crate::plugin) services: &'a Arc<Services>,
}

/// A process with one instance in it. Killed when it is dropped.
#[derive(Debug)]
pub(in crate::plugin) struct Process {
    watched: Arc<Watched>,
    /// In whose name the process asks.
    lender: Arc<Daemon>,
    /// Most bytes of one answer: no more than the process itself may take.
    answer_size_max: u64,
    next_rater: AtomicU64,
    times: Times,
}

/// How long a call may take, for messages.
#[derive(Debug, Clone, Copy)]
struct Times {
    deadline: Duration,
    grace: Duration,
}

/// Cancels and kills from other threads.
#[derive(Debug)]
struct Handle {
    call: u64,
    mailbox: Arc<Mailbox>,
    watched: Arc<Watched>,
}

impl Interrupt for Handle {
    fn cancelled(&self) {
        self.mailbox.cancel();
    }

    fn kill(&self) {
        self.watched.kill(Ending::Overdue(self.call));
    }
}

/// What a call brought besides its outcome.
#[derive(Debug, Default)]
struct Parts {
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: u64,
}

impl Process {
    /// Starts it. What it loads is known to be sound with the first call only.
    pub(in crate::plugin) fn start(launch: Launch<'_>) -> Result<Process> {
        let Launch { settings, label, lender, library, trusted, services } = launch;
        let library = library.and_then(Path::to_str).ok_or_else(|| {
            Error::new(Status::Unsupported, "is part of the program and cannot run apart from it")
        })?;
        let lender = Arc::new(lender.apart(settings.memory_bytes));
        let load = Load {
            library: library.to_owned(),
            trusted,
            memory_bytes: settings.memory_bytes,
            levels: serve::levels(&*lender),
            grace_secs: whole_secs(services.pool.grace()),
        };
        let metrics = services.lent.metrics.clone();
        let of = lender.series();
        let on_death = move || metrics.plugin_process_died(&of);
        let watched = Watched::start(settings, label, &lender, on_death)
            .map_err(|error| Error::unavailable(format!("cannot start a process: {error}")))?;
        let process = Process {
            watched,
            lender,
            answer_size_max: settings.memory_bytes,
            next_rater: AtomicU64::new(1),
            times: Times { deadline: services.pool.deadline(), grace: services.pool.grace() },
        };
        // When it has died already, the first call says why.
        let _ = process.watched.send(&load.encode()?);
        Ok(process)
    }

    /// What the library declares.
    pub(super) fn describe(&self, frame: &Frame<'_>) -> Result<Reader> {
        self.ask(frame, message::DESCRIBE, |_| Ok(())).map(|(reader, _)| reader)
    }

    pub(in crate::plugin) fn create(
        &self,
        frame: &Frame<'_>,
        kind: Kind,
        name: &str,
        config_json: &[u8],
    ) -> Result<()> {
        let create = |writer: &mut Writer| {
            message::put_kind(writer, kind);
            writer.text(name).bytes(config_json);
            Ok(())
        };
        self.ask(frame, message::CREATE, create).map(drop)
    }

    pub(in crate::plugin) fn check(&self, frame: &Frame<'_>) -> Result<()> {
        self.ask(frame, message::CHECK, |_| Ok(())).map(drop)
    }

    pub(in crate::plugin) fn collect(
        &self,
        frame: &Frame<'_>,
        request: &CollectRequest,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        let put = |writer: &mut Writer| message::put_collect(writer, request);
        self.ask(frame, message::COLLECT, put)?.1.whole(COLLECT_ROWS_MAX)
    }

    pub(in crate::plugin) fn scopes(
        &self,
        frame: &Frame<'_>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        self.ask(frame, message::SCOPES, |_| Ok(()))?.1.whole(SCOPES_MAX)
    }

    /// The number of a rater.
    pub(in crate::plugin) fn prepare(&self, frame: &Frame<'_>, as_of: AsOf) -> Result<u64> {
        let rater = self.next_rater.fetch_add(1, Ordering::Relaxed);
        let at_ns = nanoseconds(as_of.at)?;
        let put = |writer: &mut Writer| {
            writer.u64(rater).i64(at_ns).u64(as_of.revision);
            Ok(())
        };
        self.ask(frame, message::PREPARE, put).map(|_| rater)
    }

    pub(in crate::plugin) fn rate(
        &self,
        rater: u64,
        frame: &Frame<'_>,
        request: &RateRequest,
        usage: &RecordBatch,
    ) -> Result<RecordBatch> {
        let put = |writer: &mut Writer| {
            message::put_rate(writer, rater, request)?;
            columns::put(writer, usage.schema_ref(), Some(usage))
        };
        let (_, parts) = self.ask(frame, message::RATE, put)?;
        let (_, mut batches) = parts.whole(COLLECT_ROWS_MAX)?;
        match (batches.pop(), batches.is_empty()) {
            (Some(prices), true) => Ok(prices),
            _ => Err(Error::bad_data("the plugin gave no batch")),
        }
    }

    pub(in crate::plugin) fn explain(
        &self,
        rater: u64,
        frame: &Frame<'_>,
        request: &RateRequest,
        (usage, rows): &(RecordBatch, Range<usize>),
    ) -> Result<Option<Vec<u8>>> {
        let put = |writer: &mut Writer| {
            message::put_rate(writer, rater, request)?;
            writer.u64(rows.start as u64).u64(rows.len() as u64);
            columns::put(writer, usage.schema_ref(), Some(usage))
        };
        let (mut reader, _) = self.ask(frame, message::EXPLAIN, put)?;
        let json = message::take_reasons(&mut reader)?;
        if json.as_ref().is_some_and(|json| json.len() > EXPLANATION_SIZE_MAX) {
            return Err(Error::bad_data("the plugin answered more than is accepted"));
        }
        Ok(json)
    }

    pub(in crate::plugin) fn handle(
        &self,
        frame: &Frame<'_>,
        request: &Request,
    ) -> Result<Response> {
        let put = |writer: &mut Writer| message::put_request(writer, request);
        let (mut reader, _) = self.ask(frame, message::HANDLE, put)?;
        let SentResponse { status, content_type, location, body } =
            message::take_response(&mut reader)?;
        let is_long = content_type.len().max(location.len()) > HEADER_SIZE_MAX;
        if is_long || body.len() > RESPONSE_SIZE_MAX {
            return Err(Error::bad_data("the plugin answered more than is accepted"));
        }
        sound_response(status, (content_type, location), body)
    }

    pub(in crate::plugin) fn release_rater(&self, rater: u64, call: &CallState) {
        let Ok(frame) = Order::release(rater) else { return };
        self.interruptible(call, || {
            // A process that has died has no raters.
            let _ = self.watched.send(&frame);
        });
    }

    /// One that does not even read what it is told is killed.
    fn interruptible(&self, call: &CallState, work: impl FnOnce()) {
        let (mailbox, watched) = (Arc::default(), self.watched.clone());
        call.runs_at(Some(Arc::new(Handle { call: call.number(), mailbox, watched })));
        work();
        call.runs_at(None);
    }

    /// Did it end without being asked to?
    pub(in crate::plugin) fn is_dead(&self) -> bool {
        self.watched.is_dead()
    }

    /// Why.
    pub(in crate::plugin) fn death(&self) -> String {
        self.watched.death()
    }

    /// Is it known which call it died of?
    pub(in crate::plugin) fn blame(&self) -> Blame {
        match (self.watched.ending(), self.watched.lost()) {
            (Ending::Overdue(_), _) | (_, 0 | 1) => Blame::Certain,
            _ => Blame::Shared,
        }
    }

    /// Lets it end by itself; kills it when it does not.
    pub(in crate::plugin) fn end(&self, grace: Duration, call: &CallState) {
        self.interruptible(call, || self.watched.end(grace));
    }

    /// Takes no more calls, and ends with those under way.
    pub(in crate::plugin) fn retire(&self) {
        self.watched.retire();
    }

    fn send(&self, frame: &[u8], mailbox: &Mailbox, call: &CallState) -> Result<()> {
        self.watched.send(frame).map_err(|_| self.lost(mailbox, call))
    }

    /// Puts a call, serves what it asks meanwhile, and waits for its outcome.
    fn ask(
        &self,
        frame: &Frame<'_>,
        what: u8,
        put: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<(Reader, Parts)> {
        let call = frame.state.number();
        let head = Head {
            number: call,
            deadline_ns: frame.raw.deadline_ns,
            trace_id: frame.raw.trace_id,
            span_id: frame.raw.span_id,
        };
        let order = message::call(&head, what, put)?;
        let mailbox = Arc::new(Mailbox::default());
        let handle = Handle { call, mailbox: mailbox.clone(), watched: self.watched.clone() };
        let _asking = Asking::begin(self, frame, handle)?;
        let send = |said: &[u8]| self.send(said, &mailbox, frame.state);
        send(&order)?;
        passed(Step::ProcessAsked);
        // Its columns may be large; nobody needs them any more.
        drop(order);
        let mut parts = Parts::default();
        loop {
            match mailbox.next() {
                Next::Gone => return Err(self.lost(&mailbox, frame.state)),
                Next::Cancelled => send(&Order::cancel(call)?)?,
                Next::Message(Report::Outcome(_, outcome)) => {
                    passed(Step::ProcessAnswered);
                    return outcome.map(|reader| (reader, parts));
                }
                Next::Message(Report::Columns(_, reader)) => {
                    parts.add(reader, self.answer_size_max)?;
                }
                Next::Message(Report::Ask { number, wanted, .. }) => {
                    let given = serve::give(&*self.lender, Some(frame.state), wanted);
                    send(&serve::answer(number, &given)?)?;
                }
                // The watching thread keeps the rest to itself.
                Next::Message(_) => {}
            }
        }
    }

    /// What a call is told whose process has died.
    fn lost(&self, mailbox: &Mailbox, call: &CallState) -> Error {
        // Nobody may wait for this thread, which waits for news of the death.
        mailbox.close();
        match self.watched.ending() {
            Ending::Overdue(number) if number == call.number() => {
                let Times { deadline, grace } = self.times;
                let text = format!(
                    "did not end within {deadline:?} and {grace:?} of grace, its process was killed"
                );
                Error::new(Status::Timeout, text)
            }
            Ending::Overdue(_) => {
                call.share();
                Error::unavailable("its process was killed: another call did not end in time")
            }
            Ending::Wanted => Error::unavailable("its process has been ended"),
            Ending::Itself | Ending::Protocol(_) => match self.watched.lost() {
                0 | 1 => Error::new(Status::Panic, self.death()),
                lost => {
                    call.share();
                    let death = self.death();
                    Error::unavailable(format!("{death}, {lost} calls were under way in it"))
                }
            },
        }
    }
}

/// Not less than that.
fn whole_secs(time: Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watched.kill(Ending::Wanted);
    }
}

/// A call is under way as long as it lives.
struct Asking<'a> {
    process: &'a Process,
    frame: &'a Frame<'a>,
    mailbox: Arc<Mailbox>,
}

impl<'a> Asking<'a> {
    fn begin(process: &'a Process, frame: &'a Frame<'a>, handle: Handle) -> Result<Asking<'a>> {
        let mailbox = handle.mailbox.clone();
        let waiter = Waiter { mailbox: mailbox.clone(), call: frame.state.clone() };
        if !process.watched.expect(handle.call, waiter) {
            // It has done nothing yet.
            frame.state.share();
            let text = format!("cannot be asked: {}", process.death());
            return Err(Error::unavailable(text));
        }
        frame.state.runs_at(Some(Arc::new(handle)));
        Ok(Asking { process, frame, mailbox })
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.frame.state.runs_at(None);
        self.process.watched.forget(self.frame.state.number());
        self.mailbox.close();
    }
}

impl Parts {
    fn add(&mut self, reader: Reader, size_max: u64) -> Result<()> {
        self.bytes += reader.len() as u64;
        if self.bytes > size_max {
            let text = format!("an answer of more than {size_max} bytes, as much as it may take");
            return Err(Error::bad_data(text));
        }
        if self.batches.len() >= BATCHES_MAX {
            let message = format!("more than {BATCHES_MAX} batches in one answer");
            return Err(Error::bad_data(message));
        }
        let (schema, batch) = columns::take(reader, COLLECT_ROWS_MAX - self.rows)?;
        let first = self.schema.get_or_insert_with(|| schema.clone());
        if **first != *schema {
            return Err(Error::bad_data("two batches of one answer have different schemas"));
        }
        if let Some(batch) = batch {
            self.rows += batch.num_rows();
            self.batches.push(batch);
        }
        Ok(())
    }

    fn whole(self, rows_max: usize) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        if self.rows > rows_max {
            let message = format!("{} rows, at most {rows_max} are accepted", self.rows);
            return Err(Error::bad_data(message));
        }
        let schema: Arc<Schema> =
            self.schema.ok_or_else(|| Error::bad_data("the plugin gave no schema"))?;
        Ok((schema, self.batches))
    }
}
