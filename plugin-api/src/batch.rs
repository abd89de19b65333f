//! The columns that pass between host and plugin, with typed views that check a schema once.
//!
//! | schema | column | type | meaning |
//! |---|---|---|---|
//! | `usage/1`, from a collector | `scope_id` | text code, not null | whose usage the row is |
//! | | `qty` | decimal, not null | as the source measured it |
//! | | `groupby.<name>`, `metadata.<name>` | text code | an attribute; null = absent |
//! | `usage/1`, to a rating module | the same, and `price` | decimal, not null | the price so far |
//! | `price/1`, from a rating module | `price` | decimal, not null | same rows, same order |
//! | `scopes/1`, from a fetcher | `scope_id` | utf8, not null | |
//!
//! A *text code* is `dictionary<int32, utf8>`, a *decimal* `decimal128(38, s)`. A collector gives
//! one column for each attribute of the metric's definition and no other.
//!
//! The scale `s` is between 0 and 28 and free for each batch; a number without its trailing zeros
//! has at most 96 bits (28 digits always fit). The host hands rating modules more `groupby.`
//! columns than the metric defines: the scope key, `week_of_the_year`, `day_of_the_year`, `month`
//! and `year` of the period's begin.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{Array, ArrayRef, Decimal128Array, DictionaryArray, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Schema};
use rust_decimal::Decimal;

use crate::decimal::{check_decimals, decimal_column, read, unscaled_column};
use crate::{Error, Result};

/// The key of a schema's metadata that names its schema and version.
pub const SCHEMA_KEY: &str = "rated.schema";
/// [`SCHEMA_KEY`] of usage batches.
pub const SCHEMA_USAGE: &str = "usage/1";
/// [`SCHEMA_KEY`] of price batches.
pub const SCHEMA_PRICE: &str = "price/1";
/// [`SCHEMA_KEY`] of scope batches.
pub const SCHEMA_SCOPES: &str = "scopes/1";
/// The key of a schema's metadata that says in which unit the quantities of a usage batch are; the
/// host sets it where it knows the metric.
pub const UNIT_KEY: &str = "rated.unit";
/// The key of a column's metadata that says how its texts are to be read.
pub const ENCODING_KEY: &str = "rated.encoding";
/// [`ENCODING_KEY`] of a column whose texts are JSON values.
pub const ENCODING_JSON: &str = "json";

/// The column that says whose usage a row is.
pub const SCOPE_ID: &str = "scope_id";
/// The column of quantities.
pub const QTY: &str = "qty";
/// The column of prices.
pub const PRICE: &str = "price";
/// What the columns of groupable attributes begin with.
pub const GROUPBY_PREFIX: &str = "groupby.";
/// What the columns of the other attributes begin with.
pub const METADATA_PREFIX: &str = "metadata.";

/// An attribute column: codes into a dictionary of texts.
pub type Attribute = DictionaryArray<Int32Type>;

/// The type of an attribute column.
pub fn attribute_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// The metadata of a schema: its name and version under [`SCHEMA_KEY`].
pub fn schema_metadata(schema: &str) -> HashMap<String, String> {
    HashMap::from([(SCHEMA_KEY.to_owned(), schema.to_owned())])
}

pub(crate) fn assemble(
    schema: &str,
    fields: Vec<FieldRef>,
    columns: Vec<ArrayRef>,
) -> Result<RecordBatch> {
    let schema = Schema::new_with_metadata(fields, schema_metadata(schema));
    RecordBatch::try_new(Arc::new(schema), columns)
        .map_err(|error| Error::internal(error.to_string()))
}

pub(crate) fn decimal_field(name: &str, column: &Decimal128Array) -> FieldRef {
    Arc::new(Field::new(name, column.data_type().clone(), false))
}

/// A batch of schema `scopes/1`.
pub(crate) fn scopes_batch<S: AsRef<str>>(ids: impl IntoIterator<Item = S>) -> RecordBatch {
    let ids = StringArray::from_iter_values(ids);
    let field = Arc::new(Field::new(SCOPE_ID, DataType::Utf8, false));
    assemble(SCHEMA_SCOPES, vec![field], vec![Arc::new(ids)])
        .expect("one column of the type its field names")
}

/// A checked view of a `usage/1` batch.
///
/// Attributes are dictionaries: a rater does its work once for each distinct text, not for each
/// row.
///
/// ```
/// use rated_plugin::{Decimal, UsageBatch, UsageBuilder, text_at};
/// # let mut rows = UsageBuilder::new(&["id"], &["flavor"]);
/// # rows.push("alice", Decimal::ONE, &[Some("vm-1"), Some("small")])?;
/// # rows.push("bob", Decimal::TWO, &[Some("vm-2"), None])?;
/// # let batch = rows.finish()?;
///
/// let usage = UsageBatch::new(&batch)?;
/// assert_eq!(usage.rows(), 2);
/// assert_eq!(usage.qty_at(1), Decimal::TWO);
/// assert_eq!(usage.price_at(1), Decimal::ZERO); // a collector's batch has no price yet
///
/// let flavor = usage.attribute("flavor").expect("the metric has it");
/// assert_eq!(text_at(flavor, 0), Some("small"));
/// assert_eq!(text_at(flavor, 1), None);
/// assert!(usage.attribute("color").is_none());
/// # Ok::<(), rated_plugin::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct UsageBatch<'a> {
    batch: &'a RecordBatch,
    scope_ids: &'a Attribute,
    qty: Numbers<'a>,
    price: Option<Numbers<'a>>,
}

