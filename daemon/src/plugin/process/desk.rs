//! Threads that do for one process what no call's own thread does: requests over HTTP, which may be
//! made at the same time, and what threads of the plugin ask for that work for no call.
//!
//! The runner holds itself to [`ASKED_MAX`] and lets the plugin's threads wait, and what it asks
//! for is in its own memory until it is answered; one that asks for more is none of ours.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::report::Wanted;
use super::serve;
use super::watch::Watched;
use crate::plugin::call::CallState;
use crate::plugin::host_api::{Daemon, Room, Share};

/// Most things asked for at a time and not answered yet; each has a thread, so none waits for
/// another.
pub(super) const ASKED_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// For what is asked.
    asked: Arc<Room>,
    /// Something was asked for, or nothing will be any more.
    came: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<(Task, Share)>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// Something to do and to answer.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) number: u64,
    pub(super) wanted: Wanted,
    /// The call that it is for; or the process, which is no call.
    pub(super) call: Arc<CallState>,
}

/// More is asked for at a time than a runner asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct TooMuch;

impl Desk {
    /// Of a process that may take so many bytes.
    pub(super) fn new(memory_bytes: u64) -> Desk {
        let (state, came) = (Mutex::default(), Condvar::new());
        Desk { state, asked: Room::new(memory_bytes), came }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does not wait.
    pub(super) fn take(
        &self,
        task: Task,
        watched: &Arc<Watched>,
        lender: &Arc<Daemon>,
    ) -> Result<(), TooMuch> {
        let mut state = self.lock();
        if state.closed {
            return Ok(());
        }
        let busy = state.threads - state.idle;
        let mut share = self.asked.share();
        // Of those that have answered all may not have said so yet.
        if busy + state.waiting.len() >= 2 * ASKED_MAX || !share.grow(task.wanted.size()) {
            return Err(TooMuch);
        }
        state.waiting.push_back((task, share));
        if state.idle >= state.waiting.len() {
            self.came.notify_one();
            return Ok(());
        }
        let (kept, lent) = (watched.clone(), lender.clone());
        let thread = std::thread::Builder::new().name("rated-asked".to_owned());
        match thread.spawn(move || kept.desk().work(&kept, &lent)) {
            Ok(_) => state.threads += 1,
            // It waits for one of those there are; without any the call's own end comes first.
            Err(error) => {
                tracing::warn!(%error, "What a plugin asks for waits: no thread can be had.");
                self.came.notify_one();
            }
        }
        Ok(())
    }

    /// Nobody hears an answer any more.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        self.came.notify_all();
    }

    fn work(&self, watched: &Watched, lender: &Daemon) {
        let mut state = self.lock();
        while !state.closed {
            let Some((Task { number, wanted, call }, share)) = state.waiting.pop_front() else {
                state.idle += 1;
                state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let given = serve::give(lender, Some(&call), wanted);
            // Who is answered may ask for as much again.
            drop(share);
            watched.answer(number, &given);
            drop(given);
            state = self.lock();
        }
    }
}
