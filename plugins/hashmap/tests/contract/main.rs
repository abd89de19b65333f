//! The contract with clients: every example of `testdata/contract` is sent, in order, and the
//! answer compared.
//!
//! The documents were recorded from a running `CloudKitty`. Where this module differs on purpose,
//! the example is named in [`DIFFERENT`] with the reason; an answer of 500 there must be 400 here.

#![cfg(test)]

mod examples;
mod pattern;

use std::collections::HashMap;

use rated_hashmap::Hashmap;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{Method, Principal, Request, Response};
use serde_json::{Value, json};

use self::examples::Example;
use self::pattern::Bindings;

const PREFIX: &str = "/v1/rating/module_config/hashmap";

/// Titles of examples that are answered otherwise, with the status, what the answer holds, and why.
const DIFFERENT: &[(&str, u16, &str)] = &[
    // Numbers are read as the decimals that their texts say.
    ("decimal as number", 201, "\"0.3000000000000000000000000000\""),
    ("create a threshold", 201, "\"0.9000000000000000000000000000\""),
    // A number that cannot be kept exactly is refused.
    ("more than 28 decimals", 400, "More than 28 significant digits"),
    // Thresholds have a validity as mappings have.
    ("attributes of mappings are refused", 400, "Cannot create a rule with start in the past"),
    (
        "GET /v1/rating/module_config/hashmap/thresholds\
         ?service_id=<svc>&start=2014-01-01T00:00:00",
        200,
        "thresholds",
    ),
    // Bodies in XML are read, and requests for XML answered, by the daemon.
    ("create from text/xml", 415, "Unknown mimetype: text/xml"),
];

/// What happened between the examples without being written down: before which, what was made,
/// under which name.
type Unwritten = &'static [(&'static str, &'static str, &'static str, &'static str)];

struct Replay {
    host: FakeHost,
    module: TestModule,
    bindings: Bindings,
}

impl Replay {
    fn new() -> Replay {
        let host = FakeHost::new();
        let module = TestModule::new::<Hashmap>(&host, "").unwrap();
        let bindings = Bindings { names: HashMap::new(), now: host.now() };
        Replay { host, module, bindings }
    }

    /// Sends what the daemon would pass on.
    fn send(&self, method: &str, target: &str, content_type: &str, body: &str) -> Response {
        let below = target.strip_prefix(PREFIX).expect("a path of the module");
        let (path, query) = below.split_once('?').unwrap_or((below, ""));
        let method = match method {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PUT" => Method::Put,
            "DELETE" => Method::Delete,
            _ => Method::Patch,
        };
        let request = Request {
            method,
            path: path.trim_end_matches('/').to_owned(),
            query: query.to_owned(),
            content_type: content_type.to_owned(),
            body: body.as_bytes().to_vec(),
            principal: Principal { user_id: "unknown".to_owned(), ..Principal::default() },
        };
        self.module.handle(&request).unwrap()
    }

    /// Makes an object and remembers its id.
    fn make(&mut self, collection: &str, body: &str, name: &str) {
        let body = self.bindings.fill(body);
        let target = format!("{PREFIX}/{collection}");
        let response = self.send("POST", &target, "application/json", &body);
        assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
        let location = response.location.unwrap();
        let id = location.rsplit('/').next().unwrap();
        self.bindings.names.insert(name.to_owned(), id.to_owned());
    }

    fn check(&mut self, example: &Example) {
        let target = self.bindings.fill(&example.target);
        let body = self.bindings.fill(&example.body);
        let sent_type = example.headers.iter().find_map(|it| it.strip_prefix("Content-Type: "));
        let content_type = sent_type.unwrap_or("application/json");

        let response = self.send(&example.method, &target, content_type, &body);

        let text = String::from_utf8(response.body.clone()).unwrap();
        let shown = format!("{}: {target} {body}\n{} {text}", example.title, response.status);
        if let Some((_, status, part)) = DIFFERENT.iter().find(|it| it.0 == example.title) {
            assert_eq!(response.status, *status, "{shown}");
            assert!(text.contains(part), "{shown}");
            self.bind_all(example, &response, &text);
            return;
        }
        if example.status == 500 {
            assert_eq!(response.status, 400, "{shown}");
            let fault: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(fault["faultcode"], "Client", "{shown}");
            assert!(!fault["faultstring"].as_str().unwrap().is_empty(), "{shown}");
            return;
        }
        assert_eq!(response.status, example.status, "{shown}");
        self.check_location(example, &response, &shown);
        self.check_answer(example, &text, &shown);
    }

    /// An example that is answered otherwise may still name what it made.
    fn bind_all(&mut self, example: &Example, response: &Response, text: &str) {
        if let (Some(expected), Some(_)) = (&example.location, &response.location) {
            self.check_location(example, response, expected);
        } else if text.contains("thresholds") {
            assert!(serde_json::from_str::<Value>(text).is_ok());
        }
    }

    fn check_location(&mut self, example: &Example, response: &Response, shown: &str) {
        let Some(expected) = &example.location else { return };
        let expected = expected.strip_prefix("http://HOST").unwrap();
        let expected = expected.strip_prefix(PREFIX).unwrap().trim_end_matches('/');
        let found = response.location.as_deref().unwrap_or_default();
        assert!(self.bindings.fits(expected, found), "{shown}\nLocation: {found}");
    }

