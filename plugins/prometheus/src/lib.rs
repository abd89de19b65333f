//! Usage from a Prometheus server: a collector and a fetcher.
//!
//! The same queries as `CloudKitty`'s, so the same bills, but one query for many scopes. An answer
//! that is broken, partial or doubtful in any row is an error, never "no data".
//!
//! It does not convert units and does not know prices; it keeps no state but its configuration.
#![forbid(unsafe_code)]

mod answer;
mod collector;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
#[cfg(test)]
mod pauses;
mod query;
#[cfg(test)]
mod recorded;
mod scopes;
mod series;
#[cfg(test)]
mod series_tests;
mod server;
mod settings;

pub use collector::{CollectorSettings, PrometheusCollector};
pub use scopes::{PrometheusScopes, ScopesSettings};

rated_plugin::export! {
    collectors: [PrometheusCollector],
    fetchers: [PrometheusScopes],
    requires: [http],
}
