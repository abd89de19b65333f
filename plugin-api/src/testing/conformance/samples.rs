//! Requests and usage that no plugin has seen before.

use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Duration, Utc};
use rust_decimal::Decimal;

use crate::decimal::decimal_column;
use crate::{
    CollectRequest, Error, MetricDefinition, Purpose, RateRequest, Result, UsageBatch, UsageBuilder,
};

/// 2026-01-01T00:00:00Z, where the clock of the host in memory starts.
pub(super) fn begin() -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_225_600, 0).expect("a time within range")
}

pub(super) fn collect_request(scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            name: "conformance_metric".to_owned(),
            alt_name: "conformance".to_owned(),
            unit: "piece".to_owned(),
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor".to_owned()],
            extra_args: serde_json::Map::new(),
        },
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        begin: begin() - Duration::hours(2),
        end: begin() - Duration::hours(1),
    }
}

pub(super) fn rate_request(purpose: Purpose) -> RateRequest {
    RateRequest {
        purpose,
        metric: "conformance".to_owned(),
        begin: begin() - Duration::hours(2),
        end: begin() - Duration::hours(1),
    }
}

/// Usage as the host gives it: some attributes absent, quantities of all sizes, a price so far.
pub(super) fn usage(rows: usize) -> Result<RecordBatch> {
    let quantities = [
        Decimal::ZERO,
        Decimal::ONE,
        Decimal::new(-25, 1),
        Decimal::new(1, 12),
        Decimal::from(1_000_000_000_000_u64),
        Decimal::new(123_456_789, 9),
    ];
    let mut batch = UsageBuilder::new(&["id", "project_id"], &["flavor", "größe"]);
    for row in 0..rows {
        let id = format!("resource-{row}");
        let scope = ["scope-a", "scope-b"][row % 2];
        let flavor = [Some("small"), None, Some("")][row % 3];
        let attributes = [Some(id.as_str()), Some(scope), flavor, Some("名前 \u{1f980}")];
        batch.push(scope, quantities[row % quantities.len()], &attributes)?;
    }
    priced(&batch.finish()?)
}

/// Usage of a metric without attributes.
pub(super) fn bare_usage(rows: usize) -> Result<RecordBatch> {
    let mut batch = UsageBuilder::new::<&str>(&[], &[]);
    for _ in 0..rows {
        batch.push("scope-a", Decimal::TEN, &[])?;
    }
    priced(&batch.finish()?)
}

/// With an attribute column that is null in every row, and one that nobody knows.
pub(super) fn odd_usage(rows: usize) -> Result<RecordBatch> {
    let mut batch = UsageBuilder::new(&["conformance-unknown"], &["flavor"]);
    for _ in 0..rows {
        batch.push("scope-a", Decimal::TEN, &[Some("?"), None])?;
    }
    priced(&batch.finish()?)
}

fn priced(batch: &RecordBatch) -> Result<RecordBatch> {
    let prices: Vec<Decimal> = (0..batch.num_rows())
        .map(|row| Decimal::new(i64::try_from(row % 7).unwrap_or(0), 2))
        .collect();
    UsageBatch::new(batch)?.with_price(decimal_column(&prices)?)
}

/// The same usage with a column that a later version may add.
pub(super) fn with_extra_column(usage: &RecordBatch) -> Result<RecordBatch> {
    use arrow_schema::{DataType, Field, Schema};
    let mut fields: Vec<_> = usage.schema_ref().fields().iter().cloned().collect();
    let mut columns = usage.columns().to_vec();
    let flags: arrow_array::BooleanArray =
        (0..usage.num_rows()).map(|row| Some(row % 2 == 0)).collect();
    fields.push(Arc::new(Field::new("added_later", DataType::Boolean, true)));
    columns.push(Arc::new(flags));
    let schema = Schema::new_with_metadata(fields, usage.schema_ref().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns)
        .map_err(|error| Error::internal(error.to_string()))
}
