//! `/v2/scope`: who is billed, and up to when.

use serde_json::{Value, json};

use super::schema::Parameters;
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::dates;
use crate::api::failure::Failure;
use crate::ledger::{Ledger, Scope};

const PARAMETERS: [&str; 7] =
    ["scope_id", "scope_key", "fetcher", "collector", "active", "limit", "offset"];

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
        return Err(Failure::not_found("No resource found for provided filters."));
    }
    Ok(Answer::document(json!({"results": shown})))
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
