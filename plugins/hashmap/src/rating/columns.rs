//! Sorts the rows of a batch into combinations of what the rules look at.
//!
//! The codes of an attribute's dictionary are first mapped to *classes*: codes that every rule
//! treats alike are one class, so an attribute with a different value in each row makes no more
//! classes than there are rules. Rows with the same class in every column are one combination.

use std::collections::HashMap;

use arrow_array::{Array, RecordBatch, StringArray};
use rated_plugin::{Attribute, Error, Result, UsageBatch};

use super::levels::ANY_SCOPE;
use super::price_list::{FieldPrices, ServicePrices};
use crate::amount;

/// The key of a column's metadata that says that its texts are JSON values.
const ENCODING_KEY: &str = "rated.encoding";
const ENCODING_JSON: &str = "json";
/// A dense table up to this many entries beats a hash map.
const DENSE_MAX: usize = 1 << 16;
const UNKNOWN: u32 = u32::MAX;

/// What the rules know of an attribute in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Class {
    Absent,
    /// The index of the value's mappings, and where it is among the field's levels.
    Present(Option<u32>, Number),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Number {
    /// Nobody asks.
    Unasked,
    /// Thresholds ask, and it is none.
    Missing,
    /// It reaches that many of the field's levels.
    Reaches(u32),
}

/// The classes that occur in one column, and which one each row has.
#[derive(Debug)]
struct ClassColumn<C> {
    classes: Vec<C>,
    rows: Vec<u32>,
}

/// One combination: a scope's number and a class for each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Combination {
    pub(super) scope: u32,
    pub(super) fields: Vec<Class>,
}

/// The distinct combinations, and which one each row has.
#[derive(Debug)]
pub(super) struct Combinations {
    pub(super) distinct: Vec<Combination>,
    pub(super) rows: Vec<u32>,
}

impl Combinations {
    pub(super) fn of(
        prices: &ServicePrices,
        batch: &RecordBatch,
        usage: &UsageBatch<'_>,
    ) -> Result<Combinations> {
        let scopes = (!prices.scopes.is_empty())
            .then(|| scope_column(prices, usage.scope_ids()))
            .transpose()?;
        let fields = prices
            .fields
            .iter()
            .map(|field| field_column(field, batch, usage.rows()))
            .collect::<Result<Vec<_>>>()?;
        let mut sorted = Sorted::new(usage.rows());
        if let Some(scopes) = &scopes {
            sorted.refine(&scopes.rows, scopes.classes.len());
        }
        for field in &fields {
            sorted.refine(&field.rows, field.classes.len());
        }
        let distinct = sorted.examples.iter().map(|row| Combination {
            scope: scopes.as_ref().map_or(ANY_SCOPE, |it| it.classes[it.rows[*row] as usize]),
            fields: fields.iter().map(|it| it.classes[it.rows[*row] as usize]).collect(),
        });
        Ok(Combinations { distinct: distinct.collect(), rows: sorted.ids })
    }
}

/// Rows sorted by the columns seen so far.
struct Sorted {
    /// The sort of each row.
    ids: Vec<u32>,
    /// A row of each sort.
    examples: Vec<usize>,
}

impl Sorted {
    fn new(rows: usize) -> Sorted {
        Sorted { ids: vec![0; rows], examples: if rows == 0 { Vec::new() } else { vec![0] } }
    }

    /// Tells apart what another column tells apart.
    fn refine(&mut self, column: &[u32], classes: usize) {
        if classes <= 1 {
            return;
        }
        let size = self.examples.len() * classes;
        let mut dense = vec![UNKNOWN; if size <= DENSE_MAX { size } else { 0 }];
        let mut sparse: HashMap<usize, u32> = HashMap::new();
        let mut examples = Vec::new();
        for (row, (id, class)) in self.ids.iter_mut().zip(column).enumerate() {
            let key = *id as usize * classes + *class as usize;
            let known = match dense.get_mut(key) {
                Some(known) => known,
                None => sparse.entry(key).or_insert(UNKNOWN),
            };
            if *known == UNKNOWN {
                *known = u32::try_from(examples.len()).expect("a batch has fewer than 2^32 rows");
                examples.push(row);
            }
            *id = *known;
        }
        self.examples = examples;
    }
}

