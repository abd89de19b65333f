//! Tests of the ledger through its contract.

mod accepting;
mod backup;
mod basics;
mod change_crash;
mod compaction;
mod compaction_crash;
mod crash;
mod flips;
mod generations;
mod grouping;
mod holes;
mod kv;
mod model;
mod pruning;
mod push;
mod reopening;
mod reprocessing;
mod reset;
mod retention;
mod sample;
mod scopes;
mod sums;
mod support;
mod torn;
mod verify;
