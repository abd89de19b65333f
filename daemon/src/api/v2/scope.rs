//! `/v2/scope`: who is billed, and up to when.

use std::collections::HashSet;

use bytes::Bytes;
use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::{Value, json};
use tracing::info;
use warp::http::StatusCode;

use super::schema::{Body, LIMIT, OFFSET, Parameters};
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::api::policy::{self, Action};
use crate::api::remembered::Question;
use crate::ledger::{NewScope, Reset, Scope, ScopeChange};
use crate::usage::{Period, ScopeId};

const PARAMETERS: &[Input] = &[
    Input::list("scope_id", "These scopes only."),
    Input::list("scope_key", "Scopes with one of these keys only."),
    Input::list("fetcher", "Scopes found by one of these fetchers only."),
    Input::list("collector", "Scopes measured by one of these collectors only."),
    Input::integer("active", i64::MIN, "0: inactive scopes only; else active ones only."),
    LIMIT,
    OFFSET,
];

/// The moment up to which a scope is processed; the other is how older clients call it.
const TIMESTAMP: &str = "last_processed_timestamp";
const TIMESTAMP_OLD: &str = "state";

/// Longest name of a scope key, fetcher or collector, bytes.
const NAME_SIZE_MAX: usize = 255;

/// What stands for the fetcher of a scope that somebody made while none is configured.
const FETCHER_UNKNOWN: &str = "unknown";

const NOTHING_FOUND: &str = "No resource found for provided filters.";

const SCOPE_KEY: Input = name_input("scope_key", "The attribute that names the scope.");
const FETCHER: Input = name_input("fetcher", "Who finds it.");
const COLLECTOR: Input = name_input("collector", "Who measures it.");
const ACTIVE: Input = Input::new("active", Kind::Schema(describe::truth), "Is it collected?");
const SCOPE_ID: Input =
    Input::new("scope_id", Kind::Schema(describe::scope_id), "The id of a scope.").required();

/// Members of the body that makes a scope.
const CREATION: &[Input] = &[
    SCOPE_ID,
    SCOPE_KEY,
    FETCHER,
    COLLECTOR,
    ACTIVE,
    Input::date(TIMESTAMP, "Up to when somebody else has processed it.").required(),
];
/// Of the body that changes one.
const CHANGE: &[Input] = &[SCOPE_ID, SCOPE_KEY, FETCHER, COLLECTOR, ACTIVE];
/// Of the body that resets some.
const RESET: &[Input] = &[
    Input::boolean("all_scopes", "Instead of `scope_id`."),
    among("scope_id", "These scopes."),
    among("scope_key", "Of them those with one of these keys."),
    among("fetcher", "Of them those found by one of these fetchers."),
    among("collector", "Of them those measured by one of these collectors."),
    Input::date(TIMESTAMP, "What is later is collected again.").or_null(),
    Input::date(TIMESTAMP_OLD, "As older clients call it.").or_null(),
];

const fn name_input(name: &'static str, text: &'static str) -> Input {
    Input::new(name, Kind::Schema(describe::name), text).or_null()
}

const fn among(name: &'static str, text: &'static str) -> Input {
    Input::new(name, Kind::Schema(describe::texts), text)
}

