//! Batches as a fuzzer has them, across the C interface: whatever a plugin says of its buffers that
//! can be found out is found out, and what is taken can be read.
//!
//! Every buffer is as long as it must be for what the struct says. That it is not is nothing that
//! the reader could see: no length of a buffer crosses the interface.

use std::sync::Arc;

use arrow_buffer::Buffer;
use arrow_data::{ArrayData, ArrayDataBuilder};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rated_plugin::raw::{FFI_ArrowArray, FFI_ArrowSchema};
use rated_plugin::{
    CollectRequest, DateTime, MetricDefinition, RecordBatch, UsageBatch, read_scopes,
    schema_metadata, text_at,
};

use super::batches::{Trust, import, import_schema};
pub(crate) use super::process::fuzz::messages;
use super::validate;

/// Most rows of a batch that is made here, and most that are accepted.
pub(super) const ROWS_MAX: usize = 64;
/// Bytes of the texts of a column.
const TEXTS_SIZE: i32 = 64;
const SCHEMAS: [&str; 4] = ["usage/1", "price/1", "scopes/1", "usage/2"];
const NAMES: [&str; 7] =
    ["scope_id", "qty", "price", "groupby.id", "metadata.flavor", "metadata.more", ""];

/// Where `struct ArrowArray` has numbers that anybody can write anything into.
const LENGTH: usize = 0;
const NULL_COUNT: usize = 8;
const OFFSET: usize = 16;
const BUFFERS: usize = 24;

/// Bytes that say what is made.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    /// 0 when there are no more.
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn bytes<const SIZE: usize>(&mut self) -> [u8; SIZE] {
        std::array::from_fn(|_| self.byte())
    }

    /// Mostly small.
    fn int(&mut self) -> i32 {
        match self.byte() {
            byte @ 0..=0xEF => i32::from(byte),
            _ => i32::from_le_bytes(self.bytes()),
        }
    }

    fn long(&mut self) -> i64 {
        match self.byte() {
            byte @ 0..=0xEF => i64::from(byte) - 16,
            _ => i64::from_le_bytes(self.bytes()),
        }
    }
}

/// What a plugin might give to a host that asked for something.
pub(crate) fn batches(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (schema, array) = made(&mut choices);
    let Ok(sent) = FFI_ArrowSchema::try_from(schema.as_ref()) else { return };
    // SAFETY: it was just made, by the library that is meant to read it.
    let Ok(schema) = (unsafe { import_schema(&sent) }) else { return };
    // SAFETY: the struct was made by the library; only its numbers are not what they were, and the
    // buffers are long enough for what is accepted of them.
    let batch = unsafe { import(array, &schema, ROWS_MAX, Trust::None) };
    let Ok(batch) = batch else { return };
    assert!(batch.num_rows() <= ROWS_MAX);
    read_batches(&schema, &batch);
}

/// What the daemon does with a batch, whatever it was asked for.
pub(super) fn read_batches(schema: &SchemaRef, batch: &RecordBatch) {
    for asked in [&["a", "bb"][..], &[]] {
        let usage = validate::usage(schema, std::slice::from_ref(batch), &request(asked));
        for batch in usage.into_iter().flatten() {
            read_usage(&batch, asked);
        }
    }
    if let Ok(prices) = validate::prices(batch, batch.num_rows()) {
        assert_eq!(prices.num_columns(), 1);
        assert_eq!(prices.num_rows(), batch.num_rows());
    }
    if let Ok(scopes) = validate::scopes(schema, std::slice::from_ref(batch)) {
        let read = read_scopes(batch).expect("the host has taken it");
        assert!(read.iter().flatten().eq(scopes.iter()));
    }
}

fn request(scopes: &[&str]) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor".to_owned()],
            ..MetricDefinition::new("cpu")
        },
        scope_key: "project_id".to_owned(),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        begin: DateTime::UNIX_EPOCH,
        end: DateTime::UNIX_EPOCH + chrono::TimeDelta::hours(1),
    }
}

/// Every row and every text, as the rest of the daemon reads them.
fn read_usage(batch: &RecordBatch, asked: &[&str]) {
    assert_eq!(batch.num_columns(), 4);
    let Ok(usage) = UsageBatch::new(batch) else { return };
    for row in 0..usage.rows() {
        let scope = usage.scope_at(row);
        assert!(!scope.is_empty() && (asked.is_empty() || asked.contains(&scope)));
        let _ = usage.qty_at(row);
        for name in ["id", "flavor"] {
            let column = usage.attribute(name).expect("the host checked that it is there");
            let is_short =
                |text: &str| i32::try_from(text.len()).is_ok_and(|size| size <= TEXTS_SIZE);
            assert!(text_at(column, row).is_none_or(is_short));
        }
    }
}

