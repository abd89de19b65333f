//! Requests as a fuzzer has them, to a whole API over a ledger on disk: whatever is asked, there is
//! an answer of the form that its head says, and it is never that something is wrong inside.

use std::cell::RefCell;

use bytes::Bytes;
use tokio::runtime::Runtime;
use warp::http::{Response, header};

use super::authentication::fuzz::htpasswd;
pub(crate) use super::authentication::fuzz::keystone_answer;
use super::tests::setup::{Api, with_rows_on_disk};
pub(crate) use super::v2::dataframes::fuzz::push;
pub(crate) use super::xml::fuzz::document as xml_document;

/// Longest input that is looked at: the limits of bodies have tests of their own.
const INPUT_SIZE_MAX: usize = 64 << 10;

/// What takes a query.
const QUERIES: [&str; 21] = [
    "/v2/summary",
    "/v2/dataframes",
    "/v2/scope",
    "/v2/completeness",
    "/v2/task/reprocesses",
    "/v2/task/reprocesses/x",
    "/v2/rating/modules",
    "/v1/report/total",
    "/v1/report/summary",
    "/v1/report/tenants",
    "/v1/storage/dataframes",
    "/v1/info/metrics",
    "/v1/collector/mappings",
    "/v1/collector/states",
    "/v1/rating/modules",
    "/v2/explain",
    "/v2/audit",
    "/v2/ledger/generations",
    "/v2/ledger/differences",
    "/v2/ledger/verify",
    "/v2/ledger/backups/1/records",
];

/// What takes a body; the first ones take it as XML too.
const BODIES: [(&str, &str); 10] = [
    ("POST", "/v1/rating/quote"),
    ("PUT", "/v1/rating/modules/hashmap"),
    ("POST", "/v1/collector/mappings"),
    ("PUT", "/v1/collector/states/prometheus"),
    ("POST", "/v2/dataframes"),
    ("POST", "/v2/scope"),
    ("PATCH", "/v2/scope"),
    ("PUT", "/v2/scope"),
    ("POST", "/v2/task/reprocesses"),
    ("PUT", "/v2/rating/modules/hashmap"),
];
const BODIES_OF_XML: usize = 4;

const ACCEPTED: [&str; 5] = [
    "application/json",
    "application/xml",
    "text/csv",
    "application/json;decimal=string",
    "text/xml;q=0.5, */*;q=0.1",
];

struct Site {
    runtime: Runtime,
    api: Api,
}

thread_local! {
    static SITE: RefCell<Option<Site>> = const { RefCell::new(None) };
}

fn ask(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Bytes> {
    SITE.with_borrow_mut(|site| {
        let Site { runtime, api } = site.get_or_insert_with(|| Site {
            runtime: Runtime::new().expect("threads can be made"),
            api: with_rows_on_disk(),
        });
        let body = vec![Ok(Bytes::copy_from_slice(body))];
        runtime.block_on(api.ask_in_parts(method, target, headers, body))
    })
}

/// An answer of the form that its head says.
fn check(response: &Response<Bytes>) {
    let (status, body) = (response.status().as_u16(), response.body());
    let shown = || String::from_utf8_lossy(body);
    assert!((200..500).contains(&status), "{status}: {}", shown());
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or("", |value| value.to_str().expect("ASCII"));
    match content_type.split(';').next().unwrap_or_default() {
        "application/json" => {
            let document = serde_json::from_slice::<serde::de::IgnoredAny>(body);
            assert!(body.is_empty() || document.is_ok(), "{status}: {}", shown());
        }
        "application/xml" | "text/xml" => super::xml::fuzz::is_well_formed(body),
        _ => assert!(std::str::from_utf8(body).is_ok()),
    }
}

/// Which path, how it is accepted, then the query.
pub(crate) fn query(bytes: &[u8]) {
    let [path, accepted, query @ ..] = bytes else { return };
    if query.len() > INPUT_SIZE_MAX {
        return;
    }
    let path = QUERIES[usize::from(*path) % QUERIES.len()];
    let accepted = ACCEPTED[usize::from(*accepted) % ACCEPTED.len()];
    let query = String::from_utf8_lossy(query);

    check(&ask("GET", &format!("{path}?{query}"), &[("accept", accepted)], b""));
}

/// Which file, then what stands in it: those that say who may call, what they may, and that it is
/// us who answer.
pub(crate) fn access_file(bytes: &[u8]) {
    let Some((choice, content)) = bytes.split_first() else { return };
    match choice % 5 {
        0 => super::policy::fuzz::file(content),
        1 => crate::config::fuzz::tokens(content),
        2 => htpasswd(content),
        3 => super::tls::fuzz::pair(content),
        _ => super::tls::fuzz::certificate(content),
    }
}

/// Which method and path, then the body.
pub(crate) fn json_body(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    if body.len() > INPUT_SIZE_MAX {
        return;
    }
    let (method, path) = BODIES[usize::from(*choice) % BODIES.len()];
    let headers = [("accept", "application/json"), ("content-type", "application/json")];

    let response = ask(method, path, &headers, body);

    check(&response);
    let is_json = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
    assert!(is_json || body.is_empty() || !response.status().is_success());
}

/// Which method and path, then the body.
pub(crate) fn xml_body(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    if body.len() > INPUT_SIZE_MAX {
        return;
    }
    xml_document(body);
    let (method, path) = BODIES[usize::from(*choice) % BODIES_OF_XML];
    let headers = [("accept", "application/xml"), ("content-type", "text/xml")];

    check(&ask(method, path, &headers, body));
}
