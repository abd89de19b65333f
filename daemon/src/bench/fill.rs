//! A cloud as the content of a ledger.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::cloud::{Cloud, Hour};
use crate::ledger::{Ledger, LedgerError, NewScope};
use crate::usage::ScopeId;

/// A commit has as many slices as make about so many rows, but at most [`SLICES_MAX`].
const COMMIT_ROWS: u32 = 100_000;
const SLICES_MAX: u32 = 24;

#[derive(Debug, thiserror::Error)]
pub enum FillError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(
        "the ledger took {stored} rows of {metric} where there are {rows}\n(hint: a ledger with \
         these scopes is there already; take an empty folder)"
    )]
    NotEmpty { metric: String, stored: usize, rows: usize },
}

/// Makes the cloud's metrics and scopes known to a ledger that has none.
pub fn announce(cloud: &Cloud, ledger: &dyn Ledger) -> Result<(), LedgerError> {
    ledger.set_metrics(&cloud.metrics())?;
    let start = cloud.period(0).begin();
    let scope = |id: &ScopeId| NewScope {
        id: id.clone(),
        fetcher: "bench".to_owned(),
        collector: "bench".to_owned(),
        scope_key: Cloud::SCOPE_KEY.to_owned(),
        first_period: start,
        last_processed: None,
        active: true,
        found_at: start,
    };
    ledger.add_scopes(&cloud.scopes().iter().map(scope).collect::<Vec<_>>())?;
    Ok(())
}

/// Commits every point to an empty ledger: slices of one metric and hour with all scopes, several
/// of them in a commit, by several threads. How long each commit took.
pub fn fill(
    cloud: &Cloud,
    ledger: &dyn Ledger,
    threads: NonZero<usize>,
) -> Result<Vec<Duration>, FillError> {
    announce(cloud, ledger)?;
    // The hours of a metric are committed one after the other, so it has one thread at a time.
    let next_hours: Vec<Mutex<u32>> = cloud.metrics().iter().map(|_| Mutex::new(0)).collect();
    std::thread::scope(|scope| {
        let work = || {
            let mut durations = Vec::new();
            while fill_some(cloud, ledger, &next_hours, &mut durations)? {}
            Ok::<_, FillError>(durations)
        };
        let workers: Vec<_> = (0..threads.get()).map(|_| scope.spawn(work)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(all)
    })
}

/// Some hours of each metric that nobody else is at. Is there more to do?
fn fill_some(
    cloud: &Cloud,
    ledger: &dyn Ledger,
    next_hours: &[Mutex<u32>],
    durations: &mut Vec<Duration>,
) -> Result<bool, FillError> {
    let mut is_done = true;
    let rows = cloud.rows_per_slice();
    let slices = (COMMIT_ROWS / rows).clamp(1, SLICES_MAX);
    for (metric, next_hour) in (0..).zip(next_hours) {
        let mut next_hour = match next_hour.try_lock() {
            Ok(next_hour) => next_hour,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => continue,
        };
        let end = (*next_hour + slices).min(cloud.size().hours);
        if *next_hour == end {
            continue;
        }
        is_done = false;
        let all = 0..cloud.size().scopes;
        let slice = |hour| cloud.slice(Hour { metric, hour }, all.clone(), 1);
        let commit = (*next_hour..end).map(slice).collect();
        let begin = Instant::now();
        let outcomes = ledger.commit(commit)?;
        durations.push(begin.elapsed());
        for outcome in outcomes {
            let (stored, rows) = (outcome.rows_stored, rows as usize);
            if stored != rows {
                let metric = Cloud::metric(metric).name;
                return Err(FillError::NotEmpty { metric, stored, rows });
            }
        }
        *next_hour = end;
    }
    Ok(!is_done)
}
