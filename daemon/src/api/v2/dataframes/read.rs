//! Frames read while they come in, straight into columns.
//!
//! The first mistake counts; what follows is read to its end all the same, because a body that is
//! no JSON at all is refused as such. Of members with equal names the last one counts.

use chrono::{DateTime, Utc};

use super::columns::Row;
use super::json::{Json, JsonError, Kind};
use super::point::{Before, read_point};
use super::problem::{BODY_SHOWN_SIZE_MAX, NOT_VALID, Problem, Step};
use super::slices::{SliceKey, Slices, TEXTS_MAX, TooMuch};
use super::texts::Texts;
use crate::api::dates;
use crate::usage::Period;

/// Longest name of a type, a unit or an attribute, bytes.
pub(super) const NAME_SIZE_MAX: usize = 255;

/// Longest value where a number, a date or a name belongs, bytes.
pub(super) const SCALAR_SIZE_MAX: usize = 1024;

/// What has been read so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) texts: Texts,
    /// The attribute that says who used something.
    pub(super) scope_key: u32,
    /// The last scope that was seen to be one.
    pub(super) scope: Option<u32>,
    /// Names and values of the point before, where they stood: mostly they come again.
    pub(super) before: Before,
    pub(super) problem: Option<Problem>,
    pub(super) slices: Slices<SliceKey>,
    /// Elements of `dataframes`; `None` = there is no such list.
    pub(super) frames: Option<usize>,
    /// Of the frame being read; its period may come after them.
    pub(super) rows: Slices<(u32, u32)>,
    pub(super) place: PointAt,
    /// Used again for each point.
    pub(super) row: Row,
}

/// Where the point being read stands.
#[derive(Debug, Default)]
pub(super) struct PointAt {
    pub(super) frame: usize,
    pub(super) metric_type: String,
    pub(super) type_code: u32,
    pub(super) point: usize,
}

impl Reading {
    pub(super) fn new(scope_key: &str) -> Reading {
        let mut texts = Texts::default();
        let scope_key = texts.code(scope_key);
        Reading { texts, scope_key, ..Reading::default() }
    }

    pub(super) fn refuse(&mut self, path: Vec<Step>, reason: impl Into<String>) {
        if self.problem.is_none() {
            self.problem = Some(Problem { reason: reason.into(), path });
        }
    }

    /// A mistake that the contract has one text for.
    pub(super) fn refuse_frame(&mut self) {
        self.refuse(self.frame_path(), NOT_VALID);
    }

    /// A mistake somewhere in the point being read.
    pub(super) fn refuse_point(&mut self, rest: &[&str], reason: impl Into<String>) {
        let mut path = self.frame_path();
        let PointAt { metric_type, point, .. } = &self.place;
        path.extend(["usage".into(), metric_type.as_str().into(), (*point).into()]);
        path.extend(rest.iter().map(|step| Step::from(*step)));
        self.refuse(path, reason);
    }

    fn frame_path(&self) -> Vec<Step> {
        vec!["dataframes".into(), self.place.frame.into()]
    }

    pub(super) fn is_refused(&self) -> bool {
        self.problem.is_some()
    }

    /// Adds the point that stands in `row`.
    pub(super) fn add_row(&mut self, unit: u32) {
        let added = self.rows.push((self.place.type_code, unit), &self.row);
        let few_texts = if self.texts.count() > TEXTS_MAX { Err(TooMuch::Texts) } else { Ok(()) };
        if let Err(error) = added.and(few_texts) {
            self.refuse_point(&[], error.to_string());
        }
    }

    fn end_frame(&mut self, period: Period) {
        let rows = std::mem::take(&mut self.rows);
        let moved = self.slices.append(rows, |(metric, unit)| (period, metric, unit));
        if let Err(error) = moved {
            self.refuse(self.frame_path(), error.to_string());
        }
    }
}

/// The whole body.
pub(super) fn read_body(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse(Vec::new(), "expected a dictionary");
        return json.end();
    }
    while let Some(name) = json.next_name(BODY_SHOWN_SIZE_MAX)? {
        if name.get() == Some("dataframes") {
            (reading.slices, reading.frames) = (Slices::default(), None);
            read_frames(json, reading)?;
        } else {
            let step = Step::from(name.get().unwrap_or("[...]"));
            reading.refuse(vec![step], "extra keys not allowed");
            json.skip()?;
        }
    }
    if reading.frames.is_none() {
        reading.refuse(vec!["dataframes".into()], "required key not provided");
    }
    json.end()
}

fn read_frames(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.list()? {
        reading.refuse(vec!["dataframes".into()], "expected a list");
        return Ok(());
    }
    reading.place.frame = 0;
    while json.next_item()? {
        read_frame(json, reading)?;
        reading.place.frame += 1;
    }
    reading.frames = Some(reading.place.frame);
    Ok(())
}

fn read_frame(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(());
    }
    let (mut period, mut has_usage) = (None, false);
    reading.rows = Slices::default();
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        if reading.is_refused() {
            json.skip()?;
            continue;
        }
        match name.bytes() {
            Some(b"period") => period = read_period(json, reading)?,
            Some(b"usage") => {
                reading.rows = Slices::default();
                has_usage = true;
                read_usage(json, reading)?;
            }
            _ => {
                reading.refuse_frame();
                json.skip()?;
            }
        }
    }
    match period {
        Some(period) if has_usage && !reading.is_refused() => reading.end_frame(period),
        _ => reading.refuse_frame(),
    }
    Ok(())
}

fn read_period(json: &mut Json<'_>, reading: &mut Reading) -> Result<Option<Period>, JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(None);
    }
    let (mut begin, mut end, mut extra) = (None, None, false);
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        match name.bytes() {
            Some(b"begin") => begin = read_date(json)?,
            Some(b"end") => end = read_date(json)?,
            _ => {
                extra = true;
                json.skip()?;
            }
        }
    }
    let (Some(begin), Some(end), false) = (begin, end, extra) else {
        reading.refuse_frame();
        return Ok(None);
    };
    let period = Period::new(begin, end);
    if period.is_none() {
        let mut path = reading.frame_path();
        path.push("period".into());
        reading.refuse(path, "a period must end at least a second after its begin");
    }
    Ok(period)
}

fn read_date(json: &mut Json<'_>) -> Result<Option<DateTime<Utc>>, JsonError> {
    if json.kind()? != Kind::Text {
        json.skip()?;
        return Ok(None);
    }
    Ok(json.text(SCALAR_SIZE_MAX)?.get().and_then(dates::parse))
}

fn read_usage(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(());
    }
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        if reading.is_refused() {
            json.skip()?;
            continue;
        }
        let Some(metric_type) = name.get().filter(|name| !name.is_empty()) else {
            let mut path = reading.frame_path();
            path.push("usage".into());
            let size = name.size;
            let reason =
                format!("the name of a type must be 1 to {NAME_SIZE_MAX} bytes long, got {size}");
            reading.refuse(path, reason);
            json.skip()?;
            continue;
        };
        let code = reading.texts.code(metric_type);
        // The last one of that name counts.
        reading.rows.remove(|(other, _)| other == code);
        reading.place.type_code = code;
        metric_type.clone_into(&mut reading.place.metric_type);
        read_points(json, reading)?;
    }
    Ok(())
}

fn read_points(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.list()? {
        reading.refuse_frame();
        return Ok(());
    }
    reading.place.point = 0;
    while json.next_item()? {
        read_point(json, reading)?;
        reading.place.point += 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
