//! The module chain: which rating modules are on, in which order, and what they make of usage.
//!
//! A module's state is kept by the ledger; the configuration speaks only when a module is seen for
//! the first time. A [`Chain`] is an immutable snapshot of the enabled modules and their rules:
//! whatever is rated with one chain is rated by the same rules, and the chain says which (module,
//! revision of its rules, library).
//!
//! This module does not store what it rates and never reads the clock beside the one it is given.

mod chain;
mod columns;
mod host;
mod modules;
mod quote;
mod state;
#[cfg(test)]
mod tests;

pub use chain::*;
pub use modules::*;
pub use quote::*;
pub use state::*;
