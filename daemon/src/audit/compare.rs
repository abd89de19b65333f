use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use chrono::{DateTime, Days, NaiveTime, TimeDelta, Utc};
use rated_plugin::{UsageBatch, decimal_at};
use rust_decimal::Decimal;
use tokio::runtime::Handle;

use super::rows::{Rows, rate_request, rows_of_scope};
use crate::ledger::{Filters, Ledger, LedgerError, Origin, RatedBy, RowsGroup, RowsQuery};
use crate::rating::{KeptChain, Rating, RatingError};
use crate::usage::{Period, ScopeId};

/// Most differences that are told; all are counted.
pub const DIFFERENCES_TOLD_MAX: usize = 1000;
/// Most reasons, and most damaged places, that are told.
const REASONS_TOLD_MAX: usize = 1000;
/// Most revisions of rules whose reading is remembered.
const RULES_KNOWN_MAX: usize = 4096;
/// Chains that are kept ready: those of the slices of one period.
const CHAINS_MAX: usize = 8;

/// Rows of periods that begin in `[begin, end)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRequest {
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    pub filters: Filters,
}

/// How many rows were looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditCounts {
    pub rows: u64,
    /// The same price, by the very libraries that made it.
    pub equal: u64,
    pub different: u64,
    /// The same price, by another library: that of today.
    pub equal_by_other_library: u64,
    pub different_by_other_library: u64,
    /// Rated elsewhere.
    pub pushed: u64,
    /// Nothing can be said of them: a module, or its rules, cannot be had.
    pub not_compared: u64,
    /// Damaged places.
    pub damages: u64,
    /// Days whose rows are not kept any more.
    pub days_without_rows: u64,
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
        rating,
        runtime,
        filters: &request.filters,
        tell,
        counts: AuditCounts::default(),
        differences_told: 0,
        reasons_told: BTreeSet::new(),
        damages: BTreeSet::new(),
        rules: BTreeMap::new(),
        chains: VecDeque::new(),
    };
    let mut begin = request.begin;
    while begin < request.end {
        let end = next_day(begin).min(request.end);
        audit.range(begin, end)?;
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
    rating: &'a Rating,
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
    /// The chains used last, the newest first.
    chains: VecDeque<KnownChain>,
}

/// What rates the periods that begin then as the ledger kept it; or why it cannot be had.
type KnownChain = (DateTime<Utc>, Arc<[RatedBy]>, Result<KeptChain, String>);

/// What was found in a range that may have to be looked at again, in parts.
#[derive(Default)]
struct Attempt {
    counts: AuditCounts,
    findings: Vec<Finding>,
    /// Rows seen so far of each scope and metric name of the last period and type.
    seen: HashMap<(String, String), usize>,
    seen_of: Option<(Period, String)>,
}

