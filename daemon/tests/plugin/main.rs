//! Plugins that break every rule, against the real plugin host.
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

mod amounts;
mod apart;
mod containment;
mod deaths;
mod fixture;
mod foreign_batches;
mod hostile;
mod keys;
mod keys_ledger;
mod library;
mod reload;
mod replays;
mod results;
mod same;
mod send;
mod support;
