//! The threads that run plugins' code, and the watchdog that gives up on those which do not come
//! back.
//!
//! A call gets a deadline when it starts: then it is cancelled, and when it has not ended a grace
//! later it is written off: whoever waits for it is told, its thread is counted as lost and
//! replaced (up to a limit), and nobody ever waits for it again. A lost thread that
//! comes back ends, or takes its place again if nobody has it. A call that runs in another process
//! is killed instead, and its thread comes back.
//!
//! This module knows nothing of plugins. It never touches a lock of the caller's while it holds its
//! own.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::call::{CallState, Interrupt};

/// How long a thread may take to come back from a call that was killed.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// The call was given up: it did not end in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WrittenOff;

/// Nobody is left to run calls, or the pool has been stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoThreads;

/// A thread to run one call on.
#[derive(Debug)]
pub(super) struct Seat(OwnedSemaphorePermit);

pub(super) struct Pool {
    shared: Arc<Shared>,
    seats: Arc<Semaphore>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PoolLimits {
    pub(super) threads: usize,
    pub(super) deadline: Duration,
    pub(super) grace: Duration,
    /// Most threads that hang at a time and are replaced by others.
    pub(super) lost_threads_max: usize,
}

struct Shared {
    limits: PoolLimits,
    state: Mutex<State>,
    /// A job came, or the pool closes.
    work: Condvar,
    /// The pool closes. That a call starts is nothing the watchdog has to be told: it never sleeps
    /// longer than the time a call has.
    watch: Condvar,
    /// A call ended.
    ended: Notify,
    seats: Arc<Semaphore>,
    on_lost: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    running: BTreeMap<u64, Running>,
    /// Written off, still on their threads; `true` = another thread has taken its place.
    lost: BTreeMap<u64, bool>,
    next_ticket: u64,
    threads: usize,
    closing: bool,
}

/// What runs on a thread of the pool.
type Work = Box<dyn FnOnce(&Arc<CallState>) + Send>;

struct Job {
    call: Arc<CallState>,
    seat: Option<Seat>,
    work: Work,
    give_up: Box<dyn FnOnce() + Send>,
}

struct Running {
    call: Arc<CallState>,
    seat: Option<Seat>,
    cancel_at: Instant,
    write_off_at: Instant,
    killed: bool,
    give_up: Box<dyn FnOnce() + Send>,
}

impl Pool {
    /// `on_lost` is called for each thread that is written off.
    pub(super) fn start(
        limits: PoolLimits,
        on_lost: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Pool> {
        let limits = PoolLimits { threads: limits.threads.max(1), ..limits };
        let seats = Arc::new(Semaphore::new(limits.threads));
        let shared = Arc::new(Shared {
            limits,
            state: Mutex::new(State { threads: limits.threads, ..State::default() }),
            work: Condvar::new(),
            watch: Condvar::new(),
            ended: Notify::new(),
            seats: seats.clone(),
            on_lost: Box::new(on_lost),
        });
        // Made first: it ends the threads if not all of them could be started.
        let pool = Pool { shared: shared.clone(), seats };
        for _ in 0..limits.threads {
            spawn_worker(&shared)?;
        }
        let watched = shared;
        std::thread::Builder::new()
            .name("rated-watchdog".to_owned())
            .spawn(move || watched.watch())?;
        Ok(pool)
    }

    pub(super) fn deadline(&self) -> Duration {
        self.shared.limits.deadline
    }

    pub(super) fn grace(&self) -> Duration {
        self.shared.limits.grace
    }

    /// Waits for a thread.
    pub(super) async fn seat(&self) -> Result<Seat, NoThreads> {
        self.seats.clone().acquire_owned().await.map(Seat).map_err(|_| NoThreads)
    }

    /// Runs `work` on a thread of the pool and passes its outcome on, from there or from the
    /// watchdog.
    ///
    /// A call that is cancelled before it starts never does: then `reply` is dropped.
    /// Without a seat the call waits in the queue until a thread is free.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        seat: Option<Seat>,
        call: Arc<CallState>,
        work: impl FnOnce(&Arc<CallState>) -> T + Send + 'static,
        reply: impl FnOnce(Result<T, WrittenOff>) + Send + 'static,
    ) {
        let reply = Arc::new(Mutex::new(Some(reply)));
        let taken = reply.clone();
        let give_up = Box::new(move || {
            if let Some(reply) = lock(&taken).take() {
                reply(Err(WrittenOff));
            }
        });
        let work = Box::new(move |call: &Arc<CallState>| {
            let outcome = work(call);
            let reply = lock(&reply).take();
            if let Some(reply) = reply {
                reply(Ok(outcome));
            }
        });
        let mut state = lock(&self.shared.state);
        if state.closing && state.threads == 0 {
            return;
        }
        state.queue.push_back(Job { call, seat, work, give_up });
        drop(state);
        self.shared.work.notify_one();
    }

