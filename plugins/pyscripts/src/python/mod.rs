//! The processes that compile and run scripts, and what is said to them.
//!
//! A [`Pool`] has a fixed number of processes of [`runner.py`](RUNNER), started when first needed
//! and anew when dead. A process runs each scope's scripts in a child of its own, so that nothing
//! outlives a run; what it answers is checked here all the same.
//!
//! No script, and nothing it can do, runs in the daemon's own process.

mod find;
mod messages;
mod pool;
mod process;

pub(crate) use self::messages::{Cell, NamedText, Point, Points, Scripts, Wrong};
pub(crate) use self::pool::Pool;

/// The program of the processes.
const RUNNER: &str = include_str!("runner.py");
