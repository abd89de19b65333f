//! `/v2/completeness`: what is in the ledger, and what is missing; gaps first.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::schema::{LIMIT, OFFSET, Parameters};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::report::{self, Gap, GapRow, GapsError, GapsRequest};

const PARAMETERS: &[Input] = &[
    Input::date("begin", "Periods that begin then or later; default: this month's begin."),
    Input::date("end", "Periods that begin before; default: the next month's begin."),
    Input::list("scope_id", "These scopes only."),
    Input::list("metric", "These metrics only, by name or type."),
    Input::new("state", Kind::Schema(describe::states), "These states only."),
    LIMIT,
    OFFSET,
];

pub(crate) async fn completeness(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, PARAMETERS)?;
    let now = context.clock.now();
    let (month_begin, month_end) = dates::month_of(now);
    let (offset, limit) = parameters.page()?;
    let texts = |name| {
        let values = parameters.multiple(name)?;
        Some(values.into_iter().map(str::to_owned))
    };
    let collect = &context.config.collect;
    let scopes = call.sight.scopes();
    let scopes = scopes.map(|ids| ids.iter().map(ToString::to_string).collect());
    let request = GapsRequest {
        begin: parameters.date("begin")?.unwrap_or(month_begin),
        end: parameters.date("end")?.unwrap_or(month_end),
        scopes: scopes.or(texts("scope_id").map(Iterator::collect)),
        metrics: texts("metric").map(Iterator::collect),
        states: states(&parameters)?,
        offset,
        limit,
        now,
        period_secs: collect.period_secs,
        wait_periods: collect.wait_periods,
        configured: collect.metrics.iter().map(|metric| metric.id.clone()).collect(),
    };
    let ledger = Arc::clone(&context.ledger);
    let gaps = context.block(move || report::gaps(&*ledger, &request)).await?;
    let counts: Map<String, Value> = Gap::ALL
        .into_iter()
        .map(|state| (state.name().to_owned(), json!(gaps.counts.get(&state).unwrap_or(&0))))
        .collect();
    let rows: Vec<Value> = gaps.rows.iter().map(|row| show(row, &call.sight)).collect();
    Ok(Answer::document(json!({"total": gaps.total, "counts": counts, "results": rows})))
}

fn states(parameters: &Parameters) -> Result<Option<Vec<Gap>>, Failure> {
    let Some(names) = parameters.multiple("state") else { return Ok(None) };
    let known = |name: &str| Gap::ALL.into_iter().find(|state| state.name() == name);
    let states: Option<Vec<Gap>> = names.into_iter().map(known).collect();
    let names = Gap::ALL.map(Gap::name).join(", ");
    states.map(Some).ok_or_else(|| parameters.refuse("state", &format!("must be among {names}")))
}

/// Why something failed names servers, and scopes of others: that is for administrators.
fn show(row: &GapRow, sight: &Sight) -> Value {
    let mut shown = json!({
        "scope_id": row.scope.as_str(),
        "metric": row.metric.name,
        "type": row.metric.alt_name,
        "begin": dates::zoned(row.period.begin()),
        "end": dates::zoned(row.period.end()),
        "state": row.state.name(),
    });
    if let Some((attempts, reason)) = &row.failure {
        shown["attempts"] = json!(attempts);
        if *sight == Sight::Everything {
            shown["reason"] = json!(reason);
        }
    }
    shown
}

impl From<GapsError> for Failure {
    fn from(error: GapsError) -> Failure {
        match error {
            GapsError::TooMany { .. } => Failure::bad_request(error.to_string()),
            GapsError::Ledger(error) => error.into(),
        }
    }
}

pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::PARAMETERS;
    use crate::api::openapi::{Operation, named, schemas};
    use crate::report::{COMPLETENESS_CELLS_MAX, Gap};

    fn row() -> Value {
        let schema = json!({
            "type": "object",
            "required": ["scope_id", "metric", "type", "begin", "end", "state"],
            "properties": {
                "scope_id": {"type": "string"},
                "metric": {"type": "string", "description": "as the source calls it"},
                "type": {"type": "string", "description": "as reports call it"},
                "begin": schemas::date(),
                "end": schemas::date(),
                "state": {"type": "string", "enum": Gap::ALL.map(Gap::name)},
                "attempts": {"type": "integer", "description": "in vain so far"},
                "reason": {
                    "type": "string",
                    "description": "why the newest attempt failed; for administrators",
                },
            },
            "additionalProperties": false,
        });
        named("V2Completeness", &schema)
    }

    pub(super) fn states() -> Value {
        let state = json!({"type": "string", "enum": Gap::ALL.map(Gap::name)});
        json!({"type": "array", "items": state, "minItems": 1})
    }

    pub(crate) fn completeness() -> Operation {
        let counts = Gap::ALL.map(|state| (state.name().to_owned(), json!({"type": "integer"})));
        let counts = Value::Object(counts.into_iter().collect());
        let answer = json!({
            "total": {"type": "integer", "description": "rows before paging"},
            "counts": schemas::record(&counts),
            "results": schemas::list(&row()),
        });
        let too_many =
            format!("more than {COMPLETENESS_CELLS_MAX} periods x scopes x metrics are asked for");
        Operation::new("What is in the ledger, and what is missing")
            .says(
                "Gaps come first: `failed` (tried in vain so far), `pending` (due and not there \
                 yet), `lost` (the source can never tell any more), then `no_data`, `zero` and \
                 `collected`; within a state by period, scope and metric. `counts` is of all \
                 states, whatever `state` says.",
            )
            .inputs(PARAMETERS)
            .answers(200, "what is known", schemas::record(&answer))
            .refuses(400, &too_many)
    }
}
