//! Looks at the machine again and again, and keeps what each user consumed in between.
//!
//! A thread looks every `interval`; whoever asks for a period that has just ended may cause a look
//! as well. The first look is the baseline: nothing before it is known. The thread has ended when
//! the sampler is dropped.
//!
//! Time is the host's. When its clock stands still or goes back a little, there is no look until it
//! has caught up; when it goes back far, everything known is dropped: it is in the wrong place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::history::{History, Total, Unknown};
use crate::machine::{Machine, Snapshot};
use crate::tally::Tally;

/// How far the clock may go back before what is known is dropped.
const CLOCK_BACK_NS_MAX: i64 = 60 * 1_000_000_000;
/// Most users that are remembered as seen.
const USERS_SEEN_MAX: usize = 1_000_000;

/// The host's clock, nanoseconds since the epoch.
pub(crate) type Clock = Box<dyn Fn() -> i64 + Send + Sync>;
/// Where sentences for the log go.
pub(crate) type Log = Box<dyn Fn(&str) + Send + Sync>;

/// Everybody who had a process at any look.
pub(crate) type UsersSeen = Arc<Mutex<BTreeSet<u32>>>;

/// What the sampler needs from outside.
pub(crate) struct Surroundings {
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) clock: Clock,
    pub(crate) warn: Log,
    pub(crate) users_seen: UsersSeen,
}

struct State {
    machine: Box<dyn Machine>,
    tally: Tally,
    history: History,
    kept_ns: i64,
    has_warned_of_io: bool,
    is_failing: bool,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    warn: Log,
    users_seen: UsersSeen,
    is_stopped: Mutex<bool>,
    stop: Condvar,
}

/// A running sampler.
pub(crate) struct Sampler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Takes the first look; without `interval` it only looks when asked.
    pub(crate) fn start(
        mut surroundings: Surroundings,
        kept: Duration,
        interval: Option<Duration>,
    ) -> std::io::Result<Sampler> {
        let now_ns = (surroundings.clock)();
        let first = surroundings.machine.look()?;
        let kept_ns = i64::try_from(kept.as_nanos()).unwrap_or(i64::MAX);
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                machine: surroundings.machine,
                tally: Tally::default(),
                history: History::new(now_ns, kept_ns),
                kept_ns,
                has_warned_of_io: false,
                is_failing: false,
            }),
            clock: surroundings.clock,
            warn: surroundings.warn,
            users_seen: surroundings.users_seen,
            is_stopped: Mutex::new(false),
            stop: Condvar::new(),
        });
        shared.notice(&mut lock_state(&shared), &first);
        lock_state(&shared).tally = Tally::new(first);
        let thread = interval
            .map(|interval| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name("rated-host".to_owned())
                    .spawn(move || shared.run(interval))
            })
            .transpose()?;
        Ok(Sampler { shared, thread })
    }

    /// By user; looks at the machine first when the period has ended after the last look.
    pub(crate) fn usage(
        &self,
        begin_ns: i64,
        end_ns: i64,
    ) -> Result<BTreeMap<u32, Total>, Unknown> {
        let mut state = lock_state(&self.shared);
        if end_ns > state.history.until_ns() && end_ns <= (self.shared.clock)() {
            self.shared.look(&mut state);
        }
        state.history.usage(begin_ns, end_ns)
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        *lock(&self.shared.is_stopped) = true;
        self.shared.stop.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic is in the log already.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Shared {
    fn run(&self, interval: Duration) {
        let mut is_stopped = lock(&self.is_stopped);
        while !*is_stopped {
            is_stopped = self
                .stop
                .wait_timeout_while(is_stopped, interval, |is_stopped| !*is_stopped)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            if !*is_stopped {
                self.look(&mut lock_state(self));
            }
        }
    }

    fn look(&self, state: &mut State) {
        let now_ns = (self.clock)();
        let until_ns = state.history.until_ns();
        let is_lost = now_ns < until_ns.saturating_sub(CLOCK_BACK_NS_MAX);
        if now_ns <= until_ns && !is_lost {
            return;
        }
        let snapshot = match state.machine.look() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                if !std::mem::replace(&mut state.is_failing, true) {
                    (self.warn)(&format!("cannot look at the processes, will try again: {error}"));
                }
                return;
            }
        };
        state.is_failing = false;
        self.notice(state, &snapshot);
        if is_lost {
            (self.warn)("the clock went back, what was measured so far is dropped");
            state.tally = Tally::new(snapshot);
            state.history = History::new(now_ns, state.kept_ns);
        } else {
            let users = state.tally.advance(snapshot);
            state.history.push(now_ns, users);
        }
    }

    fn notice(&self, state: &mut State, snapshot: &Snapshot) {
        let mut seen = lock(&self.users_seen);
        for process in snapshot.processes.values() {
            if seen.len() < USERS_SEEN_MAX {
                seen.insert(process.uid);
            }
        }
        let is_blind = snapshot.processes.values().any(|process| process.io_bytes.is_none());
        if is_blind && !std::mem::replace(&mut state.has_warned_of_io, true) {
            (self.warn)(
                "I/O of some processes cannot be read and is not counted (it needs CAP_SYS_PTRACE)",
            );
        }
    }
}

/// Books that a panic left half written are not read again: this panics too, and the daemon makes a
/// new instance.
fn lock_state(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().expect("no look at the machine has panicked")
}

/// For what is right at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
