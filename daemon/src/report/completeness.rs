use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use crate::ledger::{
    Completeness, CompletenessQuery, CompletenessState, Cursors, Fact, Ledger, LedgerError,
    NEVER_SECS, Scope,
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
    /// The metrics that the configuration has.
    pub configured: Vec<MetricId>,
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
    let scopes = match &request.scopes {
        None => ledger.scopes()?,
        Some(wanted) => {
            let ids = wanted.iter().filter_map(|id| ScopeId::new(id).ok());
            ledger.scopes_of(&ids.collect::<Vec<_>>())?
        }
    };
    let cursors = ledger.cursors()?;
    check_held(request, &cursors, &scopes)?;
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

/// Whether no gap would be missing beside what is damaged.
fn check_held(
    request: &GapsRequest,
    cursors: &Cursors,
    scopes: &[Scope],
) -> Result<(), LedgerError> {
    let held = cursors.held_scopes.first().or(cursors.held.first());
    let Some(held) = held.cloned() else { return Ok(()) };
    let wanted: HashSet<&ScopeId> = scopes.iter().map(|scope| &scope.id).collect();
    let is_known = |next_begins: &Vec<i64>| {
        let mut of_scopes = cursors.scopes.iter().zip(next_begins);
        of_scopes.all(|(scope, begin)| *begin != NEVER_SECS || !wanted.contains(scope))
    };
    // A metric that is new to the configuration is not taken up beside damage.
    let begins = |metric: &MetricId| cursors.next_begin_secs.get(metric);
    let is_whole = request.scopes.is_some()
        && cursors.held.is_empty()
        && request.configured.iter().all(|metric| begins(metric).is_some_and(is_known));
    if is_whole { Ok(()) } else { Err(held.error()) }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::TimeDelta;

    use super::*;
    use crate::ledger::sled::{SledLedger, SledOptions};
    use crate::ledger::{Failure, Held, NewScope, RatedSlice, SliceScope};

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn hour(begin: i64) -> Period {
        Period::new(at(begin), at(begin + 1)).unwrap()
    }

    fn id(text: &str) -> ScopeId {
        ScopeId::new(text).unwrap()
    }

    fn metric(name: &str) -> MetricId {
        MetricId { name: name.to_owned(), alt_name: format!("{name}_type") }
    }

    fn request() -> GapsRequest {
        GapsRequest {
            begin: at(0),
            end: at(100),
            scopes: None,
            metrics: None,
            states: None,
            offset: 0,
            limit: 100,
            // With one period to wait, the hours 0 to 3 are due.
            now: at(5),
            period_secs: 3600,
            wait_periods: 1,
            configured: vec![metric("cpu"), metric("ram")],
        }
    }

    /// Two metrics, an active scope `a` and an inactive `b`. Of `cpu` the hours 0 and 1 are there,
    /// hour 2 has failed for `a`; of `ram` nothing is.
    fn ledger() -> (tempfile::TempDir, SledLedger) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
        ledger.set_metrics(&[metric("cpu"), metric("ram")]).unwrap();
        let scope = |name: &str, active| NewScope {
            id: id(name),
            fetcher: "f".to_owned(),
            collector: "c".to_owned(),
            scope_key: "project_id".to_owned(),
            first_period: at(0),
            last_processed: None,
            active,
            found_at: at(0),
        };
        ledger.add_scopes(&[scope("a", true), scope("b", false)]).unwrap();
        let slice = |begin, facts: [(&str, Fact); 2]| RatedSlice {
            metric: metric("cpu"),
            unit: "h".to_owned(),
            description: None,
            period: hour(begin),
            scopes: facts.map(|(name, fact)| SliceScope { id: id(name), fact }).to_vec(),
            rows: Vec::new(),
            rated_by: Arc::new([]),
            rated_scope_key: None,
        };
        ledger.commit(vec![slice(0, [("a", Fact::Lost), ("b", Fact::NoData)])]).unwrap();
        ledger.commit(vec![slice(1, [("a", Fact::NoData), ("b", Fact::NoData)])]).unwrap();
        let failure = Failure {
            metric: metric("cpu"),
            period: hour(2),
            scopes: vec![id("a")],
            attempts: 3,
            at: at(5),
            reason: "the source is down".to_owned(),
        };
        ledger.note_failure(&failure).unwrap();
        (folder, ledger)
    }

    fn shown(ledger: &SledLedger, request: &GapsRequest) -> Vec<String> {
        let shown = |row: &GapRow| {
            let hour = (row.period.begin() - at(0)).num_hours();
            format!("{} {hour} {} {}", row.state.name(), row.scope, row.metric.name)
        };
        gaps(ledger, request).unwrap().rows.iter().map(shown).collect()
    }

    #[test]
    fn gaps_come_first_and_what_is_due_is_among_them() {
        let (_folder, ledger) = ledger();

        let all = gaps(&ledger, &request()).unwrap();

        assert_eq!(
            shown(&ledger, &request()),
            [
                "failed 2 a cpu",
                "pending 0 a ram",
                "pending 1 a ram",
                "pending 2 a ram",
                "pending 3 a cpu",
                "pending 3 a ram",
                "lost 0 a cpu",
                "no_data 0 b cpu",
                "no_data 1 a cpu",
                "no_data 1 b cpu",
            ]
        );
        assert_eq!(all.rows[0].failure, Some((3, "the source is down".to_owned())));
        assert_eq!((all.total, all.counts[&Gap::Pending], all.counts[&Gap::NoData]), (10, 5, 3));
    }

    #[test]
    fn a_question_is_narrowed_and_paged() {
        let (_folder, ledger) = ledger();
        let narrow = GapsRequest {
            begin: at(1),
            end: at(4),
            metrics: Some(vec!["ram_type".to_owned()]),
            states: Some(vec![Gap::Pending]),
            offset: 1,
            limit: 1,
            ..request()
        };
        assert_eq!(shown(&ledger, &narrow), ["pending 2 a ram"]);
        assert_eq!(gaps(&ledger, &narrow).unwrap().total, 3);

        let scopes = Some(["b".to_owned()].into());
        let of_scope = GapsRequest { scopes, ..request() };
        assert_eq!(shown(&ledger, &of_scope), ["no_data 0 b cpu", "no_data 1 b cpu"]);

        let nobody = GapsRequest { scopes: Some(HashSet::new()), ..request() };
        assert!(shown(&ledger, &nobody).is_empty());
        let backwards = GapsRequest { begin: at(9), end: at(1), ..request() };
        assert!(shown(&ledger, &backwards).is_empty());
    }

    #[test]
    fn beside_a_damaged_scope_others_are_told_of_when_no_gap_can_be_missing() {
        let (_folder, ledger) = ledger();
        let sound = ledger.cursors().unwrap();
        let held = Held { place: "scopes 7".to_owned(), detail: "torn".to_owned() };
        let damaged = Cursors { held_scopes: vec![held.clone()], ..sound.clone() };
        let mut never = damaged.clone();
        never.next_begin_secs.get_mut(&metric("ram")).unwrap()[0] = NEVER_SECS;
        let of = |name: &str| GapsRequest { scopes: Some([name.to_owned()].into()), ..request() };
        let check = |request: &GapsRequest, cursors: &Cursors| {
            let name = request.scopes.iter().flatten().next().map(|name| id(name));
            let scopes = ledger.scopes_of(&name.into_iter().collect::<Vec<_>>()).unwrap();
            check_held(request, cursors, &scopes).is_ok()
        };

        assert!(check(&request(), &sound) && check(&of("a"), &damaged));
        assert!(!check(&request(), &damaged));
        assert!(!check(&of("a"), &never) && check(&of("b"), &never));
        assert!(!check(&of("a"), &Cursors { held: vec![held], ..sound.clone() }));
        let mut configured = request().configured;
        configured.push(metric("new"));
        assert!(!check(&GapsRequest { configured, ..of("a") }, &damaged));
    }

    #[test]
    fn too_much_at_once_is_refused_with_the_limit() {
        let (_folder, ledger) = ledger();

        let error = gaps(&ledger, &GapsRequest { end: at(10_000_000), ..request() }).unwrap_err();

        assert_eq!(
            error.to_string(),
            "10000000 periods x 2 scopes x 2 metrics are too many, at most 1000000 can be told at \
             once; narrow the range or the scopes"
        );
    }
}
