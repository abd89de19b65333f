//! The road of the data: discover, plan, collect, rate, commit; one file for each station. Beside
//! it, what was collected is collected and rated again where somebody asks for it, and while it is
//! idle the ledger is kept small.
//!
//! No cursor passes a period that is not in the ledger, and a source that failed is never taken for
//! one that had nothing. What fails delays itself alone: a fetcher, a metric of a collector, a
//! scope of a metric.
//!
//! This module does not know how the ledger stores and never reads the clock beside the one it is
//! given.

mod backoff;
mod bisect;
mod collect;
mod commit;
mod discover;
mod failure;
mod hold;
mod host;
mod plan;
mod rate;
mod reprocess;
#[cfg(test)]
mod reprocess_tests;
mod run;
#[cfg(test)]
mod run_tests;
mod settle;
#[cfg(test)]
mod simulation;
mod sources;
mod staging;
mod status;
mod track;
mod upkeep;
mod world;

pub use backoff::Jitter;
pub use run::{CycleParts, CycleTask};
pub use sources::*;
pub use status::*;
pub use upkeep::{UpkeepParts, UpkeepTask};
