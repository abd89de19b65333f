use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::input::Input;
use super::modules::{self, ModuleApi};
use super::operation::{Conditions, Content, NAME, Operation, Reply, SCHEMA};
use super::security::{self, Scheme};
use crate::api::failure::Dialect;
use crate::api::router::{Route, dialect_of};

const DESCRIPTION: &str = include_str!("description.md");

/// Statuses that a request may get wherever it goes, and what they say.
const EVERYWHERE: [(StatusCode, &str); 4] = [
    (StatusCode::REQUEST_TIMEOUT, "the body was not sent in time"),
    (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
    (StatusCode::INTERNAL_SERVER_ERROR, "a mistake of the daemon's; its log says more"),
    (StatusCode::SERVICE_UNAVAILABLE, "the daemon is busy or its store does not work; try again"),
];
const BAD_REQUEST: (StatusCode, &str) =
    (StatusCode::BAD_REQUEST, "what was sent will not do; the text says what and why");
const NOT_ACCEPTABLE: (StatusCode, &str) =
    (StatusCode::NOT_ACCEPTABLE, "`Accept` names no form that there is");
const NO_MATCH: (StatusCode, &str) =
    (StatusCode::PRECONDITION_FAILED, "it has been changed since the tag of `If-Match` was read");
const UNSUPPORTED: (StatusCode, &str) =
    (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is of a type that is not taken");

/// The whole document: all routes, and what the modules say that they serve.
///
/// `taken` are the ways in which callers can say who they are.
pub(crate) fn document(routes: &[Route], module_apis: &[ModuleApi], taken: &[Scheme]) -> Value {
    let mut paths = Map::new();
    for route in routes {
        let item = path_item(route, taken);
        if !item.is_empty() {
            paths.insert(route.pattern.to_owned(), Value::Object(item));
        }
    }
    let mut schemas = Map::new();
    for module in module_apis {
        modules::merge(module, taken, &mut paths, &mut schemas);
    }
    let mut responses = shared_responses();
    paths.values_mut().for_each(|item| hoist(item, &mut schemas));
    responses.values_mut().for_each(|response| hoist(response, &mut schemas));
    let tags = tags(&paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "rated",
            "summary": "What was used, and what it costs",
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this daemon"}],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses,
            "securitySchemes": security::schemes(),
        },
    })
}

fn path_item(route: &Route, taken: &[Scheme]) -> Map<String, Value> {
    let mut item = Map::new();
    for endpoint in route.methods {
        let operation = (endpoint.describe)();
        if operation.is_of_modules {
            continue;
        }
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let mut shown = show(&operation, &method, route.pattern);
        if let Some(security) = security::needed(taken, endpoint.access) {
            shown.insert("security".to_owned(), security);
        }
        if let Some(Value::Object(responses)) = shown.get_mut("responses") {
            let names = dialect_of(route.pattern).into();
            security::add_refusals(responses, endpoint.access, names);
        }
        item.insert(method, Value::Object(shown));
    }
    item
}

fn show(operation: &Operation, method: &str, pattern: &str) -> Map<String, Value> {
    let dialect = dialect_of(pattern);
    let mut shown = Map::new();
    let mut set = |name: &str, value: Value| shown.insert(name.to_owned(), value);
    set("operationId", json!(operation_id(method, pattern)));
    set("tags", json!([tag_of(pattern)]));
    set("summary", json!(operation.summary));
    if !operation.text.is_empty() {
        set("description", json!(operation.text));
    }
    let mut parameters = parameters(operation, pattern);
    parameters.extend(operation.headers.iter().map(|header| header.parameter("header")));
    parameters.extend(condition(operation.conditions));
    set("parameters", Value::Array(parameters));
    if let Some(body) = &operation.body {
        let contents = body.contents.iter().cloned();
        set("requestBody", json!({"required": body.is_required, "content": content(contents)}));
    }
    let mut responses = Map::new();
    for reply in &operation.answers {
        responses.insert(reply.status.as_str().to_owned(), answer(reply, dialect));
    }
    add_conditions(&mut responses, operation.conditions, pattern);
    add_shared(&mut responses, pattern, operation.body.is_some());
    set("responses", Value::Object(responses));
    shown
}