fn scope_column(prices: &ServicePrices, column: &Attribute) -> Result<ClassColumn<u32>> {
    let texts = Texts::new(column, Encoding::Plain)?;
    let rows = texts
        .classify(|text| text.and_then(|it| prices.scopes.get(it).copied()).unwrap_or(ANY_SCOPE));
    Ok(rows)
}

/// A groupby attribute wins over a metadata one where a row has both.
fn field_column(
    field: &FieldPrices,
    batch: &RecordBatch,
    rows: usize,
) -> Result<ClassColumn<Class>> {
    let classify = |text: Option<&str>| classify(field, text);
    let groupby = find(batch, &format!("groupby.{}", field.name))?;
    let metadata = find(batch, &format!("metadata.{}", field.name))?;
    Ok(match (groupby, metadata) {
        (Some(texts), None) | (None, Some(texts)) => texts.classify(classify),
        (Some(first), Some(second)) => {
            overlay(&first.classify(classify), &second.classify(classify))
        }
        (None, None) => ClassColumn { classes: vec![Class::Absent], rows: vec![0; rows] },
    })
}

fn overlay(first: &ClassColumn<Class>, second: &ClassColumn<Class>) -> ClassColumn<Class> {
    let shift = u32::try_from(first.classes.len()).expect("fewer classes than rows");
    let pick =
        |(first_class, second_class): (&u32, &u32)| match first.classes[*first_class as usize] {
            Class::Absent => second_class + shift,
            Class::Present(..) => *first_class,
        };
    ClassColumn {
        classes: first.classes.iter().chain(&second.classes).copied().collect(),
        rows: first.rows.iter().zip(&second.rows).map(pick).collect(),
    }
}

fn classify(field: &FieldPrices, text: Option<&str>) -> Class {
    let Some(text) = text else { return Class::Absent };
    let number = if field.bounds.is_empty() {
        Number::Unasked
    } else {
        amount::parse_attribute(text).map_or(Number::Missing, |number| {
            let count = field.bounds.partition_point(|bound| *bound <= number);
            Number::Reaches(u32::try_from(count).expect("rules are fewer than 2^32"))
        })
    };
    Class::Present(field.values.get(text).copied(), number)
}

fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<Option<Texts<'a>>> {
    let Ok(index) = batch.schema_ref().index_of(name) else { return Ok(None) };
    let column = batch.column(index).as_any().downcast_ref::<Attribute>();
    let column =
        column.ok_or_else(|| Error::bad_data(format!("column `{name}` is no dictionary")))?;
    let metadata = batch.schema_ref().field(index).metadata();
    let is_json = metadata.get(ENCODING_KEY).is_some_and(|it| it == ENCODING_JSON);
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

    /// Asks for the class of each code that occurs, once.
    fn classify<C: Copy + Eq + std::hash::Hash>(
        &self,
        class_of: impl Fn(Option<&str>) -> C,
    ) -> ClassColumn<C> {
        let mut classes = Vec::new();
        let mut numbers: HashMap<C, u32> = HashMap::new();
        let mut number = |class: C| {
            *numbers.entry(class).or_insert_with(|| {
                classes.push(class);
                u32::try_from(classes.len() - 1).expect("a batch has fewer than 2^32 rows")
            })
        };
        let keys = self.column.keys();
        // One entry more than there are codes, for the rows without a value.
        let absent = self.dictionary.len();
        let mut known = vec![UNKNOWN; absent + 1];
        let rows = (0..self.column.len()).map(|row| {
            let code = if keys.is_null(row) {
                absent
            } else {
                usize::try_from(keys.value(row)).map_or(absent, |code| code.min(absent))
            };
            if known[code] == UNKNOWN {
                let is_there = code < absent && self.dictionary.is_valid(code);
                let text = is_there.then(|| self.dictionary.value(code));
                known[code] = number(self.with_text(text, &class_of));
            }
            known[code]
        });
        let rows = rows.collect();
        ClassColumn { classes, rows }
    }

    fn with_text<C>(&self, text: Option<&str>, class_of: impl Fn(Option<&str>) -> C) -> C {
        match (text, self.encoding) {
            (Some(json), Encoding::Json) => match serde_json::from_str::<String>(json) {
                Ok(text) => class_of(Some(&text)),
                Err(_) => class_of(Some(json)),
            },
            (text, _) => class_of(text),
        }
    }
}
