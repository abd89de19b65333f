//! Whether what came back is what was promised and asked for.
//!
//! Every function takes batches whose form is sound (`batches`) and says what is wrong with their
//! content in words for the plugin's author. None of them looks at what the numbers mean.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{Array, ArrayRef, Decimal128Array, DictionaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rated_plugin::{CollectRequest, Error, Result};

/// Key of a schema's metadata that names it.
const SCHEMA_KEY: &str = "rated.schema";
const PRECISION: u8 = 38;
/// Most fractional digits.
const SCALE_MAX: i8 = 28;
/// 10^38: what 38 digits cannot hold.
const VALUE_LIMIT: u128 = 100_000_000_000_000_000_000_000_000_000_000_000_000;
/// A power of two below it.
const SHORT_VALUE_LIMIT: i128 = 1 << 126;

fn bad(message: impl Into<String>) -> Error {
    Error::bad_data(message)
}

fn check_name(schema: &Schema, wanted: &str) -> Result<()> {
    match schema.metadata().get(SCHEMA_KEY) {
        Some(name) if name == wanted => Ok(()),
        Some(name) => Err(bad(format!("the schema is `{name}`, `{wanted}` was expected"))),
        None => Err(bad(format!("the schema does not say `{SCHEMA_KEY} = {wanted}`"))),
    }
}

/// The one column of a name.
fn column(schema: &Schema, name: &str) -> Result<usize> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    let (index, _) = found.next().ok_or_else(|| bad(format!("the column `{name}` is missing")))?;
    if found.next().is_some() {
        return Err(bad(format!("the column `{name}` is there twice")));
    }
    Ok(index)
}

fn wrong_type(name: &str, found: &DataType, wanted: &str) -> Error {
    bad(format!("the column `{name}` is of the type {found}, {wanted} was expected"))
}

fn decimals<'a>(batch: &'a RecordBatch, name: &str) -> Result<(usize, &'a Decimal128Array)> {
    let index = column(batch.schema_ref(), name)?;
    let array = batch.column(index);
    let DataType::Decimal128(PRECISION, scale) = *array.data_type() else {
        return Err(wrong_type(name, array.data_type(), "decimal128(38, s)"));
    };
    if !(0..=SCALE_MAX).contains(&scale) {
        let message = format!("the column `{name}` has the scale {scale}, 0 to {SCALE_MAX} are");
        return Err(bad(format!("{message} accepted")));
    }
    let array = array.as_primitive::<Decimal128Type>();
    if array.null_count() > 0 {
        return Err(bad(format!("the column `{name}` has nulls")));
    }
    // The bits of all values together say that none is too long, mostly.
    let all = array.values().iter().fold(0, |all, value| all | (value ^ (value >> 127)));
    let too_long = |value: &&i128| value.unsigned_abs() >= VALUE_LIMIT;
    let found = if all < SHORT_VALUE_LIMIT { None } else { array.values().iter().find(too_long) };
    if let Some(value) = found {
        return Err(bad(format!("{value} in the column `{name}` has more than 38 digits")));
    }
    Ok((index, array))
}

fn texts<'a>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<(usize, &'a DictionaryArray<Int32Type>)> {
    let index = column(batch.schema_ref(), name)?;
    let array = batch.column(index);
    match array.data_type() {
        DataType::Dictionary(key, value)
            if **key == DataType::Int32 && **value == DataType::Utf8 =>
        {
            Ok((index, array.as_dictionary::<Int32Type>()))
        }
        other => Err(wrong_type(name, other, "dictionary<int32, utf8>")),
    }
}

