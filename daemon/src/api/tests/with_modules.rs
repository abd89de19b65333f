//! The road from a request through the plugin host into hashmap and back.

use serde_json::{Value, json};

use super::setup::{Api, text, with_modules};

const JSON: &[(&str, &str)] =
    &[("content-type", "application/json"), ("accept", "application/json")];
const HASHMAP: &str = "/v1/rating/module_config/hashmap";

async fn ask(api: &Api, method: &str, target: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let response = api.ask(method, target, JSON, &body).await;
    let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), value)
}

/// Creates something below hashmap; its id.
async fn create(api: &Api, kind: &str, body: Value, id: &str) -> String {
    let (status, created) = ask(api, "POST", &format!("{HASHMAP}/{kind}"), body).await;
    assert_eq!(status, 201, "{created}");
    created[id].as_str().unwrap().to_owned()
}

async fn quote(api: &Api, resource: Value) -> Value {
    let (status, sum) =
        ask(api, "POST", "/v1/rating/quote", json!({"resources": [resource]})).await;
    assert_eq!(status, 200, "{sum}");
    sum
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_set_over_rest_are_quoted() {
    let api = with_modules().await;
    let service = create(&api, "services", json!({"name": "compute"}), "service_id").await;
    let flat = json!({"service_id": service, "cost": 0.25});
    create(&api, "mappings", flat, "mapping_id").await;
    let field = json!({"service_id": service, "name": "flavor"});
    let field = create(&api, "fields", field, "field_id").await;
    let big = json!({"field_id": field, "value": "big", "cost": "4"});
    create(&api, "mappings", big, "mapping_id").await;
    let small = json!({"service": "compute", "volume": "2.5", "desc": {}});
    assert_eq!(quote(&api, small.clone()).await, json!("0"));

    let enable = json!({"module_id": "hashmap", "enabled": true});
    assert_eq!(ask(&api, "PUT", "/v1/rating/modules/hashmap", enable).await.0, 302);

    assert_eq!(quote(&api, small).await, json!("0.6250000000000000000000000000"));
    for desc in [json!({"flavor": "big"}), json!({"metadata": {"flavor": "big"}})] {
        let big = json!({"service": "compute", "volume": 1, "desc": desc});
        assert_eq!(quote(&api, big).await, json!("4.000000000000000000000000000"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_own_price_is_quoted_to_the_tenant() {
    let api = with_modules().await;
    let service = create(&api, "services", json!({"name": "compute"}), "service_id").await;
    for (cost, tenant) in [("1", Value::Null), ("0.5", json!("ann"))] {
        let mapping = json!({"service_id": service, "cost": cost, "tenant_id": tenant});
        create(&api, "mappings", mapping, "mapping_id").await;
    }
    ask(&api, "PUT", "/v2/rating/modules/hashmap", json!({"enabled": true})).await;

    let of = |tenant| json!({"service": "compute", "volume": 1, "desc": {"project_id": tenant}});

    assert_eq!(quote(&api, of("ann")).await, json!("0.5000000000000000000000000000"));
    assert_eq!(quote(&api, of("bob")).await, json!("1.000000000000000000000000000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modules_are_listed_and_those_that_serve_nothing_say_so() {
    let api = with_modules().await;

    let (status, modules) = ask(&api, "GET", "/v1/rating/modules/", Value::Null).await;
    let expected = json!({"modules": [
        {"module_id": "hashmap", "description": "HashMap rating module.", "enabled": false,
            "hot-config": true, "priority": 1},
        {"module_id": "noop", "description": "Dummy test module.", "enabled": true,
            "hot-config": false, "priority": 1},
    ]});
    assert_eq!((status, modules), (200, expected));

    let noop = ask(&api, "GET", "/v1/rating/module_config/noop", Value::Null).await;
    let reason = json!({"faultcode": "Client", "faultstring": "Module is not configurable",
        "debuginfo": null});
    assert_eq!(noop, (409, reason));
    for path in ["", "/nope", "/types/flat", "nope"] {
        let (status, _) = ask(&api, "GET", &format!("{HASHMAP}{path}"), Value::Null).await;
        assert_eq!(status, 405, "{path}");
    }
    assert_eq!(ask(&api, "GET", "/v1/rating/reload_modules", Value::Null).await.0, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_a_module_come_in_the_form_asked_for() {
    let api = with_modules().await;
    let types = format!("{HASHMAP}/types/");

    let xml = api.ask("GET", &types, &[("accept", "application/xml")], "").await;
    assert_eq!(xml.headers()["content-type"], "application/xml; charset=UTF-8");
    assert_eq!(text(&xml), "<result><item>flat</item><item>rate</item></result>");

    let services = format!("{HASHMAP}/services");
    let created = api.ask("POST", &services, JSON, r#"{"name": "café"}"#).await;
    let location = created.headers()["location"].to_str().unwrap();
    let id = location.strip_prefix("http://HOST/v1/rating/module_config/hashmap/services/");
    let (status, read) =
        ask(&api, "GET", &format!("{services}/{}", id.unwrap()), Value::Null).await;
    assert_eq!((status, &read["name"]), (200, &json!("café")));

    let text_body = [("content-type", "text/plain"), ("accept", "application/json")];
    let refused = api.ask("POST", &services, &text_body, "{}").await;
    assert_eq!(refused.status(), 415);
    assert!(text(&refused).contains("Unknown mimetype: text/plain"), "{}", text(&refused));
    let as_xml = [("content-type", "application/xml"), ("accept", "application/xml")];
    let refused = api.ask("POST", &services, &as_xml, "<x><name>y</name></x>").await;
    let fault = "<error><faultcode>Client</faultcode><faultstring>Unknown mimetype: \
                 application/xml</faultstring><debuginfo/></error>";
    assert_eq!((refused.status().as_u16(), text(&refused).as_str()), (415, fault));
    let (status, fault) = ask(&api, "GET", &format!("{services}?colour=red"), Value::Null).await;
    assert_eq!((status, &fault["faultstring"]), (400, &json!("Unknown argument: \"colour\"")));
    let (status, fault) = ask(&api, "POST", &services, json!({"name": "café"})).await;
    assert_eq!(status, 409, "{fault}");
}
