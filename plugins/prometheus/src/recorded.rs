//! Answers recorded from a real Prometheus, and the exact requests they belong to.
//!
//! `NAME.form` is the body (or, of a GET, the address) of a request, `NAME.json` the answer; see
//! `testdata/prometheus/README.md`.

use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{
    CollectRequest, DateTime, Error, MetricDefinition, RecordBatch, Result, Status, UsageBatch,
};
use serde_json::{Value, json};

use crate::{PrometheusCollector, PrometheusScopes};

const URL: &str = "url = \"http://127.0.0.1:9090\"";
const BEGIN: i64 = 1_767_225_600;

fn file(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/prometheus/");
    let path = format!("{folder}{name}");
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Answers only the recorded request, with the recorded status and body.
fn host(name: &str, status: u16) -> FakeHost {
    let host = FakeHost::new();
    let (form, answer) = (file(&format!("{name}.form")), file(&format!("{name}.json")));
    host.answer_with(move |request| {
        let asked = match request.body.as_slice() {
            [] => request.url.as_bytes(),
            body => body,
        };
        assert_eq!(String::from_utf8_lossy(asked), form.trim_end());
        let headers = std::collections::BTreeMap::new();
        Ok(rated_plugin::HttpResponse { status, headers, body: answer.clone().into_bytes() })
    });
    host
}

fn request(metric: &str, extra_args: &Value, scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            name: metric.to_owned(),
            alt_name: metric.to_owned(),
            unit: "unit".to_owned(),
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor".to_owned()],
            extra_args: extra_args.as_object().unwrap().clone(),
        },
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::from_timestamp(BEGIN, 0).unwrap(),
        end: DateTime::from_timestamp(BEGIN + 3600, 0).unwrap(),
    }
}

fn collect(host: &FakeHost, request: &CollectRequest) -> Result<RecordBatch> {
    let collector = TestCollector::new::<PrometheusCollector>(host, URL).unwrap();
    let batches = collector.collect(request)?;
    assert_eq!(batches.len(), 1);
    Ok(batches.into_iter().next().unwrap())
}

/// `scope id flavor = quantity`, sorted.
fn rows(batch: &RecordBatch) -> Vec<String> {
    let usage = UsageBatch::new(batch).unwrap();
    let text = |name: &str, row| {
        let column = usage.attribute(name).unwrap();
        rated_plugin::text_at(column, row).unwrap().to_owned()
    };
    let mut rows: Vec<String> = (0..usage.rows())
        .map(|row| {
            let (scope, quantity) = (usage.scope_at(row), usage.qty_at(row).normalize());
            format!("{scope:?} {} {:?} = {quantity}", text("id", row), text("flavor", row))
        })
        .collect();
    rows.sort();
    rows
}

fn failure(name: &str, status: u16, request: &CollectRequest) -> Error {
    collect(&host(name, status), request).unwrap_err()
}

/// Scopes that need every kind of escaping.
const SCOPES: [&str; 8] =
    ["alpha", "beta", "a.b|c*", "quo\"te", "back\\slash", "line\nbreak", "ünï", "p+q(r)[s]{t}^$"];

#[test]
fn one_query_brings_the_usage_of_many_scopes() {
    let batch = collect(&host("many", 200), &request("instance_cpu", &json!({}), &SCOPES)).unwrap();

    let rows = rows(&batch);
    assert_eq!(rows.len(), 16);
    for row in [
        r#""alpha" i0-0 "m0" = 1.59166667"#,
        r#""alpha" i0-1 "m1" = 1.69166667"#,
        r#""beta" i1-0 "" = 1.69166667"#,
        r#""a.b|c*" i2-0 "m0" = 1.79166667"#,
        r#""quo\"te" i3-0 "m0" = 1.89166667"#,
        r#""back\\slash" i4-0 "m0" = 1.99166667"#,
        r#""line\nbreak" i5-0 "m0" = 2.09166667"#,
        r#""ünï" i6-0 "m0" = 2.19166667"#,
        r#""p+q(r)[s]{t}^$" i7-1 "m1" = 3.09166667"#,
    ] {
        assert!(rows.iter().any(|found| found == row), "{row} is not in {rows:#?}");
    }
}

