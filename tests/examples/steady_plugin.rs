//! A source that answers at once and always the same: usage is worked out from metric, scope and
//! period. Nothing else is to be waited for when a daemon is killed, or measured under load.

use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use rated_plugin::{
    Batches, Call, CollectRequest, Collector, Component, Decimal, Error, Fetcher, Host, Result,
    UsageBuilder,
};
use serde::Deserialize;

#[path = "../src/steady.rs"]
mod steady;

/// How many flavors there are.
const FLAVORS: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceSettings {
    /// Of each scope.
    #[serde(default = "one")]
    resources: usize,
    /// From then on nothing was used; a date with its zone.
    end: Option<String>,
    /// The first question in the life of the process fails.
    #[serde(default)]
    fails_once: bool,
}

fn one() -> usize {
    1
}

#[derive(Debug)]
struct Source {
    resources: usize,
    end: Option<DateTime<Utc>>,
    fails_next: AtomicBool,
}

impl Component for Source {
    const NAME: &'static str = "steady";
    const SUMMARY: &'static str = "Usage that follows from metric, scope and period.";
    const SAMPLE_CONFIG: &'static str = "resources = 1\n";
    type Config = SourceSettings;

    fn create(settings: SourceSettings, _: Host) -> Result<Source> {
        let end = settings.end.as_deref().map(DateTime::parse_from_rfc3339).transpose();
        let end = end.map_err(|_| Error::invalid_config("`end`: is no date with a zone"))?;
        Ok(Source {
            resources: settings.resources,
            end: end.map(|end| end.with_timezone(&Utc)),
            fails_next: AtomicBool::new(settings.fails_once),
        })
    }
}

impl Collector for Source {
    fn collect(&self, _: &Call, request: &CollectRequest) -> Result<Batches> {
        if self.fails_next.swap(false, Ordering::Relaxed) {
            return Err(Error::unavailable("it is the first time"));
        }
        let metric = &request.metric;
        let mut rows = UsageBuilder::new(&metric.groupby, &metric.metadata);
        let is_over = self.end.is_some_and(|end| request.begin >= end);
        let resources = if is_over { 0 } else { self.resources };
        let names: Vec<&String> = metric.groupby.iter().chain(&metric.metadata).collect();
        for scope in &request.scopes {
            for resource in 0..resources {
                let used = steady::steady_quantity(&metric.name, scope, resource, request.begin);
                let id = format!("{scope}-{resource}");
                let flavor = format!("f{}", (scope.len() + resource) % FLAVORS);
                let value = |name: &&String| Some(if *name == "id" { &*id } else { &*flavor });
                let attributes: Vec<Option<&str>> = names.iter().map(value).collect();
                rows.push(scope, Decimal::from_i128_with_scale(used.into(), 4), &attributes)?;
            }
        }
        Ok(Batches::one(rows.finish()?))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FinderSettings {
    scopes: usize,
}

#[derive(Debug)]
struct Finder {
    scopes: usize,
}

impl Component for Finder {
    const NAME: &'static str = "steady";
    const SUMMARY: &'static str = "Finds as many scopes as it is told.";
    const SAMPLE_CONFIG: &'static str = "scopes = 3\n";
    type Config = FinderSettings;

    fn create(settings: FinderSettings, _: Host) -> Result<Finder> {
        Ok(Finder { scopes: settings.scopes })
    }
}

impl Fetcher for Finder {
    fn scopes(&self, _: &Call) -> Result<Batches> {
        Ok(Batches::scopes((0..self.scopes).map(steady::steady_scope)))
    }
}

rated_plugin::export! {
    collectors: [Source],
    fetchers: [Finder],
}
