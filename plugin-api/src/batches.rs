//! Batches on their way to the host.

use std::fmt;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Decimal128Type;
use arrow_array::{ArrayRef, Decimal128Array, RecordBatch};
use arrow_schema::{DataType, Schema, SchemaRef};

use crate::batch::scopes_batch;
use crate::{Call, Error, Result};

type Source = Box<dyn FnMut(&Call) -> Option<Result<RecordBatch>> + Send>;

/// Batches on their way to the host, which pulls them one at a time.
///
/// All batches have one schema. One whose decimal columns have a smaller scale than the schema says
/// is brought to it (no digit is lost; when the numbers do not fit, the error has the split flag);
/// any other difference is an error.
///
/// ```
/// use rated_plugin::{Batches, Decimal, UsageBuilder};
///
/// let rows = |qty: Decimal| {
///     let mut rows = UsageBuilder::new::<&str>(&[], &[]);
///     rows.push("alice", qty, &[])?;
///     rows.finish()
/// };
/// let pages = [Decimal::ONE, Decimal::new(125, 3)];
///
/// // All at once; the scale that holds both is found.
/// let all = Batches::many(pages.iter().map(|qty| rows(*qty)).collect::<Result<_, _>>()?)?;
/// // One at a time; the schema, with its scale, is said first.
/// let schema = rows(Decimal::new(1, 6))?.schema();
/// let streamed = Batches::stream(schema, pages.into_iter().map(rows));
/// # assert_eq!(all.schema().field(1).data_type().to_string(), "Decimal128(38, 3)");
/// # assert_eq!(streamed.schema().field(1).data_type().to_string(), "Decimal128(38, 6)");
/// # Ok::<(), rated_plugin::Error>(())
/// ```
pub struct Batches {
    schema: SchemaRef,
    source: Source,
}

impl Batches {
    /// From one batch.
    pub fn one(batch: RecordBatch) -> Batches {
        Batches::stream(batch.schema(), std::iter::once(Ok(batch)))
    }

    /// From several batches that differ at most in the scales of their decimal columns; the widest
    /// one is taken.
    ///
    /// `Internal` when there is none: an empty answer still has a schema, see [`Batches::one`].
    pub fn many(batches: Vec<RecordBatch>) -> Result<Batches> {
        let schema = batches
            .iter()
            .map(RecordBatch::schema)
            .reduce(|a, b| widest(&a, &b))
            .ok_or_else(|| Error::internal("no batch, so no schema"))?;
        Ok(Batches::stream(schema, batches.into_iter().map(Ok)))
    }

    /// Of schema `scopes/1`.
    pub fn scopes<S: AsRef<str>>(ids: impl IntoIterator<Item = S>) -> Batches {
        Batches::one(scopes_batch(ids))
    }

    /// Pulled by the host one at a time; the iterator runs on the host's threads. It ends at the
    /// first error.
    ///
    /// The host asks for cancellation between batches; an iterator that works long on one should
    /// ask itself, see [`Batches::from_fn`].
    pub fn stream(
        schema: SchemaRef,
        batches: impl Iterator<Item = Result<RecordBatch>> + Send + 'static,
    ) -> Batches {
        let mut batches = batches;
        Batches::from_fn(schema, move |_| batches.next())
    }

    /// Like [`Batches::stream`], from a function that is given the call in which it runs.
    pub fn from_fn(
        schema: SchemaRef,
        next: impl FnMut(&Call) -> Option<Result<RecordBatch>> + Send + 'static,
    ) -> Batches {
        Batches { schema, source: Box::new(next) }
    }

    /// What every batch will look like.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The next batch, of exactly that schema.
    pub(crate) fn next(&mut self, call: &Call) -> Option<Result<RecordBatch>> {
        if let Err(error) = call.check_cancelled() {
            return Some(Err(error));
        }
        let batch = (self.source)(call)?;
        Some(batch.and_then(|batch| conform(batch, &self.schema)))
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// `a` with the larger scale of the two wherever both have a decimal column of one name.
fn widest(a: &SchemaRef, b: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = a
        .fields()
        .iter()
        .map(|field| match (field.data_type(), b.field_with_name(field.name())) {
            (DataType::Decimal128(_, here), Ok(other)) => match other.data_type() {
                wide @ DataType::Decimal128(_, there) if there > here => {
                    Arc::new(field.as_ref().clone().with_data_type(wide.clone()))
                }
                _ => field.clone(),
            },
            _ => field.clone(),
        })
        .collect();
    Arc::new(Schema::new_with_metadata(fields, a.metadata().clone()))
}

/// The host imports every batch by the stream's schema, so a batch of another one would be read as
/// what it is not.
fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(batch.schema_ref(), schema) || batch.schema_ref() == schema {
        return Ok(batch);
    }
    if batch.num_columns() != schema.fields().len() {
        return Err(Error::internal("a batch has other columns than its stream's schema"));
    }
    let columns = batch
        .schema_ref()
        .fields()
        .iter()
        .zip(batch.columns())
        .zip(schema.fields())
        .map(|((found, column), wanted)| {
            if found.name() != wanted.name() {
                return Err(Error::internal(format!(
                    "column `{}` of a batch stands where its stream's schema has `{}`",
                    found.name(),
                    wanted.name()
                )));
            }
            column_as(column, wanted.name(), wanted.data_type())
        })
        .collect::<Result<Vec<ArrayRef>>>()?;
    RecordBatch::try_new(schema.clone(), columns)
        .map_err(|error| Error::internal(error.to_string()))
}

fn column_as(column: &ArrayRef, name: &str, wanted: &DataType) -> Result<ArrayRef> {
    if column.data_type() == wanted {
        return Ok(column.clone());
    }
    let wider = match (column.as_primitive_opt::<Decimal128Type>(), wanted) {
        (Some(column), DataType::Decimal128(38, scale)) => widen(column, *scale)?,
        _ => None,
    };
    wider.map(|column| Arc::new(column) as ArrayRef).ok_or_else(|| {
        Error::internal(format!(
            "column `{name}` of a batch is {}, its stream's schema says {wanted}",
            column.data_type()
        ))
    })
}

/// `None` when `scale` is smaller than the column's.
fn widen(column: &Decimal128Array, scale: i8) -> Result<Option<Decimal128Array>> {
    let Some(digits) = u32::try_from(i32::from(scale) - i32::from(column.scale())).ok() else {
        return Ok(None);
    };
    let too_large =
        || Error::split(format!("numbers do not fit a decimal column of scale {scale}"));
    let factor = 10_i128.checked_pow(digits).ok_or_else(too_large)?;
    let limit = 10_i128.pow(38);
    column
        .try_unary::<_, Decimal128Type, Error>(|value| {
            value.checked_mul(factor).filter(|value| value.abs() < limit).ok_or_else(too_large)
        })?
        .with_precision_and_scale(38, scale)
        .map(Some)
        .map_err(|error| Error::internal(error.to_string()))
}