#[test]
fn every_scope_at_once_leaves_out_what_is_nobodys() {
    let request = request("instance_cpu", &json!({"aggregation_method": "sum"}), &[]);

    let batch = collect(&host("every", 200), &request).unwrap();

    assert_eq!(rows(&batch).len(), 16);
    assert!(file("every.json").contains(r#"{"metric":{"id":"nobody"}"#));
}

#[test]
fn values_keep_nine_digits_or_all_of_them() {
    let nine = request("volume_bytes", &json!({}), &["numbers"]);
    let all = request("volume_bytes", &json!({"precision": 0}), &["numbers"]);
    let small = [r#""numbers" small "" = 0.0000001"#, r#""numbers" zero "" = 0"#];

    // The answer is the same, the request as well.
    let nine = rows(&collect(&host("values", 200), &nine).unwrap());
    let all = rows(&collect(&host("values", 200), &all).unwrap());

    assert_eq!(
        nine[..3],
        [r#""numbers" big "" = 17179869200"#, r#""numbers" minus "" = -5.5"#, small[0],]
    );
    assert_eq!(nine[3..], [r#""numbers" third "" = 0.3"#, small[1]]);
    assert_eq!(all[0], r#""numbers" big "" = 17179869184"#);
    assert_eq!(all[3], r#""numbers" third "" = 0.30000000000000004"#);
}

#[test]
fn values_too_far_apart_for_one_column_are_split() {
    let request = request("volume_bytes", &json!({"precision": 0}), &["numbers", "vast"]);

    let error = failure("apart", 200, &request);

    assert!(error.split, "{error}");
    assert!(error.message.contains("metric `volume_bytes`: "), "{error}");
}

#[test]
fn functions_are_understood_by_the_server() {
    let arguments = json!({
        "aggregation_method": "avg", "range_function": "changes", "query_function": "sqrt",
        "query_prefix": "2 *", "query_suffix": "> 0",
    });

    let batch = collect(&host("functions", 200), &request("instance_cpu", &arguments, &["alpha"]));

    let twice_the_root_of_60 = "15.4919334";
    assert_eq!(
        rows(&batch.unwrap()),
        ["i0-0 \"m0\"", "i0-1 \"m1\""]
            .map(|labels| format!("\"alpha\" {labels} = {twice_the_root_of_60}"))
    );
}

#[test]
fn no_series_is_no_data() {
    let batch = collect(&host("nothing", 200), &request("instance_cpu", &json!({}), &["nobody"]));

    assert_eq!(batch.unwrap().num_rows(), 0);
}

#[test]
fn what_is_no_quantity_names_its_metric_and_series() {
    let error = failure("broken", 200, &request("broken", &json!({}), &["numbers"]));

    assert_eq!(error.status, Status::BadData);
    assert_eq!(
        error.message,
        "`http://127.0.0.1:9090`: metric `broken`: series \
         `project_id=\"numbers\", id=\"n\", flavor=\"\"`: `NaN` is not a finite number"
    );
}

#[test]
fn prometheus_own_words_reach_the_reader() {
    let suffix = json!({"query_suffix": ") or ("});

    let error = failure("syntax", 400, &request("instance_cpu", &suffix, &["alpha"]));

    assert_eq!(error.status, Status::BadData);
    assert!(error.message.contains("parse error: unexpected right parenthesis"), "{error}");
}

#[test]
fn a_scalar_is_no_answer() {
    let scalar = json!({"query_prefix": "scalar(", "query_suffix": ")"});

    let error = failure("scalar", 200, &request("instance_cpu", &scalar, &["alpha"]));

    assert_eq!(error.status, Status::BadData);
    assert!(error.message.ends_with("the query gives a scalar, not a vector"), "{error}");
}

#[test]
fn an_answer_cut_short_anywhere_is_never_usage() {
    let whole = file("functions.json");
    let request = request("instance_cpu", &json!({}), &["alpha"]);

    for length in (0..whole.trim_end().len()).filter(|length| whole.is_char_boundary(*length)) {
        let host = FakeHost::new();
        host.answer_body(200, &whole.as_bytes()[..length]);
        let error = collect(&host, &request).unwrap_err();
        assert_eq!(error.status, Status::Unavailable, "{}", &whole[..length]);
    }
}

#[test]
fn doubtful_series_fail_the_whole_answer() {
    let answer = |series: &str| {
        let host = FakeHost::new();
        let data = format!(r#"{{"resultType":"vector","result":[{series}]}}"#);
        host.answer_body(200, format!(r#"{{"status":"success","data":{data}}}"#));
        let error = collect(&host, &request("cpu", &json!({}), &["a", "b"])).unwrap_err();
        assert_eq!(error.status, Status::BadData);
        error.message
    };
    let one = r#"{"metric":{"project_id":"a","id":"1"},"value":[1,"2"]}"#;

    assert!(answer(&format!("{one},{one}")).contains("id=\"1\", flavor=\"\"`: came twice"));
    let stranger = r#"{"metric":{"project_id":"c"},"value":[1,"2"]}"#;
    assert!(answer(stranger).ends_with("a scope that was not asked for"));
    let nobody = r#"{"metric":{},"value":[1,"2"]}"#;
    assert!(answer(nobody).ends_with("a scope that was not asked for"));
    let range = r#"{"metric":{"project_id":"a"},"values":[[1,"2"]]}"#;
    assert!(answer(range).contains("missing field `value`"));
    let histogram = r#"{"metric":{"project_id":"a"},"histogram":[1,{"count":"2"}]}"#;
    assert!(answer(histogram).contains("a histogram is not a quantity"));
    let bare = r#"{"metric":{"project_id":"a"},"value":[1,2]}"#;
    assert!(answer(bare).contains("not an answer of the Prometheus API"));
    let unlabelled = r#"{"value":[1,"2"]}"#;
    assert!(answer(unlabelled).contains("missing field `metric`"));
}

#[test]
fn a_cancelled_call_sends_nothing() {
    let host = FakeHost::new();
    host.cancel();

    let error = collect(&host, &request("cpu", &json!({}), &["a"])).unwrap_err();

    assert_eq!((error.status, host.requests().len()), (Status::Cancelled, 0));
}

#[test]
fn an_answer_that_is_too_long_may_be_split() {
    let host = FakeHost::new();
    host.answer(Err(Error::bad_data("the answer is longer than 67108864 bytes")));

    assert!(collect(&host, &request("cpu", &json!({}), &["a"])).unwrap_err().split);
    let options = &host.requests()[0].options;
    assert_eq!((options.timeout_ms, options.body_size_max), (Some(60_000), Some(64 << 20)));
}

#[test]
fn too_many_series_are_split() {
    let answer = |count: usize| {
        let series =
            |id| format!(r#"{{"metric":{{"project_id":"a","id":"{id}"}},"value":[1,"2"]}}"#);
        let series: Vec<String> = (0..count).map(series).collect();
        let data = format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(","));
        let host = FakeHost::new();
        host.answer_body(200, format!(r#"{{"status":"success","data":{data}}}"#));
        collect(&host, &request("cpu", &json!({}), &["a"]))
    };

    assert_eq!(answer(1000).unwrap().num_rows(), 1000);
    let error = answer(1001).unwrap_err();
    assert!(error.split && error.message.ends_with("at most 1000 series at once"), "{error}");
}

#[test]
fn scopes_that_ended_are_found() {
    let host = host("scopes", 200);
    host.set_now(DateTime::from_timestamp(BEGIN + 4 * 3600, 0).unwrap());
    let fetcher = |more: &str| {
        let config = format!("{URL}\nscope_attribute = \"project_id\"\n{more}");
        TestFetcher::new::<PrometheusScopes>(&host, &config).unwrap()
    };

    let scopes = fetcher("metric = \"ended\"\nfilters = { job = \"x\" }").scopes();

    assert_eq!(scopes, Ok(vec!["gone".to_owned()]));
}

#[test]
fn scopes_are_never_made_up() {
    let config = format!("{URL}\nscope_attribute = \"p\"\nmetric = \"m\"");
    let host = FakeHost::new();
    let fetcher = TestFetcher::new::<PrometheusScopes>(&host, &config).unwrap();

    host.answer_body(200, r#"{"status":"success","data":["a""#);
    assert_eq!(fetcher.scopes().unwrap_err().status, Status::Unavailable);
    host.answer_body(200, r#"{"status":"success","data":["a"],"warnings":["store is down"]}"#);
    assert_eq!(fetcher.scopes().unwrap_err().status, Status::Unavailable);
    host.answer_body(200, r#"{"status":"success","data":["b","","a","b"]}"#);
    assert_eq!(fetcher.scopes(), Ok(vec!["a".to_owned(), "b".to_owned()]));
    for (key, value) in [("metric", "a b"), ("scope_attribute", "a-b")] {
        let config = format!("{URL}\n{key} = \"{value}\"\n");
        let other = if key == "metric" { "scope_attribute" } else { "metric" };
        let config = format!("{config}{other} = \"ok\"");
        let error = TestFetcher::new::<PrometheusScopes>(&FakeHost::new(), &config).unwrap_err();
        assert!(error.message.contains("is not the name of a Prometheus"), "{error}");
    }
}

#[test]
fn the_check_asks_for_next_to_nothing() {
    let collector = TestCollector::new::<PrometheusCollector>(&host("check", 200), URL).unwrap();
    collector.check().unwrap();

    let host = FakeHost::new();
    let error = TestCollector::new::<PrometheusCollector>(&host, URL).unwrap().check().unwrap_err();
    assert!(error.message.starts_with("`http://127.0.0.1:9090`: "), "{error}");
    assert!(error.retryable);
}

#[test]
fn it_bears_what_every_plugin_must() {
    rated_plugin::testing::conformance(crate::plugin_decl());
}

#[test]
fn the_readme_shows_the_samples() {
    let readme = include_str!("../README.md");

    assert!(readme.contains(include_str!("../sample.toml").trim_end()));
    assert!(readme.contains(include_str!("../sample-fetcher.toml").trim_end()));
}
