use std::collections::BTreeMap;
use std::ops::ControlFlow;

use rated_plugin::UsageBatch;

use super::{Rows, matches_nothing};
use crate::ledger::{Ledger, LedgerError, RowsGroup, RowsQuery};
use crate::usage::Period;

/// Rows of one period that are held at once. A scope that has more of them in one period has
/// several frames of it.
const ROWS_HELD_MAX: usize = 200_000;

/// Rows of one period and scope. They stay in the columns they came in: as points they would take
/// ten times the memory.
#[derive(Debug)]
pub struct Frame<'a> {
    pub period: Period,
    /// Empty = nobody's.
    pub scope: &'a str,
    groups: &'a [Rows<'a>],
    rows: Vec<RowAt>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowAt {
    group_index: usize,
    row_index: usize,
}

impl<'a> Frame<'a> {
    /// The rows, each with the group that it stands in.
    pub fn rows(&self) -> impl Iterator<Item = (&'a Rows<'a>, usize)> {
        self.rows.iter().map(|row| (&self.groups[row.group_index], row.row_index))
    }
}

/// Gives rows as frames, in order of period and scope, to `visit` until it breaks. No more than one
/// period of them is in memory.
pub fn visit_frames(
    ledger: &dyn Ledger,
    query: &RowsQuery,
    visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
) -> Result<(), LedgerError> {
    visit_frames_of(ledger, query, ROWS_HELD_MAX, visit)
}

fn visit_frames_of(
    ledger: &dyn Ledger,
    query: &RowsQuery,
    rows_held_max: usize,
    visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
) -> Result<(), LedgerError> {
    if query.begin >= query.end || matches_nothing(&query.filters) {
        return Ok(());
    }
    let mut held: Vec<RowsGroup> = Vec::new();
    let mut held_rows = 0;
    let mut outcome = Ok(ControlFlow::Continue(()));
    ledger.visit_rows(query, &mut |group| {
        let is_other = held.last().is_some_and(|last| last.period != group.period);
        if is_other || held_rows >= rows_held_max {
            outcome = give(&held, visit);
            (held_rows, held) = (0, Vec::new());
            if !matches!(outcome, Ok(ControlFlow::Continue(()))) {
                return ControlFlow::Break(());
            }
        }
        held_rows += group.rows.num_rows();
        held.push(group);
        ControlFlow::Continue(())
    })?;
    if outcome?.is_continue() {
        // The end is the same for those who have seen enough.
        let _ = give(&held, visit)?;
    }
    Ok(())
}

/// Groups of one period as frames.
fn give(
    groups: &[RowsGroup],
    visit: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, LedgerError> {
    let Some(period) = groups.first().map(|group| group.period) else {
        return Ok(ControlFlow::Continue(()));
    };
    let groups: Vec<Rows<'_>> = groups.iter().map(Rows::new).collect::<Result<_, _>>()?;
    let mut scopes: BTreeMap<&str, Vec<RowAt>> = BTreeMap::new();
    for (group_index, group) in groups.iter().enumerate() {
        for row_index in 0..group.count() {
            let rows = scopes.entry(group.scope(row_index)).or_default();
            rows.push(RowAt { group_index, row_index });
        }
    }
    for (scope, rows) in scopes {
        if visit(&Frame { period, scope, groups: &groups, rows }).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
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
