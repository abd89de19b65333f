//! Answers as a fuzzer has them: what is taken is what the document says, all of it, and there is
//! no doubt about any of it.

use std::collections::{BTreeMap, BTreeSet};

use rated_plugin::decimal::Precision;
use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{
    CollectRequest, DateTime, HttpResponse, MetricDefinition, RecordBatch, Status, UsageBatch,
    text_at,
};
use serde_json::{Value, json};

use crate::{GnocchiCollector, GnocchiScopes, KeystoneProjects};

const SCOPES: [&str; 2] = ["a", "bb"];
const BASIC: &str = "auth_type = \"basic\"\nusername = \"admin\"\n\
     endpoint = \"http://gnocchi.test/\"\nretry_delay_ms = 1\nretries_max = 0\n";

const KEYSTONE: &str = "auth_url = \"http://keystone.test/v3\"\nusername = \"rated\"\n\
     password = \"secret\"\nproject_name = \"service\"\nretry_delay_ms = 1\nretries_max = 0\n";

/// What is asked, then the answers one after the other, a NUL between two.
///
/// An answer that begins with a digit is one with another status and without it: 2 is 201 (with a
/// token in its head, as Keystone has it), 4 is 401, 5 is 501; one that begins with `>` has a next
/// page.
pub fn answers(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let host = FakeHost::new();
    let bodies: Vec<&[u8]> = bytes.split(|byte| *byte == 0).collect();
    for body in &bodies {
        host.answer(Ok(answer(body)));
    }
    match choice % 5 {
        0 => collect(&host, bodies[0]),
        1 => {
            let metric = metric(&["id"], &["flavor"]);
            drop(sound(collected(&host, &request(metric, &SCOPES))));
        }
        2 => fetch_scopes(&host, BASIC),
        3 => fetch_projects(&host),
        // The address is in the catalogue of the token.
        _ => fetch_scopes(&host, KEYSTONE),
    }
}

fn answer(body: &[u8]) -> HttpResponse {
    let header = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let (status, headers) = match body.first() {
        Some(b'2') => (201, header("x-subject-token", "token")),
        Some(digit @ b'3'..=b'5') => (u16::from(digit - b'0') * 100 + 1, BTreeMap::new()),
        Some(b'>') => (200, header("link", "<http://gnocchi.test/v1/x?marker=1>; rel=\"next\"")),
        _ => return HttpResponse { status: 200, headers: BTreeMap::new(), body: body.to_vec() },
    };
    HttpResponse { status, headers, body: body[1..].to_vec() }
}

/// A panic within the plugin is an error for its caller, but not for us.
fn sound<T>(result: rated_plugin::Result<T>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            assert_ne!(error.status, Status::Panic, "{error}");
            None
        }
    }
}

fn metric(groupby: &[&str], metadata: &[&str]) -> MetricDefinition {
    let extra_args = json!({"resource_type": "instance", "use_all_resource_revisions": true});
    let extra_args = extra_args.as_object().expect("it is one").clone();
    MetricDefinition { extra_args, ..MetricDefinition::new("cpu") }
        .with_groupby(groupby.iter().copied())
        .with_metadata(metadata.iter().copied())
}

fn request(metric: MetricDefinition, scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric,
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::UNIX_EPOCH,
        end: DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(1),
    }
}

fn collected(host: &FakeHost, request: &CollectRequest) -> rated_plugin::Result<RecordBatch> {
    let collector =
        TestCollector::new::<GnocchiCollector>(host, BASIC).expect("a sound configuration");
    Ok(collector.collect(request)?.remove(0))
}

/// `scope id quantity` of each row, sorted.
fn collect(host: &FakeHost, body: &[u8]) {
    let request = request(metric(&["name"], &[]), &SCOPES);
    let Some(batch) = sound(collected(host, &request)) else { return };
    let usage = UsageBatch::new(&batch).expect("the test kit has checked it");
    let names = usage.attribute("name").expect("the test kit has checked it");
    let row = |row| {
        let name = text_at(names, row).expect("never null");
        format!("{} {name} {}", usage.scope_at(row), usage.qty_at(row).normalize())
    };
    let mut rows: Vec<String> = (0..usage.rows()).map(row).collect();
    rows.sort();

    assert_eq!(rows, modelled(body));
}

fn modelled(body: &[u8]) -> Vec<String> {
    let document: Value = serde_json::from_slice(body).expect("rows were taken of it");
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    for group in document.as_array().expect("rows were taken of it") {
        let attribute = |name: &str| match &group["group"][name] {
            Value::String(text) => text.clone(),
            Value::Null => "None".to_owned(),
            Value::Bool(true) => "True".to_owned(),
            Value::Bool(false) => "False".to_owned(),
            other => other.to_string(),
        };
        let scope = attribute("project_id");
        assert!(SCOPES.contains(&&*scope), "a scope that was not asked for: `{scope}`");
        let is_new =
            seen.insert(["project_id", "name", "id"].map(|of| group["group"][of].to_string()));
        assert!(is_new, "a group came twice");
        let values = group["measures"]["measures"]["aggregated"].as_array();
        let Some(first) = values.expect("rows were taken of it").first() else { continue };
        let quantity = Precision::ALL.quantity(&first[2].to_string());
        let quantity = quantity.expect("rows were taken of it").normalize();
        rows.push(format!("{scope} {} {quantity}", attribute("name")));
    }
    rows.sort();
    rows
}

fn check_scopes(scopes: &[String]) {
    assert!(scopes.is_sorted_by(|left, right| left < right), "{scopes:?}");
    assert!(scopes.iter().all(|scope| !scope.is_empty()));
}

fn fetch_scopes(host: &FakeHost, config: &str) {
    let fetcher = TestFetcher::new::<GnocchiScopes>(host, config).expect("a sound configuration");
    if let Some(scopes) = sound(fetcher.scopes()) {
        check_scopes(&scopes);
    }
}

fn fetch_projects(host: &FakeHost) {
    let fetcher =
        TestFetcher::new::<KeystoneProjects>(host, KEYSTONE).expect("a sound configuration");
    if let Some(scopes) = sound(fetcher.scopes()) {
        check_scopes(&scopes);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Most bytes of memory that the answers of an input may take.
    const MEMORY_SIZE_MAX: u64 = 16 << 20;

    #[test]
    fn any_answers_are_taken_as_they_are_or_refused() {
        let corpus =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../daemon/fuzz/corpus/gnocchi_answers");
        rated_plugin::testing::replay(&corpus, 1, 5_000, |bytes| {
            let used = allocation_counter::measure(|| super::answers(bytes)).bytes_max;
            assert!(used <= MEMORY_SIZE_MAX, "{used} bytes of memory");
        });
    }
}
