//! What a runner says to the daemon, as frames: answers, and what its plugin asks of the host.

use rated_plugin::{Edit, KvPairs, Result, Status};

use super::message::{put_error, take_error};
use super::wire::{Malformed, Reader, Writer};
use crate::plugin::host_api::{HttpAnswer, HttpParts};

/// Kinds of frames to the daemon.
mod from {
    pub(super) const COLUMNS: u8 = 65;
    pub(super) const OUTCOME: u8 = 66;
    pub(super) const ASK: u8 = 67;
    pub(super) const LOG: u8 = 68;
    pub(super) const COUNT: u8 = 69;
    pub(super) const OBSERVE: u8 = 70;
}

/// Largest frames of what is said beside an answer, bytes.
const ASIDE_SIZE_MAX: usize = 1 << 20;
/// Longest name of a metric that is passed on, bytes.
const METRIC_SIZE_MAX: usize = 1024;
/// Largest answer to a call that brings no columns, bytes: a body, reasons, or what a library
/// declares.
const OUTCOME_SIZE_MAX: usize = 65 << 20;

/// Most bytes of a frame of that kind. Columns and what is asked for take no more than the process
/// itself may.
pub(super) fn size_max(kind: u8, memory_bytes: u64) -> usize {
    match kind {
        from::COLUMNS | from::ASK => usize::try_from(memory_bytes).unwrap_or(usize::MAX),
        from::OUTCOME => OUTCOME_SIZE_MAX,
        _ => ASIDE_SIZE_MAX,
    }
}

/// What a plugin wants of its host and waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    Now,
    KvGet { revision: u64, key: String },
    KvScan { revision: u64, prefix: String },
    KvApply { revision: u64, edits: Vec<Edit> },
    Http { method: u32, url: String, headers: Vec<u8>, body: Vec<u8>, options: Vec<u8> },
}

impl Wanted {
    /// What it takes in memory, mostly.
    pub(super) fn size(&self) -> usize {
        match self {
            Wanted::Now => 0,
            Wanted::KvGet { key, .. } | Wanted::KvScan { prefix: key, .. } => key.len(),
            Wanted::KvApply { edits, .. } => edits.iter().map(size_of_edit).sum(),
            Wanted::Http { url, headers, body, options, .. } => {
                url.len() + headers.len() + body.len() + options.len()
            }
        }
    }
}

fn size_of_edit(edit: &Edit) -> usize {
    size_of::<Edit>() + edit.key.len() + edit.value.as_ref().map_or(0, Vec::len)
}

/// What it is given.
#[derive(Debug)]
pub(super) enum Given {
    Number(i64),
    Bytes(Vec<u8>),
    Pairs(u64, KvPairs),
    Revision(u64),
    Http(HttpAnswer),
}

pub(super) fn put_given(writer: &mut Writer, given: &Given) {
    match given {
        Given::Number(number) => {
            writer.i64(*number);
        }
        Given::Bytes(bytes) => {
            writer.bytes(bytes);
        }
        Given::Revision(revision) => {
            writer.u64(*revision);
        }
        Given::Pairs(revision, pairs) => {
            writer.u64(*revision).u64(pairs.len() as u64);
            for (key, value) in pairs {
                writer.text(key).bytes(value);
            }
        }
        Given::Http(HttpAnswer { status, headers, body, .. }) => {
            writer.u32((*status).into()).bytes(headers).bytes(body);
        }
    }
}

pub(super) fn take_pairs(reader: &mut Reader) -> Result<(u64, KvPairs), Malformed> {
    let (revision, count) = (reader.u64()?, reader.u64()?);
    let pair = |_| Ok((reader.text()?, reader.bytes()?));
    Ok((revision, (0..count).map(pair).collect::<Result<_, Malformed>>()?))
}

pub(super) fn take_http(reader: &mut Reader) -> Result<HttpAnswer, Malformed> {
    let status = u16::try_from(reader.u32()?).map_err(|_| Malformed)?;
    Ok(HttpAnswer { status, headers: reader.bytes()?, body: reader.bytes()?, _share: None })
}

/// What a runner says.
#[derive(Debug)]
pub(super) enum Report {
    /// A part of the answer to a call: a schema, and a batch of it unless there is none.
    Columns(u64, Reader),
    /// How a call ended; the last of it.
    Outcome(u64, Result<Reader>),
    /// 0 as the call: of none.
    Ask {
        call: u64,
        number: u64,
        wanted: Wanted,
    },
    Log {
        level: u32,
        place: Vec<u8>,
        said: Vec<u8>,
    },
    Count {
        metric: String,
        by: u64,
    },
    Observe {
        metric: String,
        value: f64,
    },
}

