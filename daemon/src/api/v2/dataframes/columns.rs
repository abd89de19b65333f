use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{Field, FieldRef, Schema};
use rated_plugin::{
    ENCODING_JSON, ENCODING_KEY, GROUPBY_PREFIX, METADATA_PREFIX, PRICE, QTY, SCHEMA_USAGE,
    SCOPE_ID, attribute_type, decimal_column, schema_metadata,
};
use rust_decimal::Decimal;

use super::texts::Texts;
use crate::ledger::{Fact, SliceScope};
use crate::usage::ScopeId;

/// Most rows of one batch.
const BATCH_ROWS_MAX: usize = 64 << 10;

/// Which column a value is in; the code is that of the attribute's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Column {
    Groupby(u32),
    Metadata(u32),
    /// Of values that are no texts.
    MetadataJson(u32),
}

/// One row, its texts as codes.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) qty: Decimal,
    pub(super) price: Decimal,
    /// `None` = nobody's.
    pub(super) scope: Option<u32>,
    /// Each column once.
    pub(super) values: Vec<(Column, u32)>,
}

/// Rows of one slice.
#[derive(Debug, Default)]
pub(super) struct Columns {
    qty: Vec<Decimal>,
    price: Vec<Decimal>,
    /// A code and 1; 0 = nobody.
    scopes: Vec<u32>,
    /// A code and 1; 0 = the row does not have it. Rows at the end may be missing.
    attributes: Vec<(Column, Vec<u32>)>,
}

impl Columns {
    pub(super) fn rows(&self) -> usize {
        self.qty.len()
    }

    pub(super) fn attributes(&self) -> usize {
        self.attributes.len()
    }

    /// Places for values, filled or not.
    pub(super) fn cells(&self) -> usize {
        self.rows().saturating_mul(self.attributes())
    }

    pub(super) fn push(&mut self, row: &Row) {
        let rows = self.rows();
        self.qty.push(row.qty);
        self.price.push(row.price);
        self.scopes.push(row.scope.map_or(0, |code| code + 1));
        let mut expected = 0;
        for (column, code) in &row.values {
            // Rows of a slice mostly have the same attributes in the same order.
            let index = match self.attributes.get(expected) {
                Some((found, _)) if found == column => expected,
                _ => self.attribute(*column),
            };
            expected = index + 1;
            let values = &mut self.attributes[index].1;
            values.resize(rows, 0);
            values.push(code + 1);
        }
    }

    fn attribute(&mut self, column: Column) -> usize {
        let found = self.attributes.iter().position(|(other, _)| *other == column);
        found.unwrap_or_else(|| {
            self.attributes.push((column, Vec::new()));
            self.attributes.len() - 1
        })
    }

    /// Adds the rows of another slice.
    pub(super) fn append(&mut self, mut other: Columns) {
        let rows = self.rows();
        self.qty.append(&mut other.qty);
        self.price.append(&mut other.price);
        self.scopes.append(&mut other.scopes);
        for (column, mut values) in other.attributes {
            let index = self.attribute(column);
            let own = &mut self.attributes[index].1;
            own.resize(rows, 0);
            own.append(&mut values);
        }
    }

    /// Every scope once, and the rows in batches.
    pub(super) fn finish(
        mut self,
        texts: &mut Texts,
        keys: &mut KeysOfCodes,
    ) -> (Vec<SliceScope>, Vec<RecordBatch>) {
        let rows = self.rows();
        for (_, values) in &mut self.attributes {
            values.resize(rows, 0);
        }
        self.attributes.sort_unstable_by_key(|(column, _)| *column);
        self.unite_metadata(texts);
        keys.make_room(texts);
        let mut batches = Vec::new();
        for begin in (0..rows).step_by(BATCH_ROWS_MAX) {
            let end = (begin + BATCH_ROWS_MAX).min(rows);
            self.add_batches((texts, keys), begin..end, &mut batches);
        }
        (self.facts(texts, keys), batches)
    }

    /// Texts and other values under one name become one column of JSON.
    fn unite_metadata(&mut self, texts: &mut Texts) {
        for index in 0..self.attributes.len() {
            let Column::MetadataJson(name) = self.attributes[index].0 else { continue };
            let plain =
                self.attributes.iter().position(|(column, _)| *column == Column::Metadata(name));
            let Some(plain) = plain else { continue };
            let plain = std::mem::take(&mut self.attributes[plain].1);
            for (json, plain) in self.attributes[index].1.iter_mut().zip(plain) {
                if plain != 0 {
                    let quoted = serde_json::Value::from(texts.text(plain - 1)).to_string();
                    *json = texts.code(&quoted) + 1;
                }
            }
        }
        self.attributes.retain(|(_, values)| !values.is_empty());
    }

