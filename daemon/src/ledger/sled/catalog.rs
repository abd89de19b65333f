//! What a ledger knows besides rows, in memory: scopes, metrics, cursors, failures, states.
//!
//! Readers share one catalog; the writer clones it (a handful of reference counts), changes the
//! clone, makes the change durable and swaps the clone in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::cursors::Cursor;
use crate::ledger::{CollectorMapping, ModuleState, NewScope, RatedBy, Scope};
use crate::usage::{MetricId, ScopeId};

/// A scope's number: its place in the order of creation.
pub(super) type ScopeNumber = u32;
/// A metric's number, for ever.
pub(super) type MetricNumber = u32;

#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) scopes: Arc<Vec<ScopeEntry>>,
    pub(super) scope_numbers: Arc<HashMap<ScopeId, ScopeNumber>>,
    /// All that were ever configured.
    pub(super) metrics: Arc<Vec<MetricId>>,
    pub(super) metric_numbers: Arc<HashMap<MetricId, MetricNumber>>,
    /// Those of the configuration now.
    pub(super) configured: Arc<Vec<MetricNumber>>,
    /// Those that say where a scope stands: of the last configuration that had any.
    pub(super) standing: Arc<Vec<MetricNumber>>,
    /// By metric, then by scope.
    pub(super) cursors: Vec<Arc<Vec<Cursor>>>,
    pub(super) notes: Arc<Notes>,
    /// What slices were rated by.
    pub(super) chains: Arc<Vec<Arc<[RatedBy]>>>,
    pub(super) modules: Arc<BTreeMap<String, ModuleState>>,
    pub(super) collectors: Arc<BTreeMap<String, bool>>,
    /// By number of creation.
    pub(super) mappings: Arc<BTreeMap<u64, CollectorMapping>>,
    pub(super) kv_revisions: Arc<BTreeMap<String, u64>>,
    pub(super) counters: Counters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    pub(super) rows: u64,
    /// Number of the next slice, in the order of commits.
    pub(super) next_slice: u64,
    pub(super) next_note: u64,
    pub(super) next_mapping: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScopeEntry {
    pub(super) id: ScopeId,
    pub(super) fetcher: String,
    pub(super) collector: String,
    pub(super) scope_key: Arc<str>,
    pub(super) active: bool,
    pub(super) activation_toggled: DateTime<Utc>,
    pub(super) first_period: DateTime<Utc>,
}

impl From<&NewScope> for ScopeEntry {
    fn from(new: &NewScope) -> ScopeEntry {
        ScopeEntry {
            id: new.id.clone(),
            fetcher: new.fetcher.clone(),
            collector: new.collector.clone(),
            scope_key: new.scope_key.as_str().into(),
            active: true,
            activation_toggled: new.found_at,
            first_period: new.first_period,
        }
    }
}

/// Failed attempts by metric.
#[derive(Debug, Clone, Default)]
pub(super) struct Notes {
    pub(super) by_metric: BTreeMap<MetricNumber, MetricNotes>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct MetricNotes {
    pub(super) notes: BTreeMap<u64, Note>,
    pub(super) of_scope: BTreeMap<ScopeNumber, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) begin_secs: i64,
    pub(super) end_secs: i64,
    pub(super) attempts: u32,
    pub(super) at_secs: i64,
    pub(super) reason: String,
    /// Sorted; never empty.
    pub(super) scopes: Vec<ScopeNumber>,
}

impl Catalog {
    /// Where a scope stands: the cursor that is furthest behind.
    pub(super) fn stand(&self, scope: ScopeNumber) -> Cursor {
        let of_metric = |metric: &MetricNumber| self.cursor(*metric, scope);
        let behind = self.standing.iter().filter_map(of_metric).min();
        behind.unwrap_or_else(|| Cursor::at(self.first_period_secs(scope)))
    }

    /// `None` when the metric has never been configured together with the scope.
    pub(super) fn cursor(&self, metric: MetricNumber, scope: ScopeNumber) -> Option<Cursor> {
        let cursors = self.cursors.get(metric as usize)?;
        cursors.get(scope as usize).copied().filter(|cursor| cursor.is_set())
    }

    pub(super) fn first_period_secs(&self, scope: ScopeNumber) -> i64 {
        self.scopes[scope as usize].first_period.timestamp()
    }

    pub(super) fn list_scopes(&self) -> Vec<Scope> {
        let scope = |(number, entry): (ScopeNumber, &ScopeEntry)| Scope {
            id: entry.id.clone(),
            fetcher: entry.fetcher.clone(),
            collector: entry.collector.clone(),
            scope_key: entry.scope_key.as_ref().to_owned(),
            active: entry.active,
            activation_toggled: entry.activation_toggled,
            first_period: entry.first_period,
            last_processed: self.last_processed(number),
        };
        (0..).zip(self.scopes.iter()).map(scope).collect()
    }

    fn last_processed(&self, scope: ScopeNumber) -> Option<DateTime<Utc>> {
        let of_metric = |metric: &MetricNumber| self.cursor(*metric, scope);
        let behind = self.configured.iter().filter_map(of_metric).min()?;
        behind.last_begin_secs().and_then(|secs| DateTime::from_timestamp(secs, 0))
    }

    pub(super) fn number_of_chain(&self, chain: &[RatedBy]) -> Option<u32> {
        let found = self.chains.iter().rposition(|known| known.as_ref() == chain)?;
        u32::try_from(found).ok()
    }
}