    fn check_answer(&mut self, example: &Example, text: &str, shown: &str) {
        // The order of the two names varies there.
        let expected = example.answer.replace("one of: rate, flat", "one of: flat, rate");
        if expected.is_empty() {
            assert!(text.is_empty(), "{shown}");
        } else if let Some((name, ids)) =
            expected.split_once(": [").filter(|_| !expected.starts_with(['{', '[']))
        {
            let found: Value = serde_json::from_str(text).unwrap();
            let key = format!("{}_id", name.trim_end_matches('s'));
            let ids: Vec<Value> = ids
                .trim_end_matches(']')
                .split(", ")
                .filter(|id| !id.is_empty())
                .map(|id| json!(id))
                .collect();
            let found: Vec<Value> =
                found[name].as_array().unwrap().iter().map(|it| it[&key].clone()).collect();
            assert!(
                self.bindings.fits_json(&json!(ids), &json!(found)),
                "{shown}\n{}",
                example.answer
            );
        } else if !expected.contains("[...]") {
            let found: Value = serde_json::from_str(text).unwrap();
            let wanted: Value = serde_json::from_str(&expected).unwrap();
            assert!(self.bindings.fits_json(&wanted, &found), "{shown}\nexpected {expected}");
        }
    }
}

/// Replays a document; returns how many examples it has.
fn replay(document: &str, unwritten: Unwritten) -> usize {
    let mut replay = Replay::new();
    for (_, collection, body, name) in unwritten.iter().filter(|it| it.0.is_empty()) {
        replay.make(collection, body, name);
    }
    let examples = examples::read(document);
    for example in &examples {
        for (_, collection, body, name) in unwritten.iter().filter(|it| it.0 == example.title) {
            replay.make(collection, body, name);
        }
        // XML is the daemon's business.
        if !example.headers.iter().any(|header| header == "Accept: application/xml") {
            replay.check(example);
        }
        // Rules that start "now" have started when the next example comes.
        replay.host.advance(chrono::Duration::milliseconds(1300));
        replay.bindings.now = replay.host.now();
    }
    examples.len()
}

#[test]
fn services_and_fields() {
    let unwritten: Unwritten = &[("list", "services", r#"{"name": "image.size"}"#, "svc2")];

    assert_eq!(replay(include_str!("../../testdata/contract/services.md"), unwritten), 42);
}

#[test]
fn mappings() {
    let unwritten: Unwritten = &[
        ("", "services", r#"{"name": "compute"}"#, "svc"),
        ("", "services", r#"{"name": "image.size"}"#, "svc2"),
        ("", "fields", r#"{"service_id": "<svc>", "name": "flavor"}"#, "fld"),
        ("", "groups", r#"{"name": "uptime"}"#, "grp"),
        (
            "twelve digits before the point",
            "mappings",
            r#"{"field_id": "<fld>", "value": "d7", "cost": "0.1234567890123456789012345679"}"#,
            "d7",
        ),
        (
            "started: same cost, but type left out",
            "mappings",
            r#"{"service_id": "<svc2>", "cost": "0.1", "type": "rate"}"#,
            "m9",
        ),
        (
            "started: end in the past",
            "mappings",
            r#"{"field_id": "<fld>", "value": "ten", "cost": "3"}"#,
            "m10",
        ),
    ];

    assert_eq!(replay(include_str!("../../testdata/contract/mappings.md"), unwritten), 106);
}

#[test]
fn thresholds_and_groups() {
    let unwritten: Unwritten = &[
        ("", "services", r#"{"name": "compute"}"#, "svc"),
        ("", "fields", r#"{"service_id": "<svc>", "name": "memory"}"#, "fld"),
        ("list", "groups", r#"{"name": "second"}"#, "grp2"),
        (
            "mappings of a group",
            "mappings",
            r#"{"service_id": "<svc>", "cost": "4", "group_id": "<grp>"}"#,
            "map",
        ),
    ];

    assert_eq!(replay(include_str!("../../testdata/contract/thresholds.md"), unwritten), 71);
}

#[test]
fn what_the_python_client_sends() {
    let unwritten: Unwritten = &[
        (
            "create a mapping with explicit nulls",
            "fields",
            r#"{"service_id": "<svc>", "name": "flavor"}"#,
            "fld",
        ),
        ("create a mapping with explicit nulls", "groups", r#"{"name": "uptime"}"#, "grp"),
        ("create a mapping with explicit nulls", "services", r#"{"name": "other"}"#, "svc2"),
        (
            "update: the whole object, id in the body",
            "mappings",
            r#"{"field_id": "<fld>", "value": "small", "type": "rate", "cost": "0.3",
                "start": "<today+10 days>", "end": "<today+20 days>",
                "name": "future", "description": "words"}"#,
            "m1",
        ),
    ];

    assert_eq!(replay(include_str!("../../testdata/contract/client.md"), unwritten), 18);
}

#[test]
fn bodies() {
    assert_eq!(replay(include_str!("../../testdata/contract/bodies.md"), &[]), 18);
}

#[test]
fn what_the_peer_breaks_on_is_a_bad_request() {
    let unwritten: Unwritten = &[
        ("", "services", r#"{"name": "compute"}"#, "svc"),
        ("", "fields", r#"{"service_id": "<svc>", "name": "flavor"}"#, "fld"),
    ];

    assert_eq!(replay(include_str!("../../testdata/contract/defects.md"), unwritten), 4);
}
