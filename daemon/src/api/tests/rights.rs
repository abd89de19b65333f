//! What callers see and may change, by who they are. The whole table of routes and callers is asked
//! of the built daemon (`tests/tests/policy`).

use futures_util::FutureExt;
use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::setup::{
    Api, ONE, TWO, empty_on_disk, with_caller, with_modules, with_rows, with_rows_on_disk,
    with_scopes,
};
use crate::api::caller::{Caller, Identity};
use crate::api::context::LongCall;

const YEAR: &str = "begin=2015-01-01T00:00:00&end=2016-01-01T00:00:00";

fn known(user: &str, project: Option<&str>, roles: &[&str]) -> Caller {
    Caller::Known(Identity {
        user_id: user.to_owned(),
        project_id: project.map(str::to_owned),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    })
}

fn reader(project: &str) -> Caller {
    known("reader", Some(project), &["reader"])
}

fn admin() -> Caller {
    known("admin", Some("another"), &["admin"])
}

async fn get(api: &Api, target: &str) -> (u16, Value) {
    let (status, text) = api.get(target).await;
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A status and a sum without trailing zeros.
async fn sum(asked: impl Future<Output = (u16, Value)>) -> (u16, String) {
    let (status, sum) = asked.await;
    let text = sum.as_str().map_or_else(|| sum.to_string(), str::to_owned);
    let Ok(sum) = text.parse::<Decimal>() else { return (status, text) };
    (status, sum.normalize().to_string())
}

async fn send(api: &Api, method: &str, target: &str, body: &Value) -> (u16, Value) {
    let headers = [("accept", "application/json"), ("content-type", "application/json")];
    let response = api.ask(method, target, &headers, &body.to_string()).await;
    let document = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), document)
}

