//! Which collector measures what, and which ones are paused.

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::arguments::{Arguments, Body, invalid, missing};
use crate::api::answer::Answer;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::failure::Failure;
use crate::api::openapi::{Input, Kind};
use crate::ledger::{CollectorMapping, Enabled, Ledger};

/// Longest name of a service or collector that is kept, bytes.
const NAME_SIZE_MAX: usize = 255;

/// Of those that are there.
const WANTED: Input = Input::text("collector", "This one only.");
const SERVICE: Input = Input::name("service", "The type of a metric.").required();
const NAME: Input = Input::name("name", "The name of a collector.").required();
/// Of one that is to be kept.
const NEW_COLLECTOR: Input =
    Input::new("collector", Kind::Name(NAME_SIZE_MAX), "The name of a collector.").required();
const NEW_SERVICE: Input =
    Input::new("service", Kind::Name(NAME_SIZE_MAX), "The type of a metric.").required();
const NEW_NAME: Input = Input::new("name", Kind::Name(NAME_SIZE_MAX), "Here or in the body.");
/// Attributes of a state; the name may stand outside the body.
const STATE: &[Input] = &[
    Input::text("name", "Where the address does not say it."),
    Input::boolean("enabled", "False pauses the collector.").required(),
];

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
    let arguments = Arguments::all(call, &[WANTED], &[])?;
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
    let arguments = Arguments::all(call, &[SERVICE], &[("service", call.capture(0))])?;
    let service = arguments.required("service")?.to_owned();
    let mappings = context.ledger(Ledger::collector_mappings).await?;
    match mappings.iter().find(|mapping| mapping.service == service) {
        Some(mapping) => Ok(Answer::document(show(mapping))),
        None => Err(no_mapping(&service)),
    }
}

pub(crate) async fn create_mapping(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let from_path = [("collector", call.capture(0)), ("service", call.capture(1))];
    let arguments = Arguments::all(call, &[NEW_COLLECTOR, NEW_SERVICE], &from_path)?;
    let collector = name(&arguments, "collector")?;
    let service = name(&arguments, "service")?;
    let mapping = CollectorMapping { service, collector };
    let shown = show(&mapping);
    context.ledger(move |ledger| ledger.set_collector_mapping(&mapping)).await?;
    context.cycle.wake();
    Ok(Answer::document(shown))
}

pub(crate) async fn delete_mapping(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &[SERVICE], &[("service", call.capture(0))])?;
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
    let arguments = Arguments::all(call, &[NAME], &[("name", call.capture(0))])?;
    let name = arguments.required("name")?;
    let states = context.ledger(Ledger::collector_states).await?;
    // Until somebody says otherwise a collector that is there is enabled.
    let enabled = states.get(name).copied().unwrap_or_else(|| context.plugins.has_collector(name));
    Ok(Answer::document(json!({"name": name, "enabled": enabled})))
}

pub(crate) async fn set_state(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::outside_body(call, &[NEW_NAME], &[("name", call.capture(0))])?;
    let body = Body::read(call, "infos", STATE)?;
    let enabled = body
        .boolean("enabled")?
        .ok_or_else(|| invalid("enabled", "None", "Mandatory field missing."))?;
    let in_body = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
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

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{NAME, NEW_COLLECTOR, NEW_NAME, NEW_SERVICE, SERVICE, STATE, WANTED};
    use crate::api::openapi::{Operation, named, schemas};

    pub(crate) fn nothing() -> Operation {
        Operation::new("No document").answers_empty(204, "there is none")
    }

    pub(crate) fn nowhere() -> Operation {
        Operation::new("Nothing is here")
            .inputs(&[NEW_COLLECTOR, NEW_SERVICE])
            .refuses_as_router(404, "always")
    }

    fn mapping_record() -> Value {
        let text = schemas::text();
        named("V1Mapping", &schemas::record(&json!({"service": text, "collector": text})))
    }

    pub(crate) fn mappings() -> Operation {
        Operation::new("Which collector measures what")
            .says("A metric type without a mapping is measured by the configured collector.")
            .inputs(&[WANTED])
            .answers(200, "the mappings", schemas::list_as("mappings", &mapping_record()))
    }

    pub(crate) fn mapping() -> Operation {
        Operation::new("The collector of a metric type")
            .inputs(&[SERVICE])
            .answers(200, "the mapping", mapping_record())
            .refuses(404, "no mapping of that type")
    }

    pub(crate) fn create_mapping() -> Operation {
        Operation::new("Let a collector measure a metric type")
            .inputs(&[NEW_COLLECTOR, NEW_SERVICE])
            .answers(200, "the mapping", mapping_record())
    }

    pub(crate) fn delete_mapping() -> Operation {
        Operation::new("Let the configured collector measure a metric type again")
            .inputs(&[SERVICE])
            .answers_empty(204, "deleted")
            .refuses(404, "no mapping of that type")
    }

    fn state_record() -> Value {
        let members = json!({"name": {"type": "string"}, "enabled": {"type": "boolean"}});
        named("V1CollectorState", &schemas::record(&members))
    }

    pub(crate) fn state() -> Operation {
        Operation::new("Whether a collector is enabled")
            .says(
                "A collector that is loaded is, until somebody disables it; an unknown one is not.",
            )
            .inputs(&[NAME])
            .answers(200, "the state", state_record())
    }

    pub(crate) fn set_state() -> Operation {
        Operation::new("Enable or pause a collector").inputs(&[NEW_NAME]).body(STATE).answers(
            200,
            "the state",
            state_record(),
        )
    }
}
