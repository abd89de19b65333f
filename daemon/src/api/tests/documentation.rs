//! The document and the daemon say the same.

use std::collections::BTreeSet;

use serde_json::Value;

use super::setup::{empty, with_modules};
use crate::api::routes::ROUTES;

const MODULES: &str = "/v1/rating/module_config/";

async fn document_of(api: &super::setup::Api) -> Value {
    let (status, text) = api.get("/openapi.json").await;
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// `GET /v1/rating/modules` and its like.
fn described(document: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys();
        found.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    found
}

fn each(value: &Value, visit: &mut dyn FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| each(item, visit)),
        Value::Object(members) => {
            visit(members);
            members.values().for_each(|member| each(member, visit));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_route_is_described_and_nothing_else_is() {
    let document = document_of(&empty()).await;

    let mut served = BTreeSet::new();
    for route in ROUTES.iter().filter(|route| !route.pattern.starts_with(MODULES)) {
        let methods = route.methods.iter();
        served.extend(methods.map(|endpoint| format!("{} {}", endpoint.method, route.pattern)));
    }
    let described = described(&document);
    let (of_modules, ours): (BTreeSet<String>, BTreeSet<String>) =
        described.into_iter().partition(|operation| operation.contains(MODULES));
    assert_eq!(ours, served);
    assert_eq!(Vec::from_iter(of_modules), [format!("GET {MODULES}hashmap/types")]);
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let api = empty();
    let page = api.ask("GET", "/docs", &[], "").await;
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; "));

    let page = super::setup::text(&page);
    for banned in ["<style", "style=", " onclick", "//", "<script>"] {
        assert!(!page.contains(banned), "{banned}");
    }
    assert!(page.contains("<noscript>") && page.contains("href=\"openapi.json\""));
    for (path, content_type) in [("page.css", "text/css"), ("page.js", "text/javascript")] {
        assert!(page.contains(&format!("\"docs/{path}\"")), "{path}");
        let file = api.ask("GET", &format!("/docs/{path}"), &[], "").await;
        assert_eq!(file.status(), 200);
        let found = file.headers()["content-type"].to_str().unwrap();
        assert_eq!(found, format!("{content_type}; charset=utf-8"));
        let text = super::setup::text(&file);
        assert!(!text.contains("://") && !text.contains("innerHTML"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn references_lead_somewhere_and_names_are_taken_once() {
    let document = document_of(&with_modules().await).await;

    let mut operations = BTreeSet::new();
    each(&document, &mut |members| {
        if let Some(Value::String(target)) = members.get("$ref") {
            let pointer = target.strip_prefix('#').expect(target);
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        if let Some(Value::String(id)) = members.get("operationId") {
            assert!(operations.insert(id.clone()), "{id} twice");
        }
        assert!(members.keys().all(|name| !name.starts_with("x-rated")), "{members:?}");
    });
    let modules_too = described(&document);
    assert!(modules_too.contains("PUT /v1/rating/module_config/hashmap/mappings/{mapping_id}"));
    assert_eq!(operations.len(), modules_too.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_path_are_described() {
    let document = document_of(&with_modules().await).await;

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap();
            for part in path.split('/').filter(|part| part.starts_with('{')) {
                let is_it = |parameter: &&Value| {
                    parameter["in"] == "path" && parameter["name"] == part.trim_matches(['{', '}'])
                };
                let described: Vec<&Value> = parameters.iter().filter(is_it).collect();
                assert_eq!(described.len(), 1, "{method} {path} {part}");
                let is_ours = !path.starts_with(MODULES);
                assert!(!is_ours || described[0]["description"].is_string(), "{path} {part}");
            }
        }
    }
}
