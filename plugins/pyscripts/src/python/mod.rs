//! The processes that compile and run scripts, and what is said to them.
//!
//! A [`Pool`] has a fixed number of processes of [`runner.py`](RUNNER), started when first needed
//! and anew when dead. A process runs each scope's scripts in a child of its own, so that nothing
//! outlives a run; what it answers is checked here all the same. How that child is kept in is told
//! in `contain.py`, and what it may ask of the kernel in [`filter`].
//!
//! No script, and nothing it can do, runs in the daemon's own process.

mod filter;
mod find;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod messages;
mod places;
mod pool;
mod process;

pub(crate) use self::messages::{Cell, NamedText, Point, Points, Scripts, Wrong};
pub(crate) use self::pool::{Lease, Pool};

/// The program of the processes.
const RUNNER: &str = concat!(include_str!("contain.py"), "\n\n", include_str!("runner.py"));
