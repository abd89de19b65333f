//! What modules serve themselves, below `/v1/rating/module_config/<name>`.
//!
//! Method and path are checked before a module is called; modules see who calls, and never a token.

use bytes::Bytes;
use rated_plugin::{Method, Principal, Request, Response};
use serde_json::Value;
use warp::http::{self, StatusCode, header};

use crate::api::answer::{Answer, AnswerBody, JSON};
use crate::api::backend::ModuleRoute;
use crate::api::call::Call;
use crate::api::caller::Sight;
use crate::api::context::Context;
use crate::api::etag::{self, Tag};
use crate::api::failure::{Failure, shortened};
use crate::api::policy;

const FAULT_MEMBERS: [&str; 3] = ["faultcode", "faultstring", "debuginfo"];

/// What a module answers to it changes with time, while the rules stay the same.
const TIME_ARGUMENT: &str = "is_active";

pub(crate) async fn serve(context: &Context, call: &Call) -> Result<Answer, Failure> {
    let Some((name, below)) = call.captures.split_first() else {
        return Err(Failure::NoRoute(StatusCode::METHOD_NOT_ALLOWED));
    };
    let method = method_of(&call.method).ok_or(Failure::NoRoute(StatusCode::METHOD_NOT_ALLOWED))?;
    let path = match below {
        [] => String::new(),
        below => format!("/{}", below.join("/")),
    };
    // A decoded slash would make another path than the one that was sent.
    if below.iter().any(|part| part.contains('/')) {
        return Err(Failure::NoRoute(StatusCode::NOT_FOUND));
    }
    let route = context.plugins.find_route(name, method, &path);
    if route != ModuleRoute::NotConfigurable
        && context.policy.admit(&call.caller, &policy::MODULE_CONFIG).is_err()
    {
        return Err(Failure::ForbiddenModule(&policy::MODULE_CONFIG));
    }
    match route {
        ModuleRoute::Allowed => {}
        ModuleRoute::NotConfigurable if below.is_empty() => {
            let text = "Module is not configurable".to_owned();
            return Err(Failure::Refused { status: StatusCode::CONFLICT, text });
        }
        ModuleRoute::NotConfigurable => return Err(Failure::NoRoute(StatusCode::NOT_FOUND)),
        ModuleRoute::NoSuchPath if below.len() > 2 => {
            return Err(Failure::NoRoute(StatusCode::NOT_FOUND));
        }
        ModuleRoute::NoSuchPath | ModuleRoute::WrongMethod | ModuleRoute::NoSuchModule => {
            return Err(Failure::NoRoute(StatusCode::METHOD_NOT_ALLOWED));
        }
    }
    let asked = Asked { name, method, path };
    match method {
        Method::Get => read(context, call, asked).await,
        _ => change(context, call, asked).await,
    }
}

/// A call that the module serves.
struct Asked<'a> {
    name: &'a str,
    method: Method,
    path: String,
}

/// An answer is made of the rules and of the library alone, so that a caller who has it already is
/// told so without asking the module. What also depends on the hour carries no tag.
async fn read(context: &Context, call: &Call, asked: Asked<'_>) -> Result<Answer, Failure> {
    let is_timed = call.query_pairs().iter().any(|(name, _)| name == TIME_ARGUMENT);
    if is_timed || !call.body.is_empty() {
        return ask(context, call, asked).await;
    }
    // Before the module reads them: newer rules under an older tag are only read once more.
    let tag = tag(context, asked.name).await?;
    if let Some(answer) = tag.not_modified(call) {
        return Ok(answer);
    }
    let answer = ask(context, call, asked).await?;
    Ok(if answer.status == StatusCode::OK { tag.on(answer, call) } else { answer })
}

/// Changes of one module's rules are made one after the other: what `If-Match` was compared with
/// holds until the change is made.
async fn change(context: &Context, call: &Call, asked: Asked<'_>) -> Result<Answer, Failure> {
    let name = asked.name;
    let _turn = context.write_turns.wait(&format!("rules/{name}")).await?;
    if etag::is_conditional(call) {
        tag(context, name).await?.check_match(call)?;
    }
    let answer = ask(context, call, asked).await;
    context.cycle.wake();
    // The change is made, whether the tag can be read or not.
    match (answer, tag(context, name).await) {
        (Ok(answer), Ok(tag)) if !answer.status.is_client_error() => Ok(tag.on(answer, call)),
        (answer, _) => answer,
    }
}

