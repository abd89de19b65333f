//! One folder: its names now, and those that would survive a power cut.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::random::Random;

pub(super) type Names = BTreeMap<OsString, u64>;

#[derive(Debug, Clone, Default)]
pub(super) struct Folder {
    pub(super) names: Names,
    synced: Names,
    /// In order: a name, and what it stands for from then on.
    unsynced: Vec<Vec<(OsString, Option<u64>)>>,
}

impl Folder {
    pub(super) fn synced(names: Names) -> Folder {
        Folder { synced: names.clone(), names, unsynced: Vec::new() }
    }

    pub(super) fn change(&mut self, names: Vec<(OsString, Option<u64>)>) {
        set(&mut self.names, &names);
        self.unsynced.push(names);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.synced = self.names.clone();
    }

    /// All changes, none, the first ones (as a file system with a journal does it), or any.
    pub(super) fn after_cut(&self, random: &mut Random) -> Names {
        let mut names = self.synced.clone();
        let manner = random.below(4);
        let count = match manner {
            0 => self.unsynced.len() as u64,
            1 => 0,
            _ => random.below(self.unsynced.len() as u64 + 1),
        };
        for (index, change) in (0..).zip(&self.unsynced) {
            let is_kept = if manner == 3 { random.percent(50) } else { index < count };
            if is_kept {
                set(&mut names, change);
            }
        }
        names
    }
}

fn set(names: &mut Names, changes: &[(OsString, Option<u64>)]) {
    for (name, inode) in changes {
        match inode {
            Some(inode) => names.insert(name.clone(), *inode),
            None => names.remove(name),
        };
    }
}
