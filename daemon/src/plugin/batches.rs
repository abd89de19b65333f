//! Columns across the interface, in both directions.
//!
//! The structs are read as the Arrow C Data Interface says. Reading checks the form; the values of
//! plugins that are not trusted are checked as a whole before anybody looks at them. A panic of the
//! reading code (a child that is not there, a name that is not UTF-8) is an error like any other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow_schema::{DataType, Schema, SchemaRef};
use rated_plugin::raw::{FFI_ArrowArray, FFI_ArrowSchema, RawBatches};
use rated_plugin::{Error, Result, Status};

use super::ffi::ErrorSlot;
use super::instance::Frame;

/// Most columns of a batch.
pub(super) const COLUMNS_MAX: usize = 1024;
/// Where `struct ArrowSchema` says how many columns it has: the reading code believes any number.
const SCHEMA_CHILDREN_OFFSET: usize = 32;
/// Most batches of one answer.
pub(super) const BATCHES_MAX: usize = 10_000;

/// How far what comes back is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Every value is checked.
    None,
    /// The operator said so: the form is checked.
    Values,
}

pub(super) fn export(batch: RecordBatch) -> Result<(FFI_ArrowArray, FFI_ArrowSchema)> {
    let schema = FFI_ArrowSchema::try_from(batch.schema().as_ref())
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok((FFI_ArrowArray::new(&StructArray::from(batch).into_data()), schema))
}

/// # Safety
///
/// `schema` is released, or keeps the promises of the Arrow C Data Interface.
pub(super) unsafe fn import_schema(schema: &FFI_ArrowSchema) -> Result<SchemaRef> {
    if schema.release().is_none() {
        return Err(Error::bad_data("the plugin gave no schema"));
    }
    // SAFETY: a reference to the whole struct, whose layout is that of the Arrow C Data Interface.
    let columns =
        unsafe { std::ptr::from_ref(schema).byte_add(SCHEMA_CHILDREN_OFFSET).cast::<i64>().read() };
    if !usize::try_from(columns).is_ok_and(|columns| columns <= COLUMNS_MAX) {
        let message = format!("{columns} columns, 0 to {COLUMNS_MAX} are accepted");
        return Err(Error::bad_data(message));
    }
    no_panic("schema", || {
        let schema = Schema::try_from(schema).map_err(|error| {
            Error::bad_data(format!("the schema of a batch cannot be read: {error}"))
        })?;
        Ok(Arc::new(schema))
    })
}

/// # Safety
///
/// `array` is released, or keeps the promises of the Arrow C Data Interface for an array of that
/// schema; what it does not keep is found where it can be.
pub(super) unsafe fn import(
    array: FFI_ArrowArray,
    schema: &SchemaRef,
    rows_max: usize,
    trust: Trust,
) -> Result<RecordBatch> {
    if array.is_released() {
        return Err(Error::bad_data("the plugin gave no batch"));
    }
    check_form(&array, schema, rows_max)?;
    no_panic("batch", move || {
        let unsound = |error| Error::bad_data(format!("a batch is not sound: {error}"));
        let data_type = DataType::Struct(schema.fields().clone());
        // SAFETY: the caller's promise.
        let data = unsafe { from_ffi_and_data_type(array, data_type) }.map_err(unsound)?;
        match trust {
            Trust::None => data.validate_full().map_err(unsound)?,
            Trust::Values => data.validate().map_err(unsound)?,
        }
        if data.null_count() > 0 {
            return Err(Error::bad_data("a batch has rows that are null as a whole"));
        }
        let rows = data.len();
        let (_, columns, _) = StructArray::from(data).into_parts();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(unsound)
    })
}

/// What can be told before a buffer is touched.
fn check_form(array: &FFI_ArrowArray, schema: &SchemaRef, rows_max: usize) -> Result<()> {
    let wanted = schema.fields().len();
    if array.num_children() != wanted {
        return Err(Error::bad_data(format!(
            "a batch has {} columns where its schema has {wanted}",
            array.num_children()
        )));
    }
    // Negative numbers come out as huge ones.
    let end = array.offset().saturating_add(array.len());
    if array.len() > rows_max || end > i32::MAX as usize {
        return Err(Error::bad_data(format!(
            "a batch of {} rows, at most {rows_max} are accepted",
            array.len()
        )));
    }
    for (index, field) in schema.fields().iter().enumerate() {
        let column = no_panic("batch", || Ok(array.child(index)))?;
        let column_end = column.offset().saturating_add(column.len());
        if column.len() < end || column_end > i32::MAX as usize {
            return Err(Error::bad_data(format!(
                "the column `{}` has {} rows, its batch needs {end}",
                field.name(),
                column.len()
            )));
        }
        let is_dictionary = matches!(field.data_type(), DataType::Dictionary(..));
        if is_dictionary != column.dictionary().is_some() {
            return Err(Error::bad_data(format!(
                "the column `{}` is not of the form that its schema promised",
                field.name()
            )));
        }
        if !no_panic("batch", || Ok(has_aligned_offsets(column, field.data_type())))? {
            return Err(Error::bad_data(format!(
                "the offsets of the column `{}` are not aligned",
                field.name()
            )));
        }
    }
    Ok(())
}

