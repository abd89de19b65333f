//! Forgets what is kept beside the figures, and only for a time: keys of pushes, finished
//! reprocessings, rules that no row needs any more.
//!
//! Once a day, by the time that it is told, everything is looked at, some records at a time; what
//! is beyond its limit goes in short changes:
//!
//! - *keys of pushes*, by age. A push that is repeated later is stored once more.
//! - *finished reprocessings*, the oldest first. One of which figures from before are kept stays
//!   with them (`generations`), and so does the newest: its number is not given again.
//! - *rules*: see `revisions`.
//!
//! Ages count back from now, or from the last period that is in the ledger if that is older, as
//! months do (`retention`). What was looked at is not kept: after a start it begins anew.

use std::sync::{Arc, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};

use super::inner::Inner;
use super::ledger::SledLedger;
use super::queue::{Company, Stage};
use super::space::Share;
use super::store::{Table, Write};
use super::{generations, push, revisions};
use crate::fault::{Step, passed};
use crate::ledger::{LedgerError, Retained, Retention};

/// Most records that are looked at in one step.
pub(super) const STEP_RECORDS_MAX: usize = 4096;
/// Most records that one change removes.
pub(super) const STEP_REMOVED_MAX: usize = 512;
/// Most reprocessings that one change removes: each may name every scope.
const STEP_REPROCESSINGS_MAX: usize = 32;
/// How long after it has begun to look it begins again.
const PAUSE: TimeDelta = TimeDelta::days(1);

/// How far it has looked.
#[derive(Debug, Default)]
pub(super) struct Pruner {
    /// `None` = not since the start, or it has failed.
    begun: Option<DateTime<Utc>>,
    place: Place,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Rest,
    /// From this key on.
    PushKeys(Vec<u8>),
    Reprocessings,
    Rules(revisions::Progress),
}

impl SledLedger {
    /// One step. `seen` = up to when time has passed for certain.
    pub(super) fn prune_step(
        &self,
        retention: Retention,
        seen: DateTime<Utc>,
    ) -> Result<Retained, LedgerError> {
        let mut pruner = self.pruner.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error it begins anew.
        let Pruner { begun, place } = std::mem::take(&mut *pruner);
        let is_fresh = |begun: DateTime<Utc>| begun <= seen && seen < begun + PAUSE;
        if matches!(place, Place::Rest) && begun.is_some_and(is_fresh) {
            pruner.begun = begun;
            return Ok(Retained::default());
        }
        let before = |days: u32| seen.checked_sub_signed(TimeDelta::days(days.into()));
        let mut retained = Retained::default();
        let (begun, place) = match place {
            Place::Rest => (Some(seen), Place::PushKeys(Vec::new())),
            Place::PushKeys(from) => {
                let next = match retention.push_keys_days.and_then(before) {
                    Some(before) => self.forget_push_keys(from, before, &mut retained)?,
                    None => None,
                };
                (begun, next.map_or(Place::Reprocessings, Place::PushKeys))
            }
            Place::Reprocessings => {
                if let Some(kept) = retention.reprocessings {
                    retained.reprocessings = self.forget_reprocessings(kept as usize)?;
                }
                let is_through = retained.reprocessings < STEP_REPROCESSINGS_MAX as u64;
                let rules = || Place::Rules(revisions::Progress::default());
                (begun, if is_through { rules() } else { Place::Reprocessings })
            }
            Place::Rules(progress) => {
                let next = match retention.rules_days.and_then(before) {
                    Some(before) => self.forget_rules(progress, before, &mut retained)?,
                    None => None,
                };
                (begun, next.map_or(Place::Rest, Place::Rules))
            }
        };
        retained.has_more = !matches!(place, Place::Rest);
        *pruner = Pruner { begun, place };
        Ok(retained)
    }

    /// Where to go on; `None` = all were looked at.
    fn forget_push_keys(
        &self,
        from: Vec<u8>,
        before: DateTime<Utc>,
        retained: &mut Retained,
    ) -> Result<Option<Vec<u8>>, LedgerError> {
        let mut next = None;
        let mut old = Vec::new();
        for entry in self.inner.store.range(Table::Pushes, from..).take(STEP_RECORDS_MAX) {
            let (key, record) = entry?;
            next = Some([key.as_ref(), &[0]].concat());
            // A damaged one stays; `verify` names it.
            let Ok(at) = push::decode_time(&record) else { continue };
            if at < before {
                old.push(key.to_vec());
            }
            if old.len() >= STEP_REMOVED_MAX {
                break;
            }
        }
        retained.push_keys = old.len() as u64;
        if !old.is_empty() {
            // Nobody else removes or replaces one.
            self.change_with(Company::Alone, move |stage: &mut Stage| {
                stage.share = Share::Half;
                let removals = old.into_iter().map(|key| Write::remove(Table::Pushes, key));
                stage.journaled.extend(removals);
                passed(Step::ChangePushKeysForgotten);
                Ok(())
            })?;
        }
        Ok(next)
    }

    /// How many went.
    fn forget_reprocessings(&self, kept: usize) -> Result<u64, LedgerError> {
        let inner = Arc::clone(&self.inner);
        if inner.catalog().reprocessings.len() <= kept {
            return Ok(0);
        }
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            stage.share = Share::Half;
            let old = inner.reprocessings_beyond(stage, kept)?;
            // All that may fail comes before the first change.
            let mut keys = Vec::new();
            for id in &old {
                for entry in inner.store.prefix(Table::Reprocessings, &id.to_be_bytes()) {
                    keys.push(entry?.0.to_vec());
                }
            }
            let removals = keys.into_iter().map(|key| Write::remove(Table::Reprocessings, key));
            stage.journaled.extend(removals);
            if !old.is_empty() {
                let reprocessings = Arc::make_mut(&mut stage.catalog.reprocessings);
                reprocessings.retain(|id, _| !old.contains(id));
                passed(Step::ChangeReprocessingsForgotten);
            }
            Ok(old.len() as u64)
        })
    }
}

impl Inner {
    /// The oldest of those that are more than is kept, some of them.
    fn reprocessings_beyond(&self, stage: &Stage, kept: usize) -> Result<Vec<u64>, LedgerError> {
        let catalog = &stage.catalog;
        let reading = self.reading(catalog);
        let newest = catalog.reprocessings.last_key_value().map(|(id, _)| *id);
        let finished = catalog.reprocessings.iter().filter(|(_, entry)| entry.finished);
        let finished: Vec<u64> = finished.map(|(id, _)| *id).collect();
        let mut old = Vec::new();
        for id in &finished[..finished.len().saturating_sub(kept)] {
            let mut figures = generations::between(reading, *id, (i64::MIN, i64::MAX));
            if Some(*id) != newest && figures.next().transpose()?.is_none() {
                old.push(*id);
            }
            if old.len() >= STEP_REPROCESSINGS_MAX {
                break;
            }
        }
        Ok(old)
    }
}
