//! The contract's examples, asked of the whole API in this process, and what the contract does not
//! show.

mod behaviour;
mod conditional;
mod connections;
mod contract;
mod documentation;
mod fake_ledger;
mod fake_plugins;
mod frames;
mod quiet_module;
mod replay;
mod setup;
mod with_modules;
mod xml_bodies;
