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

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use rated_plugin::{
    AsOf, Call, Component, Explanation, Host, PriceBatch, Purpose, RateRequest, Rater,
    RatingModule, Request, Response, Result, UsageBatch,
};

pub use crate::price_rule::{Amount, PriceRule};
use crate::rating::PriceList;
pub use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::store::Store;

/// The counter of attributes that a threshold asked for a number and that are none.
pub const NOT_NUMERIC_METRIC: &str = "attribute_not_numeric";

/// The rating module.
#[derive(Debug)]
pub struct Hashmap {
    host: Host,
    store: Store,
    /// The price lists used last, the newest first: period after period has the same, and who
    /// rates an old one again does not push out that of today.
    prepared: Mutex<VecDeque<Arc<Prepared>>>,
}

/// Most price lists kept ready.
const PREPARED_MAX: usize = 4;

/// A price list and what it was made of.
#[derive(Debug)]
struct Prepared {
    revision: u64,
    snapshot: Arc<Snapshot>,
    prices: PriceList,
}

impl Component for Hashmap {
    const NAME: &'static str = "hashmap";
    const SUMMARY: &'static str = "HashMap rating module.";
    const SAMPLE_CONFIG: &'static str = include_str!("../sample.toml");
    type Config = Settings;

    fn create(config: Settings, host: Host) -> Result<Hashmap> {
        let initial = config.to_changes(host.now())?;
        Ok(Hashmap { host, store: Store::new(host, initial), prepared: Mutex::default() })
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
        let at = as_of.at.naive_utc();
        if let Some(prepared) = self.known(as_of.revision, at) {
            return Ok(HashmapRater { host: self.host, prepared });
        }
        let read = self.store.at(as_of.revision)?;
        let prepared = match self.known(read.revision, at) {
            Some(prepared) => prepared,
            None => self.keep(Prepared {
                revision: read.revision,
                prices: PriceList::new(&read.snapshot, at),
                snapshot: read.snapshot,
            }),
        };
        Ok(HashmapRater { host: self.host, prepared })
    }

    fn handle(&self, _call: &Call, request: &Request) -> Result<Response> {
        rest::handle(&self.store, self.host.now(), request)
    }
}

impl Hashmap {
    /// The price list of a revision and a moment, if it is ready.
    fn known(&self, revision: u64, at: chrono::NaiveDateTime) -> Option<Arc<Prepared>> {
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |it: &Arc<Prepared>| it.revision == revision && it.prices.holds(at);
        let index = prepared.iter().position(is_it)?;
        let known = prepared.remove(index)?;
        prepared.push_front(Arc::clone(&known));
        Some(known)
    }

    fn keep(&self, made: Prepared) -> Arc<Prepared> {
        let made = Arc::new(made);
        let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.push_front(Arc::clone(&made));
        prepared.truncate(PREPARED_MAX);
        made
    }
}

/// The rules in force at one moment.
#[derive(Debug)]
pub struct HashmapRater {
    host: Host,
    prepared: Arc<Prepared>,
}

impl Rater for HashmapRater {
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        let view = UsageBatch::new(usage)?;
        let Some(service) = self.prepared.prices.service(&request.metric) else {
            return PriceBatch::unchanged(&view);
        };
        let rated = service.rate(call, usage, &view)?;
        if rated.not_numeric > 0 && request.purpose == Purpose::Period {
            self.host.count(NOT_NUMERIC_METRIC, rated.not_numeric);
        }
        PriceBatch::from_column(rated.prices)
    }

    fn explain(
        &self,
        _call: &Call,
        request: &RateRequest,
        usage: &RecordBatch,
        rows: Range<usize>,
    ) -> Result<Explanation> {
        let part = usage.slice(rows.start, rows.len());
        let view = UsageBatch::new(&part)?;
        let rows = match self.prepared.prices.service(&request.metric) {
            None => vec![Vec::new(); rows.len()],
            Some(service) => service.explain(&self.prepared.snapshot, &part, &view)?,
        };
        Ok(Explanation { rows })
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
