//! Scopes, periods, metrics and columns: the words everything else is written in.
//!
//! No I/O and no floating point here, and nothing is serialisable: the ledger, the configuration
//! and the API have their own record types and convert.

mod calendar;
mod conversion;
mod convert;
mod metric;
mod period;
mod scope;
mod sum;

pub use calendar::*;
pub use conversion::*;
pub use convert::*;
pub use metric::*;
pub use period::*;
pub use scope::*;
pub use sum::*;
