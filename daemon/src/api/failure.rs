use std::error::Error as StdError;

use rated_plugin::Status;
use serde_json::json;
use warp::http::{StatusCode, header};

use super::answer::{Answer, AnswerBody, page};
use super::negotiate::Accepts;
use super::policy::Action;
use crate::ledger::LedgerError;
use crate::rating::{CallFailure, RatingError};

/// Why a request was not done, in two texts: one for the caller, true and harmless, and one for the
/// log.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The caller can do something about it.
    Refused { status: StatusCode, text: String },
    /// The router has nothing there: 404 or 405.
    NoRoute(StatusCode),
    /// The caller takes no form that we have.
    NotAcceptable,
    /// Nobody knows who calls, or what was said of it is wrong.
    Unauthenticated {
        /// Values of `WWW-Authenticate`.
        challenges: Vec<String>,
    },
    /// The caller may not do this.
    Forbidden(&'static Action),
    /// The same, where a module would answer.
    ForbiddenModule(&'static Action),
    /// Ours, or the world's.
    Broken { status: StatusCode, text: &'static str, log: String },
}

/// Which API a path belongs to: each has its own bodies for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V1,
    /// The root documents as well.
    V2,
}

/// How long a caller should wait before trying again, seconds.
const BUSY_RETRY_AFTER_SECS: &str = "5";

/// The same after too many wrong passwords.
const GUESSING_RETRY_AFTER_SECS: &str = "60";

/// Longest text of an error, bytes.
const TEXT_SIZE_MAX: usize = 4096;

impl Failure {
    pub(crate) fn bad_request(text: impl Into<String>) -> Failure {
        Failure::Refused { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Failure {
        Failure::Refused { status: StatusCode::NOT_FOUND, text: text.into() }
    }

    /// The daemon has more to do than it can.
    pub(crate) fn busy() -> Failure {
        Failure::Broken {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: "the daemon is busy, please try again",
            log: "no room for another request".to_owned(),
        }
    }

    /// The store failed; there is no figure to answer with.
    fn store(log: String) -> Failure {
        Failure::Broken {
            status: StatusCode::SERVICE_UNAVAILABLE,
            text: "the store cannot be read or written at the moment",
            log,
        }
    }

    /// A mistake of ours.
    pub(crate) fn internal(log: impl Into<String>) -> Failure {
        Failure::Broken {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: "the daemon failed to answer; its log says why",
            log: log.into(),
        }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Failure::Refused { status, .. }
            | Failure::Broken { status, .. }
            | Failure::NoRoute(status) => *status,
            Failure::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Failure::Unauthenticated { .. } => StatusCode::UNAUTHORIZED,
            Failure::Forbidden(_) | Failure::ForbiddenModule(_) => StatusCode::FORBIDDEN,
        }
    }

    /// What an operator should know about it.
    pub(crate) fn log_text(&self) -> Option<&str> {
        match self {
            Failure::Broken { log, .. } => Some(log),
            _ => None,
        }
    }

    /// The answer that says so.
    pub(crate) fn into_answer(self, dialect: Dialect, method: &str, accepts: &Accepts) -> Answer {
        let status = self.status();
        let mut challenges = Vec::new();
        let body = match (self, dialect) {
            (Failure::Refused { text, .. }, _) => document(dialect, status, &shortened(text)),
            (Failure::Broken { text, .. }, _) => document(dialect, status, text),
            (Failure::NoRoute(_), Dialect::V1) => {
                v1_no_route(status, &no_route_text(status, method), "", accepts)
            }
            (Failure::NoRoute(_), Dialect::V2) => v2_no_route(status),
            (Failure::NotAcceptable, _) => not_acceptable(accepts),
            (Failure::Unauthenticated { challenges: all }, _) => {
                challenges = all;
                unauthenticated()
            }
            (Failure::ForbiddenModule(action), _) => {
                let text = not_allowed(action);
                v1_no_route(status, &text, &text, accepts)
            }
            (Failure::Forbidden(action), Dialect::V1) => {
                document(dialect, status, &not_allowed(action))
            }
            (Failure::Forbidden(_), Dialect::V2) => {
                document(dialect, status, "You are not authorized to perform this action")
            }
        };
        let answer = Answer::with_status(status, body);
        let say = |answer: Answer, how| answer.header(header::WWW_AUTHENTICATE, how);
        let answer = challenges.into_iter().fold(answer, say);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                answer.header(header::RETRY_AFTER, BUSY_RETRY_AFTER_SECS)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                answer.header(header::RETRY_AFTER, GUESSING_RETRY_AFTER_SECS)
            }
            _ => answer,
        }
    }
}

fn not_allowed(action: &Action) -> String {
    format!("Policy doesn't allow {} to be performed.", action.name)
}

/// As `OpenStack`'s identity service says it, whatever API is asked.
fn unauthenticated() -> AnswerBody {
    let message = "The request you have made requires authentication.";
    AnswerBody::Document(
        json!({"error": {"code": 401, "title": "Unauthorized", "message": message}}),
    )
}

/// Texts quote what was sent, which may be long.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > TEXT_SIZE_MAX {
        text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
        text.push('…');
    }
    text
}

/// The body of an error that a handler found.
fn document(dialect: Dialect, status: StatusCode, text: &str) -> AnswerBody {
    match dialect {
        Dialect::V1 => {
            let code = if status.is_server_error() { "Server" } else { "Client" };
            AnswerBody::Fault { code, text: text.to_owned() }
        }
        Dialect::V2 => AnswerBody::Document(json!({"message": text})),
    }
}

