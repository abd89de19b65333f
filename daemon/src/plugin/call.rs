//! One call into a plugin: its deadline, its cancellation, on whose behalf it is made.

use std::cell::RefCell;
use std::collections::hash_map::RandomState;
use std::ffi::c_void;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rated_plugin::raw::RawCall;
use tokio::sync::Notify;

/// Shared by the thread that runs the call, the caller that waits and the watchdog.
#[derive(Debug)]
pub(super) struct CallState {
    cancelled: AtomicBool,
    overdue: AtomicBool,
    written_off: AtomicBool,
    shared: AtomicBool,
    changed: Notify,
    /// On the machine's clock that only goes forward; set when the call starts.
    deadline: OnceLock<Instant>,
    number: u64,
    interrupt: Mutex<Option<Arc<dyn Interrupt>>>,
}

/// Told by a call that runs elsewhere; never waits.
pub(super) trait Interrupt: fmt::Debug + Send + Sync {
    /// Nobody waits for the answer any more.
    fn cancelled(&self);
    /// Its time and its grace are over: it must end at once.
    fn kill(&self);
}

impl CallState {
    pub(super) fn new() -> CallState {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        CallState::numbered(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// With the number that it has elsewhere.
    pub(super) fn numbered(number: u64) -> CallState {
        CallState {
            cancelled: AtomicBool::new(false),
            overdue: AtomicBool::new(false),
            written_off: AtomicBool::new(false),
            shared: AtomicBool::new(false),
            changed: Notify::new(),
            deadline: OnceLock::new(),
            number,
            interrupt: Mutex::default(),
        }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Nobody waits for the answer any more.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
        if let Some(interrupt) = self.interrupt() {
            interrupt.cancelled();
        }
    }

    /// Unique in the process that makes the call; never 0.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// From now on the call runs elsewhere, until it is told `None`.
    pub(super) fn runs_at(&self, interrupt: Option<Arc<dyn Interrupt>>) {
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = interrupt;
        if self.is_cancelled()
            && let Some(interrupt) = self.interrupt()
        {
            interrupt.cancelled();
        }
    }

    /// Who can end it by force.
    pub(super) fn interrupt(&self) -> Option<Arc<dyn Interrupt>> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The deadline has passed.
    pub(super) fn cancel_overdue(&self) {
        self.overdue.store(true, Ordering::Relaxed);
        self.cancel();
    }

    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Relaxed)
    }

    /// Whoever waited has been told, and the call has been counted.
    pub(super) fn write_off(&self) {
        self.written_off.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_written_off(&self) -> bool {
        self.written_off.load(Ordering::Relaxed)
    }

    /// It was lost with a process, and others were under way there: perhaps it is not to blame.
    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_shared(&self) -> bool {
        self.shared.load(Ordering::Relaxed)
    }

    /// Ends when the call is cancelled.
    pub(super) async fn cancelled(&self) {
        loop {
            let changed = self.changed.notified();
            if self.is_cancelled() {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn starts(&self, deadline: Instant) {
        // A call starts once.
        let _ = self.deadline.set(deadline);
    }

    /// What is left of the call's time.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.deadline.get().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// What the plugin sees of this call; must not outlive it.
    pub(super) fn raw(&self, deadline: DateTime<Utc>) -> RawCall {
        static PROCESS: OnceLock<[u64; 2]> = OnceLock::new();
        let [process, salt] = *PROCESS
            .get_or_init(|| [RandomState::new().hash_one(0), RandomState::new().hash_one(1) | 1]);
        let mut trace_id = [0; 16];
        trace_id[..8].copy_from_slice(&process.to_be_bytes());
        trace_id[8..].copy_from_slice(&self.number.to_be_bytes());
        RawCall {
            struct_size: size_of::<RawCall>(),
            deadline_ns: deadline.timestamp_nanos_opt().unwrap_or(i64::MAX),
            trace_id,
            // An odd factor: as different from each other as the numbers.
            span_id: self.number.wrapping_mul(salt).to_be_bytes(),
            cancel: self.as_raw(),
        }
    }

    /// For [`RawCall::cancel`].
    pub(super) fn as_raw(&self) -> *const c_void {
        std::ptr::from_ref(self).cast()
    }
}

/// The state of the call that a plugin passes back to a service.
///
/// # Safety
///
/// `call` is null, or holds what [`CallState::as_raw`] gave, and its state outlives the chosen
/// lifetime.
pub(super) unsafe fn state_of<'a>(call: *const RawCall) -> Option<&'a CallState> {
    // SAFETY: the caller's promise.
    unsafe { call.as_ref().and_then(|call| call.cancel.cast::<CallState>().as_ref()) }
}

/// Cancels when the caller goes away; harmless after the call has ended.
#[derive(Debug)]
pub(super) struct CancelOnDrop(pub(super) Arc<CallState>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

thread_local! {
    static AUTHOR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Who edits keys when nobody called over REST.
const DAEMON: &str = "daemon";

/// Runs `work`; keys edited by it on this thread are edited by `author`.
pub(super) fn on_behalf_of<T>(author: &str, work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            AUTHOR.with(|slot| slot.replace(None));
        }
    }
    AUTHOR.with(|slot| slot.replace(Some(author.to_owned())));
    let _reset = Reset;
    work()
}

pub(super) fn author() -> String {
    AUTHOR.with(|slot| slot.borrow().clone()).unwrap_or_else(|| DAEMON.to_owned())
}
