//! One look at all processes of the machine: procfs and the counters of user slices, as they are.
//!
//! A process that ends while it is read is left out. Kernel threads belong to nobody and are left
//! out. I/O counters need a right that not every daemon has; a process without them says so.
//!
//! This module compares nothing; see `tally`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Most processes in one look.
const PROCESSES_MAX: usize = 1 << 18;
/// Largest file read below a process's folder, bytes.
const FILE_SIZE_MAX: u64 = 64 * 1024;
/// The kernel's flag of its own threads.
const PF_KTHREAD: u64 = 0x0020_0000;
const NS_PER_SEC: u64 = 1_000_000_000;

/// A process as it was at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Process {
    pub(crate) parent: u32,
    /// With the process number, names a process for ever.
    pub(crate) start_ticks: u64,
    /// The real user: who started it, whatever it may do.
    pub(crate) uid: u32,
    /// CPU time of all its threads, nanoseconds.
    pub(crate) own_ns: u64,
    /// CPU time of all descendants that it or they have waited for.
    pub(crate) reaped_ns: u64,
    pub(crate) memory_bytes: u64,
    /// Read from and written to storage, by itself and by descendants waited for.
    pub(crate) io_bytes: Option<u64>,
    pub(crate) is_zombie: bool,
    /// Whose user slice it runs in.
    pub(crate) slice: Option<u32>,
}

/// All processes at one look, by process number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Snapshot {
    pub(crate) processes: BTreeMap<u32, Process>,
    /// CPU time of each user slice (of control groups, version 2), nanoseconds, by user.
    pub(crate) slices: BTreeMap<u32, u64>,
}

/// A machine that can be looked at.
pub(crate) trait Machine: Send {
    fn look(&mut self) -> io::Result<Snapshot>;
}

/// The machine behind a proc file system.
#[derive(Debug)]
pub(crate) struct Procfs {
    proc_dir: PathBuf,
    slices_dir: PathBuf,
    ns_per_tick: u64,
}

impl Procfs {
    pub(crate) fn new(proc_dir: &Path, cgroup_dir: &Path, ticks_per_sec: u64) -> Procfs {
        Procfs {
            proc_dir: proc_dir.to_owned(),
            slices_dir: cgroup_dir.join("user.slice"),
            ns_per_tick: NS_PER_SEC / ticks_per_sec.max(1),
        }
    }

    /// The text of a small file below the proc folder, without line end.
    pub(crate) fn text(&self, path: &str) -> io::Result<String> {
        read(&self.proc_dir.join(path)).map(|text| text.trim_end().to_owned())
    }

    fn process(&self, dir: &Path, has_slices: bool) -> io::Result<Option<Process>> {
        let stat = read(&dir.join("stat"))?;
        let (mut process, owner) =
            parse_stat(&stat, self.ns_per_tick).ok_or_else(|| malformed(dir, "stat"))?;
        if owner == Owner::Kernel {
            return Ok(None);
        }
        let status = read(&dir.join("status"))?;
        let first_number = |key: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        process.uid = first_number("Uid:")
            .and_then(|uid| u32::try_from(uid).ok())
            .ok_or_else(|| malformed(dir, "status"))?;
        process.memory_bytes = first_number("VmRSS:").unwrap_or(0).saturating_mul(1024);
        process.io_bytes = match read(&dir.join("io")) {
            Ok(text) => Some(parse_io(&text).ok_or_else(|| malformed(dir, "io"))?),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
            // Kernels without I/O accounting have no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.exists() => None,
            Err(error) => return Err(error),
        };
        if has_slices {
            process.slice = parse_slice(&read(&dir.join("cgroup"))?);
        }
        Ok(Some(process))
    }

    fn slices(&self) -> BTreeMap<u32, u64> {
        let Ok(entries) = fs::read_dir(&self.slices_dir) else { return BTreeMap::new() };
        let slice = |entry: fs::DirEntry| {
            let uid = slice_uid(entry.file_name().to_str()?)?;
            let stat = read(&entry.path().join("cpu.stat")).ok()?;
            let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
            Some((uid, usage.trim().parse::<u64>().ok()?.saturating_mul(1000)))
        };
        entries.flatten().filter_map(slice).collect()
    }
}

impl Machine for Procfs {
    fn look(&mut self) -> io::Result<Snapshot> {
        let mut snapshot = Snapshot { slices: self.slices(), ..Snapshot::default() };
        for entry in fs::read_dir(&self.proc_dir)? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            match self.process(&self.proc_dir.join(&name), !snapshot.slices.is_empty()) {
                Ok(Some(process)) => {
                    snapshot.processes.insert(pid, process);
                }
                Ok(None) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
            if snapshot.processes.len() > PROCESSES_MAX {
                return Err(io::Error::other(format!("more than {PROCESSES_MAX} processes")));
            }
        }
        Ok(snapshot)
    }
}

