//! Record batches through the Arrow C Data Interface.

use std::sync::Arc;

use arrow_array::ffi::from_ffi_and_data_type;
use arrow_array::{Array, RecordBatch, RecordBatchOptions, StructArray};
use arrow_schema::{DataType, Schema, SchemaRef};

use crate::raw::{FFI_ArrowArray, FFI_ArrowSchema};
use crate::{Error, Result};

/// The rows of a batch as a C struct; the schema goes separately.
pub fn export_rows(batch: RecordBatch) -> FFI_ArrowArray {
    FFI_ArrowArray::new(&StructArray::from(batch).into_data())
}

/// A schema as a C struct, with its metadata.
pub fn export_schema(schema: &Schema) -> Result<FFI_ArrowSchema> {
    FFI_ArrowSchema::try_from(schema).map_err(|error| Error::internal(error.to_string()))
}

/// The schema in a C struct; `BadData` when it is released or not that of a batch.
pub fn import_schema(schema: &FFI_ArrowSchema) -> Result<SchemaRef> {
    if schema.release().is_none() {
        return Err(Error::bad_data("a schema was released before it was passed"));
    }
    let schema = Schema::try_from(schema).map_err(|error| Error::bad_data(error.to_string()))?;
    Ok(Arc::new(schema))
}

/// The rows in a C struct, read by `schema`; checks the form, not the values
/// (see `arrow_data::ArrayData::validate_full` for those).
///
/// # Safety
///
/// `array` keeps the promises of the Arrow C Data Interface for an array of `schema`.
pub unsafe fn import_rows(array: FFI_ArrowArray, schema: &SchemaRef) -> Result<RecordBatch> {
    if array.is_released() {
        return Err(Error::bad_data("an array was released before it was passed"));
    }
    if array.num_children() != schema.fields().len() {
        return Err(Error::bad_data(format!(
            "{} columns where the schema has {}",
            array.num_children(),
            schema.fields().len()
        )));
    }
    let data_type = DataType::Struct(schema.fields().clone());
    // SAFETY: the caller's promise.
    let data = unsafe { from_ffi_and_data_type(array, data_type) }
        .map_err(|error| Error::bad_data(error.to_string()))?;
    if data.child_data().iter().any(|child| child.len() < data.offset() + data.len()) {
        return Err(Error::bad_data("a column is shorter than its batch"));
    }
    if data.null_count() > 0 {
        return Err(Error::bad_data("a batch has rows that are null as a whole"));
    }
    let (_, columns, _) = StructArray::from(data.clone()).into_parts();
    let options = RecordBatchOptions::new().with_row_count(Some(data.len()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
        .map_err(|error| Error::bad_data(error.to_string()))
}