/// A column of numbers, and a range that holds them all.
#[derive(Debug, Clone, Copy)]
struct Numbers<'a> {
    column: &'a Decimal128Array,
    least: i128,
    most: i128,
}

impl<'a> UsageBatch<'a> {
    /// Checks names, types, nulls and that every number fits a [`Decimal`]; errors name the column.
    pub fn new(batch: &'a RecordBatch) -> Result<UsageBatch<'a>> {
        check_schema_name(batch, SCHEMA_USAGE)?;
        for field in batch.schema_ref().fields() {
            let is_attribute = field.name().starts_with(GROUPBY_PREFIX)
                || field.name().starts_with(METADATA_PREFIX);
            if is_attribute && *field.data_type() != attribute_type() {
                return Err(wrong_type(field.name(), "dictionary<int32, utf8>", field.data_type()));
            }
        }
        let scope_ids = attribute_column(batch, SCOPE_ID)?
            .ok_or_else(|| Error::bad_data(format!("column `{SCOPE_ID}` is missing")))?;
        if scope_ids.logical_null_count() > 0 {
            return Err(Error::bad_data(format!("column `{SCOPE_ID}` has a row without a value")));
        }
        let qty = numbers(batch, QTY)?
            .ok_or_else(|| Error::bad_data(format!("column `{QTY}` is missing")))?;
        Ok(UsageBatch { batch, scope_ids, qty, price: numbers(batch, PRICE)? })
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// Whose usage each row is; without nulls.
    pub fn scope_ids(&self) -> &'a Attribute {
        self.scope_ids
    }

    /// What was measured; without nulls.
    pub fn qty(&self) -> &'a Decimal128Array {
        self.qty.column
    }

    /// A range that holds every value of [`UsageBatch::qty`], unscaled
    /// (see [`crate::decimal::check_decimals`]).
    pub fn qty_range(&self) -> RangeInclusive<i128> {
        self.qty.least..=self.qty.most
    }

    /// The price so far; `None` in a batch from a collector.
    pub fn price(&self) -> Option<&'a Decimal128Array> {
        self.price.map(|price| price.column)
    }

    /// The same for [`UsageBatch::price`]; from 0 to 0 when no row has a price yet.
    pub fn price_range(&self) -> RangeInclusive<i128> {
        self.price.map_or(0..=0, |price| price.least..=price.most)
    }

    /// The unit of the quantities, a label for people; empty where the host knows none.
    pub fn unit(&self) -> &'a str {
        self.batch.schema_ref().metadata().get(UNIT_KEY).map_or("", String::as_str)
    }

    /// The attribute of that name; a groupby one wins over a metadata one.
    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        let find = |prefix: &str| {
            self.attributes(prefix).find(|(found, _)| *found == name).map(|(_, column)| column)
        };
        find(GROUPBY_PREFIX).or_else(|| find(METADATA_PREFIX))
    }

    /// The groupable attributes, in column order.
    pub fn groupby(&self) -> impl Iterator<Item = (&'a str, &'a Attribute)> + use<'a> {
        self.attributes(GROUPBY_PREFIX)
    }

    /// The other attributes, in column order.
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a Attribute)> + use<'a> {
        self.attributes(METADATA_PREFIX)
    }

    fn attributes<'p>(
        &self,
        prefix: &'p str,
    ) -> impl Iterator<Item = (&'a str, &'a Attribute)> + use<'a, 'p> {
        let batch = self.batch;
        batch.schema_ref().fields().iter().zip(batch.columns()).filter_map(
            move |(field, column)| {
                let name = field.name().strip_prefix(prefix)?;
                Some((name, column.as_dictionary_opt::<Int32Type>()?))
            },
        )
    }

    /// The scope of a row.
    pub fn scope_at(&self, row: usize) -> &'a str {
        text_at(self.scope_ids, row).expect("checked by UsageBatch::new: no nulls")
    }

    /// The quantity of a row.
    pub fn qty_at(&self, row: usize) -> Decimal {
        checked_decimal(self.qty.column, row)
    }

    /// The price so far of a row; 0 in a batch from a collector.
    pub fn price_at(&self, row: usize) -> Decimal {
        self.price.map_or(Decimal::ZERO, |price| checked_decimal(price.column, row))
    }

    /// The same rows with that price column, which replaces the one there was.
    pub fn with_price(&self, price: Decimal128Array) -> Result<RecordBatch> {
        let schema = self.batch.schema_ref();
        let old = schema.fields().iter().zip(self.batch.columns());
        let (mut fields, mut columns): (Vec<FieldRef>, Vec<ArrayRef>) = old
            .filter(|(field, _)| field.name() != PRICE)
            .map(|(field, column)| (field.clone(), column.clone()))
            .unzip();
        fields.push(decimal_field(PRICE, &price));
        columns.push(Arc::new(price));
        let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
        RecordBatch::try_new(Arc::new(schema), columns)
            .map_err(|error| Error::bad_data(error.to_string()))
    }
}