/// A schema, and a batch that mostly is of it.
fn made(choices: &mut Choices<'_>) -> (SchemaRef, FFI_ArrowArray) {
    let name = SCHEMAS[choices.below(SCHEMAS.len())];
    let (count, rows) = (choices.below(7), choices.below(ROWS_MAX));
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for place in 0..count {
        let name = NAMES[(place + choices.below(2)) % NAMES.len()];
        let column = column(choices, rows);
        // A schema that promises another type is found out by the form of the column only.
        let is_nullable = choices.below(2) == 0;
        fields.push(Field::new(name, column.data_type().clone(), is_nullable));
        columns.push(column);
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, schema_metadata(name)));
    let data = ArrayDataBuilder::new(DataType::Struct(schema.fields().clone()))
        .len(rows)
        .child_data(columns);
    // SAFETY: nothing reads it before it was checked.
    let mut array = FFI_ArrowArray::new(&unsafe { data.build_unchecked() });
    lie(choices, &mut array);
    (schema, array)
}

/// Numbers of the struct that the reader must not believe. A length that no check can tell from
/// the true one is never longer.
fn lie(choices: &mut Choices<'_>, array: &mut FFI_ArrowArray) {
    let place = match choices.below(8) {
        0 => LENGTH,
        1 => NULL_COUNT,
        2 => OFFSET,
        3 => BUFFERS,
        _ => return,
    };
    let number = match place {
        // Without buffers there is nothing to be read.
        BUFFERS => choices.long().min(1),
        _ => choices.long(),
    };
    // SAFETY: the layout is that of the Arrow C Data Interface, and all values are numbers to it.
    unsafe { std::ptr::from_mut(array).byte_add(place).cast::<i64>().write(number) };
}

fn column(choices: &mut Choices<'_>, rows: usize) -> ArrayData {
    let nulls = (choices.below(4) == 0).then(|| {
        let bits: Vec<u8> = (0..rows.div_ceil(8)).map(|_| choices.byte()).collect();
        Buffer::from_vec(bits)
    });
    let builder = match choices.below(8) {
        0..3 => codes(choices, rows),
        3..6 => decimals(choices, rows),
        6 => texts(choices, rows),
        _ => numbers(choices, rows),
    };
    // SAFETY: nothing reads it before it was checked.
    unsafe { builder.len(rows).null_bit_buffer(nulls).build_unchecked() }
}

fn decimals(choices: &mut Choices<'_>, rows: usize) -> ArrayDataBuilder {
    let value = |_| match choices.byte() {
        byte @ 0..=0xEF => i128::from(byte),
        _ => i128::from_le_bytes(choices.bytes()),
    };
    let values: Vec<i128> = (0..rows).map(value).collect();
    let (precision, scale) = match choices.byte() {
        byte @ 0..=28 => (38, byte.cast_signed()),
        byte => (38 - byte % 2, byte.cast_signed() % 39),
    };
    ArrayDataBuilder::new(DataType::Decimal128(precision, scale))
        .add_buffer(Buffer::from_vec(values))
}

fn numbers(choices: &mut Choices<'_>, rows: usize) -> ArrayDataBuilder {
    let values: Vec<i64> = (0..rows).map(|_| choices.long()).collect();
    let data_type =
        [DataType::Int64, DataType::Float64, DataType::UInt64][choices.below(3)].clone();
    ArrayDataBuilder::new(data_type).add_buffer(Buffer::from_vec(values))
}

/// Offsets go anywhere; the last one is where the texts end, because it is what says so.
fn texts(choices: &mut Choices<'_>, count: usize) -> ArrayDataBuilder {
    let mut offsets: Vec<i32> = Vec::with_capacity(count + 1);
    let mut at = 0;
    for _ in 0..count {
        offsets.push(at);
        at = match choices.byte() {
            byte @ 0..=0xF7 => at.saturating_add(i32::from(byte % 3)).min(TEXTS_SIZE),
            _ => choices.int(),
        };
    }
    offsets.push(at.clamp(0, TEXTS_SIZE));
    let texts: Vec<u8> = (0..TEXTS_SIZE)
        .map(|_| match choices.byte() {
            byte @ 0..=0xF7 => b"ab"[usize::from(byte % 2)],
            byte => byte,
        })
        .collect();
    ArrayDataBuilder::new(DataType::Utf8)
        .add_buffer(Buffer::from_vec(offsets))
        .add_buffer(Buffer::from_vec(texts))
}

/// A dictionary of texts, and codes that may be of none of them.
fn codes(choices: &mut Choices<'_>, rows: usize) -> ArrayDataBuilder {
    let count = choices.below(5);
    // SAFETY: nothing reads it before it was checked.
    let dictionary = unsafe { texts(choices, count).len(count).build_unchecked() };
    let code = |_| match choices.byte() {
        byte @ 0..=0xF7 => i32::from(byte) % i32::try_from(count.max(1)).expect("a small number"),
        _ => choices.int(),
    };
    let values: Vec<i32> = (0..rows).map(code).collect();
    let data_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    ArrayDataBuilder::new(data_type).add_buffer(Buffer::from_vec(values)).add_child_data(dictionary)
}
