//! What each user of this machine consumes: a collector and a fetcher.
//!
//! Counters of processes, kept by the kernel, are read every other second; what grew is the usage
//! of the users they belong to. Nothing is stored: what happened before the daemon ran is not
//! known, and the collector says so.
//!
//! It does not convert units and does not know prices.
#![forbid(unsafe_code)]

mod collector;
mod history;
mod machine;
mod sampler;
mod settings;
mod tally;
#[cfg(test)]
mod tests;
mod users;

pub use collector::HostUsage;
pub use settings::UsageSettings;
pub use users::{HostUsers, UsersSettings};

rated_plugin::export! {
    collectors: [HostUsage],
    fetchers: [HostUsers],
}
