//! A disk in memory that forgets what was not synced when power goes, and fails when it is told to.
//!
//! As strict as POSIX allows a file system to be: the sync of a file makes its content durable, the
//! sync of a folder the names in it, and neither does the other's work. What was not synced may
//! survive all the same, or some of it (see [`File`]; of a folder any of the changes).
//!
//! Knows nothing of mounts, and its errors are numbers of the system only where it hands them out.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};

use super::fault::{Access, DiskError, Fault, Harm};
use super::file::File;
use super::folder::Folder;
use super::random::Random;

pub(super) const ROOT: u64 = 1;
/// What is there when nobody has set a quota.
const SPACE_MAX: u64 = 64 << 30;

#[derive(Debug, Clone)]
struct Node {
    path: String,
    mode: u16,
    content: Content,
    is_linked: bool,
}

#[derive(Debug, Clone)]
enum Content {
    File(File),
    Folder(Folder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: u64,
    pub(super) mode: u16,
    pub(super) is_folder: bool,
}

#[derive(Debug, Clone)]
pub struct Disk {
    nodes: HashMap<u64, Node>,
    next_inode: u64,
    used: u64,
    /// Most bytes of all files together.
    pub quota: u64,
    pub is_read_only: bool,
    pub faults: Vec<Fault>,
    /// Changes and syncs so far.
    operations: u64,
    cut_at: Option<u64>,
    is_cut: bool,
}

impl Default for Disk {
    fn default() -> Disk {
        let root = Node {
            path: String::new(),
            mode: 0o755,
            content: Content::Folder(Folder::default()),
            is_linked: true,
        };
        Disk {
            nodes: HashMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            used: 0,
            quota: SPACE_MAX,
            is_read_only: false,
            faults: Vec::new(),
            operations: 0,
            cut_at: None,
            is_cut: false,
        }
    }
}

/// Whether an operation is done, only said to be, or the opposite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Do,
    Ignore,
    Forget,
}

impl Disk {
    /// Power goes with the nth change or sync from now on, and nothing answers any more.
    pub fn cut_after(&mut self, operations: u64) {
        self.cut_at = Some(self.operations + operations.max(1));
    }

    pub fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Power stays, for now.
    pub fn spare(&mut self) {
        self.cut_at = None;
    }

    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn operations(&self) -> u64 {
        self.operations
    }

    /// What the next start finds: a disk without faults and with everything synced.
    #[must_use]
    pub fn after_cut(&self, random: &mut Random) -> Disk {
        let mut disk = Disk { next_inode: self.next_inode, quota: self.quota, ..Disk::default() };
        self.salvage(ROOT, "", &mut disk, random);
        disk
    }

    fn salvage(&self, inode: u64, path: &str, disk: &mut Disk, random: &mut Random) {
        let Some(node) = self.nodes.get(&inode) else { return };
        let content = match &node.content {
            Content::File(file) => {
                let file = file.after_cut(random);
                disk.used += file.len() as u64;
                Content::File(file)
            }
            Content::Folder(folder) => {
                let names = folder.after_cut(random);
                for (name, child) in &names {
                    self.salvage(*child, &joined(path, name), disk, random);
                }
                Content::Folder(Folder::synced(names))
            }
        };
        let (path, mode) = (path.to_owned(), node.mode);
        disk.nodes.insert(inode, Node { path, mode, content, is_linked: true });
    }

    /// Files and their contents, by path.
    pub fn files(&self) -> Vec<(&str, &[u8])> {
        let mut files = Vec::new();
        for node in self.nodes.values().filter(|node| node.is_linked) {
            if let Content::File(file) = &node.content {
                files.push((node.path.as_str(), file.content()));
            }
        }
        files.sort_unstable();
        files
    }

    /// A folder, with all that is in it, is no more.
    pub fn delete(&mut self, path: &str) {
        let below = format!("{path}/");
        let is_in = |node: &Node| node.path == path || node.path.starts_with(&below);
        let gone = self.nodes.iter().filter(|(_, node)| is_in(node));
        for inode in gone.map(|(inode, _)| *inode).collect::<Vec<_>>() {
            self.unlink(inode);
        }
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parent = self.nodes.values_mut().find(|node| node.path == parent && node.is_linked);
        if let Some(Node { content: Content::Folder(folder), .. }) = parent {
            folder.change(vec![(name.into(), None)]);
        }
    }

