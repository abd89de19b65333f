//! Columns that the host adds for rating, and the ones that come back.

use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use chrono::{DateTime, Utc};
use rated_plugin::{Error, Result};

use crate::usage::calendar_attributes;

const PRECISION_MAX: u8 = 38;

/// A price of zero for each row.
pub fn zero_prices(rows: usize) -> Decimal128Array {
    Decimal128Array::from(vec![0_i128; rows])
        .with_precision_and_scale(PRECISION_MAX, 0)
        .expect("38 digits and no fraction are within the limits of a decimal column")
}

/// The batch with the attributes that are not stored: the scope key (if any) and the calendar of
/// the period's begin.
///
/// An attribute the metric itself defines under one of these names stays as it is.
pub fn with_derived(
    usage: &RecordBatch,
    scope_key: Option<&str>,
    begin: DateTime<Utc>,
) -> Result<RecordBatch> {
    let scope_ids = usage
        .column_by_name("scope_id")
        .ok_or_else(|| Error::bad_data("the batch has no column `scope_id`"))?;
    let mut derived: Vec<(&str, ArrayRef)> = Vec::new();
    derived.extend(scope_key.map(|scope_key| (scope_key, Arc::clone(scope_ids))));
    for (name, value) in calendar_attributes(begin) {
        derived.push((name, constant(&value, usage.num_rows())?));
    }
    let mut fields: Vec<_> = usage.schema().fields().iter().cloned().collect();
    let mut columns = usage.columns().to_vec();
    for (name, column) in derived {
        let field = format!("groupby.{name}");
        if usage.column_by_name(&field).is_none() {
            fields.push(Arc::new(Field::new(field, column.data_type().clone(), true)));
            columns.push(column);
        }
    }
    let schema = Schema::new_with_metadata(fields, usage.schema().metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(shape)
}

/// The batch with its column `price` set to these.
pub fn with_price(usage: &RecordBatch, prices: Decimal128Array) -> Result<RecordBatch> {
    let field = Arc::new(Field::new("price", prices.data_type().clone(), false));
    let schema = usage.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut columns = usage.columns().to_vec();
    if let Ok(index) = schema.index_of("price") {
        fields[index] = field;
        columns[index] = Arc::new(prices);
    } else {
        fields.push(field);
        columns.push(Arc::new(prices));
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(shape)
}

/// The column of a `price/1` batch.
pub(super) fn prices(answer: &RecordBatch, rows: usize) -> Result<Decimal128Array> {
    let column = answer
        .column_by_name("price")
        .and_then(|column| column.as_any().downcast_ref::<Decimal128Array>())
        .ok_or_else(|| Error::internal("the answer has no decimal column `price`"))?;
    if column.len() != rows || column.null_count() != 0 {
        let message = format!(
            "expected {rows} prices, got {} ({} of them null)",
            column.len(),
            column.null_count()
        );
        return Err(Error::internal(message));
    }
    Ok(column.clone())
}

/// A dictionary column that says the same in each row.
fn constant(value: &str, rows: usize) -> Result<ArrayRef> {
    let codes = Int32Array::from(vec![0; rows]);
    let values = Arc::new(StringArray::from(vec![value]));
    let column = DictionaryArray::<Int32Type>::try_new(codes, values).map_err(shape)?;
    debug_assert!(matches!(column.data_type(), DataType::Dictionary(..)));
    Ok(Arc::new(column))
}

// By value for `map_err`.
#[expect(clippy::needless_pass_by_value)]
fn shape(error: ArrowError) -> Error {
    Error::bad_data(format!("the columns do not fit together: {error}"))
}
