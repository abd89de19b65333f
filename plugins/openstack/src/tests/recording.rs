//! Recorded exchanges as a host.
//!
//! `NAME.request` is a method and a path, an empty line, a body; `NAME.answer` a status and
//! headers, an empty line, a body; see `testdata/README.md`.

use std::collections::{BTreeMap, VecDeque};

use rated_plugin::testing::FakeHost;
use rated_plugin::{HttpRequest, HttpResponse, Method};

fn file(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/");
    let path = format!("{folder}{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A request in the form of the files; of an address only what stands behind the host.
pub(super) fn written(request: &HttpRequest) -> String {
    let method = match request.method {
        Method::Get => "GET",
        Method::Post => "POST",
        other => panic!("{other:?} is never sent"),
    };
    let (_, rest) = request.url.split_once("://").unwrap();
    let path = &rest[rest.find('/').unwrap()..];
    format!("{method} {path}\n\n{}", String::from_utf8_lossy(&request.body))
}

/// The answer of that name.
pub(super) fn answer(name: &str) -> HttpResponse {
    let text = file(&format!("{name}.answer"));
    let (head, body) = text.split_once("\n\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    HttpResponse { status, headers, body: body.trim_end().as_bytes().to_vec() }
}

/// Answers exactly these requests, in this order.
pub(super) fn host(names: &[&str]) -> FakeHost {
    let host = FakeHost::new();
    let mut names: VecDeque<String> = names.iter().map(|name| (*name).to_owned()).collect();
    host.answer_with(move |request| {
        let name = names.pop_front().unwrap_or_else(|| panic!("{}", written(request)));
        let recorded = file(&format!("{name}.request"));
        assert_eq!(written(request).trim_end(), recorded.trim_end(), "{name}");
        Ok(answer(&name))
    });
    host
}
