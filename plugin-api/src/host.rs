//! What the host lends: log, clock, cancellation, key-value store, metrics, HTTP.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::raw::{FEATURE_HTTP, FEATURE_KV};
use crate::thunk::{CallHandle, HostHandle};
use crate::{Edit, Error, HttpRequest, HttpResponse, Result, Status};

/// An instance's own handle on the daemon. Cheap to copy, usable from any thread until the instance
/// is dropped.
///
/// Keys and values are the instance's own; every change makes a new revision. Old revisions stay
/// readable for as long as something is kept that was rated by them, and for a time that the
/// configuration of the daemon says. Without a service (see `requires` of
/// [`export!`](crate::export)) its calls are `Unsupported`.
///
/// ```
/// use rated_plugin::{Edit, Host, Level, Result, Status};
///
/// /// Counts, whoever else counts at the same time.
/// fn count_up(host: &Host) -> Result<u64> {
///     loop {
///         let (revision, pairs) = host.kv_scan(Host::NOW, "count")?;
///         let count = pairs.first().map_or(0, |(_, value)| value.len() as u64) + 1;
///         let value = vec![b'|'; usize::try_from(count).unwrap_or(0)];
///         match host.kv_apply(revision, &[Edit::put("count", value)]) {
///             Ok(_) => return Ok(count),
///             Err(error) if error.status == Status::Conflict => {
///                 host.log(Level::Debug, "Somebody else was faster, will count again.");
///             }
///             Err(error) => return Err(error),
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub struct Host {
    handle: HostHandle,
}

/// Key-value pairs in key order.
pub type KvPairs = Vec<(String, Vec<u8>)>;

impl Host {
    /// Pass as a revision: the newest.
    pub const NOW: u64 = u64::MAX;

    pub(crate) fn new(handle: HostHandle) -> Host {
        Host { handle }
    }

    /// Would a message of that level be kept? Ask before building an expensive one.
    pub fn is_logged(&self, level: Level) -> bool {
        self.handle.is_logged(level as u32)
    }

    /// Writes to the daemon's log, under the instance's name.
    pub fn log(&self, level: Level, message: &str) {
        self.handle.log(level as u32, message);
    }

