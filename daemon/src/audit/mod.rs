//! Prices computed again from what the ledger kept: to prove them, and to say how they came about.
//!
//! Whatever is rated again is rated by the modules that rated it, in their order, with the rules
//! that they had then, from the same libraries as far as those are still there; where one is not,
//! that is said and never passed over. What was pushed was rated elsewhere and is only counted.
//!
//! A price depends on its row, and may depend on the other rows of the same scope, metric and
//! period: a module sees them together. So rows are compared block by block, and where that does
//! not give the price that was kept, all rows of the scope are looked at once more.
//!
//! This module changes nothing, and reads no clock.

mod chains;
mod compare;
mod counts;
mod explain;
mod rows;
#[cfg(test)]
mod tests;
mod verdict;

pub use compare::*;
pub use counts::*;
pub use explain::*;
pub use verdict::*;
