//! What goes wrong between Gnocchi, Keystone and us.

use std::collections::BTreeMap;

use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{CollectRequest, Error, HttpResponse, Result, Status};
use serde_json::{Value, json};

use super::recording::answer;
use super::rows::{BASIC, collect, request, rows};
use crate::{GnocchiCollector, GnocchiScopes, KeystoneProjects};

fn plain() -> CollectRequest {
    request(&json!({}), [&["id"], &[]], &["a", "b"])
}

#[expect(clippy::unnecessary_wraps, reason = "a host's answer may also be an error")]
pub(super) fn ok(body: impl Into<Vec<u8>>) -> Result<HttpResponse> {
    Ok(HttpResponse { status: 200, headers: BTreeMap::new(), body: body.into() })
}

/// A group with these values as they stand in JSON.
fn group(scope: &str, id: &str, values: &[&str]) -> String {
    let measures: Vec<String> = values
        .iter()
        .map(|value| format!("[\"2026-01-01T00:00:00+00:00\", 3600.0, {value}]"))
        .collect();
    format!(
        "{{\"group\": {{\"project_id\": {scope}, \"id\": \"{id}\"}}, \
         \"measures\": {{\"measures\": {{\"aggregated\": [{}]}}}}}}",
        measures.join(", ")
    )
}

fn refused(body: &str) -> Error {
    let host = FakeHost::new();
    host.answer(ok(body));
    collect(&host, &plain()).unwrap_err()
}

#[test]
fn an_answer_cut_short_anywhere_is_never_usage() {
    let whole = answer("gnocchi/rate-stored").body;
    let request = request(&json!({}), [&["id"], &[]], &["alpha"]);

    for length in 0..whole.len() {
        let host = FakeHost::new();
        host.answer(ok(&whole[..length]));
        let error = collect(&host, &request).unwrap_err();
        assert_eq!(error.status, Status::Unavailable, "{length} bytes");
    }
}

#[test]
fn what_is_no_answer_of_gnocchi_is_asked_for_again() {
    for body in ["<html>Please log in</html>", "{}", "null", "[1]", "[{\"group\": {}}]", "[] []"] {
        let error = refused(body);
        assert!(error.retryable && !error.split, "{body}: {error}");
    }
    for status in [204, 302, 400, 404, 500, 502, 503, 429] {
        let host = FakeHost::new();
        host.answer_with(move |_| {
            let body = b"<html>Metric x does not exist</html>".to_vec();
            Ok(HttpResponse { status, headers: BTreeMap::new(), body })
        });
        let error = collect(&host, &plain()).unwrap_err();
        assert!(error.retryable, "{status}: {error}");
    }
}

#[test]
fn doubtful_groups_fail_the_whole_answer() {
    let bad = |groups: &[String], part: &str| {
        let error = refused(&format!("[{}]", groups.join(", ")));
        assert_eq!(error.status, Status::BadData, "{error}");
        assert!(error.message.starts_with("metric `cpu`: `http://gnocchi.test`: group `{"));
        assert!(error.message.contains(part), "{error}");
    };
    let good = group("\"a\"", "1", &["1"]);

    bad(&[good.clone(), good.clone()], "came twice");
    bad(&[good.clone(), group("\"c\"", "1", &["1"])], "a scope that was not asked for");
    bad(&[group("null", "1", &["1"])], "a scope that was not asked for");
    bad(&[group("\"\"", "1", &["1"])], "a scope that was not asked for");
    bad(&[good.clone(), group("\"b\"", "1", &["null"])], "`null` is not a number");
    bad(&[group("\"a\"", "1", &["1", "null"])], "`null` is not a number");
    bad(&[group("\"a\"", "1", &["\"NaN\""])], "`\"NaN\"` is not a number");
    bad(&[group("\"a\"", "1", &["true"])], "`true` is not a number");
    bad(&[group("\"a\"", "1", &["1e300"])], "more digits than a quantity can have");
    bad(&[good.replace("\"id\"", "\"ID\"")], "no `id`");
    bad(&[good.replace("\"1\"", "{\"x\": 1}")], "`id` is not one value");
    bad(&[good.replace("aggregated", "of the resource")], "no aggregate (hint: `custom_query`");
}

#[test]
fn a_resource_without_its_key_has_no_metadata() {
    let body = group("\"a\"", "1", &["1"]).replace("\"1\"", "null");
    let answered = |metadata: &[&str]| {
        let host = FakeHost::new();
        host.answer(ok(format!("[{body}]")));
        collect(&host, &request(&json!({}), [&["id"], metadata], &["a"]))
    };

    let error = answered(&["flavor"]).unwrap_err();

    assert_eq!(error.status, Status::BadData);
    assert!(error.message.contains("no resource has `id` = null"), "{error}");
    assert_eq!(rows(&answered(&[]).unwrap()), ["a [None] = 1"]);
}

