//! The documentation that the daemon brings along.

use serde_json::Value;
use warp::http::{HeaderName, header};

use super::answer::Answer;
use super::call::Call;
use super::context::Context;
use super::failure::Failure;
use super::openapi::{self, ModuleApi, Scheme};
use super::routes::ROUTES;

const PAGE: &str = include_str!("docs/page.html");
const STYLE: &str = include_str!("docs/page.css");
const SCRIPT: &str = include_str!("docs/page.js");

/// Nothing but what this daemon serves, and nothing within the page itself: modules write a part of
/// what is shown.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A page for people; it needs no other server.
pub(crate) async fn page(_: &Context, _: &Call) -> Result<Answer, Failure> {
    let answer = file("text/html; charset=utf-8", PAGE);
    Ok(answer.header(header::CONTENT_SECURITY_POLICY, POLICY))
}

pub(crate) async fn style(_: &Context, _: &Call) -> Result<Answer, Failure> {
    Ok(file("text/css; charset=utf-8", STYLE))
}

pub(crate) async fn script(_: &Context, _: &Call) -> Result<Answer, Failure> {
    Ok(file("text/javascript; charset=utf-8", SCRIPT))
}

fn file(content_type: &str, text: &'static str) -> Answer {
    let sniffing = HeaderName::from_static("x-content-type-options");
    Answer::text(content_type, text).header(sniffing, "nosniff")
}

/// Made anew for each caller: the modules may have been reloaded.
pub(crate) async fn openapi(context: &Context, _: &Call) -> Result<Answer, Failure> {
    let plugins = context.plugins.clone();
    let taken = context.authentication.schemes();
    let document = context.block(move || Ok::<_, Failure>(document(&*plugins, &taken))).await?;
    Ok(Answer::document(document))
}

fn document(plugins: &dyn super::Plugins, taken: &[Scheme]) -> Value {
    let modules = plugins.api_schemas().into_iter();
    let modules: Vec<ModuleApi> =
        modules.map(|(module, json)| ModuleApi { module, json }).collect();
    openapi::document(ROUTES, &modules, taken)
}

/// What the documentation says of it.
pub(crate) mod describe {
    use serde_json::json;

    use crate::api::openapi::Operation;

    pub(crate) fn openapi() -> Operation {
        let schema = json!({
            "type": "object",
            "properties": {"openapi": {"type": "string"}},
            "required": ["openapi", "info", "paths"],
        });
        Operation::new("This document").answers(200, "OpenAPI 3.1", schema)
    }

    pub(crate) fn page() -> Operation {
        Operation::new("This document for people").answers_with(
            200,
            "a page",
            vec![("text/html", json!({"type": "string"}))],
        )
    }

    pub(crate) fn style() -> Operation {
        Operation::new("How the page looks").answers_with(
            200,
            "a style sheet",
            vec![("text/css", json!({"type": "string"}))],
        )
    }

    pub(crate) fn script() -> Operation {
        Operation::new("What makes the page").answers_with(
            200,
            "a script",
            vec![("text/javascript", json!({"type": "string"}))],
        )
    }
}