async fn tag(context: &Context, name: &str) -> Result<Tag, Failure> {
    let library = context.plugins.library_sha256(name).unwrap_or_default();
    let instance = format!("rating/{name}");
    let revision = context.ledger(move |ledger| ledger.kv_revision(&instance)).await?;
    Ok(Tag::of_rules(revision, &library))
}

async fn ask(context: &Context, call: &Call, asked: Asked<'_>) -> Result<Answer, Failure> {
    let Asked { name, method, path } = asked;
    let request = Request {
        method,
        path,
        query: call.query.clone(),
        content_type: call.header(header::CONTENT_TYPE).unwrap_or_default().to_owned(),
        body: call.body.to_vec(),
        principal: principal(call),
    };
    let response = context.plugins.handle(name, request).await?;
    answer_of(response, name, call)
}

fn principal(call: &Call) -> Principal {
    Principal {
        user_id: call.caller.user_id().to_owned(),
        scope_id: call.caller.project_id().map(str::to_owned),
        roles: call.caller.roles().to_vec(),
        is_admin: call.sight == Sight::Everything,
    }
}

fn method_of(method: &http::Method) -> Option<Method> {
    match *method {
        http::Method::GET => Some(Method::Get),
        http::Method::POST => Some(Method::Post),
        http::Method::PUT => Some(Method::Put),
        http::Method::DELETE => Some(Method::Delete),
        http::Method::PATCH => Some(Method::Patch),
        _ => None,
    }
}

/// A module says what is wrong as v1 does; in XML that has a form of its own.
fn fault_of(status: StatusCode, document: &Value) -> Option<AnswerBody> {
    let members = document.as_object().filter(|_| status.as_u16() >= 400)?;
    let is_fault = members.keys().all(|name| FAULT_MEMBERS.contains(&name.as_str()));
    let text = members.get("faultstring")?.as_str().filter(|_| is_fault)?.to_owned();
    let code = if status.is_server_error() { "Server" } else { "Client" };
    Some(AnswerBody::Fault { code, text: shortened(text) })
}

/// A module's answer as ours. What it says is checked: it may be wrong.
fn answer_of(response: Response, name: &str, call: &Call) -> Result<Answer, Failure> {
    let status = StatusCode::from_u16(response.status)
        .ok()
        .filter(|status| status.as_u16() >= 200)
        .ok_or_else(|| {
            Failure::internal(format!("module `{name}` answered status {}", response.status))
        })?;
    if response.body.is_empty() && status == StatusCode::NOT_FOUND {
        return Err(Failure::NoRoute(status));
    }
    let is_json = response.content_type.split(';').next().is_some_and(|kind| kind.trim() == JSON);
    let body = if response.body.is_empty() {
        AnswerBody::Empty
    } else if is_json {
        let document: Value = serde_json::from_slice(&response.body).map_err(|error| {
            Failure::internal(format!("module `{name}` answered malformed JSON: {error}"))
        })?;
        fault_of(status, &document).unwrap_or(AnswerBody::Document(document))
    } else {
        AnswerBody::Ready { content_type: response.content_type, bytes: Bytes::from(response.body) }
    };
    let answer = Answer::with_status(status, body);
    // A change is answered with the request's own address, as clients know it.
    let location = match (status, response.location) {
        (StatusCode::FOUND, _) => Some(call.own_url()),
        (_, Some(below)) => {
            Some(format!("{}/v1/rating/module_config/{name}{below}", call.base_url()))
        }
        (_, None) => None,
    };
    Ok(match location {
        Some(location) => answer.header(header::LOCATION, location),
        None => answer,
    })
}

/// What the documentation says of it.
pub(crate) mod describe {
    use crate::api::openapi::Operation;

    pub(crate) fn serve() -> Operation {
        Operation::of_modules()
    }
}
