//! `/v2/task/reprocesses`: periods of scopes that are collected and rated again.

use std::collections::HashSet;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::schema::{Body, LIMIT, OFFSET, Parameters};
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::api::python;
use crate::ledger::{Ledger, LedgerError, NewReprocessing, Reprocessing, Scope};
use crate::usage::{Period, ScopeId};

const START: &str = "start_reprocess_time";
const END: &str = "end_reprocess_time";

const MEMBERS: &[Input] = &[
    Input::new("scope_ids", Kind::Schema(describe::scope_ids), "These scopes, or `ALL`.")
        .required(),
    Input::date(START, "Begin of the first period.").required(),
    Input::date(END, "Begin of the last period: the end is part of it.").required(),
    Input::new("reason", Kind::Schema(describe::reason), "Why.").required(),
];

const PARAMETERS: &[Input] = &[
    Input::list("scope_ids", "These scopes only."),
    Input::new("order", Kind::Words(&["asc", "desc"]), "Oldest or newest first; in any case.")
        .default("\"desc\""),
    LIMIT,
    OFFSET,
];

const SCOPE: Input = Input::text("scope_id", "This scope only.");

/// Instead of scopes: every active one.
const ALL: &str = "ALL";

/// Longest reason, bytes.
const REASON_SIZE_MAX: usize = 4096;

/// Most periods of one reprocessing.
const PERIODS_MAX: i64 = 100_000;

/// What is asked for, as far as it can be checked without the ledger.
#[derive(Debug)]
struct Wanted {
    /// `None` = all active ones.
    ids: Option<Vec<String>>,
    reason: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    at: DateTime<Utc>,
    author: String,
}

pub(crate) async fn schedule(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let body = Body::read(call, MEMBERS)?;
    let now = context.clock.now().trunc_subsecs(0);
    let author = call.caller.user_id().to_owned();
    let wanted = read(&body, context.config.collect.period_secs, (now, author))?;
    let sight = call.sight.clone();
    let job = move |ledger: &dyn Ledger| -> Result<Result<(), Failure>, LedgerError> {
        // Of others a caller does not learn whether they are there.
        let mut scopes = ledger.scopes()?;
        scopes.retain(|scope| sight.covers(scope.id.as_str()));
        let new = match check(&wanted, &scopes) {
            Ok(new) => new,
            Err(failure) => return Ok(Err(failure)),
        };
        match ledger.add_reprocessing(&new) {
            Ok(_) => Ok(Ok(())),
            Err(LedgerError::Overlaps { scope, start, end }) => {
                Ok(Err(overlap(&wanted, &shown(&scopes, &scope), start, end)))
            }
            Err(error) => Err(error),
        }
    };
    context.ledger(job).await??;
    context.cycle.wake();
    Ok(Answer::with_status(StatusCode::ACCEPTED, AnswerBody::Document(json!({}))))
}

fn read(
    body: &Body,
    period_secs: u32,
    (at, author): (DateTime<Utc>, String),
) -> Result<Wanted, Failure> {
    for member in MEMBERS {
        body.require(member.name)?;
    }
    let must = |member: &str| body.refuse(member, "expected str");
    let ids = body.texts("scope_ids")?.ok_or_else(|| must("scope_ids"))?;
    let date = |member: &str| body.date(member)?.ok_or_else(|| must(member));
    let (start, end) = (date(START)?, date(END)?);
    let reason = body.text("reason")?.ok_or_else(|| must("reason"))?;
    let is_all = ids.iter().any(|id| id == ALL);
    if is_all && ids.len() > 1 {
        let ids = python::repr(&json!(ids));
        return Err(Failure::bad_request(format!(
            "Cannot use 'ALL' with scope ID [{ids}]. Either schedule a reprocessing for all \
             active scopes using 'ALL' option, or inform only the scopes you desire to schedule a \
             reprocessing."
        )));
    }
    if reason.trim().is_empty() {
        return Err(Failure::bad_request(
            "Empty or blank reason text is not allowed. Please, do inform/register the reason for \
             the reprocessing of a previously processed timestamp.",
        ));
    }
    if reason.len() > REASON_SIZE_MAX {
        let text = format!("length of value must be at most {REASON_SIZE_MAX} bytes");
        return Err(body.refuse("reason", &text));
    }
    check_range(start, end, period_secs)?;
    Ok(Wanted { ids: (!is_all).then_some(ids), reason, start, end, at, author })
}

