use std::collections::VecDeque;
use std::sync::Arc;

use arrow_array::{Decimal128Array, RecordBatch};
use chrono::{DateTime, Utc};
use rated_plugin::{AsOf, RateRequest};

use super::{CallFailure, ModuleSet, Rater, RatingError, columns};
use crate::ledger::RatedBy;
use crate::usage::with_decimals;

/// Chains kept ready: one for each period under way, many more than periods that are under way at
/// once.
const CHAINS_MAX: usize = 64;

/// What a chain is made of; equal keys and instants give equal prices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ChainKey {
    pub generation: u64,
    /// The enabled modules in the order of the chain, each with the revision of its rules.
    pub modules: Vec<(String, u64)>,
}

/// The enabled modules with their rules at one instant. Rates from any number of tasks at once.
#[derive(Debug)]
pub struct Chain {
    pub(super) raters: Vec<(String, Arc<dyn Rater>)>,
    pub(super) rated_by: Arc<[RatedBy]>,
}

impl Chain {
    pub(super) async fn prepare(
        at: DateTime<Utc>,
        key: &ChainKey,
        set: &ModuleSet,
    ) -> Result<Chain, RatingError> {
        let mut raters = Vec::with_capacity(key.modules.len());
        let mut rated_by = Vec::with_capacity(key.modules.len());
        for (name, revision) in &key.modules {
            let module = set
                .modules
                .iter()
                .find(|module| module.name() == name)
                .expect("the key was made from this set");
            let rater = module
                .prepare(AsOf { at, revision: *revision })
                .await
                .map_err(|failure| RatingError::Call { module: name.clone(), failure })?;
            raters.push((name.clone(), rater));
            rated_by.push(RatedBy {
                module: name.clone(),
                revision: *revision,
                library: module.library_sha256().to_owned(),
                config: module.config_sha256().to_owned(),
            });
        }
        Ok(Chain { raters, rated_by: rated_by.into() })
    }

    /// What rates, in the order of the chain; goes into the ledger beside the rows.
    pub fn rated_by(&self) -> &Arc<[RatedBy]> {
        &self.rated_by
    }

    /// The prices of the rows of `usage` (schema `usage/1` without `price`), one for each row.
    pub async fn rate(
        &self,
        request: &RateRequest,
        scope_key: Option<&str>,
        usage: &RecordBatch,
    ) -> Result<Decimal128Array, RatingError> {
        let mut prices = columns::zero_prices(usage.num_rows());
        if self.raters.is_empty() || usage.num_rows() == 0 {
            return Ok(prices);
        }
        let visible =
            columns::with_derived(usage, scope_key, request.begin).map_err(RatingError::Rows)?;
        for (name, rater) in &self.raters {
            let rows = with_decimals(&visible, "price", prices).map_err(RatingError::Rows)?;
            let call = |failure| RatingError::Call { module: name.clone(), failure };
            let answer = rater.rate(request.clone(), rows).await.map_err(call)?;
            prices = columns::prices(&answer, usage.num_rows())
                .map_err(|error| call(CallFailure::from(error)))?;
        }
        Ok(prices)
    }

    /// The same in halves where a module asks for fewer rows at a time: the parts of the batch in
    /// their order, each with its prices.
    pub async fn rate_in_parts(
        &self,
        request: &RateRequest,
        scope_key: Option<&str>,
        usage: RecordBatch,
    ) -> Result<Vec<(RecordBatch, Decimal128Array)>, RatingError> {
        let (mut left, mut rated) = (vec![usage], Vec::new());
        while let Some(part) = left.pop() {
            match self.rate(request, scope_key, &part).await {
                Ok(prices) => rated.push((part, prices)),
                Err(error) if error.asks_for_less() && part.num_rows() > 1 => {
                    let half = part.num_rows() / 2;
                    left.push(part.slice(half, part.num_rows() - half));
                    left.push(part.slice(0, half));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(rated)
    }
}

/// The chains made last, of one state of the world.
#[derive(Debug, Default)]
pub(super) struct ChainCache {
    key: Option<ChainKey>,
    /// Newest last.
    chains: VecDeque<(DateTime<Utc>, Arc<Chain>)>,
}

impl ChainCache {
    pub(super) fn get(&self, at: DateTime<Utc>, key: &ChainKey) -> Option<Arc<Chain>> {
        if self.key.as_ref() != Some(key) {
            return None;
        }
        self.chains.iter().find(|(made_for, _)| *made_for == at).map(|(_, chain)| Arc::clone(chain))
    }

    pub(super) fn put(&mut self, at: DateTime<Utc>, key: ChainKey, chain: Arc<Chain>) {
        if self.key.as_ref() != Some(&key) {
            // Chains of an older world are never asked for again; keeping them would hold old
            // libraries' instances.
            self.chains.clear();
            self.key = Some(key);
        }
        self.chains.push_back((at, chain));
        while self.chains.len() > CHAINS_MAX {
            self.chains.pop_front();
        }
    }
}
