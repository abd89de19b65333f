//! `/v2/rating/modules`: the same modules as in v1, in v2's words.

use bytes::Bytes;
use serde_json::{Value, json};
use warp::http::StatusCode;

use super::schema::Body;
use crate::api::answer::{Answer, AnswerBody, JSON};
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::etag::{self, Tag};
use crate::api::failure::Failure;
use crate::api::openapi::Input;
use crate::api::turns::STATES;
use crate::rating::{ModuleView, RatingError};

/// Members of the body of a change.
const CHANGE: &[Input] = &[
    Input::boolean("enabled", "Does it rate?"),
    Input::integer("priority", i64::MIN, "The highest is asked first."),
];

/// Unknown parameters are ignored here, as in the contract.
pub(crate) async fn modules(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let shown: Vec<Value> = context.rating.modules().await?.iter().map(show).collect();
    Ok(etag::tagged(json!({"modules": shown}), call))
}

pub(crate) async fn module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let name = call.capture(0).unwrap_or_default();
    let module = context.rating.module(name).await.map_err(failure)?;
    Ok(etag::tagged(show(&module), call))
}

pub(crate) async fn set_module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let name = call.capture(0).unwrap_or_default();
    let body = Body::read(call, CHANGE)?;
    let (enabled, priority) = (body.boolean("enabled")?, body.integer("priority")?);
    let _turn = context.write_turns.wait(STATES).await?;
    if etag::is_conditional(call) {
        let module = context.rating.module(name).await.map_err(failure)?;
        Tag::of_document(&show(&module)).check_match(call)?;
    }
    context.rating.set_module(name, enabled, priority).await.map_err(failure)?;
    context.cycle.wake();
    let nothing = AnswerBody::Ready { content_type: JSON.to_owned(), bytes: Bytes::new() };
    let module = context.rating.module(name).await.map_err(failure)?;
    let tag = Tag::of_document(&show(&module));
    Ok(tag.on(Answer::with_status(StatusCode::NO_CONTENT, nothing), call))
}

fn failure(error: RatingError) -> Failure {
    match error {
        RatingError::NoModule(name) => Failure::not_found(format!("Module '{name}' not found")),
        other => other.into(),
    }
}

fn show(module: &ModuleView) -> Value {
    json!({
        "module_id": module.name,
        "description": module.description,
        "enabled": module.enabled,
        "hot_config": module.hot_config,
        "priority": module.priority,
    })
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::{Value, json};

    use super::CHANGE;
    use crate::api::openapi::{Input, Operation, named, schemas};

    const ID: Input = Input::text("id", "The name of a rating module.");

    fn module_record() -> Value {
        let members = json!({
            "module_id": {"type": "string"},
            "description": {"type": "string"},
            "enabled": {"type": "boolean"},
            "hot_config": {"type": "boolean", "description": "its rules change while it runs"},
            "priority": {"type": "integer"},
        });
        named("V2Module", &schemas::record(&members))
    }

    pub(crate) fn modules() -> Operation {
        Operation::new("The rating modules").tagged().answers(
            200,
            "all of them",
            schemas::list_as("modules", &module_record()),
        )
    }

    pub(crate) fn module() -> Operation {
        Operation::new("A rating module")
            .inputs(&[ID])
            .tagged()
            .answers(200, "the module", module_record())
            .refuses(404, "no such module")
    }

    pub(crate) fn set_module() -> Operation {
        Operation::new("Enable a module, disable it or change its priority")
            .inputs(&[ID])
            .body(CHANGE)
            .conditional()
            .answers_empty(204, "done")
            .refuses(404, "no such module")
    }
}
