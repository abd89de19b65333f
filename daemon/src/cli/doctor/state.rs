//! The state folder: whose it is, what it stands on, how much room there is, how fast a sync is.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statfs::{FsType, statfs};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, access, geteuid};

use super::finding::{Findings, Note};
use crate::cli::ledger::{LEDGER_DIR, owner_name};

const MIB: u64 = 1 << 20;
/// Less room is a reason to look, or to worry.
const FREE_SIZE_WARN: u64 = 2048 * MIB;
const FREE_FILES_WARN: u64 = 10_000;
const FREE_FILES_FAIL: u64 = 100;

/// Most files of the ledger that are looked at.
const LEDGER_FILES_MAX: usize = 10_000;

/// How often a sync is tried, and how much is written each time.
const SYNC_COUNT: usize = 20;
const SYNC_SIZE: usize = 4096;
/// A commit waits for two of them.
const SYNC_WARN: Duration = Duration::from_millis(50);
const SYNC_FAIL: Duration = Duration::from_secs(1);

/// Kinds of file systems by their magic numbers, with what is wrong with them.
const FILE_SYSTEMS: [(i64, &str, Option<&str>); 12] = [
    (0xEF53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683E, "btrfs", None),
    (0x2FC1_2FC1, "zfs", None),
    (0xF2F5_2010, "f2fs", None),
    (0x6969, "nfs", Some("locks and syncs are the server's: use a local disk")),
    (0xFF53_4D42, "cifs", Some("locks and syncs are the server's: use a local disk")),
    (0xFE53_4D42, "smb2", Some("locks and syncs are the server's: use a local disk")),
    (0x0102_1994, "tmpfs", Some("it is gone with the next start of the machine: use a disk")),
    (0x794C_7630, "overlay", Some("it is gone with its container: use a volume")),
    (0x6573_5546, "fuse", Some("whether a sync reaches a disk is up to its program")),
    (0x0102_1997, "9p", Some("whether a sync reaches a disk is up to the host")),
];

/// `reserve_mib` is what changes leave of the disk: with less they are refused.
pub(super) fn examine(folder: &Path, reserve_mib: u32, findings: &mut Findings) {
    let name = "state folder";
    let metadata = match fs::metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = "the first start makes it, if it may; else make it, for the daemon's user";
            findings.add(name, Note::warn(format!("`{}` is not there", folder.display()), hint));
            return;
        }
        Err(error) => {
            let hint = "run this as the daemon's user";
            findings.add(name, Note::fail(format!("`{}`: {error}", folder.display()), hint));
            return;
        }
    };
    let hint = "`daemon.state_dir` names it";
    if !metadata.is_dir() {
        findings.add(name, Note::fail(format!("`{}` is no folder", folder.display()), hint));
        return;
    }
    findings.add(name, whose(folder, &metadata));
    findings.extend("ledger files", ledger_files(&folder.join(LEDGER_DIR), &metadata));
    findings.add("file system", file_system(folder));
    findings.add("space", space(folder, u64::from(reserve_mib) * MIB));
    findings.add("sync", sync(folder));
}

fn whose(folder: &Path, metadata: &fs::Metadata) -> Note {
    let owner = Uid::from_raw(metadata.uid());
    let (mode, me) = (metadata.mode() & 0o7777, geteuid());
    let text =
        format!("`{}` belongs to `{}`, mode {mode:04o}", folder.display(), owner_name(owner));
    if owner != me && !me.is_root() {
        let hint = "run this as that user, or give the folder to the one that runs the daemon";
        return Note::fail(format!("{text}, and this runs as `{}`", owner_name(me)), hint);
    }
    if mode & 0o007 != 0 {
        return Note::warn(text, "others can read what people pay: `chmod o-rwx`");
    }
    Note::ok(text)
}

