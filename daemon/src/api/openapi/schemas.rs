//! What stands in many bodies.

use serde_json::{Value, json};

use super::operation::named;

pub(crate) fn text() -> Value {
    json!({"type": "string"})
}

/// An exact decimal as v1 shows it.
pub(crate) fn decimal_text() -> Value {
    let schema = json!({
        "type": "string",
        "description": "an exact decimal number; `0E-28` is a zero with 28 decimals",
        "pattern": r"^-?[0-9]+(\.[0-9]+)?([Ee][-+]?[0-9]+)?$",
        "examples": ["0.25"],
    });
    named("DecimalText", &schema)
}

/// A decimal as a caller may send it.
pub(crate) fn decimal_input() -> Value {
    let schema = json!({
        "description": "a decimal number of at most 28 digits, as a number or as a text",
        "anyOf": [
            {"type": "number"},
            {"type": "string", "pattern": r"^-?[0-9]{1,14}(\.[0-9]{1,14})?$"},
        ],
    });
    named("DecimalInput", &schema)
}

/// A date as v1 shows it: UTC without saying so.
pub(crate) fn naive_date() -> Value {
    let schema = json!({
        "type": "string",
        "description": "UTC, without a zone",
        "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?$",
        "examples": ["2026-11-01T00:00:00"],
    });
    named("NaiveDate", &schema)
}

/// A date as v2 shows it.
pub(crate) fn date() -> Value {
    json!({"type": "string", "format": "date-time"})
}

pub(crate) fn date_or_null() -> Value {
    json!({"type": ["string", "null"], "format": "date-time"})
}

pub(crate) fn list(items: &Value) -> Value {
    json!({"type": "array", "items": items})
}

/// An object with all of these members and no others.
pub(crate) fn record(members: &Value) -> Value {
    let names: Vec<&String> = members.as_object().into_iter().flat_map(|it| it.keys()).collect();
    json!({
        "type": "object",
        "required": names,
        "properties": members,
        "additionalProperties": false,
    })
}

/// An object with one member: a list of such items.
pub(crate) fn list_as(name: &str, items: &Value) -> Value {
    let list = list(items);
    record(&json!({name: list}))
}
