//! A witness beside sled: which change was acknowledged last.
//!
//! sled takes damage near the end of its log for the end of the log. What stood behind it is gone
//! then as if it had never been, and nothing in sled can tell. This file can: it has a mark of each
//! of the last changes.
//!
//! ```text
//! <ledger>/marks    1024 slots of 64 bytes; that of a change is `change` modulo 1024
//! slot = 'M' 1 change:u64le tables:u32le begin:i64le end:i64le zeros crc32(all before):u32le
//! ```
//!
//! `tables` has a bit for each table that the change wrote to, `begin` and `end` are the begins of
//! its first and last period (`begin` > `end`: it has none). A slot that is damaged or torn is left
//! out.
//!
//! A mark is written after its change is durable and before it is acknowledged, and is never ahead
//! of the ledger. It is not synced with each change: a power cut may take the marks of the last
//! half minute, which hides a loss only if the log loses something in that moment too. A mark that
//! cannot be written does not fail the change; it is logged, and told by a gauge.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::error;

use super::lost::Lost;
use super::slice::SliceKey;
use super::store::{Table, Write};

const SLOT_SIZE: usize = 64;
const SLOTS: usize = 1024;
const FILE_NAME: &str = "marks";

/// What one change was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    change: u64,
    tables: u32,
    begin_secs: i64,
    end_secs: i64,
}

impl Mark {
    pub(super) fn of(change: u64, writes: &[Write]) -> Mark {
        let mut mark = Mark { change, tables: 0, begin_secs: i64::MAX, end_secs: i64::MIN };
        for write in writes {
            mark.tables |= 1 << (write.table as u32);
            let key = match write.table {
                Table::Slices => write.key.as_slice(),
                Table::Staged => write.key.get(8..).unwrap_or_default(),
                _ => continue,
            };
            if let Ok(key) = SliceKey::read(key) {
                mark.begin_secs = mark.begin_secs.min(key.begin_secs);
                mark.end_secs = mark.end_secs.max(key.begin_secs);
            }
        }
        mark
    }

    pub(super) fn encode(self) -> [u8; SLOT_SIZE] {
        let mut slot = [0; SLOT_SIZE];
        slot[..2].copy_from_slice(&[b'M', 1]);
        slot[2..10].copy_from_slice(&self.change.to_le_bytes());
        slot[10..14].copy_from_slice(&self.tables.to_le_bytes());
        slot[14..22].copy_from_slice(&self.begin_secs.to_le_bytes());
        slot[22..30].copy_from_slice(&self.end_secs.to_le_bytes());
        let crc = crc32fast::hash(&slot[..SLOT_SIZE - 4]);
        slot[SLOT_SIZE - 4..].copy_from_slice(&crc.to_le_bytes());
        slot
    }

    pub(super) fn decode(slot: &[u8]) -> Option<Mark> {
        let (body, crc) = slot.split_last_chunk::<4>()?;
        let is_sound = crc32fast::hash(body) == u32::from_le_bytes(*crc);
        if !is_sound || body.get(..2)? != [b'M', 1] {
            return None;
        }
        Some(Mark {
            change: u64::from_le_bytes(body.get(2..10)?.try_into().ok()?),
            tables: u32::from_le_bytes(body.get(10..14)?.try_into().ok()?),
            begin_secs: i64::from_le_bytes(body.get(14..22)?.try_into().ok()?),
            end_secs: i64::from_le_bytes(body.get(22..30)?.try_into().ok()?),
        })
    }
}

#[derive(Debug)]
pub(super) struct Marks {
    file: File,
    /// As they were at the start.
    found: Vec<Mark>,
    has_failed: AtomicBool,
}

impl Marks {
    /// Makes the file when it is missing.
    pub(super) fn open(ledger: &Path) -> io::Result<Marks> {
        let path = ledger.join(FILE_NAME);
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true);
            options
        };
        let file = match options().open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = options().create(true).truncate(false).open(&path)?;
                file.write_all_at(&vec![0; SLOT_SIZE * SLOTS], 0)?;
                file.sync_all()?;
                File::open(ledger)?.sync_all()?;
                file
            }
            file => file?,
        };
        let found = std::fs::read(&path)?.chunks(SLOT_SIZE).filter_map(Mark::decode).collect();
        // What was found is what a later start will find.
        file.sync_data()?;
        Ok(Marks { file, found, has_failed: AtomicBool::new(false) })
    }

    pub(super) fn put(&self, mark: Mark) {
        let slot = usize::try_from(mark.change % SLOTS as u64).expect("there are few slots");
        let offset = (slot * SLOT_SIZE) as u64;
        // It is a witness only: the change is durable without it.
        let written = self.file.write_all_at(&mark.encode(), offset);
        let had_failed = self.has_failed.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written
            && !had_failed
        {
            error!(%error, "A loss of the last changes is not noticed: no marks are written.");
        }
    }

    /// Whether the last one was.
    pub(super) fn are_written(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }

    /// The last change that was acknowledged, as far as is known.
    pub(super) fn last(&self) -> u64 {
        self.found.iter().map(|mark| mark.change).max().unwrap_or(0)
    }

    /// The changes behind this one that were acknowledged. Where a mark of one of them is missing
    /// too, they may have been about anything.
    pub(super) fn lost_after(&self, change: u64) -> Option<Lost> {
        let later = self.found.iter().filter(|mark| mark.change > change);
        let last = later.clone().map(|mark| mark.change).max()?;
        if later.clone().count() as u64 != last - change {
            return Some(Lost::of_anything(change + 1, last));
        }
        let tables = later.clone().fold(0, |tables, mark| tables | mark.tables);
        let begin = later.clone().map(|mark| mark.begin_secs).min().unwrap_or(i64::MAX);
        let end = later.map(|mark| mark.end_secs).max().unwrap_or(i64::MIN);
        let periods = (begin <= end).then_some((begin, end));
        Some(Lost { first: change + 1, last, tables, periods })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::sled::slice::time_bytes;

    #[test]
    fn marks_that_cannot_be_written_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::open(folder.path()).unwrap();
        marks.put(Mark::of(1, &[]));
        assert!(marks.are_written());
        let read_only = File::open(folder.path().join(FILE_NAME)).unwrap();
        let marks = Marks { file: read_only, ..marks };

        marks.put(Mark::of(2, &[]));

        assert!(!marks.are_written());
    }

    #[test]
    fn what_was_acknowledged_is_known_and_a_damaged_mark_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::open(folder.path()).unwrap();
        assert_eq!(marks.lost_after(0), None);
        let slice = |secs| {
            let key = [time_bytes(secs).as_slice(), &[0; 12]].concat();
            Write::put(Table::Slices, key, Vec::new())
        };
        marks.put(Mark::of(1, &[slice(500)]));
        marks.put(Mark::of(2, &[slice(900), slice(700)]));
        marks.put(Mark::of(3, &[Write::remove(Table::Kv, Vec::new())]));

        let lost = Marks::open(folder.path()).unwrap().lost_after(1).unwrap();

        let tables = 1 << Table::Slices as u32 | 1 << Table::Kv as u32;
        assert_eq!(lost, Lost { first: 2, last: 3, tables, periods: Some((700, 900)) });
        let path = folder.path().join(FILE_NAME);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3 * SLOT_SIZE + 11] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Marks::open(folder.path()).unwrap().lost_after(1).unwrap().last, 2);
        assert_eq!(Marks::open(folder.path()).unwrap().lost_after(2), None);
    }
}