    /// As [`Pool::submit`] without a seat, for a thread that may wait.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<CallState>) -> T + Send + 'static,
    ) -> Result<T, WrittenOff> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.submit(None, Arc::new(CallState::new()), work, move |outcome| {
            // The receiver below waits.
            let _ = sender.send(outcome);
        });
        receiver.recv().unwrap_or(Err(WrittenOff))
    }

    /// Ends when no call is under way or queued; those written off do not count.
    pub(super) async fn idle(&self) {
        loop {
            let ended = self.shared.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if lock(&self.shared.state).is_idle() {
                return;
            }
            ended.await;
        }
    }

    /// Cancels what is under way.
    pub(super) fn cancel_all(&self) {
        let state = lock(&self.shared.state);
        state.running.values().for_each(|running| running.call.cancel());
    }

    /// Ends what runs in other processes, with all that was started there.
    pub(super) fn kill_elsewhere(&self) {
        let state = lock(&self.shared.state);
        let running = state.running.values();
        let elsewhere: Vec<_> = running.filter_map(|running| running.call.interrupt()).collect();
        drop(state);
        for interrupt in elsewhere {
            interrupt.kill();
        }
    }

    /// No new seats; the queue is worked off and the threads end.
    pub(super) fn close(&self) {
        self.seats.close();
        lock(&self.shared.state).closing = true;
        self.shared.work.notify_all();
        self.shared.watch.notify_all();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

impl State {
    /// Calls whose time is over and that somebody can end; they get a little more time for it.
    fn to_kill(running: &mut BTreeMap<u64, Running>, now: Instant) -> Vec<Arc<dyn Interrupt>> {
        let overdue = |running: &&mut Running| running.write_off_at <= now && !running.killed;
        let elsewhere = running.values_mut().filter(overdue).filter_map(|running| {
            let interrupt = running.call.interrupt()?;
            running.killed = true;
            running.write_off_at = now + KILL_PATIENCE;
            Some(interrupt)
        });
        elsewhere.collect()
    }

    fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.running.is_empty()
    }
}

fn spawn_worker(shared: &Arc<Shared>) -> std::io::Result<()> {
    let shared = shared.clone();
    std::thread::Builder::new().name("rated-plugin".to_owned()).spawn(move || shared.work())?;
    Ok(())
}

