//! One writer at a time, and one sync for all who wait.
//!
//! A thread that wants a change queues it. If nobody writes, it becomes the leader: takes all that
//! is queued, lets each change have its way with a copy of the catalog, makes the outcome durable
//! with one journal record, swaps the copy in and wakes everybody. Changes that arrive meanwhile
//! are the next group. A change that reads slices is a group of its own: what the changes before it
//! have done must stand in the store.
//!
//! After a failed write of sled the disk's content is unknown: no further change is taken. One of
//! the data files that failed has changed nothing, and neither has a group that was to replace a
//! record that cannot be read. A group that is durable and does not get to its places is told as
//! what it is, done; it gets there when the ledger is opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::catalog::Catalog;
use super::data::{Extent, FileId};
use super::seal_group::Group;
use super::space::Share;
use super::store::Write;
use crate::fault::{Step, passed};
use crate::ledger::LedgerError;

/// What a group has changed so far, seen by the next change of the same group.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) catalog: Catalog,
    /// Parts of slices.
    pub(super) extents: Vec<Extent>,
    pub(super) changed_files: BTreeSet<FileId>,
    pub(super) journaled: Vec<Write>,
    /// Keys and digests of pushes.
    pub(super) push_keys: BTreeMap<String, [u8; 32]>,
    /// How much of the disk's reserve it must leave.
    pub(super) share: Share,
    /// Whether the last damaged state was said anew: from now on their seal is what is there.
    pub(super) states_are_mended: bool,
    /// Found to be broken; the next start is to compare them.
    pub(super) suspects: Vec<Group>,
}

/// With whom a change is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Company {
    Welcome,
    Alone,
}

pub(super) type Deliver = Box<dyn FnOnce(Option<GroupFailure>) + Send>;
pub(super) type Change = Box<dyn FnOnce(&mut Stage) -> Deliver + Send>;

/// Why a group did not become durable, and what that means for those that follow.
#[derive(Debug)]
pub(super) enum GroupError {
    /// Nothing of it is in the ledger: a full disk, for example, which may have room again, or a
    /// damaged record that it was to replace.
    Undone(LedgerError),
    /// What is on disk is not known.
    Unknown(LedgerError),
}

impl From<GroupError> for GroupFailure {
    fn from(error: GroupError) -> GroupFailure {
        match error {
            GroupError::Undone(error) => GroupFailure::Undone(Arc::new(error)),
            GroupError::Unknown(error) => GroupFailure::Unknown(Arc::new(error)),
        }
    }
}

impl From<LedgerError> for GroupError {
    fn from(error: LedgerError) -> GroupError {
        GroupError::Unknown(error)
    }
}

/// A group that is durable: nobody may be told otherwise, or he would ask for it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    InItsPlaces,
    /// Not wholly: no further change is taken.
    InTheJournal,
}

/// Why a group did not become durable, or is not known to be; everybody in it is told.
#[derive(Debug, Clone)]
pub(super) enum GroupFailure {
    Undone(Arc<LedgerError>),
    Unknown(Arc<LedgerError>),
}

impl GroupFailure {
    fn cause(&self) -> &Arc<LedgerError> {
        match self {
            GroupFailure::Undone(error) | GroupFailure::Unknown(error) => error,
        }
    }

    /// For each of those who wait.
    fn error(self) -> LedgerError {
        match &**self.cause() {
            LedgerError::DiskFull { free_mib, reserve_mib } => {
                LedgerError::DiskFull { free_mib: *free_mib, reserve_mib: *reserve_mib }
            }
            LedgerError::Damaged { place, detail } => {
                LedgerError::Damaged { place: place.clone(), detail: detail.clone() }
            }
            _ => LedgerError::Store(Box::new(self)),
        }
    }
}

impl fmt::Display for GroupFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GroupFailure::Undone(_) => "a change could not be made",
            GroupFailure::Unknown(_) => "a change is not known to be durable",
        })
    }
}

impl std::error::Error for GroupFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.cause().as_ref())
    }
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Vec<(Company, Change)>,
    is_led: bool,
    is_stopped: bool,
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// Returns when the change is durable or has failed. A change that fails must not have touched
    /// the stage. `write` makes a group durable and visible.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        company: Company,
        change: impl FnOnce(&mut Stage) -> Result<T, LedgerError> + Send + 'static,
        write: impl Fn(Vec<Change>) -> (Vec<Deliver>, Result<Written, GroupError>),
    ) -> Result<T, LedgerError> {
        let outcome = Arc::new(Mutex::new(None));
        let change = boxed(change, Arc::clone(&outcome));
        let mut state = self.lock();
        if state.is_stopped {
            return Err(LedgerError::Stopped);
        }
        state.waiting.push((company, change));
        loop {
            if let Some(outcome) = lock(&outcome).take() {
                return outcome;
            }
            if state.is_stopped {
                return Err(LedgerError::Stopped);
            }
            if state.is_led {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_led = true;
            let group = state.take_group();
            drop(state);
            self.lead(group, &write);
            state = self.lock();
        }
    }

    fn lead(
        &self,
        group: Vec<Change>,
        write: &impl Fn(Vec<Change>) -> (Vec<Deliver>, Result<Written, GroupError>),
    ) {
        // A panic in here leaves the disk in an unknown state, like a failed write.
        let mut leadership = Leadership { queue: self, is_stopped: true };
        let (deliveries, written) = write(group);
        leadership.is_stopped =
            matches!(written, Err(GroupError::Unknown(_)) | Ok(Written::InTheJournal));
        let failure = written.err().map(GroupFailure::from);
        for deliver in deliveries {
            deliver(failure.clone());
        }
        passed(Step::GroupTold);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    /// The changes that waited longest and go together.
    fn take_group(&mut self) -> Vec<Change> {
        let is_alone = |(company, _): &(Company, Change)| *company == Company::Alone;
        let first_alone = self.waiting.iter().position(is_alone);
        let count = first_alone.map_or(self.waiting.len(), |index| index.max(1));
        self.waiting.drain(..count).map(|(_, change)| change).collect()
    }
}

struct Leadership<'a> {
    queue: &'a Queue,
    is_stopped: bool,
}

impl Drop for Leadership<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.is_led = false;
        state.is_stopped |= self.is_stopped;
        if state.is_stopped {
            state.waiting.clear();
        }
        drop(state);
        self.queue.changed.notify_all();
    }
}

fn boxed<T: Send + 'static>(
    change: impl FnOnce(&mut Stage) -> Result<T, LedgerError> + Send + 'static,
    outcome: Arc<Mutex<Option<Result<T, LedgerError>>>>,
) -> Change {
    Box::new(move |stage| {
        let result = change(stage);
        Box::new(move |failure| {
            let result = match failure {
                None => result,
                Some(failure) => Err(failure.error()),
            };
            *lock(&outcome) = Some(result);
        })
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
