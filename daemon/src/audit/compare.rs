//! Rows of a range rated again, and compared with what they cost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveTime, Utc};
use rated_plugin::{UsageBatch, decimal_at};
use rust_decimal::Decimal;
use tokio::runtime::Handle;

use super::chains::{Chains, MadeChain};
use super::counts::AuditCounts;
use super::rows::{Rows, Together, damaged, rate_request, rows_of_scope, scope_key};
use super::verdict::{Again, Verdict, doubt};
use crate::ledger::{
    DamagedRows, Filters, Ledger, LedgerError, Origin, RatedBy, RowsGroup, RowsQuery, Visited,
};
use crate::rating::{KeptChain, Rating, RatingError};
use crate::usage::{Period, ScopeId};

/// So many scopes in a row that fail as all of them together did say that a module fails, whatever
/// it is given: each costs a look at all rows of the scope.
const FAILED_ALIKE_MAX: usize = 3;
/// Most differences that are told; all are counted.
pub const DIFFERENCES_TOLD_MAX: usize = 1000;
/// Most reasons, and most damaged places, that are told.
const REASONS_TOLD_MAX: usize = 1000;
/// Most revisions of rules whose reading is remembered.
const RULES_KNOWN_MAX: usize = 4096;

/// Rows of periods that begin in `[begin, end)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRequest {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub filters: Filters,
}

/// Something an audit tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// All before was looked at.
    Progress {
        at: DateTime<Utc>,
        counts: AuditCounts,
    },
    Difference(Box<Difference>),
    Damage(Damaged),
    NotCompared(NotCompared),
}

/// A row whose price is not the one that its rules lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub scope: String,
    pub metric_type: String,
    pub metric_name: String,
    pub period: Period,
    /// Its place among the rows of that scope, metric and period.
    pub row: usize,
    pub qty: Decimal,
    pub stored: Decimal,
    pub computed: Decimal,
    /// What rated it, as the ledger kept it.
    pub rated_by: Arc<[RatedBy]>,
    /// Whether that was computed by the same libraries.
    pub is_by_same_libraries: bool,
}

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    pub place: String,
    pub detail: String,
    /// Of rules: the module, and the revision at which they were asked for.
    pub rules: Option<(String, u64)>,
}

/// Why rows were not compared. Each reason is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotCompared {
    /// The first period with such rows.
    pub period: Period,
    pub metric_type: String,
    pub rated_by: Arc<[RatedBy]>,
    pub reason: String,
}

/// Why an audit ended early.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("cannot read the ledger")]
    Ledger(#[from] LedgerError),
    /// Nobody listens any more.
    #[error("the audit was stopped")]
    Stopped,
}

/// Rates everything again as it was rated, and compares.
///
/// Blocks, and calls modules on `runtime`. Holds some thousand rows at a time, keeps no lock, and
/// ends when `tell` breaks. Rows are read a day at a time: each day is of one moment.
pub fn audit(
    (ledger, rating, runtime): (&dyn Ledger, &Rating, &Handle),
    request: &AuditRequest,
    tell: &mut dyn FnMut(Finding) -> ControlFlow<()>,
) -> Result<AuditCounts, AuditError> {
    let mut audit = Audit {
        ledger,
        runtime,
        filters: &request.filters,
        tell,
        counts: AuditCounts::default(),
        differences_told: 0,
        reasons_told: BTreeSet::new(),
        damages: BTreeSet::new(),
        rules: BTreeMap::new(),
        chains: Chains::new(rating, runtime),
        places: Places::default(),
    };
    let mut begin = request.begin;
    while begin < request.end {
        let end = next_day(begin).min(request.end);
        audit.day(begin, end)?;
        audit.progress(end)?;
        begin = end;
    }
    Ok(audit.counts)
}

fn next_day(at: DateTime<Utc>) -> DateTime<Utc> {
    let next = at.date_naive().checked_add_days(Days::new(1));
    next.map_or(DateTime::<Utc>::MAX_UTC, |day| day.and_time(NaiveTime::MIN).and_utc())
}