/// What a collector answered to a request: the columns asked for in their order, all others left
/// out.
pub(super) fn usage(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    request: &CollectRequest,
) -> Result<Vec<RecordBatch>> {
    check_name(schema, "usage/1")?;
    let asked: HashSet<&str> = request.scopes.iter().map(String::as_str).collect();
    let metric = &request.metric;
    let groupby = metric.groupby.iter().map(|name| format!("groupby.{name}"));
    let metadata = metric.metadata.iter().map(|name| format!("metadata.{name}"));
    let attributes: Vec<String> = groupby.chain(metadata).collect();
    // With no rows at all the promise is checked all the same.
    let empty = [RecordBatch::new_empty(schema.clone())];
    let checked = if batches.is_empty() { &empty[..] } else { batches };
    let kept = checked
        .iter()
        .map(|batch| {
            let (scope_index, scopes) = texts(batch, "scope_id")?;
            check_scopes(scopes, &asked)?;
            let (qty_index, _) = decimals(batch, "qty")?;
            let mut indices = vec![scope_index, qty_index];
            for name in &attributes {
                indices.push(texts(batch, name)?.0);
            }
            keep(batch, &indices)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(kept.into_iter().filter(|batch| batch.num_rows() > 0).collect())
}

/// Those columns, in that order; what is never null says so.
fn keep(batch: &RecordBatch, indices: &[usize]) -> Result<RecordBatch> {
    let schema = batch.schema_ref();
    let fields: Vec<Field> = indices
        .iter()
        .enumerate()
        .map(|(place, index)| {
            // `scope_id` and `qty` come first.
            schema.field(*index).clone().with_nullable(place >= 2)
        })
        .collect();
    let columns: Vec<ArrayRef> = indices.iter().map(|index| batch.column(*index).clone()).collect();
    let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
    RecordBatch::try_new(schema, columns).map_err(|error| bad(error.to_string()))
}

/// Every row has a scope, and one of those asked for (none = all).
fn check_scopes(scopes: &DictionaryArray<Int32Type>, asked: &HashSet<&str>) -> Result<()> {
    if scopes.logical_null_count() > 0 {
        return Err(bad("the column `scope_id` has nulls"));
    }
    let values = dictionary_values(scopes);
    let fits: Vec<bool> = values
        .iter()
        .map(|value| {
            value.is_some_and(|id| !id.is_empty() && (asked.is_empty() || asked.contains(id)))
        })
        .collect();
    // A dictionary may hold values that no row has.
    let wrong = scopes.keys().values().iter().find_map(|key| {
        let index = usize::try_from(*key).unwrap_or(usize::MAX);
        (!fits.get(index).copied().unwrap_or(false)).then_some(index)
    });
    let Some(index) = wrong else { return Ok(()) };
    if index >= values.len() {
        return Err(bad("a row of `scope_id` is not in its dictionary"));
    }
    let id = values.value(index).escape_debug();
    Err(bad(format!("a row of the scope `{id}`, which was not asked for")))
}

fn dictionary_values(array: &DictionaryArray<Int32Type>) -> &StringArray {
    array.values().as_string::<i32>()
}

/// What a rating module answered: one price for each row.
pub(super) fn prices(batch: &RecordBatch, rows: usize) -> Result<RecordBatch> {
    check_name(batch.schema_ref(), "price/1")?;
    if batch.num_rows() != rows {
        let found = batch.num_rows();
        return Err(bad(format!("{found} prices came back for {rows} rows")));
    }
    let (index, array) = decimals(batch, "price")?;
    let field = Field::new("price", array.data_type().clone(), false);
    let metadata = batch.schema_ref().metadata().clone();
    let schema = Arc::new(Schema::new_with_metadata(vec![field], metadata));
    RecordBatch::try_new(schema, vec![batch.column(index).clone()])
        .map_err(|error| bad(error.to_string()))
}

/// What a fetcher answered.
pub(super) fn scopes(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<String>> {
    check_name(schema, "scopes/1")?;
    let index = column(schema, "scope_id")?;
    let data_type = schema.field(index).data_type();
    if *data_type != DataType::Utf8 {
        return Err(wrong_type("scope_id", data_type, "utf8"));
    }
    let mut found = Vec::new();
    for batch in batches {
        let ids = batch.column(index).as_string::<i32>();
        if ids.null_count() > 0 {
            return Err(bad("the column `scope_id` has nulls"));
        }
        found.extend(ids.iter().flatten().map(str::to_owned));
    }
    Ok(found)
}