fn check_range(start: DateTime<Utc>, end: DateTime<Utc>, period_secs: u32) -> Result<(), Failure> {
    if end < start {
        // The record names them the other way round, and clients know it so.
        let (start, end) = (spaced(start), spaced(end));
        return Err(Failure::bad_request(format!(
            "End reprocessing timestamp [{start}] cannot be less than start reprocessing timestamp \
             [{end}]."
        )));
    }
    let begin_of =
        |at: DateTime<Utc>| Period::containing(at, period_secs).map_or(at, Period::begin);
    let (first, last) = (begin_of(start), begin_of(end));
    if (first, last) != (start, end) {
        return Err(Failure::bad_request(format!(
            "The provided reprocess time window does not comply with the configured collector \
             period. A valid time window near the provided one is ['{}', '{}']",
            spaced(first),
            spaced(last)
        )));
    }
    let periods = (last - first).num_seconds() / i64::from(period_secs.max(1)) + 1;
    if periods > PERIODS_MAX {
        return Err(Failure::bad_request(format!(
            "The provided reprocess time window has {periods} periods, at most {PERIODS_MAX} can \
             be reprocessed at once."
        )));
    }
    Ok(())
}

/// The rest, in the order of the contract.
fn check(wanted: &Wanted, scopes: &[Scope]) -> Result<NewReprocessing, Failure> {
    let (start, end) = (wanted.start, wanted.end);
    let (start_text, end_text) = (spaced(start), spaced(end));
    let ids: Option<HashSet<&str>> =
        wanted.ids.as_ref().map(|ids| ids.iter().map(String::as_str).collect());
    let is_meant = |scope: &&Scope| ids.as_ref().is_none_or(|ids| ids.contains(scope.id.as_str()));
    let meant: Vec<&Scope> = scopes.iter().filter(|scope| scope.active).filter(is_meant).collect();
    let found: HashSet<&str> = meant.iter().map(|scope| scope.id.as_str()).collect();
    let unknown = |ids: &Vec<String>| -> Vec<String> {
        ids.iter().filter(|id| !found.contains(id.as_str())).cloned().collect()
    };
    let unknown = wanted.ids.as_ref().map(unknown).unwrap_or_default();
    if !unknown.is_empty() {
        let unknown = python::repr(&json!(unknown));
        return Err(Failure::bad_request(format!(
            "Scopes {unknown} scheduled to reprocess [start={start_text}, end={end_text}] do not \
             exist."
        )));
    }
    if meant.is_empty() {
        return Err(Failure::bad_request("There is no active scope to reprocess."));
    }
    for scope in &meant {
        let last = scope.last_processed;
        let last_text = last.map_or("None".to_owned(), spaced);
        let shown = || shown(scopes, &scope.id);
        if last.is_none_or(|last| start > last) {
            let scope = shown();
            return Err(Failure::bad_request(format!(
                "Cannot execute a reprocessing [start={start_text}] for scope [{scope}] starting \
                 after the last possible timestamp [{last_text}]."
            )));
        }
        if last.is_none_or(|last| end > last) {
            let scope = shown();
            return Err(Failure::bad_request(format!(
                "Cannot execute a reprocessing [end={end_text}] for scope [{scope}] ending after \
                 the last possible timestamp [{last_text}]."
            )));
        }
    }
    let scopes = meant.into_iter().map(|scope| scope.id.clone()).collect();
    let (reason, at, author) = (wanted.reason.clone(), wanted.at, wanted.author.clone());
    Ok(NewReprocessing { scopes, reason, start, end, at, author })
}

fn overlap(wanted: &Wanted, scope: &str, start: DateTime<Utc>, end: DateTime<Utc>) -> Failure {
    let form = |at: DateTime<Utc>| at.format("%Y-%m-%dT%H:%M:%S+0000");
    let (wanted_start, wanted_end) = (form(wanted.start), form(wanted.end));
    let (start, end) = (form(start), form(end));
    Failure::bad_request(format!(
        "Cannot schedule a reprocessing for scope [{scope}] for reprocessing time [{wanted_start} \
         - {wanted_end}], because it already has a schedule for a similar time range [{start} - \
         {end}]."
    ))
}

