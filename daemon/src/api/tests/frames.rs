//! What the recorded examples of pushing and showing frames leave open.

use std::io::Write as _;
use std::sync::mpsc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use warp::http::Response;

use super::setup::{Api, empty, empty_on_disk, text, with_rows_on_disk};
use crate::api::LONG_CALLS_MAX;
use crate::api::answer::AnswerBody;
use crate::api::failure::Failure;
use crate::api::outgoing::{self, Chunks};

const JSON: (&str, &str) = ("content-type", "application/json");
const RANGE: &str = "begin=2019-07-01&end=2019-08-01";
const JANUARY: &str = "begin=2015-01-01&end=2015-02-01";

/// A body with one point.
fn body(point: &str) -> String {
    let period = r#"{"begin": "2019-07-23T12:00:00Z", "end": "2019-07-23T13:00:00Z"}"#;
    format!(r#"{{"dataframes": [{{"period": {period}, "usage": {{"m": [{point}]}}}}]}}"#)
}

fn point(qty: &str, groupby: &str, metadata: &str) -> String {
    format!(
        r#"{{"vol": {{"unit": "GiB", "qty": {qty}}}, "rating": {{"price": 0.04}},
            "groupby": {groupby}, "metadata": {metadata}}}"#
    )
}

async fn push(api: &Api, body: &str) -> (u16, String) {
    let response = api.ask("POST", "/v2/dataframes", &[JSON], body).await;
    (response.status().as_u16(), text(&response))
}

/// The points of July 2019, one after the other.
async fn points(api: &Api) -> Vec<Value> {
    let (status, body) = api.get(&format!("/v2/dataframes?{RANGE}")).await;
    if status == 404 {
        return Vec::new();
    }
    let page: Value = serde_json::from_str(&body).unwrap();
    let frames = page["dataframes"].as_array().unwrap().iter();
    let types = frames.flat_map(|frame| frame["usage"].as_object().unwrap().values());
    types.flat_map(|points| points.as_array().unwrap().clone()).collect()
}

/// The body is refused with a text that ends so, and nothing is stored.
async fn refused(api: &Api, body: &str, end: &str) {
    let (status, answer) = push(api, body).await;
    let message: Value = serde_json::from_str(&answer).unwrap();
    let message = message["message"].as_str().unwrap();
    assert_eq!(status, 400, "{body}: {message}");
    assert!(message.ends_with(end), "{body}: {message}");
    assert_eq!(points(api).await, Vec::<Value>::new(), "{body}");
}

const UNREADABLE: &str = "could not understand.";
const NOT_VALID: &str = "not a valid value (path: '['dataframes', 0]')";