/// It ended under way, or we may not even know about it.
fn is_gone(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
        || error.raw_os_error() == Some(ESRCH)
}

fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::with_capacity(2048);
    File::open(path)?.take(FILE_SIZE_MAX).read_to_end(&mut bytes)?;
    // A process may call itself anything.
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn malformed(dir: &Path, file: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("`{}` is not as proc(5) says", dir.join(file).display()),
    )
}

/// Whose process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Kernel,
    User,
}

/// Without user, memory and I/O, which stand in other files.
fn parse_stat(stat: &str, ns_per_tick: u64) -> Option<(Process, Owner)> {
    // The name stands in parentheses and may have spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let owner = if number(6)? & PF_KTHREAD == 0 { Owner::User } else { Owner::Kernel };
    let ns = |ticks: u64| ticks.saturating_mul(ns_per_tick);
    let process = Process {
        parent: u32::try_from(number(1)?).ok()?,
        start_ticks: number(19)?,
        own_ns: ns(number(11)? + number(12)?),
        reaped_ns: ns(number(13)? + number(14)?),
        is_zombie: matches!(*fields.first()?, "Z" | "X"),
        ..Process::default()
    };
    Some((process, owner))
}

fn parse_io(io: &str) -> Option<u64> {
    let number = |key: &str| -> Option<u64> {
        io.lines().find_map(|line| line.strip_prefix(key))?.trim().parse().ok()
    };
    number("read_bytes:")?.checked_add(number("write_bytes:")?)
}

/// The user of the slice in a line like `0::/user.slice/user-1000.slice/session-3.scope`.
fn parse_slice(cgroup: &str) -> Option<u32> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/user.slice/"))?;
    slice_uid(path.split('/').next()?)
}

fn slice_uid(name: &str) -> Option<u32> {
    name.strip_prefix("user-")?.strip_suffix(".slice")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Procfs {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host").join(name);
        Procfs::new(&dir.join("proc"), &dir.join("cgroup"), 100)
    }

    #[test]
    fn processes_are_read_with_their_counters() {
        let snapshot = fixture("desktop").look().unwrap();

        let pids: Vec<u32> = snapshot.processes.keys().copied().collect();
        assert_eq!(pids, [1, 812, 1400, 1500], "the kernel thread 2 is nobody's");
        assert_eq!(
            snapshot.processes[&1400],
            Process {
                parent: 812,
                start_ticks: 8230,
                uid: 1000,
                own_ns: 1_500_000_000,
                reaped_ns: 70_000_000,
                memory_bytes: 5120 * 1024,
                io_bytes: Some(4096 + 8192),
                is_zombie: false,
                slice: Some(1000),
            }
        );
        assert!(snapshot.processes[&1500].is_zombie);
        assert_eq!(snapshot.processes[&1500].memory_bytes, 0);
        assert_eq!(snapshot.processes[&812].slice, None);
        assert_eq!(snapshot.slices, BTreeMap::from([(1000, 12_345_678_000)]));
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a) R 9 (b) S 3 0 0 0 0 64 0 0 0 0 5 6 7 8 20 0 1 0 99 0 0";

        let (process, owner) = parse_stat(stat, 10).unwrap();

        assert_eq!((process.parent, process.own_ns, process.reaped_ns), (3, 110, 150));
        assert_eq!((process.start_ticks, owner), (99, Owner::User));
    }

    #[test]
    fn a_machine_without_control_groups_has_no_slices() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host/desktop/proc");

        let snapshot = Procfs::new(&dir, Path::new("/nonexistent"), 100).look().unwrap();

        assert!(snapshot.slices.is_empty());
        assert_eq!(snapshot.processes[&1400].slice, None);
    }

    #[test]
    fn what_is_no_proc_folder_is_an_error() {
        assert!(Procfs::new(Path::new("/nonexistent"), Path::new("/"), 100).look().is_err());
    }

    #[test]
    fn this_very_machine_can_be_read() {
        let mut machine = Procfs::new(Path::new("/proc"), Path::new("/sys/fs/cgroup"), 100);

        let snapshot = machine.look().unwrap();

        let own = snapshot.processes[&std::process::id()];
        assert_eq!(own.uid, nix::unistd::getuid().as_raw());
        assert!(own.memory_bytes > 0);
    }
}
