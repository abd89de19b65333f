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
use crate::api::turns::STATES;
use crate::rating::{ModuleView, RatingError};

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
    let body = Body::read(call, &["enabled", "priority"])?;
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