impl Audit<'_> {
    /// A damaged place hides what follows it: the range is halved until it stands alone.
    fn range(&mut self, begin: DateTime<Utc>, end: DateTime<Utc>) -> Result<(), AuditError> {
        let mut attempt = Attempt::default();
        let second = TimeDelta::seconds(1);
        match self.visit(begin, end, &mut attempt) {
            Ok(()) => self.take(attempt),
            Err(AuditError::Ledger(LedgerError::RowsGone { .. })) => {
                self.counts.days_without_rows += 1;
                Ok(())
            }
            Err(AuditError::Ledger(LedgerError::Damaged { .. })) if end - begin > second => {
                // Periods begin at whole seconds.
                let half = TimeDelta::seconds(((end - begin).num_seconds() / 2).max(1));
                self.range(begin, begin + half)?;
                self.range(begin + half, end)
            }
            Err(AuditError::Ledger(LedgerError::Damaged { place, detail })) => {
                self.take(attempt)?;
                self.damage(Damaged { place, detail, rules: None })
            }
            Err(error) => Err(error),
        }
    }

    fn visit(
        &mut self,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        attempt: &mut Attempt,
    ) -> Result<(), AuditError> {
        let filters = self.filters.clone();
        let query = RowsQuery { begin, end, filters, offset: 0, limit: usize::MAX };
        let (ledger, mut outcome) = (self.ledger, Ok(()));
        ledger.visit_rows(&query, &mut |group| {
            outcome = self.group(&group, attempt).and_then(|()| self.progress(begin));
            if outcome.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        outcome
    }

    fn take(&mut self, attempt: Attempt) -> Result<(), AuditError> {
        self.counts.add(&attempt.counts);
        attempt.findings.into_iter().try_for_each(|finding| self.say(finding))
    }

    fn progress(&mut self, at: DateTime<Utc>) -> Result<(), AuditError> {
        let counts = self.counts.clone();
        self.say(Finding::Progress { at, counts })
    }

    fn say(&mut self, finding: Finding) -> Result<(), AuditError> {
        if (self.tell)(finding).is_break() { Err(AuditError::Stopped) } else { Ok(()) }
    }

    fn damage(&mut self, damage: Damaged) -> Result<(), AuditError> {
        if self.damages.len() >= REASONS_TOLD_MAX || !self.damages.insert(damage.place.clone()) {
            return Ok(());
        }
        self.counts.damages += 1;
        self.say(Finding::Damage(damage))
    }

    // ---- rows -----------------------------------------------------------------------------------

    fn group(&mut self, group: &RowsGroup, attempt: &mut Attempt) -> Result<(), AuditError> {
        let count = group.rows.num_rows();
        attempt.counts.rows += count as u64;
        let places = attempt.places(group)?;
        if group.origin == Origin::Pushed {
            attempt.counts.pushed += count as u64;
            return Ok(());
        }
        let chain = match self.chain(group)? {
            Ok(chain) => chain,
            Err(reason) => {
                self.leave_out(group, count, reason, attempt);
                return Ok(());
            }
        };
        let rows = Rows::of(group)?;
        let computed = self.rate(&chain, group, &rows);
        let is_equal =
            |row: usize| computed.as_ref().is_ok_and(|computed| computed[row] == rows.stored[row]);
        let doubtful: BTreeSet<&str> =
            (0..count).filter(|row| !is_equal(*row)).map(|row| places[row].0.as_str()).collect();
        let sure = places.iter().filter(|(scope, _)| !doubtful.contains(scope.as_str())).count();
        attempt.counts.equal(sure, chain.is_of_same_libraries());
        for scope in doubtful {
            self.look_again(group, &chain, (scope, &places), attempt)?;
        }
        Ok(())
    }

    /// All rows of a scope together, as its modules may have seen them.
    fn look_again(
        &mut self,
        group: &RowsGroup,
        chain: &KeptChain,
        (scope, places): (&str, &[(String, usize)]),
        attempt: &mut Attempt,
    ) -> Result<(), AuditError> {
        let own: Vec<usize> = (0..places.len()).filter(|row| places[*row].0 == scope).collect();
        let leave_out = |audit: &mut Self, reason: &str, attempt: &mut Attempt| {
            audit.leave_out(group, own.len(), reason.to_owned(), attempt);
            Ok(())
        };
        // A scope of the ledger has an id that is one; nobody's rows were pushed.
        let Ok(id) = ScopeId::new(scope) else {
            return leave_out(self, "the rows have no scope", attempt);
        };
        let Some(whole) = rows_of_scope(self.ledger, group, &id)? else {
            let reason = "the rows were replaced meanwhile, or are too many to be seen together";
            return leave_out(self, reason, attempt);
        };
        let (rows, of_block) = (Rows::of(&whole)?, Rows::of(group)?);
        let is_there =
            |row: &usize| rows.stored.get(places[*row].1) == Some(&of_block.stored[*row]);
        if !own.iter().all(is_there) {
            return leave_out(self, "the rows were replaced meanwhile", attempt);
        }
        let computed = match self.rate(chain, &whole, &rows) {
            Ok(computed) => computed,
            Err(error) => return leave_out(self, &reason_of(&error), attempt),
        };
        let is_by_same_libraries = chain.is_of_same_libraries();
        for row in own.iter().map(|row| places[*row].1) {
            let (stored, computed) = (rows.stored[row], computed[row]);
            if stored == computed {
                attempt.counts.equal(1, is_by_same_libraries);
                continue;
            }
            attempt.counts.different(is_by_same_libraries);
            if self.differences_told + attempt.findings.len() >= DIFFERENCES_TOLD_MAX {
                continue;
            }
            attempt.findings.push(Finding::Difference(Box::new(Difference {
                scope: scope.to_owned(),
                metric_type: whole.metric_type.clone(),
                metric_name: whole.metric_name.clone(),
                period: whole.period,
                row,
                qty: rows.qty[row],
                stored,
                computed,
                rated_by: Arc::clone(&whole.rated_by),
                is_by_same_libraries,
            })));
        }
        Ok(())
    }

    fn rate(
        &self,
        chain: &KeptChain,
        group: &RowsGroup,
        rows: &Rows,
    ) -> Result<Vec<Decimal>, RatingError> {
        let request = rate_request(group);
        let scope_key = (!group.scope_key.is_empty()).then_some(group.scope_key.as_str());
        let rated = chain.chain.rate_in_parts(&request, scope_key, rows.usage.clone());
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
        reason: String,
        attempt: &mut Attempt,
    ) {
        attempt.counts.not_compared += count as u64;
        let is_told = self.reasons_told.len() >= REASONS_TOLD_MAX;
        if !is_told && self.reasons_told.insert(reason.clone()) {
            attempt.findings.push(Finding::NotCompared(NotCompared {
                period: group.period,
                metric_type: group.metric_type.clone(),
                rated_by: Arc::clone(&group.rated_by),
                reason,
            }));
        }
    }

    // ---- what rated them ------------------------------------------------------------------------

    /// The chain that rated a group; or why it cannot be had.
    fn chain(&mut self, group: &RowsGroup) -> Result<Result<KeptChain, String>, AuditError> {
        let (at, kept) = (group.period.begin(), &group.rated_by);
        let is_it =
            |(for_at, by, _): &&(DateTime<Utc>, Arc<[RatedBy]>, _)| *for_at == at && by == kept;
        if let Some((_, _, known)) = self.chains.iter().find(is_it) {
            return Ok(known.clone());
        }
        let mut made = Ok(());
        for by in kept.iter() {
            // Read here too: a module may remember what it read before it was damaged.
            if let Some(wrong) = self.rules_of(by)? {
                made = Err(wrong);
            }
        }
        let made = made.and_then(|()| {
            let chain = self.runtime.block_on(self.rating.chain_as_kept(at, kept));
            chain.map_err(|error| reason_of(&error))
        });
        self.chains.push_front((at, Arc::clone(kept), made.clone()));
        self.chains.truncate(CHAINS_MAX);
        Ok(made)
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

impl Attempt {
    /// The scope of each row, and its place among the rows of the same scope, metric and period.
    fn places(&mut self, group: &RowsGroup) -> Result<Vec<(String, usize)>, LedgerError> {
        let of = (group.period, group.metric_type.clone());
        if self.seen_of.as_ref() != Some(&of) {
            self.seen.clear();
            self.seen_of = Some(of);
        }
        let view = UsageBatch::new(&group.rows).map_err(|error| LedgerError::Damaged {
            place: format!("rows of `{}` in {}", group.metric_type, group.period),
            detail: error.message,
        })?;
        let place = |row| {
            let scope = view.scope_at(row).to_owned();
            let seen = self.seen.entry((scope.clone(), group.metric_name.clone())).or_default();
            *seen += 1;
            (scope, *seen - 1)
        };
        Ok((0..view.rows()).map(place).collect())
    }
}

impl AuditCounts {
    fn equal(&mut self, rows: usize, is_by_same_libraries: bool) {
        let counter =
            if is_by_same_libraries { &mut self.equal } else { &mut self.equal_by_other_library };
        *counter += rows as u64;
    }

    fn different(&mut self, is_by_same_libraries: bool) {
        if is_by_same_libraries {
            self.different += 1;
        } else {
            self.different_by_other_library += 1;
        }
    }

    fn add(&mut self, other: &AuditCounts) {
        self.rows += other.rows;
        self.equal += other.equal;
        self.different += other.different;
        self.equal_by_other_library += other.equal_by_other_library;
        self.different_by_other_library += other.different_by_other_library;
        self.pushed += other.pushed;
        self.not_compared += other.not_compared;
        self.damages += other.damages;
        self.days_without_rows += other.days_without_rows;
    }

    /// Prices were found that their rules do not lead to, or records that cannot be read.
    pub fn is_wrong(&self) -> bool {
        self.different + self.different_by_other_library + self.damages > 0
    }
}
