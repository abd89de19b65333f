//! What the API does beyond what was recorded.

#![cfg(test)]

use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{Method, Principal, Request};
use rated_pyscripts::PyScripts;
use serde_json::{Value, json};

struct Site {
    host: FakeHost,
    module: TestModule,
}

impl Site {
    fn new() -> Site {
        let host = FakeHost::new();
        let module = TestModule::new::<PyScripts>(&host, "processes = 1").unwrap();
        Site { host, module }
    }

    /// Status and body; `target` is a path with a query.
    fn send_as(&self, user: &str, method: Method, target: &str, body: &Value) -> (u16, Value) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut request = Request::new(method, path, body);
        query.clone_into(&mut request.query);
        request.principal = Principal { user_id: user.to_owned(), ..Principal::default() };
        let response = self.module.handle(&request).unwrap();
        let text = String::from_utf8(response.body).unwrap();
        (response.status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    fn send(&self, method: Method, target: &str, body: &Value) -> (u16, Value) {
        self.send_as("unknown", method, target, body)
    }

    /// Makes a script; its id.
    fn make(&self, body: &Value) -> String {
        let (status, made) = self.send(Method::Post, "/scripts", body);
        assert_eq!(status, 201, "{made}");
        made["script_id"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn refused(&self, body: &Value, text: &str) {
        let (status, fault) = self.send(Method::Post, "/scripts", body);
        assert_eq!(status, 400, "{fault}");
        let found = fault["faultstring"].as_str().unwrap();
        assert!(found.contains(text), "{found}");
    }
}

#[test]
fn who_did_what_is_kept() {
    let site = Site::new();
    let body = json!({"name": "s", "data": "1", "start": "2026-02-01"});
    let (_, made) = site.send_as("ann", Method::Post, "/scripts", &body);
    let path = format!("/scripts/{}", made["script_id"].as_str().unwrap());

    let body = json!({"name": "s", "data": "2"});
    let (_, changed) = site.send_as("bob", Method::Put, &path, &body);
    site.send_as("cid", Method::Delete, &path, &Value::Null);

    assert_eq!((&made["created_by"], &made["updated_by"]), (&json!("ann"), &Value::Null));
    assert_eq!(changed["updated_by"], "bob");
    let (_, list) = site.send(Method::Get, "/scripts?deleted=1&no_data=1", &Value::Null);
    let kept = &list["scripts"][0];
    assert_eq!((&kept["created_by"], &kept["deleted_by"]), (&json!("ann"), &json!("cid")));
    assert_eq!(kept["deleted"], "2026-01-01T00:00:00");
}

#[test]
fn an_id_may_stand_in_the_query_or_the_body() {
    let site = Site::new();
    let id = site.make(&json!({"name": "s", "data": "1", "start": "2026-02-01"}));

    let body = json!({"script_id": id, "name": "s", "data": "2"});
    assert_eq!(site.send(Method::Put, "/scripts", &body).1["data"], "2");
    let body = json!({"name": "s", "data": "3"});
    let target = format!("/scripts?script_id={id}");
    assert_eq!(site.send(Method::Put, &target, &body).1["data"], "3");
    assert_eq!(site.send(Method::Delete, "/scripts", &json!({"script_id": id})).0, 204);
    assert_eq!(site.send(Method::Put, "/scripts", &body).0, 400);
}

#[test]
fn a_running_script_is_ended_once_and_again_the_same_way() {
    let site = Site::new();
    let id = site.make(&json!({"name": "s", "data": "1", "description": "words"}));
    let path = format!("/scripts/{id}");
    site.host.advance(chrono::Duration::seconds(1));
    let (_, mut whole) = site.send(Method::Get, &path, &Value::Null);
    whole.as_object_mut().unwrap().remove("checksum");
    whole["end"] = json!("2025-12-31");
    let (status, fault) = site.send(Method::Put, &path, &whole);
    assert_eq!(status, 400);
    assert!(fault["faultstring"].as_str().unwrap().starts_with("End date must be in the future."));

    whole["end"] = json!("2026-03-01");
    let (status, ended) = site.send(Method::Put, &path, &whole);

    assert_eq!((status, &ended["end"]), (201, &json!("2026-03-01T23:59:59")));
    let revision = site.host.revision();
    assert_eq!(site.send(Method::Put, &path, &whole), (201, ended));
    assert_eq!(site.host.revision(), revision);
    for (name, value) in [("name", "t"), ("data", "2"), ("description", "x"), ("end", "2026-04-01")]
    {
        let mut other = whole.clone();
        other[name] = json!(value);
        assert_eq!(site.send(Method::Put, &path, &other).0, 400, "{name}");
    }
}

#[test]
fn an_end_without_a_start_counts_from_now() {
    let site = Site::new();
    let id = site.make(&json!({"name": "s", "data": "1", "start": null, "end": "2026-01-31"}));

    let (_, made) = site.send(Method::Get, &format!("/scripts/{id}"), &Value::Null);

    assert_eq!(made["start"], "2026-01-01T00:00:00");
    assert_eq!(made["end"], "2026-01-31T23:59:59");
}

#[test]
fn what_makes_no_sense_is_named() {
    let site = Site::new();

    site.refused(&json!({"name": 7, "data": ""}), "Expected '<class 'str'>', got '<class 'int'>'");
    site.refused(&json!({"name": "s", "data": 7}), "attribute data. Value: '7'. Wrong type");
    site.refused(&json!({"name": "s", "data": null}), "attribute data. Value: 'None'. Mandatory");
    site.refused(&json!({"name": "n".repeat(256), "data": ""}), "More than 255 characters");
    site.refused(&json!({"name": "s", "data": "", "colour": 1}), "script_data: colour");
    site.refused(&json!({"name": "s", "data": "", "script_id": "x"}), "Invalid UUID, got 'x'");
    site.refused(&json!({"name": "s", "data": "", "start": "soon"}), "Unknown string format: soon");
    site.refused(&json!({"name": "s", "data": "", "end": "soon"}), "Invalid isoformat string");
    site.refused(&json!({"name": "s", "data": "", "end": "2026-02-01T00:00:00Z"}), "no time zone");
    let dates = json!({"name": "s", "data": "", "start": "2026-03-01", "end": "2026-02-01"});
    site.refused(&dates, "start after end");
    site.refused(&json!([]), "not a JSON object");
    assert_eq!(site.host.revision(), 0);
}

#[test]
fn texts_have_a_limit_together() {
    let site = Site::new();
    let data = "#".repeat(1 << 20);
    for index in 0..16 {
        site.make(&json!({"name": format!("s{index}"), "data": data, "start": "2026-02-01"}));
    }

    site.refused(&json!({"name": "more", "data": "#"}), "at most 16777216 are accepted");
    let (_, list) = site.send(Method::Get, "/scripts?no_data=1", &Value::Null);
    let first = list["scripts"][0]["script_id"].as_str().unwrap();
    assert_eq!(site.send(Method::Delete, &format!("/scripts/{first}"), &Value::Null).0, 204);
    site.make(&json!({"name": "more", "data": "#"}));
    let (status, fault) = site.send(Method::Get, "/scripts?deleted=1", &Value::Null);
    assert_eq!(status, 400);
    assert!(fault["faultstring"].as_str().unwrap().ends_with("Ask with no_data."), "{fault}");
}