pub(crate) async fn scopes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, PARAMETERS)?;
    let (offset, limit) = parameters.page()?;
    let active = parameters.integer("active")?.map(|active| active != 0);
    let among = |name| parameters.multiple(name).map(HashSet::from_iter);
    let (ids, keys) = (among("scope_id"), among("scope_key"));
    let (fetchers, collectors) = (among("fetcher"), among("collector"));
    let is_wanted = |scope: &&Scope| {
        call.sight.covers(scope.id.as_str())
            && has(ids.as_ref(), scope.id.as_str())
            && has(keys.as_ref(), &scope.scope_key)
            && has(fetchers.as_ref(), &scope.fetcher)
            && has(collectors.as_ref(), &scope.collector)
            && active.is_none_or(|active| active == scope.active)
    };
    let question = Question::Scopes { query: call.query.clone(), sight: call.sight.clone() };
    let make = async || {
        // Who is named is shown beside damage of others.
        let scopes = match named(&call.sight, ids.as_ref()) {
            Some(ids) => context.ledger.scopes_of(&ids)?,
            None => context.ledger.scopes()?,
        };
        let shown: Vec<Value> =
            scopes.iter().filter(is_wanted).skip(offset).take(limit).map(show).collect();
        if shown.is_empty() {
            return Err(Failure::not_found(NOTHING_FOUND));
        }
        Ok(Bytes::from(json!({"results": shown}).to_string()))
    };
    let shown = context.remembered.answer(&*context.ledger, question, make).await?;
    Ok(Answer::with_status(StatusCode::OK, AnswerBody::Json(shown)))
}

/// Whose scopes they can be at all; `None` = anybody's.
fn named(sight: &Sight, ids: Option<&HashSet<&str>>) -> Option<Vec<ScopeId>> {
    match (sight.scopes(), ids) {
        (Some(mut own), ids) => {
            own.retain(|id| has(ids, id.as_str()));
            Some(own)
        }
        // What no scope can be called, none is.
        (None, ids) => Some(ids?.iter().filter_map(|id| ScopeId::new(id).ok()).collect()),
    }
}

/// A scope that somebody else has processed up to some moment; the period after the one that
/// contains it is the first that is collected here.
pub(crate) async fn create(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let body = Body::read(call, CREATION)?;
    body.require("scope_id")?;
    body.require(TIMESTAMP)?;
    let id = own_scope_id(call, &body, &policy::POST_SCOPE)?;
    let last_processed = body.date(TIMESTAMP)?.map(|date| date.trunc_subsecs(0));
    let last_processed = last_processed.ok_or_else(|| body.refuse(TIMESTAMP, "expected str"))?;
    let collect = &context.config.collect;
    let last = Period::containing(last_processed, collect.period_secs);
    let first_fetcher = || collect.fetchers.first().map_or(FETCHER_UNKNOWN, String::as_str);
    let new = NewScope {
        fetcher: name(&body, "fetcher")?.unwrap_or_else(|| first_fetcher().to_owned()),
        collector: name(&body, "collector")?.unwrap_or_else(|| collect.collector.clone()),
        scope_key: name(&body, "scope_key")?.unwrap_or_else(|| collect.scope_key.clone()),
        first_period: last.map_or(last_processed, Period::end),
        last_processed: Some(last_processed),
        active: body.truth("active")?.unwrap_or(true),
        found_at: context.clock.now().trunc_subsecs(0),
        id: id.clone(),
    };
    let (added, scope) = context
        .ledger(move |ledger| {
            let added = ledger.add_scopes(&[new])?;
            Ok((added, ledger.scopes_of(&[id])?.pop()))
        })
        .await?;
    let scope = scope.ok_or_else(|| Failure::internal("a scope is gone after it was added"))?;
    if added == 0 {
        return Err(exists(&scope));
    }
    context.cycle.wake();
    Ok(Answer::document(show(&scope)))
}

/// 404 is what clients know; for an inactive one they know a failure, so we say what to do.
fn exists(scope: &Scope) -> Failure {
    let text = format!("Cannot create a scope with an already existing scope_id: {}.", scope.id);
    if scope.active {
        return Failure::not_found(text);
    }
    Failure::bad_request(format!("{text} It is inactive: PATCH it with \"active\": true instead."))
}

