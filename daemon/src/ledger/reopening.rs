//! A ledger that is opened again, in the same place, after a write has failed.
//!
//! Guarantees what [`Ledger`] promises, and that changes are taken again by themselves once the
//! disk takes writes: no change of what was acknowledged is lost by it, none of what was not is
//! half there. Until then reads are answered as long as the store can be read, and fail otherwise;
//! nothing is ever answered from a ledger that is not open.
//!
//! A thread looks now and then what ails the ledger. If a write has failed it tries, less and less
//! often, whether the disk can be written; only then it lets go of the open ledger (which waits for
//! those who read) and opens it anew. What was being read row by row breaks off with an error. A
//! ledger that gives no room back any more is opened anew as well, when it is certain that it can
//! be read, and not more often than now and then.
//!
//! This module does not know how a ledger is kept.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use chrono::{DateTime, Utc};
use tracing::{error, info};

use super::care::{BackupPlan, BackupRead, VerifyStep};
use super::changes::{
    NewReprocessing, OpenReprocessings, Push, PushOutcome, Reprocessing, Reset, ResetOutcome,
    ScopeChange,
};
use super::contract::{
    Ailment, CollectorMapping, CommitOutcome, CompactionStep, Cursors, Enabled, Failure, KvEdit,
    Ledger, LedgerSize, ModuleState, NewScope, RatedSlice, Retained, Retention, Scope,
};
use super::differences::{DifferencePage, DifferenceQuery, Generation};
use super::error::LedgerError;
use super::pages::{PageOf, SummaryPage};
use super::queries::{
    Completeness, CompletenessQuery, RowsGroup, RowsPage, RowsQuery, SummaryGroup, SummaryQuery,
    Visited,
};
use crate::usage::{MetricId, ScopeId};

/// How often somebody looks whether the ledger takes changes.
const LOOK_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two attempts to open it again.
const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a ledger is left alone that gives no room back, after it was opened because of that or
/// could not be: room is lost slowly, and reading all of it costs something.
const ROOM_PAUSE: Duration = Duration::from_mins(10);
/// How long those who read are waited for, before the ledger stays open for them and is tried
/// again later.
const READERS_TIMEOUT: Duration = Duration::from_secs(30);
const READERS_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const READERS_PAUSE: Duration = Duration::from_millis(10);

/// How a ledger is opened.
pub trait Opener: Send + Sync + 'static {
    type Ledger: Ledger;
    type Error: Error + Send + Sync + 'static;

    /// Nobody else has it open at that time. After an error nothing is open, and it is tried again.
    fn open(&self) -> Result<Self::Ledger, Self::Error>;

    /// Whether its place can be written, without touching what stands there. If the open ledger
    /// works otherwise: whether all of it can be read, too.
    fn probe(&self, ailment: Ailment) -> io::Result<()>;
}

/// See the module.
pub struct ReopeningLedger<O: Opener> {
    shared: Arc<Shared<O>>,
    keeper: Option<JoinHandle<()>>,
}

struct Shared<O: Opener> {
    opener: O,
    /// `None` = it is being opened again.
    open: ArcSwapOption<Opened<O::Ledger>>,
    /// Whoever reads row by row is to break off.
    is_closing: AtomicBool,
    /// How many do, each perhaps as slowly as the one who is given the rows.
    walks: AtomicUsize,
    /// The version of the last ledger that was open; what its readers saw is still true.
    last_version: AtomicU64,
    is_over: Mutex<bool>,
    stop: Condvar,
}

struct Opened<L> {
    ledger: L,
    /// What its versions begin with.
    version_base: u64,
}

impl<L: Ledger> Opened<L> {
    fn version(&self) -> u64 {
        self.version_base + self.ledger.version()
    }
}

impl<O: Opener> fmt::Debug for ReopeningLedger<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.shared.open.load().is_some();
        f.debug_struct("ReopeningLedger").field("is_open", &is_open).finish_non_exhaustive()
    }
}

