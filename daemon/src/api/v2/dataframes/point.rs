use rust_decimal::Decimal;
use serde::de::MapAccess;
use serde_json::Value;

use super::columns::Column;
use super::json::{Members, Place, read_small};
use super::read::{NAME_SIZE_MAX, Reading, SCALAR_SIZE_MAX};
use super::slices::{ATTRIBUTES_MAX, TooMuch};
use crate::api::python;
use crate::report::text::{self, DecimalError};
use crate::usage::ScopeId;

/// Longest value of an attribute, bytes. As JSON it may take six times as much, and the ledger
/// takes 16 KiB.
pub(super) const ATTRIBUTE_SIZE_MAX: usize = 2048;

/// A point of a type: what was used, and by whom.
pub(super) struct PointPlace<'r>(pub(super) &'r mut Reading);

impl<'de> Place<'de> for PointPlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let reading = self.0;
        reading.row.values.clear();
        (reading.row.scope, reading.row.price) = (None, Decimal::ZERO);
        let (mut unit, mut has_groupby, mut has_metadata) = (None, false, false);
        while let Some(name) = members.next_name()? {
            if reading.is_refused() {
                members.skip()?;
                continue;
            }
            match name.as_str() {
                "vol" => unit = members.read(VolumePlace(reading))?,
                "rating" => {
                    reading.row.price = Decimal::ZERO;
                    members.read(RatingPlace(reading))?;
                }
                "groupby" => {
                    has_groupby = true;
                    members.read(AttributesPlace { reading, kind: Kind::Groupby })?;
                }
                "metadata" => {
                    has_metadata = true;
                    members.read(AttributesPlace { reading, kind: Kind::Metadata })?;
                }
                _ => {
                    reading.refuse_frame();
                    members.skip()?;
                }
            }
        }
        match unit {
            Some(unit) if has_groupby && has_metadata && !reading.is_refused() => {
                reading.add_row(unit);
            }
            _ => reading.refuse_frame(),
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse_frame();
    }
}

struct VolumePlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for VolumePlace<'_> {
    /// The unit.
    type Output = Option<u32>;

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<Option<u32>, A::Error> {
        let reading = self.0;
        let (mut unit, mut qty) = (None, None);
        while let Some(name) = members.next_name()? {
            let value = read_small(&mut members, SCALAR_SIZE_MAX)?;
            match (name.as_str(), value) {
                ("unit", Some(Value::String(text))) if text.len() <= NAME_SIZE_MAX => {
                    unit = Some(reading.texts.code(&text));
                }
                ("unit", Some(Value::String(_)) | None) => {
                    let reason = format!("a unit must be at most {NAME_SIZE_MAX} bytes long");
                    reading.refuse_point(&["vol", "unit"], reason);
                }
                ("qty", value) => qty = number(reading, value, &["vol", "qty"]),
                _ => reading.refuse_frame(),
            }
        }
        if let (Some(unit), Some(qty)) = (unit, qty) {
            reading.row.qty = qty;
            Ok(Some(unit))
        } else {
            reading.refuse_frame();
            Ok(None)
        }
    }

    fn wrong(self) -> Option<u32> {
        self.0.refuse_frame();
        None
    }
}

struct RatingPlace<'r>(&'r mut Reading);

impl<'de> Place<'de> for RatingPlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let reading = self.0;
        while let Some(name) = members.next_name()? {
            let value = read_small(&mut members, SCALAR_SIZE_MAX)?;
            if name == "price" {
                let price = number(reading, value, &["rating", "price"]);
                reading.row.price = price.unwrap_or_default();
            } else {
                reading.refuse_frame();
            }
        }
        Ok(())
    }

    fn wrong(self) {
        self.0.refuse_frame();
    }
}