pub(crate) async fn change(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let body = Body::read(call, CHANGE)?;
    body.require("scope_id")?;
    let id = own_scope_id(call, &body, &policy::PATCH_SCOPE)?;
    let now = context.clock.now().trunc_subsecs(0);
    let change = ScopeChange {
        fetcher: name(&body, "fetcher")?,
        collector: name(&body, "collector")?,
        scope_key: name(&body, "scope_key")?,
        active: body.truth("active")?.map(|active| (active, now)),
    };
    let changed = context.ledger(move |ledger| ledger.change_scope(&id, &change)).await?;
    let scope = changed.ok_or_else(|| Failure::not_found(NOTHING_FOUND))?;
    context.cycle.wake();
    Ok(Answer::document(show(&scope)))
}

/// Removes what is in the ledger from some moment on, so that it is collected again.
pub(crate) async fn reset(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let body = Body::read(call, RESET)?;
    body.exclude("scope_selector", ["all_scopes", "scope_id"])?;
    body.exclude("timestamp", [TIMESTAMP, TIMESTAMP_OLD])?;
    let all = body.boolean("all_scopes")?.unwrap_or(false);
    let ids = chosen(&body, "scope_id")?;
    let (keys, fetchers) = (chosen(&body, "scope_key")?, chosen(&body, "fetcher")?);
    let collectors = chosen(&body, "collector")?;
    let from = body.date(TIMESTAMP)?.or(body.date(TIMESTAMP_OLD)?);
    if !all && ids.is_none() {
        let text = "Either all_scopes or a scope_id should be specified.";
        return Err(Failure::bad_request(text));
    }
    let from = from.map(|date| date.trunc_subsecs(0)).ok_or_else(|| {
        Failure::bad_request("Variable 'last_processed_timestamp' cannot be empty/None.")
    })?;
    refuse_future(from, context.clock.now())?;
    let sight = call.sight.clone();
    let is_meant = move |scope: &Scope| {
        scope.active
            && sight.covers(scope.id.as_str())
            && is_among(ids.as_ref(), scope.id.as_str())
            && is_among(keys.as_ref(), &scope.scope_key)
            && is_among(fetchers.as_ref(), &scope.fetcher)
            && is_among(collectors.as_ref(), &scope.collector)
    };
    let period_secs = context.config.collect.period_secs;
    let outcome = context.ledger(move |ledger| {
        let scopes: Vec<ScopeId> =
            ledger.scopes()?.into_iter().filter(is_meant).map(|scope| scope.id).collect();
        if scopes.is_empty() {
            return Ok(None);
        }
        ledger.reset(&Reset { scopes, from, period_secs }).map(Some)
    });
    let Some(outcome) = outcome.await? else { return Err(Failure::not_found(NOTHING_FOUND)) };
    context.cycle.wake();
    let (scopes, rows, from) = (outcome.scopes_reset, outcome.rows_removed, dates::zoned(from));
    info!(scopes, rows, from, "Scopes were reset, their rows are collected again.");
    Ok(Answer::with_status(StatusCode::ACCEPTED, AnswerBody::Document(json!({}))))
}

fn refuse_future(from: DateTime<Utc>, now: DateTime<Utc>) -> Result<(), Failure> {
    if from <= now {
        return Ok(());
    }
    let (from, now) = (dates::zoned(from), dates::zoned(now.trunc_subsecs(0)));
    Err(Failure::bad_request(format!(
        "Cannot reset to [{from}], which is in the future (it is [{now}]): nothing would be \
         collected until then."
    )))
}

fn scope_id(body: &Body) -> Result<ScopeId, Failure> {
    let text = body.text("scope_id")?.ok_or_else(|| body.refuse("scope_id", "expected str"))?;
    ScopeId::new(&text).map_err(|error| body.refuse("scope_id", &error.to_string()))
}

/// One that the caller may change.
fn own_scope_id(call: &Call, body: &Body, action: &'static Action) -> Result<ScopeId, Failure> {
    let id = scope_id(body)?;
    if call.sight.covers(id.as_str()) { Ok(id) } else { Err(Failure::Forbidden(action)) }
}

