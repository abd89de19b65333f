//! The rating modules: what there is, what is enabled, in which order.

use std::sync::Arc;

use serde_json::{Value, json};
use warp::http::{StatusCode, header};

use super::arguments::{Arguments, Body};
use crate::api::answer::{Answer, AnswerBody};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::etag::{self, Tag};
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::turns::STATES;
use crate::rating::ModuleView;

const MODULE_ID: Input = Input::text("module_id", "The name of a rating module.").required();
/// Attributes of a module; what cannot be changed is taken and not looked at.
const MODULE: &[Input] = &[
    Input::text("module_id", "The name, where the address does not say it.").required(),
    Input::text("description", "Not looked at.").or_null(),
    Input::boolean("enabled", "Does it rate?").or_null(),
    Input::boolean("hot-config", "Not looked at.").or_null(),
    Input::integer("priority", i64::MIN, "The highest is asked first."),
];

pub(crate) async fn modules(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let shown: Vec<Value> = context.rating.modules().await?.iter().map(show).collect();
    Ok(etag::tagged(json!({"modules": shown}), call))
}

pub(crate) async fn module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &[MODULE_ID], &[("module_id", call.capture(0))])?;
    let name = arguments.required("module_id")?;
    let module = context.rating.module(name).await?;
    Ok(etag::tagged(show(&module), call))
}

/// Answers with a redirect to the request's own address: clients rely on it.
pub(crate) async fn set_module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::outside_body(call, &[MODULE_ID], &[("module_id", call.capture(0))])?;
    let body = Body::read(call, "module", MODULE)?;
    let in_body = body.text("module_id")?;
    let (enabled, priority) = (body.boolean("enabled")?, body.integer("priority")?);
    let name = arguments.text("module_id").unwrap_or(in_body);
    let _turn = context.write_turns.wait(STATES).await?;
    if etag::is_conditional(call) {
        Tag::of_document(&show(&context.rating.module(name).await?)).check_match(call)?;
    }
    context.rating.set_module(name, enabled, priority).await?;
    context.cycle.wake();
    let answer = Answer::with_status(StatusCode::FOUND, AnswerBody::Document(Value::Null));
    let answer = answer.header(header::LOCATION, call.own_url());
    let tag = Tag::of_document(&show(&context.rating.module(name).await?));
    Ok(tag.on(answer, call))
}

/// Loads new and changed plugins.
pub(crate) async fn reload(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let plugins = Arc::clone(&context.plugins);
    let reloaded = context.block(move || Ok::<_, Failure>(plugins.reload())).await?;
    reloaded.map_err(|reason| Failure::Refused {
        status: StatusCode::CONFLICT,
        text: format!("the plugins stay as they are: {reason}"),
    })?;
    context.cycle.wake();
    Ok(Answer::empty(StatusCode::NO_CONTENT))
}

fn show(module: &ModuleView) -> Value {
    json!({
        "module_id": module.name,
        "description": module.description,
        "enabled": module.enabled,
        "hot-config": module.hot_config,
        "priority": module.priority,
    })
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::{MODULE, MODULE_ID};
    use crate::api::openapi::{Operation, named, schemas};

    fn module_record() -> Value {
        let members = json!({
            "module_id": {"type": "string"},
            "description": {"type": "string"},
            "enabled": {"type": "boolean"},
            "hot-config": {"type": "boolean", "description": "its rules change while it runs"},
            "priority": {"type": "integer"},
        });
        named("V1Module", &schemas::record(&members))
    }

    pub(crate) fn modules() -> Operation {
        Operation::new("The rating modules").answers(
            200,
            "all of them",
            schemas::list_as("modules", &module_record()),
        )
    }

    pub(crate) fn module() -> Operation {
        Operation::new("A rating module")
            .inputs(&[MODULE_ID])
            .tagged()
            .answers(200, "the module", module_record())
            .refuses(404, "no such module")
    }

    pub(crate) fn set_module() -> Operation {
        Operation::new("Enable a module, disable it or change its priority")
            .inputs(&[MODULE_ID])
            .body(MODULE)
            .conditional()
            .answers(302, "done; the address is the request's own", json!({"type": "null"}))
            .header("Location", "the module")
            .refuses(404, "no such module")
    }

    pub(crate) fn reload() -> Operation {
        Operation::new("Load new and changed plugins")
            .answers_empty(204, "loaded")
            .refuses(409, "they could not be loaded, and everything stays as it was")
    }
}
