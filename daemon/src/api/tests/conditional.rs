//! Tags: who has an answer already is told so, who changes what he has not seen is refused.

use serde_json::Value;

use super::setup::{Api, empty, text, with_modules};

const JSON: (&str, &str) = ("content-type", "application/json");
const SERVICES: &str = "/v1/rating/module_config/hashmap/services";

/// Status and tag of an answer.
async fn ask(
    api: &Api,
    request: (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let response = api.ask(request.0, request.1, headers, body).await;
    let tag = response.headers().get("etag").map(|tag| tag.to_str().unwrap().to_owned());
    (response.status().as_u16(), tag.unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_caller_has_is_not_sent_again() {
    let api = with_modules().await;
    let (status, tag) = ask(&api, ("GET", SERVICES), &[], "").await;
    assert_eq!(status, 200);
    assert!(tag.starts_with("\"0-") && tag.ends_with("-json\""), "{tag}");

    for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}")] {
        let response = api.ask("GET", SERVICES, &[("if-none-match", &known)], "").await;
        assert_eq!(response.status(), 304, "{known}");
        assert_eq!(response.headers()["etag"], *tag);
        assert!(response.body().is_empty());
    }
    let as_xml = [("if-none-match", tag.as_str()), ("accept", "application/xml")];
    let (status, xml_tag) = ask(&api, ("GET", SERVICES), &as_xml, "").await;
    assert_eq!((status, xml_tag.ends_with("-xml\"")), (200, true), "{xml_tag}");
    for unknown in ["*", "\"0-json\"", "0", "\u{e9}"] {
        let (status, _) = ask(&api, ("GET", SERVICES), &[("if-none-match", unknown)], "").await;
        assert_eq!(status, 200, "{unknown}");
    }

    let (status, new) = ask(&api, ("POST", SERVICES), &[JSON], r#"{"name": "a"}"#).await;
    assert_eq!(status, 201);
    let (status, newest) = ask(&api, ("GET", SERVICES), &[("if-none-match", &tag)], "").await;
    assert_eq!((status, newest), (200, new.clone()));
    assert_ne!(new, tag);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_and_what_depends_on_the_hour_have_no_tag() {
    let api = with_modules().await;
    let hashmap = "/v1/rating/module_config/hashmap";
    for target in ["/services/nobody", "/mappings?is_active=1", "/mappings?is%5Factive=1"] {
        let (_, tag) = ask(&api, ("GET", &format!("{hashmap}{target}")), &[], "").await;
        assert_eq!(tag, "", "{target}");
    }
    let (status, tag) = ask(&api, ("POST", SERVICES), &[JSON], "{}").await;
    assert_eq!((status, tag.as_str()), (400, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_other_rules_than_were_seen_is_refused() {
    let api = with_modules().await;
    let (_, seen) = ask(&api, ("GET", SERVICES), &[], "").await;
    let accept_xml = ("accept", "application/xml");
    let (_, seen_as_xml) = ask(&api, ("GET", SERVICES), &[accept_xml], "").await;

    let first = [JSON, ("if-match", seen_as_xml.as_str())];
    let (status, after) = ask(&api, ("POST", SERVICES), &first, r#"{"name": "a"}"#).await;
    assert_eq!(status, 201);
    let late = [JSON, ("if-match", seen.as_str()), ("accept", "application/json")];
    let refused = api.ask("POST", SERVICES, &late, r#"{"name": "b"}"#).await;
    assert_eq!(refused.status(), 412);
    let fault: Value = serde_json::from_str(&text(&refused)).unwrap();
    assert_eq!(fault["faultstring"], "it has been changed in between; read it again");
    for matching in ["*", &format!("\"x\", {after}")] {
        let headers = [JSON, ("if-match", matching)];
        let body = format!(r#"{{"name": "c{}"}}"#, matching.len());
        let (status, _) = ask(&api, ("POST", SERVICES), &headers, &body).await;
        // The second one comes after the change that the first one made.
        assert_eq!(status, if matching == "*" { 201 } else { 412 });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_changes_of_the_same_rules_one_is_made() {
    let api = with_modules().await;
    let (_, seen) = ask(&api, ("GET", SERVICES), &[], "").await;
    let headers = [JSON, ("if-match", seen.as_str())];
    let bodies: Vec<String> = (0..8).map(|index| format!(r#"{{"name": "n{index}"}}"#)).collect();

    let asked = bodies.iter().map(|body| ask(&api, ("POST", SERVICES), &headers, body));
    let answers = futures_util::future::join_all(asked).await;

    let statuses: Vec<u16> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 412).count(), 7, "{statuses:?}");
}

#[tokio::test]
async fn states_of_modules_have_tags_too() {
    let api = empty();
    for (version, own, success) in [("v1", "\"module_id\": \"hashmap\", ", 302), ("v2", "", 204)] {
        let target = format!("/{version}/rating/modules/hashmap");
        let (_, seen) = ask(&api, ("GET", &target), &[], "").await;
        let (status, _) = ask(&api, ("GET", &target), &[("if-none-match", &seen)], "").await;
        assert_eq!(status, 304);

        let headers = [JSON, ("if-match", seen.as_str())];
        let body = format!("{{{own}\"priority\": {success}}}");
        let (status, new) = ask(&api, ("PUT", &target), &headers, &body).await;
        assert_eq!(status, success);
        let (status, _) = ask(&api, ("PUT", &target), &headers, &body).await;
        assert_eq!(status, 412);

        assert_eq!(ask(&api, ("GET", &target), &[], "").await, (200, new));
    }
}

#[tokio::test]
async fn pages_of_other_origins_see_the_tag() {
    let api = empty();
    let origin = [("origin", "http://valid.example.com")];
    let exposed = async |target: &str| {
        let response = api.ask("GET", target, &origin, "").await;
        response.headers()["access-control-expose-headers"].to_str().unwrap().to_owned()
    };

    let base = "X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID";
    assert_eq!(exposed("/v1/report/total").await, base);
    assert_eq!(exposed("/v1/rating/modules").await, format!("{base},ETag"));

    let question = [
        ("origin", "http://valid.example.com"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "if-match,content-type"),
    ];
    let answer = api.ask("OPTIONS", "/v1/rating/modules/hashmap", &question, "").await;
    assert_eq!(answer.headers()["access-control-allow-headers"], "if-match,content-type");
    let foreign = [("origin", "http://other.example"), question[1]];
    let answer = api.ask("OPTIONS", "/v1/rating/modules/hashmap", &foreign, "").await;
    assert!(!answer.headers().contains_key("access-control-allow-origin"));
    assert!(!answer.headers().contains_key("access-control-allow-methods"));
    assert_eq!(answer.headers()["vary"], "Origin");
}