/// The name of a scope key, a fetcher or a collector.
fn name(body: &Body, member: &str) -> Result<Option<String>, Failure> {
    let Some(text) = body.text(member)? else { return Ok(None) };
    let is_sound =
        !text.is_empty() && text.len() <= NAME_SIZE_MAX && !text.chars().any(char::is_control);
    if is_sound {
        return Ok(Some(text));
    }
    let reason =
        format!("must be between 1 and {NAME_SIZE_MAX} bytes long, without control characters");
    Err(body.refuse(member, &reason))
}

/// Values of which one is to be met; `None` = any.
fn chosen(body: &Body, member: &str) -> Result<Option<HashSet<String>>, Failure> {
    Ok(body.texts(member)?.map(|texts| texts.into_iter().collect()))
}

fn is_among(wanted: Option<&HashSet<String>>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(value))
}

fn has(wanted: Option<&HashSet<&str>>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(value))
}

fn show(scope: &Scope) -> Value {
    json!({
        "scope_id": scope.id.as_str(),
        "scope_key": scope.scope_key,
        "fetcher": scope.fetcher,
        "collector": scope.collector,
        "last_processed_timestamp": scope.last_processed.map(dates::zoned),
        "active": scope.active,
        "scope_activation_toggle_date": dates::zoned(scope.activation_toggled),
    })
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{CHANGE, CREATION, NAME_SIZE_MAX, PARAMETERS, RESET};
    use crate::api::openapi::{Operation, named, schemas};
    use crate::usage::SCOPE_ID_SIZE_MAX;

    /// Without control characters.
    const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

    fn scope_record() -> Value {
        let members = json!({
            "scope_id": {"type": "string"},
            "scope_key": {"type": "string"},
            "fetcher": {"type": "string"},
            "collector": {"type": "string"},
            "last_processed_timestamp": schemas::date_or_null(),
            "active": {"type": "boolean"},
            "scope_activation_toggle_date": schemas::date(),
        });
        named("V2Scope", &schemas::record(&members))
    }

    pub(crate) fn scopes() -> Operation {
        Operation::new("The scopes")
            .inputs(PARAMETERS)
            .answers(200, "those asked for", schemas::list_as("results", &scope_record()))
            .refuses(404, "none")
    }

    pub(crate) fn create() -> Operation {
        Operation::new("Make a scope that somebody else has processed so far")
            .says("The period after the one that contains the moment is the first collected here.")
            .body(CREATION)
            .answers(200, "the scope", scope_record())
            .refuses(404, "there is one with that id")
    }

    pub(crate) fn change() -> Operation {
        Operation::new("Change a scope")
            .body(CHANGE)
            .answers(200, "the scope", scope_record())
            .refuses(404, "no such scope")
    }

    pub(crate) fn reset() -> Operation {
        Operation::new("Collect again what came after a moment")
            .says(
                "What is in the ledger from then on is removed. Either `all_scopes` or `scope_id` \
                 is needed, and one of the two names of the moment; it must not lie in the future.",
            )
            .body(RESET)
            .answers(202, "they will be", json!({"type": "object", "maxProperties": 0}))
            .refuses(404, "no such scope")
    }

    pub(super) fn scope_id() -> Value {
        json!({
            "type": "string",
            "minLength": 1,
            "maxLength": SCOPE_ID_SIZE_MAX,
            "pattern": PRINTABLE,
        })
    }

    pub(super) fn name() -> Value {
        json!({
            "type": "string", "minLength": 1, "maxLength": NAME_SIZE_MAX, "pattern": PRINTABLE,
        })
    }

    pub(super) fn truth() -> Value {
        json!({
            "type": ["boolean", "null", "string", "number", "object"],
            "description": "true or false; of anything else what is empty, zero or null is false",
        })
    }

    pub(super) fn texts() -> Value {
        json!({"anyOf": [
            {"type": "string", "description": "between commas"},
            {"type": "array", "items": {"type": "string"}},
            {"type": "null"},
        ]})
    }
}
