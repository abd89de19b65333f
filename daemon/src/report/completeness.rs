use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use crate::ledger::{
    Completeness, CompletenessQuery, CompletenessState, Cursors, Fact, Ledger, LedgerError,
};
use crate::usage::{MetricId, Period, ScopeId, last_due_begin_secs};

/// Most periods x scopes x metrics that one question may be about.
pub const COMPLETENESS_CELLS_MAX: u64 = 1_000_000;

/// What is known of a metric, scope and period; what somebody may have to act on comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// Tried in vain so far.
    Failed,
    /// Due, and not in the ledger yet.
    Pending,
    Lost,
    NoData,
    Zero,
    Collected,
}

impl Gap {
    pub const ALL: [Gap; 6] =
        [Gap::Failed, Gap::Pending, Gap::Lost, Gap::NoData, Gap::Zero, Gap::Collected];

    pub fn name(self) -> &'static str {
        match self {
            Gap::Failed => "failed",
            Gap::Pending => "pending",
            Gap::Lost => "lost",
            Gap::NoData => "no_data",
            Gap::Zero => "zero",
            Gap::Collected => "collected",
        }
    }
}

/// Which metrics, scopes and periods, and which page of them.
#[derive(Debug, Clone)]
pub struct GapsRequest {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    /// `None` = all.
    pub scopes: Option<HashSet<String>>,
    /// Names or types; `None` = all.
    pub metrics: Option<Vec<String>>,
    /// `None` = all.
    pub states: Option<Vec<Gap>>,
    pub offset: usize,
    pub limit: usize,
    pub now: DateTime<Utc>,
    pub period_secs: u32,
    pub wait_periods: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GapRow {
    pub state: Gap,
    pub period: Period,
    pub scope: ScopeId,
    pub metric: MetricId,
    /// Attempts so far, and why the newest failed; no secrets.
    pub failure: Option<(u32, String)>,
}

/// A page, gaps first; within a state by period, scope and metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gaps {
    /// Rows in the states asked for, before paging.
    pub total: usize,
    /// Of all states.
    pub counts: BTreeMap<Gap, usize>,
    pub rows: Vec<GapRow>,
}

#[derive(Debug, thiserror::Error)]
pub enum GapsError {
    #[error(
        "{periods} periods x {scopes} scopes x {metrics} metrics are too many, at most \
         {COMPLETENESS_CELLS_MAX} can be told at once; narrow the range or the scopes"
    )]
    TooMany { periods: u64, scopes: u64, metrics: u64 },
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

pub fn gaps(ledger: &dyn Ledger, request: &GapsRequest) -> Result<Gaps, GapsError> {
    if request.begin >= request.end {
        return Ok(Gaps::default());
    }
    let mut scopes = ledger.scopes()?;
    if let Some(wanted) = &request.scopes {
        scopes.retain(|scope| wanted.contains(scope.id.as_str()));
    }
    let cursors = ledger.cursors()?;
    check_size(request, scopes.len(), cursors.next_begin_secs.len())?;
    let (begin, end) = (request.begin, request.end);
    let asked = request.scopes.is_some();
    let query = CompletenessQuery {
        begin,
        end,
        scopes: asked.then(|| scopes.iter().map(|scope| scope.id.clone()).collect()),
    };
    let active: HashSet<ScopeId> =
        scopes.into_iter().filter(|scope| scope.active).map(|scope| scope.id).collect();
    let mut rows: Vec<GapRow> = ledger.completeness(&query)?.into_iter().map(known).collect();
    rows.extend(pending(request, &cursors, &active, &rows));
    rows.retain(|row| is_metric_wanted(request, &row.metric));
    let mut counts = BTreeMap::new();
    for row in &rows {
        *counts.entry(row.state).or_insert(0) += 1;
    }
    if let Some(states) = &request.states {
        rows.retain(|row| states.contains(&row.state));
    }
    rows.sort_by(|a, b| {
        let key = |row: &GapRow| (row.state, row.period);
        let by_name = || a.scope.cmp(&b.scope).then_with(|| a.metric.cmp(&b.metric));
        key(a).cmp(&key(b)).then_with(by_name)
    });
    let total = rows.len();
    let rows = rows.into_iter().skip(request.offset).take(request.limit).collect();
    Ok(Gaps { total, counts, rows })
}

fn check_size(request: &GapsRequest, scopes: usize, metrics: usize) -> Result<(), GapsError> {
    let seconds = u64::try_from((request.end - request.begin).num_seconds()).unwrap_or(0);
    let periods = seconds.div_ceil(u64::from(request.period_secs.max(1)));
    let (scopes, metrics) = (scopes as u64, metrics as u64);
    let cells = periods.saturating_mul(scopes).saturating_mul(metrics);
    if cells > COMPLETENESS_CELLS_MAX {
        return Err(GapsError::TooMany { periods, scopes, metrics });
    }
    Ok(())
}

fn is_metric_wanted(request: &GapsRequest, metric: &MetricId) -> bool {
    request.metrics.as_ref().is_none_or(|wanted| {
        wanted.iter().any(|name| *name == metric.name || *name == metric.alt_name)
    })
}

fn known(one: Completeness) -> GapRow {
    let Completeness { scope, metric, period, state } = one;
    let (state, failure) = match state {
        CompletenessState::Known(Fact::Collected) => (Gap::Collected, None),
        CompletenessState::Known(Fact::Zero) => (Gap::Zero, None),
        CompletenessState::Known(Fact::NoData) => (Gap::NoData, None),
        CompletenessState::Known(Fact::Lost) => (Gap::Lost, None),
        CompletenessState::Failing { attempts, reason } => (Gap::Failed, Some((attempts, reason))),
    };
    GapRow { state, period, scope, metric, failure }
}

/// Periods that are due and of which the ledger knows nothing.
fn pending(
    request: &GapsRequest,
    cursors: &Cursors,
    active: &HashSet<ScopeId>,
    known: &[GapRow],
) -> Vec<GapRow> {
    let step = i64::from(request.period_secs);
    let last_due = last_due_begin_secs(request.now, request.period_secs, request.wait_periods);
    let last = last_due.min(request.end.timestamp() - 1);
    let failed: HashSet<(&ScopeId, &MetricId, Period)> = known
        .iter()
        .filter(|row| row.state == Gap::Failed)
        .map(|row| (&row.scope, &row.metric, row.period))
        .collect();
    let mut rows = Vec::new();
    for (metric, next_begins) in &cursors.next_begin_secs {
        for (scope, next_begin) in cursors.scopes.iter().zip(next_begins) {
            if !active.contains(scope) {
                continue;
            }
            let mut begin = *next_begin;
            let behind = request.begin.timestamp() - begin;
            if behind > 0 {
                begin += (behind + step - 1).div_euclid(step) * step;
            }
            while begin <= last {
                let Some(period) = Period::from_secs(begin, begin + step) else { break };
                begin += step;
                if !failed.contains(&(scope, metric, period)) {
                    let (scope, metric) = (scope.clone(), metric.clone());
                    let (state, failure) = (Gap::Pending, None);
                    rows.push(GapRow { state, period, scope, metric, failure });
                }
            }
        }
    }
    rows
}
