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
use crate::api::turns::STATES;
use crate::rating::ModuleView;

pub(crate) async fn modules(context: &Context, call: &Call) -> Result<Answer, Failure> {
    Arguments::all(call, &[], &[])?;
    let shown: Vec<Value> = context.rating.modules().await?.iter().map(show).collect();
    Ok(etag::tagged(json!({"modules": shown}), call))
}

pub(crate) async fn module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments = Arguments::all(call, &["module_id"], &[("module_id", call.capture(0))])?;
    let name = arguments.required("module_id")?;
    let module = context.rating.module(name).await?;
    Ok(etag::tagged(show(&module), call))
}

/// Answers with a redirect to the request's own address: clients rely on it.
pub(crate) async fn set_module(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let arguments =
        Arguments::outside_body(call, &["module_id"], &[("module_id", call.capture(0))])?;
    let attributes = ["module_id", "description", "enabled", "hot-config", "priority"];
    let body = Body::read(call, "module", &attributes)?;
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
