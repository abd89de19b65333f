//! The reader of series against a slow one that builds the whole document first.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rated_plugin::decimal::Precision;
use rated_plugin::testing::{FakeHost, TestCollector};
use rated_plugin::{
    CollectRequest, DateTime, Decimal, HttpResponse, MetricDefinition, Status, UsageBatch, text_at,
};
use serde_json::{Value, json};

use crate::PrometheusCollector;

const SCOPES: [&str; 5] = ["alpha", "be\"ta", "ga\\mma", "\u{1f600} ü", "line\nbreak"];
const LABELS: [&str; 3] = ["project_id", "id", "flavor"];

/// Scope, attributes, quantity.
type Row = (String, Vec<String>, Decimal);

fn request(scopes: &[&str], precision: u32) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            name: "cpu".to_owned(),
            alt_name: "cpu".to_owned(),
            unit: "unit".to_owned(),
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor".to_owned()],
            extra_args: json!({"precision": precision}).as_object().unwrap().clone(),
        },
        scope_key: LABELS[0].to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::from_timestamp(0, 0).unwrap(),
        end: DateTime::from_timestamp(3600, 0).unwrap(),
    }
}

fn collected(body: Vec<u8>, request: &CollectRequest) -> Result<Vec<Row>, Status> {
    let host = FakeHost::new();
    host.answer(Ok(HttpResponse { status: 200, headers: BTreeMap::new(), body }));
    let config = "url = \"http://127.0.0.1:9090\"";
    let collector = TestCollector::new::<PrometheusCollector>(&host, config).unwrap();
    let batches = collector.collect(request).map_err(|error| error.status)?;
    let usage = UsageBatch::new(&batches[0]).unwrap();
    let text = |name: &str, row| {
        text_at(usage.attribute(name).unwrap(), row).expect("never null").to_owned()
    };
    let row = |row| {
        let attributes = LABELS[1..].iter().map(|name| text(name, row)).collect();
        (usage.scope_at(row).to_owned(), attributes, usage.qty_at(row).normalize())
    };
    Ok((0..usage.rows()).map(row).collect())
}

/// What the rows of an answer are; every doubt about one of them fails all.
fn modelled(body: &[u8], request: &CollectRequest, precision: u32) -> Result<Vec<Row>, Status> {
    let document: Value = serde_json::from_slice(body).map_err(|_| Status::Unavailable)?;
    let (mut rows, mut seen) = (Vec::new(), Vec::new());
    for series in document["data"]["result"].as_array().ok_or(Status::BadData)? {
        let label = |name: &str| series["metric"][name].as_str().unwrap_or_default().to_owned();
        let labels = LABELS.map(label);
        let number = series["value"][1].as_str().ok_or(Status::BadData)?;
        let [scope, attributes @ ..] = labels.clone();
        if seen.contains(&labels) {
            return Err(Status::BadData);
        }
        seen.push(labels);
        if request.scopes.is_empty() && scope.is_empty() {
            continue;
        }
        if !request.scopes.is_empty() && !request.scopes.contains(&scope) {
            return Err(Status::BadData);
        }
        let quantity = Precision::new(precision).unwrap().quantity(number);
        let quantity = quantity.map_err(|_| Status::BadData)?.normalize();
        rows.push((scope, attributes.to_vec(), quantity));
    }
    Ok(rows)
}

/// A JSON text, with every character escaped or as few as possible.
fn json_text(text: &str, escapes: bool) -> String {
    if !escapes {
        return Value::from(text).to_string();
    }
    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{}\"", units.concat())
}