impl<O: Opener> ReopeningLedger<O> {
    /// Opens it for the first time; an error of that is not tried again.
    pub fn open(opener: O) -> Result<ReopeningLedger<O>, O::Error> {
        let first = Opened { ledger: opener.open()?, version_base: 0 };
        let shared = Arc::new(Shared {
            opener,
            open: ArcSwapOption::from_pointee(first),
            is_closing: AtomicBool::new(false),
            walks: AtomicUsize::new(0),
            last_version: AtomicU64::new(0),
            is_over: Mutex::new(false),
            stop: Condvar::new(),
        });
        let kept = Arc::clone(&shared);
        let keeper = thread::Builder::new().name("ledger-keeper".to_owned());
        let keeper = keeper.spawn(move || kept.keep());
        let keeper = keeper.inspect_err(|error| {
            error!(%error, "Without another thread the ledger is not opened again by itself.");
        });
        Ok(ReopeningLedger { shared, keeper: keeper.ok() })
    }

    fn ask<T>(
        &self,
        ask: impl FnOnce(&O::Ledger) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let opened = self.shared.open.load_full().ok_or(LedgerError::Closed)?;
        ask(&opened.ledger)
    }

    /// Row by row, until it is to be closed.
    fn walk<V>(
        &self,
        visit: Visitor<'_, V>,
        walk: impl FnOnce(&O::Ledger, Visitor<'_, V>) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let shared = &*self.shared;
        let _walk = Walk::begin(&shared.walks);
        let mut is_broken_off = false;
        let mut visit = |found| {
            is_broken_off = shared.is_closing.load(Ordering::SeqCst);
            if is_broken_off { ControlFlow::Break(()) } else { visit(found) }
        };
        if shared.is_closing.load(Ordering::SeqCst) {
            return Err(LedgerError::Closed);
        }
        self.ask(|ledger| walk(ledger, &mut visit))?;
        if is_broken_off { Err(LedgerError::Closed) } else { Ok(()) }
    }
}

/// What is given rows, until it breaks.
type Visitor<'a, V> = &'a mut dyn FnMut(V) -> ControlFlow<()>;

/// Somebody who reads row by row.
struct Walk<'a>(&'a AtomicUsize);

impl Walk<'_> {
    fn begin(walks: &AtomicUsize) -> Walk<'_> {
        walks.fetch_add(1, Ordering::SeqCst);
        Walk(walks)
    }
}

impl Drop for Walk<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl<O: Opener> Drop for ReopeningLedger<O> {
    fn drop(&mut self) {
        *self.shared.is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.shared.stop.notify_all();
        if let Some(keeper) = self.keeper.take() {
            // A panic of it was said when it happened.
            let _ = keeper.join();
        }
    }
}