#[tokio::test]
async fn numbers_are_exact_or_refused() {
    let api = empty_on_disk();
    let digits = "1".repeat(29);
    for (number, end) in [
        (
            digits.as_str(),
            "must have at most 28 significant digits (path: '['dataframes', 0, 'usage', 'm', 0, \
             'vol', 'qty']')",
        ),
        (r#""0.00000000000000000000000000001""#, "'vol', 'qty']')"),
        ("1e400", "out of range (path: '['dataframes', 0, 'usage', 'm', 0, 'vol', 'qty']')"),
        ("1e99999999999999999999", NOT_VALID),
        (r#""NaN""#, NOT_VALID),
        (r#""Infinity""#, NOT_VALID),
        (r#""""#, NOT_VALID),
        ("true", NOT_VALID),
        ("null", NOT_VALID),
        ("[1]", NOT_VALID),
        ("NaN", UNREADABLE),
        ("01", UNREADABLE),
    ] {
        refused(&api, &body(&point(number, "{}", "{}")), end).await;
    }

    for number in ["0.1", "-12345678901234567890.12345678", "1.50", r#"" 1e3 ""#, "0E5"] {
        assert_eq!(push(&api, &body(&point(number, "{}", "{}"))).await.0, 204, "{number}");
    }

    let qtys: Vec<String> =
        points(&api).await.iter().map(|point| point["vol"]["qty"].to_string()).collect();
    assert_eq!(qtys, ["0.1", "-12345678901234567890.12345678", "1.5", "1000.0", "0.0"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_nothing_is_stored() {
    let api = empty_on_disk();
    let whole = body(&point("1", "{}", "{}"));
    let scope = |id: &str| body(&point("1", &json!({"project_id": id}).to_string(), "{}"));
    let at_scope = "(path: '['dataframes', 0, 'usage', 'm', 0, 'groupby', 'project_id']')";
    let attributes: Vec<String> = (0..300).map(|n| format!(r#""{n}": 1"#)).collect();
    let many = format!("{{{}}}", attributes.join(","));
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (body, end) in [
        (whole.replace("13:00", "12:00"), "(path: '['dataframes', 0, 'period']')"),
        (whole.replace("T13:00:00Z", "T12:00:00.9Z"), "(path: '['dataframes', 0, 'period']')"),
        (whole.replace("2019-07-23T13", "99999-07-23T13"), NOT_VALID),
        (whole.replace(r#""2019-07-23T13:00:00Z""#, "5"), NOT_VALID),
        (whole.replace(r#""m": "#, r#""": "#), "got 0 (path: '['dataframes', 0, 'usage']')"),
        (whole.replace(r#"{"m": ["#, r"[[").replace("]}}", "]]}"), NOT_VALID),
        (whole.replace(r#"[{"vol""#, r#"[5, {"vol""#), NOT_VALID),
        (whole.replace(r#""groupby": {}"#, r#""groupby": 5"#), NOT_VALID),
        (scope("a\u{7}"), &format!("control characters {at_scope}")),
        (scope(""), &format!("must not be empty {at_scope}")),
        (scope(&"x".repeat(257)), at_scope),
        (body(&point("1", "{}", &format!(r#"{{"a": {deep}}}"#))), UNREADABLE),
        (body(&point("1", &many, "{}")), "(path: '['dataframes', 0, 'usage', 'm', 0, 'groupby']')"),
        (body(&point("1", "{}", &format!(r#"{{"a": "{}"}}"#, "x".repeat(3000)))), "'a']')"),
        (body(&point("1", "{}", &format!(r#"{{"{}": 1}}"#, "x".repeat(300)))), "'metadata']')"),
        (format!("{whole} x"), UNREADABLE),
        (whole[..whole.len() - 1].to_owned(), UNREADABLE),
        ("\u{feff}{}".to_owned(), UNREADABLE),
    ] {
        refused(&api, &body, end).await;
    }
    let not_utf8 = vec![Ok(Bytes::from_static(b"{\"a\": \"\xff\"}"))];
    let response = api.ask_in_parts("POST", "/v2/dataframes", &[JSON], not_utf8).await;
    assert_eq!(response.status(), 400);
}

#[tokio::test]
async fn a_long_body_is_not_repeated_in_the_error() {
    let api = empty_on_disk();
    let filler = format!(r#"{{"a": "{}"}}"#, "x".repeat(2000));
    let good = point("1", "{}", &filler);
    let points = [vec![good.as_str(); 10], vec!["5"]].concat().join(",");

    let (status, answer) = push(&api, &body(&points)).await;

    assert_eq!(status, 400);
    let expected = format!("Invalid data '[...]' : {NOT_VALID}");
    assert_eq!(answer, json!({"message": expected}).to_string());
}

#[tokio::test]
async fn of_equal_names_the_last_one_counts() {
    let api = empty_on_disk();
    let early = point("1", r#"{"a": 1, "a": 2}"#, r#"{"a": 1, "a": "b", "c": null}"#);
    let late = point("2", r#"{"project_id": "p", "project_id": null, "x": 1.50}"#, "{}");
    let body = format!(
        r#"{{"dataframes": [], "dataframes": [{{
            "usage": {{"m": [{early}], "n": [{early}], "m": [{late}]}},
            "period": {{"begin": "2019-07-23T12:00:00Z", "end": "2019-07-23T13:00:00Z"}}
        }}]}}"#
    );

    assert_eq!(push(&api, &body).await, (204, String::new()));

    let found = points(&api).await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0]["vol"]["qty"].to_string(), "2.0");
    assert_eq!(found[0]["groupby"], json!({"x": "1.5"}));
    assert_eq!(found[1]["groupby"], json!({"a": "2"}));
    assert_eq!(found[1]["metadata"], json!({"a": "b", "c": null}));
}

#[tokio::test]
async fn values_of_several_types_keep_theirs() {
    let api = empty_on_disk();
    let metadata = ["\"2\"", "2", "false", "null", r#"{"b":[1.50]}"#, "\"x\\\"y\""];
    let points_in: Vec<String> = metadata
        .iter()
        .map(|value| point("1e27", "{}", &format!(r#"{{"a": {value}}}"#)))
        .chain([point("1e-28", "{}", "{}")])
        .collect();

    assert_eq!(push(&api, &body(&points_in.join(","))).await.0, 204);

    let found = points(&api).await;
    let mut kept: Vec<String> =
        found.iter().filter_map(|point| Some(point["metadata"].get("a")?.to_string())).collect();
    kept.sort();
    let mut expected = metadata;
    expected.sort_unstable();
    assert_eq!(kept, expected);
    assert_eq!(found.len(), 7);
}

#[tokio::test]
async fn a_repeated_push_is_stored_once() {
    let api = empty_on_disk();
    let (one, two) = (body(&point("1", "{}", "{}")), body(&point("2", "{}", "{}")));
    let push = async |key: &str, body: &str| {
        let headers = [JSON, ("idempotency-key", key)];
        let response = api.ask("POST", "/v2/dataframes", &headers, body).await;
        (response.status().as_u16(), text(&response))
    };

    assert_eq!(push("a", &one).await, (204, String::new()));
    assert_eq!(push("a", &one).await, (204, String::new()));
    let taken = r#"{"message":"the Idempotency-Key was used before, with another body"}"#;
    assert_eq!(push("a", &two).await, (409, taken.to_owned()));
    assert_eq!(push("a", &format!("{one} ")).await.0, 409);
    assert_eq!(points(&api).await.len(), 1);
    assert_eq!(push("b", &one).await.0, 204);
    assert_eq!(push(&"c".repeat(255), &two).await.0, 204);
    assert_eq!(points(&api).await.len(), 3);
    assert_eq!(push("", &one).await.0, 400);
    assert_eq!(push(&"c".repeat(256), &one).await.0, 400);
    assert_eq!(points(&api).await.len(), 3);
}

#[tokio::test]
async fn what_does_not_arrive_whole_is_not_stored() {
    let api = empty_on_disk();
    let whole = body(&point("1", "{}", "{}"));
    let (begin, end) = whole.split_at(whole.len() / 2);
    let part = |text: &str| Ok(Bytes::copy_from_slice(text.as_bytes()));

    let broken = vec![part(&whole), Err("gone")];
    let response = api.ask_in_parts("POST", "/v2/dataframes", &[JSON], broken).await;
    assert_eq!(response.status(), 400);
    assert_eq!(points(&api).await.len(), 0);

    let response =
        api.ask_in_parts("POST", "/v2/dataframes", &[JSON], vec![part(begin), part(end)]).await;
    assert_eq!(response.status(), 204);
    assert_eq!(points(&api).await.len(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    static SPACES: [u8; 1 << 20] = [b' '; 1 << 20];
    let api = empty_on_disk();
    let size_max = 64 << 20;
    let refusal = format!(r#"{{"message":"the body must be at most {size_max} bytes long"}}"#);

    let parts = vec![Ok(Bytes::from_static(&SPACES)); 65];
    let response = api.ask_in_parts("POST", "/v2/dataframes", &[JSON], parts).await;
    assert_eq!((response.status().as_u16(), text(&response)), (413, refusal.clone()));

    let announced = [JSON, ("content-length", "67108865")];
    let response = api.ask_in_parts("POST", "/v2/dataframes", &announced, Vec::new()).await;
    assert_eq!((response.status().as_u16(), text(&response)), (413, refusal));
}

// ---- the forms of answers -----------------------------------------------------------------------

async fn shown(api: &Api, target: &str, accept: &str) -> (Response<Bytes>, String) {
    let response = api.ask("GET", target, &[("accept", accept)], "").await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["vary"], "Accept");
    let content = text(&response);
    (response, content)
}

#[tokio::test]
async fn decimals_are_texts_for_those_who_ask() {
    let api = with_rows_on_disk();
    let accept = "application/json; decimal=string";

    let (summary, text) = shown(&api, &format!("/v2/summary?{JANUARY}"), accept).await;
    assert_eq!(summary.headers()["content-type"], accept);
    assert!(text.contains(r#""67.0","1.05""#) || text.contains(r#","1.05"]"#), "{text}");

    let (frames, text) = shown(&api, &format!("/v2/dataframes?limit=1&{JANUARY}"), accept).await;
    assert_eq!(frames.headers()["content-type"], accept);
    let point = r#"{"vol":{"unit":"instance","qty":"2.5"},"rating":{"price":"0.25"}"#;
    assert!(text.contains(point), "{text}");
}

#[tokio::test]
async fn points_are_lines_of_csv() {
    let api = with_rows_on_disk();
    let push = body(&point("0.10", r#"{"project_id": "p", "x": "a,b"}"#, r#"{"n": 2}"#));
    assert_eq!(super::frames::push(&api, &push).await.0, 204);

    let target = format!("/v2/dataframes?{JANUARY}");
    let (response, all) = shown(&api, &target, "text/csv").await;
    assert_eq!(response.headers()["content-type"], "text/csv; charset=utf-8");
    let lines: Vec<&str> = all.split("\r\n").collect();
    assert_eq!(
        lines[0],
        "begin,end,type,unit,qty,price,groupby.day_of_the_year,groupby.id,groupby.month,\
         groupby.project_id,groupby.week_of_the_year,groupby.year,metadata.flavor,\
         metadata.volume_type"
    );
    assert_eq!(
        lines[1],
        "2015-01-04T10:00:00+00:00,2015-01-04T11:00:00+00:00,instance,instance,2.5,0.25,4,\
         vm-7606,1,7606a24a-b8ad-4ae0-be6c-3d7a41334a2e,1,2015,large,"
    );
    assert_eq!((lines.len(), *lines.last().unwrap()), (14, ""));

    let (_, page) = shown(&api, &format!("{target}&limit=2&offset=1"), "text/csv").await;
    assert_eq!(page.lines().count(), 3);

    let (_, pushed) = shown(&api, &format!("/v2/dataframes?{RANGE}"), "text/csv").await;
    let expected = "begin,end,type,unit,qty,price,groupby.project_id,groupby.x,metadata.n\r\n\
                    2019-07-23T12:00:00+00:00,2019-07-23T13:00:00+00:00,m,GiB,0.1,0.04,p,\"a,b\",2\
                    \r\n";
    assert_eq!(pushed, expected);

    let nothing = api.ask("GET", "/v2/dataframes", &[("accept", "text/csv")], "").await;
    assert_eq!(nothing.status(), 404);
}

#[tokio::test]
async fn groups_are_lines_of_csv() {
    let api = with_rows_on_disk();
    let target = format!("/v2/summary?groupby=type&{JANUARY}");

    let (_, text) = shown(&api, &target, "text/csv").await;

    let expected = "begin,end,qty,rate,type\r\n\
                    2015-01-01T00:00:00+00:00,2015-02-01T00:00:00+00:00,9.0,0.9,instance\r\n\
                    2015-01-01T00:00:00+00:00,2015-02-01T00:00:00+00:00,60.0,0.15,storage.size\r\n";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn v1_answers_vary_with_accept() {
    let response = empty().ask("GET", "/v1/report/total", &[], "").await;

    assert!(response.headers().get_all("vary").iter().any(|value| value == "Accept"));
}

// ---- answers that are sent while they are made --------------------------------------------------

fn chunks(body: Result<AnswerBody, Failure>) -> Chunks {
    match body {
        Ok(AnswerBody::Chunks { chunks, .. }) => chunks,
        other => panic!("no stream: {other:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_fails_on_the_way_has_no_end() {
    let api = empty();
    let fail = |size: usize| {
        outgoing::send(&api.context, "text/plain", move |_, out| {
            out.write_all(&vec![b'x'; size]).unwrap();
            Err(Failure::not_found("gone"))
        })
    };

    assert_eq!(fail(1000).await.unwrap_err().status(), 404);
    let parts: Vec<_> = chunks(fail(300_000).await).into_stream().collect().await;
    assert!(parts.last().unwrap().is_err());
    assert!(parts.iter().rev().skip(1).all(Result::is_ok));
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_job() {
    let api = empty();
    let (ended, is_ended) = mpsc::channel();

    let body = outgoing::send(&api.context, "text/plain", move |_, out| {
        while out.write_all(&[b'x'; 1000]).is_ok() {}
        ended.send(out.is_stopped()).unwrap();
        Ok(())
    });
    drop(chunks(body.await));

    assert!(is_ended.recv().unwrap());
}

#[tokio::test]
async fn slow_readers_keep_nobody_from_pushing() {
    let api = empty_on_disk();
    let mut unread = Vec::new();
    for _ in 0..LONG_CALLS_MAX {
        let body = outgoing::send(&api.context, "text/plain", |_, out| {
            while out.write_all(&[b'x'; 1000]).is_ok() {}
            Ok(())
        });
        unread.push(chunks(body.await));
    }

    assert_eq!(push(&api, &body(&point("1", "{}", "{}"))).await.0, 204);
    assert_eq!(unread.len(), LONG_CALLS_MAX);
}

#[tokio::test]
async fn answers_that_are_remembered_follow_the_ledger() {
    let api = empty_on_disk();
    let total = format!("/v1/report/total?{RANGE}");
    let scope = json!({"scope_id": "late", "last_processed_timestamp": "2019-07-01T00:00:00Z"});

    for expected in [r#""0""#, r#""0.04""#, r#""0.08""#] {
        assert_eq!(api.get(&total).await, (200, expected.to_owned()));
        assert_eq!(api.get(&total).await, (200, expected.to_owned()));
        push(&api, &body(&point("1", r#"{"project_id": "a"}"#, "{}"))).await;
    }
    let of_nobody = format!("{total}&tenant_id=b");
    assert_eq!(api.get(&of_nobody).await, (200, r#""0""#.to_owned()));
    assert_eq!(api.get("/v2/scope").await.0, 404);
    api.ask("POST", "/v2/scope", &[JSON], &scope.to_string()).await;
    assert!(api.get("/v2/scope").await.1.contains(r#""scope_id":"late""#));
}