/// The text in a row of an attribute column; `None` = absent.
pub fn text_at(column: &Attribute, row: usize) -> Option<&str> {
    let code = column.is_valid(row).then(|| column.keys().value(row))?;
    let texts = column.values().as_string_opt::<i32>()?;
    let index = usize::try_from(code).ok().filter(|index| texts.is_valid(*index))?;
    Some(texts.value(index))
}

fn checked_decimal(column: &Decimal128Array, row: usize) -> Decimal {
    let scale = u32::try_from(column.scale()).expect("checked by UsageBatch::new: 0 to 28");
    read(column.value(row), scale).expect("checked by UsageBatch::new: fits 96 bits")
}

fn check_schema_name(batch: &RecordBatch, wanted: &str) -> Result<()> {
    match batch.schema_ref().metadata().get(SCHEMA_KEY).map(String::as_str) {
        Some(found) if found == wanted => Ok(()),
        Some(found) => Err(Error::bad_data(format!("schema `{found}` where `{wanted}` is due"))),
        None => Err(Error::bad_data(format!("no `{SCHEMA_KEY}` where `{wanted}` is due"))),
    }
}

fn wrong_type(column: &str, wanted: &str, found: &DataType) -> Error {
    Error::bad_data(format!("column `{column}` is {found}, must be {wanted}"))
}

fn attribute_column<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a Attribute>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    match column.as_dictionary_opt::<Int32Type>() {
        Some(found) if *column.data_type() == attribute_type() => Ok(Some(found)),
        _ => Err(wrong_type(name, "dictionary<int32, utf8>", column.data_type())),
    }
}

fn numbers<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<Numbers<'a>>> {
    let Some(column) = batch.column_by_name(name) else { return Ok(None) };
    let found = column
        .as_primitive_opt::<Decimal128Type>()
        .ok_or_else(|| wrong_type(name, "decimal128", column.data_type()))?;
    let range = check_decimals(found)
        .map_err(|error| Error::bad_data(format!("column `{name}`: {}", error.message)))?;
    Ok(Some(Numbers { column: found, least: *range.start(), most: *range.end() }))
}

/// Makes and reads `price/1` batches.
///
/// ```
/// use rated_plugin::{Decimal, PriceBatch};
///
/// let batch = PriceBatch::from_prices(&[Decimal::new(25, 2), Decimal::ZERO])?;
///
/// assert_eq!(PriceBatch::read(&batch, 2)?.value(0), 25);
/// assert!(PriceBatch::read(&batch, 3).is_err());
/// # Ok::<(), rated_plugin::Error>(())
/// ```
#[derive(Debug)]
pub struct PriceBatch;

impl PriceBatch {
    /// Picks the scale so that no digit is lost; `Err` with the split flag when the prices do not
    /// fit together.
    pub fn from_prices(prices: &[Decimal]) -> Result<RecordBatch> {
        PriceBatch::from_column(decimal_column(prices)?)
    }

    /// From a column that is there already.
    pub fn from_column(prices: Decimal128Array) -> Result<RecordBatch> {
        let field = decimal_field(PRICE, &prices);
        assemble(SCHEMA_PRICE, vec![field], vec![Arc::new(prices)])
    }

    /// The same prices as in `usage`.
    pub fn unchanged(usage: &UsageBatch<'_>) -> Result<RecordBatch> {
        match usage.price() {
            Some(price) => PriceBatch::from_column(price.clone()),
            None => PriceBatch::from_column(unscaled_column(vec![0; usage.rows()], 0)?),
        }
    }

    /// Checks that `batch` is of schema `price/1`, has `rows` rows and that every price fits a
    /// [`Decimal`]; its column.
    pub fn read(batch: &RecordBatch, rows: usize) -> Result<&Decimal128Array> {
        check_schema_name(batch, SCHEMA_PRICE)?;
        let prices = numbers(batch, PRICE)?
            .ok_or_else(|| Error::bad_data(format!("column `{PRICE}` is missing")))?
            .column;
        if prices.len() == rows {
            return Ok(prices);
        }
        Err(Error::bad_data(format!("{} prices for {rows} rows of usage", prices.len())))
    }
}

/// Checks that `batch` is of schema `scopes/1`; its column.
pub fn read_scopes(batch: &RecordBatch) -> Result<&StringArray> {
    check_schema_name(batch, SCHEMA_SCOPES)?;
    let column = batch
        .column_by_name(SCOPE_ID)
        .ok_or_else(|| Error::bad_data(format!("column `{SCOPE_ID}` is missing")))?;
    let ids = column
        .as_string_opt::<i32>()
        .ok_or_else(|| wrong_type(SCOPE_ID, "utf8", column.data_type()))?;
    if ids.null_count() > 0 {
        return Err(Error::bad_data(format!("column `{SCOPE_ID}` has a row without a value")));
    }
    Ok(ids)
}
