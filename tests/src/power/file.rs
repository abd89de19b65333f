//! One file: what it reads as now, and how much of that would survive a power cut.
//!
//! The content is kept once, as it is now. What was done since the last sync is kept beside it,
//! with what it has overwritten, so that the synced content can be had back.
//!
//! A cut is worked out as what a page cache does: after each operation some of the sectors that it
//! touched may have been written to the disk as they were at that moment. So of two writes to one
//! sector the second never survives without the first, as on a real disk; everything else may
//! happen: any subset, in any order, torn between sectors, a length without its content, or content
//! without the length that it needs.

use std::sync::Arc;

use super::random::Random;

/// What a disk writes as a whole or not at all.
pub const SECTOR_SIZE: usize = 512;

#[derive(Debug, Clone, Default)]
pub(super) struct File {
    /// Disks are copied; most files of them never change.
    content: Arc<Vec<u8>>,
    unsynced: Vec<Operation>,
}

#[derive(Debug, Clone)]
struct Operation {
    offset: usize,
    /// What was there, as far as the file went.
    old: Vec<u8>,
    old_len: usize,
    /// What was written; empty = the length was set.
    new: Vec<u8>,
    new_len: usize,
}

/// How much of what was not synced is on the disk after all.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Nothing,
    /// The first operations.
    Prefix(usize),
    /// Whole operations, so many of a hundred.
    Operations(u64),
    /// Sectors, so many of a hundred.
    Sectors(u64),
    Everything,
}

impl File {
    pub(super) fn synced(content: Vec<u8>) -> File {
        File { content: Arc::new(content), unsynced: Vec::new() }
    }

    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    pub(super) fn len(&self) -> usize {
        self.content.len()
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let old_len = self.content.len();
        let end = offset + bytes.len();
        let old = self.content.get(offset..end.min(old_len)).unwrap_or_default().to_vec();
        let new_len = old_len.max(end);
        self.apply(Operation { offset, old, old_len, new: bytes.to_vec(), new_len });
    }

    pub(super) fn set_len(&mut self, new_len: usize) {
        let old_len = self.content.len();
        let old = self.content.get(new_len..).unwrap_or_default().to_vec();
        let offset = new_len.min(old_len);
        self.apply(Operation { offset, old, old_len, new: Vec::new(), new_len });
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
    }

    /// As if nothing had been done since the last sync.
    pub(super) fn forget_unsynced(&mut self) {
        for operation in std::mem::take(&mut self.unsynced).iter().rev() {
            operation.undo(Arc::make_mut(&mut self.content));
        }
    }

    fn apply(&mut self, operation: Operation) {
        operation.apply(Arc::make_mut(&mut self.content));
        self.unsynced.push(operation);
    }

    /// What a start after the cut finds.
    pub(super) fn after_cut(&self, random: &mut Random) -> File {
        if self.unsynced.is_empty() {
            return self.clone();
        }
        let mut synced = self.clone();
        synced.forget_unsynced();
        let mut working = Arc::unwrap_or_clone(synced.content);
        let fate = self.fate(random);
        let (mut disk, mut disk_len) = (working.clone(), working.len());
        for (index, operation) in self.unsynced.iter().enumerate() {
            operation.apply(&mut working);
            let is_kept = match fate {
                Fate::Nothing => Some(false),
                Fate::Prefix(count) => Some(index < count),
                Fate::Operations(percent) => Some(random.percent(percent)),
                Fate::Sectors(_) => None,
                Fate::Everything => Some(true),
            };
            let Fate::Sectors(percent) = fate else {
                if is_kept == Some(true) {
                    operation.sectors().for_each(|sector| flush(&working, &mut disk, sector));
                    disk_len = working.len();
                }
                continue;
            };
            for sector in operation.sectors() {
                if random.percent(percent) {
                    flush(&working, &mut disk, sector);
                }
            }
            if random.percent(percent) {
                disk_len = working.len();
            }
        }
        disk.resize(disk_len, 0);
        File::synced(disk)
    }

    fn fate(&self, random: &mut Random) -> Fate {
        match random.below(8) {
            0 => Fate::Nothing,
            1 => Fate::Everything,
            2 | 3 => {
                let count = random.below(self.unsynced.len() as u64 + 1);
                Fate::Prefix(usize::try_from(count).expect("at most the operations"))
            }
            4 | 5 => Fate::Operations(10 + random.below(85)),
            _ => Fate::Sectors(10 + random.below(85)),
        }
    }
}