#[test]
fn a_group_without_values_is_no_data() {
    let host = FakeHost::new();
    let groups = [group("\"a\"", "1", &[]), group("\"b\"", "2", &["0.0"])];
    host.answer(ok(format!("[{}]", groups.join(", "))));

    assert_eq!(rows(&collect(&host, &plain()).unwrap()), ["b [2] = 0"]);
}

#[test]
fn too_many_groups_are_split() {
    let answered = |count: usize| {
        let groups: Vec<String> =
            (0..count).map(|number| group("\"a\"", &number.to_string(), &["1"])).collect();
        let host = FakeHost::new();
        host.answer(ok(format!("[{}]", groups.join(", "))));
        collect(&host, &plain())
    };

    assert_eq!(answered(1000).unwrap().num_rows(), 1000);
    let error = answered(1001).unwrap_err();
    assert!(error.split && error.message.ends_with("at most 1000 groups at once"), "{error}");
}

#[test]
fn an_answer_that_is_too_long_may_be_split() {
    let host = FakeHost::new();
    host.answer(Err(Error::bad_data("the answer is longer than 67108864 bytes")));

    assert!(collect(&host, &plain()).unwrap_err().split);
    assert_eq!(host.requests()[0].options.body_size_max, Some(64 << 20));
}

#[test]
fn a_source_that_stumbles_is_asked_again() {
    let busy = |status: u16, after: Option<&str>| {
        let headers = after.map(|after| ("retry-after".to_owned(), after.to_owned()));
        Ok(HttpResponse { status, headers: headers.into_iter().collect(), body: Vec::new() })
    };
    let stumbles: [Vec<Result<HttpResponse>>; 4] = [
        vec![busy(503, None), busy(429, Some("0"))],
        vec![busy(502, Some("Wed, 21 Oct 2026 07:28:00 GMT")), busy(500, None)],
        vec![Err(Error::unavailable("connection refused"))],
        vec![],
    ];
    for stumbles in stumbles {
        let host = FakeHost::new();
        let count = stumbles.len();
        for stumble in stumbles {
            host.answer(stumble);
        }
        host.answer(ok(format!("[{}]", group("\"a\"", "1", &["1"]))));

        assert_eq!(rows(&collect(&host, &plain()).unwrap()), ["a [1] = 1"]);
        assert_eq!(host.requests().len(), count + 1);
    }
}

#[test]
fn patience_has_an_end() {
    let asked = |status: u16, after: &str| {
        let host = FakeHost::new();
        let headers = BTreeMap::from([("retry-after".to_owned(), after.to_owned())]);
        host.answer_with(move |_| {
            Ok(HttpResponse { status, headers: headers.clone(), body: b"busy".to_vec() })
        });
        let error = collect(&host, &plain()).unwrap_err();
        assert_eq!(error.status, Status::Unavailable);
        assert!(error.message.ends_with(&format!("HTTP status {status}: busy")), "{error}");
        host.requests().len()
    };
    assert_eq!(asked(503, "0"), 3);
    assert_eq!(asked(429, "x"), 3);
    // The call is over in 60 s: whoever asks for more time is not waited for.
    assert_eq!(asked(503, "60"), 1);
    // A server that does not say when (or not with these) is asked as soon as any other.
    assert_eq!(asked(500, "60"), 3);
}

#[test]
fn a_cancelled_call_sends_nothing_and_does_not_wait() {
    let host = FakeHost::new();
    host.cancel();
    assert_eq!(collect(&host, &plain()).unwrap_err().status, Status::Cancelled);
    assert_eq!(host.requests().len(), 0);

    let host = FakeHost::new();
    host.answer_with({
        let host = host.clone();
        move |_| {
            host.cancel();
            let headers = BTreeMap::from([("retry-after".to_owned(), "30".to_owned())]);
            Ok(HttpResponse { status: 503, headers, body: Vec::new() })
        }
    });
    assert_eq!(collect(&host, &plain()).unwrap_err().status, Status::Cancelled);
    assert_eq!(host.requests().len(), 1);
}

