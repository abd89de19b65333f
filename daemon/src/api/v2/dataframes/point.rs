use rust_decimal::Decimal;
use serde_json::{Number, Value};

use super::columns::Column;
use super::json::{Json, JsonError, Kind};
use super::read::{NAME_SIZE_MAX, Reading, SCALAR_SIZE_MAX};
use super::slices::{ATTRIBUTES_MAX, TooMuch};
use crate::api::python;
use crate::report::text::{self, DecimalError};
use crate::usage::ScopeId;

/// Longest value of an attribute, bytes. As JSON it may take six times as much, and the ledger
/// takes 16 KiB.
pub(super) const ATTRIBUTE_SIZE_MAX: usize = 2048;

/// Codes of the attributes of the point before, as they stood in `groupby` and in `metadata`.
#[derive(Debug, Default)]
pub(super) struct Before {
    groupby: Vec<Seen>,
    metadata: Vec<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    name: u32,
    value: u32,
}

impl Before {
    fn of(&mut self, role: Role) -> &mut Vec<Seen> {
        match role {
            Role::Groupby => &mut self.groupby,
            Role::Metadata => &mut self.metadata,
        }
    }
}

/// A point of a type: what was used, and by whom.
pub(super) fn read_point(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(());
    }
    reading.row.values.clear();
    (reading.row.scope, reading.row.price) = (None, Decimal::ZERO);
    let (mut unit, mut has_groupby, mut has_metadata) = (None, false, false);
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        if reading.is_refused() {
            json.skip()?;
            continue;
        }
        match name.bytes() {
            Some(b"vol") => unit = read_volume(json, reading)?,
            Some(b"rating") => {
                reading.row.price = Decimal::ZERO;
                read_rating(json, reading)?;
            }
            Some(b"groupby") => {
                has_groupby = true;
                read_attributes(json, reading, Role::Groupby)?;
            }
            Some(b"metadata") => {
                has_metadata = true;
                read_attributes(json, reading, Role::Metadata)?;
            }
            _ => {
                reading.refuse_frame();
                json.skip()?;
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

/// The unit.
fn read_volume(json: &mut Json<'_>, reading: &mut Reading) -> Result<Option<u32>, JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(None);
    }
    let (mut unit, mut qty) = (None, None);
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        match name.bytes() {
            Some(b"unit") => unit = read_unit(json, reading)?,
            Some(b"qty") => qty = read_number(json, reading, &["vol", "qty"])?,
            _ => {
                reading.refuse_frame();
                json.skip()?;
            }
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

fn read_unit(json: &mut Json<'_>, reading: &mut Reading) -> Result<Option<u32>, JsonError> {
    if json.kind()? != Kind::Text {
        json.skip()?;
        reading.refuse_frame();
        return Ok(None);
    }
    let unit = json.text(NAME_SIZE_MAX)?.get().map(|unit| reading.texts.code(unit));
    if unit.is_none() {
        let reason = format!("a unit must be at most {NAME_SIZE_MAX} bytes long");
        reading.refuse_point(&["vol", "unit"], reason);
    }
    Ok(unit)
}

fn read_rating(json: &mut Json<'_>, reading: &mut Reading) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(());
    }
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        if name.bytes() == Some(b"price") {
            let price = read_number(json, reading, &["rating", "price"])?;
            reading.row.price = price.unwrap_or_default();
        } else {
            reading.refuse_frame();
            json.skip()?;
        }
    }
    Ok(())
}

/// The decimal that a JSON number or a text says, exactly.
fn read_number(
    json: &mut Json<'_>,
    reading: &mut Reading,
    place: &[&str],
) -> Result<Option<Decimal>, JsonError> {
    let kind = json.kind()?;
    let written = match kind {
        Kind::Number => json.number(SCALAR_SIZE_MAX)?,
        Kind::Text => json.text(SCALAR_SIZE_MAX)?,
        Kind::Object | Kind::List | Kind::Word => {
            json.skip()?;
            reading.refuse_frame();
            return Ok(None);
        }
    };
    let Some(written) = written.get().map(str::trim) else {
        let reason = format!("a number must be at most {SCALAR_SIZE_MAX} bytes long");
        reading.refuse_point(place, reason);
        return Ok(None);
    };
    match text::decimal(written) {
        Ok(number) => return Ok(Some(number)),
        Err(DecimalError::NotANumber) => reading.refuse_frame(),
        Err(error) => {
            let number = written.parse::<Number>().ok().filter(|_| kind == Kind::Number);
            let shown = number.map_or_else(|| written.to_owned(), |number| number.to_string());
            reading.refuse_point(place, format!("{shown}: {error}"));
        }
    }
    Ok(None)
}

/// What an attribute is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Groupby,
    Metadata,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Groupby => "groupby",
            Role::Metadata => "metadata",
        }
    }

    fn has(self, column: Column) -> bool {
        matches!(column, Column::Groupby(_)) == (self == Role::Groupby)
    }
}

