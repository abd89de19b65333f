use serde_json::{Value, json};

use super::push::KEY_SIZE_MAX;
use super::show::PARAMETERS;
use crate::api::openapi::{Input, Kind, Operation, named, schemas};

const KEY: Input = Input::new(
    "Idempotency-Key",
    Kind::Schema(key),
    "A repeated request with the same key and body stores nothing again.",
);

pub(crate) fn dataframes() -> Operation {
    let page = schemas::record(&json!({
        "total": {"type": "integer", "minimum": 0, "description": "points on all pages"},
        "dataframes": schemas::list(&frame("V2Frame", &number())),
    }));
    Operation::new("Rated points, by period and type")
        .says(
            "`limit` and `offset` count points. With `Accept: application/json; decimal=string` \
             quantities and prices are texts; with `Accept: text/csv` the answer has a line for \
             each point, a column for each attribute, and no limit unless one is given.",
        )
        .inputs(PARAMETERS)
        .answers_figures(200, "a page of points", named("V2Frames", &page))
        .refuses(404, "no point matches")
}

pub(crate) fn push() -> Operation {
    let frames = json!({
        "type": "object",
        "properties": {"dataframes": {
            "type": "array",
            "items": frame("V2FrameInput", &schemas::decimal_input()),
            "minItems": 1,
        }},
        "required": ["dataframes"],
        "additionalProperties": false,
    });
    Operation::new("Stores points that somebody else has measured and rated")
        .says("All of them or none. Equal points are several points.")
        .content("application/json", named("V2Push", &frames))
        .reads_header(KEY)
        .answers_empty(204, "everything is stored")
        .refuses(409, "the key was used before, with another body")
}

pub(super) fn filters() -> Value {
    let pair = json!({"type": "string", "pattern": "^[^:,]*:[^:,]*$"});
    json!({"type": "array", "items": pair, "minItems": 1})
}

fn key() -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": KEY_SIZE_MAX, "pattern": "^[!-~]+$"})
}

fn number() -> Value {
    json!({"type": ["number", "string"]})
}

fn frame(name: &'static str, number: &Value) -> Value {
    let attributes = json!({"type": "object"});
    let point = json!({
        "type": "object",
        "properties": {
            "vol": schemas::record(&json!({"unit": schemas::text(), "qty": number})),
            "rating": {"type": "object", "properties": {"price": number}},
            "groupby": attributes,
            "metadata": attributes,
        },
        "required": ["vol", "groupby", "metadata"],
    });
    let frame = schemas::record(&json!({
        "period": schemas::record(&json!({"begin": schemas::date(), "end": schemas::date()})),
        "usage": {"type": "object", "additionalProperties": schemas::list(&point)},
    }));
    named(name, &frame)
}
