//! What the contract does not show, asked of the whole API in this process. The contract itself is
//! replayed against the built daemon (`tests/tests/contract`).

mod behaviour;
mod conditional;
mod connections;
mod documentation;
mod fake_ledger;
mod fake_plugins;
mod frames;
mod quiet_module;
mod rights;
mod setup;
mod with_modules;
mod xml_bodies;

pub(super) use fake_ledger::FakeLedger;
