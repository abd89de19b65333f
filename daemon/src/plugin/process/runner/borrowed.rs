//! The daemon's services, asked for over the socket.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use rated_plugin::{Edit, Error, KvPairs, Result};

use super::limits;
use crate::plugin::call::CallState;
use crate::plugin::host_api::{HttpAnswer, HttpParts, Lender};
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
}

impl Link {
    pub(super) fn new(socket: UnixStream, levels: u32) -> Link {
        let waiting = Mutex::new(Some(BTreeMap::new()));
        Link { socket: Mutex::new(socket), levels, next: AtomicU64::new(1), waiting }
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

    /// Nothing is answered any more.
    pub(super) fn hang_up(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn ask(&self, asked: &Asked<'_>) -> Result<Reader> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = Report::ask(CALL.get(), number, asked)?;
        let answer = self.expect(number)?;
        self.send(&frame);
        answer.recv().unwrap_or_else(|_| Err(gone()))
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
        let now = self.0.ask(&Asked::Now).and_then(|mut reader| Ok(reader.i64()?));
        now.unwrap_or_default()
    }

    fn kv_get(&self, revision: u64, key: &str) -> Result<Vec<u8>> {
        Ok(self.0.ask(&Asked::KvGet { revision, key })?.bytes()?)
    }

    fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        Ok(take_pairs(&mut self.0.ask(&Asked::KvScan { revision, prefix })?)?)
    }

    fn kv_apply(&self, revision: u64, edits: Vec<Edit>) -> Result<u64> {
        Ok(self.0.ask(&Asked::KvApply { revision, edits: &edits })?.u64()?)
    }

    fn count(&self, metric: &str, by: u64) {
        self.0.tell(Report::count(metric, by));
    }

    fn observe(&self, metric: &str, value: f64) {
        self.0.tell(Report::observe(metric, value));
    }

    /// The daemon knows the call by the thread that asks.
    fn http(&self, _: Option<&CallState>, request: &HttpParts<'_>) -> Result<HttpAnswer> {
        Ok(take_http(&mut self.0.ask(&Asked::Http(*request))?)?)
    }
}
