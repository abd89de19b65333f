use std::collections::BTreeMap;

use rated_plugin::{Attribute, UsageBatch, text_at};
use rust_decimal::Decimal;

use super::matches_nothing;
use crate::ledger::{Ledger, LedgerError, Origin, RowsGroup, RowsQuery};
use crate::usage::{Period, calendar_attributes};

/// Rows as frames, in order of period and scope. The rows stay in the columns they came in: as
/// points they would take ten times the memory.
#[derive(Debug, Default)]
pub struct Frames {
    /// Rows before paging.
    pub rows_total: usize,
    pub frames: Vec<Frame>,
    /// Checked to be batches of usage with prices.
    groups: Vec<RowsGroup>,
}

/// The rows of one period and scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub period: Period,
    pub scope: String,
    rows: Vec<RowAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowAt {
    group_index: usize,
    row_index: usize,
}

/// One rated row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    pub metric_type: String,
    pub unit: String,
    pub qty: Decimal,
    pub price: Decimal,
    /// With the scope key and the calendar of the period's begin.
    pub groupby: BTreeMap<String, String>,
    pub metadata: BTreeMap<String, String>,
}

/// The rows of a page as frames.
pub fn frames(ledger: &dyn Ledger, query: &RowsQuery) -> Result<Frames, LedgerError> {
    if query.begin >= query.end || matches_nothing(&query.filters) {
        return Ok(Frames::default());
    }
    let page = ledger.rows(query)?;
    let mut by_period: BTreeMap<Period, BTreeMap<&str, Vec<RowAt>>> = BTreeMap::new();
    for (group_index, group) in page.groups.iter().enumerate() {
        let frames = by_period.entry(group.period).or_default();
        let batch = view(group)?;
        for row_index in 0..batch.rows() {
            let rows = frames.entry(batch.scope_at(row_index)).or_default();
            rows.push(RowAt { group_index, row_index });
        }
    }
    let frames = by_period.into_iter().flat_map(|(period, scopes)| {
        let frame = move |(scope, rows): (&str, _)| Frame { period, scope: scope.to_owned(), rows };
        scopes.into_iter().map(frame)
    });
    Ok(Frames { rows_total: page.total, frames: frames.collect(), groups: page.groups })
}

impl Frames {
    /// The rows, to be read frame by frame.
    pub fn points(&self) -> Points<'_> {
        let views = self.groups.iter().map(|group| {
            let batch = view(group).expect("checked when the frames were made");
            (group, batch)
        });
        Points { views: views.collect() }
    }
}

/// What frames' rows are read through.
#[derive(Debug)]
pub struct Points<'a> {
    views: Vec<(&'a RowsGroup, UsageBatch<'a>)>,
}

impl Points<'_> {
    /// The rows of a frame, made one at a time.
    pub fn of(&self, frame: &Frame) -> impl Iterator<Item = Point> {
        frame.rows.iter().map(|row| {
            let (group, batch) = &self.views[row.group_index];
            point(group, batch, row.row_index)
        })
    }
}

fn point(group: &RowsGroup, batch: &UsageBatch<'_>, row: usize) -> Point {
    let calendar = calendar_attributes(group.period.begin());
    let mut groupby: BTreeMap<String, String> = BTreeMap::new();
    // What is pushed is shown as it was pushed.
    if group.origin == Origin::Collected {
        groupby.extend(calendar.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    if !group.scope_key.is_empty() {
        groupby.insert(group.scope_key.clone(), batch.scope_at(row).to_owned());
    }
    // An attribute the metric itself defines under one of these names is what was measured.
    groupby.extend(attributes_at(batch.groupby(), row));
    Point {
        metric_type: group.metric_type.clone(),
        unit: group.unit.clone(),
        qty: batch.qty_at(row),
        price: batch.price_at(row),
        groupby,
        metadata: attributes_at(batch.metadata(), row).collect(),
    }
}

fn attributes_at<'a>(
    columns: impl Iterator<Item = (&'a str, &'a Attribute)>,
    row: usize,
) -> impl Iterator<Item = (String, String)> {
    columns
        .filter_map(move |(name, column)| Some((name.to_owned(), text_at(column, row)?.to_owned())))
}

pub(super) fn view(group: &RowsGroup) -> Result<UsageBatch<'_>, LedgerError> {
    let damaged = |detail: String| LedgerError::Damaged {
        place: format!("rows of `{}` in {}", group.metric_type, group.period),
        detail,
    };
    let batch = UsageBatch::new(&group.rows).map_err(|error| damaged(error.message))?;
    if batch.price().is_none() {
        return Err(damaged("no column `price`".to_owned()));
    }
    Ok(batch)
}
