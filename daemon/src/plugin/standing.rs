//! The place of an instance: empty, being filled, or filled. One call makes the instance, others
//! wait for it, as long as their own time lasts.
//!
//! Nothing of a plugin runs while the lock in here is held.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::Interrupt;
use super::instance::{Frame, Instance};

#[derive(Debug, Default)]
pub(super) struct Standing {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    place: Place,
    /// Calls are made no more, so nobody waits any longer.
    closed: bool,
    /// Asked for since somebody last looked.
    was_used: bool,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Empty,
    BeingMade,
    Filled(Arc<Instance>),
}

/// What a call finds.
pub(super) enum Found {
    Instance(Arc<Instance>),
    /// Nothing, so it makes one; nobody else does meanwhile.
    Nobody(Making),
    /// Somebody else is still making it, and the call's time is over.
    Late,
    Closed,
}

/// The right to fill the place; given back when it is dropped.
pub(super) struct Making(Arc<Standing>);

/// Wakes who waits for the instance.
#[derive(Debug)]
struct Waiting(Arc<Standing>);

impl Interrupt for Waiting {
    // Under the lock: who has looked and does not sleep yet would not be woken.
    fn cancelled(&self) {
        let _state = self.0.lock();
        self.0.changed.notify_all();
    }

    fn kill(&self) {
        self.cancelled();
    }
}

impl Standing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one that is being made, for `patience` at most.
    pub(super) fn find(self: &Arc<Self>, frame: &Frame<'_>, patience: Duration) -> Found {
        let mut state = self.lock();
        if matches!(state.place, Place::BeingMade) && !state.closed {
            drop(state);
            frame.state.runs_at(Some(Arc::new(Waiting(self.clone()))));
            state = self.lock();
            let is_waiting = |state: &mut State| {
                let is_over = state.closed || frame.state.is_cancelled();
                matches!(state.place, Place::BeingMade) && !is_over
            };
            let waited = self.changed.wait_timeout_while(state, patience, is_waiting);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            frame.state.runs_at(None);
        }
        if state.closed {
            return Found::Closed;
        }
        state.was_used = true;
        match &state.place {
            Place::Filled(instance) => Found::Instance(instance.clone()),
            Place::BeingMade => Found::Late,
            Place::Empty => {
                state.place = Place::BeingMade;
                Found::Nobody(Making(self.clone()))
            }
        }
    }

    /// If it is this one.
    pub(super) fn remove(&self, instance: &Arc<Instance>) {
        let mut state = self.lock();
        if matches!(&state.place, Place::Filled(current) if Arc::ptr_eq(current, instance)) {
            state.place = Place::Empty;
        }
    }

    /// From now on nobody finds an instance; the one there was.
    pub(super) fn close(&self) -> Option<Arc<Instance>> {
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        state.take()
    }

    /// Empties the place, if nobody has used the instance since this was asked last, or does now.
    pub(super) fn end_if_unused(&self) -> bool {
        let mut state = self.lock();
        let is_used = match &state.place {
            Place::Empty => false,
            Place::BeingMade => true,
            // Whoever calls it, or has rules of it, has a reference.
            Place::Filled(instance) => state.was_used || Arc::strong_count(instance) > 1,
        };
        state.was_used = false;
        if !is_used {
            let ended = state.take();
            drop(state);
            drop(ended);
        }
        !is_used
    }
}

impl State {
    fn take(&mut self) -> Option<Arc<Instance>> {
        match std::mem::take(&mut self.place) {
            Place::Filled(instance) => Some(instance),
            Place::Empty | Place::BeingMade => None,
        }
    }
}

impl Making {
    /// `false`: nobody is to use it any more.
    pub(super) fn done(self, made: &Arc<Instance>) -> bool {
        let mut state = self.0.lock();
        let is_wanted = !state.closed;
        if is_wanted {
            state.place = Place::Filled(made.clone());
        }
        is_wanted
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if matches!(state.place, Place::BeingMade) {
            state.place = Place::Empty;
        }
        drop(state);
        self.0.changed.notify_all();
    }
}
