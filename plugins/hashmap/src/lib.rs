//! Prices by what a resource is and how much of it was used: the rating module `hashmap`.
//!
//! Rules hang on a metric type (a *service*) or on one of its attributes (a *field*), may be in a
//! *group* and may be for one scope alone. *Mappings* price what a resource is, *thresholds* how
//! much of it there is. They are changed over REST while the daemon runs, and kept by the daemon
//! with all their history: what a rule was when a period was rated can be read again.
//!
//! It never keeps anything itself, never reads the clock but through the host, and never rounds but
//! where [`rated_plugin::decimal`] does.

#![forbid(unsafe_code)]

mod amount;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod moment;
mod price_rule;
mod prices;
mod rating;
mod record;
mod rest;
mod settings;
mod snapshot;
mod store;

use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use rated_plugin::{
    AsOf, Call, Component, Host, PriceBatch, Purpose, RateRequest, Rater, RatingModule, Request,
    Response, Result, UsageBatch,
};

pub use crate::price_rule::{Amount, PriceRule};
use crate::rating::PriceList;
pub use crate::settings::Settings;
use crate::store::Store;

/// The counter of attributes that a threshold asked for a number and that are none.
pub const NOT_NUMERIC_METRIC: &str = "attribute_not_numeric";

/// The rating module.
#[derive(Debug)]
pub struct Hashmap {
    host: Host,
    store: Store,
    /// The last price list made and the revision it was made of: period after period has the same.
    prepared: Mutex<Option<(u64, Arc<PriceList>)>>,
}

impl Component for Hashmap {
    const NAME: &'static str = "hashmap";
    const SUMMARY: &'static str = "HashMap rating module.";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = Settings;

    fn create(config: Settings, host: Host) -> Result<Hashmap> {
        let initial = config.to_changes(host.now())?;
        Ok(Hashmap { host, store: Store::new(host, initial), prepared: Mutex::new(None) })
    }

    /// Also writes the configured price list down, if nothing was ever written.
    fn check(&self, _call: &Call) -> Result<()> {
        self.store.newest().map(|_| ())
    }
}

impl RatingModule for Hashmap {
    type Rater = HashmapRater;
    const HOT_CONFIG: bool = true;
    const API_SCHEMA: &'static str = include_str!("rest/openapi.json");

    fn prepare(&self, _call: &Call, as_of: AsOf) -> Result<HashmapRater> {
        let read = self.store.at(as_of.revision)?;
        let at = as_of.at.naive_utc();
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let known = prepared
            .take()
            .filter(|(revision, prices)| *revision == read.revision && prices.holds(at));
        let prices = match known {
            Some((_, prices)) => prices,
            None => Arc::new(PriceList::new(&read.snapshot, at)),
        };
        *prepared = Some((read.revision, Arc::clone(&prices)));
        Ok(HashmapRater { host: self.host, prices })
    }

    fn handle(&self, _call: &Call, request: &Request) -> Result<Response> {
        rest::handle(&self.store, self.host.now(), request)
    }
}

/// The rules in force at one moment.
#[derive(Debug)]
pub struct HashmapRater {
    host: Host,
    prices: Arc<PriceList>,
}

impl Rater for HashmapRater {
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let view = UsageBatch::new(usage)?;
        let Some(service) = self.prices.service(&request.metric) else {
            return PriceBatch::unchanged(&view);
        };
        let rated = service.rate(call, usage, &view)?;
        if rated.not_numeric > 0 && request.purpose != Purpose::Quote {
            self.host.count(NOT_NUMERIC_METRIC, rated.not_numeric);
        }
        PriceBatch::from_column(rated.prices)
    }
}

rated_plugin::export! {
    rating_modules: [Hashmap],
    requires: [kv],
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_the_sample() {
        assert!(include_str!("../README.md").contains(include_str!("../sample.toml")));
    }

    #[test]
    fn it_conforms() {
        rated_plugin::testing::conformance(super::plugin_decl());
    }
}
