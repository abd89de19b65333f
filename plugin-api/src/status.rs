//! What went wrong, in the kinds that the daemon acts on.

use std::fmt;

use crate::raw;

/// The kind of an outcome. The daemon's reaction to each:
///
/// | status | while collecting and rating | over REST |
/// |---|---|---|
/// | `InvalidConfig` | the component is refused | 400 |
/// | `InvalidRequest` | the period stops, reported, tried again when something changes | 400 |
/// | `BadData` | the same | 422 |
/// | `NotFound` | collecting: this past is lost for ever, recorded as failed; else as above | 404 |
/// | `Conflict`, `Unauthorized` | the period stops, reported | 409, 403 |
/// | `Unavailable`, `Timeout` | tried again with back-off and jitter | 503 |
/// | `Cancelled` | quiet | none |
/// | `Unsupported` | remembered, not asked again | 501 |
/// | `Internal` | tried again a few times, then stops | 500 |
/// | `Panic` | the instance is made anew; three in ten minutes disable the component | 500 |
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// As asked; never an error's.
    Ok = raw::STATUS_OK,
    /// The configuration cannot work.
    InvalidConfig = raw::STATUS_INVALID_CONFIG,
    /// The request cannot be answered as it stands.
    InvalidRequest = raw::STATUS_INVALID_REQUEST,
    /// Not there; of a collector: this past is lost for ever.
    NotFound = raw::STATUS_NOT_FOUND,
    /// Something else was changed meanwhile.
    Conflict = raw::STATUS_CONFLICT,
    /// The source does not answer.
    Unavailable = raw::STATUS_UNAVAILABLE,
    /// The source does not answer in time.
    Timeout = raw::STATUS_TIMEOUT,
    /// The caller no longer wants it.
    Cancelled = raw::STATUS_CANCELLED,
    /// The source, or the caller, lacks the right.
    Unauthorized = raw::STATUS_UNAUTHORIZED,
    /// What the source answered, or the caller sent, makes no sense.
    BadData = raw::STATUS_BAD_DATA,
    /// Never will be possible.
    Unsupported = raw::STATUS_UNSUPPORTED,
    /// The plugin's own mistake.
    Internal = raw::STATUS_INTERNAL,
    /// The plugin panicked; set by the guard, never by authors.
    Panic = raw::STATUS_PANIC,
    /// There is no further batch; never an error's.
    End = raw::STATUS_END,
}

impl Status {
    /// The status of a number from the other side; unknown numbers are `Internal`.
    pub fn from_raw(raw: u32) -> Status {
        use Status::{
            BadData, Cancelled, Conflict, End, Internal, InvalidConfig, InvalidRequest, NotFound,
            Ok, Panic, Timeout, Unauthorized, Unavailable, Unsupported,
        };
        const ALL: [Status; 14] = [
            Ok,
            InvalidConfig,
            InvalidRequest,
            NotFound,
            Conflict,
            Unavailable,
            Timeout,
            Cancelled,
            Unauthorized,
            BadData,
            Unsupported,
            Internal,
            Panic,
            End,
        ];
        usize::try_from(raw).ok().and_then(|index| ALL.get(index)).copied().unwrap_or(Internal)
    }

    /// As in the table above, in lower case with blanks: `invalid config`.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::InvalidConfig => "invalid config",
            Status::InvalidRequest => "invalid request",
            Status::NotFound => "not found",
            Status::Conflict => "conflict",
            Status::Unavailable => "unavailable",
            Status::Timeout => "timeout",
            Status::Cancelled => "cancelled",
            Status::Unauthorized => "unauthorized",
            Status::BadData => "bad data",
            Status::Unsupported => "unsupported",
            Status::Internal => "internal",
            Status::Panic => "panic",
            Status::End => "end",
        }
    }

    /// May the same call succeed later without anybody changing something?
    pub fn is_retryable(self) -> bool {
        matches!(self, Status::Unavailable | Status::Timeout)
    }
}

/// The result of every call across the interface.
///
/// ```
/// use rated_plugin::{Error, Result};
///
/// fn port(text: &str) -> Result<u16> {
///     text.parse().map_err(|_| Error::invalid_config(format!("`port`: `{text}` is none")))
/// }
/// assert_eq!(port("x").unwrap_err().message, "`port`: `x` is none");
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A status, a message for the log (and for the REST caller on 4xx), and hints for the daemon.
///
/// The message is a lower-case fragment without a full stop. It must hold no secret: on a status
/// that is the caller's mistake it is sent to the REST caller.
///
/// ```
/// use rated_plugin::{Error, Status};
///
/// let error = Error::unavailable("nobody listens at `http://127.0.0.1:9090`");
/// assert!(error.retryable);
/// assert_eq!(error.status, Status::Unavailable);
///
/// // A source says when to come back: try again although the status alone would not.
/// let busy = Error { retryable: true, ..Error::internal("the source is starting") };
/// assert!(busy.retryable);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the daemon acts on.
    pub status: Status,
    /// What people read.
    pub message: String,
    /// The same call may succeed later; set for `Unavailable` and `Timeout`.
    pub retryable: bool,
    /// The same rows in smaller batches may succeed.
    pub split: bool,
}

impl Error {
    /// Any status; retryable when that is in its nature.
    pub fn new(status: Status, message: impl Into<String>) -> Error {
        Error { status, message: message.into(), retryable: status.is_retryable(), split: false }
    }
    /// The configuration cannot work: names the key and what it must be.
    pub fn invalid_config(message: impl Into<String>) -> Error {
        Error::new(Status::InvalidConfig, message)
    }
    /// The request cannot be answered as it stands.
    pub fn invalid_request(message: impl Into<String>) -> Error {
        Error::new(Status::InvalidRequest, message)
    }
    /// Not there; from `collect`: this past is lost for ever.
    pub fn not_found(message: impl Into<String>) -> Error {
        Error::new(Status::NotFound, message)
    }
    /// Something else was changed meanwhile.
    pub fn conflict(message: impl Into<String>) -> Error {
        Error::new(Status::Conflict, message)
    }
    /// The source does not answer; tried again.
    pub fn unavailable(message: impl Into<String>) -> Error {
        Error::new(Status::Unavailable, message)
    }
    /// What came from the source, or from the caller, makes no sense.
    pub fn bad_data(message: impl Into<String>) -> Error {
        Error::new(Status::BadData, message)
    }
    /// The plugin's own mistake.
    pub fn internal(message: impl Into<String>) -> Error {
        Error::new(Status::Internal, message)
    }
    /// The daemon calls again with fewer rows at a time.
    pub fn split(message: impl Into<String>) -> Error {
        Error { split: true, ..Error::new(Status::BadData, message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
