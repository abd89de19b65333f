//! The chains that rated rows, made again.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::runtime::Handle;

use super::compare::reason_of;
use crate::ledger::{RatedBy, RowsGroup};
use crate::rating::{KeptChain, Rating};

/// Chains that are kept ready: those of the slices of one period.
const CHAINS_MAX: usize = 8;

/// What rates a group as the ledger kept it; or why it cannot be had.
pub(super) type MadeChain = Result<KeptChain, String>;

/// Makes chains, on threads that may block, and keeps the last ones ready.
pub(super) struct Chains<'a> {
    rating: &'a Rating,
    runtime: &'a Handle,
    /// By the begin of the period and what rated it; the newest first.
    ready: VecDeque<(DateTime<Utc>, Arc<[RatedBy]>, MadeChain)>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(rating: &'a Rating, runtime: &'a Handle) -> Chains<'a> {
        Chains { rating, runtime, ready: VecDeque::new() }
    }

    pub(super) fn known(&self, group: &RowsGroup) -> Option<MadeChain> {
        let begin = group.period.begin();
        let mut ready = self.ready.iter();
        let known = ready.find(|(at, by, _)| *at == begin && *by == group.rated_by);
        known.map(|(_, _, made)| made.clone())
    }

    pub(super) fn make(&mut self, group: &RowsGroup) -> MadeChain {
        let made = self.rating.chain_as_kept(group.period.begin(), &group.rated_by);
        let made = self.runtime.block_on(made).map_err(|error| reason_of(&error));
        self.keep(group, made)
    }

    /// What is known of a chain from elsewhere.
    pub(super) fn keep(&mut self, group: &RowsGroup, made: MadeChain) -> MadeChain {
        self.ready.push_front((group.period.begin(), Arc::clone(&group.rated_by), made.clone()));
        self.ready.truncate(CHAINS_MAX);
        made
    }
}
