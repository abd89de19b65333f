//! What of the catalog is damaged, and is neither answered nor built upon.
//!
//! A start reads the records of scopes, metrics, chains, cursors, files, states and reprocessings
//! into memory. One that is damaged leaves a hole there, and the start goes on: who needs what
//! stood in it gets an error that names it, all else is answered and changed as before. If records
//! of a table are missing, or older ones stand in their place (`seal`), and nobody can say which,
//! the hole is as wide as the table.
//!
//! - *A scope.* Not answered: the list of scopes; figures that tell it apart from others, or that
//!   pick scopes by an id, attribute or key that may be its own. Its id is nowhere else, so any
//!   that is not known may be its own; one that is known is another's, and what is asked of that
//!   scope alone is answered. It is not rated, no scope is added, no rows are pushed for an unknown
//!   one, none is reset.
//! - *A metric.* Not answered: whatever is of a period with a slice of it. It is not rated, and no
//!   metric is added.
//! - *Cursors of a metric.* Not answered: the list of scopes, gaps. The metric is not rated, no
//!   scope is reset, no reprocessing of it ends.
//! - *A chain.* Not answered: rows that it rated, and how. Libraries of old stay.
//! - *A file.* Nothing is written into files that were there.
//! - *A state.* Not answered: states of its kind, rules of its instance. Without a module's or
//!   collector's state nothing is rated; without the lists of metrics no scope or metric is added.
//! - *A scope in a reprocessing that is not finished.* That one waits, and the list of
//!   reprocessings is not answered.
//! - *A reprocessing.* Not answered: reprocessings, differences. None begins or ends, and no scope
//!   is reset.
//!
//! The hole of one record becomes as wide as its table when a later start finds that another one
//! went missing: by how much their seal is off is kept. Nobody notices what went missing in the
//! same start as a record was damaged: their seal is off either way. Restore a backup soon.
//!
//! Beside any hole nothing is compacted or forgotten, and no backup is begun. What can be told from
//! elsewhere leaves none: counters, failed attempts, sums of days and months, dictionaries of
//! columns, and the journal of a change that is in its places. Is it not, or can nobody tell the
//! counters, no change is taken.
//!
//! The start is refused only if the header is damaged, which says how all else is to be read, if
//! the page of sled is torn in which the ledger's other notes on itself stand, if sled itself does
//! not open, or if an older format would have to be raised: there is nothing that could be answered
//! or changed without a guess.

use std::collections::BTreeMap;

use super::codec::Damage;
use super::store::{Table, damaged};
use crate::ledger::LedgerError;

/// By table and key what is to be said of it; without a key, of the whole table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Holes(BTreeMap<(Table, Vec<u8>), Hole>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Hole {
    place: String,
    detail: String,
}

impl Hole {
    fn error(&self) -> LedgerError {
        LedgerError::Damaged { place: self.place.clone(), detail: self.detail.clone() }
    }
}

impl Holes {
    pub(super) fn add(&mut self, table: Table, key: &[u8], place: String, damage: Damage) {
        self.put(table, key, damaged(place, damage));
    }

    /// What was found when a record was read; other errors stay errors.
    pub(super) fn take<T>(
        &mut self,
        table: Table,
        key: &[u8],
        result: Result<T, LedgerError>,
    ) -> Result<Option<T>, LedgerError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error @ LedgerError::Damaged { .. }) => {
                self.put(table, key, error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn put(&mut self, table: Table, key: &[u8], error: LedgerError) {
        if let LedgerError::Damaged { place, detail } = error {
            self.0.entry((table, key.to_vec())).or_insert(Hole { place, detail });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether nothing of a table is damaged.
    pub(super) fn check(&self, table: Table) -> Result<(), LedgerError> {
        self.check_below(table, &[])
    }

    /// Whether nothing is damaged whose key begins like that.
    pub(super) fn check_below(&self, table: Table, prefix: &[u8]) -> Result<(), LedgerError> {
        let is_below = |(key, _): &(&(Table, Vec<u8>), &Hole)| {
            key.0 == table && (key.1.is_empty() || key.1.starts_with(prefix))
        };
        self.0.iter().find(is_below).map_or(Ok(()), |(_, hole)| Err(hole.error()))
    }

    /// Whether a record is whole.
    pub(super) fn check_at(&self, table: Table, key: &[u8]) -> Result<(), LedgerError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let hole = |key: &[u8]| self.0.get(&(table, key.to_vec()));
        hole(&[]).or_else(|| hole(key)).map_or(Ok(()), |hole| Err(hole.error()))
    }

    /// The same of a record that has a number.
    pub(super) fn check_number(&self, table: Table, number: u32) -> Result<(), LedgerError> {
        self.check_at(table, &number.to_be_bytes())
    }

    /// Whether a record by itself is damaged.
    pub(super) fn has(&self, table: Table, key: &[u8]) -> bool {
        self.0.contains_key(&(table, key.to_vec()))
    }

    /// Whether any is.
    pub(super) fn has_record(&self, table: Table) -> bool {
        self.0.keys().any(|(of, key)| *of == table && !key.is_empty())
    }

    pub(super) fn count_of_records(&self, table: Table) -> usize {
        self.0.keys().filter(|(of, key)| *of == table && !key.is_empty()).count()
    }

    /// Somebody has said anew what stood there.
    pub(super) fn fill(&mut self, table: Table, key: &[u8]) {
        self.0.remove(&(table, key.to_vec()));
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = LedgerError> {
        self.0.values().map(Hole::error)
    }

    pub(super) fn errors_of(&self, table: Table) -> impl Iterator<Item = LedgerError> {
        let of_table = self.0.iter().filter(move |((of, _), _)| *of == table);
        of_table.map(|(_, hole)| hole.error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_as_wide_as_its_table_is_at_every_key_and_one_in_it_is_not() {
        let mut holes = Holes::default();
        assert!(holes.check(Table::Scopes).is_ok());
        holes.add(Table::Scopes, &1_u32.to_be_bytes(), "scope 1".to_owned(), Damage("torn"));
        holes.add(Table::States, b"", "states".to_owned(), Damage("older"));

        assert!(holes.check(Table::Scopes).is_err());
        assert!(holes.check_number(Table::Scopes, 1).is_err());
        assert!(holes.check_number(Table::Scopes, 2).is_ok());
        assert!(holes.check_at(Table::States, b"configured").is_err());
        assert!(holes.check_below(Table::States, b"module/").is_err());
        assert!(holes.check(Table::Metrics).is_ok());
        assert!(holes.has_record(Table::Scopes) && !holes.has_record(Table::States));
        holes.fill(Table::Scopes, &1_u32.to_be_bytes());
        assert!(holes.check(Table::Scopes).is_ok());
    }
}