    /// The daemon's clock; tests drive it.
    pub fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_nanos(self.handle.now_ns())
    }

    /// The value of one of the instance's keys as it was at `revision`; `None` when it was not
    /// there.
    pub fn kv_get(&self, revision: u64, key: &str) -> Result<Option<Vec<u8>>> {
        self.require_kv()?;
        match self.handle.kv_get(revision, key) {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.status == Status::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All keys with a prefix as they were at `revision`, and the revision that was read.
    pub fn kv_scan(&self, revision: u64, prefix: &str) -> Result<(u64, KvPairs)> {
        self.require_kv()?;
        self.handle.kv_scan(revision, prefix)
    }

    /// All edits, durably, if the keys are still at `revision` (else `Conflict`); the new revision.
    ///
    /// `revision` is the one that [`Host::kv_scan`] said. It takes 100,000 edits at most;
    /// a key has 1 to 1024 bytes, a value 1 MiB at most.
    pub fn kv_apply(&self, revision: u64, edits: &[Edit]) -> Result<u64> {
        self.require_kv()?;
        self.handle.kv_apply(revision, edits)
    }

    /// Adds to a counter of the daemon's `/metrics`, labelled with the instance.
    pub fn count(&self, metric: &str, by: u64) {
        self.handle.count(metric, by);
    }

    /// Adds a value to a histogram of the daemon's `/metrics`, labelled with the instance.
    pub fn observe(&self, metric: &str, value: f64) {
        self.handle.observe(metric, value);
    }

    /// Sends a request and waits for the whole answer; any HTTP status is `Ok`.
    ///
    /// `Unavailable` when nobody answers, `Timeout` when it takes too long, `Cancelled` when the
    /// call is, `BadData` when the answer is longer than [`crate::HttpOptions::body_size_max`],
    /// `Unsupported` when the host has no HTTP service.
    pub fn http(&self, call: &Call, request: &HttpRequest) -> Result<HttpResponse> {
        if self.handle.features() & FEATURE_HTTP == 0 {
            return Err(Error::new(Status::Unsupported, "the daemon has no HTTP service"));
        }
        self.handle.http(&call.handle, request)
    }

    fn require_kv(&self) -> Result<()> {
        if self.handle.features() & FEATURE_KV == 0 {
            return Err(Error::new(Status::Unsupported, "the daemon has no key-value service"));
        }
        Ok(())
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}

/// How much a log message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Level {
    /// Data is lost or someone must act.
    Error = 1,
    /// Unexpected, handled.
    Warn = 2,
    /// What an operator asked for happened.
    Info = 3,
    /// For developers.
    Debug = 4,
    /// For developers, every detail.
    Trace = 5,
}

impl Level {
    /// The level of a number from the other side; unknown numbers are `Trace`.
    pub fn from_raw(raw: u32) -> Level {
        match raw {
            1 => Level::Error,
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Trace,
        }
    }
}

/// How long a thread sleeps before it looks whether its call is cancelled.
const SLEEP_MAX: Duration = Duration::from_millis(50);

/// One call's surroundings: deadline, trace, cancellation.
///
/// ```
/// use rated_plugin::{Call, Result};
///
/// fn work(call: &Call, pages: &[&str]) -> Result<usize> {
///     let mut size = 0;
///     for page in pages {
///         call.check_cancelled()?;
///         size += page.len();
///     }
///     Ok(size)
/// }
/// ```
#[derive(Debug)]
pub struct Call {
    pub(crate) handle: CallHandle,
}

impl Call {
    /// Does the daemon no longer want the answer? Ask between pages and every few thousand rows;
    /// costs an atomic load.
    pub fn is_cancelled(&self) -> bool {
        self.handle.is_cancelled()
    }

    /// `Err(Cancelled)` when cancelled.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::new(Status::Cancelled, "cancelled"));
        }
        Ok(())
    }

    /// When the answer is due, by the clock of [`Host::now`].
    pub fn deadline(&self) -> Option<DateTime<Utc>> {
        let deadline_ns = self.handle.deadline_ns();
        (deadline_ns != i64::MAX).then(|| DateTime::from_timestamp_nanos(deadline_ns))
    }

    /// Until the answer is due; `None` when the daemon sets no time.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rated_plugin::{Call, Host};
    ///
    /// /// Not longer than the answer is of use.
    /// fn timeout(call: &Call, host: &Host) -> Duration {
    ///     let most = Duration::from_secs(20);
    ///     call.time_left(host).map_or(most, |left| left.min(most))
    /// }
    /// ```
    pub fn time_left(&self, host: &Host) -> Option<Duration> {
        let left = self.deadline()? - host.now();
        Some(left.to_std().unwrap_or(Duration::ZERO))
    }

    /// Sleeps for a while; `Err(Cancelled)` when the call is cancelled, at most 50 ms later.
    ///
    /// The thread does nothing else meanwhile, and there are few of them: for short waits only.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use rated_plugin::{Call, Host, HttpRequest, HttpResponse, Result};
    ///
    /// /// Asks once more when a server is busy.
    /// fn ask(host: &Host, call: &Call, request: &HttpRequest) -> Result<HttpResponse> {
    ///     let response = host.http(call, request)?;
    ///     if response.status != 503 {
    ///         return Ok(response);
    ///     }
    ///     call.sleep(Duration::from_millis(500))?;
    ///     host.http(call, request)
    /// }
    /// ```
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let mut left = time;
        loop {
            self.check_cancelled()?;
            if left.is_zero() {
                return Ok(());
            }
            let step = left.min(SLEEP_MAX);
            std::thread::sleep(step);
            left -= step;
        }
    }

    /// `00-<trace>-<span>-01`, the W3C `traceparent`.
    pub fn traceparent(&self) -> String {
        use std::fmt::Write;
        let (trace, span) = self.handle.trace();
        let mut text = String::from("00-");
        for byte in trace {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('-');
        for byte in span {
            let _ = write!(text, "{byte:02x}");
        }
        text.push_str("-01");
        text
    }
}