/// `get_v1_info_metrics_id`: routes are unique, so this is.
pub(super) fn operation_id(method: &str, pattern: &str) -> String {
    let parts = pattern.split('/').filter(|part| !part.is_empty());
    let words = parts.map(|part| part.trim_matches(['{', '}']).replace(['-', '.'], "_"));
    std::iter::once(method.to_owned()).chain(words).collect::<Vec<_>>().join("_")
}

fn parameters(operation: &Operation, pattern: &str) -> Vec<Value> {
    let in_path: Vec<&str> =
        pattern.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
    let described = |name: &&str| operation.inputs.iter().any(|input| input.name == *name);
    let undescribed = in_path.iter().filter(|name| !described(name));
    let bare = |name: &&str| {
        let schema = json!({"type": "string"});
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    };
    let show = |input: &Input| {
        let place = if in_path.contains(&input.name) { "path" } else { "query" };
        input.parameter(place)
    };
    undescribed.map(bare).chain(operation.inputs.iter().map(show)).collect()
}

pub(super) fn answer(reply: &Reply, dialect: Dialect) -> Value {
    let mut answer = json!({"description": reply.text});
    if !reply.headers.is_empty() {
        let header = |&(name, text): &(&str, &str)| {
            (name.to_owned(), json!({"description": text, "schema": {"type": "string"}}))
        };
        let headers: Map<String, Value> = reply.headers.iter().map(header).collect();
        answer["headers"] = Value::Object(headers);
    }
    let contents = reply.contents(dialect);
    if !contents.is_empty() {
        answer["content"] = content(contents.into_iter());
    }
    answer
}

fn content(forms: impl Iterator<Item = (&'static str, Value)>) -> Value {
    let form = |(media, schema): (&str, Value)| {
        let form = if schema.is_null() { json!({}) } else { json!({"schema": schema}) };
        (media.to_owned(), form)
    };
    Value::Object(forms.map(form).collect())
}

// ---- tags of documents --------------------------------------------------------------------------

/// The header by which a caller says which state is meant.
pub(super) fn condition(conditions: Conditions) -> Option<Value> {
    let (name, text) = match conditions {
        Conditions::None => return None,
        Conditions::Read => ("If-None-Match", "Tags of what the caller has already."),
        Conditions::Change => ("If-Match", "The tag of what shall be changed, or `*`."),
    };
    let schema = json!({"type": "string", "examples": ["\"3-6b86b273ff34fce1-json\""]});
    Some(json!({
        "name": name, "in": "header", "required": false, "description": text, "schema": schema,
    }))
}

/// What a request with such a header may be answered, and the tag of what it answers.
pub(super) fn add_conditions(
    responses: &mut Map<String, Value>,
    conditions: Conditions,
    pattern: &str,
) {
    let etag = json!({"description": "the tag of this state", "schema": {"type": "string"}});
    let status = match conditions {
        Conditions::None => return,
        Conditions::Read => StatusCode::NOT_MODIFIED,
        Conditions::Change => {
            let prefix = prefix_of(pattern);
            let status = NO_MATCH.0.as_str();
            let reference = json!({"$ref": format!("#/components/responses/{prefix}_{status}")});
            responses.insert(status.to_owned(), reference);
            return;
        }
    };
    let known = json!({"description": "the caller has it already", "headers": {"ETag": etag}});
    responses.insert(status.as_str().to_owned(), known);
    if let Some(Value::Object(answer)) = responses.get_mut("200") {
        let headers = answer.entry("headers").or_insert_with(|| json!({}));
        headers["ETag"] = etag;
    }
}

fn prefix_of(pattern: &str) -> &'static str {
    match dialect_of(pattern) {
        Dialect::V1 => "V1",
        Dialect::V2 => "V2",
    }
}

// ---- answers that need not be described ---------------------------------------------------------

