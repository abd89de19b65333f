//! Batches as Arrow IPC streams: each a stream of its own, of a schema and at most one batch.
//!
//! What is read is not trusted: the reading code checks every value; a panic of it is an error like
//! any other. Compressed buffers are refused, so nothing becomes larger than what was sent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{Schema, SchemaRef};
use rated_plugin::{Error, Result};

use super::wire::{Reader, Writer};
use crate::plugin::batches::COLUMNS_MAX;

/// Appends a schema, and a batch of it if there is one.
pub(super) fn put(writer: &mut Writer, schema: &Schema, batch: Option<&RecordBatch>) -> Result<()> {
    writer.rest(|bytes| {
        let unsound = |error: arrow_schema::ArrowError| {
            Error::bad_data(format!("a batch cannot be passed on: {error}"))
        };
        let mut stream = StreamWriter::try_new(bytes, schema).map_err(unsound)?;
        if let Some(batch) = batch {
            stream.write(batch).map_err(unsound)?;
        }
        stream.finish().map_err(unsound)
    })
}

/// Reads what [`put`] wrote.
pub(super) fn take(reader: Reader, rows_max: usize) -> Result<(SchemaRef, Option<RecordBatch>)> {
    let (frame, begin) = reader.rest()?;
    read(&Buffer::from_vec(frame).slice(begin), rows_max)
}

fn read(bytes: &Buffer, rows_max: usize) -> Result<(SchemaRef, Option<RecordBatch>)> {
    let (schema, batch) =
        catch_unwind(AssertUnwindSafe(|| decode(bytes.clone()))).unwrap_or_else(|_| {
            Err(Error::bad_data("a batch breaks the rules of the Arrow IPC format"))
        })?;
    let columns = schema.fields().len();
    if columns > COLUMNS_MAX {
        let message = format!("{columns} columns, 0 to {COLUMNS_MAX} are accepted");
        return Err(Error::bad_data(message));
    }
    let rows = batch.as_ref().map_or(0, RecordBatch::num_rows);
    if rows > rows_max {
        let message = format!("a batch of {rows} rows, at most {rows_max} are accepted");
        return Err(Error::bad_data(message));
    }
    Ok((schema, batch))
}

fn decode(mut bytes: Buffer) -> Result<(SchemaRef, Option<RecordBatch>)> {
    let unsound =
        |error: arrow_schema::ArrowError| Error::bad_data(format!("a batch is not sound: {error}"));
    let mut decoder = StreamDecoder::new();
    let mut found = None;
    while !bytes.is_empty() {
        // What follows the end of the stream is read by nobody.
        let before = bytes.len();
        match decoder.decode(&mut bytes).map_err(unsound)? {
            Some(_) if found.is_some() => {
                return Err(Error::bad_data("two batches where one was expected"));
            }
            Some(batch) => found = Some(batch),
            None if bytes.len() == before => break,
            None => {}
        }
    }
    let schema = decoder.schema().ok_or_else(|| Error::bad_data("the plugin gave no schema"))?;
    decoder.finish().map_err(unsound)?;
    Ok((schema, found))
}
