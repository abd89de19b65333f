//! The contract with clients: every example of `testdata/contract` is sent, in order, and the
//! answer compared.
//!
//! The documents were recorded from a running `CloudKitty`. Where this module differs on purpose,
//! the example is named in [`DIFFERENT`] with the reason; an answer of 500 there must be 400 here.

#![cfg(test)]

mod examples;
mod pattern;

use std::collections::HashMap;

use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{Method, Principal, Request, Response};
use rated_pyscripts::PyScripts;
use serde_json::{Value, json};

use self::examples::Example;
use self::pattern::Bindings;

const PREFIX: &str = "/v1/rating/module_config/pyscripts";

/// Titles of examples that are answered otherwise, with the status, what the answer holds, and why.
const DIFFERENT: &[(&str, u16, &str)] = &[
    // A script is compiled when it is stored.
    ("not Python", 400, "Invalid input for field/attribute data. Line 1: "),
    // What equals what is stored is no change.
    ("script started: an end and the data it has", 201, "\"a = 1\""),
    // Defects of a database and of a login.
    ("script with the name of a deleted one", 201, "\"p\""),
    ("create a script", 201, "\"checksum\""),
];

struct Replay {
    host: FakeHost,
    module: TestModule,
    bindings: Bindings,
}

impl Replay {
    fn new() -> Replay {
        let host = FakeHost::new();
        let module = TestModule::new::<PyScripts>(&host, "").unwrap();
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

    /// Makes a script and remembers its id.
    fn make(&mut self, body: &str, name: &str) {
        let body = self.bindings.fill(body);
        let response = self.send("POST", &format!("{PREFIX}/scripts"), "application/json", &body);
        assert_eq!(response.status, 201, "{}", String::from_utf8_lossy(&response.body));
        let location = response.location.unwrap();
        let id = location.rsplit('/').next().unwrap();
        self.bindings.names.insert(name.to_owned(), id.to_owned());
    }

    fn delete(&mut self, name: &str) {
        let target = format!("{PREFIX}/scripts/{}", self.bindings.names[name]);
        assert_eq!(self.send("DELETE", &target, "", "").status, 204);
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

    fn check_location(&mut self, example: &Example, response: &Response, shown: &str) {
        let Some(expected) = &example.location else { return };
        let expected = expected.strip_prefix("http://HOST").unwrap();
        let expected = expected.strip_prefix(PREFIX).unwrap();
        let found = response.location.as_deref().unwrap_or_default();
        assert!(self.bindings.fits(expected, found), "{shown}\nLocation: {found}");
    }

    fn check_answer(&mut self, example: &Example, text: &str, shown: &str) {
        let expected = &example.answer;
        if expected.is_empty() {
            assert!(text.is_empty(), "{shown}");
        } else if let Some(ids) = expected.strip_prefix("scripts: [") {
            let found: Value = serde_json::from_str(text).unwrap();
            let ids = ids.trim_end_matches(']').split(", ").filter(|id| !id.is_empty());
            let ids: Vec<Value> = ids.map(|id| json!(id)).collect();
            let scripts = found["scripts"].as_array().unwrap();
            let found: Vec<Value> = scripts.iter().map(|it| it["script_id"].clone()).collect();
            assert!(self.bindings.fits_json(&json!(ids), &json!(found)), "{shown}\n{expected}");
        } else if !expected.contains("[...]") {
            let found: Value = serde_json::from_str(text).unwrap();
            let wanted: Value = serde_json::from_str(expected).unwrap();
            assert!(self.bindings.fits_json(&wanted, &found), "{shown}\nexpected {expected}");
        }
    }
}

/// Replays a document; returns how many examples it has. `unwritten` does what happened before the
/// example of a title without being written down; before all of them the title is empty.
fn replay(document: &str, unwritten: impl Fn(&mut Replay, &str)) -> usize {
    let mut replay = Replay::new();
    unwritten(&mut replay, "");
    let examples = examples::read(document);
    for example in &examples {
        unwritten(&mut replay, &example.title);
        replay.check(example);
        // Scripts that start "now" have started when the next example comes.
        replay.host.advance(chrono::Duration::milliseconds(1300));
        replay.bindings.now = replay.host.now();
    }
    examples.len()
}

#[test]
fn scripts() {
    let unwritten = |replay: &mut Replay, title: &str| {
        if title == "start in the past" {
            replay.make(r#"{"name": "bad", "data": "'not bad'"}"#, "bad");
            replay.delete("bad");
        }
    };

    assert_eq!(replay(include_str!("../../testdata/contract/scripts.md"), unwritten), 44);
}

#[test]
fn what_the_python_client_sends() {
    let unwritten = |replay: &mut Replay, title: &str| {
        if title.is_empty() {
            let later = r#"{"name": "s2", "data": "b = 1", "start": "<today+10 days>"}"#;
            replay.make(later, "scr2");
            let now = r#"{"name": "s1", "data": "a = 1", "start": null, "end": null}"#;
            replay.make(now, "scr");
        }
    };

    assert_eq!(replay(include_str!("../../testdata/contract/client.md"), unwritten), 2);
}

#[test]
fn what_the_peer_breaks_on_is_a_bad_request_or_works() {
    let unwritten = |replay: &mut Replay, title: &str| {
        if title == "script with the name of a deleted one" {
            replay.make(r#"{"name": "p", "data": "x"}"#, "p");
            replay.delete("p");
        }
    };

    assert_eq!(replay(include_str!("../../testdata/contract/defects.md"), unwritten), 3);
}