/// Nothing here panics while it holds the lock, so what a panic elsewhere left is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn work(self: Arc<Shared>) {
        while let Some((ticket, call, work)) = self.next_job() {
            // A panic of the host's own code must not cost a thread; whoever waits sees the reply
            // dropped.
            let outcome = catch_unwind(AssertUnwindSafe(|| work(&call)));
            if outcome.is_err() {
                tracing::error!("A call to a plugin panicked in the daemon itself.");
            }
            if self.end(ticket) == AfterCall::Leave {
                return;
            }
        }
        self.ended.notify_waiters();
    }

    /// Waits; `None` when the pool closes.
    fn next_job(&self) -> Option<(u64, Arc<CallState>, Work)> {
        let mut state = lock(&self.state);
        loop {
            match state.queue.pop_front() {
                Some(job) if job.call.is_cancelled() => {
                    drop(state);
                    drop(job);
                    self.ended.notify_waiters();
                    state = lock(&self.state);
                }
                Some(Job { call, seat, work, give_up }) => {
                    let now = Instant::now();
                    let cancel_at = now + self.limits.deadline;
                    let write_off_at = cancel_at + self.limits.grace;
                    call.starts(cancel_at);
                    let ticket = state.next_ticket;
                    state.next_ticket += 1;
                    let (killed, kept) = (false, call.clone());
                    let running =
                        Running { call: kept, seat, cancel_at, write_off_at, killed, give_up };
                    state.running.insert(ticket, running);
                    return Some((ticket, call, work));
                }
                None if state.closing => {
                    state.threads -= 1;
                    return None;
                }
                None => state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn end(&self, ticket: u64) -> AfterCall {
        let mut state = lock(&self.state);
        let ended = state.running.remove(&ticket);
        let after = match state.lost.remove(&ticket) {
            Some(true) => AfterCall::Leave,
            Some(false) => {
                state.threads += 1;
                self.seats.add_permits(1);
                AfterCall::Stay
            }
            None => AfterCall::Stay,
        };
        if state.closing {
            self.watch.notify_all();
        }
        drop(state);
        // Dropped outside the lock: it may hold the last reference to an instance.
        drop(ended);
        self.ended.notify_waiters();
        after
    }

    /// The watchdog's thread.
    fn watch(self: Arc<Shared>) {
        let mut state = lock(&self.state);
        loop {
            let now = Instant::now();
            let elsewhere = State::to_kill(&mut state.running, now);
            if !elsewhere.is_empty() {
                drop(state);
                for interrupt in &elsewhere {
                    interrupt.kill();
                }
                state = lock(&self.state);
                continue;
            }
            let overdue: Vec<u64> = state
                .running
                .iter()
                .filter(|(_, running)| running.write_off_at <= now)
                .map(|(ticket, _)| *ticket)
                .collect();
            let written_off: Vec<Running> = overdue
                .into_iter()
                .filter_map(|ticket| self.write_off(&mut state, ticket))
                .collect();
            if !written_off.is_empty() {
                drop(state);
                for lost in written_off {
                    self.tell(lost);
                }
                state = lock(&self.state);
                continue;
            }
            // Calls that start from now on have all their time before them.
            let mut next = now + self.limits.deadline;
            for running in state.running.values() {
                if running.cancel_at <= now && !running.call.is_overdue() {
                    running.call.cancel_overdue();
                }
                let is_cancelled = running.cancel_at <= now;
                next =
                    next.min(if is_cancelled { running.write_off_at } else { running.cancel_at });
            }
            if state.closing && state.is_idle() {
                return;
            }
            let wait = next.saturating_duration_since(now);
            let waited = self.watch.wait_timeout(state, wait);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives a thread up and puts another in its place.
    fn write_off(self: &Arc<Shared>, state: &mut State, ticket: u64) -> Option<Running> {
        let mut running = state.running.remove(&ticket)?;
        let replaced =
            state.lost.len() < self.limits.lost_threads_max && spawn_worker(self).is_ok();
        state.lost.insert(ticket, replaced);
        if !replaced {
            if let Some(Seat(permit)) = running.seat.take() {
                permit.forget();
            }
            state.threads -= 1;
            if state.threads == 0 {
                self.seats.close();
                tracing::error!("No thread is left for plugins; restart the daemon.");
            }
        }
        Some(running)
    }

    fn tell(&self, lost: Running) {
        lost.call.write_off();
        (self.on_lost)();
        (lost.give_up)();
        self.ended.notify_waiters();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterCall {
    Stay,
    Leave,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn pool(threads: usize, lost_threads_max: usize) -> (Arc<Pool>, Arc<AtomicUsize>) {
        start(PoolLimits { threads, deadline: MOMENT, grace: MOMENT, lost_threads_max })
    }

    fn start(limits: PoolLimits) -> (Arc<Pool>, Arc<AtomicUsize>) {
        let lost = Arc::new(AtomicUsize::new(0));
        let counter = lost.clone();
        let count = move || {
            counter.fetch_add(1, Ordering::SeqCst);
        };
        (Arc::new(Pool::start(limits, count).unwrap()), lost)
    }

    /// Hangs until the sender is dropped.
    fn hang(pool: &Pool) -> (Result<(), WrittenOff>, mpsc::Sender<()>) {
        let (sender, receiver) = mpsc::channel::<()>();
        let outcome = pool.run_blocking(move |_| {
            let _ = receiver.recv();
        });
        (outcome, sender)
    }

    #[test]
    fn a_thread_that_hangs_is_replaced() {
        let (pool, lost) = pool(1, 8);

        let held: Vec<_> = (0..4).map(|_| hang(&pool)).collect();

        assert!(held.iter().all(|(outcome, _)| *outcome == Err(WrittenOff)));
        assert_eq!(pool.run_blocking(|_| 7), Ok(7));
        assert_eq!(lost.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn threads_are_replaced_up_to_a_limit_and_take_their_place_again() {
        let (pool, _) = pool(1, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, first) = hang(&pool);
        let (_, second) = hang(&pool);

        let seat = runtime.block_on(pool.seat());
        assert_eq!(seat.unwrap_err(), NoThreads);

        // The second one was not replaced, so it works again as soon as it comes back.
        drop(second);
        assert_eq!(pool.run_blocking(|_| 7), Ok(7));
        drop(first);
    }

    #[test]
    fn a_call_is_cancelled_at_its_deadline_and_may_end_in_the_grace() {
        let grace = Duration::from_mins(1);
        let (pool, lost) =
            start(PoolLimits { threads: 1, deadline: MOMENT, grace, lost_threads_max: 8 });

        let outcome = pool.run_blocking(|call| {
            while !call.is_cancelled() {
                std::thread::yield_now();
            }
            call.is_overdue()
        });

        assert_eq!(outcome, Ok(true));
        assert_eq!(lost.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_call_that_was_cancelled_before_it_starts_never_does() {
        let (pool, _) = pool(1, 8);
        let call = Arc::new(CallState::new());
        call.cancel();
        let (sender, receiver) = mpsc::channel();

        pool.submit(None, call, |_| (), move |_| sender.send(()).unwrap());

        assert!(receiver.recv().is_err(), "the reply was dropped unused");
    }

    #[test]
    fn a_panic_of_the_daemons_own_costs_no_thread() {
        let (pool, _) = pool(1, 0);

        let outcome: Result<(), WrittenOff> = pool.run_blocking(|_| panic!("a mistake of ours"));

        assert!(outcome.is_err());
        assert_eq!(pool.run_blocking(|_| 7), Ok(7));
    }
}