impl<O: Opener> Shared<O> {
    /// Until it is over.
    fn keep(&self) {
        let mut attempts = 0;
        let mut pause = LOOK_PAUSE;
        let mut gave_room: Option<Instant> = None;
        while !self.wait(pause) {
            pause = LOOK_PAUSE;
            let opened = self.open.load_full();
            let ailment =
                opened.as_ref().map_or(Some(Ailment::WriteFailed), |it| it.ledger.ailment());
            drop(opened);
            match ailment {
                None => attempts = 0,
                Some(Ailment::GivesNoRoom) => {
                    if gave_room.is_none_or(|last| last.elapsed() >= ROOM_PAUSE) {
                        self.give_room();
                        gave_room = Some(Instant::now());
                    }
                }
                Some(Ailment::WriteFailed) => match self.reopen(Ailment::WriteFailed) {
                    Ok(()) => info!(attempts = attempts + 1, "The ledger is open again."),
                    Err(problem) => {
                        attempts += 1;
                        if u32::is_power_of_two(attempts) {
                            let error: &(dyn Error + 'static) = &*problem;
                            error!(
                                attempts,
                                error, "The ledger takes no changes until it is open again."
                            );
                        }
                        pause = (LOOK_PAUSE * attempts).min(ATTEMPT_PAUSE_MAX);
                    }
                },
            }
        }
    }

    /// `true` = it is over.
    fn wait(&self, pause: Duration) -> bool {
        let is_over = self.is_over.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.stop.wait_timeout_while(is_over, pause, |is_over| !*is_over);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn give_room(&self) {
        match self.reopen(Ailment::GivesNoRoom) {
            Ok(()) => info!(
                "The ledger was opened again, because it had stopped giving room back after a \
                 failed read."
            ),
            Err(problem) => {
                let error: &(dyn Error + 'static) = &*problem;
                error!(
                    error,
                    "After a failed read the ledger gives no room back, its log only grows; it is \
                     opened again when all of it can be read."
                );
            }
        }
    }

    /// A damaged store may panic as it is opened; that is a failure like any other.
    fn reopen(&self, ailment: Ailment) -> Result<(), Box<dyn Error + Send + Sync>> {
        let reopened = catch_unwind(AssertUnwindSafe(|| self.try_to_reopen(ailment)));
        reopened.unwrap_or_else(|_| Err("opening it has panicked".into()))
    }

    fn try_to_reopen(&self, ailment: Ailment) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.opener.probe(ailment)?;
        self.close(match ailment {
            Ailment::WriteFailed => READERS_TIMEOUT,
            // It still answers: who reads for long is not worth an outage.
            Ailment::GivesNoRoom => READERS_TIMEOUT_MIN,
        })?;
        let ledger = self.opener.open()?;
        let version_base = self.last_version.load(Ordering::Acquire) + 1;
        self.open.store(Some(Arc::new(Opened { ledger, version_base })));
        Ok(())
    }

    /// Lets go of the ledger that failed, when nobody uses it any more. For those who read row by
    /// row it stays open to all others until they have broken off: whom they give the rows to may
    /// take long.
    fn close(&self, patience: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.is_closing.store(true, Ordering::SeqCst);
        let has_nobody_left = || self.walks.load(Ordering::SeqCst) == 0;
        let closed = if wait_for(has_nobody_left, patience) {
            self.close_the_gate(patience)
        } else {
            Err("somebody still reads rows of it".into())
        };
        self.is_closing.store(false, Ordering::SeqCst);
        closed
    }

    fn close_the_gate(&self, patience: Duration) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Some(opened) = self.open.load_full() else { return Ok(()) };
        self.last_version.store(opened.version(), Ordering::Release);
        self.open.store(None);
        wait_for(|| Arc::strong_count(&opened) == 1, patience);
        match Arc::try_unwrap(opened) {
            Ok(opened) => {
                // A store that failed may panic once more as it is dropped; its handles go anyway.
                let _ = catch_unwind(AssertUnwindSafe(move || drop(opened)));
                Ok(())
            }
            Err(opened) => {
                self.open.store(Some(opened));
                Err("somebody still reads from it".into())
            }
        }
    }
}

/// Whether it came to be so.
fn wait_for(is_so: impl Fn() -> bool, patience: Duration) -> bool {
    let mut waited = Duration::ZERO;
    while !is_so() {
        if waited >= patience {
            return false;
        }
        thread::sleep(READERS_PAUSE);
        waited += READERS_PAUSE;
    }
    true
}

impl<O: Opener> Ledger for ReopeningLedger<O> {
    fn version(&self) -> u64 {
        let opened = self.shared.open.load();
        let last = || self.shared.last_version.load(Ordering::Acquire);
        opened.as_ref().map_or_else(last, |opened| opened.version())
    }

    fn scopes(&self) -> Result<Vec<Scope>, LedgerError> {
        self.ask(Ledger::scopes)
    }

    fn scopes_of(&self, ids: &[ScopeId]) -> Result<Vec<Scope>, LedgerError> {
        self.ask(|ledger| ledger.scopes_of(ids))
    }

    fn add_scopes(&self, scopes: &[NewScope]) -> Result<usize, LedgerError> {
        self.ask(|ledger| ledger.add_scopes(scopes))
    }

    fn change_scope(
        &self,
        id: &ScopeId,
        change: &ScopeChange,
    ) -> Result<Option<Scope>, LedgerError> {
        self.ask(|ledger| ledger.change_scope(id, change))
    }

