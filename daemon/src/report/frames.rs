use std::collections::BTreeMap;

use rated_plugin::{Attribute, UsageBatch, text_at};
use rust_decimal::Decimal;

use crate::ledger::{Ledger, LedgerError, RowsGroup, RowsQuery};
use crate::usage::{Period, calendar_attributes};

use super::matches_nothing;

/// The rows of one period and scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub period: Period,
    pub scope: String,
    pub points: Vec<Point>,
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

/// Frames in order of period and scope, and how many rows there are before paging.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frames {
    pub rows_total: usize,
    pub frames: Vec<Frame>,
}

/// The rows of a page as frames.
pub fn frames(ledger: &dyn Ledger, query: &RowsQuery) -> Result<Frames, LedgerError> {
    if query.begin >= query.end || matches_nothing(&query.filters) {
        return Ok(Frames::default());
    }
    let page = ledger.rows(query)?;
    let mut by_period: BTreeMap<Period, BTreeMap<String, Vec<Point>>> = BTreeMap::new();
    for group in &page.groups {
        let frames = by_period.entry(group.period).or_default();
        for (scope, point) in points(group)? {
            frames.entry(scope).or_default().push(point);
        }
    }
    let frames = by_period.into_iter().flat_map(|(period, scopes)| {
        scopes.into_iter().map(move |(scope, points)| Frame { period, scope, points })
    });
    Ok(Frames { rows_total: page.total, frames: frames.collect() })
}

fn points(group: &RowsGroup) -> Result<Vec<(String, Point)>, LedgerError> {
    let batch = UsageBatch::new(&group.rows).map_err(|error| damaged(group, &error.message))?;
    if batch.price().is_none() {
        return Err(damaged(group, "no column `price`"));
    }
    let calendar = calendar_attributes(group.period.begin());
    let mut points = Vec::with_capacity(batch.rows());
    for row in 0..batch.rows() {
        let scope = batch.scope_at(row);
        let mut groupby: BTreeMap<String, String> =
            calendar.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        groupby.insert(group.scope_key.clone(), scope.to_owned());
        groupby.extend(attributes_at(batch.groupby(), row));
        let point = Point {
            metric_type: group.metric_type.clone(),
            unit: group.unit.clone(),
            qty: batch.qty_at(row),
            price: batch.price_at(row),
            groupby,
            metadata: attributes_at(batch.metadata(), row).collect(),
        };
        points.push((scope.to_owned(), point));
    }
    Ok(points)
}

fn attributes_at<'a>(
    columns: impl Iterator<Item = (&'a str, &'a Attribute)>,
    row: usize,
) -> impl Iterator<Item = (String, String)> {
    columns
        .filter_map(move |(name, column)| Some((name.to_owned(), text_at(column, row)?.to_owned())))
}

fn damaged(group: &RowsGroup, detail: &str) -> LedgerError {
    let place = format!("rows of `{}` in {}", group.metric_type, group.period);
    LedgerError::Damaged { place, detail: detail.to_owned() }
}
