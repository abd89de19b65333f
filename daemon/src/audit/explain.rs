//! Why rows cost what they cost: the modules that rated them, and their steps, computed again.

use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use tokio::runtime::Handle;

use super::chains::Chains;
use super::compare::reason_of;
use super::rows::{Rows, TOGETHER_ROWS_MAX, Together, rate_request, scope_key, united};
use super::verdict::{Again, Verdict, doubt};
use crate::ledger::{Filters, Ledger, LedgerError, Origin, RatedBy, RowsGroup, RowsQuery};
use crate::rating::{KeptChain, ModuleReasons, Rating, RatingError};
use crate::usage::{Period, ScopeId};

/// Most rows that are explained at once.
pub const EXPLAINED_ROWS_MAX: usize = 1000;
/// How often a page is read again because the ledger was changed meanwhile.
const READINGS_MAX: usize = 5;

/// A page of the rows of one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainRequest {
    pub scope: ScopeId,
    /// Periods whose begin lies in `[begin, end)`.
    pub begin: DateTime<Utc>,
    pub end: DateTime<Utc>,
    /// Metric types; `None` = all.
    pub types: Option<Vec<String>>,
    /// Rows to leave out before the first one.
    pub offset: usize,
    /// At most [`EXPLAINED_ROWS_MAX`].
    pub limit: usize,
}

#[derive(Debug, Clone, Default)]
pub struct ExplainedPage {
    /// Rows before paging.
    pub total: usize,
    pub groups: Vec<ExplainedGroup>,
}

/// Rows of one metric and period that were rated together, some of them explained.
#[derive(Debug, Clone)]
pub struct ExplainedGroup {
    /// All of the scope's.
    pub group: RowsGroup,
    /// The first of those explained.
    pub first_row: usize,
    pub rows: Vec<ExplainedRow>,
    pub way: Way,
}

/// What is known of the way to the prices of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// Somebody else has rated them.
    Pushed,
    /// Rated again; the libraries that did it, in the order of the chain, and why another price
    /// that comes out says nothing, if it does not.
    Again { used: Arc<[RatedBy]>, doubt: Option<&'static str> },
    /// They cannot be rated again; for the log and for administrators, why.
    Lost { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRow {
    pub qty: Decimal,
    pub stored: Decimal,
    pub verdict: Verdict,
    /// For each module of the chain; empty unless the rows were rated again.
    pub reasons: Vec<ModuleReasons>,
}

impl ExplainedRow {
    /// What the chain comes to now.
    pub fn computed(&self) -> Decimal {
        computed(&self.reasons)
    }
}

/// Why nothing is explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error("cannot read the ledger")]
    Ledger(#[from] LedgerError),
    #[error(
        "the periods of this page have more than {TOGETHER_ROWS_MAX} rows together: ask for one \
         type, or for a shorter time"
    )]
    TooMany,
    #[error("the rows are being changed, please try again")]
    Changing,
}

/// Rates rows again as they were rated, and asks the modules why. Blocks, and calls them on
/// `runtime`. As soon as `goes_on` says no, the page ends with the period that was begun; it has
/// one at least, if there is one.
pub fn explain(
    (ledger, rating, runtime): (&dyn Ledger, &Rating, &Handle),
    request: &ExplainRequest,
    goes_on: &dyn Fn() -> bool,
) -> Result<ExplainedPage, ExplainError> {
    for _ in 0..READINGS_MAX {
        if let Some(page) = read(ledger, request)? {
            return Ok(explain_page((rating, runtime), page, goes_on));
        }
    }
    Err(ExplainError::Changing)
}

/// Rows as they stand in the ledger.
struct Page {
    total: usize,
    groups: Vec<PageGroup>,
}

/// Rows that were rated together, and which of them are asked for.
struct PageGroup {
    group: RowsGroup,
    rows: Rows,
    first_row: usize,
    count: usize,
}

