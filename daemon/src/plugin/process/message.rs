//! What the daemon says to a runner, as frames; `report` is what it hears.
//!
//! Columns stand at the end of a frame and stay undecoded here: how many rows are accepted depends
//! on what was asked.

use chrono::{DateTime, Utc};
use rated_plugin::{
    AsOf, CollectRequest, Error, Method, MetricDefinition, Principal, Purpose, RateRequest,
    Request, Response, Result, Status,
};

use super::report::{Given, put_given};
use super::wire::{Malformed, Reader, Writer};
use crate::plugin::direct::nanoseconds;
use crate::plugin::library::Kind;

/// Both ends are the same program; another version says that its file was replaced in a way that
/// should not be possible.
pub(super) const VERSION: u32 = 3;

/// Longest message of an error, bytes.
const MESSAGE_SIZE_MAX: usize = 16 * 1024;

/// Kinds of frames to the runner.
mod to {
    pub(super) const LOAD: u8 = 1;
    pub(super) const CALL: u8 = 2;
    pub(super) const CANCEL: u8 = 3;
    pub(super) const RELEASE: u8 = 4;
    pub(super) const ANSWER: u8 = 5;
    pub(super) const END: u8 = 6;
}

/// The first thing a runner is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    /// The private copy.
    pub(super) library: String,
    pub(super) trusted: bool,
    pub(super) memory_bytes: u64,
    /// Bit n: messages of the level n are wanted.
    pub(super) levels: u32,
    /// How long ending may take, seconds.
    pub(super) grace_secs: u32,
}

impl Load {
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let mut writer = Writer::new(to::LOAD);
        writer.u32(VERSION).text(&self.library).u8(u8::from(self.trusted));
        writer.u64(self.memory_bytes).u32(self.levels).u32(self.grace_secs);
        writer.finish()
    }
}

/// A call's surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) number: u64,
    pub(super) deadline_ns: i64,
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
}

/// What is called.
#[derive(Debug)]
pub(super) enum Call {
    /// What does the library hold?
    Describe,
    Create {
        kind: Kind,
        name: String,
        config_json: Vec<u8>,
    },
    Check,
    Collect(CollectRequest),
    Scopes,
    /// The rater gets that number.
    Prepare {
        rater: u64,
        as_of: AsOf,
    },
    Rate {
        rater: u64,
        request: RateRequest,
        usage: Reader,
    },
    /// So many rows from one on.
    Explain {
        rater: u64,
        request: RateRequest,
        first_row: u64,
        rows: u64,
        usage: Reader,
    },
    Handle(Request),
}

/// What a runner is told.
#[derive(Debug)]
pub(super) enum Order {
    Load(Load),
    Call(Head, Box<Call>),
    Cancel(u64),
    /// No rater of that number is used any more.
    Release(u64),
    /// To what was asked under that number.
    Answer(u64, Result<Reader>),
    /// The instance, then the process.
    End,
}

impl Order {
    pub(super) fn cancel(call: u64) -> Result<Vec<u8>> {
        let mut writer = Writer::new(to::CANCEL);
        writer.u64(call);
        writer.finish()
    }

    pub(super) fn end() -> Result<Vec<u8>> {
        Writer::new(to::END).finish()
    }

    pub(super) fn release(rater: u64) -> Result<Vec<u8>> {
        let mut writer = Writer::new(to::RELEASE);
        writer.u64(rater);
        writer.finish()
    }

    pub(super) fn answer(number: u64, answer: &Result<Given>) -> Result<Vec<u8>> {
        let mut writer = Writer::new(to::ANSWER);
        writer.u64(number);
        match answer {
            Ok(given) => put_given(writer.u32(Status::Ok as u32), given),
            Err(error) => put_error(&mut writer, error),
        }
        writer.finish()
    }