/// Whether the daemon can open its ledger, which is opened for writing and left as it is; root
/// could open it whoever's it is, so its owner is compared too. `None` = there is none.
fn ledger_files(ledger: &Path, state: &fs::Metadata) -> Option<Note> {
    let folders = [ledger.to_owned(), ledger.join("data")];
    let files = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let files = files.filter_map(|entry| Some(entry.ok()?.path())).take(LEDGER_FILES_MAX);
    let mut count = 0;
    for path in folders.iter().cloned().chain(files) {
        let (wrong, hint) = match opened_as_daemon(&path, state) {
            Ok(None) => {
                count += 1;
                continue;
            }
            Ok(Some(owner)) => {
                let user = owner_name(Uid::from_raw(state.uid()));
                let text = format!("it belongs to `{owner}`, the state folder to `{user}`");
                (text, format!("`chown -R {user}` the ledger's folder"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let hint = "the daemon's user must be able to write it; is this run as that user?";
                (error.to_string(), hint.to_owned())
            }
        };
        return Some(Note::fail(format!("`{}`: {wrong}", path.display()), &hint));
    }
    (count > 0).then(|| Note::ok(format!("{count} can be written")))
}

/// Who owns it, if that is somebody else than whose the state folder is.
fn opened_as_daemon(path: &Path, state: &fs::Metadata) -> io::Result<Option<String>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        access(path, AccessFlags::W_OK | AccessFlags::X_OK)?;
    } else {
        OpenOptions::new().read(true).write(true).open(path)?;
    }
    let is_other = metadata.uid() != state.uid() && state.uid() != 0;
    Ok(is_other.then(|| owner_name(Uid::from_raw(metadata.uid()))))
}

fn file_system(folder: &Path) -> Note {
    let kind = match statfs(folder) {
        Ok(found) => found.filesystem_type(),
        Err(error) => return Note::warn(format!("cannot be told: {error}"), ""),
    };
    let known = FILE_SYSTEMS.iter().find(|(magic, ..)| kind == FsType(*magic));
    match known {
        Some((_, name, None)) => Note::ok((*name).to_owned()),
        Some((_, name, Some(wrong))) => Note::warn((*name).to_owned(), wrong),
        None => Note::ok("one that is not known here".to_owned()),
    }
}

fn space(folder: &Path, reserve: u64) -> Note {
    let found = match statvfs(folder) {
        Ok(found) => found,
        Err(error) => return Note::warn(format!("cannot be told: {error}"), ""),
    };
    let size = found.blocks_available() * found.fragment_size();
    let files = found.files_available();
    // Some file systems make their inodes as they are needed, and count none.
    let counts_files = found.files() > 0;
    let of_files = if counts_files { format!(", {files} files") } else { String::new() };
    let text = format!("{} MiB{of_files} free", size / MIB);
    let hint = "make room, or keep less: `ledger.keep_months`, `ledger.keep_rollups_months`";
    let is_below = |size_min, files_min| size < size_min || (counts_files && files < files_min);
    if is_below(reserve, FREE_FILES_FAIL) {
        Note::fail(text, hint)
    } else if is_below(reserve.saturating_add(FREE_SIZE_WARN), FREE_FILES_WARN) {
        Note::warn(text, hint)
    } else {
        Note::ok(text)
    }
}

/// Writes and syncs a file of its own, which goes away.
fn sync(folder: &Path) -> Note {
    let mut times = match measure(folder) {
        Ok(times) => times,
        Err(error) => {
            let hint = "the daemon's user must be able to write there";
            return Note::fail(format!("`{}` cannot be written: {error}", folder.display()), hint);
        }
    };
    times.sort_unstable();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    let millis = |time: Duration| time.as_micros();
    let text = format!(
        "a sync takes {}.{:03} ms, {}.{:03} ms at most",
        millis(median) / 1000,
        millis(median) % 1000,
        millis(longest) / 1000,
        millis(longest) % 1000
    );
    let hint = "a commit waits for two of them: a busy or failing disk, or one without a cache \
                that survives a power cut";
    if median >= SYNC_FAIL {
        Note::fail(text, hint)
    } else if median >= SYNC_WARN {
        Note::warn(text, hint)
    } else {
        Note::ok(text)
    }
}

fn measure(folder: &Path) -> io::Result<Vec<Duration>> {
    let path = folder.join(format!("doctor-{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).open(&path)?;
    // From here on it is reached over its handle alone.
    fs::remove_file(&path)?;
    let mut times = Vec::with_capacity(SYNC_COUNT);
    for _ in 0..SYNC_COUNT {
        let begin = Instant::now();
        file.write_all(&[0; SYNC_SIZE])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    Ok(times)
}