/// Whole periods, from the first to the last that the page has rows of: a module sees all rows of a
/// scope together. They are read by more than one question; `None` = what was answered does not fit
/// together, because rows were replaced in between.
fn read(ledger: &dyn Ledger, request: &ExplainRequest) -> Result<Option<Page>, ExplainError> {
    let filters = Filters {
        scopes: Some(vec![request.scope.clone()]),
        types: request.types.clone(),
        ..Filters::default()
    };
    let (begin, end) = (request.begin, request.end);
    let nothing = Page { total: 0, groups: Vec::new() };
    if begin >= end {
        return Ok(Some(nothing));
    }
    let query = |begin, end, offset, limit| RowsQuery {
        begin,
        end,
        filters: filters.clone(),
        offset,
        limit,
    };
    let page = ledger.rows(&query(begin, end, request.offset, request.limit))?;
    let period = |group: Option<&RowsGroup>| group.map(|group| group.period);
    let ends = period(page.groups.first()).zip(period(page.groups.last()));
    let Some((first, last)) = ends else {
        return Ok(Some(Page { total: page.total, ..nothing }));
    };
    let before = ledger.rows(&query(begin, first.begin(), 0, 0))?.total;
    let after = last.begin() + TimeDelta::seconds(1);
    let whole = ledger.rows(&query(first.begin(), after, 0, TOGETHER_ROWS_MAX + 1))?;
    if whole.total > TOGETHER_ROWS_MAX {
        return Err(ExplainError::TooMany);
    }
    let (shown, all) = (figures(&page.groups)?, figures(&whole.groups)?);
    let wanted = request.offset.checked_sub(before).map(|skipped| skipped..skipped + shown.len());
    let Some(wanted) = wanted.filter(|wanted| all.get(wanted.clone()) == Some(&shown[..])) else {
        return Ok(None);
    };
    let mut place = 0;
    let mut parts: Vec<(Together, Vec<RowsGroup>, Vec<usize>)> = Vec::new();
    for group in whole.groups {
        let rows = group.rows.num_rows();
        let places: Vec<usize> = (place..place + rows).collect();
        place += rows;
        let together = Together::of(&group);
        match parts.iter_mut().rev().find(|(known, ..)| *known == together) {
            Some((_, groups, all)) => {
                groups.push(group);
                all.extend(places);
            }
            None => parts.push((together, vec![group], places)),
        }
    }
    let mut groups = Vec::new();
    for (_, parts, places) in parts {
        let first_row = places.iter().position(|place| wanted.contains(place));
        let count = places.iter().filter(|place| wanted.contains(place)).count();
        if let Some(first_row) = first_row {
            let group = united(parts)?;
            let rows = Rows::of(&group)?;
            groups.push(PageGroup { group, rows, first_row, count });
        }
    }
    Ok(Some(Page { total: page.total, groups }))
}

/// What tells rows from others: period, type, quantity and price of each.
type Figures<'a> = Vec<(Period, &'a str, Decimal, Decimal)>;

fn figures(groups: &[RowsGroup]) -> Result<Figures<'_>, LedgerError> {
    let mut figures = Vec::new();
    for group in groups {
        let rows = Rows::of(group)?;
        let numbers = rows.qty.into_iter().zip(rows.stored);
        let of = |(qty, price)| (group.period, group.metric_type.as_str(), qty, price);
        figures.extend(numbers.map(of));
    }
    Ok(figures)
}

fn explain_page(
    (rating, runtime): (&Rating, &Handle),
    page: Page,
    goes_on: &dyn Fn() -> bool,
) -> ExplainedPage {
    let mut chains = Chains::new(rating, runtime);
    let wanted = page.groups.into_iter().enumerate();
    let wanted = wanted.take_while(|(index, _)| *index == 0 || goes_on());
    let groups = wanted.map(|(_, page_group)| {
        let group = &page_group.group;
        if group.origin == Origin::Pushed {
            return not_again(page_group, Way::Pushed);
        }
        let chain = chains.known(group).unwrap_or_else(|| chains.make(group));
        match chain {
            Ok(chain) => runtime.block_on(explain_group(page_group, &chain)),
            Err(reason) => not_again(page_group, Way::Lost { reason }),
        }
    });
    ExplainedPage { total: page.total, groups: groups.collect() }
}

async fn explain_group(page_group: PageGroup, chain: &KeptChain) -> ExplainedGroup {
    let PageGroup { group, rows, first_row, count } = &page_group;
    let asked = *first_row..first_row + count;
    let reasons = match reasons(chain, (group, rows), asked.clone()).await {
        Ok(reasons) => reasons,
        Err(error) => return not_again(page_group, Way::Lost { reason: reason_of(&error) }),
    };
    let row = |(row, reasons): (usize, Vec<ModuleReasons>)| {
        let stored = rows.stored[row];
        let computed = computed(&reasons);
        let verdict = Verdict::of(chain, group, Again::of(&stored, &computed));
        ExplainedRow { qty: rows.qty[row], stored, verdict, reasons }
    };
    let explained = asked.zip(reasons).map(row).collect();
    let doubt = doubt(chain, &page_group.group);
    let way = Way::Again { used: Arc::clone(chain.chain.rated_by()), doubt };
    ExplainedGroup {
        group: page_group.group,
        first_row: page_group.first_row,
        rows: explained,
        way,
    }
}

fn not_again(PageGroup { group, rows, first_row, count }: PageGroup, way: Way) -> ExplainedGroup {
    let verdict = if way == Way::Pushed { Verdict::Pushed } else { Verdict::NotComputed };
    let row = |row: usize| ExplainedRow {
        qty: rows.qty[row],
        stored: rows.stored[row],
        verdict,
        reasons: Vec::new(),
    };
    let rows = (first_row..first_row + count).map(row).collect();
    ExplainedGroup { group, first_row, rows, way }
}

/// What the chain comes to; without modules everything is free.
fn computed(reasons: &[ModuleReasons]) -> Decimal {
    reasons.last().map_or(Decimal::ZERO, |last| last.after)
}

async fn reasons(
    chain: &KeptChain,
    (group, rows): (&RowsGroup, &Rows),
    asked: Range<usize>,
) -> Result<Vec<Vec<ModuleReasons>>, RatingError> {
    chain.chain.explain(&rate_request(group), scope_key(group), &rows.usage, asked).await
}
