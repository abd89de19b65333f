//! Whether sled's cleaner is alive.
//!
//! sled gives room back in a thread of its own: it moves what is left of segments that are mostly
//! garbage. After one failed read or write this thread ends for good and tells nobody. Everything
//! else goes on as before, and the log only grows, until the ledger is opened again. sled cannot be
//! asked; but its thread has a name, and the system knows which threads this process has.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// As sled calls it.
const NAME: &str = "log flusher";
const THREADS: &str = "/proc/self/task";

/// How often it is looked for in vain before it is taken for dead: a thread gives itself its name
/// when it runs.
const LOOKS: u32 = 4;

#[derive(Debug)]
pub(super) struct Cleaner {
    /// Those of other ledgers in this process.
    others: BTreeSet<String>,
    /// Its thread, once it was found.
    thread: OnceLock<String>,
    looks: AtomicU32,
}

impl Cleaner {
    /// Of a ledger that is opened after this.
    pub(super) fn expect() -> Cleaner {
        let others = cleaners().unwrap_or_default();
        Cleaner { others, thread: OnceLock::new(), looks: AtomicU32::new(0) }
    }

    /// One that has ended.
    #[cfg(test)]
    pub(super) fn gone() -> Cleaner {
        let looks = AtomicU32::new(LOOKS);
        Cleaner { others: cleaners().unwrap_or_default(), thread: OnceLock::new(), looks }
    }

    pub(super) fn is_alive(&self) -> bool {
        if let Some(thread) = self.thread.get() {
            return match fs::read_to_string(Path::new(THREADS).join(thread).join("comm")) {
                Ok(name) => name.trim_end() == NAME,
                // One that has ended has none; what else fails says nothing about it.
                Err(error) => !has_ended(&error),
            };
        }
        let Some(found) = cleaners() else { return true };
        match found.difference(&self.others).next() {
            Some(thread) => {
                let _ = self.thread.set(thread.clone());
                true
            }
            None => self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS,
        }
    }
}

fn has_ended(error: &io::Error) -> bool {
    let esrch = nix::errno::Errno::ESRCH as i32;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(esrch)
}

/// `None` = the system does not say.
fn cleaners() -> Option<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for thread in fs::read_dir(THREADS).ok()? {
        let thread = thread.ok()?;
        if is_cleaner(&thread.path()) {
            found.extend(thread.file_name().into_string().ok());
        }
    }
    Some(found)
}

fn is_cleaner(thread: &Path) -> bool {
    fs::read_to_string(thread.join("comm")).is_ok_and(|name| name.trim_end() == NAME)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wait_until(is_so: impl Fn() -> bool) {
        for _ in 0..1000 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain");
    }

    #[test]
    fn it_lives_as_long_as_sled_is_open_whoever_else_has_one() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let open = |folder: &tempfile::TempDir| sled::Config::new().path(folder.path()).open();
        let first = open(&folders[0]).unwrap();
        wait_until(|| cleaners().unwrap().len() == 1);
        let cleaner = Cleaner::expect();
        let second = open(&folders[1]).unwrap();
        wait_until(|| cleaners().unwrap().len() == 2);

        assert!(cleaner.is_alive());
        drop(second);
        wait_until(|| !cleaner.is_alive());
        assert_eq!(cleaners().unwrap().len(), 1, "the other one lives");
        drop(first);
    }
}
