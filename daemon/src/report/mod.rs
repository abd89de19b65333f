//! What the ledger's rows add up to, and the rows themselves.
//!
//! Sums are exact: they are added as integers by the ledger, and only [`text`] turns them into the
//! forms that clients expect. Nothing is cached.
//!
//! This module does not know HTTP. Its functions block.

mod completeness;
mod fields;
mod frames;
mod rows;
mod summary;
pub mod text;

pub use completeness::*;
pub use fields::*;
pub use frames::*;
pub use rows::*;
pub use summary::*;
