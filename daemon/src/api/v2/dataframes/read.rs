//! Frames read while they come in, straight into columns.
//!
//! The first mistake counts; what follows is read to its end all the same, because a body that is
//! no JSON at all is refused as such. Of members with equal names the last one counts.

use serde::de::{MapAccess, SeqAccess};
use serde_json::Value;

use super::columns::Row;
use super::json::{At, Members, Place, read_small};
use super::point::PointPlace;
use super::problem::{NOT_VALID, Problem, Step};
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
    /// The attribute that says who used something.
    pub(super) scope_key: String,
    pub(super) texts: Texts,
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
        Reading { scope_key: scope_key.to_owned(), ..Reading::default() }
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
pub(super) struct BodyPlace<'r>(pub(super) &'r mut Reading);

impl<'de> Place<'de> for BodyPlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let reading = self.0;
        while let Some(name) = members.next_name()? {
            if name == "dataframes" {
                (reading.slices, reading.frames) = (Slices::default(), None);
                members.read(FramesPlace(reading))?;
            } else {
                reading.refuse(vec![Step::Member(name)], "extra keys not allowed");
                members.skip()?;
            }
        }
        if reading.frames.is_none() {
            reading.refuse(vec!["dataframes".into()], "required key not provided");
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse(Vec::new(), "expected a dictionary");
    }
}

struct FramesPlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for FramesPlace<'_> {
    type Output = ();

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut count = 0;
        loop {
            reading.place.frame = count;
            if items.next_element_seed(At(FramePlace(reading)))?.is_none() {
                reading.frames = Some(count);
                return Ok(());
            }
            count += 1;
        }
    }

    fn wrong(self) {
        self.0.refuse(vec!["dataframes".into()], "expected a list");
    }
}

struct FramePlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for FramePlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let reading = self.0;
        let (mut period, mut has_usage) = (None, false);
        reading.rows = Slices::default();
        while let Some(name) = members.next_name()? {
            if reading.is_refused() {
                members.skip()?;
                continue;
            }
            match name.as_str() {
                "period" => period = members.read(PeriodPlace(reading))?,
                "usage" => {
                    reading.rows = Slices::default();
                    has_usage = true;
                    members.read(UsagePlace(reading))?;
                }
                _ => {
                    reading.refuse_frame();
                    members.skip()?;
                }
            }
        }
        match period {
            Some(period) if has_usage && !reading.is_refused() => reading.end_frame(period),
            _ => reading.refuse_frame(),
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse_frame();
    }
}

struct PeriodPlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for PeriodPlace<'_> {
    type Output = Option<Period>;

    fn object<A: MapAccess<'de>>(
        self,
        mut members: Members<A>,
    ) -> Result<Option<Period>, A::Error> {
        let (mut begin, mut end, mut extra) = (None, None, false);
        while let Some(name) = members.next_name()? {
            let date = match read_small(&mut members, SCALAR_SIZE_MAX)? {
                Some(Value::String(text)) => dates::parse(&text),
                _ => None,
            };
            match name.as_str() {
                "begin" => begin = date,
                "end" => end = date,
                _ => extra = true,
            }
        }
        let (Some(begin), Some(end), false) = (begin, end, extra) else {
            self.0.refuse_frame();
            return Ok(None);
        };
        let period = Period::new(begin, end);
        if period.is_none() {
            let mut path = self.0.frame_path();
            path.push("period".into());
            self.0.refuse(path, "a period must end at least a second after its begin");
        }
        Ok(period)
    }

    fn wrong(self) -> Option<Period> {
        self.0.refuse_frame();
        None
    }
}

struct UsagePlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for UsagePlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let reading = self.0;
        while let Some(name) = members.next_name()? {
            if reading.is_refused() {
                members.skip()?;
                continue;
            }
            if name.is_empty() || name.len() > NAME_SIZE_MAX {
                let mut path = reading.frame_path();
                path.push("usage".into());
                let reason = format!(
                    "the name of a type must be 1 to {NAME_SIZE_MAX} bytes long, got {}",
                    name.len()
                );
                reading.refuse(path, reason);
                members.skip()?;
                continue;
            }
            let code = reading.texts.code(&name);
            // The last one of that name counts.
            reading.rows.remove(|(other, _)| other == code);
            (reading.place.type_code, reading.place.metric_type) = (code, name);
            members.read(PointsPlace(reading))?;
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse_frame();
    }
}

struct PointsPlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for PointsPlace<'_> {
    type Output = ();

    fn list<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let reading = self.0;
        reading.place.point = 0;
        while items.next_element_seed(At(PointPlace(reading)))?.is_some() {
            reading.place.point += 1;
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse_frame();
    }
}