#[test]
fn a_question_that_takes_too_long_is_split_if_gnocchi_is_there() {
    let late = || Err(Error::new(Status::Timeout, "no answer within 50s"));
    let host = FakeHost::new();
    host.answer(late());
    host.answer(Ok(answer("gnocchi/check")));
    let error = collect(&host, &plain()).unwrap_err();
    assert!(error.split, "{error}");
    assert!(error.message.ends_with("takes too long for 2 scopes at once"), "{error}");
    // A sixth of the call's minute is left for the second question.
    let timeouts: Vec<_> =
        host.requests().iter().map(|request| request.options.timeout_ms).collect();
    assert_eq!(timeouts, [Some(50_000), Some(5_000)]);

    let host = FakeHost::new();
    host.answer(late());
    host.answer(late());
    let error = collect(&host, &plain()).unwrap_err();
    assert_eq!((error.status, error.split), (Status::Timeout, false));

    // The whole minute is over: nothing more is asked.
    let host = FakeHost::new();
    host.answer_with({
        let host = host.clone();
        move |_| {
            host.advance(chrono::TimeDelta::seconds(56));
            Err(Error::new(Status::Timeout, "no answer within 56s"))
        }
    });
    let error = collect(&host, &plain()).unwrap_err();
    assert_eq!((error.status, error.split, host.requests().len()), (Status::Timeout, false, 1));

    let host = FakeHost::new();
    host.answer(late());
    let one = request(&json!({}), [&["id"], &[]], &["a"]);
    let error = collect(&host, &one).unwrap_err();
    assert_eq!((error.status, error.split, host.requests().len()), (Status::Timeout, false, 1));
}

/// A list of 300 pages of resources, and what Gnocchi measured of them.
fn resources_in_pages(host: &FakeHost, last_page: usize) {
    host.answer_with(move |request| {
        if request.url.contains("/v1/aggregates") {
            let groups: Vec<String> =
                (0..300).map(|number| group("\"a\"", &number.to_string(), &["1"])).collect();
            return ok(format!("[{}]", groups.join(", ")));
        }
        let page: usize = match request.url.split_once("&marker=") {
            Some((_, marker)) => marker.parse::<usize>().unwrap() + 1,
            None => 0,
        };
        let body = json!([{"id": page.to_string(), "flavor": format!("f{page}")}]);
        let mut headers = BTreeMap::new();
        if page < last_page {
            let link = format!("<http://inside/v1/search?limit=1&marker={page}>; rel=\"next\"");
            headers.insert("link".to_owned(), link);
        }
        Ok(HttpResponse { status: 200, headers, body: body.to_string().into_bytes() })
    });
}

#[test]
fn a_list_of_300_pages_is_read_to_its_end() {
    let host = FakeHost::new();
    resources_in_pages(&host, 299);
    let request = request(&json!({}), [&["id"], &["flavor"]], &["a"]);

    let rows = rows(&collect(&host, &request).unwrap());

    assert_eq!((rows.len(), host.requests().len()), (300, 301));
    assert!(rows.contains(&"a [299 f299] = 1".to_owned()));
    let pages = host.requests();
    assert!(pages[300].url.starts_with("http://gnocchi.test/v1/search/resource/instance?limit="));
    assert!(pages[300].url.ends_with("&marker=298"));
}

#[test]
fn a_call_may_be_cancelled_between_two_pages() {
    let host = FakeHost::new();
    resources_in_pages(&host, 299);
    host.cancel_after(20);
    let request = request(&json!({}), [&["id"], &["flavor"]], &["a"]);

    assert_eq!(collect(&host, &request).unwrap_err().status, Status::Cancelled);
    assert!(host.requests().len() < 25, "{}", host.requests().len());
}

#[test]
fn measures_without_their_resource_are_collected_again() {
    let host = FakeHost::new();
    // The last page is missing.
    resources_in_pages(&host, 298);
    let request = request(&json!({}), [&["id"], &["flavor"]], &["a"]);

    let error = collect(&host, &request).unwrap_err();

    assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
    assert!(
        error.message.contains("measures of the resource with `id` = `299`, but no such resource"),
        "{error}"
    );
    assert!(host.requests().last().unwrap().url.contains("history=true"));
}

#[test]
fn pages_that_lead_nowhere_end() {
    let host = FakeHost::new();
    host.answer(ok(format!("[{}]", group("\"a\"", "1", &["1"]))));
    host.answer_with(|_| {
        let headers =
            BTreeMap::from([("link".to_owned(), "<http://x?marker=1>; rel=\"next\"".to_owned())]);
        let body = br#"[{"id": "1", "flavor": "x"}]"#.to_vec();
        Ok(HttpResponse { status: 200, headers, body })
    });
    let request = request(&json!({}), [&["id"], &["flavor"]], &["a"]);

    let error = collect(&host, &request).unwrap_err();

    assert!(error.message.ends_with("a page of resources leads nowhere"), "{error}");
}

#[test]
fn resources_that_make_no_sense_fail_the_slice() {
    let refused = |resource: Value| {
        let host = FakeHost::new();
        host.answer(ok(format!("[{}]", group("\"a\"", "1", &["1"]))));
        host.answer(ok(json!([resource]).to_string()));
        let request = request(&json!({}), [&["id"], &["flavor"]], &["a"]);
        let error = collect(&host, &request).unwrap_err();
        assert_eq!(error.status, Status::BadData);
        error.message
    };

    let message = refused(json!({"id": "1", "flavor": {"name": "x"}}));
    assert!(message.contains("resource `1`: `flavor` is not one value"), "{message}");
    let message = refused(json!({"id": "1", "ended_at": "yesterday"}));
    assert!(message.contains("`ended_at`: `yesterday` is not a time"), "{message}");
    assert!(refused(json!({"flavor": "x"})).contains("resource `?`: no `id`"));
}