    pub(super) fn lookup(&self, folder: u64, name: &OsStr) -> Result<u64, DiskError> {
        self.alive()?;
        self.folder(folder)?.names.get(name).copied().ok_or(DiskError::NotFound)
    }

    pub(super) fn attributes(&self, inode: u64) -> Result<Attributes, DiskError> {
        self.alive()?;
        let node = self.node(inode)?;
        let (size, is_folder) = match &node.content {
            Content::File(file) => (file.len() as u64, false),
            Content::Folder(_) => (0, true),
        };
        Ok(Attributes { size, mode: node.mode, is_folder })
    }

    /// Names in order, and whether they are folders.
    pub(super) fn list(&self, folder: u64) -> Result<Vec<(OsString, u64, bool)>, DiskError> {
        self.alive()?;
        let names = &self.folder(folder)?.names;
        let is_folder = |inode| self.attributes(inode).is_ok_and(|found| found.is_folder);
        Ok(names.iter().map(|(name, inode)| (name.clone(), *inode, is_folder(*inode))).collect())
    }

    fn path(&self, inode: u64) -> &str {
        self.nodes.get(&inode).map_or("", |node| &node.path)
    }

    /// All bytes, and those that are free.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.quota, self.quota.saturating_sub(self.used))
    }

    pub(super) fn make(
        &mut self,
        folder: u64,
        name: &OsStr,
        mode: u16,
        kind: Kind,
    ) -> Result<u64, DiskError> {
        self.may_change()?;
        if self.folder(folder)?.names.contains_key(name) {
            return Err(DiskError::Exists);
        }
        let path = self.path_in(folder, name);
        self.harm_at(&path, Access::Make)?;
        let content = match kind {
            Kind::File => Content::File(File::default()),
            Kind::Folder => Content::Folder(Folder::default()),
        };
        let inode = self.next_inode;
        self.next_inode += 1;
        self.nodes.insert(inode, Node { path, mode, content, is_linked: true });
        self.folder_mut(folder)?.change(vec![(name.to_owned(), Some(inode))]);
        self.step()?;
        Ok(inode)
    }

    pub(super) fn remove(&mut self, folder: u64, name: &OsStr) -> Result<(), DiskError> {
        self.may_change()?;
        let inode = self.lookup(folder, name)?;
        if let Content::Folder(found) = &self.node(inode)?.content
            && !found.names.is_empty()
        {
            return Err(DiskError::NotEmpty);
        }
        self.unlink(inode);
        self.folder_mut(folder)?.change(vec![(name.to_owned(), None)]);
        self.step()
    }

    pub(super) fn rename(
        &mut self,
        (folder, name): (u64, &OsStr),
        (new_folder, new_name): (u64, &OsStr),
    ) -> Result<(), DiskError> {
        self.may_change()?;
        let inode = self.lookup(folder, name)?;
        if let Ok(replaced) = self.lookup(new_folder, new_name)
            && replaced != inode
        {
            self.unlink(replaced);
        }
        let path = self.path_in(new_folder, new_name);
        self.node_mut(inode)?.path = path;
        let old = (name.to_owned(), None);
        let new = (new_name.to_owned(), Some(inode));
        if folder == new_folder {
            self.folder_mut(folder)?.change(vec![old, new]);
        } else {
            self.folder_mut(new_folder)?.change(vec![new]);
            self.folder_mut(folder)?.change(vec![old]);
        }
        self.step()
    }

    pub(super) fn read(&mut self, inode: u64, offset: u64, size: u32) -> Result<&[u8], DiskError> {
        self.alive()?;
        self.harm(inode, Access::Read)?;
        let content = self.file_mut(inode)?.content();
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = begin.saturating_add(size as usize).min(content.len());
        Ok(&content[begin..end])
    }

    /// How many bytes were written: on a full disk perhaps some.
    pub(super) fn write(
        &mut self,
        inode: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, DiskError> {
        self.may_change()?;
        self.harm(inode, Access::Write)?;
        let len = self.file_mut(inode)?.len() as u64;
        let free = self.quota.saturating_sub(self.used);
        let room = (len + free).saturating_sub(offset);
        let taken = usize::try_from(room.min(bytes.len() as u64)).expect("at most the bytes");
        if taken == 0 && !bytes.is_empty() {
            return Err(DiskError::Full);
        }
        let begin = usize::try_from(offset).map_err(|_| DiskError::Full)?;
        self.file_mut(inode)?.write(begin, &bytes[..taken]);
        self.resized(inode, len)?;
        self.step()?;
        Ok(taken)
    }

    pub(super) fn set_len(&mut self, inode: u64, new_len: u64) -> Result<(), DiskError> {
        self.may_change()?;
        self.harm(inode, Access::Write)?;
        let len = self.file_mut(inode)?.len() as u64;
        if new_len.saturating_sub(len) > self.quota.saturating_sub(self.used) {
            return Err(DiskError::Full);
        }
        let target = usize::try_from(new_len).map_err(|_| DiskError::Full)?;
        self.file_mut(inode)?.set_len(target);
        self.resized(inode, len)?;
        self.step()
    }

    pub(super) fn set_mode(&mut self, inode: u64, mode: u16) -> Result<(), DiskError> {
        self.may_change()?;
        self.node_mut(inode)?.mode = mode;
        Ok(())
    }

    pub(super) fn sync(&mut self, inode: u64, access: Access) -> Result<(), DiskError> {
        self.alive()?;
        // Power may go just before.
        self.step()?;
        if self.is_read_only {
            // Nothing can be written, and what was is lost.
            return Err(DiskError::ReadOnly);
        }
        let mut verdict = self.harm(inode, Access::Sync)?;
        if access == Access::DataSync && verdict == Verdict::Do {
            verdict = self.harm(inode, access)?;
        }
        if verdict == Verdict::Forget {
            let len = self.file_mut(inode)?.len() as u64;
            self.file_mut(inode)?.forget_unsynced();
            self.resized(inode, len)?;
            return Err(DiskError::Input);
        }
        match &mut self.node_mut(inode)?.content {
            _ if verdict == Verdict::Ignore => {}
            Content::File(file) => file.sync(),
            Content::Folder(folder) => folder.sync(),
        }
        Ok(())
    }

    fn alive(&self) -> Result<(), DiskError> {
        if self.is_cut { Err(DiskError::Input) } else { Ok(()) }
    }

    fn may_change(&self) -> Result<(), DiskError> {
        self.alive()?;
        if self.is_read_only { Err(DiskError::ReadOnly) } else { Ok(()) }
    }

    /// Counts an operation; power may go with it.
    fn step(&mut self) -> Result<(), DiskError> {
        self.operations += 1;
        self.is_cut |= self.cut_at.is_some_and(|at| at <= self.operations);
        self.alive()
    }

    fn harm(&mut self, inode: u64, access: Access) -> Result<Verdict, DiskError> {
        let path = self.nodes.get(&inode).map_or_else(String::new, |node| node.path.clone());
        self.harm_at(&path, access)
    }

    fn harm_at(&mut self, path: &str, access: Access) -> Result<Verdict, DiskError> {
        for fault in &mut self.faults {
            if fault.access != access || fault.times == 0 || !path.contains(fault.path) {
                continue;
            }
            if fault.after > 0 {
                fault.after -= 1;
                continue;
            }
            fault.times -= 1;
            return match fault.does {
                Harm::Fails(error) => Err(error),
                Harm::FailsAndForgets => Ok(Verdict::Forget),
                Harm::IsIgnored => Ok(Verdict::Ignore),
            };
        }
        Ok(Verdict::Do)
    }

    fn resized(&mut self, inode: u64, old_len: u64) -> Result<(), DiskError> {
        let len = self.file_mut(inode)?.len() as u64;
        if self.node(inode)?.is_linked {
            self.used = (self.used + len).saturating_sub(old_len);
        }
        Ok(())
    }

    fn unlink(&mut self, inode: u64) {
        let Some(node) = self.nodes.get_mut(&inode) else { return };
        node.is_linked = false;
        if let Content::File(file) = &node.content {
            self.used = self.used.saturating_sub(file.len() as u64);
        }
    }

    fn path_in(&self, folder: u64, name: &OsStr) -> String {
        joined(self.path(folder), name)
    }

    fn node(&self, inode: u64) -> Result<&Node, DiskError> {
        self.nodes.get(&inode).ok_or(DiskError::NotFound)
    }

    fn node_mut(&mut self, inode: u64) -> Result<&mut Node, DiskError> {
        self.nodes.get_mut(&inode).ok_or(DiskError::NotFound)
    }

    fn file_mut(&mut self, inode: u64) -> Result<&mut File, DiskError> {
        match &mut self.node_mut(inode)?.content {
            Content::File(file) => Ok(file),
            Content::Folder(_) => Err(DiskError::NotFound),
        }
    }

    fn folder(&self, inode: u64) -> Result<&Folder, DiskError> {
        match &self.node(inode)?.content {
            Content::Folder(folder) => Ok(folder),
            Content::File(_) => Err(DiskError::NotFound),
        }
    }

    fn folder_mut(&mut self, inode: u64) -> Result<&mut Folder, DiskError> {
        match &mut self.node_mut(inode)?.content {
            Content::Folder(folder) => Ok(folder),
            Content::File(_) => Err(DiskError::NotFound),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
}

fn joined(folder: &str, name: &OsStr) -> String {
    let name = name.to_string_lossy();
    if folder.is_empty() { name.into_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(disk: &mut Disk, name: &str) -> u64 {
        disk.make(ROOT, OsStr::new(name), 0o600, Kind::File).unwrap()
    }

    fn names(disk: &Disk) -> Vec<String> {
        disk.files().iter().map(|(path, _)| (*path).to_owned()).collect()
    }

    #[test]
    fn a_name_needs_the_sync_of_its_folder() {
        let mut disk = Disk::default();
        let first = make(&mut disk, "first");
        disk.write(first, 0, b"content").unwrap();
        disk.sync(first, Access::Sync).unwrap();
        let found: Vec<usize> =
            (0..50).map(|seed| disk.after_cut(&mut Random::new(seed)).files().len()).collect();
        assert!(found.contains(&0) && found.contains(&1));

        disk.sync(ROOT, Access::Sync).unwrap();
        disk.remove(ROOT, OsStr::new("first")).unwrap();

        let after = |seed| disk.after_cut(&mut Random::new(seed)).files().concat_contents();
        let found: Vec<Vec<u8>> = (0..50).map(after).collect();
        assert!(found.contains(&b"content".to_vec()) && found.contains(&Vec::new()));
    }

    trait Contents {
        fn concat_contents(&self) -> Vec<u8>;
    }

    impl Contents for Vec<(&str, &[u8])> {
        fn concat_contents(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, content)| content.iter().copied()).collect()
        }
    }

    #[test]
    fn power_goes_with_the_nth_operation() {
        let mut disk = Disk::default();
        let file = make(&mut disk, "file");
        disk.cut_after(2);
        disk.write(file, 0, b"one").unwrap();

        assert_eq!(disk.sync(file, Access::Sync), Err(DiskError::Input));

        assert!(disk.is_cut());
        assert_eq!(disk.read(file, 0, 9), Err(DiskError::Input));
        assert_eq!(disk.operations(), 3);
    }

    #[test]
    fn a_rename_is_done_or_not() {
        let mut disk = Disk::default();
        make(&mut disk, "old");
        disk.sync(ROOT, Access::Sync).unwrap();
        disk.rename((ROOT, OsStr::new("old")), (ROOT, OsStr::new("new"))).unwrap();

        for seed in 0..50 {
            let disk = disk.after_cut(&mut Random::new(seed));
            assert_eq!(disk.list(ROOT).unwrap().len(), 1, "{:?}", names(&disk));
        }
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_then_nothing() {
        let mut disk = Disk { quota: 5, ..Disk::default() };
        let file = make(&mut disk, "file");

        assert_eq!(disk.write(file, 0, b"seven b"), Ok(5));
        assert_eq!(disk.write(file, 5, b"more"), Err(DiskError::Full));
        assert_eq!(disk.write(file, 0, b"again"), Ok(5));
        disk.quota = 9;
        assert_eq!(disk.write(file, 5, b"more"), Ok(4));
    }

    #[test]
    fn faults_hit_the_access_they_are_for() {
        let mut disk = Disk::default();
        let file = make(&mut disk, "db");
        disk.faults.push(Fault::fails(Access::Write, "db", DiskError::Input).once(1));
        disk.faults.push(Fault::ignored(Access::DataSync, "db"));

        disk.write(file, 0, b"one").unwrap();
        assert_eq!(disk.write(file, 0, b"two"), Err(DiskError::Input));
        disk.write(file, 0, b"two").unwrap();
        disk.sync(ROOT, Access::Sync).unwrap();
        disk.sync(file, Access::DataSync).unwrap();
        let lens = |disk: &Disk| -> std::collections::BTreeSet<usize> {
            let len = |seed| disk.after_cut(&mut Random::new(seed)).files().concat_contents().len();
            (0..50).map(len).collect()
        };

        assert_eq!(lens(&disk), [0, 3].into());
        disk.sync(file, Access::Sync).unwrap();
        assert_eq!(lens(&disk), [3].into());
    }
}
