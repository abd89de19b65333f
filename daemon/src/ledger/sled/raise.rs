//! Raises a ledger of format 3 or older: rows and sums move from sled into data files.
//!
//! Parts are copied as they are, some MiB at a time; a kill in between leaves slices that have
//! moved and slices that have not, and the next start goes on. What was being written or deleted
//! when the older program ended is left behind.

use super::PENDING_KEY;
use super::data::{self, DataFiles};
use super::holes::Holes;
use super::queue::Stage;
use super::slice::{Part, Slice, SliceKey, part_size};
use super::store::{Store, Table, Write, damaged, store_error};
use crate::fault::{Step, passed};
use crate::ledger::LedgerError;

/// About how many bytes move in one change.
const CHANGE_SIZE: usize = 8 << 20;
/// Keys that are deleted at a time.
const REMOVALS_MAX: usize = 1000;

const OLD_TABLES: [Table; 3] = [Table::Rollups, Table::Blocks, Table::Removed];

pub(super) fn raise(store: &Store, data: &DataFiles) -> Result<(), LedgerError> {
    if OLD_TABLES.iter().all(|table| store.prefix(*table, &[]).next().is_none()) {
        return Ok(());
    }
    let mut raising = Raising { store, data, stage: Stage::default(), size: 0 };
    // Nothing is raised beside damage.
    let mut holes = Holes::default();
    data::load_into(store, &mut raising.stage.catalog, &mut holes)?;
    holes.check(Table::Files)?;
    for (table, prefix_size) in [(Table::Slices, 0), (Table::Staged, 8)] {
        for entry in store.prefix(table, &[]) {
            let (key, record) = entry?;
            raising.add(table, &key, key.get(prefix_size..).unwrap_or_default(), &record)?;
        }
    }
    raising.write()?;
    for table in OLD_TABLES {
        clear(store, table, &[])?;
    }
    clear(store, Table::Meta, PENDING_KEY)
}

struct Raising<'a> {
    store: &'a Store,
    data: &'a DataFiles,
    stage: Stage,
    size: usize,
}

impl Raising<'_> {
    fn add(
        &mut self,
        table: Table,
        key: &[u8],
        slice_key: &[u8],
        record: &[u8],
    ) -> Result<(), LedgerError> {
        let wrong = |damage| damaged("a slice of an older format".to_owned(), damage);
        let mut slice = Slice::decode(slice_key, record).map_err(wrong)?;
        if slice.extent_size() > 0 {
            return Ok(());
        }
        let key_of_parts = slice.key();
        let mut bytes = Vec::new();
        self.copy(Table::Rollups, key_of_parts, &mut slice.rollups, &mut bytes)?;
        self.copy(Table::Blocks, key_of_parts, &mut slice.blocks, &mut bytes)?;
        self.size += bytes.len();
        data::place(&mut self.stage, &mut slice, bytes);
        self.stage.journaled.push(Write::put(table, key.to_vec(), slice.encode()));
        if self.size >= CHANGE_SIZE { self.write() } else { Ok(()) }
    }

    /// Damaged ones too: whoever reads them finds that out.
    fn copy(
        &self,
        table: Table,
        key: SliceKey,
        parts: &mut [Part],
        bytes: &mut Vec<u8>,
    ) -> Result<(), LedgerError> {
        for (index, part) in (0_u16..).zip(parts) {
            let key = [key.bytes().as_slice(), &index.to_be_bytes()].concat();
            let Some(found) = self.store.get(table, &key)? else { continue };
            part.size = part_size(&found);
            bytes.extend_from_slice(&found);
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), LedgerError> {
        data::write_changed(&mut self.stage);
        self.data.append(&std::mem::take(&mut self.stage.extents)).map_err(store_error)?;
        passed(Step::RaiseExtentsWritten);
        let writes = std::mem::take(&mut self.stage.journaled);
        self.size = 0;
        self.store.journal(&writes)?;
        passed(Step::RaiseJournaled);
        self.store.apply(&writes)?;
        passed(Step::RaiseApplied);
        Ok(())
    }
}

fn clear(store: &Store, table: Table, prefix: &[u8]) -> Result<(), LedgerError> {
    loop {
        let mut removals = Vec::new();
        for entry in store.prefix(table, prefix).take(REMOVALS_MAX) {
            removals.push(Write::remove(table, entry?.0.to_vec()));
        }
        if removals.is_empty() {
            return Ok(());
        }
        store.apply(&removals)?;
        passed(Step::RaiseCleared);
    }
}
