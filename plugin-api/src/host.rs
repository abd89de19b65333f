//! What the host lends: log, clock, cancellation, key-value store, metrics, HTTP.

use chrono::{DateTime, Utc};

use crate::raw::{HostApi, HostRef, RawCall};
use crate::{Edit, HttpRequest, HttpResponse, Result};

/// An instance's own handle on the daemon. Cheap to clone, usable from any thread.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    pub(crate) api: &'static HostApi,
    pub(crate) reference: HostRef,
}

/// Key-value pairs in key order.
pub type KvPairs = Vec<(String, Vec<u8>)>;

impl Host {
    /// Pass as a revision: the newest.
    pub const NOW: u64 = u64::MAX;

    pub fn log(&self, level: Level, message: &str) { todo!() }
    pub fn now(&self) -> DateTime<Utc> { todo!() }
    /// The value of a key as it was at `revision`.
    pub fn kv_get(&self, revision: u64, key: &str) -> Result<Option<Vec<u8>>> { todo!() }
    /// All keys with a prefix as they were at `revision`, and the revision that was read.
    pub fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> { todo!() }
    /// All edits, durably, if the keys are still at `revision` (else `Conflict`); the new revision.
    pub fn kv_apply(&self, revision: u64, edits: &[Edit]) -> Result<u64> { todo!() }
    pub fn count(&self, metric: &str, by: u64) { todo!() }
    pub fn observe(&self, metric: &str, value: f64) { todo!() }
    /// Sends a request and waits for the whole answer; any HTTP status is `Ok`.
    pub fn http(&self, call: &Call, request: &HttpRequest) -> Result<HttpResponse> { todo!() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level { Error = 1, Warn = 2, Info = 3, Debug = 4, Trace = 5 }

/// One call's surroundings: deadline, trace, cancellation.
#[derive(Debug)]
pub struct Call {
    pub(crate) raw: *const RawCall,
}

impl Call {
    /// Ask between pages and every few thousand rows.
    pub fn is_cancelled(&self) -> bool { todo!() }
    /// `Err(Cancelled)` when cancelled.
    pub fn check_cancelled(&self) -> Result<()> { todo!() }
    pub fn deadline(&self) -> Option<DateTime<Utc>> { todo!() }
    /// `00-<trace>-<span>-01`, the W3C `traceparent`.
    pub fn traceparent(&self) -> String { todo!() }
}
