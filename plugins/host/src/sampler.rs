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

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use super::*;
    use crate::machine::Process;

    const SEC: i64 = 1_000_000_000;

    /// Gives what it was told to, then errors.
    struct Script {
        looks: VecDeque<Option<Snapshot>>,
        is_dropped: Arc<AtomicBool>,
    }

    impl Machine for Script {
        fn look(&mut self) -> io::Result<Snapshot> {
            let next = self.looks.pop_front().flatten();
            next.ok_or_else(|| io::Error::other("no look"))
        }
    }

    impl Drop for Script {
        fn drop(&mut self) {
            self.is_dropped.store(true, Ordering::SeqCst);
        }
    }

    struct World {
        now_ns: Arc<AtomicI64>,
        warnings: Arc<Mutex<Vec<String>>>,
        users_seen: UsersSeen,
        is_dropped: Arc<AtomicBool>,
    }

    /// One process of user 7 that has used so many nanoseconds.
    fn used(own_ns: u64) -> Snapshot {
        let process = Process { uid: 7, own_ns, io_bytes: Some(0), ..Process::default() };
        Snapshot { processes: BTreeMap::from([(1, process)]), ..Snapshot::default() }
    }

    fn start<L: Clone + Into<Option<Snapshot>>>(
        looks: &[L],
        interval: Option<Duration>,
    ) -> (Sampler, World) {
        let world = World {
            now_ns: Arc::new(AtomicI64::new(1000 * SEC)),
            warnings: Arc::default(),
            users_seen: UsersSeen::default(),
            is_dropped: Arc::default(),
        };
        let looks = looks.iter().cloned().map(Into::into).collect();
        let (now_ns, warnings) = (Arc::clone(&world.now_ns), Arc::clone(&world.warnings));
        let surroundings = Surroundings {
            machine: Box::new(Script { looks, is_dropped: Arc::clone(&world.is_dropped) }),
            clock: Box::new(move || now_ns.load(Ordering::SeqCst)),
            warn: Box::new(move |message| lock(&warnings).push(message.to_owned())),
            users_seen: Arc::clone(&world.users_seen),
        };
        (Sampler::start(surroundings, Duration::from_mins(10), interval).unwrap(), world)
    }

    impl World {
        fn set_secs(&self, secs: i64) {
            self.now_ns.store(secs * SEC, Ordering::SeqCst);
        }
    }

    fn cpu_ns(sampler: &Sampler, begin_secs: i64, end_secs: i64) -> Result<u128, Unknown> {
        let usage = sampler.usage(begin_secs * SEC, end_secs * SEC)?;
        Ok(usage.get(&7).map_or(0, |total| total.cpu_ns))
    }

    #[test]
    fn the_first_look_is_the_baseline() {
        let (sampler, world) = start(&[used(500), used(530)], None);
        world.set_secs(1002);

        assert_eq!(cpu_ns(&sampler, 1000, 1002), Ok(30));
        assert_eq!(cpu_ns(&sampler, 999, 1001), Err(Unknown::Before { since_ns: 1000 * SEC }));
        assert_eq!(*lock(&world.users_seen), BTreeSet::from([7]));
    }

    #[test]
    fn a_period_that_is_not_over_is_not_known_yet() {
        let (sampler, world) = start(&[used(0), used(10)], None);
        world.set_secs(1002);

        let expected = Err(Unknown::After { until_ns: 1000 * SEC });
        assert_eq!(cpu_ns(&sampler, 1001, 1003), expected, "and nobody looked for it");
        assert_eq!(cpu_ns(&sampler, 1001, 1002), Ok(5));
    }

    #[test]
    fn a_failed_look_is_told_once_and_loses_nothing() {
        let (sampler, world) = start(&[Some(used(0)), None, None, Some(used(100)), None], None);

        for secs in [1001, 1002] {
            world.set_secs(secs);
            let expected = Err(Unknown::After { until_ns: 1000 * SEC });
            assert_eq!(cpu_ns(&sampler, 1000, secs), expected);
        }
        world.set_secs(1004);

        assert_eq!(cpu_ns(&sampler, 1000, 1004), Ok(100));
        assert_eq!(lock(&world.warnings).len(), 1);
        world.set_secs(1005);
        assert!(cpu_ns(&sampler, 1000, 1005).is_err());
        assert_eq!(lock(&world.warnings).len(), 2, "a new failure is told again");
    }

    #[test]
    fn a_clock_that_goes_back_a_little_is_waited_for() {
        let (sampler, world) = start(&[used(0), used(100), used(150)], None);
        world.set_secs(1010);
        assert_eq!(cpu_ns(&sampler, 1000, 1010), Ok(100));

        world.set_secs(1009);
        sampler.shared.look(&mut lock_state(&sampler.shared));
        world.set_secs(1011);

        assert_eq!(cpu_ns(&sampler, 1000, 1011), Ok(150));
    }

    #[test]
    fn a_clock_that_goes_back_far_drops_what_is_in_the_wrong_place() {
        let (sampler, world) = start(&[used(0), used(100), used(150)], None);

        world.set_secs(900);
        sampler.shared.look(&mut lock_state(&sampler.shared));
        world.set_secs(910);

        assert_eq!(cpu_ns(&sampler, 900, 910), Ok(50));
        assert_eq!(cpu_ns(&sampler, 899, 910), Err(Unknown::Before { since_ns: 900 * SEC }));
        assert!(lock(&world.warnings)[0].starts_with("the clock went back"));
    }

    #[test]
    fn io_that_cannot_be_read_is_told_once() {
        let mut blind = used(0);
        blind.processes.get_mut(&1).unwrap().io_bytes = None;
        let (sampler, world) = start(&[blind.clone(), blind.clone(), blind], None);

        for secs in [1001, 1002] {
            world.set_secs(secs);
            cpu_ns(&sampler, 1000, secs).unwrap();
        }

        assert_eq!(lock(&world.warnings).len(), 1);
    }

    #[test]
    fn the_thread_has_ended_when_the_sampler_is_dropped() {
        let (sampler, world) = start(&[used(0)], Some(Duration::from_hours(1)));

        drop(sampler);

        assert!(world.is_dropped.load(Ordering::SeqCst));
    }
}
