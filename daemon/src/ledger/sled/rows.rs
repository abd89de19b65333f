//! Rows as they were rated, a page or a block at a time.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Decimal128Array, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow_schema::{DataType, Field, Schema};

use super::block::{AttributeColumn, AttributeKind, Block};
use super::catalog::{ChainEntry, ScopeNumber};
use super::gather::{ENCODING_JSON, ENCODING_KEY};
use super::lookup::{Matcher, Matches};
use super::numbers::Decimals;
use super::query::{BlockError, Reading, Selection, rows_of_scopes};
use super::slice::Slice;
use super::store::store_error;
use crate::ledger::{DamagedRows, LedgerError, RowsGroup, RowsPage, RowsQuery, Visited};

/// Digits of a decimal column.
const PRECISION: u8 = 38;

pub(super) fn page(
    reading: Reading<'_>,
    query: &RowsQuery,
    slices: &[Slice],
) -> Result<RowsPage, LedgerError> {
    let mut groups = Vec::new();
    let mut collect = |group| {
        groups.push(group);
        ControlFlow::Continue(())
    };
    let total = walk(reading, query, slices, Beyond::Counts, &mut collect)?;
    Ok(RowsPage { total, groups })
}

pub(super) fn visit(
    reading: Reading<'_>,
    query: &RowsQuery,
    slices: &[Slice],
    visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
) -> Result<(), LedgerError> {
    walk(reading, query, slices, Beyond::IsLeftOut, visit)?;
    Ok(())
}

