//! Collected rows of some scopes become a rated slice.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::{BooleanArray, RecordBatch};
use arrow_select::filter::filter_record_batch;
use rated_plugin::{Purpose, RateRequest};

use crate::ledger::{Fact, RatedSlice, SliceScope};
use crate::rating::{Chain, RatingError};
use crate::usage::{
    Converter, Metric, Period, ScopeId, scope_ids, shape, with_decimals, with_unit,
};

/// What the rows of a slice have in common.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) metric: Arc<Metric>,
    pub(super) converter: Arc<Converter>,
    pub(super) period: Period,
    pub(super) scope_key: Arc<str>,
    pub(super) chain: Arc<Chain>,
    /// As they came from the collector.
    pub(super) batches: Arc<[RecordBatch]>,
}

impl Rows {
    /// The rows of these scopes, converted and rated; rows of others are left out.
    pub(super) async fn rate(self, scopes: Vec<ScopeId>) -> Result<RatedSlice, RatingError> {
        let rows = self.clone();
        let (scopes, batches) = tokio::task::spawn_blocking(move || rows.convert(scopes))
            .await
            .map_err(|_| RatingError::Interrupted)?
            .map_err(RatingError::Rows)?;
        let request = RateRequest {
            purpose: Purpose::Period,
            metric: self.metric.id.alt_name.clone(),
            begin: self.period.begin(),
            end: self.period.end(),
        };
        let mut rated = Vec::with_capacity(batches.len());
        for batch in batches {
            let batch = with_unit(&batch, &self.metric.unit).map_err(RatingError::Rows)?;
            let parts = self.chain.rate_in_parts(&request, Some(&self.scope_key), batch).await?;
            for (part, prices) in parts {
                rated.push(with_decimals(&part, "price", prices).map_err(RatingError::Rows)?);
            }
        }
        Ok(RatedSlice {
            metric: self.metric.id.clone(),
            unit: self.metric.unit.clone(),
            description: self.metric.description.clone(),
            period: self.period,
            scopes,
            rows: rated,
            rated_by: Arc::clone(self.chain.rated_by()),
            rated_scope_key: Some(Arc::clone(&self.scope_key)),
        })
    }

    /// What is known of each of these scopes, and their rows.
    fn convert(
        &self,
        scopes: Vec<ScopeId>,
    ) -> rated_plugin::Result<(Vec<SliceScope>, Vec<RecordBatch>)> {
        let places: HashMap<&str, usize> =
            scopes.iter().enumerate().map(|(place, id)| (id.as_str(), place)).collect();
        let mut has_quantity = vec![None; scopes.len()];
        let mut batches = Vec::with_capacity(self.batches.len());
        for batch in self.batches.iter() {
            let scope_ids = scope_ids(batch)?;
            let place = |text: Option<&str>| text.and_then(|text| places.get(text).copied());
            let place_by_code: Vec<Option<usize>> = scope_ids.texts.iter().map(place).collect();
            let Some(batch) = only(batch, scope_ids.codes, &place_by_code)? else { continue };
            let converted = self.converter.convert(&batch)?;
            batches.extend(converted.batches);
            for (place, has) in place_by_code.into_iter().zip(converted.has_quantity) {
                if let Some(place) = place {
                    // Two codes, or batches, may speak of the same scope.
                    has_quantity[place] = has.max(has_quantity[place]);
                }
            }
        }
        let fact = |(id, has_quantity)| {
            let fact = match has_quantity {
                None => Fact::NoData,
                Some(false) => Fact::Zero,
                Some(true) => Fact::Collected,
            };
            SliceScope { id, fact }
        };
        drop(places);
        Ok((scopes.into_iter().zip(has_quantity).map(fact).collect(), batches))
    }
}

/// The rows whose scope has a place; `None` = there are none.
fn only(
    batch: &RecordBatch,
    codes: &[i32],
    place_by_code: &[Option<usize>],
) -> rated_plugin::Result<Option<RecordBatch>> {
    let keep = |code: &i32| {
        let code = usize::try_from(*code).ok();
        code.and_then(|code| place_by_code.get(code)).is_some_and(Option::is_some)
    };
    let kept = codes.iter().filter(|code| keep(code)).count();
    if kept == 0 {
        return Ok(None);
    }
    if kept == batch.num_rows() {
        return Ok(Some(batch.clone()));
    }
    let mask: BooleanArray = codes.iter().map(|code| Some(keep(code))).collect();
    filter_record_batch(batch, &mask).map(Some).map_err(shape)
}

/// What the ledger shall know of a period that can never be collected.
pub(super) fn lost(metric: &Metric, period: Period, scopes: &[ScopeId]) -> RatedSlice {
    let lost = |id: &ScopeId| SliceScope { id: id.clone(), fact: Fact::Lost };
    RatedSlice {
        metric: metric.id.clone(),
        unit: metric.unit.clone(),
        description: metric.description.clone(),
        period,
        scopes: scopes.iter().map(lost).collect(),
        rows: Vec::new(),
        rated_by: Arc::new([]),
        rated_scope_key: None,
    }
}