struct Audit<'a> {
    ledger: &'a dyn Ledger,
    runtime: &'a Handle,
    filters: &'a Filters,
    tell: &'a mut dyn FnMut(Finding) -> ControlFlow<()>,
    counts: AuditCounts,
    differences_told: usize,
    reasons_told: BTreeSet<String>,
    /// Places.
    damages: BTreeSet<String>,
    /// Whether the rules of a module at a revision can be read; what is wrong, if not.
    rules: BTreeMap<(String, u64), Option<String>>,
    chains: Chains<'a>,
    places: Places,
}

impl Audit<'_> {
    /// All that can be read of a day, and what cannot.
    fn day(&mut self, begin: DateTime<Utc>, end: DateTime<Utc>) -> Result<(), AuditError> {
        let filters = self.filters.clone();
        let query = RowsQuery { begin, end, filters, offset: 0, limit: usize::MAX };
        let (ledger, mut outcome) = (self.ledger, Ok(()));
        let visited = ledger.visit_rows_past_damage(&query, &mut |visited| {
            let seen = match visited {
                Visited::Rows(group) => self.group(&group),
                Visited::Damaged(rows) => self.damaged(rows),
            };
            outcome = seen.and_then(|()| self.progress(begin));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        match visited {
            Err(LedgerError::RowsGone { .. }) => self.counts.days_without_rows += 1,
            Err(error) => return Err(error.into()),
            Ok(()) => {}
        }
        outcome
    }

    fn progress(&mut self, at: DateTime<Utc>) -> Result<(), AuditError> {
        let counts = self.counts.clone();
        self.say(Finding::Progress { at, counts })
    }

    fn say(&mut self, finding: Finding) -> Result<(), AuditError> {
        if (self.tell)(finding).is_break() { Err(AuditError::Stopped) } else { Ok(()) }
    }

    fn damaged(&mut self, rows: DamagedRows) -> Result<(), AuditError> {
        self.counts.rows += rows.rows as u64;
        self.counts.count(Verdict::NotComputed, rows.rows);
        self.damage(Damaged { place: rows.place, detail: rows.detail, rules: None })
    }

    /// Each place is counted once, as far as they can be remembered.
    fn damage(&mut self, damage: Damaged) -> Result<(), AuditError> {
        if self.damages.contains(&damage.place) {
            return Ok(());
        }
        self.counts.damages += 1;
        if self.damages.len() >= REASONS_TOLD_MAX {
            return Ok(());
        }
        self.damages.insert(damage.place.clone());
        self.say(Finding::Damage(damage))
    }

    // ---- rows -----------------------------------------------------------------------------------

    fn group(&mut self, group: &RowsGroup) -> Result<(), AuditError> {
        let count = group.rows.num_rows();
        let read = Rows::of(group).and_then(|rows| Ok((self.places.of(group)?, rows)));
        let (places, rows) = match read {
            Ok(read) => read,
            Err(LedgerError::Damaged { place, detail }) => {
                return self.damaged(DamagedRows { place, detail, rows: count });
            }
            Err(error) => return Err(error.into()),
        };
        self.counts.rows += count as u64;
        if group.origin == Origin::Pushed {
            self.counts.count(Verdict::Pushed, count);
            return Ok(());
        }
        let chain = match self.chain(group)? {
            Ok(chain) => chain,
            Err(reason) => return self.leave_out(group, count, &reason),
        };
        let computed = self.rate(&chain, group, &rows);
        let is_equal =
            |row: usize| computed.as_ref().is_ok_and(|computed| computed[row] == rows.stored[row]);
        let doubtful: BTreeSet<&str> =
            (0..count).filter(|row| !is_equal(*row)).map(|row| places[row].0.as_str()).collect();
        let sure = places.iter().filter(|(scope, _)| !doubtful.contains(scope.as_str())).count();
        self.counts.count(Verdict::of(&chain, group, Again::Equal), sure);
        let failure = computed.as_ref().err().map(reason_of);
        let mut failed_alike = 0;
        for scope in doubtful {
            // By their places among all rows of the scope.
            let own = places.iter().zip(&rows.stored).filter(|((of, _), _)| of == scope);
            let own: Vec<(usize, Decimal)> = own.map(|((_, at), price)| (*at, *price)).collect();
            if let Some(reason) = failure.as_ref().filter(|_| failed_alike >= FAILED_ALIKE_MAX) {
                self.leave_out(group, own.len(), reason)?;
                continue;
            }
            let failed = self.look_again(group, &chain, (scope, &own))?;
            failed_alike = if failed.is_some() && failed == failure { failed_alike + 1 } else { 0 };
        }
        Ok(())
    }

    /// All rows of a scope together, as its modules may have seen them. Why these failed, if they
    /// did.
    fn look_again(
        &mut self,
        group: &RowsGroup,
        chain: &KeptChain,
        (scope, own): (&str, &[(usize, Decimal)]),
    ) -> Result<Option<String>, AuditError> {
        let nothing = |()| None;
        // A scope of the ledger has an id that is one; nobody's rows were pushed.
        let Ok(id) = ScopeId::new(scope) else {
            return self.leave_out(group, own.len(), "the rows have no scope").map(nothing);
        };
        let whole = rows_of_scope(self.ledger, group, &id).and_then(|whole| {
            let rows = whole.as_ref().map(Rows::of).transpose()?;
            Ok(whole.zip(rows))
        });
        let (whole, rows) = match whole {
            Ok(Some(whole)) => whole,
            Ok(None) => {
                let reason =
                    "the rows were replaced meanwhile, or are too many to be seen together";
                return self.leave_out(group, own.len(), reason).map(nothing);
            }
            // Told in its own place.
            Err(LedgerError::Damaged { .. }) => {
                let reason = "other rows of the scope are damaged";
                return self.leave_out(group, own.len(), reason).map(nothing);
            }
            Err(LedgerError::RowsGone { .. }) => {
                let reason = "the rows were forgotten meanwhile";
                return self.leave_out(group, own.len(), reason).map(nothing);
            }
            Err(error) => return Err(error.into()),
        };
        if !own.iter().all(|(place, stored)| rows.stored.get(*place) == Some(stored)) {
            let reason = "the rows were replaced meanwhile";
            return self.leave_out(group, own.len(), reason).map(nothing);
        }
        let computed = match self.rate(chain, &whole, &rows) {
            Ok(computed) => computed,
            Err(error) => {
                let reason = reason_of(&error);
                return self.leave_out(group, own.len(), &reason).map(|()| Some(reason));
            }
        };
        for (row, stored) in own {
            let again = Again::of(stored, &computed[*row]);
            let verdict = Verdict::of(chain, group, again);
            if let (Verdict::NotComputed, Some(why)) = (verdict, doubt(chain, group)) {
                self.leave_out(group, 1, why)?;
                continue;
            }
            self.counts.count(verdict, 1);
            if again == Again::Equal || self.differences_told >= DIFFERENCES_TOLD_MAX {
                continue;
            }
            self.differences_told += 1;
            self.say(Finding::Difference(Box::new(Difference {
                scope: scope.to_owned(),
                metric_type: whole.metric_type.clone(),
                metric_name: whole.metric_name.clone(),
                period: whole.period,
                row: *row,
                qty: rows.qty[*row],
                stored: *stored,
                computed: computed[*row],
                rated_by: Arc::clone(&whole.rated_by),
                is_by_same_libraries: chain.is_of_same_libraries(),
            })))?;
        }
        Ok(None)
    }

    fn rate(
        &self,
        chain: &KeptChain,
        group: &RowsGroup,
        rows: &Rows,
    ) -> Result<Vec<Decimal>, RatingError> {
        let request = rate_request(group);
        let rated = chain.chain.rate_in_parts(&request, scope_key(group), rows.usage.clone());
        let parts = self.runtime.block_on(rated)?;
        let prices = parts
            .iter()
            .flat_map(|(_, prices)| (0..prices.len()).map(|row| decimal_at(prices, row)));
        prices.collect::<Result<_, _>>().map_err(RatingError::Rows)
    }

    fn leave_out(
        &mut self,
        group: &RowsGroup,
        count: usize,
        reason: &str,
    ) -> Result<(), AuditError> {
        self.counts.count(Verdict::NotComputed, count);
        if self.reasons_told.len() >= REASONS_TOLD_MAX
            || !self.reasons_told.insert(reason.to_owned())
        {
            return Ok(());
        }
        self.say(Finding::NotCompared(NotCompared {
            period: group.period,
            metric_type: group.metric_type.clone(),
            rated_by: Arc::clone(&group.rated_by),
            reason: reason.to_owned(),
        }))
    }

    // ---- what rated them ------------------------------------------------------------------------

    fn chain(&mut self, group: &RowsGroup) -> Result<MadeChain, AuditError> {
        if let Some(known) = self.chains.known(group) {
            return Ok(known);
        }
        for by in group.rated_by.iter() {
            // Read here too: a module may remember what it read before it was damaged.
            if let Some(wrong) = self.rules_of(by)? {
                return Ok(self.chains.keep(group, Err(wrong)));
            }
        }
        Ok(self.chains.make(group))
    }

    /// What is wrong with the rules of a module at a revision.
    fn rules_of(&mut self, by: &RatedBy) -> Result<Option<String>, AuditError> {
        let key = (by.module.clone(), by.revision);
        if let Some(known) = self.rules.get(&key) {
            return Ok(known.clone());
        }
        let instance = format!("rating/{}", by.module);
        let wrong = match self.ledger.kv_scan(&instance, by.revision, "") {
            Ok(_) => None,
            Err(LedgerError::Damaged { place, detail }) => {
                let text = format!(
                    "the rules of `{}` at revision {} are damaged: {place}: {detail}",
                    by.module, by.revision
                );
                self.damage(Damaged { place, detail, rules: Some(key.clone()) })?;
                Some(text)
            }
            Err(error @ LedgerError::RevisionGone { .. }) => Some(error.to_string()),
            Err(error) => return Err(error.into()),
        };
        if self.rules.len() >= RULES_KNOWN_MAX {
            self.rules.clear();
        }
        self.rules.insert(key, wrong.clone());
        Ok(wrong)
    }
}

/// In one line, with what the module says.
pub(super) fn reason_of(error: &RatingError) -> String {
    match error {
        RatingError::Call { failure, .. } => format!("{error}: {failure}"),
        RatingError::Rows(cause) => format!("{error}: {cause}"),
        RatingError::Ledger(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

/// Numbers the rows of each scope among those that were rated together with them.
#[derive(Debug, Default)]
struct Places {
    of: Option<Together>,
    /// How many of a scope came up.
    seen: HashMap<String, usize>,
}

impl Places {
    /// The scope of each row, and its place.
    fn of(&mut self, group: &RowsGroup) -> Result<Vec<(String, usize)>, LedgerError> {
        let of = Some(Together::of(group));
        if self.of != of {
            self.seen.clear();
            self.of = of;
        }
        let view = UsageBatch::new(&group.rows).map_err(|error| damaged(group, error.message))?;
        let place = |row| {
            let scope = view.scope_at(row);
            let seen = match self.seen.get_mut(scope) {
                Some(seen) => seen,
                None => self.seen.entry(scope.to_owned()).or_default(),
            };
            *seen += 1;
            (scope.to_owned(), *seen - 1)
        };
        Ok((0..view.rows()).map(place).collect())
    }
}