/// All that can be read, and what cannot.
pub(super) fn visit_past_damage(
    reading: Reading<'_>,
    query: &RowsQuery,
    slices: &[Slice],
    visit: &mut dyn FnMut(Visited) -> ControlFlow<()>,
) -> Result<(), LedgerError> {
    let selection = Selection::new(reading.catalog, &query.filters)?;
    let mut matcher = Matcher::new(&selection);
    for slice in slices {
        if !selection.takes_slice(reading.metric_type(slice), slice.period) {
            continue;
        }
        for (index, part) in slice.blocks.iter().enumerate() {
            if !selection.takes_part(slice, part) {
                continue;
            }
            let all = 0..usize::MAX;
            let read = |block: &Block<'_>| read_block((reading, slice), &mut matcher, block, all);
            let found = reading.chain(slice).and_then(|chain| {
                let (_, batches) = reading.with_block(slice, index, read)?;
                let group = |(key, rows)| group((reading, slice), chain, key, rows);
                Ok(batches.into_iter().map(group).map(Visited::Rows).collect())
            });
            let visited: Vec<Visited> = match found {
                Ok(visited) => visited,
                Err(LedgerError::Damaged { place, detail }) => {
                    vec![Visited::Damaged(DamagedRows { place, detail, rows: part.rows })]
                }
                Err(error) => return Err(error),
            };
            for visited in visited {
                if visit(visited).is_break() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// What becomes of the rows after those that were asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    Counts,
    IsLeftOut,
}

/// How many rows were found, before paging.
fn walk(
    reading: Reading<'_>,
    query: &RowsQuery,
    slices: &[Slice],
    beyond: Beyond,
    visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
) -> Result<usize, LedgerError> {
    let selection = Selection::new(reading.catalog, &query.filters)?;
    let mut matcher = Matcher::new(&selection);
    let end = query.offset.saturating_add(query.limit);
    let mut total: usize = 0;
    for slice in slices {
        if !selection.takes_slice(reading.metric_type(slice), slice.period) {
            continue;
        }
        if let Some(count) = count_by_rollups(reading, &selection, slice)? {
            // Nothing of the slice is on the page: its rows need not be read.
            if query.offset >= total.saturating_add(count) || total >= end {
                total += count;
                continue;
            }
        }
        let chain = reading.chain(slice)?;
        for (index, part) in slice.blocks.iter().enumerate() {
            if beyond == Beyond::IsLeftOut && total >= end {
                return Ok(total);
            }
            if !selection.takes_part(slice, part) {
                continue;
            }
            let wanted = query.offset.saturating_sub(total)..end.saturating_sub(total);
            // A block that is counted by its row count alone need not be read.
            let is_whole = selection.scopes.is_none()
                && selection.attributes.is_empty()
                && !slice.removed.meets(part.first_scope, part.last_scope);
            if is_whole && (wanted.start >= part.rows || wanted.is_empty()) {
                total += part.rows;
                continue;
            }
            let read =
                |block: &Block<'_>| read_block((reading, slice), &mut matcher, block, wanted);
            let (count, batches) = reading.with_block(slice, index, read)?;
            total += count;
            for (scope_key, rows) in batches {
                if visit(group((reading, slice), chain, scope_key, rows)).is_break() {
                    return Ok(total);
                }
            }
        }
    }
    Ok(total)
}

fn group(
    (reading, slice): (Reading<'_>, &Slice),
    chain: &ChainEntry,
    scope_key: String,
    rows: RecordBatch,
) -> RowsGroup {
    RowsGroup {
        period: slice.period,
        metric_type: reading.metric_type(slice).to_owned(),
        metric_name: reading.metric(slice).name.clone(),
        unit: slice.unit.clone(),
        description: slice.description.clone(),
        origin: slice.origin,
        rated_by: Arc::clone(&chain.rated_by),
        rated_scope_key: chain.scope_key.clone(),
        scope_key,
        rows,
    }
}

/// How many rows of a slice are selected, if that is known without reading them.
fn count_by_rollups(
    reading: Reading<'_>,
    selection: &Selection<'_>,
    slice: &Slice,
) -> Result<Option<usize>, LedgerError> {
    if !selection.attributes.is_empty() {
        return Ok(None);
    }
    let mut count = 0;
    if selection.scopes.is_none() {
        count = slice.rows;
    } else {
        for (index, part) in slice.rollups.iter().enumerate() {
            if selection.takes_part(slice, part) {
                let entries = reading.rollup(slice, index)?;
                let taken = entries.iter().filter(|entry| selection.takes_scope(entry.scope));
                count += taken.map(|entry| entry.sums.rows).sum::<u64>();
            }
        }
    }
    Ok(usize::try_from(count).ok())
}

/// How many rows of a block are selected, and batches of those among them that are wanted: one
/// batch for each stretch of rows whose scopes have the same key.
fn read_block(
    (reading, slice): (Reading<'_>, &Slice),
    matcher: &mut Matcher<'_>,
    block: &Block<'_>,
    wanted: Range<usize>,
) -> Result<(usize, Vec<(String, RecordBatch)>), BlockError> {
    let ranges = rows_of_scopes(reading, slice, block, matcher.selection())?;
    let found = if ranges.is_empty() { Matches::None } else { matcher.matches(reading, block)? };
    let is_match = |row: &usize| found.has(*row);
    let selected: Vec<usize> = ranges.into_iter().flatten().filter(is_match).collect();
    let count = selected.len();
    let rows = &selected[wanted.start.min(count)..wanted.end.min(count)];
    if rows.is_empty() {
        return Ok((count, Vec::new()));
    }
    let columns = Columns::read(reading, block)?;
    for row in rows {
        reading.catalog.check_scope(columns.scopes[*row])?;
    }
    let mut batches = Vec::new();
    for rows in rows.chunk_by(|left, right| columns.key_of(*left) == columns.key_of(*right)) {
        let batch = columns.batch(rows).map_err(BlockError::Ledger)?;
        batches.push((columns.key_of(rows[0]).to_owned(), batch));
    }
    Ok((count, batches))
}

/// A block, unpacked.
struct Columns<'a> {
    reading: Reading<'a>,
    scopes: Vec<ScopeNumber>,
    qty: Decimals,
    price: Decimals,
    attributes: Vec<Attribute>,
}

struct Attribute {
    field: Arc<Field>,
    indexes: Vec<u32>,
    /// `None` = absent.
    texts: Vec<Option<Arc<str>>>,
}

impl<'a> Columns<'a> {
    fn read(reading: Reading<'a>, block: &Block<'_>) -> Result<Columns<'a>, BlockError> {
        let mut scopes = Vec::with_capacity(block.rows);
        for run in reading.scopes_of(block)? {
            scopes.resize(scopes.len() + run.rows, run.scope);
        }
        let mut attributes = Vec::new();
        for column in &block.attributes {
            let codes = column.codes(block.rows)?;
            let texts = reading.texts.decode(reading.store, column.dictionary, &codes.distinct)?;
            attributes.push(Attribute { field: field(column), indexes: codes.indexes, texts });
        }
        Ok(Columns { reading, scopes, qty: block.qty()?, price: block.price()?, attributes })
    }

    fn key_of(&self, row: usize) -> &'a str {
        &self.reading.catalog.scopes[self.scopes[row] as usize].scope_key
    }

    fn batch(&self, rows: &[usize]) -> Result<RecordBatch, LedgerError> {
        let scope = |row: &usize| {
            let number = self.scopes[*row];
            (number, Some(self.reading.catalog.scopes[number as usize].id.as_str()))
        };
        let mut fields = vec![
            Arc::new(Field::new("scope_id", dictionary_type(), false)),
            Arc::new(Field::new("qty", DataType::Decimal128(PRECISION, scale(&self.qty)), false)),
        ];
        let mut columns = vec![dictionary(rows.iter().map(scope)), decimals(&self.qty, rows)?];
        for attribute in &self.attributes {
            let text = |row: &usize| {
                let index = attribute.indexes[*row];
                (index, attribute.texts[index as usize].as_deref())
            };
            fields.push(Arc::clone(&attribute.field));
            columns.push(dictionary(rows.iter().map(text)));
        }
        let price_type = DataType::Decimal128(PRECISION, scale(&self.price));
        fields.push(Arc::new(Field::new("price", price_type, false)));
        columns.push(decimals(&self.price, rows)?);
        let metadata = [("rated.schema".to_owned(), "usage/1".to_owned())];
        let schema = Schema::new_with_metadata(fields, HashMap::from(metadata));
        RecordBatch::try_new(Arc::new(schema), columns).map_err(store_error)
    }
}

fn scale(column: &Decimals) -> i8 {
    i8::try_from(column.scale).expect("a scale is at most 28")
}

fn field(column: &AttributeColumn<'_>) -> Arc<Field> {
    let name = match column.name.kind {
        AttributeKind::Groupby => format!("groupby.{}", column.name.name),
        AttributeKind::Metadata => format!("metadata.{}", column.name.name),
    };
    let field = Field::new(name, dictionary_type(), true);
    if !column.name.is_json {
        return Arc::new(field);
    }
    let metadata = [(ENCODING_KEY.to_owned(), ENCODING_JSON.to_owned())];
    Arc::new(field.with_metadata(HashMap::from(metadata)))
}

fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

fn decimals(column: &Decimals, rows: &[usize]) -> Result<ArrayRef, LedgerError> {
    let values: Decimal128Array = rows.iter().map(|row| Some(column.values[*row])).collect();
    let values = values.with_precision_and_scale(PRECISION, scale(column));
    Ok(Arc::new(values.map_err(store_error)?))
}

/// A dictionary of the texts that occur, from rows of (any number that names the text, text).
fn dictionary<'t>(rows: impl Iterator<Item = (u32, Option<&'t str>)>) -> ArrayRef {
    let mut keys_of: HashMap<u32, i32> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut keys: Vec<Option<i32>> = Vec::new();
    for (number, text) in rows {
        keys.push(text.map(|text| {
            *keys_of.entry(number).or_insert_with(|| {
                texts.push(text);
                i32::try_from(texts.len() - 1).expect("a block has few rows")
            })
        }));
    }
    let texts = Arc::new(StringArray::from(texts));
    Arc::new(DictionaryArray::<Int32Type>::new(Int32Array::from(keys), texts))
}