fn read_attributes(
    json: &mut Json<'_>,
    reading: &mut Reading,
    role: Role,
) -> Result<(), JsonError> {
    if !json.object()? {
        reading.refuse_frame();
        return Ok(());
    }
    // An earlier member of this name does not count.
    reading.row.values.retain(|(column, _)| !role.has(*column));
    if role == Role::Groupby {
        reading.row.scope = None;
    }
    let mut place = 0;
    while let Some(name) = json.next_name(NAME_SIZE_MAX)? {
        if reading.is_refused() {
            json.skip()?;
            continue;
        }
        let before = reading.before.of(role).get(place).copied();
        let Some(name) = reading.texts.code_of(name, before.map(|seen| seen.name)) else {
            let reason =
                format!("the name of an attribute must be at most {NAME_SIZE_MAX} bytes long");
            reading.refuse_point(&[role.name()], reason);
            json.skip()?;
            continue;
        };
        let guess = before.map(|seen| seen.value);
        if let Some(value) = read_value(json, reading, (role, name), guess)? {
            remember(reading.before.of(role), place, Seen { name, value });
        }
        place += 1;
    }
    Ok(())
}

fn remember(before: &mut Vec<Seen>, place: usize, seen: Seen) {
    match before.get_mut(place) {
        Some(known) => *known = seen,
        None if place < ATTRIBUTES_MAX => {
            before.resize(place, Seen::default());
            before.push(seen);
        }
        None => {}
    }
}

/// The value of an attribute, and its code.
fn read_value(
    json: &mut Json<'_>,
    reading: &mut Reading,
    (role, name): (Role, u32),
    guess: Option<u32>,
) -> Result<Option<u32>, JsonError> {
    let is_text = json.kind()? == Kind::Text;
    let value = if is_text {
        let text = json.text(ATTRIBUTE_SIZE_MAX)?;
        reading.texts.code_of(text, guess)
    } else {
        match (json.small(ATTRIBUTE_SIZE_MAX)?, role) {
            (Some(Value::Null), Role::Groupby) if name == reading.scope_key => {
                reading.row.scope = None;
                return Ok(None);
            }
            (Some(other), Role::Groupby) => Some(reading.texts.code(&python::attribute(&other))),
            (Some(other), Role::Metadata) => Some(reading.texts.code(&other.to_string())),
            (None, _) => None,
        }
    };
    let Some(value) = value else {
        let reason =
            format!("the value of an attribute must be at most {ATTRIBUTE_SIZE_MAX} bytes long");
        let name = reading.texts.text(name).to_owned();
        reading.refuse_point(&[role.name(), &name], reason);
        return Ok(None);
    };
    let column = match role {
        Role::Groupby if name == reading.scope_key => {
            set_scope(reading, value);
            return Ok(Some(value));
        }
        Role::Groupby => Column::Groupby(name),
        Role::Metadata if is_text => Column::Metadata(name),
        Role::Metadata => Column::MetadataJson(name),
    };
    set(reading, role, column, value);
    Ok(Some(value))
}

fn set_scope(reading: &mut Reading, scope: u32) {
    if reading.scope != Some(scope)
        && let Err(error) = ScopeId::new(reading.texts.text(scope))
    {
        let name = reading.texts.text(reading.scope_key).to_owned();
        reading.refuse_point(&[Role::Groupby.name(), &name], error.to_string());
        return;
    }
    (reading.scope, reading.row.scope) = (Some(scope), Some(scope));
}

/// The last value of a name counts.
fn set(reading: &mut Reading, role: Role, column: Column, text: u32) {
    let values = &mut reading.row.values;
    let name = |column| match column {
        Column::Groupby(name) | Column::Metadata(name) | Column::MetadataJson(name) => name,
    };
    let is_same = |other: &Column| role.has(*other) && name(*other) == name(column);
    match values.iter().position(|(other, _)| is_same(other)) {
        Some(place) => values[place] = (column, text),
        None if values.len() < ATTRIBUTES_MAX => values.push((column, text)),
        None => reading.refuse_point(&[role.name()], TooMuch::Attributes.to_string()),
    }
}
