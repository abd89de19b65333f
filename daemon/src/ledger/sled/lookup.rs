//! Attributes of a block's rows in terms of numbers that mean something to a query.
//!
//! The texts of a dictionary are looked at once for a query (and thread), not once for each block.

use std::sync::Arc;

use super::block::{AttributeColumn, Block};
use super::hash::NumberMap;
use super::query::{BlockError, Reading, Selection};
use super::texts::ABSENT;
use crate::ledger::LedgerError;

/// By dictionary and code the number that a text has, as far as they were met. A dictionary has at
/// most half a million of codes.
#[derive(Debug, Default)]
pub(super) struct CodeNumbers(NumberMap<(u32, u32), Vec<u32>>);

/// Not met yet.
const UNKNOWN: u32 = u32::MAX;

/// What a block's rows have of an attribute.
#[derive(Debug)]
pub(super) enum Attribute {
    /// All rows have this number.
    Same(u32),
    Differs {
        /// By row.
        indexes: Vec<u32>,
        /// By index.
        numbers: Vec<u32>,
    },
}

impl CodeNumbers {
    /// An attribute of a block; `number` is asked for texts, absent ones are empty. Of several
    /// columns of that name each row is told by the first that has something for it.
    pub(super) fn attribute(
        &mut self,
        reading: Reading<'_>,
        (block, name): (&Block<'_>, &str),
        mut number: impl FnMut(&str) -> u32,
    ) -> Result<Attribute, BlockError> {
        let mut columns = block.attributes(name);
        let Some(first) = columns.next() else { return Ok(Attribute::Same(number(""))) };
        let mut distinct = first.distinct()?;
        let mut numbers = self.of_column(reading, first, &distinct, &mut number)?;
        let mut indexes = None;
        for column in columns {
            let indexes = match &mut indexes {
                Some(indexes) => indexes,
                None => indexes.insert(first.indexes(block.rows)?),
            };
            let offset = u32::try_from(distinct.len()).expect("a block has few rows");
            for (index, other) in indexes.iter_mut().zip(column.indexes(block.rows)?) {
                if distinct[*index as usize] == ABSENT {
                    *index = offset + other;
                }
            }
            let more = column.distinct()?;
            numbers.extend(self.of_column(reading, column, &more, &mut number)?);
            distinct.extend(more);
        }
        match (numbers.first(), indexes) {
            (None, _) => Ok(Attribute::Same(number(""))),
            (Some(same), None) if numbers.iter().all(|other| other == same) => {
                Ok(Attribute::Same(*same))
            }
            (_, Some(indexes)) => Ok(Attribute::Differs { indexes, numbers }),
            (_, None) => Ok(Attribute::Differs { indexes: first.indexes(block.rows)?, numbers }),
        }
    }

    fn of_column(
        &mut self,
        reading: Reading<'_>,
        column: &AttributeColumn<'_>,
        codes: &[u32],
        number: &mut impl FnMut(&str) -> u32,
    ) -> Result<Vec<u32>, LedgerError> {
        let key = (column.dictionary, u32::from(column.name.is_json));
        let known = self.0.entry(key).or_default();
        let is_new = |code: &u32| known.get(*code as usize).is_none_or(|known| *known == UNKNOWN);
        let new: Vec<u32> = codes.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            let texts = reading.texts.decode(reading.store, column.dictionary, &new)?;
            let highest = new.iter().copied().max().unwrap_or(0) as usize;
            if known.len() <= highest {
                known.resize(highest + 1, UNKNOWN);
            }
            for (code, mut text) in new.iter().zip(texts) {
                if column.name.is_json {
                    text.iter_mut().for_each(unquote);
                }
                known[*code as usize] = number(text.as_deref().unwrap_or(""));
            }
        }
        Ok(codes.iter().map(|code| known[*code as usize]).collect())
    }
}

/// A JSON string is what it says; any other JSON is its text.
fn unquote(text: &mut Arc<str>) {
    if text.starts_with('"')
        && let Ok(string) = serde_json::from_str::<String>(text)
    {
        *text = string.into();
    }
}

/// The rows of a block whose attributes have the wanted texts.
#[derive(Debug)]
pub(super) enum Matches {
    None,
    All,
    /// By row.
    Some(Vec<bool>),
}

impl Matches {
    pub(super) fn has(&self, row: usize) -> bool {
        match self {
            Matches::None => false,
            Matches::All => true,
            Matches::Some(rows) => rows[row],
        }
    }
}

/// Finds rows by their attributes.
#[derive(Debug)]
pub(super) struct Matcher<'a> {
    selection: &'a Selection<'a>,
    /// By attribute of the selection; 1 = wanted.
    tables: Vec<CodeNumbers>,
}

impl<'a> Matcher<'a> {
    pub(super) fn new(selection: &'a Selection<'a>) -> Matcher<'a> {
        let tables = selection.attributes.iter().map(|_| CodeNumbers::default()).collect();
        Matcher { selection, tables }
    }

    pub(super) fn selection(&self) -> &'a Selection<'a> {
        self.selection
    }

    /// Columns whose texts say it all are not unpacked any further.
    pub(super) fn matches(
        &mut self,
        reading: Reading<'_>,
        block: &Block<'_>,
    ) -> Result<Matches, BlockError> {
        let mut matches = Matches::All;
        for ((name, values), table) in self.selection.attributes.iter().zip(&mut self.tables) {
            let is_wanted = |text: &str| u32::from(values.iter().any(|value| value == text));
            match table.attribute(reading, (block, name), is_wanted)? {
                Attribute::Same(1) => {}
                Attribute::Same(_) => return Ok(Matches::None),
                Attribute::Differs { indexes, numbers } => {
                    let is_wanted = indexes.iter().map(|index| numbers[*index as usize] == 1);
                    match &mut matches {
                        Matches::Some(rows) => {
                            rows.iter_mut().zip(is_wanted).for_each(|(row, more)| *row &= more);
                        }
                        _ => matches = Matches::Some(is_wanted.collect()),
                    }
                }
            }
        }
        Ok(matches)
    }
}