#[test]
fn scopes_are_never_made_up() {
    let fetcher = |host: &FakeHost| TestFetcher::new::<GnocchiScopes>(host, BASIC).unwrap();
    let page = |scopes: &[&str]| {
        let resources = scopes.iter().map(|scope| json!({"project_id": scope}));
        ok(Value::Array(resources.collect()).to_string())
    };
    let host = FakeHost::new();
    host.answer(page(&["a", "b"]));
    host.answer(page(&["b", "c"]));
    host.answer(page(&[]));
    assert_eq!(fetcher(&host).scopes().unwrap(), ["a", "b", "c"]);
    let bodies: Vec<Value> = host.requests()[1..]
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    assert_eq!(bodies[1]["and"][1], json!({">": {"project_id": "c"}}));

    let host = FakeHost::new();
    host.answer(page(&["a"]));
    host.answer(ok("[{\"project_id\": \"b\"}"));
    assert_eq!(fetcher(&host).scopes().unwrap_err().status, Status::Unavailable);
    let host = FakeHost::new();
    host.answer_with(move |_| page(&["a"]));
    let error = fetcher(&host).scopes().unwrap_err();
    assert!(error.message.ends_with("a page leads nowhere"), "{error}");
    let host = FakeHost::new();
    host.answer(ok(json!([{"project_id": null}]).to_string()));
    assert_eq!(fetcher(&host).scopes().unwrap_err().status, Status::BadData);
}

#[test]
fn too_many_scopes_are_refused() {
    let host = FakeHost::new();
    let mut first = 0;
    host.answer_with(move |_| {
        let page: Vec<Value> =
            (first..first + 300).map(|number| json!({"project_id": number.to_string()})).collect();
        first += 300;
        ok(Value::Array(page).to_string())
    });

    let error = TestFetcher::new::<GnocchiScopes>(&host, BASIC).unwrap().scopes().unwrap_err();

    assert!(error.message.ends_with("must have at most 1000 scopes"), "{error}");
}

pub(super) const KEYSTONE: &str = "auth_url = \"http://keystone.test\"\nusername = \"rated\"\n\
     password = \"change me\"\nproject_name = \"service\"\nignore_rating_role = true\n\
     retry_delay_ms = 1";

fn projects(pages: Vec<Value>) -> (FakeHost, Result<Vec<String>>) {
    let host = FakeHost::new();
    host.answer(Ok(answer("keystone/token")));
    for page in pages {
        host.answer(ok(page.to_string()));
    }
    let fetcher = TestFetcher::new::<KeystoneProjects>(&host, KEYSTONE).unwrap();
    let scopes = fetcher.scopes();
    (host, scopes)
}

#[test]
fn pages_of_projects_are_read_to_their_end() {
    let project = |id: &str| json!([{"id": id, "enabled": true}]);
    let (host, scopes) = projects(vec![
        json!({"projects": project("a"), "links": {"next": "https://inside/v3/projects?marker=a"}}),
        json!({"projects": project("b"), "links": {"next": null}}),
    ]);

    assert_eq!(scopes.unwrap(), ["a", "b"]);
    assert_eq!(host.requests()[2].url, "http://keystone.test/v3/projects?marker=a");
}

#[test]
fn a_list_of_projects_that_is_cut_short_is_an_error() {
    let project = json!([{"id": "a", "enabled": true}]);

    let (_, scopes) = projects(vec![json!({"projects": project, "truncated": true})]);
    let error = scopes.unwrap_err();
    assert!(error.message.contains("Keystone cuts its list short"), "{error}");
    let (_, scopes) = projects(vec![json!({"projects": project, "links": {"next": "elsewhere"}})]);
    assert!(scopes.unwrap_err().message.contains("leads nowhere"));
    let (_, scopes) = projects(vec![json!({"links": {}})]);
    assert!(scopes.is_err());
    let (_, scopes) = projects(vec![json!([])]);
    assert!(scopes.is_err());
}

#[test]
fn a_wrong_metric_sends_nothing() {
    let host = FakeHost::new();
    let collector = TestCollector::new::<GnocchiCollector>(&host, BASIC).unwrap();
    let mut request = plain();
    request.metric.extra_args.clear();

    let error = collector.collect(&request).unwrap_err();

    assert_eq!(error.message, "metric `cpu`: `extra_args`: `resource_type`: is missing");
    assert_eq!(host.requests().len(), 0);
}