/// `description` stands in JSON, `explanation` on a page.
fn v1_no_route(
    status: StatusCode,
    explanation: &str,
    description: &str,
    accepts: &Accepts,
) -> AnswerBody {
    if accepts.json() {
        let title = status.canonical_reason().unwrap_or("Error");
        return AnswerBody::Document(
            json!({"code": status.as_u16(), "title": title, "description": description}),
        );
    }
    page(status, explanation, accepts)
}

fn no_route_text(status: StatusCode, method: &str) -> String {
    match status {
        StatusCode::NOT_FOUND => "The resource could not be found.".to_owned(),
        _ => format!("The method {method} is not allowed for this resource."),
    }
}

fn v2_no_route(status: StatusCode) -> AnswerBody {
    if status == StatusCode::METHOD_NOT_ALLOWED {
        return AnswerBody::Document(
            json!({"message": "The method is not allowed for the requested URL."}),
        );
    }
    let html = "<!doctype html>\n<html lang=en>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n\
                <p>The requested URL was not found on the server. If you entered the URL manually \
                please check your spelling and try again.</p>\n";
    AnswerBody::Ready { content_type: "text/html; charset=utf-8".to_owned(), bytes: html.into() }
}

fn not_acceptable(accepts: &Accepts) -> AnswerBody {
    // The parenthesis that nobody closes stands in the contract.
    let explanation = format!(
        "The resource could not be generated that was acceptable to your browser \
         (content of type {}.",
        accepts.text()
    );
    page(StatusCode::NOT_ACCEPTABLE, &explanation, accepts)
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Failure {
        let log = chain(&error);
        match error {
            LedgerError::Conflict { .. } => Failure::Refused {
                status: StatusCode::CONFLICT,
                text: "the data has been changed in between".to_owned(),
            },
            LedgerError::TooManyReprocessings { .. } => {
                Failure::Refused { status: StatusCode::CONFLICT, text: log }
            }
            LedgerError::TooManyGroups { .. } | LedgerError::NoPosition(_) => {
                Failure::bad_request(log)
            }
            LedgerError::RowsGone { .. } => Failure::Refused {
                status: StatusCode::GONE,
                text: format!("{log}; ask for later ones, or for sums by project, type and time"),
            },
            LedgerError::NoBackup(_) | LedgerError::NoGeneration(_) => Failure::not_found(log),
            LedgerError::Store(_)
            | LedgerError::Stopped
            | LedgerError::Closed
            | LedgerError::NoRoomToOpen { .. }
            | LedgerError::Damaged { .. } => Failure::store(log),
            LedgerError::DiskFull { .. } => Failure::Broken {
                status: StatusCode::SERVICE_UNAVAILABLE,
                text: "the daemon's disk is full; nothing was changed",
                log,
            },
            // No handler asks for what these refuse, or it has looked before.
            LedgerError::Overlaps { .. }
            | LedgerError::UnknownReprocessing(_)
            | LedgerError::Shape { .. }
            | LedgerError::UnknownScope(_)
            | LedgerError::UnknownMetric(_)
            | LedgerError::RevisionGone { .. }
            | LedgerError::KvKey { .. }
            | LedgerError::KvValue { .. } => Failure::internal(log),
        }
    }
}

impl From<CallFailure> for Failure {
    fn from(failure: CallFailure) -> Failure {
        let error = failure.error;
        let status = match error.status {
            _ if failure.stopped => StatusCode::SERVICE_UNAVAILABLE,
            Status::InvalidConfig | Status::InvalidRequest => StatusCode::BAD_REQUEST,
            Status::BadData => StatusCode::UNPROCESSABLE_ENTITY,
            Status::NotFound => StatusCode::NOT_FOUND,
            Status::Conflict => StatusCode::CONFLICT,
            Status::Unauthorized => StatusCode::FORBIDDEN,
            Status::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Status::Unavailable | Status::Timeout | Status::Cancelled => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ if error.retryable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if status.is_client_error() {
            return Failure::Refused { status, text: error.message };
        }
        let text = match status {
            StatusCode::SERVICE_UNAVAILABLE => "the module cannot answer at the moment",
            StatusCode::NOT_IMPLEMENTED => "the module does not offer this",
            _ => "the module failed; the daemon's log says why",
        };
        Failure::Broken { status, text, log: error.message }
    }
}

impl From<RatingError> for Failure {
    fn from(error: RatingError) -> Failure {
        let log = chain(&error);
        match error {
            RatingError::NoModule(_) => Failure::not_found("Module not found."),
            RatingError::NotThere(_) => Failure::Refused {
                status: StatusCode::SERVICE_UNAVAILABLE,
                text: error.to_string(),
            },
            RatingError::Ledger(_) => Failure::store(log),
            RatingError::Call { failure, .. } => match Failure::from(failure) {
                Failure::Broken { status, text, .. } => Failure::Broken { status, text, log },
                refused => refused,
            },
            // Made from what the caller sent.
            RatingError::Rows(error) if error.status == Status::Internal => Failure::internal(log),
            RatingError::Rows(error) => Failure::bad_request(error.message),
            RatingError::Interrupted => Failure::internal(log),
        }
    }
}

/// An error and all that caused it, joined by `: `.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
