//! What a failure means for the cycle: the one table from a plugin's status to what is done about
//! it.

use rated_plugin::{Error, Status};

use super::hold::Reaction;
use crate::rating::{CallFailure, RatingError};

/// Who is to wait, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The source can never tell any more.
    Lost,
    /// The data of a scope is at fault: found by halving, then that scope waits.
    Scope(Reaction),
    /// The same, but every attempt costs a plugin instance: halves are tried apart, with time
    /// between.
    Halve,
    /// This metric of this collector waits.
    Source(Reaction),
    /// Nothing can be rated.
    Chain(Reaction),
    /// The daemon itself gave up, nobody failed.
    Cancelled,
}

pub(super) fn of_collect(failure: &CallFailure) -> Verdict {
    if failure.stopped {
        return Verdict::Source(Reaction::WaitForChange);
    }
    if failure.error.retryable {
        return Verdict::Source(Reaction::Retry);
    }
    match failure.error.status {
        Status::NotFound => Verdict::Lost,
        Status::BadData | Status::InvalidRequest => Verdict::Scope(Reaction::Retry),
        Status::Unavailable | Status::Timeout => Verdict::Source(Reaction::Retry),
        // A password, a quota, a newer source: mended where we cannot see it.
        Status::Unauthorized | Status::Conflict | Status::InvalidConfig => {
            Verdict::Source(Reaction::RetrySeldom)
        }
        Status::Unsupported => Verdict::Source(Reaction::WaitForChange),
        Status::Panic => Verdict::Halve,
        Status::Cancelled => Verdict::Cancelled,
        Status::Internal | Status::Ok | Status::End => Verdict::Source(Reaction::RetryFew),
    }
}

pub(super) fn of_rating(error: &RatingError) -> Verdict {
    match error {
        RatingError::Call { failure, .. } if failure.stopped => {
            Verdict::Chain(Reaction::WaitForChange)
        }
        RatingError::Call { failure: CallFailure { error, .. }, .. } if error.retryable => {
            Verdict::Source(Reaction::Retry)
        }
        RatingError::Call { failure, .. } => of_rating_status(failure.error.status),
        RatingError::Rows(_) => Verdict::Scope(Reaction::Retry),
        RatingError::Ledger(_)
        | RatingError::Interrupted
        | RatingError::NoModule(_)
        | RatingError::NotThere(_) => Verdict::Chain(Reaction::Retry),
    }
}

fn of_rating_status(status: Status) -> Verdict {
    match status {
        Status::Unavailable | Status::Timeout => Verdict::Source(Reaction::Retry),
        Status::Panic => Verdict::Halve,
        Status::Cancelled => Verdict::Cancelled,
        Status::Unsupported => Verdict::Scope(Reaction::WaitForChange),
        Status::Internal | Status::Ok | Status::End => Verdict::Scope(Reaction::RetryFew),
        // Rules or rows: tried again seldom, and at once when the rules change.
        Status::BadData
        | Status::InvalidRequest
        | Status::InvalidConfig
        | Status::NotFound
        | Status::Conflict
        | Status::Unauthorized => Verdict::Scope(Reaction::Retry),
    }
}

/// When the chain cannot even be made.
pub(super) fn of_chain(error: &RatingError) -> Verdict {
    match of_rating(error) {
        Verdict::Cancelled => Verdict::Cancelled,
        Verdict::Halve => Verdict::Chain(Reaction::RetryAfterPanic),
        Verdict::Scope(reaction) | Verdict::Source(reaction) | Verdict::Chain(reaction) => {
            Verdict::Chain(reaction)
        }
        Verdict::Lost => Verdict::Chain(Reaction::Retry),
    }
}

/// The whole chain of causes, once.
pub(super) fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// For what the daemon itself has done wrong in one unit of work.
pub(super) fn of_our_panic() -> CallFailure {
    CallFailure::from(Error::internal("the daemon itself panicked; please report it"))
}
