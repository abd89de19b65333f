//! Pushes as a fuzzer has them: JSON is what `serde_json` takes, and what is read does not depend
//! on how it arrives.

use std::io::{self, Read};

use serde_json::Value;

use super::json::{Json, JsonError};
use super::read::{Reading, read_body};
use crate::ledger::RatedSlice;

/// What stands for a number within `serde_json`, which takes an object with this member for one.
const NUMBER_TOKEN: &[u8] = b"$serde_json::private";

/// Gives a few bytes at a time.
pub(super) struct Drip<'t>(pub(super) &'t [u8], pub(super) usize);

impl Read for Drip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.0.len().min(self.1).min(buffer.len());
        let (now, later) = self.0.split_at(size);
        buffer[..size].copy_from_slice(now);
        self.0 = later;
        Ok(size)
    }
}

pub(super) fn read(
    text: &[u8],
    at_once: usize,
    size_max: usize,
) -> Result<Option<Value>, JsonError> {
    let mut drip = Drip(text, at_once);
    let mut json = Json::new(&mut drip);
    let value = json.small(size_max)?;
    json.end()?;
    Ok(value)
}

fn skipped(text: &[u8], at_once: usize) -> Result<(), JsonError> {
    let mut drip = Drip(text, at_once);
    let mut json = Json::new(&mut drip);
    json.skip()?;
    json.end()
}

/// Is read, skipped and refused as `serde_json` does it, however it arrives.
pub(super) fn check(text: &[u8]) {
    let expected = serde_json::from_slice::<Value>(text).ok();
    for at_once in [1, 3, text.len().max(1)] {
        let shown = String::from_utf8_lossy(text);
        let value = read(text, at_once, usize::MAX);
        assert_eq!(value.ok().flatten(), expected, "{shown}");
        assert_eq!(skipped(text, at_once).is_ok(), expected.is_some(), "skipped {shown}");
        // Most of it is too long to be kept.
        assert_eq!(read(text, at_once, 1).is_ok(), expected.is_some(), "cut {shown}");
    }
}

/// The body of a push.
pub(crate) fn push(bytes: &[u8]) {
    if bytes.windows(NUMBER_TOKEN.len()).any(|window| window == NUMBER_TOKEN) {
        return;
    }
    check(bytes);
    let whole = pushed(bytes, bytes.len().max(1));
    assert_eq!(whole, pushed(bytes, 1));
    assert_eq!(whole, pushed(bytes, 7));
    if let Ok(Ok(slices)) = whole {
        let body: Value = serde_json::from_slice(bytes).expect("it was read");
        let rows: usize = slices.iter().map(|slice| slice.2).sum();
        assert_eq!(rows, points(&body), "rows of what was pushed");
    }
}

/// What one slice is of, its rows as text, and how many they are.
type Shown = (String, Vec<String>, usize);

/// What would be stored, or why not; `Err` = it is no JSON.
fn pushed(bytes: &[u8], at_once: usize) -> Result<Result<Vec<Shown>, String>, String> {
    let mut reading = Reading::new("project_id");
    let mut drip = Drip(bytes, at_once);
    read_body(&mut Json::new(&mut drip), &mut reading).map_err(|error| error.to_string())?;
    if let Some(problem) = reading.problem {
        return Ok(Err(format!("{problem:?}")));
    }
    let Reading { slices, mut texts, .. } = reading;
    Ok(Ok(slices.finish(&mut texts).iter().map(shown).collect()))
}

fn shown(slice: &RatedSlice) -> Shown {
    let RatedSlice { metric, unit, period, scopes, rows, .. } = slice;
    let count = rows.iter().map(arrow_array::RecordBatch::num_rows).sum();
    let rows = rows.iter().map(|batch| format!("{batch:?}")).collect();
    (format!("{metric} {unit} {period} {scopes:?}"), rows, count)
}

/// Of all frames; of members with equal names the last one counts there and here.
fn points(body: &Value) -> usize {
    let frames = body["dataframes"].as_array().into_iter().flatten();
    let usages = frames.filter_map(|frame| frame["usage"].as_object());
    let lists = usages.flat_map(|usage| usage.values()).filter_map(Value::as_array);
    lists.map(Vec::len).sum()
}
