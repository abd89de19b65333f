use serde_json::{Map, Value, json};
use warp::http::StatusCode;

use super::document::answer;
use super::operation::{Content, Reply, text};
use super::schemas;
use crate::api::failure::Dialect;
use crate::api::router::Access;

/// How callers can say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Keystone,
    Token,
    Password,
}

impl Scheme {
    const ALL: [Scheme; 3] = [Scheme::Keystone, Scheme::Token, Scheme::Password];

    fn name(self) -> &'static str {
        match self {
            Scheme::Keystone => "keystone",
            Scheme::Token => "token",
            Scheme::Password => "password",
        }
    }

    fn show(self) -> Value {
        match self {
            Scheme::Keystone => json!({
                "type": "apiKey", "in": "header", "name": "X-Auth-Token",
                "description": "A token of OpenStack's Keystone (`auth = \"keystone\"`). Where \
                    there are static tokens and no Keystone, one of those.",
            }),
            Scheme::Token => json!({
                "type": "http", "scheme": "bearer",
                "description": "A static token (`auth = \"token\"`), made by `rated token new`.",
            }),
            Scheme::Password => json!({
                "type": "http", "scheme": "basic",
                "description": "A user with a password (`auth = \"basic\"`).",
            }),
        }
    }
}

/// All that there can be; which of them this daemon takes stands beside the operations.
pub(super) fn schemes() -> Value {
    let shown = Scheme::ALL.map(|scheme| (scheme.name().to_owned(), scheme.show()));
    Value::Object(shown.into_iter().collect())
}

/// What an operation needs: one of the schemes; nothing where nobody is asked.
pub(super) fn needed(taken: &[Scheme], access: Access) -> Option<Value> {
    if taken.is_empty() {
        return None;
    }
    let mut ways: Vec<Value> = taken.iter().map(|scheme| json!({scheme.name(): []})).collect();
    match access {
        Access::Public => ways.clear(),
        // One that is empty means that nothing need be said.
        Access::Open(_) => ways.insert(0, json!({})),
        Access::Known | Access::Asked(_) | Access::Allowed(_) => {}
    }
    Some(Value::Array(ways))
}

/// The answers to those who are not let in, for each part of the API.
pub(super) fn responses() -> Map<String, Value> {
    let unauthenticated = schemas::record(&json!({"error": schemas::record(&json!({
        "code": {"const": 401},
        "title": {"const": "Unauthorized"},
        "message": {"type": "string"},
    }))}));
    let forbidden_module = schemas::record(&json!({
        "code": {"const": 403},
        "title": {"const": "Forbidden"},
        "description": {"type": "string"},
    }));
    let reply = |status, text: &str, content, header| Reply {
        status,
        text: text.to_owned(),
        content,
        headers: Option::into_iter(header).collect(),
    };
    let mut shown = Map::new();
    for (prefix, dialect) in [("V1", Dialect::V1), ("V2", Dialect::V2)] {
        let challenge = Some(("WWW-Authenticate", "a way to say who calls, for each there is"));
        let unknown = reply(
            StatusCode::UNAUTHORIZED,
            "nobody has said who calls, or what was said is wrong",
            Content::Document(unauthenticated.clone()),
            challenge,
        );
        shown.insert(format!("{prefix}_401"), answer(&unknown, dialect));
        let refused = "the caller may not do this";
        let refused = reply(StatusCode::FORBIDDEN, refused, Content::Error, None);
        shown.insert(format!("{prefix}_403"), answer(&refused, dialect));
        let hasty = "too many wrong passwords of one name; try again in a minute";
        let retry = Some(("Retry-After", "seconds to wait"));
        let hasty = reply(StatusCode::TOO_MANY_REQUESTS, hasty, Content::Error, retry);
        shown.insert(format!("{prefix}_429"), answer(&hasty, dialect));
    }
    let forms =
        vec![("application/json", forbidden_module), ("text/plain", text()), ("text/html", text())];
    let refused = "the caller may not use the modules";
    let refused = reply(StatusCode::FORBIDDEN, refused, Content::Ready(forms), None);
    shown.insert("V1_module_403".to_owned(), answer(&refused, Dialect::V1));
    shown
}

/// Adds them where they can be, unless they are described.
pub(super) fn add_refusals(responses: &mut Map<String, Value>, access: Access, names: Names) {
    let statuses: &[&str] = match access {
        Access::Public => return,
        Access::Open(_) | Access::Known => &["401", "429"],
        Access::Asked(_) | Access::Allowed(_) => &["401", "403", "429"],
    };
    let (prefix, forbidden) = match names {
        Names::V1 => ("V1", "V1_403"),
        Names::V2 => ("V2", "V2_403"),
        Names::Module => ("V1", "V1_module_403"),
    };
    for status in statuses {
        let own = format!("{prefix}_{status}");
        let name = if *status == "403" { forbidden } else { &own };
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        responses.entry(*status).or_insert(reference);
    }
}

/// Which forms the answers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    V1,
    V2,
    Module,
}

impl From<Dialect> for Names {
    fn from(dialect: Dialect) -> Names {
        match dialect {
            Dialect::V1 => Names::V1,
            Dialect::V2 => Names::V2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::openapi::document;
    use crate::api::routes::ROUTES;

    #[test]
    fn each_operation_says_what_it_needs() {
        let shown = document(ROUTES, &[], &[Scheme::Token, Scheme::Password]);
        let get = |path: &str| &shown["paths"][path]["get"];

        assert_eq!(get("/healthz")["security"], json!([]));
        let both = json!([{"token": []}, {"password": []}]);
        assert_eq!(get("/v2/summary")["security"], both);
        assert_eq!(get("/readyz")["security"][0], json!({}));
        let reference = json!({"$ref": "#/components/responses/V2_401"});
        assert_eq!(get("/v2/summary")["responses"]["401"], reference);
        assert!(get("/healthz")["responses"].get("401").is_none());
        assert!(shown["components"]["securitySchemes"]["keystone"].is_object());
        let open = document(ROUTES, &[], &[]);
        assert!(open["paths"]["/v2/summary"]["get"].get("security").is_none());
    }
}
