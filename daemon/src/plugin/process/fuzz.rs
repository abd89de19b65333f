//! Messages between daemon and runner as a fuzzer has them: nonsense is found, and what is taken
//! means the same when it is sent again.

use std::cell::Cell;
use std::panic::{set_hook, take_hook};
use std::sync::Once;

use rated_plugin::{Error, RecordBatch, Result};

use super::message::{Order, put_error, take_error, take_reasons, take_response};
use super::report::{Asked, Report, Wanted, take_http, take_pairs};
use super::wire::{FRAME_SIZE_MAX, Reader, Writer, read_frame};
use super::{columns, describe};
use crate::plugin::fuzz::{ROWS_MAX, read_batches};
use crate::plugin::host_api::HttpParts;

/// Which side reads, then what is read.
pub(crate) fn messages(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 8 {
        0 => stream(bytes),
        1 => drop(Order::decode(bytes.to_vec())),
        2 => report(bytes),
        3 => answer(|reader| take_pairs(reader).map(drop), bytes),
        4 => answer(|reader| take_http(reader).map(drop), bytes),
        5 => answer(|reader| take_response(reader).map(drop), bytes),
        6 => answer(|reader| take_reasons(reader).map(drop), bytes),
        _ => drop(describe::fuzz(Reader::new(bytes.to_vec()))),
    }
}

/// Frames one after the other, as they come through a socket.
fn stream(mut bytes: &[u8]) {
    while let Ok(Some(frame)) = read_frame(&mut bytes, |_| FRAME_SIZE_MAX) {
        report(&frame);
    }
}

fn answer(take: fn(&mut Reader) -> Result<(), super::wire::Malformed>, bytes: &[u8]) {
    let _ = take(&mut Reader::new(bytes.to_vec()));
}

fn report(frame: &[u8]) {
    let Ok(report) = Report::decode(frame.to_vec()) else { return };
    match report {
        Report::Columns(_, reader) => columns(reader),
        Report::Outcome(_, Ok(_)) => {}
        Report::Outcome(_, Err(error)) => {
            let mut writer = Writer::new(0);
            put_error(&mut writer, &error);
            let mut reader = sent(writer.finish());
            reader.u8().expect("its kind");
            assert_eq!(take_error(&mut reader), Ok(Some(error)));
        }
        Report::Ask { call, number, wanted } => {
            let again = Report::ask(call, number, &asked(&wanted)).map(|frame| decoded(&frame));
            assert!(
                matches!(&again, Ok(Report::Ask { call: c, number: n, wanted: w })
                    if (*c, *n, w) == (call, number, &wanted)),
                "{wanted:?} became {again:?}"
            );
        }
        Report::Log { level, place, said } => {
            assert_eq!(body(Report::log(level, &place, &said)), frame);
        }
        Report::Count { metric, by } => assert_eq!(body(Report::count(&metric, by)), frame),
        Report::Observe { metric, value } => {
            assert_eq!(body(Report::observe(&metric, value)), frame);
        }
    }
}

fn asked(wanted: &Wanted) -> Asked<'_> {
    match wanted {
        Wanted::Now => Asked::Now,
        Wanted::KvGet { revision, key } => Asked::KvGet { revision: *revision, key },
        Wanted::KvScan { revision, prefix } => Asked::KvScan { revision: *revision, prefix },
        Wanted::KvApply { revision, edits } => Asked::KvApply { revision: *revision, edits },
        Wanted::Http { method, url, headers, body, options } => {
            Asked::Http(HttpParts { method: *method, url, headers, body, options })
        }
    }
}

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Arrow's reader panics at some nonsense, of which `columns` makes an error: nobody is told, and
/// no fuzzer ends at it.
fn contained<T>(work: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_CONTAINED.get() {
                before(info);
            }
        }));
    });
    IS_CONTAINED.set(true);
    let outcome = work();
    IS_CONTAINED.set(false);
    outcome
}

/// A batch that is taken is sound, and comes back when it is sent.
fn columns(reader: Reader) {
    let taken = contained(|| columns::take(reader, ROWS_MAX));
    let Ok((schema, batch)) = taken else { return };
    assert!(batch.as_ref().map_or(0, RecordBatch::num_rows) <= ROWS_MAX);
    let frame = Report::columns(7, |writer| columns::put(writer, &schema, batch.as_ref()));
    let Report::Columns(7, reader) = decoded(&frame.expect("it was just read")) else {
        panic!("columns became something else");
    };
    assert_eq!(columns::take(reader, ROWS_MAX), Ok((schema.clone(), batch.clone())));
    if let Some(batch) = &batch {
        read_batches(&schema, batch);
    }
}

fn body(frame: Result<Vec<u8>>) -> Vec<u8> {
    frame.expect("it fits a frame").split_off(4)
}

fn decoded(frame: &[u8]) -> Report {
    Report::decode(frame[4..].to_vec()).expect("it was just written")
}

fn sent(frame: Result<Vec<u8>, Error>) -> Reader {
    Reader::new(body(frame))
}