    pub(super) fn decode(frame: Vec<u8>) -> Result<Order, Malformed> {
        let mut reader = Reader::new(frame);
        let order = match reader.u8()? {
            to::LOAD => {
                if reader.u32()? != VERSION {
                    return Err(Malformed);
                }
                Order::Load(Load {
                    library: reader.text()?,
                    trusted: reader.flag()?,
                    memory_bytes: reader.u64()?,
                    levels: reader.u32()?,
                    grace_secs: reader.u32()?,
                })
            }
            to::CALL => return take_call(reader),
            to::CANCEL => Order::Cancel(reader.u64()?),
            to::RELEASE => Order::Release(reader.u64()?),
            to::END => Order::End,
            to::ANSWER => {
                let (number, error) = (reader.u64()?, take_error(&mut reader)?);
                return Ok(Order::Answer(number, error.map_or(Ok(reader), Err)));
            }
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(order)
    }
}

/// A call as the daemon makes it: what is lent stays where it is until it is written.
pub(super) fn call(
    head: &Head,
    what: u8,
    put: impl FnOnce(&mut Writer) -> Result<()>,
) -> Result<Vec<u8>> {
    let mut writer = Writer::new(to::CALL);
    writer.u64(head.number).i64(head.deadline_ns).fixed(&head.trace_id).fixed(&head.span_id);
    writer.u8(what);
    put(&mut writer)?;
    writer.finish()
}

pub(super) const DESCRIBE: u8 = 0;
pub(super) const CREATE: u8 = 1;
pub(super) const CHECK: u8 = 2;
pub(super) const COLLECT: u8 = 3;
pub(super) const SCOPES: u8 = 4;
pub(super) const PREPARE: u8 = 5;
pub(super) const RATE: u8 = 6;
pub(super) const HANDLE: u8 = 7;
pub(super) const EXPLAIN: u8 = 8;

fn take_call(mut reader: Reader) -> Result<Order, Malformed> {
    let head = Head {
        number: reader.u64()?,
        deadline_ns: reader.i64()?,
        trace_id: reader.fixed()?,
        span_id: reader.fixed()?,
    };
    let call = match reader.u8()? {
        DESCRIBE => Call::Describe,
        CREATE => Call::Create {
            kind: take_kind(&mut reader)?,
            name: reader.text()?,
            config_json: reader.bytes()?,
        },
        CHECK => Call::Check,
        COLLECT => Call::Collect(take_collect(&mut reader)?),
        SCOPES => Call::Scopes,
        PREPARE => {
            let (rater, at, revision) = (reader.u64()?, reader.i64()?, reader.u64()?);
            let as_of = AsOf { at: DateTime::from_timestamp_nanos(at), revision };
            Call::Prepare { rater, as_of }
        }
        RATE => {
            let (rater, request) = take_rate(&mut reader)?;
            let rate = Call::Rate { rater, request, usage: reader };
            return Ok(Order::Call(head, Box::new(rate)));
        }
        EXPLAIN => {
            let (rater, request) = take_rate(&mut reader)?;
            let (first_row, rows) = (reader.u64()?, reader.u64()?);
            let explain = Call::Explain { rater, request, first_row, rows, usage: reader };
            return Ok(Order::Call(head, Box::new(explain)));
        }
        HANDLE => Call::Handle(take_request(&mut reader)?),
        _ => return Err(Malformed),
    };
    reader.end()?;
    Ok(Order::Call(head, Box::new(call)))
}

pub(super) fn put_kind(writer: &mut Writer, kind: Kind) {
    writer.u8(match kind {
        Kind::Collector => 0,
        Kind::Fetcher => 1,
        Kind::Rating => 2,
    });
}

pub(super) fn take_kind(reader: &mut Reader) -> Result<Kind, Malformed> {
    Ok(match reader.u8()? {
        0 => Kind::Collector,
        1 => Kind::Fetcher,
        2 => Kind::Rating,
        _ => return Err(Malformed),
    })
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::internal(error.to_string()))
}

fn take_instant(reader: &mut Reader) -> Result<DateTime<Utc>, Malformed> {
    reader.i64().map(DateTime::from_timestamp_nanos)
}

pub(super) fn put_collect(writer: &mut Writer, request: &CollectRequest) -> Result<()> {
    writer.bytes(&json(&request.metric)?).text(&request.scope_key);
    writer.u32(u32::try_from(request.scopes.len()).map_err(|_| Malformed)?);
    for scope in &request.scopes {
        writer.text(scope);
    }
    writer.i64(nanoseconds(request.begin)?).i64(nanoseconds(request.end)?);
    Ok(())
}

