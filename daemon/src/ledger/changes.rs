//! What operators and clients change in a ledger, beside what the cycle adds.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::contract::{Held, RatedSlice};
use crate::usage::ScopeId;

/// What is to be another; `None` = stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScopeChange {
    pub fetcher: Option<String>,
    pub collector: Option<String>,
    pub scope_key: Option<String>,
    /// Whether it is active, and the moment that was said; the moment counts when it is a change.
    pub active: Option<(bool, DateTime<Utc>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    pub scopes: Vec<ScopeId>,
    /// Not necessarily aligned. It is what [`Scope::last_processed`](super::Scope) says until the
    /// next period is in the ledger.
    pub from: DateTime<Utc>,
    /// Length of the periods to come, aligned to the epoch.
    pub period_secs: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResetOutcome {
    pub scopes_reset: usize,
    pub rows_removed: u64,
}

/// How rows came into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Collected,
    Pushed,
}

/// Rows from outside. A slice's metric is its type, twice; its scopes need not be there before.
#[derive(Debug, Clone)]
pub struct Push {
    pub slices: Vec<RatedSlice>,
    /// How scopes are identified that are not known yet.
    pub scope_key: String,
    pub key: Option<PushKey>,
    pub at: DateTime<Utc>,
    /// Who, as the API knows them.
    pub author: String,
}

/// What tells a repeated push from a new one. Kept as long as the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushKey {
    /// Chosen by the client; 1 to 255 bytes.
    pub key: String,
    /// SHA-256 of the body.
    pub digest: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    Stored {
        rows: usize,
    },
    /// The same key with the same digest was stored before.
    Known,
    /// The key was stored before with another digest; nothing is stored.
    KeyTaken,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewReprocessing {
    pub scopes: Vec<ScopeId>,
    pub reason: String,
    /// Begin of the first period.
    pub start: DateTime<Utc>,
    /// Begin of the last period: the end is part of it.
    pub end: DateTime<Utc>,
    pub at: DateTime<Utc>,
    /// Who, as the API knows them.
    pub author: String,
}

/// Periods of some scopes that are collected and rated again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reprocessing {
    pub id: u64,
    /// In the order they were given; without those that were postponed.
    pub scopes: Vec<ScopeId>,
    pub reason: String,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub at: DateTime<Utc>,
    pub author: String,
    /// Begin of the last period that is staged; `None` = not begun.
    pub current: Option<DateTime<Utc>>,
    pub finished: bool,
}

/// Those that are not finished.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenReprocessings {
    /// In order of creation.
    pub open: Vec<Reprocessing>,
    /// Ids of those that wait, because the record of one of their scopes is damaged.
    pub held: BTreeMap<u64, Held>,
}
