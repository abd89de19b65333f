//! Tests of the ledger through its contract.

mod basics;
mod crash;
mod kv;
mod model;
mod sample;
mod support;
