use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, watch};

/// How the cycle is; cheap to clone.
#[derive(Debug, Clone)]
pub struct Cycle {
    pub(super) status: watch::Receiver<CycleStatus>,
    pub(super) wake: Arc<Notify>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CycleStatus {
    pub is_running: bool,
    /// Of the newest cycle.
    pub begin: Option<DateTime<Utc>>,
    /// Of the newest cycle that ended.
    pub end: Option<DateTime<Utc>>,
    /// Cycles that ended since the start of the daemon.
    pub cycles_ended: u64,
    /// Rows stored since the start of the daemon.
    pub rows_stored: u64,
    pub slices_in_flight: usize,
    pub scopes: usize,
    /// Begin of the oldest period that an active scope needs next.
    pub furthest_behind: Option<DateTime<Utc>>,
    /// What is held back, at most [`TROUBLES_MAX`] of it.
    pub troubles: Vec<Trouble>,
}

/// Most troubles that are told one by one.
pub const TROUBLES_MAX: usize = 50;

/// Something that fails at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For people: which collector and metric, which fetcher …
    pub subject: String,
    pub since: DateTime<Utc>,
    /// In a row.
    pub attempts: u32,
    pub reason: String,
}

impl Cycle {
    pub fn status(&self) -> CycleStatus {
        self.status.borrow().clone()
    }

    /// Rules, states or mappings have changed: look at them before the next tick.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A handle that sees every change of the status from now on.
    pub fn watch(&self) -> watch::Receiver<CycleStatus> {
        self.status.clone()
    }
}
