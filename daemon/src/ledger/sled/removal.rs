//! Leaving scopes out of slices that are in the ledger.

use super::catalog::ScopeNumber;
use super::query::Reading;
use super::queue::Stage;
use super::slice::Slice;
use super::store::{Table, Write};
use super::{data, sums};
use crate::ledger::LedgerError;

/// Leaves scopes (ascending) out of a slice. How many rows of theirs were there; `None` = the slice
/// knew none of them.
pub(super) fn leave_out(
    reading: Reading<'_>,
    slice: &mut Slice,
    scopes: &[ScopeNumber],
) -> Result<Option<u64>, LedgerError> {
    let mut removed = Vec::new();
    let mut rows = 0;
    for index in 0..slice.rollups.len() {
        let part = slice.rollups[index];
        let at = scopes.partition_point(|scope| *scope < part.first_scope);
        if scopes.get(at).is_none_or(|scope| *scope > part.last_scope) {
            continue;
        }
        for entry in reading.rollup(slice, index)? {
            if scopes.binary_search(&entry.scope).is_ok() {
                removed.push(entry.scope);
                rows += entry.sums.rows;
                slice.qty -= entry.sums.qty;
                slice.price -= entry.sums.price;
            }
        }
    }
    if removed.is_empty() {
        return Ok(None);
    }
    let rows_there = if slice.has_rows() { rows } else { 0 };
    slice.rows -= rows;
    slice.scopes -= removed.len() as u64;
    slice.removed.add(removed);
    Ok(Some(rows_there))
}

/// The record of a slice that scopes were left out of; none when no scope is left.
pub(super) fn write(stage: &mut Stage, slice: &Slice) {
    sums::forget(stage, slice.period.begin_secs());
    let key = slice.key().bytes();
    if slice.scopes > 0 {
        stage.journaled.push(Write::put(Table::Slices, key, slice.encode()));
        return;
    }
    data::bury(stage, slice.data_file(), slice.extent_size());
    stage.journaled.push(Write::remove(Table::Slices, key));
}
