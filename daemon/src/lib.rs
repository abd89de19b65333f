//! The rating daemon: collects usage, rates it, keeps it exactly once, answers for it.
#![deny(unsafe_code)]

pub mod api;
pub mod audit;
pub mod bench;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cycle;
mod fault;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod ledger;
pub mod metrics;
pub mod plugin;
pub mod rating;
pub mod report;
pub mod usage;
