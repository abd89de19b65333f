//! What readers ask a ledger for, and what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};

use super::changes::Origin;
use super::contract::{Fact, RatedBy};
use crate::usage::{MetricId, Period, ScopeId, Sum};

/// Restricts rows to values; several values of one attribute are alternatives, several attributes
/// must all match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filters {
    /// `None` = all.
    pub scopes: Option<Vec<ScopeId>>,
    /// Metric types.
    pub types: Option<Vec<String>>,
    /// Any other attribute, groupby or metadata; calendar attributes (`month` …) too.
    pub attributes: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryQuery {
    /// Periods whose begin lies in `[begin, end)`.
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub filters: Filters,
    pub group_by: Vec<GroupKey>,
    pub measures: Measures,
}

/// What a summary says of each group. Extremes cost reading the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Measures {
    #[default]
    Sums,
    SumsAndExtremes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupKey {
    /// The period's begin and end.
    Time,
    Scope,
    /// The metric type.
    Type,
    /// An attribute, groupby or metadata, or a calendar one; a row without it is in the group `""`.
    Attribute(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryGroup {
    /// In the order of `group_by`, without `Time`.
    pub keys: Vec<Arc<str>>,
    /// With `Time` in `group_by` only.
    pub period: Option<Period>,
    pub qty: Sum,
    pub price: Sum,
    pub rows: u64,
    /// With [`Measures::SumsAndExtremes`] only.
    pub extremes: Option<Extremes>,
}

/// The smallest and the largest of the rows of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extremes {
    pub qty_min: Sum,
    pub qty_max: Sum,
    pub price_min: Sum,
    pub price_max: Sum,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowsQuery {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub filters: Filters,
    pub offset: usize,
    pub limit: usize,
}

#[derive(Debug, Clone, Default)]
pub struct RowsPage {
    /// Rows before paging.
    pub total: usize,
    pub groups: Vec<RowsGroup>,
}

/// What somebody comes upon who reads past damage.
#[derive(Debug, Clone)]
pub enum Visited {
    Rows(RowsGroup),
    Damaged(DamagedRows),
}

/// Rows that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRows {
    pub place: String,
    pub detail: String,
    /// At most so many, those of other scopes counted; 0 = nobody knows.
    pub rows: usize,
}

/// Rows of one period and metric type.
#[derive(Debug, Clone)]
pub struct RowsGroup {
    pub period: Period,
    pub metric_type: String,
    /// As the source calls the metric; of pushed rows the type again.
    pub metric_name: String,
    pub unit: String,
    pub description: Option<String>,
    pub origin: Origin,
    /// What rated them, in the order of the chain; empty = free, or pushed.
    pub rated_by: Arc<[RatedBy]>,
    /// The attribute as which those modules saw the scope; `None` = the ledger does not know it.
    pub rated_scope_key: Option<Arc<str>>,
    /// What the scope's key is now, for reports. Empty = the rows have no scope: theirs is
    /// [`ScopeId::nobody`].
    pub scope_key: String,
    /// Schema `usage/1` with `price`.
    pub rows: RecordBatch,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletenessQuery {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub scopes: Option<Vec<ScopeId>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completeness {
    pub scope: ScopeId,
    pub metric: MetricId,
    pub period: Period,
    pub state: CompletenessState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompletenessState {
    Known(Fact),
    /// Not in the ledger; tried and failed so far.
    Failing {
        attempts: u32,
        reason: String,
    },
}
