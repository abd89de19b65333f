//! What stands outside the two versions: which there are, and how the daemon feels.

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::answer::{Answer, AnswerBody};
use super::call::Call;
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
pub(crate) async fn ready(context: &Context, _: &Call) -> Result<Answer, Failure> {
    let store =
        context.ledger(|ledger| ledger.takes_changes().and(ledger.module_states().map(drop))).await;
    let cycle = context.cycle.report();
    let shown = json!({
        "ready": store.is_ok(),
        "last_cycle_begin": cycle.last_begin.map(dates::zoned),
        "last_cycle_end": cycle.last_end.map(dates::zoned),
        "furthest_behind": cycle.furthest_behind.map(dates::zoned),
        "troubles": cycle.troubles.iter().map(|trouble| json!(trouble)).collect::<Vec<Value>>(),
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
    }
    Ok(Answer::text(metrics::CONTENT_TYPE, context.metrics.encode()))
}
