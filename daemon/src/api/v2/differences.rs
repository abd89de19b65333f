//! `/v2/ledger/generations` and `/v2/ledger/differences`: figures from before they were rated
//! again, beside those that took their place.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::schema::{LIMIT, OFFSET, Parameters};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::ledger::{
    Difference, DifferencePlace, DifferenceQuery, Figures, Generation, Ledger, Which,
};
use crate::usage::{ScopeId, Sum};

/// Rows of a page when nobody says, and at most.
const LIMIT_DEFAULT: i64 = 1000;
const LIMIT_MAX: i64 = 10_000;

const ALL: &str = "all";
const CHANGED: &str = "changed";

const PARAMETERS: &[Input] = &[
    Input::integer(
        "id",
        1,
        "What this reprocessing has replaced; default: what was there last, of all of them.",
    ),
    Input::date("begin", "Periods that begin then or later; default: all."),
    Input::date("end", "Periods that begin before; default: all."),
    Input::list("scope_id", "These scopes only."),
    Input::new("show", Kind::Words(&[ALL, CHANGED]), "Figures that are the same, too?")
        .default("\"all\""),
    Input::new("after", Kind::Schema(place_schema), "What the page before gave as `next`."),
    Input::new("limit", Kind::Integer { min: 1, max: LIMIT_MAX }, "How many rows at most.")
        .default("1000"),
];

const GENERATIONS_PARAMETERS: &[Input] = &[LIMIT, OFFSET];

pub(crate) async fn generations(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let (offset, limit) = Parameters::read(call, GENERATIONS_PARAMETERS)?.page()?;
    let generations = context.ledger(Ledger::generations).await?;
    let covers = |scope: &&ScopeId| call.sight.covers(scope.as_str());
    let show = |generation: &Generation| {
        let scopes: Vec<&str> =
            generation.scopes.iter().filter(covers).map(ScopeId::as_str).collect();
        (!scopes.is_empty()).then(|| {
            json!({
                "id": generation.id,
                "scope_ids": scopes,
                "reason": generation.reason,
                "start_reprocess_time": dates::zoned(generation.start),
                "end_reprocess_time": dates::zoned(generation.end),
                "scheduled_at": dates::zoned(generation.at),
            })
        })
    };
    let mut results: Vec<Value> = generations.iter().filter_map(show).collect();
    let total = results.len();
    results.truncate(offset.saturating_add(limit));
    results.drain(..offset.min(results.len()));
    Ok(Answer::document(json!({"total": total, "results": results})))
}

pub(crate) async fn differences(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let query = read(call)?;
    let page = context.ledger(move |ledger| ledger.differences(&query)).await?;
    let next = page.next.map(|place| {
        let DifferencePlace { begin_secs, metric, scope } = place;
        format!("{begin_secs}.{metric}.{scope}")
    });
    let results: Vec<Value> = page.rows.iter().map(show).collect();
    Ok(Answer::document(json!({"results": results, "next": next})))
}

fn read(call: &Call) -> Result<DifferenceQuery, Failure> {
    let parameters = Parameters::read(call, PARAMETERS)?;
    let reprocessing = match parameters.integer("id")? {
        None => None,
        Some(id) => Some(
            u64::try_from(id)
                .ok()
                .filter(|id| *id > 0)
                .ok_or_else(|| parameters.refuse("id", "value must be at least 1"))?,
        ),
    };
    let which = match parameters.single("show")?.unwrap_or(ALL) {
        ALL => Which::All,
        CHANGED => Which::Changed,
        _ => return Err(parameters.refuse("show", "expected all or changed")),
    };
    let after = match parameters.single("after")? {
        None => None,
        Some(text) => {
            let place = place(text).ok_or_else(|| parameters.refuse("after", "no such place"))?;
            Some(place)
        }
    };
    let limit = parameters.integer("limit")?.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let text = format!("value must be between 1 and {LIMIT_MAX}");
        return Err(parameters.refuse("limit", &text));
    }
    let asked = parameters.multiple("scope_id");
    Ok(DifferenceQuery {
        reprocessing,
        scopes: scopes(asked, &call.sight),
        begin: parameters.date("begin")?.unwrap_or(chrono::DateTime::<chrono::Utc>::MIN_UTC),
        end: parameters.date("end")?.unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC),
        which,
        after,
        limit: usize::try_from(limit).expect("checked against the maximum"),
    })
}

