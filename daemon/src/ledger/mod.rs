//! The store of everything that must survive: rated rows, cursors, completeness, rules, states.
//!
//! [`Ledger`] is a contract; `sled/` keeps it on one machine. It speaks of commits and queries,
//! never of trees and keys, so that another engine can keep it too.

mod care;
mod changes;
mod contract;
mod differences;
mod error;
mod pages;
mod queries;
mod reopening;
pub mod sled;

pub use care::*;
pub use changes::*;
pub use contract::*;
pub use differences::*;
pub use error::*;
pub use pages::*;
pub use queries::*;
pub use reopening::{Opener, ReopeningLedger};
pub use sled::is_disk_full;