    fn reset(&self, reset: &Reset) -> Result<ResetOutcome, LedgerError> {
        self.ask(|ledger| ledger.reset(reset))
    }

    fn set_metrics(&self, metrics: &[MetricId]) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.set_metrics(metrics))
    }

    fn cursors(&self) -> Result<Cursors, LedgerError> {
        self.ask(Ledger::cursors)
    }

    fn commit(&self, slices: Vec<RatedSlice>) -> Result<Vec<CommitOutcome>, LedgerError> {
        self.ask(|ledger| ledger.commit(slices))
    }

    fn push(&self, push: Push) -> Result<PushOutcome, LedgerError> {
        self.ask(|ledger| ledger.push(push))
    }

    fn note_failure(&self, failure: &Failure) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.note_failure(failure))
    }

    fn reprocessings(&self) -> Result<Vec<Reprocessing>, LedgerError> {
        self.ask(Ledger::reprocessings)
    }

    fn open_reprocessings(&self) -> Result<OpenReprocessings, LedgerError> {
        self.ask(Ledger::open_reprocessings)
    }

    fn add_reprocessing(&self, new: &NewReprocessing) -> Result<u64, LedgerError> {
        self.ask(|ledger| ledger.add_reprocessing(new))
    }

    fn stage_reprocessed(&self, id: u64, slices: Vec<RatedSlice>) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.stage_reprocessed(id, slices))
    }

    fn advance_reprocessing(
        &self,
        id: u64,
        staged: DateTime<Utc>,
        put_off: &[ScopeId],
    ) -> Result<Option<u64>, LedgerError> {
        self.ask(|ledger| ledger.advance_reprocessing(id, staged, put_off))
    }

    fn finish_reprocessing(&self, id: u64) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.finish_reprocessing(id))
    }

    fn generations(&self) -> Result<Vec<Generation>, LedgerError> {
        self.ask(Ledger::generations)
    }

    fn differences(&self, query: &DifferenceQuery) -> Result<DifferencePage, LedgerError> {
        self.ask(|ledger| ledger.differences(query))
    }

    fn summarize(&self, query: &SummaryQuery) -> Result<Vec<SummaryGroup>, LedgerError> {
        self.ask(|ledger| ledger.summarize(query))
    }

    fn summary_page(&self, query: &SummaryQuery, page: PageOf) -> Result<SummaryPage, LedgerError> {
        self.ask(|ledger| ledger.summary_page(query, page))
    }

    fn rows(&self, query: &RowsQuery) -> Result<RowsPage, LedgerError> {
        self.ask(|ledger| ledger.rows(query))
    }

    fn visit_rows(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(RowsGroup) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.walk(visit, |ledger, visit| ledger.visit_rows(query, visit))
    }

    fn visit_rows_past_damage(
        &self,
        query: &RowsQuery,
        visit: &mut dyn FnMut(Visited) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        self.walk(visit, |ledger, visit| ledger.visit_rows_past_damage(query, visit))
    }

    fn completeness(&self, query: &CompletenessQuery) -> Result<Vec<Completeness>, LedgerError> {
        self.ask(|ledger| ledger.completeness(query))
    }

    fn libraries(&self) -> Result<Vec<String>, LedgerError> {
        self.ask(Ledger::libraries)
    }

    fn module_states(&self) -> Result<BTreeMap<String, ModuleState>, LedgerError> {
        self.ask(Ledger::module_states)
    }

    fn set_module_state(&self, module: &str, state: ModuleState) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.set_module_state(module, state))
    }

    fn collector_states(&self) -> Result<BTreeMap<String, bool>, LedgerError> {
        self.ask(Ledger::collector_states)
    }

    fn set_collector_state(&self, collector: &str, enabled: Enabled) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.set_collector_state(collector, enabled))
    }

    fn collector_mappings(&self) -> Result<Vec<CollectorMapping>, LedgerError> {
        self.ask(Ledger::collector_mappings)
    }

    fn set_collector_mapping(&self, mapping: &CollectorMapping) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.set_collector_mapping(mapping))
    }

    fn remove_collector_mapping(&self, service: &str) -> Result<bool, LedgerError> {
        self.ask(|ledger| ledger.remove_collector_mapping(service))
    }

    fn kv_revision(&self, instance: &str) -> Result<u64, LedgerError> {
        self.ask(|ledger| ledger.kv_revision(instance))
    }

    fn kv_get(
        &self,
        instance: &str,
        revision: u64,
        key: &str,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        self.ask(|ledger| ledger.kv_get(instance, revision, key))
    }

    fn kv_scan(
        &self,
        instance: &str,
        revision: u64,
        prefix: &str,
    ) -> Result<(u64, rated_plugin::KvPairs), LedgerError> {
        self.ask(|ledger| ledger.kv_scan(instance, revision, prefix))
    }

    fn kv_apply(&self, instance: &str, edit: &KvEdit) -> Result<u64, LedgerError> {
        self.ask(|ledger| ledger.kv_apply(instance, edit))
    }

    fn check_rules(&self) -> Result<(), LedgerError> {
        self.ask(Ledger::check_rules)
    }

    fn takes_changes(&self) -> Result<(), LedgerError> {
        self.ask(Ledger::takes_changes)
    }

    fn size(&self) -> Result<LedgerSize, LedgerError> {
        self.ask(Ledger::size)
    }

    fn compact(&self) -> Result<CompactionStep, LedgerError> {
        self.ask(Ledger::compact)
    }

    fn verify(&self, from: Option<&str>) -> Result<VerifyStep, LedgerError> {
        self.ask(|ledger| ledger.verify(from))
    }

    fn begin_backup(&self, now: DateTime<Utc>) -> Result<BackupPlan, LedgerError> {
        self.ask(|ledger| ledger.begin_backup(now))
    }

    fn read_backup(&self, read: &BackupRead) -> Result<Vec<u8>, LedgerError> {
        self.ask(|ledger| ledger.read_backup(read))
    }

    fn backup_digest(&self, read: &BackupRead) -> Result<[u8; 32], LedgerError> {
        self.ask(|ledger| ledger.backup_digest(read))
    }

    fn end_backup(&self, id: u64) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.end_backup(id))
    }

    fn end_idle_backup(&self, now: DateTime<Utc>) -> Result<(), LedgerError> {
        self.ask(|ledger| ledger.end_idle_backup(now))
    }

    fn retain(&self, retention: Retention, now: DateTime<Utc>) -> Result<Retained, LedgerError> {
        self.ask(|ledger| ledger.retain(retention, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Filters;
    use crate::ledger::sled::{SledOpener, SledOptions};

    #[test]
    fn for_one_who_reads_slowly_it_stays_open_to_all_others() {
        let folder = tempfile::tempdir().unwrap();
        let opener =
            SledOpener { path: folder.path().to_path_buf(), options: SledOptions::default() };
        let ledger = ReopeningLedger::open(opener).unwrap();
        let (shared, patience) = (Arc::clone(&ledger.shared), Duration::from_mins(1));
        let (begin, end) = (DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC);
        let query =
            RowsQuery { begin, end, filters: Filters::default(), offset: 0, limit: usize::MAX };
        let mut closer = None;

        let walked = ledger.walk(&mut |()| ControlFlow::Continue(()), |inner, visit| {
            inner.visit_rows(&query, &mut |_| ControlFlow::Continue(()))?;
            assert!(visit(()).is_continue());
            let shared = Arc::clone(&shared);
            closer = Some(thread::spawn(move || shared.close(patience).is_ok()));
            while !ledger.shared.is_closing.load(Ordering::SeqCst) {
                thread::yield_now();
            }
            // As long as this goes on nobody is turned away but who would read row by row, too.
            for _ in 0..1000 {
                ledger.scopes().unwrap();
                thread::yield_now();
            }
            assert!(matches!(
                ledger.visit_rows(&query, &mut |_| ControlFlow::Continue(())),
                Err(LedgerError::Closed)
            ));
            assert!(visit(()).is_break());
            Ok(())
        });

        assert!(matches!(walked, Err(LedgerError::Closed)));
        assert!(closer.unwrap().join().unwrap());
    }
}
