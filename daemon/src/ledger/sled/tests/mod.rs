//! Tests of the ledger through its contract.

mod basics;
mod crash;
mod kv;
mod model;
mod push;
mod reprocessing;
mod reset;
mod sample;
mod scopes;
mod support;
