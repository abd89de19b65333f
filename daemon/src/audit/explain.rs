use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use tokio::runtime::Handle;

use super::compare::reason_of;
use super::rows::{Rows, TOGETHER_ROWS_MAX, are_together, rate_request, united};
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
    /// Rated again; the libraries that did it, in the order of the chain.
    Again { used: Arc<[RatedBy]> },
    /// They cannot be rated again; for the log and for administrators, why.
    Lost { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedRow {
    pub qty: Decimal,
    pub stored: Decimal,
    /// For each module of the chain; empty unless the rows were rated again.
    pub reasons: Vec<ModuleReasons>,
}

impl ExplainedRow {
    /// What the chain comes to now; without modules everything is free.
    pub fn computed(&self) -> Decimal {
        self.reasons.last().map_or(Decimal::ZERO, |last| last.after)
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
/// `runtime`.
pub fn explain(
    (ledger, rating, runtime): (&dyn Ledger, &Rating, &Handle),
    request: &ExplainRequest,
) -> Result<ExplainedPage, ExplainError> {
    for _ in 0..READINGS_MAX {
        if let Some(page) = read(ledger, request)? {
            return Ok(runtime.block_on(explain_page(rating, page)));
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
    let mut parts: Vec<(Vec<RowsGroup>, Vec<usize>)> = Vec::new();
    for group in whole.groups {
        let rows = group.rows.num_rows();
        let places: Vec<usize> = (place..place + rows).collect();
        place += rows;
        let same = |(known, _): &&mut (Vec<RowsGroup>, Vec<usize>)| are_together(&known[0], &group);
        match parts.iter_mut().rev().find(same) {
            Some((groups, all)) => {
                groups.push(group);
                all.extend(places);
            }
            None => parts.push((vec![group], places)),
        }
    }
    let mut groups = Vec::new();
    for (parts, places) in parts {
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

/// What rates a period as the ledger kept it; or why it cannot be had.
type KnownChain = (Period, Arc<[RatedBy]>, Result<KeptChain, String>);

async fn explain_page(rating: &Rating, page: Page) -> ExplainedPage {
    let mut groups = Vec::new();
    let mut chains: Vec<KnownChain> = Vec::new();
    for page_group in page.groups {
        let group = &page_group.group;
        let known =
            chains.iter().find(|(period, by, _)| *period == group.period && *by == group.rated_by);
        let chain = match known {
            Some((_, _, chain)) => chain.clone(),
            None if group.origin == Origin::Pushed => Err(String::new()),
            None => {
                let made = rating.chain_as_kept(group.period.begin(), &group.rated_by).await;
                let made = made.map_err(|error| reason_of(&error));
                chains.push((group.period, Arc::clone(&group.rated_by), made.clone()));
                made
            }
        };
        groups.push(explain_group(page_group, chain).await);
    }
    ExplainedPage { total: page.total, groups }
}

async fn explain_group(
    PageGroup { group, rows, first_row, count }: PageGroup,
    chain: Result<KeptChain, String>,
) -> ExplainedGroup {
    let asked = first_row..first_row + count;
    let again = match (group.origin, &chain) {
        (Origin::Pushed, _) => Err(Way::Pushed),
        (Origin::Collected, Err(reason)) => Err(Way::Lost { reason: reason.clone() }),
        (Origin::Collected, Ok(chain)) => match reasons(chain, (&group, &rows), asked).await {
            Ok(reasons) => Ok((Way::Again { used: Arc::clone(chain.chain.rated_by()) }, reasons)),
            Err(error) => Err(Way::Lost { reason: reason_of(&error) }),
        },
    };
    let (way, reasons) = again.unwrap_or_else(|way| (way, vec![Vec::new(); count]));
    let row = |(row, reasons): (usize, _)| ExplainedRow {
        qty: rows.qty[row],
        stored: rows.stored[row],
        reasons,
    };
    let explained = (first_row..).zip(reasons).map(row).collect();
    ExplainedGroup { group, first_row, rows: explained, way }
}

async fn reasons(
    chain: &KeptChain,
    (group, rows): (&RowsGroup, &Rows),
    asked: Range<usize>,
) -> Result<Vec<Vec<ModuleReasons>>, RatingError> {
    let scope_key = (!group.scope_key.is_empty()).then_some(group.scope_key.as_str());
    chain.chain.explain(&rate_request(group), scope_key, &rows.usage, asked).await
}
