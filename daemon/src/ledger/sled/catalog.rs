//! What a ledger knows besides rows, in memory: scopes, metrics, cursors, failures, states.
//!
//! Readers share one catalog; the writer clones it (a handful of reference counts), changes the
//! clone, makes the change durable and swaps the clone in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::cursors::Cursor;
use super::data::Files;
use super::holes::Holes;
use super::store::Table;
use super::sums::Sums;
use crate::ledger::{
    CollectorMapping, LedgerError, ModuleState, NewScope, RatedBy, RatedSlice, Scope,
};
use crate::usage::{MetricId, ScopeId};

/// A scope's number, for ever: its place in the order in which ids came up.
pub(super) type ScopeNumber = u32;
/// A metric's number, for ever.
pub(super) type MetricNumber = u32;

#[derive(Debug, Clone, Default)]
pub(super) struct Catalog {
    pub(super) scopes: Arc<Vec<ScopeEntry>>,
    pub(super) scope_numbers: Arc<HashMap<ScopeId, ScopeNumber>>,
    /// In order of creation: those that are not only known from pushed rows.
    pub(super) listed: Arc<Vec<ScopeNumber>>,
    /// All that were ever configured or pushed.
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
    pub(super) chains: Arc<Vec<ChainEntry>>,
    pub(super) modules: Arc<BTreeMap<String, ModuleState>>,
    pub(super) collectors: Arc<BTreeMap<String, bool>>,
    /// By number of creation.
    pub(super) mappings: Arc<BTreeMap<u64, CollectorMapping>>,
    /// By id.
    pub(super) reprocessings: Arc<BTreeMap<u64, ReprocessingEntry>>,
    /// How many were finished since the start.
    pub(super) reprocessings_finished: u64,
    pub(super) kv_revisions: Arc<BTreeMap<String, u64>>,
    pub(super) files: Arc<Files>,
    /// Of days and months.
    pub(super) sums: Arc<Sums>,
    /// Their records are damaged: none are used and none are made.
    pub(super) sums_are_off: bool,
    /// Nothing is written into files with a lower number.
    pub(super) first_file: u32,
    /// Number of the next data file; not kept: at a start those that were deleted are forgotten.
    pub(super) next_file: u32,
    pub(super) counters: Counters,
    /// What of all this is damaged.
    pub(super) holes: Arc<Holes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counters {
    pub(super) rows: u64,
    /// Number of the next slice, in the order of commits.
    pub(super) next_slice: u64,
    pub(super) next_note: u64,
    pub(super) next_mapping: u64,
}

/// What rated slices, in the order of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ChainEntry {
    pub(super) rated_by: Arc<[RatedBy]>,
    /// The attribute as which it saw the scope; `None` = not known, or nobody has rated.
    pub(super) scope_key: Option<Arc<str>>,
}

impl ChainEntry {
    pub(super) fn of(slice: &RatedSlice) -> ChainEntry {
        ChainEntry {
            rated_by: Arc::clone(&slice.rated_by),
            scope_key: slice.rated_scope_key.clone(),
        }
    }
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
    /// Up to when it was processed as somebody said last.
    pub(super) said_processed: Option<DateTime<Utc>>,
    /// Its place in the order of creation; `None` = it is only known from pushed rows.
    pub(super) rank: Option<u32>,
}

impl ScopeEntry {
    /// Where its record is damaged.
    pub(super) fn unknown() -> ScopeEntry {
        ScopeEntry::pushed(&ScopeId::nobody(), "", DateTime::UNIX_EPOCH)
    }

    /// Of rows that somebody pushed.
    pub(super) fn pushed(id: &ScopeId, scope_key: &str, at: DateTime<Utc>) -> ScopeEntry {
        ScopeEntry {
            id: id.clone(),
            fetcher: String::new(),
            collector: String::new(),
            scope_key: if id.is_nobody() { "".into() } else { scope_key.into() },
            active: false,
            activation_toggled: at,
            first_period: at,
            said_processed: None,
            rank: None,
        }
    }
}

