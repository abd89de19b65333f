//! Servers that say when they may be asked again.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{HttpResponse, Result, Status};

use crate::fuzz::request;
use crate::{PrometheusCollector, PrometheusScopes};

const CONFIG: &str = "url = \"http://127.0.0.1:9090\"";
const NOTHING: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

#[expect(clippy::unnecessary_wraps, reason = "a host's answer may also be an error")]
fn busy(status: u16, after: &str) -> Result<HttpResponse> {
    let headers = BTreeMap::from([("retry-after".to_owned(), after.to_owned())]);
    Ok(HttpResponse { status, headers, body: b"busy".to_vec() })
}

fn collector(host: &FakeHost) -> TestCollector {
    TestCollector::new::<PrometheusCollector>(host, CONFIG).unwrap()
}

#[test]
fn a_server_is_left_alone_until_the_time_that_it_has_named() {
    for (status, after) in [(429, "600"), (503, "Thu, 01 Jan 2026 00:10:00 GMT")] {
        let host = FakeHost::new();
        host.answer(busy(status, after));
        let collector = collector(&host);

        let error = collector.collect(&request(&["a"], 9)).unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
        assert!(error.message.ends_with(&format!("HTTP status {status}: busy")), "{error}");
        // Whatever else it is asked for.
        host.advance(TimeDelta::seconds(589));
        let error = collector.collect(&request(&["bb"], 9)).unwrap_err();
        assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
        assert!(
            error.message.ends_with("asked to be left alone until 2026-01-01T00:10:00Z"),
            "{error}"
        );
        assert_eq!(host.requests().len(), 1);

        host.advance(TimeDelta::seconds(11));
        host.answer_body(200, NOTHING);
        assert_eq!(collector.collect(&request(&["a"], 9)).unwrap()[0].num_rows(), 0);
    }
}

#[test]
fn a_server_is_asked_again_within_the_call_when_it_names_a_short_time() {
    let host = FakeHost::new();
    host.answer(busy(429, "Wed, 31 Dec 2025 23:00:00 GMT"));
    host.answer(busy(503, "1"));
    host.answer_body(200, NOTHING);
    let begin = std::time::Instant::now();

    assert_eq!(collector(&host).collect(&request(&["a"], 9)).unwrap()[0].num_rows(), 0);

    assert!(begin.elapsed() >= std::time::Duration::from_secs(1));
}

#[test]
fn a_server_that_always_asks_for_a_moment_is_asked_three_times() {
    let host = FakeHost::new();
    host.answer_with(|_| busy(429, "0"));
    let fetcher = format!("{CONFIG}\nmetric = \"m\"\nscope_attribute = \"p\"\n");
    let fetcher = TestFetcher::new::<PrometheusScopes>(&host, &fetcher).unwrap();

    assert_eq!(fetcher.scopes().unwrap_err().status, Status::Unavailable);

    assert_eq!(host.requests().len(), 3);
}

#[test]
fn a_failure_without_a_time_is_left_to_the_daemon() {
    for (status, after) in [(429, "soon"), (500, "600"), (502, "1")] {
        let host = FakeHost::new();
        host.answer(busy(status, after));
        host.answer_body(200, NOTHING);
        let collector = collector(&host);

        assert!(collector.collect(&request(&["a"], 9)).is_err());
        assert!(collector.collect(&request(&["a"], 9)).is_ok());
    }
}