/// The reading code looks at the last offset of a text where it stands; everything else that is not
/// aligned is copied.
fn has_aligned_offsets(array: &FFI_ArrowArray, data_type: &DataType) -> bool {
    let is_aligned = |size: usize| {
        // A form that is not right is found by whoever reads it.
        array.num_buffers() < 2 || array.buffer(1).addr().is_multiple_of(size)
    };
    match data_type {
        DataType::Utf8 | DataType::Binary => is_aligned(size_of::<i32>()),
        DataType::LargeUtf8 | DataType::LargeBinary => is_aligned(size_of::<i64>()),
        DataType::Dictionary(_, values) => {
            array.dictionary().is_none_or(|array| has_aligned_offsets(array, values))
        }
        DataType::Struct(fields) => {
            array.num_children() != fields.len()
                || fields.iter().enumerate().all(|(index, field)| {
                    has_aligned_offsets(array.child(index), field.data_type())
                })
        }
        DataType::List(field) | DataType::LargeList(field) | DataType::Map(field, _) => {
            array.num_children() != 1 || has_aligned_offsets(array.child(0), field.data_type())
        }
        _ => true,
    }
}

fn no_panic<T>(what: &str, body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Error::bad_data(format!("a {what} breaks the rules of the Arrow C Data Interface")))
    })
}

/// A plugin's source of batches. Released when dropped, on the thread that pulled from it.
pub(super) struct Source(RawBatches);

impl Source {
    pub(super) fn empty() -> Source {
        Source(RawBatches {
            schema: None,
            next: None,
            release: None,
            private_data: std::ptr::null_mut(),
        })
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut RawBatches {
        &raw mut self.0
    }

    /// Everything there is, `rows_max` rows at most.
    ///
    /// # Safety
    ///
    /// A plugin has filled the source and said OK; `frame` is that of the call under way.
    pub(super) unsafe fn pull(
        mut self,
        frame: &Frame<'_>,
        rows_max: usize,
        trust: Trust,
    ) -> Result<(SchemaRef, Vec<RecordBatch>)> {
        // SAFETY: the caller's promise.
        let schema = unsafe { self.schema()? };
        let next = self.0.next.ok_or_else(no_source)?;
        let (mut batches, mut rows) = (Vec::new(), 0);
        loop {
            if frame.state.is_cancelled() {
                return Err(Error::new(Status::Cancelled, "cancelled between two batches"));
            }
            let (mut array, mut error) = (FFI_ArrowArray::empty(), ErrorSlot::new());
            // SAFETY: the source's own function on itself; all pointers outlive the call.
            let status =
                unsafe { next(self.as_mut_ptr(), frame.raw, &raw mut array, error.as_mut_ptr()) };
            if status == Status::End as u32 {
                // Releases what may have been left in it.
                let _ = error.outcome(Status::Ok as u32);
                return Ok((schema, batches));
            }
            error.outcome(status)?;
            // SAFETY: the plugin said that it wrote a batch of the schema it gave.
            let batch = unsafe { import(array, &schema, rows_max - rows, trust)? };
            rows += batch.num_rows();
            batches.push(batch);
            if batches.len() > BATCHES_MAX {
                let message = format!("more than {BATCHES_MAX} batches in one answer");
                return Err(Error::bad_data(message));
            }
        }
    }

    /// # Safety
    ///
    /// As [`Source::pull`].
    unsafe fn schema(&mut self) -> Result<SchemaRef> {
        let function = self.0.schema.ok_or_else(no_source)?;
        let (mut schema, mut error) = (FFI_ArrowSchema::empty(), ErrorSlot::new());
        // SAFETY: the source's own function on itself; all pointers outlive the call.
        let status = unsafe { function(self.as_mut_ptr(), &raw mut schema, error.as_mut_ptr()) };
        error.outcome(status)?;
        // SAFETY: the plugin said that it wrote a schema.
        unsafe { import_schema(&schema) }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if let Some(release) = self.0.release {
            // SAFETY: released once; the plugin's own function on what it filled.
            unsafe { release(self.as_mut_ptr()) };
        }
    }
}

fn no_source() -> Error {
    Error::bad_data("the plugin said OK and gave no batches")
}
