//! `/v2/dataframes`: rated rows, as they are kept and as others push them.

mod columns;
pub(crate) mod describe;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod json;
mod point;
mod problem;
mod push;
mod read;
mod scan;
mod show;
mod slices;
mod texts;

pub(crate) use push::push;
pub(crate) use show::dataframes;
