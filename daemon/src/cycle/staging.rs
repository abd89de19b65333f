//! What a reprocessing asks of the ledger; every call blocks.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use super::commit::is_of_the_data;
use super::failure::text_of;
use super::world::{Routes, routes};
use crate::config::CollectConfig;
use crate::fault::{Step, passed};
use crate::ledger::{
    Cursors, Held, Ledger, LedgerError, OpenReprocessings, RatedSlice, Reprocessing,
};
use crate::usage::ScopeId;

#[derive(Debug)]
pub(super) enum Ask {
    Look,
    Stage { id: u64, slices: Vec<RatedSlice> },
    EndPeriod { id: u64, begin: DateTime<Utc>, put_off: Vec<ScopeId>, is_last: bool },
}

#[derive(Debug)]
pub(super) enum Answer {
    Seen(Box<Seen>),
    Staged,
    PeriodEnded {
        put_off_as: Option<u64>,
        is_finished: bool,
    },
    /// There is no such reprocessing any more.
    Gone,
}

/// What matters of the ledger.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// In order of creation.
    pub(super) unfinished: Vec<Reprocessing>,
    /// Ids of those that wait beside damage.
    pub(super) held: BTreeMap<u64, Held>,
    pub(super) active: HashSet<ScopeId>,
    pub(super) routes: Routes,
}

#[derive(Debug)]
pub(super) struct AskFailure {
    /// The ledger does not keep such rows; else it failed.
    pub(super) is_of_the_data: bool,
    pub(super) reason: String,
}

impl AskFailure {
    pub(super) fn of_our_panic() -> AskFailure {
        let reason = "a thread that uses the ledger ended early".to_owned();
        AskFailure { is_of_the_data: false, reason }
    }
}

pub(super) fn ask(
    ledger: &dyn Ledger,
    collect: &CollectConfig,
    ask: Ask,
) -> Result<Answer, AskFailure> {
    match answer(ledger, collect, ask) {
        Err(LedgerError::UnknownReprocessing(_)) => Ok(Answer::Gone),
        other => other.map_err(|error| AskFailure {
            is_of_the_data: is_of_the_data(&error),
            reason: text_of(&error),
        }),
    }
}

fn answer(ledger: &dyn Ledger, collect: &CollectConfig, ask: Ask) -> Result<Answer, LedgerError> {
    match ask {
        Ask::Look => {
            let OpenReprocessings { open: unfinished, held } = ledger.open_reprocessings()?;
            // Without work nobody needs the rest.
            if unfinished.is_empty() {
                return Ok(Answer::Seen(Box::new(Seen { held, ..Seen::default() })));
            }
            let Cursors { scopes, active, .. } = ledger.cursors()?;
            let active = scopes.into_iter().zip(active).filter(|(_, active)| *active);
            let active = active.map(|(id, _)| id).collect();
            let routes = routes(ledger, collect)?;
            Ok(Answer::Seen(Box::new(Seen { unfinished, held, active, routes })))
        }
        Ask::Stage { id, slices } => {
            ledger.stage_reprocessed(id, slices)?;
            Ok(Answer::Staged)
        }
        Ask::EndPeriod { id, begin, put_off, is_last } => {
            let put_off_as = ledger.advance_reprocessing(id, begin, &put_off)?;
            passed(Step::ReprocessPeriodStaged);
            if is_last {
                ledger.finish_reprocessing(id)?;
                passed(Step::ReprocessSwapped);
            }
            Ok(Answer::PeriodEnded { put_off_as, is_finished: is_last })
        }
    }
}