/// Adds what every operation of this part of the API may answer, unless it is described.
pub(super) fn add_shared(responses: &mut Map<String, Value>, pattern: &str, takes_body: bool) {
    let mut statuses: Vec<StatusCode> = EVERYWHERE.iter().map(|(status, _)| *status).collect();
    let prefix = prefix_of(pattern);
    if pattern.starts_with("/v1/") {
        statuses.extend([BAD_REQUEST.0, NOT_ACCEPTABLE.0, UNSUPPORTED.0]);
    } else if pattern.starts_with("/v2/") {
        statuses.push(BAD_REQUEST.0);
        statuses.extend(takes_body.then_some(UNSUPPORTED.0));
    }
    statuses.sort();
    for status in statuses {
        let code = status.as_str();
        let reference = json!({"$ref": format!("#/components/responses/{prefix}_{code}")});
        responses.entry(code).or_insert(reference);
    }
}

fn shared_responses() -> Map<String, Value> {
    let mut responses = security::responses();
    for (prefix, dialect) in [("V1", Dialect::V1), ("V2", Dialect::V2)] {
        for (status, text) in EVERYWHERE.into_iter().chain([BAD_REQUEST, UNSUPPORTED, NO_MATCH]) {
            let retry = ("Retry-After", "seconds to wait");
            let is_unavailable = status == StatusCode::SERVICE_UNAVAILABLE;
            let reply = Reply {
                status,
                text: text.to_owned(),
                content: Content::Error,
                headers: is_unavailable.then_some(retry).into_iter().collect(),
            };
            responses.insert(format!("{prefix}_{}", status.as_str()), answer(&reply, dialect));
        }
    }
    let (status, text) = NOT_ACCEPTABLE;
    let forms = ["text/plain", "text/html"].map(|media| (media, super::operation::text()));
    let not_acceptable = Reply {
        status,
        text: text.to_owned(),
        content: Content::Ready(forms.to_vec()),
        headers: Vec::new(),
    };
    responses.insert("V1_406".to_owned(), answer(&not_acceptable, Dialect::V1));
    responses
}

// ---- names --------------------------------------------------------------------------------------

/// Moves every named schema to its own place and leaves a reference.
fn hoist(value: &mut Value, schemas: &mut Map<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| hoist(item, schemas)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| hoist(member, schemas));
            let Some((Value::String(name), schema)) =
                members.remove(NAME).zip(members.remove(SCHEMA))
            else {
                return;
            };
            members.insert("$ref".to_owned(), json!(format!("#/components/schemas/{name}")));
            schemas.insert(name, schema);
        }
        _ => {}
    }
}

/// Under which heading a path stands.
fn tag_of(pattern: &str) -> String {
    let mut parts = pattern.split('/').skip(1);
    match (parts.next(), parts.next()) {
        (Some("v1"), Some("storage")) => "v1 report".to_owned(),
        (Some(version @ ("v1" | "v2")), Some(part)) => format!("{version} {part}"),
        _ => "daemon".to_owned(),
    }
}

/// What stands under a heading, where the name does not say it.
const TAGS: [(&str, &str); 6] = [
    ("daemon", "How the daemon feels, and what it offers"),
    ("v1 info", "What is measured"),
    ("v1 collector", "Which collector measures what, and which are paused"),
    ("v1 rating", "The rating modules, and quotes"),
    ("v1 report", "What was used and what it cost"),
    ("v2 summary", "Sums by any attribute"),
];

/// In the order in which the paths stand in the document.
fn tags(paths: &Map<String, Value>) -> Value {
    let mut names: Vec<&str> = Vec::new();
    let operations = paths.values().filter_map(Value::as_object).flat_map(Map::values);
    for tag in operations.filter_map(|operation| operation["tags"][0].as_str()) {
        if !names.contains(&tag) {
            names.push(tag);
        }
    }
    let text_of = |wanted: &str| {
        let found = TAGS.iter().find(|(name, _)| *name == wanted);
        found.map_or_else(String::new, |(_, text)| (*text).to_owned())
    };
    let show = |name: &&str| match text_of(name) {
        text if text.is_empty() => json!({"name": name}),
        text => json!({"name": name, "description": text}),
    };
    Value::Array(names.iter().map(show).collect())
}
