//! What the contract does not show, asked of the whole API in this process. The contract itself is
//! replayed against the built daemon (`tests/tests/contract`).
#![expect(clippy::unwrap_used, reason = "a helper of a test fails as the test does")]

#[cfg(test)]
mod behaviour;
#[cfg(test)]
mod conditional;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod documentation;
mod fake_ledger;
mod fake_plugins;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod quiet_module;
#[cfg(test)]
mod rights;
// What a fuzzer asks needs an API, too.
pub(super) mod setup;
#[cfg(test)]
mod with_modules;
#[cfg(test)]
mod xml_bodies;

#[cfg(test)]
pub(super) use fake_ledger::FakeLedger;
