//! What the subcommands read, as a fuzzer has it.

pub(crate) use super::import::fuzz::metrics as cloudkitty_metrics;
pub(crate) use super::ledger::fuzz::backup;
