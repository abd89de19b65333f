//! Finished slices go into the ledger, several in one commit so that they share one sync.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tracing::warn;

use super::collect::Worked;
use super::failure::text_of;
use super::plan::Slice;
use crate::fault::{Step, passed};
use crate::ledger::{CommitOutcome, Failure, Ledger, LedgerError, RatedSlice};
use crate::metrics::Metrics;

/// Rated slices of one commit, where one finished slice does not have more by itself.
pub(super) const COMMIT_SLICES_MAX: usize = 1024;

/// A slice that was worked on, ready for the ledger.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) slice: Slice,
    pub(super) worked: Worked,
    /// What the ledger shall know of the failures.
    pub(super) notes: Vec<Failure>,
}

#[derive(Debug)]
pub(super) enum Outcome {
    Stored {
        scopes: usize,
        rows: usize,
    },
    /// The ledger does not keep such rows; there is no point in offering them again at once.
    Refused(String),
    /// The ledger failed; nothing, or nothing that is known of, was stored.
    Failed(String),
}

/// Blocks.
pub(super) fn commit(
    ledger: &dyn Ledger,
    metrics: &Metrics,
    finished: Vec<Finished>,
) -> Vec<(Finished, Outcome)> {
    passed(Step::CycleCommitting);
    let mut ended = Vec::with_capacity(finished.len());
    match store(ledger, metrics, &finished) {
        Ok(outcomes) => ended.extend(finished.into_iter().zip(outcomes)),
        Err(error) if is_of_the_data(&error) => {
            // One slice spoils the commit of all: each for itself then.
            for one in finished {
                let outcome = match store(ledger, metrics, std::slice::from_ref(&one)) {
                    Ok(mut outcomes) => outcomes.remove(0),
                    Err(error) if is_of_the_data(&error) => Outcome::Refused(text_of(&error)),
                    Err(error) => Outcome::Failed(text_of(&error)),
                };
                ended.push((one, outcome));
            }
        }
        Err(error) => {
            let reason = text_of(&error);
            ended.extend(finished.into_iter().map(|one| (one, Outcome::Failed(reason.clone()))));
        }
    }
    for (one, _) in &ended {
        for note in &one.notes {
            if let Err(error) = ledger.note_failure(note) {
                warn!(metric = %note.metric, error = text_of(&error), "Cannot note a failure.");
            }
        }
    }
    ended
}

fn store(
    ledger: &dyn Ledger,
    metrics: &Metrics,
    finished: &[Finished],
) -> Result<Vec<Outcome>, LedgerError> {
    let slices: Vec<RatedSlice> =
        finished.iter().flat_map(|one| one.worked.rated.iter().cloned()).collect();
    let mut outcomes = if slices.is_empty() {
        Vec::new().into_iter()
    } else {
        // The ledger is opened again after a panic; what was to be stored is tried again.
        let commit = || catch_unwind(AssertUnwindSafe(|| ledger.commit(slices)));
        let panicked = |_| Err(LedgerError::Store("the ledger panicked".into()));
        let (result, duration) = timed(|| commit().unwrap_or_else(panicked));
        metrics.commit_ended(&result, duration);
        result?.into_iter()
    };
    let stored = finished.iter().map(|one| {
        let mut sum = CommitOutcome { scopes_stored: 0, rows_stored: 0 };
        for outcome in outcomes.by_ref().take(one.worked.rated.len()) {
            sum.scopes_stored += outcome.scopes_stored;
            sum.rows_stored += outcome.rows_stored;
        }
        Outcome::Stored { scopes: sum.scopes_stored, rows: sum.rows_stored }
    });
    Ok(stored.collect())
}

/// What is damaged for one slice need not be for another.
pub(super) fn is_of_the_data(error: &LedgerError) -> bool {
    matches!(
        error,
        LedgerError::Shape { .. }
            | LedgerError::UnknownScope(_)
            | LedgerError::UnknownMetric(_)
            | LedgerError::Damaged { .. }
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    let result = work();
    (result, begin.elapsed())
}
