//! Gives what is left of a data file a place in another one, so that the file can go.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::catalog::{Catalog, ReprocessingEntry};
use super::codec::{Damage, Reader};
use super::data::{self, FileId};
use super::inner::Inner;
use super::ledger::SledLedger;
use super::query::read_error;
use super::queue::{Company, Stage};
use super::slice::{Slice, SliceKey};
use super::space::Share;
use super::store::{Table, Write, damaged};
use super::{reprocessing, sums};
use crate::fault::{Step, passed};
use crate::ledger::LedgerError;

/// A file is emptied when this part of it is dead …
const DEAD_SHARE: u64 = 4;
/// … and at least so many bytes of it are, or all of them.
const DEAD_SIZE_MIN: u64 = 4 << 10;
/// About how many bytes move in one step.
const MOVE_SIZE: u64 = 4 << 20;

/// Files that are left alone in this pass, because something in them is damaged.
#[derive(Debug, Default)]
pub(super) struct Progress {
    failed: BTreeSet<FileId>,
}

/// What a step has done.
pub(super) struct Moved {
    pub(super) bytes: u64,
    /// A file without a slice, which the ledger does not know any more.
    pub(super) emptied: Option<FileId>,
}

/// Where the record of a slice stands.
#[derive(Debug, Clone)]
pub(super) struct Record {
    table: Table,
    key: Vec<u8>,
    bytes: Vec<u8>,
    pub(super) slice: Slice,
}

impl SledLedger {
    /// `None` = there is nothing to move.
    pub(super) fn move_some(&self, progress: &mut Progress) -> Result<Option<Moved>, LedgerError> {
        let catalog = self.inner.catalog();
        let Some(file) = next_file(&catalog, &progress.failed) else { return Ok(None) };
        let moved = self.move_out_of(file);
        if moved.is_err() {
            progress.failed.insert(file);
        }
        moved.map(Some)
    }

    fn move_out_of(&self, file: FileId) -> Result<Moved, LedgerError> {
        let presence = self.inner.readers.enter();
        let mut bytes = 0;
        let mut moves = Vec::new();
        for record in self.inner.records_in(file)? {
            if bytes >= MOVE_SIZE {
                break;
            }
            bytes += record.slice.extent_size();
            let extent = self.inner.extent(&record.slice)?;
            moves.push((record, extent));
        }
        drop(presence);
        let inner = Arc::clone(&self.inner);
        if moves.is_empty() {
            let change = move |stage: &mut Stage| {
                stage.share = Share::Half;
                let is_empty = inner.records_in(file)?.is_empty();
                if is_empty {
                    data::forget(stage, file);
                    passed(Step::ChangeFileForgotten);
                }
                Ok(is_empty.then_some(file))
            };
            return Ok(Moved { bytes, emptied: self.change_with(Company::Alone, change)? });
        }
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            stage.share = Share::Half;
            // All that may fail comes before the first change.
            let is_as_it_was = |(record, _): &(Record, Vec<u8>)| inner.is_as_it_was(record);
            let as_they_were = moves.iter().map(is_as_it_was).collect::<Result<Vec<_>, _>>()?;
            for ((record, extent), _) in moves.into_iter().zip(as_they_were).filter(|(_, is)| *is) {
                give_new_place(stage, record, extent);
            }
            passed(Step::ChangeMoved);
            Ok(())
        })?;
        Ok(Moved { bytes, emptied: None })
    }
}

/// The file that is the most worth while to empty, in order of months.
fn next_file(catalog: &Catalog, failed: &BTreeSet<FileId>) -> Option<FileId> {
    let is_worth_it = |(file, entry): &(&FileId, &data::FileEntry)| {
        let content = entry.content();
        let is_dead = entry.dead > 0 && entry.dead >= content;
        let is_mostly = entry.dead >= DEAD_SIZE_MIN && entry.dead * DEAD_SHARE >= content;
        (is_dead || is_mostly) && !failed.contains(file)
    };
    catalog.files.iter().find(is_worth_it).map(|(file, _)| *file)
}

impl Inner {
    /// Everything that has its parts in a file.
    fn records_in(&self, file: FileId) -> Result<Vec<Record>, LedgerError> {
        let catalog = self.lock();
        self.records_in_locked(&catalog, file)
    }

    /// The same for who keeps changes away already.
    pub(super) fn records_in_locked(
        &self,
        catalog: &Catalog,
        file: FileId,
    ) -> Result<Vec<Record>, LedgerError> {
        let reading = self.reading(catalog);
        let mut records = Vec::new();
        let (begin_secs, end_secs) = (file.month.begin_secs(), file.month.end_secs());
        let mut add = |table, key: &[u8], slice_key: &[u8], bytes: &[u8]| {
            let slice = reading.slice(slice_key, bytes)?;
            if slice.data_file() == file {
                records.push(Record { table, key: key.to_vec(), bytes: bytes.to_vec(), slice });
            }
            Ok::<(), LedgerError>(())
        };
        let key = |begin_secs| SliceKey { begin_secs, metric: 0, number: 0 };
        for entry in self.store.range(Table::Slices, key(begin_secs).bytes()..key(end_secs).bytes())
        {
            let (key, bytes) = entry?;
            add(Table::Slices, &key, &key, &bytes)?;
        }
        let of_month = |entry: &ReprocessingEntry| entry.meets(begin_secs, end_secs);
        for (id, _) in catalog.reprocessings.iter().filter(|(_, entry)| of_month(entry)) {
            let range = reprocessing::staged_key(*id, key(begin_secs))
                ..reprocessing::staged_key(*id, key(end_secs));
            for table in [Table::Staged, Table::Generations] {
                for entry in self.store.range(table, range.clone()) {
                    let (key, bytes) = entry?;
                    add(table, &key, reprocessing::slice_key_of(&key), &bytes)?;
                }
            }
        }
        for slice in sums::in_file(catalog, file) {
            let (key, bytes) = (sums::key(slice.0, &slice.1), slice.1.encode());
            records.push(Record { table: Table::Sums, key, bytes, slice: slice.1 });
        }
        Ok(records)
    }

    /// The bytes of all parts of a slice, each as sound as its checksum says.
    fn extent(&self, slice: &Slice) -> Result<Vec<u8>, LedgerError> {
        let place = || {
            let key = slice.key();
            self.reading(&self.lock()).place_of_metric(key.begin_secs, key.metric)
        };
        let mut extent = Vec::new();
        let mut offset = slice.offset;
        for part in slice.rollups.iter().chain(&slice.blocks) {
            self.data.with_bytes(slice.data_file(), offset, part.size, |bytes| {
                let bytes = bytes.map_err(|error| read_error(error, place()))?;
                if !Reader::is_sealed(bytes) {
                    return Err(damaged(place(), Damage("its checksum does not fit")));
                }
                extent.extend_from_slice(bytes);
                Ok(())
            })?;
            offset += u64::from(part.size);
        }
        Ok(extent)
    }

    fn is_as_it_was(&self, record: &Record) -> Result<bool, LedgerError> {
        let now = self.store.get(record.table, &record.key)?;
        Ok(now.as_deref() == Some(record.bytes.as_slice()))
    }
}

fn give_new_place(stage: &mut Stage, record: Record, extent: Vec<u8>) {
    let Record { table, key, mut slice, .. } = record;
    let file = slice.data_file();
    data::bury(stage, file, slice.extent_size());
    data::place_outside(stage, &mut slice, extent, Some(file));
    stage.journaled.push(Write::put(table, key.clone(), slice.encode()));
    if table == Table::Sums {
        sums::moved(stage, &key, slice);
    }
}
