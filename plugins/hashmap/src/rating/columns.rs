//! Sorts the rows of a batch into combinations of what the rules look at.
//!
//! The codes of an attribute's dictionary are first mapped to *classes*: codes that every rule
//! treats alike are one class, so an attribute with a different value in each row makes no more
//! classes than there are rules. Rows with the same class in every column are one combination. A
//! class means the same in every batch, so a combination does too.

use std::borrow::Cow;
use std::collections::HashMap;

use arrow_array::{Array, RecordBatch, StringArray};
use rated_plugin::{Attribute, Error, Result, UsageBatch};
use rust_decimal::Decimal;

use super::levels::ANY_SCOPE;
use super::price_list::{FieldPrices, ServicePrices};
use super::quick_hash::QuickHashMap;
use super::sorts::{Codes, Sorts};
use crate::amount;

/// The key of a column's metadata that says that its texts are JSON values.
const ENCODING_KEY: &str = "rated.encoding";
const ENCODING_JSON: &str = "json";
/// Stands for a row without a value.
const NO_CODE: i32 = -1;

/// What the rules know of a row's scope or of an attribute in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Class {
    /// Of a scope its number; of an attribute 0, or one more than the index of its value's
    /// mappings.
    pub(super) value: u32,
    /// So many of the field's levels it reaches, where thresholds ask.
    pub(super) number: u32,
}

impl Class {
    /// No level ever counted comes near.
    const NOT_A_NUMBER: u32 = u32::MAX;
    const ABSENT: Class = Class { value: 0, number: u32::MAX - 1 };

    /// The index of the value's mappings.
    pub(super) fn mappings(self) -> Option<usize> {
        (self.value > 0).then(|| self.value as usize - 1)
    }

    /// How many of the field's levels are reached.
    pub(super) fn levels_reached(self) -> usize {
        if self == Class::ABSENT || self.is_not_numeric() { 0 } else { self.number as usize }
    }

    /// Thresholds ask for a number, and it is none.
    pub(super) fn is_not_numeric(self) -> bool {
        self.number == Class::NOT_A_NUMBER
    }
}

/// One combination: the class of the scope, then one for each field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Combination<'a>(pub(super) &'a [Class]);

impl<'a> Combination<'a> {
    /// The number of the scope.
    pub(super) fn scope(self) -> u32 {
        self.0[0].value
    }

    pub(super) fn fields(self) -> impl Iterator<Item = Class> + use<'a> {
        self.0[1..].iter().copied()
    }
}

/// The distinct combinations, and which one each row has.
#[derive(Debug)]
pub(super) struct Combinations {
    /// One combination after the other, `width` classes each.
    pub(super) classes: Vec<Class>,
    pub(super) width: usize,
    pub(super) rows: Vec<u32>,
}

impl Combinations {
    pub(super) fn of(
        prices: &ServicePrices,
        batch: &RecordBatch,
        usage: &UsageBatch<'_>,
    ) -> Result<Combinations> {
        let width = 1 + prices.fields.len();
        let mut columns: Vec<(usize, ClassColumn<'_>)> = Vec::new();
        for (place, field) in (1..).zip(&prices.fields) {
            // A groupby attribute wins over a metadata one where a row has both.
            for prefix in ["groupby", "metadata"] {
                if let Some(texts) = find(batch, &format!("{prefix}.{}", field.name))? {
                    columns.push((place, ClassColumn::new(&texts, Asking::Field(field))));
                }
            }
        }
        if !prices.scopes.is_empty() {
            let texts = Texts::new(usage.scope_ids(), Encoding::Plain)?;
            columns.push((0, ClassColumn::new(&texts, Asking::Scope(&prices.scopes))));
        }
        let mut sorts = Sorts::new(usage.rows());
        for (_, column) in &columns {
            sorts.refine(column.codes(), column.classes.len());
        }
        let (rows, examples) = sorts.numbered();
        let mut classes = Vec::with_capacity(width * examples.len());
        for row in examples {
            let begin = classes.len();
            classes.push(Class { value: ANY_SCOPE, number: 0 });
            classes.resize(begin + width, Class::ABSENT);
            for (place, column) in &columns {
                let known = &mut classes[begin + *place];
                if *place == 0 || *known == Class::ABSENT {
                    *known = column.class_at(row);
                }
            }
        }
        Ok(Combinations { classes, width, rows })
    }

    pub(super) fn distinct(&self) -> impl Iterator<Item = Combination<'_>> {
        self.classes.chunks_exact(self.width).map(Combination)
    }
}