impl From<&NewScope> for ScopeEntry {
    fn from(new: &NewScope) -> ScopeEntry {
        ScopeEntry {
            id: new.id.clone(),
            fetcher: new.fetcher.clone(),
            collector: new.collector.clone(),
            scope_key: new.scope_key.as_str().into(),
            active: new.active,
            activation_toggled: new.found_at,
            first_period: new.first_period,
            said_processed: new.last_processed,
            rank: None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ReprocessingEntry {
    /// In the order they were given.
    pub(super) scopes: Arc<[ScopeNumber]>,
    pub(super) reason: String,
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
    pub(super) at: DateTime<Utc>,
    pub(super) author: String,
    pub(super) current: Option<DateTime<Utc>>,
    pub(super) finished: bool,
}

/// Longest period, seconds: the configuration takes none that is longer than a day.
const PERIOD_SECS_MAX: i64 = 86_400;

impl ReprocessingEntry {
    /// Whether anything of it may begin in `[begin, end)`: what is replaced begins within its
    /// periods, the last of which begins at its end at the latest.
    pub(super) fn meets(&self, begin_secs: i64, end_secs: i64) -> bool {
        let last_secs = self.end.timestamp().saturating_add(PERIOD_SECS_MAX);
        self.start.timestamp() < end_secs && begin_secs <= last_secs
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
        let of_metric = |metric: &MetricNumber| self.known_cursor(*metric, scope);
        let behind = self.standing.iter().filter_map(of_metric).min();
        behind.unwrap_or_else(|| self.first_cursor(scope))
    }

    /// `None` when the metric has never been configured together with the scope.
    pub(super) fn cursor(
        &self,
        metric: MetricNumber,
        scope: ScopeNumber,
    ) -> Result<Option<Cursor>, LedgerError> {
        self.holes.check_number(Table::Cursors, metric)?;
        Ok(self.known_cursor(metric, scope))
    }

    /// The same, of metrics whose cursors are whole.
    pub(super) fn known_cursor(&self, metric: MetricNumber, scope: ScopeNumber) -> Option<Cursor> {
        let cursors = self.cursors.get(metric as usize)?;
        cursors.get(scope as usize).copied().filter(|cursor| cursor.is_set())
    }

    /// Whether what is known of a scope is whole.
    pub(super) fn check_scope(&self, scope: ScopeNumber) -> Result<(), LedgerError> {
        self.holes.check_number(Table::Scopes, scope)
    }

    /// Whether what is known of a metric is.
    pub(super) fn check_metric(&self, metric: MetricNumber) -> Result<(), LedgerError> {
        self.holes.check_number(Table::Metrics, metric)
    }

    /// The numbers of ids. One that is not known may be that of a scope whose record is damaged.
    pub(super) fn numbers_of<C: FromIterator<ScopeNumber>>(
        &self,
        ids: &[ScopeId],
    ) -> Result<C, LedgerError> {
        let known = |id| self.scope_numbers.get(id).copied();
        if ids.iter().any(|id| known(id).is_none()) {
            self.holes.check(Table::Scopes)?;
        }
        Ok(ids.iter().filter_map(known).collect())
    }

    /// For a message.
    pub(super) fn scope_name(&self, scope: ScopeNumber) -> String {
        match self.scopes.get(scope as usize) {
            Some(entry) if self.check_scope(scope).is_ok() => entry.id.to_string(),
            _ => format!("?{scope}"),
        }
    }

    /// Whether all that scopes and metrics are added by is whole.
    pub(super) fn is_to_grow(&self) -> Result<(), LedgerError> {
        self.holes.check(Table::Scopes)?;
        super::states::check_lists(&self.holes)
    }

    /// Where a scope begins in its first metrics.
    pub(super) fn first_cursor(&self, scope: ScopeNumber) -> Cursor {
        let entry = &self.scopes[scope as usize];
        let next_secs = entry.first_period.timestamp();
        match entry.said_processed {
            Some(_) => Cursor::said(next_secs),
            None => Cursor::at(next_secs),
        }
    }

    pub(super) fn listed_number(&self, id: &ScopeId) -> Option<ScopeNumber> {
        let number = *self.scope_numbers.get(id)?;
        self.scopes[number as usize].rank.map(|_| number)
    }

    /// Says where each stands, too.
    pub(super) fn list_scopes(&self) -> Result<Vec<Scope>, LedgerError> {
        self.is_to_grow()?;
        self.holes.check(Table::Cursors)?;
        Ok(self.listed.iter().map(|number| self.scope(*number)).collect())
    }

    /// The same of some, beside damage of others.
    pub(super) fn list_scopes_of(&self, ids: &[ScopeId]) -> Result<Vec<Scope>, LedgerError> {
        super::states::check_lists(&self.holes)?;
        self.holes.check(Table::Cursors)?;
        let numbers: Vec<ScopeNumber> = self.numbers_of(ids)?;
        let mut listed = BTreeMap::new();
        for number in numbers {
            self.check_scope(number)?;
            listed.extend(self.scopes[number as usize].rank.map(|rank| (rank, number)));
        }
        Ok(listed.into_values().map(|number| self.scope(number)).collect())
    }

    pub(super) fn scope(&self, number: ScopeNumber) -> Scope {
        let entry = &self.scopes[number as usize];
        Scope {
            id: entry.id.clone(),
            fetcher: entry.fetcher.clone(),
            collector: entry.collector.clone(),
            scope_key: entry.scope_key.as_ref().to_owned(),
            active: entry.active,
            activation_toggled: entry.activation_toggled,
            first_period: entry.first_period,
            last_processed: self.last_processed(number),
        }
    }

    fn last_processed(&self, scope: ScopeNumber) -> Option<DateTime<Utc>> {
        let of_metric = |metric: &MetricNumber| self.known_cursor(*metric, scope);
        let behind = self.configured.iter().filter_map(of_metric).min();
        let behind = behind.unwrap_or_else(|| self.first_cursor(scope));
        if behind.is_said() {
            return self.scopes[scope as usize].said_processed;
        }
        behind.last_begin_secs().and_then(|secs| DateTime::from_timestamp(secs, 0))
    }

    pub(super) fn number_of_chain(&self, chain: &ChainEntry) -> Option<u32> {
        let found = self.chains.iter().rposition(|known| known == chain)?;
        let number = u32::try_from(found).ok()?;
        (!self.holes.has(Table::Chains, &number.to_be_bytes())).then_some(number)
    }

    /// Whether a chain has a number, or may get one.
    pub(super) fn check_chain(&self, chain: &ChainEntry) -> Result<(), LedgerError> {
        match self.number_of_chain(chain) {
            Some(_) => Ok(()),
            None => self.holes.check_at(Table::Chains, &[]),
        }
    }
}
