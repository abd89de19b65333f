//! Usage from Gnocchi, scopes from Gnocchi or Keystone: a collector and two fetchers.
//!
//! The same queries as `CloudKitty`'s, so the same bills, but one query for many scopes. An answer
//! that is broken, partial or doubtful in any row is an error, never "no data".
//!
//! It does not convert units and does not know prices; it keeps nothing but its configuration and
//! the token it was given last.
#![forbid(unsafe_code)]

mod answer;
mod arguments;
mod client;
mod collector;
mod exchange;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod keystone;
mod measures;
mod metadata;
mod projects;
mod query;
mod refusal;
mod revisions;
mod scopes;
mod settings;
#[cfg(test)]
mod tests;

pub use collector::{CollectorSettings, GnocchiCollector};
pub use projects::{KeystoneProjects, ProjectsSettings};
pub use scopes::{GnocchiScopes, ScopesSettings};

rated_plugin::export! {
    collectors: [GnocchiCollector],
    fetchers: [GnocchiScopes, KeystoneProjects],
    requires: [http],
}