/// As the contract shows a scope in texts; its number is its place among all.
fn shown(scopes: &[Scope], id: &ScopeId) -> String {
    let place = scopes.iter().position(|scope| scope.id == *id).map_or(0, |index| index + 1);
    let identifier = python::repr_text(id.as_str());
    format!("{{'id': {place}, 'identifier': {identifier}, 'active': True}}")
}

fn spaced(at: DateTime<Utc>) -> String {
    dates::zoned(at).replacen('T', " ", 1)
}

// ---- reading ------------------------------------------------------------------------------------

/// Those of one scope.
pub(crate) async fn list_of_scope(context: &Context, call: &Call) -> Result<Answer, Failure> {
    list(context, call).await
}

pub(crate) async fn list(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, PARAMETERS)?;
    let (offset, limit) = parameters.page()?;
    let order = parameters.single("order")?.unwrap_or("desc");
    let is_descending = match order.to_ascii_lowercase().as_str() {
        "asc" => false,
        "desc" => true,
        _ => {
            return Err(Failure::bad_request(format!(
                "The order [{order}] is not valid. Accepted values are ['asc', 'desc']."
            )));
        }
    };
    let ids = match call.capture(0) {
        Some(id) => Some(vec![id]),
        None => parameters.multiple("scope_ids"),
    };
    let is_meant =
        |id: &ScopeId| ids.as_ref().is_none_or(|ids| ids.iter().any(|meant| *meant == id.as_str()));
    let reprocessings = context.ledger(Ledger::reprocessings).await?;
    let rows = reprocessings
        .iter()
        .flat_map(|one| one.scopes.iter().map(move |scope| (one, scope)))
        .filter(|(_, scope)| is_meant(scope) && call.sight.covers(scope.as_str()));
    let shown: Vec<Value> = if is_descending {
        rows.rev().skip(offset).take(limit).map(show).collect()
    } else {
        rows.skip(offset).take(limit).map(show).collect()
    };
    Ok(Answer::document(json!({"results": shown})))
}

fn show((reprocessing, scope): (&Reprocessing, &ScopeId)) -> Value {
    json!({
        "scope_id": scope.as_str(),
        "reason": reprocessing.reason,
        "start_reprocess_time": dates::naive(reprocessing.start),
        "end_reprocess_time": dates::naive(reprocessing.end),
        "current_reprocess_time": reprocessing.current.map(dates::naive).unwrap_or_default(),
    })
}

pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{MEMBERS, PARAMETERS, REASON_SIZE_MAX, SCOPE};
    use crate::api::openapi::{Operation, named, schemas};

    fn record() -> Value {
        let current = json!({"type": "string", "description": "empty before the first is done"});
        let members = json!({
            "scope_id": {"type": "string"},
            "reason": {"type": "string"},
            "start_reprocess_time": schemas::naive_date(),
            "end_reprocess_time": schemas::naive_date(),
            "current_reprocess_time": current,
        });
        named("V2Reprocessing", &schemas::record(&members))
    }

    pub(crate) fn schedule() -> Operation {
        Operation::new("Collect and rate periods again")
            .says(
                "Reports show the old totals until all of it is done, then the new ones. Start and \
                 end are begins of periods that every scope has processed; of one scope no two \
                 unfinished reprocessings may overlap.",
            )
            .body(MEMBERS)
            .answers(202, "it will be done", json!({"type": "object", "maxProperties": 0}))
    }

    pub(crate) fn list() -> Operation {
        Operation::new("Reprocessings, one row for each scope").inputs(PARAMETERS).answers(
            200,
            "those asked for",
            schemas::list_as("results", &record()),
        )
    }

    pub(crate) fn list_of_scope() -> Operation {
        Operation::new("Reprocessings of a scope").inputs(&[SCOPE]).inputs(PARAMETERS).answers(
            200,
            "those asked for",
            schemas::list_as("results", &record()),
        )
    }

    pub(super) fn scope_ids() -> Value {
        json!({"anyOf": [
            {"type": "string", "minLength": 1, "description": "between commas"},
            {"type": "array", "items": {"type": "string"}},
        ]})
    }

    pub(super) fn reason() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": REASON_SIZE_MAX})
    }
}
