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
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

/// As sled calls it.
const NAME: &str = "log flusher";
const THREADS: &str = "/proc/self/task";

/// How often it is looked for in vain before it is taken for dead: a thread gives itself its name
/// when it runs.
const LOOKS: u32 = 4;

/// Held while sled is opened, so that no cleaner of another ledger begins in that time.
static OPENING: Mutex<()> = Mutex::new(());

#[derive(Debug)]
pub(super) struct Cleaner {
    /// Threads that began while the ledger was opened: it is among them. `None` = the system does
    /// not say.
    begun: Option<BTreeSet<String>>,
    /// Its thread, once it was found.
    thread: OnceLock<String>,
    looks: AtomicU32,
}

impl Cleaner {
    /// That of what is opened by `open`, and what came of it.
    pub(super) fn begun_by<T>(open: impl FnOnce() -> T) -> (T, Cleaner) {
        let opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
        let before = threads();
        let opened = open();
        let begun = before.zip(threads()).map(|(before, now)| &now - &before);
        drop(opening);
        (opened, Cleaner { begun, thread: OnceLock::new(), looks: AtomicU32::new(0) })
    }

    /// One that has ended.
    #[cfg(test)]
    pub(super) fn gone() -> Cleaner {
        let (begun, looks) = (Some(BTreeSet::new()), AtomicU32::new(LOOKS));
        Cleaner { begun, thread: OnceLock::new(), looks }
    }

    pub(super) fn is_alive(&self) -> bool {
        if let Some(thread) = self.thread.get() {
            return match name_of(thread) {
                Ok(name) => name.trim_end() == NAME,
                // One that has ended has none; what else fails says nothing about it.
                Err(error) => !has_ended(&error),
            };
        }
        let Some(begun) = &self.begun else { return true };
        match begun.iter().find(|thread| is_cleaner(thread)) {
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
fn threads() -> Option<BTreeSet<String>> {
    let threads = fs::read_dir(THREADS).ok()?;
    threads.map(|thread| thread.ok()?.file_name().into_string().ok()).collect()
}

fn name_of(thread: &str) -> io::Result<String> {
    fs::read_to_string(Path::new(THREADS).join(thread).join("comm"))
}

fn is_cleaner(thread: &str) -> bool {
    name_of(thread).is_ok_and(|name| name.trim_end() == NAME)
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

    fn open(folder: &tempfile::TempDir) -> (sled::Db, Cleaner) {
        let (opened, cleaner) =
            Cleaner::begun_by(|| sled::Config::new().path(folder.path()).open());
        wait_until(|| cleaner.is_alive() && cleaner.thread.get().is_some());
        (opened.unwrap(), cleaner)
    }

    #[test]
    fn it_lives_as_long_as_sled_is_open_whoever_else_has_one() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let (first, cleaner_of_first) = open(&folders[0]);
        let (second, cleaner) = open(&folders[1]);
        assert_ne!(cleaner.thread.get(), cleaner_of_first.thread.get());

        drop(second);

        wait_until(|| !cleaner.is_alive());
        assert!(cleaner_of_first.is_alive(), "the other one lives");
        drop(first);
    }

    /// As in a process in which other tests open ledgers, too.
    #[test]
    fn those_that_are_opened_at_the_same_time_are_told_apart() {
        let opening = || {
            let folder = tempfile::tempdir().unwrap();
            let (db, cleaner) = open(&folder);
            (db, cleaner, folder)
        };
        let mut open: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(opening)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        while let Some((db, cleaner, _folder)) = open.pop() {
            drop(db);
            wait_until(|| !cleaner.is_alive());
            assert!(open.iter().all(|(_, cleaner, _)| cleaner.is_alive()));
        }
    }
}
