//! What stands outside the two versions: which there are, and how the daemon feels.

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::answer::{Answer, AnswerBody};
use super::call::Call;
use super::caller::Sight;
use super::context::Context;
use super::dates;
use super::failure::Failure;
use super::negotiate::Accepts;
use crate::ledger::Ledger;
use crate::metrics;

/// Links follow the Host header.
pub(crate) async fn versions(_: &Context, call: &Call) -> Result<Answer, Failure> {
    let version = |id: &str, status: &str| {
        let link = format!("{}/{id}", call.base_url());
        json!({"id": id, "links": [{"href": link, "rel": "self"}], "status": status})
    };
    let versions = [version("v1", "CURRENT"), version("v2", "EXPERIMENTAL")];
    Ok(Answer::document(json!({"versions": versions})))
}

pub(crate) async fn healthcheck(_: &Context, call: &Call) -> Result<Answer, Failure> {
    if Accepts::of(call).json() {
        return Ok(Answer::document(json!({"detailed": false, "reasons": ["OK"]})));
    }
    Ok(Answer::text("text/plain; charset=UTF-8", "OK"))
}

/// The daemon runs and answers; nothing else is asked.
pub(crate) async fn alive(_: &Context, _: &Call) -> Result<Answer, Failure> {
    Ok(Answer::text("text/plain; charset=utf-8", "ok\n"))
}

/// The store can be read and takes changes. What does not work beside it is told, and does not make
/// the daemon less ready: a source that is down delays bills, and restarting would not help.
/// Troubles name servers and scopes, and so they are told to those who may know.
pub(crate) async fn ready(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let store =
        context.ledger(|ledger| ledger.takes_changes().and(ledger.module_states().map(drop))).await;
    let mut cycle = context.cycle.report();
    let is_withheld = call.sight != Sight::Everything;
    if is_withheld {
        cycle.troubles.clear();
    }
    let shown = json!({
        "ready": store.is_ok(),
        "last_cycle_begin": cycle.last_begin.map(dates::zoned),
        "last_cycle_end": cycle.last_end.map(dates::zoned),
        "furthest_behind": cycle.furthest_behind.map(dates::zoned),
        "troubles": cycle.troubles.iter().map(|trouble| json!(trouble)).collect::<Vec<Value>>(),
        "troubles_withheld": is_withheld,
    });
    match store {
        Ok(()) => Ok(Answer::document(shown)),
        Err(_) => {
            Ok(Answer::with_status(StatusCode::SERVICE_UNAVAILABLE, AnswerBody::Document(shown)))
        }
    }
}

/// The daemon's own metrics. A ledger that cannot say its size keeps the size it said last.
pub(crate) async fn metrics(context: &Context, _: &Call) -> Result<Answer, Failure> {
    if let Ok(size) = context.ledger(Ledger::size).await {
        context.metrics.set_ledger_size(size.bytes_on_disk, size.rows);
        context.metrics.set_ledger_room(size.bytes_free);
        context.metrics.set_ledger_witnessed(size.is_witnessed);
    }
    let takes_changes = context.ledger(Ledger::takes_changes).await;
    context.metrics.set_ledger_takes_changes(takes_changes.is_ok());
    Ok(Answer::text(metrics::CONTENT_TYPE, context.metrics.encode()))
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use crate::api::openapi::{Operation, schemas};

    pub(crate) fn versions() -> Operation {
        let link = schemas::record(&json!({"href": {"type": "string"}, "rel": {"const": "self"}}));
        let version = schemas::record(&json!({
            "id": {"enum": ["v1", "v2"]},
            "links": schemas::list(&link),
            "status": {"enum": ["CURRENT", "EXPERIMENTAL"]},
        }));
        Operation::new("The versions of the API").answers(
            200,
            "both",
            schemas::list_as("versions", &version),
        )
    }

    pub(crate) fn healthcheck() -> Operation {
        let shown = schemas::record(&json!({
            "detailed": {"const": false},
            "reasons": schemas::list(&json!({"const": "OK"})),
        }));
        Operation::new("The daemon answers").answers_with(
            200,
            "it does",
            vec![("application/json", shown), ("text/plain", json!({"const": "OK"}))],
        )
    }

    pub(crate) fn alive() -> Operation {
        Operation::new("The daemon runs")
            .says("For whoever restarts it: nothing else is asked.")
            .answers_with(200, "it does", vec![("text/plain", schemas::text())])
    }

    pub(crate) fn ready() -> Operation {
        Operation::new("The store can be read and takes changes")
            .says(
                "What does not work beside it is told among the troubles, to those who may know \
                 (`daemon:get_status`); for others the list is empty and `troubles_withheld` true.",
            )
            .answers(200, "it does", readiness())
            .answers(503, "it does not, or the daemon is busy", or_message())
    }

    fn readiness() -> Value {
        schemas::record(&json!({
            "ready": {"type": "boolean"},
            "last_cycle_begin": schemas::date_or_null(),
            "last_cycle_end": schemas::date_or_null(),
            "furthest_behind": schemas::date_or_null(),
            "troubles": schemas::list(&schemas::text()),
            "troubles_withheld": {"type": "boolean"},
        }))
    }

    fn or_message() -> Value {
        let message = schemas::record(&json!({"message": {"type": "string"}}));
        json!({"anyOf": [readiness(), message]})
    }

    pub(crate) fn metrics() -> Operation {
        Operation::new("The daemon's own metrics").answers_with(
            200,
            "in the text format of OpenMetrics",
            vec![("application/openmetrics-text", schemas::text())],
        )
    }
}
