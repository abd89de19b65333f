//! Forgets what is older than somebody wants to keep, in whole months.
//!
//! Rows go first: a slice keeps its sums and loses its blocks. Later the slice goes as a whole, and
//! what was summed up with it. Each step is one short change; `compaction` gives back the room.
//!
//! Months count back from now, or from the last period that is in the ledger if that is older: a
//! clock that runs ahead drops nothing that the ledger has not seen pass. When nothing of it is
//! left, `pruning` goes on with what is kept beside the figures.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::codec::Damage;
use super::data::{self, Month};
use super::inner::Inner;
use super::ledger::SledLedger;
use super::queue::{Company, Stage};
use super::reprocessing::staged_key;
use super::slice::{Slice, SliceKey, size_of_parts, time_bytes};
use super::space::Share;
use super::store::{Table, Write, damaged};
use super::{generations, sums};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Retained, Retention};

/// Most slices of one step.
const STEP_SLICES_MAX: usize = 512;

/// One step of forgetting what begins before a moment.
type Forget = fn(&SledLedger, i64) -> Result<Retained, LedgerError>;

impl SledLedger {
    /// See [`Ledger::retain`](crate::ledger::Ledger::retain).
    pub(super) fn retain_step(
        &self,
        retention: Retention,
        now: DateTime<Utc>,
    ) -> Result<Retained, LedgerError> {
        // Nothing is deleted as long as somebody may want to look for what is missing.
        if !self.inner.is_all_whole() {
            return Ok(Retained::default());
        }
        let Some(seen) = self.inner.seen(now)? else { return Ok(Retained::default()) };
        // What cannot be forgotten keeps nothing else from it.
        match self.drop_months(retention, Month::of(seen.timestamp())) {
            Ok(dropped) if dropped.slices > 0 => Ok(Retained { has_more: true, ..dropped }),
            Ok(_) => self.prune_step(retention, seen),
            Err(error) => self.prune_step(retention, seen).and(Err(error)),
        }
    }

    fn drop_months(&self, retention: Retention, newest: Month) -> Result<Retained, LedgerError> {
        let before = |months: u32| {
            let months = i32::try_from(months).unwrap_or(i32::MAX);
            Month(newest.0.saturating_sub(months)).begin_secs()
        };
        let sums = retention.sums_months.map(before);
        let rows = retention.rows_months.map(before);
        let kinds: [(Option<i64>, Forget); 3] = [
            (sums, SledLedger::drop_slices),
            (sums, SledLedger::drop_old_figures),
            (rows, SledLedger::drop_rows),
        ];
        let mut failure = None;
        for (before_secs, forget) in kinds {
            match before_secs.map(|before_secs| forget(self, before_secs)).transpose() {
                Ok(Some(dropped)) if dropped.slices > 0 => return Ok(dropped),
                Ok(_) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(Retained::default()), Err)
    }

    fn drop_slices(&self, before_secs: i64) -> Result<Retained, LedgerError> {
        let inner = Arc::clone(&self.inner);
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            stage.share = Share::Half;
            let mut slices = Vec::new();
            for slice in inner.slices_in(i64::MIN, before_secs).take(STEP_SLICES_MAX) {
                slices.push(slice?);
            }
            let mut retained = Retained::default();
            for slice in slices {
                let rows = if slice.has_rows() { slice.rows } else { 0 };
                stage.catalog.counters.rows -= rows;
                retained.rows += rows;
                retained.slices += 1;
                sums::forget(stage, slice.period.begin_secs());
                data::bury(stage, slice.data_file(), slice.extent_size());
                stage.journaled.push(Write::remove(Table::Slices, slice.key().bytes()));
            }
            passed(Step::ChangeSlicesForgotten);
            Ok(retained)
        })
    }

    /// What reprocessings have replaced.
    fn drop_old_figures(&self, before_secs: i64) -> Result<Retained, LedgerError> {
        let inner = Arc::clone(&self.inner);
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            let catalog = stage.catalog.clone();
            let reading = inner.reading(&catalog);
            stage.share = Share::Half;
            let mut retained = Retained::default();
            for id in generations::ids_between(reading, (i64::MIN, before_secs)) {
                let id = id?;
                let old = generations::between(reading, id, (i64::MIN, before_secs));
                let slices: Result<Vec<Slice>, LedgerError> = old.take(STEP_SLICES_MAX).collect();
                let slices = slices?;
                if slices.is_empty() {
                    continue;
                }
                for slice in slices {
                    retained.slices += 1;
                    data::bury(stage, slice.data_file(), slice.extent_size());
                    let key = staged_key(id, slice.key());
                    stage.journaled.push(Write::remove(Table::Generations, key));
                }
                passed(Step::ChangeSlicesForgotten);
                break;
            }
            Ok(retained)
        })
    }

    fn drop_rows(&self, before_secs: i64) -> Result<Retained, LedgerError> {
        for slice in self.inner.slices_in(i64::MIN, before_secs) {
            let slice = slice?;
            if !slice.blocks.is_empty() {
                let from_secs = slice.period.begin_secs();
                let inner = Arc::clone(&self.inner);
                return self.change_with(Company::Alone, move |stage: &mut Stage| {
                    stage.share = Share::Half;
                    drop_blocks(&inner, stage, (from_secs, before_secs))
                });
            }
        }
        Ok(Retained::default())
    }
}

fn drop_blocks(
    inner: &Inner,
    stage: &mut Stage,
    (from_secs, before_secs): (i64, i64),
) -> Result<Retained, LedgerError> {
    let mut slices = Vec::new();
    for slice in inner.slices_in(from_secs, before_secs) {
        let slice = slice?;
        if !slice.blocks.is_empty() {
            slices.push(slice);
        }
        if slices.len() >= STEP_SLICES_MAX {
            break;
        }
    }
    let mut retained = Retained::default();
    for mut slice in slices {
        data::bury(stage, slice.data_file(), size_of_parts(&slice.blocks));
        slice.blocks.clear();
        stage.catalog.counters.rows -= slice.rows;
        retained.rows += slice.rows;
        retained.slices += 1;
        stage.journaled.push(Write::put(Table::Slices, slice.key().bytes(), slice.encode()));
    }
    passed(Step::ChangeRowsForgotten);
    Ok(retained)
}

impl Inner {
    fn slices_in(
        &self,
        from_secs: i64,
        before_secs: i64,
    ) -> impl Iterator<Item = Result<Slice, LedgerError>> {
        let range = time_bytes(from_secs).to_vec()..time_bytes(before_secs).to_vec();
        let entries = (from_secs < before_secs).then(|| self.store.range(Table::Slices, range));
        entries.into_iter().flatten().map(|entry| {
            let (key, record) = entry?;
            Slice::decode(&key, &record).map_err(|damage| damaged("a slice".to_owned(), damage))
        })
    }

    /// Now, or the begin of the last period if that is older; `None` = there is none.
    fn seen(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, LedgerError> {
        let last = self.store.prefix(Table::Slices, &[]).next_back();
        let Some(entry) = last else { return Ok(None) };
        let key = SliceKey::read(&entry?.0);
        let wrong = |damage: Damage| damaged("a slice".to_owned(), damage);
        let begin_secs = key.map_err(wrong)?.begin_secs;
        Ok(Some(DateTime::from_timestamp(begin_secs, 0).map_or(now, |begin| begin.min(now))))
    }
}