fn take_collect(reader: &mut Reader) -> Result<CollectRequest, Malformed> {
    let metric: MetricDefinition =
        serde_json::from_slice(&reader.bytes()?).map_err(|_| Malformed)?;
    Ok(CollectRequest {
        metric,
        scope_key: reader.text()?,
        scopes: reader.list(Reader::text)?,
        begin: take_instant(reader)?,
        end: take_instant(reader)?,
    })
}

pub(super) fn put_rate(writer: &mut Writer, rater: u64, request: &RateRequest) -> Result<()> {
    writer.u64(rater).u32(request.purpose as u32).text(&request.metric);
    writer.i64(nanoseconds(request.begin)?).i64(nanoseconds(request.end)?);
    Ok(())
}

fn take_rate(reader: &mut Reader) -> Result<(u64, RateRequest), Malformed> {
    let rater = reader.u64()?;
    let purpose = Purpose::from_raw(reader.u32()?).ok_or(Malformed)?;
    let metric = reader.text()?;
    let (begin, end) = (take_instant(reader)?, take_instant(reader)?);
    Ok((rater, RateRequest { purpose, metric, begin, end }))
}

pub(super) fn put_request(writer: &mut Writer, request: &Request) -> Result<()> {
    writer.u32(request.method as u32).text(&request.path).text(&request.query);
    writer.text(&request.content_type).bytes(&request.body).bytes(&json(&request.principal)?);
    Ok(())
}

fn take_request(reader: &mut Reader) -> Result<Request, Malformed> {
    let method = Method::from_raw(reader.u32()?).ok_or(Malformed)?;
    let (path, query, content_type) = (reader.text()?, reader.text()?, reader.text()?);
    let body = reader.bytes()?;
    let principal: Principal = serde_json::from_slice(&reader.bytes()?).map_err(|_| Malformed)?;
    Ok(Request { method, path, query, content_type, body, principal })
}

pub(super) fn put_response(writer: &mut Writer, response: &Response) {
    writer.u32(response.status.into()).text(&response.content_type);
    writer.text(response.location.as_deref().unwrap_or_default()).bytes(&response.body);
}

/// JSON, of any form; `None` = no reasons.
pub(super) fn put_reasons(writer: &mut Writer, json: Option<&[u8]>) {
    writer.u8(u8::from(json.is_some())).bytes(json.unwrap_or_default());
}

pub(super) fn take_reasons(reader: &mut Reader) -> Result<Option<Vec<u8>>, Malformed> {
    let (is_there, json) = (reader.flag()?, reader.bytes()?);
    Ok(is_there.then_some(json))
}

/// An answer to a REST call, nothing of it checked.
pub(super) struct SentResponse {
    pub(super) status: u32,
    pub(super) content_type: Vec<u8>,
    pub(super) location: Vec<u8>,
    pub(super) body: Vec<u8>,
}

pub(super) fn take_response(reader: &mut Reader) -> Result<SentResponse, Malformed> {
    let (status, content_type) = (reader.u32()?, reader.bytes()?);
    let (location, body) = (reader.bytes()?, reader.bytes()?);
    Ok(SentResponse { status, content_type, location, body })
}

pub(super) fn put_error(writer: &mut Writer, error: &Error) {
    let status = match error.status {
        Status::Ok | Status::End => Status::Internal,
        status => status,
    };
    let cut = error.message.floor_char_boundary(MESSAGE_SIZE_MAX);
    writer.u32(status as u32).u8(error.retryable.into()).u8(error.split.into());
    writer.text(&error.message[..cut]);
}

/// `None`: all went well, and what was asked for follows.
pub(super) fn take_error(reader: &mut Reader) -> Result<Option<Error>, Malformed> {
    let status = match Status::from_raw(reader.u32()?) {
        Status::Ok => return Ok(None),
        Status::End => return Err(Malformed),
        status => status,
    };
    let (retryable, split) = (reader.flag()?, reader.flag()?);
    let mut message = reader.text()?;
    message.truncate(message.floor_char_boundary(MESSAGE_SIZE_MAX));
    Ok(Some(Error { status, message, retryable, split }))
}