    fn facts(&self, texts: &Texts, keys: &mut KeysOfCodes) -> Vec<SliceScope> {
        let mut facts: Vec<SliceScope> = Vec::new();
        let codes = keys.of_column(&self.scopes, NoText::Empty, |scope| {
            facts.push(SliceScope { id: scope_id(texts, scope), fact: Fact::Zero });
        });
        for (key, qty) in codes.into_iter().zip(&self.qty) {
            if !qty.is_zero() {
                facts[key as usize].fact = Fact::Collected;
            }
        }
        facts
    }

    /// One batch, or several when no one scale holds all numbers.
    fn add_batches(
        &self,
        (texts, keys): (&Texts, &mut KeysOfCodes),
        rows: Range<usize>,
        batches: &mut Vec<RecordBatch>,
    ) {
        let qty = decimal_column(&self.qty[rows.clone()]);
        let price = decimal_column(&self.price[rows.clone()]);
        let (Ok(qty), Ok(price)) = (qty, price) else {
            let middle = rows.start + rows.len() / 2;
            self.add_batches((texts, keys), rows.start..middle, batches);
            self.add_batches((texts, keys), middle..rows.end, batches);
            return;
        };
        let field = |name: &str, column: &dyn arrow_array::Array| -> FieldRef {
            Arc::new(Field::new(name, column.data_type().clone(), false))
        };
        let scopes = keys.dictionary(&self.scopes[rows.clone()], texts, NoText::Empty);
        let mut fields = vec![field(SCOPE_ID, &scopes), field(QTY, &qty)];
        let mut columns: Vec<ArrayRef> = vec![scopes, Arc::new(qty)];
        for (column, values) in &self.attributes {
            fields.push(attribute_field(texts, *column));
            columns.push(keys.dictionary(&values[rows.clone()], texts, NoText::Missing));
        }
        fields.push(field(PRICE, &price));
        columns.push(Arc::new(price));
        let schema = Schema::new_with_metadata(fields, schema_metadata(SCHEMA_USAGE));
        let batch = RecordBatch::try_new(Arc::new(schema), columns);
        batches.push(batch.expect("columns of one length, as their fields say"));
    }
}

fn scope_id(texts: &Texts, scope: u32) -> ScopeId {
    match scope {
        0 => ScopeId::nobody(),
        code => ScopeId::new(texts.text(code - 1)).expect("checked when it was read"),
    }
}

fn attribute_field(texts: &Texts, column: Column) -> FieldRef {
    let (prefix, name) = match column {
        Column::Groupby(name) => (GROUPBY_PREFIX, name),
        Column::Metadata(name) | Column::MetadataJson(name) => (METADATA_PREFIX, name),
    };
    let field = Field::new(format!("{prefix}{}", texts.text(name)), attribute_type(), true);
    if !matches!(column, Column::MetadataJson(_)) {
        return Arc::new(field);
    }
    let metadata = [(ENCODING_KEY.to_owned(), ENCODING_JSON.to_owned())];
    Arc::new(field.with_metadata(HashMap::from(metadata)))
}

/// What a row has whose code is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoText {
    Empty,
    Missing,
}

/// Dictionaries of columns, one after the other.
#[derive(Debug, Default)]
pub(super) struct KeysOfCodes {
    /// Of each code the key in the column at hand, or [`NO_KEY`].
    keys: Vec<u32>,
    /// The codes of the column at hand, by key.
    codes: Vec<u32>,
}

const NO_KEY: u32 = u32::MAX;

impl KeysOfCodes {
    fn make_room(&mut self, texts: &Texts) {
        self.keys.resize(self.keys.len().max(texts.count() + 1), NO_KEY);
    }

    /// Of each row the number of its code among the different ones, in the order in which they
    /// come up, which `each` is told.
    fn of_column(&mut self, codes: &[u32], no_text: NoText, mut each: impl FnMut(u32)) -> Vec<u32> {
        let key = |code: &u32| {
            if *code == 0 && no_text == NoText::Missing {
                return 0;
            }
            let key = &mut self.keys[*code as usize];
            if *key == NO_KEY {
                *key = u32::try_from(self.codes.len()).expect("fewer than there are codes");
                self.codes.push(*code);
                each(*code);
            }
            *key
        };
        let keys = codes.iter().map(key).collect();
        for code in self.codes.drain(..) {
            self.keys[code as usize] = NO_KEY;
        }
        keys
    }

    /// The texts that occur, and which of them each row has.
    fn dictionary(&mut self, codes: &[u32], texts: &Texts, no_text: NoText) -> ArrayRef {
        let mut used: Vec<&str> = Vec::new();
        let keys = self.of_column(codes, no_text, |code| {
            used.push(code.checked_sub(1).map_or("", |code| texts.text(code)));
        });
        let is_there = |code: &u32| *code != 0;
        let has_nulls = no_text == NoText::Missing && !codes.iter().all(is_there);
        let nulls = has_nulls.then(|| codes.iter().map(is_there).collect::<NullBuffer>());
        let key = |key: u32| i32::try_from(key).expect("a batch has few rows");
        let keys = Int32Array::new(keys.into_iter().map(key).collect(), nulls);
        Arc::new(DictionaryArray::new(keys, Arc::new(StringArray::from(used))))
    }
}
