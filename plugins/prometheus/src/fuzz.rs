//! Answers as a fuzzer has them, against a slow reader that builds the whole document first: what
//! is taken is what the document says, all of it, and there is no doubt about any of it.

use std::collections::BTreeMap;

use rated_plugin::decimal::Precision;
use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{
    CollectRequest, DateTime, Decimal, HttpResponse, MetricDefinition, Status, UsageBatch, text_at,
};
use serde_json::{Value, json};

use crate::{PrometheusCollector, PrometheusScopes};

pub(crate) const LABELS: [&str; 3] = ["project_id", "id", "flavor"];
const SCOPES: [&str; 2] = ["a", "bb"];

/// Scope, attributes, quantity.
pub(crate) type Row = (String, Vec<String>, Decimal);

pub(crate) fn request(scopes: &[&str], precision: u32) -> CollectRequest {
    let extra_args = json!({"precision": precision});
    CollectRequest {
        metric: MetricDefinition {
            name: "cpu".to_owned(),
            alt_name: "cpu".to_owned(),
            unit: "unit".to_owned(),
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor".to_owned()],
            extra_args: extra_args.as_object().expect("it is one").clone(),
        },
        scope_key: LABELS[0].to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::UNIX_EPOCH,
        end: DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(1),
    }
}

fn host(status: u16, body: Vec<u8>) -> FakeHost {
    let host = FakeHost::new();
    host.answer(Ok(HttpResponse { status, headers: BTreeMap::new(), body }));
    host
}

const CONFIG: &str = "url = \"http://127.0.0.1:9090\"";

pub(crate) fn collected(body: Vec<u8>, request: &CollectRequest) -> Result<Vec<Row>, Status> {
    let host = host(200, body);
    let collector =
        TestCollector::new::<PrometheusCollector>(&host, CONFIG).expect("a sound configuration");
    let batches = collector.collect(request).map_err(|error| error.status)?;
    let usage = UsageBatch::new(&batches[0]).expect("the test kit has checked it");
    let text = |name: &str, row| {
        let column = usage.attribute(name).expect("the test kit has checked it");
        text_at(column, row).expect("never null").to_owned()
    };
    let row = |row| {
        let attributes = LABELS[1..].iter().map(|name| text(name, row)).collect();
        (usage.scope_at(row).to_owned(), attributes, usage.qty_at(row).normalize())
    };
    Ok((0..usage.rows()).map(row).collect())
}

/// What the rows of an answer are; every doubt about one of them fails all.
pub(crate) fn modelled(
    body: &[u8],
    request: &CollectRequest,
    precision: u32,
) -> Result<Vec<Row>, Status> {
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
        let precision = Precision::new(precision).expect("one that a request may have");
        let quantity = precision.quantity(number).map_err(|_| Status::BadData)?.normalize();
        rows.push((scope, attributes.to_vec(), quantity));
    }
    Ok(rows)
}

/// What is asked, then the body of the answer.
pub fn answer(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    match choice % 4 {
        0 => collect(body, &SCOPES, 9),
        1 => collect(body, &[], 0),
        2 => fetch(body),
        _ => refuse(body),
    }
}

fn collect(body: &[u8], scopes: &[&str], precision: u32) {
    let request = request(scopes, precision);
    let found = collected(body.to_vec(), &request);
    assert_ne!(found, Err(Status::Panic));
    if let Ok(rows) = found {
        assert_eq!(Ok(rows), modelled(body, &request, precision));
        let document: Value = serde_json::from_slice(body).expect("rows were taken of it");
        assert_eq!(document["status"], "success");
        assert_ne!(document["isPartial"], true);
    }
}

fn fetch(body: &[u8]) {
    let host = host(200, body.to_vec());
    let config = format!("{CONFIG}\nmetric = \"m\"\nscope_attribute = \"project_id\"\n");
    let fetcher =
        TestFetcher::new::<PrometheusScopes>(&host, &config).expect("a sound configuration");
    let found = fetcher.scopes().map_err(|error| error.status);
    assert_ne!(found, Err(Status::Panic));
    if let Ok(scopes) = found {
        let document: Value = serde_json::from_slice(body).expect("scopes were taken of it");
        let list = document["data"].as_array().expect("scopes were taken of it");
        let mut expected: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
        expected.retain(|scope| !scope.is_empty());
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(scopes, expected);
    }
}

/// A status that is not 200, then a body: never usage.
fn refuse(body: &[u8]) {
    let (status, body) = body.split_at_checked(2).unwrap_or((&[], body));
    let status = status.try_into().map_or(500, u16::from_be_bytes);
    let status = if (201..600).contains(&status) { status } else { 500 };
    let host = host(status, body.to_vec());
    let collector =
        TestCollector::new::<PrometheusCollector>(&host, CONFIG).expect("a sound configuration");
    let error = collector.collect(&request(&SCOPES, 9)).expect_err("it is no answer");
    assert_ne!(error.status, Status::Panic, "{error}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Most bytes of memory that an answer of the corpus may take.
    const MEMORY_SIZE_MAX: u64 = 16 << 20;

    #[test]
    fn any_answer_is_taken_as_it_is_or_refused() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../daemon/fuzz/corpus/prometheus_answer");
        rated_plugin::testing::replay(&corpus, 1, 10_000, |bytes| {
            let used = allocation_counter::measure(|| super::answer(bytes)).bytes_max;
            assert!(used <= MEMORY_SIZE_MAX, "{used} bytes of memory");
        });
    }
}
