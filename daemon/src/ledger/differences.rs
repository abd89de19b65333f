//! What figures were before they were rated again.

use chrono::{DateTime, Utc};

use crate::usage::{MetricId, Period, ScopeId, Sum};

/// A finished reprocessing whose old figures are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// The reprocessing's.
    pub id: u64,
    pub reason: String,
    pub start: DateTime<Utc>,
    /// Begin of the last period: the end is part of it.
    pub end: DateTime<Utc>,
    pub at: DateTime<Utc>,
    pub scopes: Vec<ScopeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceQuery {
    /// What this reprocessing has replaced, beside what it was replaced by; `None` = what was there
    /// last, beside what is there now.
    pub reprocessing: Option<u64>,
    /// `None` = all.
    pub scopes: Option<Vec<ScopeId>>,
    /// Periods whose begin lies in `[begin, end)`.
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub which: Which,
    /// Behind this one: [`DifferencePage::next`] of the page before.
    pub after: Option<DifferencePlace>,
    /// Most rows of a page.
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    #[default]
    All,
    /// Those whose figures are not the same.
    Changed,
}

/// Where a row stands in the order of rows: by period, metric and scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DifferencePlace {
    pub begin_secs: i64,
    pub metric: u32,
    pub scope: u32,
}

impl DifferencePlace {
    /// Behind all that begin then.
    pub fn end_of(begin_secs: i64) -> DifferencePlace {
        DifferencePlace { begin_secs, metric: u32::MAX, scope: u32::MAX }
    }

    fn is_end(self) -> bool {
        self == DifferencePlace::end_of(self.begin_secs)
    }

    /// The first begin at which anything may follow.
    pub fn begin_after(self) -> i64 {
        self.begin_secs.saturating_add(i64::from(self.is_end()))
    }
}

/// A page may be short of rows, or have none, and not be the last: so much was compared for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DifferencePage {
    pub rows: Vec<Difference>,
    /// `None` = that was all.
    pub next: Option<DifferencePlace>,
}

/// Figures of one metric, period and scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub period: Period,
    pub metric: MetricId,
    pub scope: ScopeId,
    /// The reprocessing that replaced the old ones.
    pub reprocessing: u64,
    pub old: Figures,
    pub new: Figures,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    pub rows: u64,
    pub qty: Sum,
    pub price: Sum,
}
