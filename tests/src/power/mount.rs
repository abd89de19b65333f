//! A [`Disk`] as a folder of this machine, by FUSE.
//!
//! Every write and sync of a program reaches the disk at once; what was read or written may be kept
//! by the kernel to be read, as on any disk. `sync_file_range` is none of FUSE's operations: the
//! kernel has nothing left to write for it, so it makes nothing durable here.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use tempfile::TempDir;

use super::disk::{Attributes, Disk, Kind, ROOT};
use super::fault::{Access, DiskError};

/// Nobody changes a file behind the kernel's back.
const TIME_TO_LIVE: Duration = Duration::from_hours(1);
const BLOCK_SIZE: u32 = 4096;
const NAME_SIZE_MAX: u32 = 255;
const WRITE_SIZE_MAX: u32 = 1 << 20;

#[derive(Debug, Default)]
struct Shared {
    disk: Mutex<Disk>,
    /// Power has gone.
    is_cut: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this is root, who may mount.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A disk that programs see; away when dropped.
#[derive(Debug)]
pub struct MountedDisk {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    folder: TempDir,
}

impl MountedDisk {
    pub fn mount(disk: Disk) -> MountedDisk {
        let folder = TempDir::new().expect("a temporary folder");
        let shared = Arc::new(Shared { disk: Mutex::new(disk), is_cut: Condvar::new() });
        let owner = std::fs::metadata(folder.path()).expect("just made");
        let owner = (owner.uid(), owner.gid());
        let file_system = FileSystem { shared: Arc::clone(&shared), owner };
        let session = fuser::spawn_mount(file_system, folder.path(), &Config::default());
        let session = session.unwrap_or_else(|error| {
            panic!(
                "cannot mount the disk of the test: {error}\n(hint: it needs /dev/fuse, and root \
                 or the package `fuse3`, which tests/setup.sh installs)"
            )
        });
        MountedDisk { shared, session: Some(session), folder }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Looks at the disk, or changes how it behaves from now on.
    pub fn with<T>(&self, act: impl FnOnce(&mut Disk) -> T) -> T {
        let mut disk = self.shared.lock();
        let result = act(&mut disk);
        if disk.is_cut() {
            self.shared.is_cut.notify_all();
        }
        result
    }

    /// Whether power has gone within that time.
    pub fn wait_for_cut(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut disk = self.shared.lock();
        while !disk.is_cut() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.is_cut.wait_timeout(disk, left);
            disk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// When nobody uses it any more. What was on it.
    pub fn unmount(mut self) -> Disk {
        self.end();
        std::mem::take(&mut *self.shared.lock())
    }

    fn end(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Its thread may learn of the end by an error.
        if let Err(error) = session.umount_and_join()
            && error.kind() != std::io::ErrorKind::ConnectionAborted
        {
            eprintln!("cannot unmount `{}`: {error}", self.folder.path().display());
        }
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        self.end();
    }
}

struct FileSystem {
    shared: Arc<Shared>,
    owner: (u32, u32),
}

impl FileSystem {
    /// Whoever waits for the cut learns of it.
    fn with<T>(&self, act: impl FnOnce(&mut Disk) -> Result<T, DiskError>) -> Result<T, Errno> {
        let mut disk = self.shared.lock();
        let result = act(&mut disk);
        if result.is_err() && disk.is_cut() {
            self.shared.is_cut.notify_all();
        }
        result.map_err(errno)
    }

    fn attributes(&self, inode: u64, found: Attributes) -> FileAttr {
        let then: SystemTime = UNIX_EPOCH;
        FileAttr {
            ino: INodeNo(inode),
            size: found.size,
            blocks: found.size.div_ceil(512),
            atime: then,
            mtime: then,
            ctime: then,
            crtime: then,
            kind: if found.is_folder { FileType::Directory } else { FileType::RegularFile },
            perm: found.mode,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: BLOCK_SIZE,
            flags: 0,
        }
    }

    fn entry(&self, reply: ReplyEntry, find: impl FnOnce(&mut Disk) -> Result<u64, DiskError>) {
        let found = self.with(|disk| {
            let inode = find(disk)?;
            Ok((inode, disk.attributes(inode)?))
        });
        match found {
            Ok((inode, attributes)) => {
                let attributes = self.attributes(inode, attributes);
                reply.entry(&TIME_TO_LIVE, &attributes, Generation(0));
            }
            Err(error) => reply.error(error),
        }
    }
}

fn errno(error: DiskError) -> Errno {
    match error {
        DiskError::Input => Errno::EIO,
        DiskError::Full => Errno::ENOSPC,
        DiskError::ReadOnly => Errno::EROFS,
        DiskError::NotFound => Errno::ENOENT,
        DiskError::Exists => Errno::EEXIST,
        DiskError::NotEmpty => Errno::ENOTEMPTY,
    }
}

fn done(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

/// Of the mode only what `chmod` sets.
fn mode_bits(mode: u32) -> u16 {
    u16::try_from(mode & 0o7777).expect("12 bits")
}

impl Filesystem for FileSystem {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // More is not needed, and would be split in ways that depend on the kernel.
        let _ = config.set_max_write(WRITE_SIZE_MAX);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.entry(reply, |disk| disk.lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.with(|disk| disk.attributes(ino.0)) {
            Ok(found) => reply.attr(&TIME_TO_LIVE, &self.attributes(ino.0, found)),
            Err(error) => reply.error(error),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let changed = self.with(|disk| {
            mode.map_or(Ok(()), |mode| disk.set_mode(ino.0, mode_bits(mode)))?;
            size.map_or(Ok(()), |size| disk.set_len(ino.0, size))?;
            disk.attributes(ino.0)
        });
        match changed {
            Ok(found) => reply.attr(&TIME_TO_LIVE, &self.attributes(ino.0, found)),
            Err(error) => reply.error(error),
        }
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mode = mode_bits(mode & !umask);
        self.entry(reply, |disk| disk.make(parent.0, name, mode, Kind::Folder));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.with(|disk| disk.remove(parent.0, name)));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        done(reply, self.with(|disk| disk.remove(parent.0, name)));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let renamed = self.with(|disk| disk.rename((parent.0, name), (newparent.0, newname)));
        done(reply, renamed);
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.with(|disk| disk.attributes(ino.0)) {
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let mode = mode_bits(mode & !umask);
        let created = self.with(|disk| {
            let inode = disk.make(parent.0, name, mode, Kind::File)?;
            Ok((inode, disk.attributes(inode)?))
        });
        match created {
            Ok((inode, found)) => {
                let attributes = self.attributes(inode, found);
                let flags = FopenFlags::FOPEN_KEEP_CACHE;
                reply.created(&TIME_TO_LIVE, &attributes, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = self.shared.lock();
        match disk.read(ino.0, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.with(|disk| disk.write(ino.0, offset, data)) {
            Ok(size) => reply.written(u32::try_from(size).expect("at most a request's size")),
            Err(error) => reply.error(error),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, datasync: bool, reply: ReplyEmpty) {
        let access = if datasync { Access::DataSync } else { Access::Sync };
        done(reply, self.with(|disk| disk.sync(ino.0, access)));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        done(reply, self.with(|disk| disk.sync(ino.0, Access::Sync)));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let names = match self.with(|disk| disk.list(ino.0)) {
            Ok(names) => names,
            Err(error) => return reply.error(error),
        };
        let own = [(".".into(), ino.0, true), ("..".into(), ROOT, true)];
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        for (next, (name, inode, is_folder)) in (1..).zip(own.into_iter().chain(names)).skip(begin)
        {
            let kind = if is_folder { FileType::Directory } else { FileType::RegularFile };
            if reply.add(INodeNo(inode), next, kind, &name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let (all, free) = self.shared.lock().space();
        let size = u64::from(BLOCK_SIZE);
        reply.statfs(
            all / size,
            free / size,
            free / size,
            0,
            0,
            BLOCK_SIZE,
            NAME_SIZE_MAX,
            BLOCK_SIZE,
        );
    }
}
