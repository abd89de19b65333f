use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::columns::{Columns, KeysOfCodes, Row};
use super::texts::Texts;
use crate::ledger::RatedSlice;
use crate::usage::{MetricId, Period};

/// Most attributes of the rows of one period, type and unit.
pub(super) const ATTRIBUTES_MAX: usize = 256;

/// Most slices (rows of one period, type and unit) of a push.
pub(super) const SLICES_MAX: usize = 32 << 10;

/// Most values of attributes in a push, absent ones included.
pub(super) const CELLS_MAX: usize = 16 << 20;

/// Most different texts in a push.
pub(super) const TEXTS_MAX: usize = 4 << 20;

/// Rows by what they have in common, in the order in which that first came up.
#[derive(Debug)]
pub(super) struct Slices<K> {
    index: HashMap<K, usize>,
    entries: Vec<(K, Columns)>,
    /// The entry that was changed last: mostly it is the next one too.
    last: usize,
    cells: usize,
}

impl<K> Default for Slices<K> {
    fn default() -> Slices<K> {
        Slices { index: HashMap::new(), entries: Vec::new(), last: 0, cells: 0 }
    }
}

/// One of this is too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error("the rows of a type in a period must have at most {ATTRIBUTES_MAX} attributes")]
    Attributes,
    #[error("a push must have at most {SLICES_MAX} combinations of period, type and unit")]
    Slices,
    #[error("the attributes of a push must have at most {CELLS_MAX} values")]
    Cells,
    #[error("a push must have at most {TEXTS_MAX} different texts")]
    Texts,
}

impl<K: Copy + Eq + Hash> Slices<K> {
    pub(super) fn push(&mut self, key: K, row: &Row) -> Result<(), TooMuch> {
        self.change(key, |columns| columns.push(row))
    }

    fn change(&mut self, key: K, change: impl FnOnce(&mut Columns)) -> Result<(), TooMuch> {
        if self.entries.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = *self.index.entry(key).or_insert_with(|| {
                self.entries.push((key, Columns::default()));
                self.entries.len() - 1
            });
        }
        let columns = &mut self.entries[self.last].1;
        self.cells -= columns.cells();
        change(columns);
        self.cells += columns.cells();
        if columns.attributes() > ATTRIBUTES_MAX {
            return Err(TooMuch::Attributes);
        }
        if self.entries.len() > SLICES_MAX {
            return Err(TooMuch::Slices);
        }
        if self.cells > CELLS_MAX { Err(TooMuch::Cells) } else { Ok(()) }
    }

    /// Takes rows of others, their keys translated.
    pub(super) fn append<L>(
        &mut self,
        others: Slices<L>,
        key: impl Fn(L) -> K,
    ) -> Result<(), TooMuch> {
        for (other, columns) in others.entries {
            self.change(key(other), |own| own.append(columns))?;
        }
        Ok(())
    }

    /// Drops all rows of some keys.
    pub(super) fn remove(&mut self, is_removed: impl Fn(K) -> bool) {
        if !self.index.keys().any(|key| is_removed(*key)) {
            return;
        }
        self.entries.retain(|(key, _)| !is_removed(*key));
        self.index = self.entries.iter().enumerate().map(|(at, (key, _))| (*key, at)).collect();
        self.cells = self.entries.iter().map(|(_, columns)| columns.cells()).sum();
    }
}

/// Period, type and unit of the rows of a slice.
pub(super) type SliceKey = (Period, u32, u32);

impl Slices<SliceKey> {
    /// As the ledger takes them. Each slice's columns go as its batches come.
    pub(super) fn finish(self, texts: &mut Texts) -> Vec<RatedSlice> {
        let nobody_rated = Arc::from([]);
        let mut keys = KeysOfCodes::default();
        let finish = |((period, metric, unit), columns): (SliceKey, Columns)| {
            let name = texts.text(metric).to_owned();
            let unit = texts.text(unit).to_owned();
            let (scopes, rows) = columns.finish(texts, &mut keys);
            RatedSlice {
                metric: MetricId { name: name.clone(), alt_name: name },
                unit,
                description: None,
                period,
                scopes,
                rows,
                rated_by: Arc::clone(&nobody_rated),
                rated_scope_key: None,
            }
        };
        self.entries.into_iter().filter(|(_, rows)| rows.rows() > 0).map(finish).collect()
    }
}
