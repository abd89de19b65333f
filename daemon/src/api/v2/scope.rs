//! `/v2/scope`: who is billed, and up to when.

use chrono::{DateTime, SubsecRound as _, Utc};
use serde_json::{Value, json};
use tracing::info;
use warp::http::StatusCode;

use super::schema::{Body, Parameters};
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::ledger::{Ledger, NewScope, Reset, Scope, ScopeChange};
use crate::usage::{Period, ScopeId};

const PARAMETERS: [&str; 7] =
    ["scope_id", "scope_key", "fetcher", "collector", "active", "limit", "offset"];

/// The moment up to which a scope is processed; the other is how older clients call it.
const TIMESTAMP: &str = "last_processed_timestamp";
const TIMESTAMP_OLD: &str = "state";

/// Longest name of a scope key, fetcher or collector, bytes.
const NAME_SIZE_MAX: usize = 255;

/// What stands for the fetcher of a scope that somebody made while none is configured.
const FETCHER_UNKNOWN: &str = "unknown";

const NOTHING_FOUND: &str = "No resource found for provided filters.";

pub(crate) async fn scopes(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let parameters = Parameters::read(call, &PARAMETERS)?;
    let (offset, limit) = parameters.page()?;
    let active = parameters.integer("active")?.map(|active| active != 0);
    let among = |name| parameters.multiple(name);
    let (ids, keys) = (among("scope_id"), among("scope_key"));
    let (fetchers, collectors) = (among("fetcher"), among("collector"));
    let is_wanted = |scope: &&Scope| {
        has(ids.as_deref(), scope.id.as_str())
            && has(keys.as_deref(), &scope.scope_key)
            && has(fetchers.as_deref(), &scope.fetcher)
            && has(collectors.as_deref(), &scope.collector)
            && active.is_none_or(|active| active == scope.active)
    };
    let scopes = context.ledger(Ledger::scopes).await?;
    let shown: Vec<Value> =
        scopes.iter().filter(is_wanted).skip(offset).take(limit).map(show).collect();
    if shown.is_empty() {
        return Err(Failure::not_found(NOTHING_FOUND));
    }
    Ok(Answer::document(json!({"results": shown})))
}

/// A scope that somebody else has processed up to some moment; the period after the one that
/// contains it is the first that is collected here.
pub(crate) async fn create(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let known = ["scope_id", "scope_key", "fetcher", "collector", "active", TIMESTAMP];
    let body = Body::read(call, &known)?;
    body.require("scope_id")?;
    body.require(TIMESTAMP)?;
    let id = scope_id(&body)?;
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
            Ok((added, find(ledger.scopes()?, &id)))
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
    let body = Body::read(call, &["scope_id", "scope_key", "fetcher", "collector", "active"])?;
    body.require("scope_id")?;
    let id = scope_id(&body)?;
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
    let known =
        ["all_scopes", "scope_id", "scope_key", "fetcher", "collector", TIMESTAMP, TIMESTAMP_OLD];
    let body = Body::read(call, &known)?;
    body.exclude("scope_selector", ["all_scopes", "scope_id"])?;
    body.exclude("timestamp", [TIMESTAMP, TIMESTAMP_OLD])?;
    let all = body.boolean("all_scopes")?.unwrap_or(false);
    let ids = body.texts("scope_id")?;
    let (keys, fetchers) = (body.texts("scope_key")?, body.texts("fetcher")?);
    let collectors = body.texts("collector")?;
    let from = body.date(TIMESTAMP)?.or(body.date(TIMESTAMP_OLD)?);
    if !all && ids.is_none() {
        let text = "Either all_scopes or a scope_id should be specified.";
        return Err(Failure::bad_request(text));
    }
    let from = from.map(|date| date.trunc_subsecs(0)).ok_or_else(|| {
        Failure::bad_request("Variable 'last_processed_timestamp' cannot be empty/None.")
    })?;
    refuse_future(from, context.clock.now())?;
    let is_meant = move |scope: &Scope| {
        scope.active
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

fn find(scopes: Vec<Scope>, id: &ScopeId) -> Option<Scope> {
    scopes.into_iter().find(|scope| scope.id == *id)
}

fn is_among(wanted: Option<&Vec<String>>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.iter().any(|wanted| wanted == value))
}

fn has(wanted: Option<&[&str]>, value: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.contains(&value))
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
