//! Requests to a collector, and its rows as texts.

use rated_plugin::testing::{FakeHost, TestCollector};
use rated_plugin::{
    CollectRequest, DateTime, MetricDefinition, RecordBatch, Result, UsageBatch, text_at,
};
use serde_json::Value;

use crate::GnocchiCollector;

/// 2026-01-01T00:00:00Z.
pub(super) const BEGIN: i64 = 1_767_225_600;

pub(super) const BASIC: &str = "auth_type = \"basic\"\nusername = \"admin\"\n\
     endpoint = \"http://gnocchi.test/\"\nretry_delay_ms = 1\n";

/// The hour from `BEGIN` on, of resources of the type `instance`.
pub(super) fn request(
    more_args: &Value,
    attributes: [&[&str]; 2],
    scopes: &[&str],
) -> CollectRequest {
    let mut extra_args = serde_json::Map::new();
    extra_args.insert("resource_type".to_owned(), Value::from("instance"));
    extra_args.extend(more_args.as_object().unwrap().clone());
    let [groupby, metadata] = attributes;
    CollectRequest {
        metric: MetricDefinition { extra_args, ..MetricDefinition::new("cpu") }
            .with_groupby(groupby.iter().copied())
            .with_metadata(metadata.iter().copied()),
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::from_timestamp(BEGIN, 0).unwrap(),
        end: DateTime::from_timestamp(BEGIN + 3600, 0).unwrap(),
    }
}

pub(super) fn collect(host: &FakeHost, request: &CollectRequest) -> Result<RecordBatch> {
    let collector = TestCollector::new::<GnocchiCollector>(host, BASIC).unwrap();
    let mut batches = collector.collect(request)?;
    assert_eq!(batches.len(), 1);
    Ok(batches.remove(0))
}

/// `scope [attributes] = quantity`, sorted; of ids only the end.
pub(super) fn rows(batch: &RecordBatch) -> Vec<String> {
    let usage = UsageBatch::new(batch).unwrap();
    let columns = || usage.groupby().chain(usage.metadata());
    let mut rows: Vec<String> = (0..usage.rows())
        .map(|row| {
            let texts: Vec<&str> =
                columns().map(|(_, column)| text_at(column, row).unwrap()).collect();
            let attributes = texts.join(" ").replace("00000000-0000-4000-8000-000000000", "#");
            let (scope, quantity) = (usage.scope_at(row), usage.qty_at(row).normalize());
            format!("{scope} [{attributes}] = {quantity}")
        })
        .collect();
    rows.sort();
    rows
}