#[tokio::test]
async fn figures_of_version_1_are_the_callers_own() {
    let api = with_rows();
    let total = |query: &str| format!("/v1/report/total?{YEAR}{query}");

    let own = with_caller(&api, reader(ONE));
    assert_eq!(sum(get(&own, &total(""))).await, (200, "0.5".to_owned()));
    assert_eq!(sum(get(&own, &total(&format!("&tenant_id={ONE}")))).await, (200, "0.5".to_owned()));
    for query in [format!("&tenant_id={TWO}"), "&all_tenants=true".to_owned()] {
        let (status, fault) = get(&own, &total(&query)).await;
        let text = "Policy doesn't allow report:get_total to be performed.";
        assert_eq!((status, &fault["faultstring"]), (403, &json!(text)));
        let frames = format!("/v1/storage/dataframes?{YEAR}{query}");
        assert!([400, 403].contains(&get(&own, &frames).await.0), "{query}");
    }
    let (_, summary) = get(&own, &format!("/v1/report/summary?{YEAR}&groupby=tenant_id")).await;
    assert_eq!(summary["summary"].as_array().unwrap().len(), 1);
    assert_eq!(summary["summary"][0]["tenant_id"], ONE);
    let (_, frames) = get(&own, &format!("/v1/storage/dataframes?{YEAR}")).await;
    let frames = frames["dataframes"].as_array().unwrap();
    assert!(!frames.is_empty() && frames.iter().all(|frame| frame["tenant_id"] == ONE));

    // An administrator has a project too, and it is meant when none is named.
    let admin = with_caller(&api, admin());
    assert_eq!(sum(get(&admin, &total(""))).await, (200, "0".to_owned()));
    assert_eq!(sum(get(&admin, &total("&all_tenants=true"))).await, (200, "1.05".to_owned()));
    assert_eq!(
        sum(get(&admin, &total(&format!("&tenant_id={TWO}")))).await,
        (200, "0.55".to_owned())
    );
    let (_, frames) = get(&admin, &format!("/v1/storage/dataframes?{YEAR}")).await;
    assert_eq!(frames["dataframes"].as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn figures_of_version_2_are_the_callers_own() {
    let api = with_rows();
    let own = with_caller(&api, reader(ONE));
    let all = format!("/v2/summary?{YEAR}&groupby=project_id");

    let (_, shown) = get(&own, &all).await;
    assert_eq!((&shown["total"], &shown["results"][0][4]), (&json!(1), &json!(ONE)));
    // A filter on somebody else's scope is taken for one on the own, as CloudKitty does it.
    let (_, shown) = get(&own, &format!("{all}&filters=project_id:{TWO}")).await;
    assert_eq!((&shown["total"], &shown["results"][0][4]), (&json!(1), &json!(ONE)));
    let (_, shown) = get(&own, &format!("{all}&filters=id:vm-7606")).await;
    assert_eq!(shown["total"], 0);
    let frames = format!("/v2/dataframes?{YEAR}");
    assert_eq!(get(&own, &frames).await.1["total"], 8);
    let others = format!("{frames}&filters=project_id:{TWO}");
    assert_eq!(get(&own, &others).await.1["total"], 8);
    let lines = own.ask("GET", &frames, &[("accept", "text/csv")], "").await;
    let lines = String::from_utf8(lines.body().to_vec()).unwrap();
    assert!(lines.contains("vm-8f82") && !lines.contains("7606"), "{lines}");

    let (_, shown) = get(&with_caller(&api, admin()), &all).await;
    assert_eq!(shown["total"], 2);
    let without = with_caller(&api, known("u", None, &["reader"]));
    let text = json!({"message": "You are not authorized to perform this action"});
    assert_eq!(get(&without, &all).await, (403, text));
}

#[tokio::test]
async fn who_says_nothing_is_asked_and_told_how() {
    let api = with_caller(&with_rows(), None);

    let (status, body) = get(&api, "/v2/summary").await;
    let message = "The request you have made requires authentication.";
    assert_eq!(status, 401);
    assert_eq!(body, json!({"error": {"code": 401, "title": "Unauthorized", "message": message}}));
    for open in ["/", "/healthcheck", "/healthz", "/readyz", "/openapi.json", "/docs"] {
        assert_eq!(get(&api, open).await.0, 200, "{open}");
    }
    assert_eq!(get(&api, "/v1").await.0, 405);
    assert_eq!(get(&api, "/v2").await.0, 404);
    assert_eq!(get(&api, "/metrics").await.0, 401);
}

#[tokio::test]
async fn troubles_are_told_to_those_who_may_know() {
    let api = with_rows();
    let troubles = |api: Api| async move {
        let ready = get(&api, "/readyz").await.1;
        (ready["troubles"].as_array().unwrap().len(), ready["troubles_withheld"].clone())
    };

    assert_eq!(troubles(with_caller(&api, None)).await, (0, json!(true)));
    assert_eq!(troubles(with_caller(&api, reader(ONE))).await, (0, json!(true)));
    assert_eq!(troubles(with_caller(&api, admin())).await, (1, json!(false)));
}

/// Rules that let project members do what is for administrators let them do it to their own scope.
#[tokio::test]
async fn changes_that_others_are_allowed_stay_in_their_scope() {
    let rules = "\"scope:get_state\" = \"\"\n\"scope:post_state\" = \"\"\n\
                 \"scope:patch_state\" = \"\"\n\"scope:reset_state\" = \"\"\n\
                 \"report:list_tenants\" = \"\"\n\"dataframes:add\" = \"\"\n\
                 \"schedule:task_reprocesses\" = \"\"\n\"schedule:get_task_reprocesses\" = \"\"\n";
    let api = with_scopes().with_rules(rules);
    let own = with_caller(&api, reader("aaaa"));

    let (_, shown) = get(&own, "/v2/scope").await;
    assert_eq!(shown["results"].as_array().unwrap().len(), 1);
    assert_eq!(get(&own, "/v2/scope?scope_id=bbbb").await.0, 404);
    let other = json!({"scope_id": "bbbb", "active": false});
    assert_eq!(send(&own, "PATCH", "/v2/scope", &other).await.0, 403);
    let new = json!({"scope_id": "new", "last_processed_timestamp": "2019-01-01T00:00:00"});
    assert_eq!(send(&own, "POST", "/v2/scope", &new).await.0, 403);
    let reset = json!({"scope_id": "bbbb", "last_processed_timestamp": "2019-01-01T00:00:00"});
    assert_eq!(send(&own, "PUT", "/v2/scope", &reset).await.0, 404);
    let again = json!({
        "scope_ids": ["bbbb"], "reason": "r", "start_reprocess_time": "2019-01-01T00:00:00",
        "end_reprocess_time": "2019-01-01T01:00:00",
    });
    let (status, body) = send(&own, "POST", "/v2/task/reprocesses", &again).await;
    assert_eq!(status, 400);
    assert!(body["message"].as_str().unwrap().contains("do not exist"), "{body}");

    let api = with_rows_on_disk().with_rules(rules);
    let own = with_caller(&api, reader(ONE));
    assert_eq!(get(&own, &format!("/v1/report/tenants?{YEAR}")).await, (200, json!([ONE])));
    let push = |scope: &str| {
        let point = json!({"vol": {"unit": "u", "qty": 1}, "rating": {"price": 1},
                           "groupby": {"project_id": scope}, "metadata": {}});
        let period = json!({"begin": "2015-02-01T00:00:00", "end": "2015-02-01T01:00:00"});
        json!({"dataframes": [{"period": period, "usage": {"instance": [point]}}]})
    };
    assert_eq!(send(&own, "POST", "/v2/dataframes", &push(ONE)).await.0, 204);
    assert_eq!(send(&own, "POST", "/v2/dataframes", &push(TWO)).await.0, 403);
    let total = format!("/v1/report/total?{YEAR}&tenant_id={TWO}");
    assert_eq!(sum(get(&with_caller(&api, admin()), &total)).await, (200, "0.55".to_owned()));
}

#[tokio::test]
async fn a_reprocessing_of_everything_is_one_of_what_the_caller_sees() {
    let rules = "\"schedule:task_reprocesses\" = \"\"\n\"schedule:get_task_reprocesses\" = \"\"\n";
    let api = empty_on_disk().with_rules(rules);
    let admin = with_caller(&api, admin());
    for id in ["aaaa", "bbbb"] {
        let new = json!({"scope_id": id, "last_processed_timestamp": "2019-01-02T00:00:00"});
        assert_eq!(send(&admin, "POST", "/v2/scope", &new).await.0, 200);
    }
    let own = with_caller(&api, reader("aaaa"));
    let all = json!({
        "scope_ids": ["ALL"], "reason": "r", "start_reprocess_time": "2019-01-01T00:00:00",
        "end_reprocess_time": "2019-01-01T00:00:00",
    });

    assert_eq!(send(&own, "POST", "/v2/task/reprocesses", &all).await.0, 202);

    let (_, listed) = get(&admin, "/v2/task/reprocesses").await;
    let listed = listed["results"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["scope_id"]), (1, &json!("aaaa")));
    let other = with_caller(&api, reader("bbbb"));
    assert_eq!(get(&other, "/v2/task/reprocesses").await, (200, json!({"results": []})));
    assert_eq!(get(&other, "/v2/task/reprocesses/aaaa").await, (200, json!({"results": []})));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_for_administrators_and_quotes_are_everybodys_own() {
    let api = with_modules().await;
    let (admin, own) = (with_caller(&api, admin()), with_caller(&api, reader("p1")));
    let hashmap = "/v1/rating/module_config/hashmap";
    let (_, service) =
        send(&admin, "POST", &format!("{hashmap}/services"), &json!({"name": "cpu"})).await;
    let service = service["service_id"].as_str().unwrap();
    for (tenant, cost) in [(Value::Null, "1"), (json!("p1"), "2"), (json!("p2"), "3")] {
        let rule = json!({"service_id": service, "cost": cost, "tenant_id": tenant});
        let (status, rule) = send(&admin, "POST", &format!("{hashmap}/mappings"), &rule).await;
        assert_eq!((status, &rule["created_by"]), (201, &json!("admin")), "{rule}");
    }
    let enable = json!({"module_id": "hashmap", "enabled": true});
    assert_eq!(send(&admin, "PUT", "/v1/rating/modules/hashmap", &enable).await.0, 302);

    let (status, refused) = get(&own, &format!("{hashmap}/services")).await;
    let text = "Policy doesn't allow rating:module_config to be performed.";
    assert_eq!(status, 403);
    assert_eq!(refused, json!({"code": 403, "title": "Forbidden", "description": text}));
    let quote = |api: Api, desc: Value| async move {
        let resource = json!({"service": "cpu", "volume": "1", "desc": desc});
        send(&api, "POST", "/v1/rating/quote", &json!({"resources": [resource]})).await
    };
    let (free, known) =
        (with_caller(&api, known("u", None, &[])), || with_caller(&own, reader("p1")));
    assert_eq!(sum(quote(known(), json!({}))).await, (200, "2".to_owned()));
    assert_eq!(sum(quote(known(), json!({"project_id": "p1"}))).await, (200, "2".to_owned()));
    assert_eq!(quote(known(), json!({"project_id": "p2"})).await.0, 403);
    assert_eq!(quote(known(), json!({"groupby": {"project_id": "p2"}})).await.0, 403);
    assert_eq!(sum(quote(free, json!({}))).await, (200, "1".to_owned()));
    assert_eq!(sum(quote(admin, json!({"project_id": "p2"}))).await, (200, "3".to_owned()));
}

/// A quote is free of charge: what it may cost the daemon has limits.
#[tokio::test]
async fn a_quote_that_is_too_large_is_refused() {
    let api = with_caller(&with_rows(), known("u", None, &[]));
    let many = |count: usize| -> Value {
        (0..count).map(|number| (format!("a{number}"), json!("x"))).collect()
    };
    let wide = json!({"resources": [{"service": "cpu", "volume": 1, "desc": many(65)}]});
    let names: Vec<Value> = (0..5)
        .map(|part| {
            let desc: Value =
                (0..60).map(|number| (format!("a{part}-{number}"), json!("x"))).collect();
            json!({"service": "cpu", "volume": 1, "desc": desc})
        })
        .collect();
    let services: Vec<Value> = (0..257)
        .map(|number| json!({"service": format!("s{number}"), "volume": 1, "desc": {}}))
        .collect();

    for (body, words) in [
        (wide, "64 attributes, got 65"),
        (json!({"resources": names}), "256 different attributes"),
        (json!({"resources": services}), "256 services, got 257"),
    ] {
        let (status, fault) = send(&api, "POST", "/v1/rating/quote", &body).await;
        let text = fault["faultstring"].as_str().unwrap();
        assert_eq!(status, 400);
        assert!(text.contains(words), "{text}");
    }
}

#[tokio::test]
async fn reasons_of_prices_are_the_callers_own() {
    let api = with_rows_on_disk();
    let own = with_caller(&api, reader(ONE));
    let path = |query: &str| format!("/v2/explain?{YEAR}{query}");

    for query in ["", &format!("&scope_id={ONE}"), &format!("&scope_id={TWO}")] {
        let (status, shown) = get(&own, &path(query)).await;
        assert_eq!((status, &shown["total"]), (200, &json!(8)));
        let rows = shown["results"].as_array().unwrap();
        assert!(rows.iter().all(|row| row["scope_id"] == ONE), "{shown:#}");
    }
    let admin = with_caller(&api, admin());
    let (status, shown) = get(&admin, &path(&format!("&scope_id={TWO}&type=instance"))).await;
    assert_eq!((status, &shown["total"]), (200, &json!(2)));
    // Nobody rated it, and it is not free.
    let row = &shown["results"][0];
    assert_eq!((&row["verdict"], &row["price"]), (&json!("different"), &json!("0.25")));
    assert_eq!((&row["metadata"]["flavor"], &row["computed"]), (&json!("large"), &json!("0")));
    let (status, refused) = get(&admin, &path("")).await;
    assert_eq!(status, 400);
    assert!(refused["message"].as_str().unwrap().contains("required key not provided"));
    assert_eq!(get(&admin, &path(&format!("&scope_id={TWO}&limit=1001"))).await.0, 400);

    let audit = format!("/v2/audit?{YEAR}");
    assert_eq!(get(&own, &audit).await.0, 403);
    let (status, lines) = admin.get(&audit).await;
    assert_eq!(status, 200);
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    assert_eq!((&last["end"]["rows"], &last["end"]["different"]), (&json!(12), &json!(12)));
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["difference"]["computed"], "0", "{first}");
    assert_eq!(last["end"]["outcome"], "wrong", "{last}");
    assert_eq!(get(&admin, "/v2/audit?begin=2015-01-01").await.0, 400);
    assert_eq!(get(&admin, "/v2/audit?begin=2015-01-01&end=2015-01-01").await.0, 400);
}

#[tokio::test]
async fn one_audit_runs_at_a_time() {
    let api = with_rows_on_disk();
    let turn = api.context.audit_turn().unwrap();

    let (status, refused) = get(&api, &format!("/v2/audit?{YEAR}")).await;

    assert_eq!((status, refused), (409, json!({"message": "an audit is under way already"})));
    drop(turn);
    assert_eq!(api.get(&format!("/v2/audit?{YEAR}")).await.0, 200);
}

/// It waits for modules; nobody who only reads waits for it.
#[tokio::test]
async fn explanations_take_turns_of_their_own() {
    let api = with_rows_on_disk();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let first = api.context.ledger_for_long(LongCall::Explains, move |_| {
        let _ = ended.recv();
        Ok(())
    });
    let first = tokio::spawn(first);
    let context = api.context.clone();
    while context.explanations_left() > 0 {
        tokio::task::yield_now().await;
    }
    let frames = format!("/v2/dataframes?{YEAR}");
    let explain = format!("/v2/explain?{YEAR}&scope_id={ONE}");
    let mut second = std::pin::pin!(get(&api, &explain));

    assert!(second.as_mut().now_or_never().is_none());
    for _ in 0..10 {
        assert_eq!(get(&api, &frames).await.0, 200);
    }
    assert!(second.as_mut().now_or_never().is_none());

    drop(end);
    assert!(first.await.unwrap().is_ok());
    assert_eq!(second.await.0, 200);
}
