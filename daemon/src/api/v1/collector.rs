//! Which collector measures what, and which ones are paused.

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::arguments::{Arguments, Body, invalid, missing};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::failure::Failure;
use crate::ledger::{CollectorMapping, Enabled, Ledger};

/// Longest name of a service or collector that is kept, bytes.
const NAME_SIZE_MAX: usize = 255;

/// The root of the collector API has no document.
pub(crate) async fn nothing(_: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

/// A path below something that has nothing below it.
pub(crate) async fn nowhere(_: &Context, _: &Call) -> Result<Answer, Failure> {
    Err(Failure::NoRoute(StatusCode::NOT_FOUND))
}

// ---- mappings -----------------------------------------------------------------------------------

pub(crate) async fn mappings(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &["collector"], &[])?;
    let wanted = arguments.text("collector");
    let mappings = context.ledger(Ledger::collector_mappings).await?;
    let shown: Vec<Value> = mappings
        .iter()
        .filter(|mapping| wanted.is_none_or(|wanted| wanted == mapping.collector))
        .map(show)
        .collect();
    Ok(Answer::document(json!({"mappings": shown})))
}

pub(crate) async fn mapping(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &["service"], &[("service", call.capture(0))])?;
    let service = arguments.required("service")?.to_owned();
    let mappings = context.ledger(Ledger::collector_mappings).await?;
    match mappings.iter().find(|mapping| mapping.service == service) {
        Some(mapping) => Ok(Answer::document(show(mapping))),
        None => Err(no_mapping(&service)),
    }
}

pub(crate) async fn create_mapping(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let from_path = [("collector", call.capture(0)), ("service", call.capture(1))];
    let arguments = Arguments::all(call, &["collector", "service"], &from_path)?;
    let collector = name(&arguments, "collector")?;
    let service = name(&arguments, "service")?;
    let mapping = CollectorMapping { service, collector };
    let shown = show(&mapping);
    context.ledger(move |ledger| ledger.set_collector_mapping(&mapping)).await?;
    context.cycle.wake();
    Ok(Answer::document(shown))
}

pub(crate) async fn delete_mapping(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &["service"], &[("service", call.capture(0))])?;
    let service = arguments.required("service")?.to_owned();
    let wanted = service.clone();
    if !context.ledger(move |ledger| ledger.remove_collector_mapping(&wanted)).await? {
        return Err(no_mapping(&service));
    }
    context.cycle.wake();
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

fn name(arguments: &Arguments, argument: &str) -> Result<String, Failure> {
    let name = arguments.required(argument)?;
    if name.len() > NAME_SIZE_MAX {
        let reason = format!("Must be at most {NAME_SIZE_MAX} bytes long.");
        return Err(invalid(argument, name, &reason));
    }
    Ok(name.to_owned())
}

fn no_mapping(service: &str) -> Failure {
    Failure::not_found(format!("No mapping for service: {service}"))
}

fn show(mapping: &CollectorMapping) -> Value {
    json!({"service": mapping.service, "collector": mapping.collector})
}

// ---- states -------------------------------------------------------------------------------------

pub(crate) async fn state(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &["name"], &[("name", call.capture(0))])?;
    let name = arguments.required("name")?;
    let states = context.ledger(Ledger::collector_states).await?;
    // Until somebody says otherwise a collector that is there is enabled.
    let enabled = states.get(name).copied().unwrap_or_else(|| context.plugins.has_collector(name));
    Ok(Answer::document(json!({"name": name, "enabled": enabled})))
}

pub(crate) async fn set_state(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::outside_body(call, &["name"], &[("name", call.capture(0))])?;
    let body = Body::read(call, "infos", &["name", "enabled"])?;
    let enabled = body
        .boolean("enabled")?
        .ok_or_else(|| invalid("enabled", "None", "Mandatory field missing."))?;
    let in_body = body.get("name").and_then(Value::as_str);
    let name = arguments.text("name").or(in_body).ok_or_else(|| missing("name"))?.to_owned();
    if name.len() > NAME_SIZE_MAX {
        let reason = format!("Must be at most {NAME_SIZE_MAX} bytes long.");
        return Err(invalid("name", &name, &reason));
    }
    let shown = json!({"name": name, "enabled": enabled});
    let state = if enabled { Enabled::Yes } else { Enabled::No };
    context.ledger(move |ledger| ledger.set_collector_state(&name, state)).await?;
    context.cycle.wake();
    Ok(Answer::document(shown))
}
