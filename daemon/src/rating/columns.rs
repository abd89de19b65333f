//! Columns that the host adds for rating, and the ones that come back.

use std::sync::{Arc, LazyLock};

use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, Decimal128Array, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow_schema::{Field, Schema};
use chrono::{DateTime, Utc};
use rated_plugin::{Error, Result};

use crate::usage::{calendar_attributes, shape};

const PRECISION_MAX: u8 = 38;

/// Columns that say nothing are made once for batches of up to so many rows: 640 KiB in all.
const SHARED_ROWS: usize = 1 << 15;

/// A price of zero for each row.
pub(super) fn zero_prices(rows: usize) -> Decimal128Array {
    static SHARED: LazyLock<Decimal128Array> = LazyLock::new(|| make_zero_prices(SHARED_ROWS));
    if rows <= SHARED_ROWS { SHARED.slice(0, rows) } else { make_zero_prices(rows) }
}

fn make_zero_prices(rows: usize) -> Decimal128Array {
    Decimal128Array::from(vec![0_i128; rows])
        .with_precision_and_scale(PRECISION_MAX, 0)
        .expect("38 digits and no fraction are within the limits of a decimal column")
}

/// The batch with the attributes that are not stored: the scope key (if any) and the calendar of
/// the period's begin.
///
/// An attribute the metric itself defines under one of these names stays as it is.
pub(super) fn with_derived(
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
        derived.push((name, constant(&value, usage.num_rows())));
    }
    let schema = usage.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut columns = usage.columns().to_vec();
    for (name, column) in derived {
        let taken = ["groupby.", "metadata."]
            .iter()
            .any(|prefix| usage.column_by_name(&format!("{prefix}{name}")).is_some());
        if !taken {
            let field = Field::new(format!("groupby.{name}"), column.data_type().clone(), true);
            fields.push(Arc::new(field));
            columns.push(column);
        }
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(shape)
}

/// The quantities of a `usage/1` batch.
pub(super) fn quantities(usage: &RecordBatch) -> Result<Decimal128Array> {
    decimals(usage, "qty").ok_or_else(|| Error::bad_data("the batch has no decimal column `qty`"))
}

fn decimals(batch: &RecordBatch, name: &str) -> Option<Decimal128Array> {
    batch.column_by_name(name)?.as_any().downcast_ref::<Decimal128Array>().cloned()
}

/// The column of a `price/1` batch.
pub(super) fn prices(answer: &RecordBatch, rows: usize) -> Result<Decimal128Array> {
    let column = decimals(answer, "price")
        .ok_or_else(|| Error::internal("the answer has no decimal column `price`"))?;
    if column.len() != rows || column.null_count() != 0 {
        let nulls = column.null_count();
        let message = format!("expected {rows} prices, got {} ({nulls} null)", column.len());
        return Err(Error::internal(message));
    }
    Ok(column)
}

/// A dictionary column that says the same in each row.
fn constant(value: &str, rows: usize) -> ArrayRef {
    static SHARED: LazyLock<DictionaryArray<Int32Type>> = LazyLock::new(|| blank(SHARED_ROWS));
    let rows = if rows <= SHARED_ROWS { SHARED.slice(0, rows) } else { blank(rows) };
    Arc::new(rows.with_values(Arc::new(StringArray::from(vec![value]))))
}

/// The same with the empty text.
fn blank(rows: usize) -> DictionaryArray<Int32Type> {
    let codes = Int32Array::from(vec![0; rows]);
    DictionaryArray::new(codes, Arc::new(StringArray::from(vec![""])))
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use chrono::TimeZone;

    use super::*;

    #[test]
    fn rating_sees_the_scope_key_and_the_calendar_but_the_metrics_own_attributes_win() {
        let scopes: DictionaryArray<Int32Type> = ["a", "b"].into_iter().collect();
        let months: DictionaryArray<Int32Type> = ["own", "own"].into_iter().collect();
        let columns: [(&str, ArrayRef); 2] =
            [("scope_id", Arc::new(scopes)), ("metadata.month", Arc::new(months))];
        let usage = RecordBatch::try_from_iter(columns).unwrap();
        let begin = Utc.with_ymd_and_hms(2026, 11, 22, 4, 0, 0).unwrap();

        let visible = with_derived(&usage, Some("project_id"), begin).unwrap();

        let schema = visible.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(
            names.join(" "),
            "scope_id metadata.month groupby.project_id groupby.week_of_the_year \
             groupby.day_of_the_year groupby.year"
        );
        let year = visible.column_by_name("groupby.year").unwrap().as_dictionary::<Int32Type>();
        let texts = year.downcast_dict::<StringArray>().unwrap();
        assert_eq!(texts.into_iter().flatten().collect::<Vec<_>>(), ["2026", "2026"]);
    }

    #[test]
    fn columns_that_are_shared_are_as_long_as_the_batch() {
        for rows in [0, 1, SHARED_ROWS, SHARED_ROWS + 1] {
            let year = constant("2026", rows);
            let year = year.as_dictionary::<Int32Type>();
            let texts = year.downcast_dict::<StringArray>().unwrap();

            assert_eq!(texts.into_iter().flatten().filter(|text| *text == "2026").count(), rows);
            assert_eq!(zero_prices(rows).values().iter().filter(|it| **it == 0).count(), rows);
        }
    }
}
