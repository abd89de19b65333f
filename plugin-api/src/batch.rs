//! The columns that pass between host and plugin, with typed views that check a schema once.
//!
//! | schema | column | type | meaning |
//! |---|---|---|---|
//! | `usage/1`, collector to host | `scope_id` | dictionary<int32, utf8>, not null | whose usage the row is |
//! | | `qty` | decimal128(38, s), not null | as the source measured it |
//! | | `groupby.<name>`, `metadata.<name>` | dictionary<int32, utf8> | one for each attribute of the metric; null = absent |
//! | `usage/1`, host to rating module | the same, and `price` | decimal128(38, s), not null | the price so far |
//! | `price/1`, rating module to host | `price` | decimal128(38, s), not null | same rows, same order |
//! | `scopes/1`, fetcher to host | `scope_id` | utf8, not null | |
//!
//! The host hands rating modules more `groupby.` columns than the metric defines: the scope key, `week_of_the_year`,
//! `day_of_the_year`, `month` and `year` of the period's begin.

use arrow_array::{Decimal128Array, DictionaryArray, RecordBatch, types::Int32Type};
use rust_decimal::Decimal;

use crate::Result;

/// Most fractional digits of any quantity or price.
pub const SCALE_MAX: u32 = 28;

/// Batches on their way to the host.
#[derive(Debug)]
pub struct Batches { /* schema + boxed iterator of Result<RecordBatch> + Send */ }

impl Batches {
    /// From one batch.
    pub fn one(batch: RecordBatch) -> Batches { todo!() }
    /// Of schema `scopes/1`.
    pub fn scopes<S: AsRef<str>>(ids: impl IntoIterator<Item = S>) -> Batches { todo!() }
    /// Pulled by the host one at a time; the iterator runs on the host's threads.
    pub fn stream(schema: arrow_schema::SchemaRef, batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static) -> Batches { todo!() }
}

/// Builds a `usage/1` batch row by row; picks the scale so that no digit is lost.
#[derive(Debug)]
pub struct UsageBuilder { }

impl UsageBuilder {
    pub fn new<S: AsRef<str>>(groupby: &[S], metadata: &[S]) -> UsageBuilder { todo!() }
    /// `attributes`: groupby first, then metadata, in the order given to [`UsageBuilder::new`].
    pub fn push(&mut self, scope_id: &str, qty: Decimal, attributes: &[Option<&str>]) -> Result<()> { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// `Err` with the split flag when the values do not fit one decimal column together.
    pub fn finish(self) -> Result<RecordBatch> { todo!() }
}

/// A checked view of a `usage/1` batch.
#[derive(Debug, Clone)]
pub struct UsageBatch<'a> { batch: &'a RecordBatch }

/// An attribute column: codes into a dictionary of texts.
pub type Attribute = DictionaryArray<Int32Type>;

impl<'a> UsageBatch<'a> {
    /// Checks the schema; errors name the column.
    pub fn new(batch: &'a RecordBatch) -> Result<UsageBatch<'a>> { todo!() }
    pub fn rows(&self) -> usize { todo!() }
    pub fn scope_ids(&self) -> &'a Attribute { todo!() }
    pub fn qty(&self) -> &'a Decimal128Array { todo!() }
    /// `None` in a batch from a collector.
    pub fn price(&self) -> Option<&'a Decimal128Array> { todo!() }
    /// The attribute of that name; a groupby one wins over a metadata one.
    pub fn attribute(&self, name: &str) -> Option<&'a Attribute> { todo!() }
    pub fn groupby(&self) -> impl Iterator<Item = (&'a str, &'a Attribute)> { std::iter::empty() }
    pub fn metadata(&self) -> impl Iterator<Item = (&'a str, &'a Attribute)> { std::iter::empty() }
    pub fn qty_at(&self, row: usize) -> Decimal { todo!() }
    pub fn price_at(&self, row: usize) -> Decimal { todo!() }
}

/// Makes and reads `price/1` batches.
#[derive(Debug)]
pub struct PriceBatch;

impl PriceBatch {
    /// Picks the scale so that no digit is lost; `Err` with the split flag when the prices do not fit together.
    pub fn from_prices(prices: &[Decimal]) -> Result<RecordBatch> { todo!() }
    /// The same prices as in `usage`.
    pub fn unchanged(usage: &UsageBatch<'_>) -> Result<RecordBatch> { todo!() }
}

/// A column of decimals in the smallest scale that loses no digit, precision 38.
pub fn decimal_column(values: &[Decimal]) -> Result<Decimal128Array> { todo!() }
