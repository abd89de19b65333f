//! Sets scopes back, or forth, to a moment.

use chrono::{DateTime, Utc};

use super::catalog::{Catalog, ScopeEntry, ScopeNumber};
use super::commit::{Writing, remove_notes};
use super::cursors::Cursor;
use super::query::{Reading, first_second};
use super::queue::Stage;
use super::slice::Slice;
use super::store::Table;
use super::{generations, removal, reprocessing, scopes};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Reset, ResetOutcome};

pub(super) fn reset(
    writing: Writing<'_>,
    stage: &mut Stage,
    reset: &Reset,
) -> Result<ResetOutcome, LedgerError> {
    // Their ids, where they stand, and what may be staged of them.
    let holes = &stage.catalog.holes;
    [Table::Scopes, Table::Cursors, Table::Reprocessings]
        .into_iter()
        .try_for_each(|table| holes.check(table))?;
    let listed = reset.scopes.iter().filter_map(|id| stage.catalog.listed_number(id));
    let mut numbers: Vec<ScopeNumber> = listed.collect();
    numbers.sort_unstable();
    numbers.dedup();
    // All that may fail comes before the first change.
    let catalog = stage.catalog.clone();
    let reading = writing.reading(&catalog);
    let mut rows_removed = 0;
    let mut slices = Vec::new();
    for slice in reading.slices_from(reset.from, DateTime::<Utc>::MAX_UTC) {
        let mut slice = slice?;
        if let Some(rows) = removal::leave_out(reading, &mut slice, &numbers)? {
            rows_removed += rows;
            slices.push(slice);
        }
    }

    let staged = leave_out_staged(reading, &numbers, reset.from)?;
    let old_figures = generations::without_from(reading, &numbers, first_second(reset.from))?;

    stage.catalog.counters.rows -= rows_removed;
    for slice in &slices {
        removal::write(stage, slice);
    }
    for (id, slice) in &staged {
        reprocessing::write_staged(stage, *id, slice);
    }
    for (id, slice) in &old_figures {
        generations::write(stage, *id, slice);
    }
    forget_failures(stage, &numbers, reset.from);
    for number in &numbers {
        set_back(stage, *number, reset);
    }
    passed(Step::ChangeReset);
    Ok(ResetOutcome { scopes_reset: numbers.len(), rows_removed })
}

/// What reprocessings have staged of the periods: it must not take the place of what the cycle will
/// collect, which is newer.
fn leave_out_staged(
    reading: Reading<'_>,
    scopes: &[ScopeNumber],
    from: DateTime<Utc>,
) -> Result<Vec<(u64, Slice)>, LedgerError> {
    let mut changed = Vec::new();
    let reprocessings = reading.catalog.reprocessings.iter();
    for (id, _) in reprocessings.filter(|(_, entry)| !entry.finished) {
        for slice in reprocessing::staged_from(reading, *id, first_second(from)) {
            let mut slice = slice?;
            if removal::leave_out(reading, &mut slice, scopes)?.is_some() {
                changed.push((*id, slice));
            }
        }
    }
    Ok(changed)
}

fn forget_failures(stage: &mut Stage, scopes: &[ScopeNumber], from: DateTime<Utc>) {
    let from_secs = first_second(from);
    let catalog: Catalog = stage.catalog.clone();
    for (metric, notes) in &catalog.notes.by_metric {
        let is_later = |scope: &&ScopeNumber| {
            let note = notes.of_scope.get(*scope).and_then(|note| notes.notes.get(note));
            note.is_some_and(|note| note.begin_secs >= from_secs)
        };
        let forgotten: Vec<ScopeNumber> = scopes.iter().filter(is_later).copied().collect();
        remove_notes(stage, *metric, &forgotten);
    }
}

fn set_back(stage: &mut Stage, scope: ScopeNumber, reset: &Reset) {
    let next_secs = first_begin(reset.from, reset.period_secs);
    let mut has_cursor = false;
    for metric in (0..).take(stage.catalog.cursors.len()) {
        if stage.catalog.known_cursor(metric, scope).is_some() {
            scopes::set_cursor(&mut stage.catalog, metric, scope, Cursor::said(next_secs));
            has_cursor = true;
        }
    }
    let before = &stage.catalog.scopes[scope as usize];
    let mut entry = ScopeEntry { said_processed: Some(reset.from), ..before.clone() };
    if !has_cursor {
        entry.first_period = DateTime::from_timestamp(next_secs, 0).unwrap_or(entry.first_period);
    }
    scopes::put(stage, entry);
}

/// Begin of the first period that does not begin before a moment.
fn first_begin(moment: DateTime<Utc>, period_secs: u32) -> i64 {
    let period_secs = i64::from(period_secs.max(1));
    let secs = first_second(moment);
    let begin = secs.div_euclid(period_secs) * period_secs;
    if begin < secs { begin + period_secs } else { begin }
}