impl Operation {
    fn apply(&self, content: &mut Vec<u8>) {
        content.resize(self.new_len, 0);
        content[self.offset..self.offset + self.new.len()].copy_from_slice(&self.new);
    }

    fn undo(&self, content: &mut Vec<u8>) {
        content.resize(self.old_len, 0);
        // Nothing was there if it was written behind the end.
        if !self.old.is_empty() {
            content[self.offset..self.offset + self.old.len()].copy_from_slice(&self.old);
        }
    }

    /// Those whose content is another one afterwards.
    fn sectors(&self) -> std::ops::Range<usize> {
        let begin = self.offset.min(self.old_len);
        let end = match self.new.len() {
            0 => self.old_len.max(self.new_len),
            written => self.offset + written,
        };
        begin / SECTOR_SIZE..end.div_ceil(SECTOR_SIZE)
    }
}

/// Writes a sector as it is now to the disk.
fn flush(working: &[u8], disk: &mut Vec<u8>, sector: usize) {
    let begin = sector * SECTOR_SIZE;
    let end = begin + SECTOR_SIZE;
    if disk.len() < end {
        disk.resize(end, 0);
    }
    let now = working.get(begin.min(working.len())..end.min(working.len())).unwrap_or_default();
    disk[begin..begin + now.len()].copy_from_slice(now);
    disk[begin + now.len()..end].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(file: &File, count: u64) -> Vec<Vec<u8>> {
        let after = |seed| file.after_cut(&mut Random::new(seed)).content().to_vec();
        (0..count).map(after).collect()
    }

    #[test]
    fn what_was_synced_survives_every_cut() {
        let mut file = File::default();
        file.write(0, &[1; 2000]);
        file.set_len(1500);
        file.write(1400, &[2; 300]);
        file.sync();

        let mut expected = vec![1; 1400];
        expected.extend([2; 300]);
        assert!(cuts(&file, 200).iter().all(|content| *content == expected));
    }

    #[test]
    fn what_is_forgotten_was_never_there() {
        let mut file = File::synced(vec![1; 1000]);
        file.write(900, &[2; 300]);
        file.set_len(50);
        file.write(10, &[3; 5]);

        file.forget_unsynced();

        assert_eq!(file.content(), [1; 1000]);
        assert!(cuts(&file, 20).iter().all(|content| *content == [1; 1000]));
    }

    #[test]
    fn every_sector_is_as_it_was_after_one_of_the_writes() {
        let mut file = File::synced(vec![0; 2048]);
        file.write(100, &[1; 1500]);
        file.write(700, &[2; 100]);

        let mut seen = std::collections::BTreeSet::new();
        for content in cuts(&file, 500) {
            assert_eq!(content.len(), 2048);
            let sector = &content[512..1024];
            let is_old = sector.iter().all(|byte| *byte == 0);
            let is_first = sector.iter().all(|byte| *byte == 1);
            let is_second = sector[188..288].iter().all(|byte| *byte == 2)
                && sector[..188].iter().chain(&sector[288..]).all(|byte| *byte == 1);
            assert!(is_old || is_first || is_second);
            seen.insert((content[512], content[1024], content[700]));
        }
        assert!(seen.len() >= 5, "{seen:?}");
    }

    #[test]
    fn a_length_may_survive_without_content_and_content_without_length() {
        let mut file = File::default();
        file.write(0, &[7; 1024]);

        let found = cuts(&file, 500);

        assert!(found.iter().any(Vec::is_empty));
        assert!(found.iter().any(|content| content.len() == 1024 && content[0] == 0));
        assert!(found.iter().any(|content| *content == [7; 1024]));
        assert!(found.iter().all(|content| content.len() % 1024 == 0));
    }

    #[test]
    fn a_cut_file_shrinks_or_not() {
        let mut file = File::synced(vec![3; 3000]);
        file.set_len(10);
        file.set_len(20);

        let found = cuts(&file, 300);

        let lens: std::collections::BTreeSet<usize> = found.iter().map(Vec::len).collect();
        assert_eq!(lens, [10, 20, 3000].into());
        let is_sound = |content: &Vec<u8>| content.iter().take(10).all(|byte| *byte == 3);
        assert!(found.iter().all(is_sound));
    }
}
