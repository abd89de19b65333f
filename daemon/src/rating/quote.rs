use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use rated_plugin::{Purpose, RateRequest, UsageBuilder};
use rust_decimal::Decimal;

use super::{Chain, Rating, RatingError};
use crate::usage::{ScopeId, Sum};

/// Something whose price is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuoteResource {
    /// A metric type.
    pub service: String,
    pub attributes: BTreeMap<String, String>,
    pub volume: Decimal,
    /// Whose rules hold beside everybody's.
    pub scope: Option<ScopeId>,
}

/// A quote is for this long from now on; rules see it as the period's length only.
const QUOTE_PERIOD: TimeDelta = TimeDelta::hours(1);

impl Rating {
    /// What the resources cost together by the rules in force at `now`.
    pub async fn quote(
        &self,
        now: DateTime<Utc>,
        resources: Vec<QuoteResource>,
    ) -> Result<Sum, RatingError> {
        let chain = self.chain_once(now).await?;
        let mut by_service: BTreeMap<String, Vec<QuoteResource>> = BTreeMap::new();
        for resource in resources {
            by_service.entry(resource.service.clone()).or_default().push(resource);
        }
        let mut total = Sum::ZERO;
        for (service, resources) in by_service {
            total += quote_service(&chain, now, service, &resources).await?;
        }
        Ok(total)
    }
}

async fn quote_service(
    chain: &Chain,
    now: DateTime<Utc>,
    service: String,
    resources: &[QuoteResource],
) -> Result<Sum, RatingError> {
    let names: BTreeSet<&str> = resources
        .iter()
        .flat_map(|resource| resource.attributes.keys())
        .map(String::as_str)
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let mut rows = UsageBuilder::new(&names, &[]);
    for resource in resources {
        let values: Vec<Option<&str>> =
            names.iter().map(|name| resource.attributes.get(*name).map(String::as_str)).collect();
        // No scope: a text that no scope has, so that nobody's own rules hold.
        let scope_id = resource.scope.as_ref().map_or("", ScopeId::as_str);
        rows.push(scope_id, resource.volume, &values).map_err(RatingError::Rows)?;
    }
    let rows = rows.finish().map_err(RatingError::Rows)?;
    let request = RateRequest {
        purpose: Purpose::Quote,
        metric: service,
        begin: now,
        end: now + QUOTE_PERIOD,
    };
    let prices = chain.rate(&request, None, &rows).await?;
    let scale = u8::try_from(prices.scale()).unwrap_or(0);
    Ok(prices.values().iter().map(|price| Sum::from_scaled(*price, scale)).sum())
}