fn any_series() -> impl Strategy<Value = String> {
    let scope = prop_oneof![
        40 => prop::sample::select(&SCOPES[..]),
        2 => Just(""),
        1 => Just("foreign"),
    ];
    let id = prop_oneof![9 => "[a-z0-9ü\"\\\\]{3,9}", 1 => "[ab]"];
    let flavor = prop::option::of("[ab]");
    let number = prop_oneof![
        9 => "[0-9]{1,12}(\\.[0-9]{1,9})?",
        3 => prop::sample::select(&["1e3", "0.1", "-0", "1.7e-05", "12345678901234567890.123"][..])
            .prop_map(str::to_owned),
        1 => prop::sample::select(&["NaN", "+Inf", "-Inf", "", "1,5", "1e+40"][..])
            .prop_map(str::to_owned),
    ];
    let extra = prop::bool::ANY;
    (scope, id, flavor, number, extra, prop::bool::weighted(0.2)).prop_map(
        |(scope, id, flavor, number, extra, escapes)| {
            let mut labels = vec![format!("\"id\":{}", json_text(&id, escapes))];
            if extra {
                labels.push(r#""instance":"left out""#.to_owned());
            }
            if !scope.is_empty() {
                labels.push(format!(
                    "{}:{}",
                    json_text(LABELS[0], escapes),
                    json_text(scope, false)
                ));
            }
            labels
                .extend(flavor.map(|flavor| format!("\"flavor\":{}", json_text(&flavor, escapes))));
            let (labels, number) = (labels.join(","), json_text(&number, escapes));
            format!("{{\"metric\":{{{labels}}},\"value\":[3600.123,{number}]}}")
        },
    )
}

fn any_answer(series_max: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(any_series(), 0..series_max).prop_map(|series| {
        let data = format!(r#"{{"resultType":"vector","result":[{}]}}"#, series.join(", "));
        format!(r#"{{"status":"success","data":{data},"infos":[]}}"#)
    })
}

proptest! {
    #[test]
    fn rows_are_those_of_the_whole_document(
        answer in any_answer(12),
        all_scopes in prop::bool::ANY,
        precision in prop::sample::select(&[0_u32, 9, 28][..]),
    ) {
        let request = request(if all_scopes { &[] } else { &SCOPES }, precision);

        let found = collected(answer.clone().into_bytes(), &request);

        prop_assert_eq!(found, modelled(answer.as_bytes(), &request, precision));
    }

    #[test]
    fn half_an_answer_is_asked_for_again(answer in any_answer(3), part: prop::sample::Index) {
        // Something of it that is bad may have been read before it broke off.
        let request = request(&SCOPES, 9);
        prop_assume!(collected(answer.clone().into_bytes(), &request).is_ok());
        let length = part.index(answer.len());

        let found = collected(answer.as_bytes()[..length].to_vec(), &request);

        prop_assert_eq!(found, Err(Status::Unavailable));
    }
}

/// Rows like these have no text that is new to its column.
#[test]
fn rows_of_known_texts_are_compared_with_all_others() {
    let rows = |last: &str| {
        let series = ["alpha|a|x", "alpha|b|y", "be\"ta|b|x", "alpha|b|x", last].map(|row| {
            let mut labels = row.split('|');
            let mut next = || labels.next().unwrap();
            json!({
                "metric": {"project_id": next(), "id": next(), "flavor": next()},
                "value": [3600, "1"],
            })
        });
        let data = json!({"resultType": "vector", "result": series});
        let body = json!({"status": "success", "data": data}).to_string();
        collected(body.into_bytes(), &request(&SCOPES, 9)).map(|rows| rows.len())
    };

    assert_eq!(rows("alpha|a|y"), Ok(5));
    assert_eq!(rows("be\"ta|a|x"), Ok(5));
    assert_eq!(rows("alpha|b|y"), Err(Status::BadData));
    assert_eq!(rows("be\"ta|b|x"), Err(Status::BadData));
}

#[test]
fn bytes_that_are_no_utf_8_are_asked_for_again() {
    let whole = r#"{"status":"success","data":{"resultType":"vector","result":[]},"infos":["ü"]}"#;
    let request = request(&SCOPES, 9);
    let end = whole.len() - 4;
    assert_eq!(collected(whole.as_bytes().to_vec(), &request), Ok(Vec::new()));

    let cut_inside_a_character = &whole.as_bytes()[..end];
    assert!(std::str::from_utf8(cut_inside_a_character).is_err());
    assert_eq!(collected(cut_inside_a_character.to_vec(), &request), Err(Status::Unavailable));
    let mut broken = whole.as_bytes().to_vec();
    broken[end] = b'?';
    assert_eq!(collected(broken, &request), Err(Status::Unavailable));
}
