//! The end of a reprocessing: what it staged takes the place of what was collected before.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::{Catalog, MetricNumber, ReprocessingEntry, ScopeNumber};
use super::commit::Writing;
use super::query::Reading;
use super::queue::Stage;
use super::rollup::RollupEntry;
use super::slice::{Slice, SliceKey};
use super::store::{Table, Write};
use super::{generations, removal, reprocessing};
use crate::fault::{Step, passed};
use crate::ledger::{Fact, LedgerError, Origin};
use crate::usage::Period;

pub(super) fn finish(writing: Writing<'_>, stage: &mut Stage, id: u64) -> Result<(), LedgerError> {
    let catalog: Catalog = stage.catalog.clone();
    let entry = reprocessing::open_entry(&catalog, id)?;
    let reading = writing.reading(&catalog);
    let members = entry.scopes.iter().copied().collect();
    let mut swap = Swap {
        reading,
        members,
        staged: Vec::new(),
        older: Older::default(),
        dropped: BTreeMap::new(),
    };
    // All that may fail comes before the first change.
    for slice in reprocessing::staged_from(reading, id, i64::MIN) {
        swap.take(slice?)?;
    }

    let Swap { staged, older, dropped, .. } = swap;
    let old_figures = generations::without(reading, id, &dropped)?;

    let rows = &mut stage.catalog.counters.rows;
    *rows += staged.iter().map(|slice| slice.rows).sum::<u64>();
    *rows -= older.rows_removed;
    for slice in older.changed.values().chain(&staged) {
        removal::write(stage, slice);
    }
    for slice in &staged {
        let key = reprocessing::staged_key(id, slice.key());
        stage.journaled.push(Write::remove(Table::Staged, key));
    }
    for slice in &old_figures {
        generations::write(stage, id, slice);
    }
    reprocessing::put(stage, id, ReprocessingEntry { finished: true, ..entry.clone() });
    stage.catalog.reprocessings_finished += 1;
    passed(Step::ChangeSwapped);
    Ok(())
}

struct Swap<'a> {
    reading: Reading<'a>,
    members: BTreeSet<ScopeNumber>,
    /// What is left of them.
    staged: Vec<Slice>,
    older: Older,
    /// Staged scopes that replace nothing.
    dropped: BTreeMap<(MetricNumber, Period), Vec<ScopeNumber>>,
}

impl Swap<'_> {
    fn take(&mut self, mut slice: Slice) -> Result<(), LedgerError> {
        let (mut taken, mut dropped) = (Vec::new(), Vec::new());
        for part in 0..slice.rollups.len() {
            for entry in self.reading.rollup(&slice, part)? {
                let list = if self.replaces(&slice, &entry)? { &mut taken } else { &mut dropped };
                list.push(entry.scope);
            }
        }
        removal::leave_out(self.reading, &mut slice, &dropped)?;
        self.older.leave_out(self.reading, &slice, &taken)?;
        if !dropped.is_empty() {
            let of_place = self.dropped.entry((slice.metric, slice.period)).or_default();
            of_place.append(&mut dropped);
            of_place.sort_unstable();
        }
        self.staged.push(slice);
        Ok(())
    }

    /// Whether a staged scope takes the place of what was collected: it belongs to the
    /// reprocessing (still), the source knew something, and the cycle is past the period.
    fn replaces(&self, slice: &Slice, entry: &RollupEntry) -> Result<bool, LedgerError> {
        let cursor = self.reading.catalog.cursor(slice.metric, entry.scope)?;
        Ok(self.members.contains(&entry.scope)
            && entry.fact != Fact::Lost
            && cursor.is_some_and(|cursor| cursor.next_secs() > slice.period.begin_secs()))
    }
}

/// Slices that are replaced in part or wholly.
#[derive(Default)]
struct Older {
    /// Staged slices come in order of their periods: what was collected of one is read once.
    period: Option<Period>,
    collected: Vec<Slice>,
    changed: BTreeMap<SliceKey, Slice>,
    rows_removed: u64,
}

impl Older {
    fn leave_out(
        &mut self,
        reading: Reading<'_>,
        new: &Slice,
        scopes: &[ScopeNumber],
    ) -> Result<(), LedgerError> {
        if self.period != Some(new.period) {
            self.read(reading, new.period)?;
        }
        for slice in self.collected.iter_mut().filter(|slice| slice.metric == new.metric) {
            if let Some(rows) = removal::leave_out(reading, slice, scopes)? {
                self.rows_removed += rows;
                self.changed.insert(slice.key(), slice.clone());
            }
        }
        Ok(())
    }

    /// What begins within a period: once periods were shorter than they are now, several.
    fn read(&mut self, reading: Reading<'_>, period: Period) -> Result<(), LedgerError> {
        self.collected.clear();
        self.period = Some(period);
        for slice in reading.slices_from(period.begin(), period.end()) {
            let slice = slice?;
            if slice.origin == Origin::Collected {
                self.collected.push(self.changed.get(&slice.key()).cloned().unwrap_or(slice));
            }
        }
        Ok(())
    }
}