impl Report {
    /// What it takes in memory, mostly.
    pub(super) fn size(&self) -> usize {
        match self {
            Report::Columns(_, reader) | Report::Outcome(_, Ok(reader)) => reader.len(),
            Report::Ask { wanted, .. } => wanted.size(),
            _ => 0,
        }
    }

    pub(super) fn columns(
        call: u64,
        put: impl FnOnce(&mut Writer) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::COLUMNS);
        writer.u64(call);
        put(&mut writer)?;
        writer.finish()
    }

    pub(super) fn outcome(
        call: u64,
        outcome: &Result<()>,
        put: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::OUTCOME);
        writer.u64(call);
        match outcome {
            Ok(()) => put(writer.u32(Status::Ok as u32)),
            Err(error) => put_error(&mut writer, error),
        }
        writer.finish()
    }

    pub(super) fn ask(call: u64, number: u64, wanted: &Asked<'_>) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::ASK);
        writer.u64(call).u64(number);
        match wanted {
            Asked::Now => {
                writer.u8(0);
            }
            Asked::KvGet { revision, key } => {
                writer.u8(1).u64(*revision).text(key);
            }
            Asked::KvScan { revision, prefix } => {
                writer.u8(2).u64(*revision).text(prefix);
            }
            Asked::KvApply { revision, edits } => {
                writer.u8(3).u64(*revision);
                writer.u32(u32::try_from(edits.len()).map_err(|_| Malformed)?);
                for edit in *edits {
                    writer.text(&edit.key).u8(edit.value.is_some().into());
                    writer.bytes(edit.value.as_deref().unwrap_or_default());
                }
            }
            Asked::Http(parts) => {
                writer.u8(4).u32(parts.method).text(parts.url).bytes(parts.headers);
                writer.bytes(parts.body).bytes(parts.options);
            }
        }
        writer.finish()
    }

    pub(super) fn log(level: u32, place: &[u8], said: &[u8]) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::LOG);
        writer.u32(level).bytes(place).bytes(said);
        writer.finish()
    }

    pub(super) fn count(metric: &str, by: u64) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::COUNT);
        writer.text(cut(metric)).u64(by);
        writer.finish()
    }

    pub(super) fn observe(metric: &str, value: f64) -> Result<Vec<u8>> {
        let mut writer = Writer::new(from::OBSERVE);
        writer.text(cut(metric)).u64(value.to_bits());
        writer.finish()
    }

    pub(super) fn decode(frame: Vec<u8>) -> Result<Report, Malformed> {
        let mut reader = Reader::new(frame);
        let report = match reader.u8()? {
            from::COLUMNS => return Ok(Report::Columns(reader.u64()?, reader)),
            from::OUTCOME => {
                let (call, error) = (reader.u64()?, take_error(&mut reader)?);
                return Ok(Report::Outcome(call, error.map_or(Ok(reader), Err)));
            }
            from::ASK => Report::Ask {
                call: reader.u64()?,
                number: reader.u64()?,
                wanted: take_wanted(&mut reader)?,
            },
            from::LOG => {
                Report::Log { level: reader.u32()?, place: reader.bytes()?, said: reader.bytes()? }
            }
            from::COUNT => Report::Count { metric: reader.text()?, by: reader.u64()? },
            from::OBSERVE => {
                Report::Observe { metric: reader.text()?, value: f64::from_bits(reader.u64()?) }
            }
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(report)
    }
}

/// A name of a metric that is longer is none in any case.
fn cut(metric: &str) -> &str {
    &metric[..metric.floor_char_boundary(METRIC_SIZE_MAX)]
}

/// A [`Wanted`] as the plugin lends it.
#[derive(Debug)]
pub(super) enum Asked<'a> {
    Now,
    KvGet { revision: u64, key: &'a str },
    KvScan { revision: u64, prefix: &'a str },
    KvApply { revision: u64, edits: &'a [Edit] },
    Http(HttpParts<'a>),
}

fn take_wanted(reader: &mut Reader) -> Result<Wanted, Malformed> {
    Ok(match reader.u8()? {
        0 => Wanted::Now,
        1 => Wanted::KvGet { revision: reader.u64()?, key: reader.text()? },
        2 => Wanted::KvScan { revision: reader.u64()?, prefix: reader.text()? },
        3 => {
            let revision = reader.u64()?;
            let edits = reader.list(|reader| {
                let (key, is_put, value) = (reader.text()?, reader.flag()?, reader.bytes()?);
                Ok(Edit { key, value: is_put.then_some(value) })
            })?;
            Wanted::KvApply { revision, edits }
        }
        4 => Wanted::Http {
            method: reader.u32()?,
            url: reader.text()?,
            headers: reader.bytes()?,
            body: reader.bytes()?,
            options: reader.bytes()?,
        },
        _ => return Err(Malformed),
    })
}
