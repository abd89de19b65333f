//! Changes that were acknowledged and are not there any more (see `marks`).
//!
//! They are noted, as `seal` says, until somebody accepts that. `tables` has a bit for each
//! table that they were about. Until then nobody is given figures of their periods, of which there
//! may be others now; and if rules, states, scopes or metrics were among them, nothing is rated.
//! Rules and states themselves are shown as they are, so that what is missing can be made up for.

use super::codec::{Damage, Kind, Reader, Writer};
use super::seal::Seals;
use super::store::{Store, Table, Write};
use super::verify;
use crate::ledger::LedgerError;

const LOST: Kind = Kind(b'G', 1);
pub(super) const LOST_PREFIX: &[u8] = b"lost/";

/// Changes that were acknowledged and are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) first: u64,
    pub(super) last: u64,
    /// A bit for each table.
    pub(super) tables: u32,
    /// Begins of the first and the last period.
    pub(super) periods: Option<(i64, i64)>,
}

impl Lost {
    pub(super) fn of_anything(first: u64, last: u64) -> Lost {
        Lost { first, last, tables: u32::MAX, periods: Some((i64::MIN, i64::MAX)) }
    }

    pub(super) fn is_about(&self, table: Table) -> bool {
        self.tables & (1 << (table as u32)) != 0
    }

    pub(super) fn damage(&self) -> LedgerError {
        let place = "the log".to_owned();
        LedgerError::Damaged { place, detail: verify::text_of_lost(self) }
    }

    pub(super) fn write(self) -> Write {
        let mut writer = Writer::framed(LOST);
        writer.uint(self.first);
        writer.uint(self.last);
        writer.uint(u64::from(self.tables));
        writer.u8(u8::from(self.periods.is_some()));
        if let Some((begin, end)) = self.periods {
            writer.int(begin);
            writer.int(end);
        }
        let key = [LOST_PREFIX, &self.last.to_be_bytes()].concat();
        Write::put(Table::Meta, key, writer.seal())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Lost, Damage> {
        let mut reader = Reader::framed(LOST, bytes)?;
        let (first, last, tables) = (reader.uint()?, reader.uint()?, reader.u32()?);
        let periods = match reader.u8()? {
            0 => None,
            _ => Some((reader.int()?, reader.int()?)),
        };
        Ok(Lost { first, last, tables, periods })
    }
}

/// Told and not yet acknowledged.
pub(super) fn list_lost(store: &Store) -> Result<Vec<Lost>, LedgerError> {
    let mut all = Vec::new();
    for entry in store.prefix(Table::Meta, LOST_PREFIX) {
        let (key, record) = entry?;
        // What a damaged note says is not known; its key says until where.
        let last = key.last_chunk::<8>().map_or(0, |last| u64::from_be_bytes(*last));
        all.push(Lost::decode(&record).unwrap_or_else(|_| Lost::of_anything(last, last)));
    }
    Ok(all)
}

/// Whether nothing is lost that was about one of these tables.
pub(super) fn check_lost_of(store: &Store, tables: &[Table]) -> Result<(), LedgerError> {
    let is_about = |lost: &&Lost| tables.iter().any(|table| lost.is_about(*table));
    let found = store.lost().iter().find(is_about);
    found.map_or(Ok(()), |lost| Err(lost.damage()))
}

impl Seals {
    /// Somebody knows of what was lost.
    pub(super) fn forget_lost(store: &Store) -> Result<(), LedgerError> {
        let mut writes = Vec::new();
        for entry in store.prefix(Table::Meta, LOST_PREFIX) {
            writes.push(Write::remove(Table::Meta, entry?.0.to_vec()));
        }
        store.journal(&writes)?;
        store.apply(&writes)
    }
}