/// Whoever asks for the class of a text.
#[derive(Clone, Copy)]
enum Asking<'a> {
    Scope(&'a HashMap<String, u32>),
    Field(&'a FieldPrices),
}

impl Asking<'_> {
    fn class(self, text: Option<&str>) -> Class {
        match (self, text) {
            (Asking::Scope(scopes), text) => {
                let known = text.and_then(|text| scopes.get(text));
                Class { value: known.copied().unwrap_or(ANY_SCOPE), number: 0 }
            }
            (Asking::Field(_), None) => Class::ABSENT,
            (Asking::Field(field), Some(text)) => {
                let reached = |number| {
                    index_u32(field.bounds.partition_point(|bound: &Decimal| *bound <= number))
                };
                let number = if field.bounds.is_empty() {
                    0
                } else {
                    amount::parse_attribute(text).map_or(Class::NOT_A_NUMBER, reached)
                };
                let value = field.values.get(text).map_or(0, |index| index + 1);
                Class { value, number }
            }
        }
    }
}

/// The classes that occur in one column, and which one each code has.
struct ClassColumn<'a> {
    codes: Cow<'a, [i32]>,
    classes: Vec<Class>,
    /// By code, the index into `classes`.
    by_code: Vec<u32>,
    /// The same for rows without a value.
    other: u32,
}

impl<'a> ClassColumn<'a> {
    /// Asks for the class of each text once.
    fn new(texts: &Texts<'a>, asking: Asking<'_>) -> ClassColumn<'a> {
        let codes = texts.codes();
        let mut classes = Vec::new();
        let mut known: QuickHashMap<Class, u32> = QuickHashMap::default();
        let mut index_of = |text: Option<&str>| {
            let class = asking.class(text);
            *known.entry(class).or_insert_with(|| {
                classes.push(class);
                index_u32(classes.len() - 1)
            })
        };
        let other = index_of(None);
        let mut by_code = vec![other; texts.dictionary.len()];
        if by_code.len() <= codes.len() {
            for (code, index) in by_code.iter_mut().enumerate() {
                *index = texts.with_text(code, &mut index_of);
            }
        } else {
            // The dictionary is that of a larger batch: most of it has no row here.
            let mut is_known = vec![false; by_code.len()];
            for code in codes.iter().filter_map(|code| usize::try_from(*code).ok()) {
                if is_known.get(code) == Some(&false) {
                    is_known[code] = true;
                    by_code[code] = texts.with_text(code, &mut index_of);
                }
            }
        }
        ClassColumn { codes, classes, by_code, other }
    }

    fn codes(&self) -> Codes<'_> {
        Codes { rows: &self.codes, numbers: &self.by_code, other: self.other }
    }

    fn class_at(&self, row: usize) -> Class {
        self.classes[self.codes().number(self.codes[row]) as usize]
    }
}

fn index_u32(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 rows, a service as many rules")
}

fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<Texts<'a>>> {
    let Some((index, field)) = batch.schema_ref().fields().find(name) else { return Ok(None) };
    let column = batch.column(index).as_any().downcast_ref::<Attribute>();
    let column =
        column.ok_or_else(|| Error::bad_data(format!("column `{name}` is no dictionary")))?;
    let is_json = field.metadata().get(ENCODING_KEY).is_some_and(|it| it == ENCODING_JSON);
    Texts::new(column, if is_json { Encoding::Json } else { Encoding::Plain }).map(Some)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Plain,
    Json,
}

/// An attribute column with its dictionary.
struct Texts<'a> {
    column: &'a Attribute,
    dictionary: &'a StringArray,
    encoding: Encoding,
}

impl<'a> Texts<'a> {
    fn new(column: &'a Attribute, encoding: Encoding) -> Result<Texts<'a>> {
        let dictionary = column.values().as_any().downcast_ref::<StringArray>();
        let dictionary = dictionary
            .ok_or_else(|| Error::bad_data("a dictionary holds something else than text"))?;
        Ok(Texts { column, dictionary, encoding })
    }

    /// The code of each row.
    fn codes(&self) -> Cow<'a, [i32]> {
        let keys = self.column.keys();
        match keys.nulls() {
            None => Cow::Borrowed(keys.values()),
            Some(nulls) => {
                let code = |(code, is_there): (&i32, bool)| if is_there { *code } else { NO_CODE };
                keys.values().iter().zip(nulls).map(code).collect()
            }
        }
    }

    /// The text of a code; none for a code that the dictionary doesn't have.
    fn with_text<C>(&self, code: usize, class_of: impl FnOnce(Option<&str>) -> C) -> C {
        let is_there = code < self.dictionary.len() && self.dictionary.is_valid(code);
        match (is_there.then(|| self.dictionary.value(code)), self.encoding) {
            (Some(json), Encoding::Json) => match serde_json::from_str::<String>(json) {
                Ok(text) => class_of(Some(&text)),
                Err(_) => class_of(Some(json)),
            },
            (text, _) => class_of(text),
        }
    }
}
