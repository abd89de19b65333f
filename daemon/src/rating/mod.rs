//! The module chain: which rating modules are on, in which order, and what they make of usage.
//!
//! A module's state is kept by the ledger; the configuration speaks only when a module is seen for
//! the first time. A [`Chain`] is an immutable snapshot of the enabled modules and their rules:
//! whatever is rated with one chain is rated by the same rules, and the chain says which (module,
//! revision of its rules, library).
//!
//! What was rated before can be rated again as it was then ([`KeptChain`]), and the way to a price
//! be told in steps that were computed again ([`Chain::explain`]).
//!
//! This module does not store what it rates and never reads the clock beside the one it is given.

mod again;
mod chain;
mod columns;
mod explain;
mod host;
mod modules;
mod quote;
mod state;
#[cfg(test)]
mod tests;

pub use again::*;
pub use chain::*;
pub use explain::*;
pub use modules::*;
pub use quote::*;
pub use state::*;
