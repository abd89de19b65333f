use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::authentication::Authentication;
use super::backend::{CycleView, Plugins};
use super::failure::Failure;
use super::policy::Policy;
use super::remembered::Remembered;
use super::tls::Tls;
use super::turns::WriteTurns;
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::{Ledger, LedgerError};
use crate::metrics::Metrics;
use crate::rating::Rating;

/// Most blocking calls at once that requests make. The cycle's work is not counted here.
pub const BLOCKING_CALLS_MAX: usize = 16;

/// Most jobs at once that read a body piece by piece, and most that write an answer so: a slow
/// caller holds one of these threads for a while, and none of the others.
pub const LONG_CALLS_MAX: usize = 8;

/// Most audits at once: each keeps a processor busy.
const AUDITS_MAX: usize = 1;

/// Most explanations at once: each calls modules, and holds all rows of a scope in some periods.
pub(crate) const EXPLANATIONS_MAX: usize = 1;

/// What a job that takes as long as its caller does with him. Callers who read slowly keep nobody
/// from pushing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongCall {
    ReadsBody,
    WritesAnswer,
    /// Rates rows again, and waits for modules.
    Explains,
}

/// How long a request waits for its turn before it is told to come back.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API works with; cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub ledger: Arc<dyn Ledger>,
    pub rating: Rating,
    pub plugins: Arc<dyn Plugins>,
    pub cycle: Arc<dyn CycleView>,
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub(crate) authentication: Arc<Authentication>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) write_turns: WriteTurns,
    pub(crate) remembered: Remembered,
    turns: Arc<Semaphore>,
    reading_turns: Arc<Semaphore>,
    writing_turns: Arc<Semaphore>,
    explaining_turns: Arc<Semaphore>,
    audit_turn: Arc<Semaphore>,
}

/// The parts of a [`Context`].
pub struct Parts {
    pub ledger: Arc<dyn Ledger>,
    pub rating: Rating,
    pub plugins: Arc<dyn Plugins>,
    pub cycle: Arc<dyn CycleView>,
    pub config: Arc<Config>,
    pub metrics: Arc<Metrics>,
    pub clock: Arc<dyn Clock>,
    pub authentication: Authentication,
    pub policy: Policy,
    pub tls: Option<Tls>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

impl Context {
    pub fn new(parts: Parts) -> Context {
        let Parts { ledger, rating, plugins, cycle, config, metrics, clock, .. } = parts;
        let Parts { authentication, policy, tls, .. } = parts;
        let (authentication, policy) = (Arc::new(authentication), Arc::new(policy));
        let turns = Arc::new(Semaphore::new(BLOCKING_CALLS_MAX));
        let long_turns = || Arc::new(Semaphore::new(LONG_CALLS_MAX));
        let write_turns = WriteTurns::default();
        Context {
            ledger,
            rating,
            plugins,
            cycle,
            config,
            metrics,
            clock,
            authentication,
            policy,
            tls: tls.map(Arc::new),
            write_turns,
            remembered: Remembered::default(),
            turns,
            reading_turns: long_turns(),
            writing_turns: long_turns(),
            explaining_turns: Arc::new(Semaphore::new(EXPLANATIONS_MAX)),
            audit_turn: Arc::new(Semaphore::new(AUDITS_MAX)),
        }
    }

    /// Looks whether files of the API (certificates, who may call) have changed; blocks.
    pub fn reread_files(&self) {
        if let Some(tls) = &self.tls {
            tls.reread();
        }
        self.policy.reread();
        self.authentication.reread();
    }

    /// Runs a blocking job off the async threads, a bounded number of them at once.
    pub(crate) async fn block<T, E, F>(&self, job: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Send + 'static,
        Failure: From<E>,
        F: FnOnce() -> Result<T, E> + Send + 'static,
    {
        in_turn(&self.turns, job).await?.map_err(Failure::from)
    }

    /// Asks or changes the ledger.
    pub(crate) async fn ledger<T, F>(&self, job: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Ledger) -> Result<T, LedgerError> + Send + 'static,
    {
        let ledger = Arc::clone(&self.ledger);
        self.block(move || job(&*ledger)).await
    }

    /// Leave to rate everything again, until it is dropped; `None` = somebody else does.
    pub(crate) fn audit_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.audit_turn).try_acquire_owned().ok()
    }

    #[cfg(test)]
    pub(crate) fn explanations_left(&self) -> usize {
        self.explaining_turns.available_permits()
    }

    /// Runs a job that takes as long as a caller sends or reads.
    pub(crate) fn ledger_for_long<T, F>(
        &self,
        call: LongCall,
        job: F,
    ) -> impl Future<Output = Result<T, Failure>> + Send + use<T, F>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Ledger) -> Result<T, Failure> + Send + 'static,
    {
        let turns = match call {
            LongCall::ReadsBody => &self.reading_turns,
            LongCall::WritesAnswer => &self.writing_turns,
            LongCall::Explains => &self.explaining_turns,
        };
        let (ledger, turns) = (Arc::clone(&self.ledger), Arc::clone(turns));
        async move { in_turn(&turns, move || job(&*ledger)).await? }
    }
}

async fn in_turn<T, F>(turns: &Arc<Semaphore>, job: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(turns).acquire_owned());
    let Ok(Ok(turn)) = turn.await else { return Err(Failure::busy()) };
    let job = tokio::task::spawn_blocking(move || {
        // Held until the job has ended, even when nobody waits for it any more.
        let _turn = turn;
        job()
    });
    let ended_early = |error| Failure::internal(format!("a blocking call ended early: {error}"));
    job.await.map_err(ended_early)
}
