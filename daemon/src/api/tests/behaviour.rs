//! What the recorded examples do not show.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::setup::{Api, broken, empty, text, with_many_rows, with_rows, with_scopes};
use crate::api::serve::Load;

const JSON: (&str, &str) = ("content-type", "application/json");
const WANT_JSON: (&str, &str) = ("accept", "application/json");

async fn check(api: &Api, request: (&str, &str, &str), status: u16, body: &str) {
    let (method, target, content) = request;
    let headers: &[(&str, &str)] =
        if content.is_empty() { &[WANT_JSON] } else { &[WANT_JSON, JSON] };
    let response = api.ask(method, target, headers, content).await;
    let found = (response.status().as_u16(), text(&response));
    assert_eq!(found, (status, body.to_owned()), "{method} {target}");
}

fn fault(code: &str, text: &str) -> String {
    format!(r#"{{"faultcode":"{code}","faultstring":"{text}","debuginfo":null}}"#)
}

#[tokio::test]
async fn a_broken_store_is_said_and_never_a_zero() {
    let api = broken();
    let text = "the store cannot be read or written at the moment";
    for path in [
        "report/total",
        "report/summary",
        "report/tenants",
        "storage/dataframes",
        "rating/modules",
        "collector/mappings",
        "collector/x/states",
    ] {
        check(&api, ("GET", &format!("/v1/{path}"), ""), 503, &fault("Server", text)).await;
    }
    for path in ["summary", "scope", "rating/modules"] {
        let body = format!(r#"{{"message":"{text}"}}"#);
        check(&api, ("GET", &format!("/v2/{path}"), ""), 503, &body).await;
    }
    let response = api.ask("GET", "/v2/summary", &[], "").await;
    assert_eq!(response.headers()["retry-after"], "5");
    assert_eq!(api.get("/healthz").await, (200, "ok\n".to_owned()));
    let (status, ready) = api.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(ready.contains(r#""ready":false"#), "{ready}");
}

#[tokio::test]
async fn a_full_daemon_says_so_and_is_alive() {
    let mut api = empty();
    api.load = Load::Full;

    let busy = "the daemon is busy, please try again";
    check(&api, ("GET", "/v1/report/total", ""), 503, &fault("Server", busy)).await;
    check(&api, ("GET", "/healthz", ""), 200, "ok\n").await;
}

#[tokio::test]
async fn readiness_tells_troubles_and_metrics_count_requests() {
    let api = with_scopes();

    let (status, ready) = api.get("/readyz").await;
    assert_eq!(status, 200);
    assert!(ready.contains("collector `prometheus` fails"), "{ready}");

    api.get("/v2/scope?scope_id=aaaa").await;
    let (_, metrics) = api.get("/metrics").await;
    let counted = r#"rated_http_requests_total{route="/v2/scope",status="200"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert!(!metrics.contains("aaaa"), "{metrics}");
}

#[tokio::test]
async fn modules_get_what_was_sent_and_their_answers_are_checked() {
    let api = empty();
    let echo = r#"{"query":"a=1%202","body":"{\"x\": 1}","user":"unknown"}"#;

    let target = "/v1/rating/module_config/hashmap/echo/?a=1%202";
    check(&api, ("POST", target, r#"{"x": 1}"#), 201, echo).await;
    let response = api.ask("POST", target, &[WANT_JSON, JSON], "{}").await;
    let location = "http://HOST/v1/rating/module_config/hashmap/echo/1";
    assert_eq!(response.headers()["location"], location);

    let moved = api.ask("PUT", "/v1/rating/module_config/hashmap/moved/?x=1", &[], "").await;
    assert_eq!(moved.status(), 302);
    let own = "http://HOST/v1/rating/module_config/hashmap/moved/";
    assert_eq!(moved.headers()["location"], own);

    let fail = "/v1/rating/module_config/hashmap/fail";
    let conflict = fault("Client", "there is one already");
    check(&api, ("POST", fail, "conflict"), 409, &conflict).await;
    let failed = "the module failed; the daemon's log says why";
    check(&api, ("POST", fail, "other"), 500, &fault("Server", failed)).await;
    let ours = "the daemon failed to answer; its log says why";
    check(&api, ("POST", fail, "status"), 500, &fault("Server", ours)).await;
    check(&api, ("POST", fail, "json"), 500, &fault("Server", ours)).await;
    check(
        &api,
        ("POST", "/v1/rating/module_config/hashmap/panic", "x"),
        500,
        &fault("Server", ours),
    )
    .await;
}

#[tokio::test]
async fn paths_that_no_module_serves_never_reach_one() {
    let api = empty();
    let no_method = r#"{"code":405,"title":"Method Not Allowed","description":""}"#;
    let not_found = r#"{"code":404,"title":"Not Found","description":""}"#;

    let below = "/v1/rating/module_config/hashmap";
    check(&api, ("POST", &format!("{below}/types"), "{}"), 405, no_method).await;
    check(&api, ("GET", &format!("{below}/mappings/1/2"), ""), 404, not_found).await;
    check(&api, ("GET", &format!("{below}/a%2Ftypes"), ""), 404, not_found).await;
    check(&api, ("GET", &format!("{below}%2Ftypes"), ""), 405, no_method).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let api = empty();
    let target = "/v1/rating/module_config/hashmap/echo";
    let large = "x".repeat(8 * 1024 * 1024 + 1);
    let refusal = fault("Client", "the body must be at most 8388608 bytes long");

    check(&api, ("POST", target, &large), 413, &refusal).await;
    let announced = [WANT_JSON, ("content-length", "8388609")];
    let response = api.ask("POST", target, &announced, "").await;
    assert_eq!(response.status(), 413);
    let response = api.ask("POST", target, &[WANT_JSON, JSON], &large[1..]).await;
    assert_eq!(response.status(), 201);
}

#[tokio::test]
async fn a_failed_reload_says_why() {
    let api = empty();
    check(&api, ("GET", "/v1/rating/reload_modules", ""), 204, "").await;

    api.fake.reload_fails.store(true, Ordering::SeqCst);

    let reason =
        "the plugins stay as they are: plugin `acme.so`: needs interface 2.0, this daemon has 1.0";
    check(&api, ("GET", "/v1/rating/reload_modules", ""), 409, &fault("Client", reason)).await;
}

#[tokio::test]
async fn a_loaded_collector_is_enabled_until_somebody_says_otherwise() {
    let api = empty();
    let target = "/v1/collector/prometheus/states";
    check(&api, ("GET", target, ""), 200, r#"{"name":"prometheus","enabled":true}"#).await;

    check(
        &api,
        ("PUT", target, r#"{"enabled": "off"}"#),
        200,
        r#"{"name":"prometheus","enabled":false}"#,
    )
    .await;

    check(&api, ("GET", target, ""), 200, r#"{"name":"prometheus","enabled":false}"#).await;
}

#[tokio::test]
async fn odd_input_is_refused_with_a_reason() {
    let api = with_rows();
    for (method, target, body, part) in [
        ("GET", "/v2/summary?begin=soon", "", "expected an ISO 8601 date (path: '['begin']')"),
        ("GET", "/v2/summary?response_format=csv", "", "expected table or object"),
        ("GET", "/v2/summary?limit=99999999999999999999", "", "expected int"),
        ("GET", "/v2/summary?begin=99999-01-01", "", "expected an ISO 8601 date"),
        ("GET", "/v2/summary?x%27y=%22", "", "{\\\"x'y\\\": ['\\\"']}"),
        ("PUT", "/v2/rating/modules/hashmap", "[1]", "expected a dictionary"),
        ("PUT", "/v2/rating/modules/hashmap", "{", "could not understand"),
        ("PUT", "/v2/rating/modules/hashmap", r#"{"priority": 1.5}"#, "expected int"),
        ("PUT", "/v1/rating/modules/hashmap", "[]", "Request body must be a JSON object"),
        ("PUT", "/v1/rating/modules/hashmap", "\u{0}", "Request is not in valid JSON format"),
        (
            "PUT",
            "/v1/rating/modules/hashmap",
            r#"{"module_id": 4}"#,
            "Wrong type. Expected '<class 'str'>'",
        ),
        (
            "POST",
            "/v1/rating/quote",
            r#"{"resources": {}}"#,
            "Wrong type. Expected '<class 'list'>'",
        ),
        (
            "POST",
            "/v1/rating/quote",
            r#"{"resources": [1]}"#,
            "Wrong type. Expected '<class 'dict'>'",
        ),
        (
            "POST",
            "/v1/rating/quote",
            r#"{"resources": [{"service": "a", "volume": 1.00000000000000000000000000001}]}"#,
            "must have at most 28 significant digits",
        ),
        ("GET", "/v1/report/total?begin=2015-02-30", "", "unable to convert to datetime"),
    ] {
        let headers: &[(&str, &str)] = if body.is_empty() { &[] } else { &[JSON] };
        let response = api.ask(method, target, headers, body).await;
        let answer = text(&response);
        assert_eq!(response.status(), 400, "{target}: {answer}");
        assert!(answer.contains(part), "{target}: {answer}");
    }
}

#[tokio::test]
async fn a_long_quotation_is_cut() {
    let api = empty();
    let body = format!(r#"{{"enabled": "{}"}}"#, "é".repeat(100_000));

    let response = api.ask("PUT", "/v1/collector/states/x", &[JSON], &body).await;

    assert_eq!(response.status(), 400);
    assert!(response.body().len() < 5000, "{}", response.body().len());
}

#[tokio::test]
async fn a_deeply_nested_body_is_refused() {
    let api = empty();
    let nested = format!(r#"{{"resources": {}"#, "[".repeat(100_000));

    let response = api.ask("POST", "/v1/rating/quote", &[JSON], &nested).await;

    assert_eq!(response.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_frames_are_sent_in_either_form() {
    let api = with_many_rows();
    let target = "/v1/storage/dataframes?begin=2015-01-04&end=2015-01-05";

    let (status, body) = api.get(target).await;
    let xml = api.ask("GET", target, &[("accept", "text/xml")], "").await;

    assert_eq!(status, 200);
    let shown: serde_json::Value = serde_json::from_str(&body).unwrap();
    let frames = shown["dataframes"].as_array().unwrap();
    let sizes: Vec<usize> =
        frames.iter().map(|frame| frame["resources"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [500; 6]);
    assert_eq!(frames[1]["begin"], frames[0]["begin"]);
    assert_ne!(frames[1]["tenant_id"], frames[0]["tenant_id"]);
    assert_eq!(frames[0]["resources"][1]["rating"], "0.003");
    assert_eq!(text(&xml).matches("<rating>").count(), 3000);
}

#[tokio::test]
async fn figures_keep_every_digit() {
    let api = with_rows();
    let target =
        "/v2/summary?begin=2015-01-01&end=2015-02-01&filters=id:vol-8f82&groupby=time-y,id";
    let row =
        r#"["2015-01-01T00:00:00+00:00","2015-02-01T00:00:00+00:00",40.0,0.1,"2015","vol-8f82"]"#;

    let (status, body) = api.get(target).await;

    assert_eq!(status, 200);
    assert!(body.contains(row), "{body}");
}

#[tokio::test]
async fn a_real_connection_is_served_until_the_stop() {
    let api = with_scopes();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(crate::api::serve(listener, api.context.clone(), async {
        let _ = stopped.await;
    }));
    let exchange = async |request: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    };

    let root = exchange("GET / HTTP/1.1\r\nHost: a.example:1\r\nConnection: close\r\n\r\n").await;
    let head = exchange("HEAD /v2/scope HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let cut = exchange("POST /v1/rating/quote HTTP/1.0\r\nContent-Length: 3\r\n\r\n{}x").await;
    stop.send(()).unwrap();
    server.await.unwrap();

    assert!(root.starts_with("HTTP/1.1 200 OK\r\n"), "{root}");
    assert!(root.contains("http://a.example:1/v1"), "{root}");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(cut.starts_with("HTTP/1.0 415 "), "{cut}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_refused() {
    let api = empty();
    let parts: Vec<Result<Bytes, &str>> = vec![Ok(Bytes::from_static(b"{")), Err("gone")];

    let response = api.ask_in_parts("POST", "/v1/rating/quote", &[JSON], parts).await;

    assert_eq!(response.status(), 400);
}
