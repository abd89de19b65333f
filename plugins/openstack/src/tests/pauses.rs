//! Servers that say when they may be asked again, and lists that never end.

use std::collections::BTreeMap;

use rated_plugin::testing::{FakeHost, TestFetcher};
use rated_plugin::{HttpResponse, Result, Status};
use serde_json::json;

use super::faults::{KEYSTONE, ok};
use super::rows::BASIC;
use crate::{GnocchiScopes, KeystoneProjects};

#[expect(clippy::unnecessary_wraps, reason = "a host's answer may also be an error")]
fn busy(status: u16, after: &str) -> Result<HttpResponse> {
    let headers = BTreeMap::from([("retry-after".to_owned(), after.to_owned())]);
    Ok(HttpResponse { status, headers, body: b"busy".to_vec() })
}

/// One scope of one page, then the end.
fn scope(name: &str) -> [Result<HttpResponse>; 2] {
    [ok(json!([{"project_id": name}]).to_string()), ok("[]")]
}

#[test]
fn gnocchi_is_left_alone_until_the_time_that_it_has_named() {
    for after in ["600", "Thu, 01 Jan 2026 00:10:00 GMT"] {
        let host = FakeHost::new();
        host.answer(busy(503, after));
        let fetcher = TestFetcher::new::<GnocchiScopes>(&host, BASIC).unwrap();

        let error = fetcher.scopes().unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
        assert!(error.message.ends_with("HTTP status 503: busy"), "{error}");
        host.advance(chrono::TimeDelta::seconds(589));
        let error = fetcher.scopes().unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
        assert!(
            error.message.ends_with("asked to be left alone until 2026-01-01T00:10:00Z"),
            "{error}"
        );
        assert_eq!(host.requests().len(), 1);

        host.advance(chrono::TimeDelta::seconds(11));
        for page in scope("a") {
            host.answer(page);
        }
        assert_eq!(fetcher.scopes().unwrap(), ["a"]);
    }
}

#[test]
fn gnocchi_is_asked_again_within_the_call_when_it_names_a_short_time() {
    let host = FakeHost::new();
    host.answer(busy(429, "Thu, 01 Jan 2026 00:00:00 GMT"));
    host.answer(busy(503, "1"));
    for page in scope("a") {
        host.answer(page);
    }
    let fetcher = TestFetcher::new::<GnocchiScopes>(&host, BASIC).unwrap();
    let begin = std::time::Instant::now();

    assert_eq!(fetcher.scopes().unwrap(), ["a"]);

    assert!(begin.elapsed() >= std::time::Duration::from_secs(1));
    assert_eq!(host.requests().len(), 4);
}

#[test]
fn keystone_is_left_alone_until_the_time_that_it_has_named() {
    let host = FakeHost::new();
    host.answer(busy(429, "600"));
    let fetcher = TestFetcher::new::<KeystoneProjects>(&host, KEYSTONE).unwrap();

    assert_eq!(fetcher.scopes().unwrap_err().status, Status::Unavailable);
    let error = fetcher.scopes().unwrap_err();

    assert!(error.message.ends_with("left alone until 2026-01-01T00:10:00Z"), "{error}");
    assert_eq!(host.requests().len(), 1);
}

#[test]
fn pages_of_scopes_that_lead_in_a_circle_end() {
    let host = FakeHost::new();
    let mut count = 0;
    host.answer_with(move |_| {
        count += 1;
        ok(json!([{"project_id": (count % 2).to_string()}]).to_string())
    });

    let error = TestFetcher::new::<GnocchiScopes>(&host, BASIC).unwrap().scopes().unwrap_err();

    assert_eq!(error.status, Status::BadData);
    assert!(error.message.ends_with("must have at most 10000 pages"), "{error}");
    assert_eq!(host.requests().len(), 10_000);
}
