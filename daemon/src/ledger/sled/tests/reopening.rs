//! A ledger that only opening it again can mend.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::super::cleaner::Cleaner;
use super::support::*;
use crate::ledger::sled::store;
use crate::ledger::sled::{OpenError, SledLedger, SledOpener, SledOptions};
use crate::ledger::{Ailment, Enabled, GroupKey, Ledger, Opener, ReopeningLedger};

/// The cleaner of what it opens first has ended, and the log can be read at the second look only.
struct Failing {
    opener: SledOpener,
    times_opened: Arc<AtomicU32>,
    times_looked: Arc<AtomicU32>,
    unreadable: u32,
}

impl Opener for Failing {
    type Ledger = SledLedger;
    type Error = OpenError;

    fn open(&self) -> Result<SledLedger, OpenError> {
        let mut ledger = self.opener.open()?;
        if self.times_opened.fetch_add(1, Ordering::SeqCst) == 0 {
            let inner = Arc::get_mut(&mut ledger.inner).expect("nobody else has it yet");
            inner.store.cleaner = Cleaner::gone();
        }
        Ok(ledger)
    }

    fn probe(&self, ailment: Ailment) -> io::Result<()> {
        assert_eq!(ailment, Ailment::GivesNoRoom);
        if self.times_looked.fetch_add(1, Ordering::SeqCst) < self.unreadable {
            return Err(io::ErrorKind::Other.into());
        }
        self.opener.probe(ailment)
    }
}

fn open_failing(path: PathBuf, unreadable: u32) -> (ReopeningLedger<Failing>, [Arc<AtomicU32>; 2]) {
    let (times_opened, times_looked) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
    let opener = SledOpener { path, options: SledOptions::default() };
    let counts = [Arc::clone(&times_opened), Arc::clone(&times_looked)];
    (
        ReopeningLedger::open(Failing { opener, times_opened, times_looked, unreadable }).unwrap(),
        counts,
    )
}

fn wait_until(is_so: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain");
}

#[test]
fn a_ledger_whose_cleaner_has_ended_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, [times_opened, _]) = open_failing(folder.path().join("ledger"), 0);
    let slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![slice.clone()], Some(("a", 1)))).unwrap();
    let version = ledger.version();

    wait_until(|| times_opened.load(Ordering::SeqCst) == 2 && ledger.takes_changes().is_ok());

    assert!(ledger.version() > version, "nobody takes it for the one before");
    ledger.push(push_of(vec![slice], Some(("b", 1)))).unwrap();
    assert_eq!(ledger.summarize(&everything(&[GroupKey::Scope])).unwrap()[0].rows, 2);
    assert_eq!(ledger.ailment(), None);
}

#[test]
fn a_ledger_that_cannot_be_read_again_stays_open() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, [times_opened, times_looked]) = open_failing(folder.path().join("ledger"), 1);

    wait_until(|| times_looked.load(Ordering::SeqCst) == 1);

    let slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![slice], None)).unwrap();
    assert_eq!(times_opened.load(Ordering::SeqCst), 1);
}

const PATIENCE: Duration = Duration::from_mins(1);

/// Its first ledger cannot write states; to open the second one panics.
struct Unlucky {
    opener: SledOpener,
    opened: AtomicU32,
}

impl Opener for Unlucky {
    type Ledger = SledLedger;
    type Error = OpenError;

    fn open(&self) -> Result<SledLedger, OpenError> {
        let before = self.opened.fetch_add(1, Ordering::SeqCst);
        assert_ne!(before, 1, "as sled does it when its log is damaged");
        let ledger = self.opener.open()?;
        if before == 0 {
            *ledger.inner.store.failing.lock().unwrap() =
                Some(store::Failing::Writes(store::Table::States));
        }
        Ok(ledger)
    }

    fn probe(&self, ailment: Ailment) -> io::Result<()> {
        self.opener.probe(ailment)
    }
}

#[test]
fn a_start_that_panics_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = PathBuf::from(folder.path());
    let opener = SledOpener { path, options: SledOptions::default() };
    let ledger = ReopeningLedger::open(Unlucky { opener, opened: AtomicU32::new(0) }).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap();
    let begin = Instant::now();

    while ledger.set_collector_state("host", Enabled::No).is_err() {
        assert!(begin.elapsed() < PATIENCE, "it is never opened again");
        std::thread::sleep(Duration::from_millis(20));
    }

    assert_eq!(ledger.collector_states().unwrap().get("host"), Some(&false));
    assert_eq!(ledger.add_scopes(&[new_scope("ann")]).unwrap(), 1);
}
