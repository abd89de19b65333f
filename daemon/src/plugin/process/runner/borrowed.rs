//! The daemon's services, asked for over the socket.
//!
//! Any thread may ask for anything at any time. What the daemon does for nobody's call, or beside
//! it, is asked for [`ASKED_MAX`] times at once; further threads wait.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use rated_plugin::{Edit, Error, KvPairs, Result};

use super::limits;
use crate::plugin::call::CallState;
use crate::plugin::host_api::{HttpAnswer, HttpParts, Lender};
use crate::plugin::process::desk::ASKED_MAX;
use crate::plugin::process::report::{Asked, Report, take_http, take_pairs};
use crate::plugin::process::wire::Reader;

thread_local! {
    /// The call that this thread runs; 0 = none, as on threads of the plugin's own.
    static CALL: Cell<u64> = const { Cell::new(0) };
}

/// Runs a call; what it asks for meanwhile is asked in its name.
pub(super) fn in_call<T>(number: u64, work: impl FnOnce() -> T) -> T {
    CALL.set(number);
    let outcome = work();
    CALL.set(0);
    outcome
}

/// The way to the daemon.
#[derive(Debug)]
pub(super) struct Link {
    socket: Mutex<UnixStream>,
    levels: u32,
    next: AtomicU64,
    /// `None`: the daemon has hung up.
    waiting: Mutex<Option<BTreeMap<u64, SyncSender<Result<Reader>>>>>,
    /// How much is asked for beside what the calls' own threads ask for.
    beside: Mutex<usize>,
    fewer: Condvar,
}

/// The right to ask for something beside the calls.
struct Beside<'a>(&'a Link);

impl Drop for Beside<'_> {
    fn drop(&mut self) {
        *self.0.beside.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.fewer.notify_one();
    }
}

impl Link {
    pub(super) fn new(socket: UnixStream, levels: u32) -> Link {
        let waiting = Mutex::new(Some(BTreeMap::new()));
        let (socket, next, fewer) = (Mutex::new(socket), AtomicU64::new(1), Condvar::new());
        Link { socket, levels, next, waiting, beside: Mutex::default(), fewer }
    }

    /// Sends a frame. Without a way to the daemon there is nothing left to do: the plugin has
    /// closed the socket, or the daemon has died.
    pub(super) fn send(&self, frame: &[u8]) {
        let mut socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        if socket.write_all(frame).is_err() {
            limits::end_now();
        }
    }

    /// From the thread that reads.
    pub(super) fn answered(&self, number: u64, answer: Result<Reader>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let asker = waiting.as_mut().and_then(|waiting| waiting.remove(&number));
        if let Some(asker) = asker {
            // There is room for the one answer.
            let _ = asker.try_send(answer);
        }
    }

    /// What the daemon says from now on is not heard.
    pub(super) fn read_no_more(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a way to the daemon nothing is heard either.
        let _ = socket.shutdown(Shutdown::Read);
    }

    /// Nothing is answered any more.
    pub(super) fn hang_up(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// In the name of a call, or of the one that this thread runs.
    fn ask(&self, call: Option<u64>, asked: &Asked<'_>) -> Result<Reader> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let call = call.unwrap_or(CALL.get());
        let frame = Report::ask(call, number, asked)?;
        let _beside = match asked {
            // Answered at once.
            Asked::Now => None,
            Asked::Http(_) => Some(self.beside()),
            _ => (call == 0).then(|| self.beside()),
        };
        let answer = self.expect(number)?;
        self.send(&frame);
        answer.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// Waits while there is too much of it.
    fn beside(&self) -> Beside<'_> {
        let count = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.fewer.wait_while(count, |count| *count >= ASKED_MAX);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Beside(self)
    }

    fn expect(&self, number: u64) -> Result<Receiver<Result<Reader>>> {
        let (sender, receiver) = sync_channel(1);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.as_mut().ok_or_else(gone)?.insert(number, sender);
        Ok(receiver)
    }

    fn tell(&self, frame: Result<Vec<u8>>) {
        if let Ok(frame) = frame {
            self.send(&frame);
        }
    }
}

fn gone() -> Error {
    Error::unavailable("the daemon has ended")
}

/// What a plugin in this process asks of its host.
#[derive(Debug)]
pub(super) struct Borrowed(pub(super) Arc<Link>);

impl Lender for Borrowed {
    fn is_logged(&self, level: u32) -> bool {
        self.0.levels & 1_u32.checked_shl(level.max(1)).unwrap_or_default() != 0
    }

    fn log(&self, level: u32, place: &str, said: &str) {
        self.0.tell(Report::log(level, place.as_bytes(), said.as_bytes()));
    }

    fn now_ns(&self) -> i64 {
        let now = self.0.ask(None, &Asked::Now).and_then(|mut reader| Ok(reader.i64()?));
        now.unwrap_or_default()
    }

    fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        Ok(self.0.ask(None, &Asked::KvGet { revision, key })?.bytes()?)
    }

    fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        Ok(take_pairs(&mut self.0.ask(None, &Asked::KvScan { revision, prefix })?)?)
    }

    fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64> {
        Ok(self.0.ask(None, &Asked::KvApply { revision, edits: &edits })?.u64()?)
    }

    fn count(&self, metric: &str, by: u64) {
        self.0.tell(Report::count(metric, by));
    }

    fn observe(&self, metric: &str, value: f64) {
        self.0.tell(Report::observe(metric, value));
    }

    /// For whatever call the plugin says, on whatever thread: its time is theirs.
    fn http(&self, call: Option<&CallState>, request: &HttpParts<'_>) -> Result<HttpAnswer> {
        let call = call.map(CallState::number);
        Ok(take_http(&mut self.0.ask(call, &Asked::Http(*request))?)?)
    }
}