/// Those that are asked for and may be seen; `None` = all.
fn scopes(asked: Option<Vec<&str>>, sight: &Sight) -> Option<Vec<ScopeId>> {
    let asked: Option<BTreeSet<ScopeId>> =
        asked.map(|ids| ids.iter().filter_map(|id| ScopeId::new(id).ok()).collect());
    match (sight, asked) {
        (Sight::Everything, None) => None,
        (Sight::Own(own), None) => Some(vec![own.clone()]),
        (Sight::Nothing, None) => Some(Vec::new()),
        (sight, Some(ids)) => {
            Some(ids.into_iter().filter(|id| sight.covers(id.as_str())).collect())
        }
    }
}

fn place_schema() -> Value {
    json!({"type": "string", "pattern": r"^-?[0-9]{1,12}\.[0-9]{1,10}\.[0-9]{1,10}$"})
}

fn place(text: &str) -> Option<DifferencePlace> {
    let mut words = text.split('.');
    let place = DifferencePlace {
        begin_secs: words.next()?.parse().ok()?,
        metric: words.next()?.parse().ok()?,
        scope: words.next()?.parse().ok()?,
    };
    words.next().is_none().then_some(place)
}

fn show(row: &Difference) -> Value {
    let minus = |new: Sum, old: Sum| {
        let mut difference = new;
        difference -= old;
        difference.to_text(0)
    };
    let figures = |figures: Figures| {
        json!({
            "rows": figures.rows,
            "qty": figures.qty.to_text(0),
            "price": figures.price.to_text(0),
        })
    };
    json!({
        "begin": dates::zoned(row.period.begin()),
        "end": dates::zoned(row.period.end()),
        "metric": row.metric.name,
        "type": row.metric.alt_name,
        "scope_id": row.scope.as_str(),
        "id": row.reprocessing,
        "old": figures(row.old),
        "new": figures(row.new),
        "difference": {
            "qty": minus(row.new.qty, row.old.qty),
            "price": minus(row.new.price, row.old.price),
        },
    })
}

pub(crate) mod describe {
    use serde_json::json;

    use super::{GENERATIONS_PARAMETERS, PARAMETERS, place_schema};
    use crate::api::openapi::{Operation, schemas};

    pub(crate) fn generations() -> Operation {
        let members = json!({
            "id": {"type": "integer"},
            "scope_ids": {"type": "array", "items": {"type": "string"}},
            "reason": {"type": "string"},
            "start_reprocess_time": schemas::date(),
            "end_reprocess_time": schemas::date(),
            "scheduled_at": schemas::date(),
        });
        let answer = json!({
            "total": {"type": "integer", "description": "reprocessings before paging"},
            "results": schemas::list(&schemas::record(&members)),
        });
        Operation::new("Reprocessings whose old figures are kept")
            .says("How many are kept of each period says `ledger.keep_generations`.")
            .inputs(GENERATIONS_PARAMETERS)
            .answers(200, "the oldest first", schemas::record(&answer))
    }

    pub(crate) fn differences() -> Operation {
        let decimal = schemas::decimal_text;
        let count = || json!({"type": "integer", "minimum": 0});
        let figures =
            || schemas::record(&json!({"rows": count(), "qty": decimal(), "price": decimal()}));
        let row = json!({
            "begin": schemas::date(),
            "end": schemas::date(),
            "metric": {"type": "string"},
            "type": {"type": "string"},
            "scope_id": {"type": "string"},
            "id": {"type": "integer", "description": "the reprocessing that replaced the old ones"},
            "old": figures(),
            "new": figures(),
            "difference": schemas::record(&json!({"qty": decimal(), "price": decimal()})),
        });
        let members = json!({
            "results": schemas::list(&schemas::record(&row)),
            "next": {"anyOf": [place_schema(), {"type": "null"}]},
        });
        Operation::new("Figures before and after they were rated again")
            .says(
                "By period, metric and scope. Pushed rows are not among them: they stay. A page \
                 may have fewer rows than asked for, or none, where many figures had to be \
                 compared to find them: that was all when `next` is null.",
            )
            .inputs(PARAMETERS)
            .answers(200, "a page of them", schemas::record(&members))
            .refuses(404, "nothing is kept from before that reprocessing")
    }
}