/// The decimal that a JSON number or a text says, exactly.
fn number(reading: &mut Reading, value: Option<Value>, place: &[&str]) -> Option<Decimal> {
    let written = match value {
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(_) => {
            reading.refuse_frame();
            return None;
        }
        None => {
            let reason = format!("a number must be at most {SCALAR_SIZE_MAX} bytes long");
            reading.refuse_point(place, reason);
            return None;
        }
    };
    match text::decimal(&written) {
        Ok(number) => Some(number),
        Err(DecimalError::NotANumber) => {
            reading.refuse_frame();
            None
        }
        Err(error) => {
            reading.refuse_point(place, format!("{written}: {error}"));
            None
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Groupby,
    Metadata,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Groupby => "groupby",
            Kind::Metadata => "metadata",
        }
    }

    fn has(self, column: Column) -> bool {
        matches!(column, Column::Groupby(_)) == (self == Kind::Groupby)
    }
}

struct AttributesPlace<'r> {
    reading: &'r mut Reading,
    kind: Kind,
}

impl<'de> Place<'de> for AttributesPlace<'_> {
    type Output = ();

    fn object<A: MapAccess<'de>>(self, mut members: Members<A>) -> Result<(), A::Error> {
        let AttributesPlace { reading, kind } = self;
        // An earlier member of this name does not count.
        reading.row.values.retain(|(column, _)| !kind.has(*column));
        if kind == Kind::Groupby {
            reading.row.scope = None;
        }
        while let Some(name) = members.next_name()? {
            if reading.is_refused() {
                members.skip()?;
                continue;
            }
            let value = read_small(&mut members, ATTRIBUTE_SIZE_MAX)?;
            if name.len() > NAME_SIZE_MAX {
                let reason =
                    format!("the name of an attribute must be at most {NAME_SIZE_MAX} bytes long");
                reading.refuse_point(&[kind.name()], reason);
                continue;
            }
            add_attribute(reading, kind, &name, value);
        }
        Ok(())
    }

    fn wrong(self) {
        self.reading.refuse_frame();
    }
}

/// `value` = `None` when it is too long.
fn add_attribute(reading: &mut Reading, kind: Kind, name: &str, value: Option<Value>) {
    let (text, is_text) = match (value, kind) {
        (Some(Value::String(text)), _) => (text, true),
        (Some(Value::Null), Kind::Groupby) if name == reading.scope_key => {
            reading.row.scope = None;
            return;
        }
        (Some(other), Kind::Groupby) => (python::attribute(&other), true),
        (Some(other), Kind::Metadata) => (other.to_string(), false),
        (None, _) => {
            let reason = format!(
                "the value of an attribute must be at most {ATTRIBUTE_SIZE_MAX} bytes long"
            );
            reading.refuse_point(&[kind.name(), name], reason);
            return;
        }
    };
    if kind == Kind::Groupby && name == reading.scope_key {
        match ScopeId::new(&text) {
            Ok(_) => reading.row.scope = Some(reading.texts.code(&text)),
            Err(error) => reading.refuse_point(&[kind.name(), name], error.to_string()),
        }
        return;
    }
    let (name, text) = (reading.texts.code(name), reading.texts.code(&text));
    let column = match (kind, is_text) {
        (Kind::Groupby, _) => Column::Groupby(name),
        (Kind::Metadata, true) => Column::Metadata(name),
        (Kind::Metadata, false) => Column::MetadataJson(name),
    };
    set(reading, kind, column, text);
}

/// The last value of a name counts.
fn set(reading: &mut Reading, kind: Kind, column: Column, text: u32) {
    let values = &mut reading.row.values;
    let name = |column| match column {
        Column::Groupby(name) | Column::Metadata(name) | Column::MetadataJson(name) => name,
    };
    let is_same = |other: &Column| kind.has(*other) && name(*other) == name(column);
    match values.iter().position(|(other, _)| is_same(other)) {
        Some(place) => values[place] = (column, text),
        None if values.len() < ATTRIBUTES_MAX => values.push((column, text)),
        None => reading.refuse_point(&[kind.name()], TooMuch::Attributes.to_string()),
    }
}
