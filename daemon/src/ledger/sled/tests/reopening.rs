//! A ledger whose store fails is opened again, however often that fails.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::support::*;
use crate::ledger::sled::store::{Failing, Table};
use crate::ledger::sled::{OpenError, SledLedger, SledOpener, SledOptions};
use crate::ledger::{Enabled, Ledger, Opener, ReopeningLedger};

const PATIENCE: Duration = Duration::from_mins(1);

/// Its first ledger cannot write states; to open the second one panics.
struct Unlucky {
    opener: SledOpener,
    opened: AtomicUsize,
}

impl Opener for Unlucky {
    type Ledger = SledLedger;
    type Error = OpenError;

    fn open(&self) -> Result<SledLedger, OpenError> {
        let before = self.opened.fetch_add(1, Ordering::Relaxed);
        assert_ne!(before, 1, "as sled does it when its log is damaged");
        let ledger = self.opener.open()?;
        if before == 0 {
            *ledger.inner.store.failing.lock().unwrap() = Some(Failing::Writes(Table::States));
        }
        Ok(ledger)
    }

    fn probe(&self) -> io::Result<()> {
        self.opener.probe()
    }
}

#[test]
fn a_start_that_panics_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = PathBuf::from(folder.path());
    let opener = SledOpener { path, options: SledOptions::default() };
    let ledger = ReopeningLedger::open(Unlucky { opener, opened: AtomicUsize::new(0) }).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap_err();
    let begin = Instant::now();

    while ledger.set_collector_state("host", Enabled::No).is_err() {
        assert!(begin.elapsed() < PATIENCE, "it is never opened again");
        std::thread::sleep(Duration::from_millis(20));
    }

    assert_eq!(ledger.collector_states().unwrap().get("host"), Some(&false));
    assert_eq!(ledger.add_scopes(&[new_scope("ann")]).unwrap(), 1);
}
