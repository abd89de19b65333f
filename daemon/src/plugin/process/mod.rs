//! Plugins in processes of their own: a small runner loads the same library and serves calls.
//!
//! One process for each instance, of the same program, started with a hidden subcommand. It gets a
//! socket and nothing else of the daemon; limits of memory and files (`runner::limits`), which only
//! root could lift; and a process group that it cannot leave. It may die, hang, write what it likes
//! or say what makes no sense: then it is killed with everything it started, the calls under way
//! get an error, and the next call starts another. The kernel kills it when the daemon dies, unless
//! its plugin takes pains against that.
//!
//! What comes back is believed as little as what comes over the tables: frames and columns are
//! checked here, whether they are what was asked for in the same place as always (`validate`).
//!
//! # The protocol, version 3
//!
//! Both ends are the same program, so nothing is negotiated; the version is checked all the same.
//! A frame is its size (u32) and so many bytes; numbers are little-endian; bytes and texts stand
//! after their size (u64); lists after their length (u32). The first byte is the kind.
//!
//! | to the runner | |
//! |---|---|
//! | 1 load | version u32, library text, trusted u8, memory u64, log u32, end in s u32; first |
//! | 2 call | number u64, deadline i64, trace 16 bytes, span 8 bytes, what u8, its arguments |
//! | 3 cancel | number of the call u64 |
//! | 4 release | number of the rater u64 |
//! | 5 answer | number u64, outcome |
//! | 6 end | the last; what the instance asks while it ends is answered |
//!
//! | to the daemon | |
//! |---|---|
//! | 65 columns | number of the call u64, an Arrow IPC stream from the next multiple of 64 on |
//! | 66 outcome | number of the call u64, outcome; the last of a call |
//! | 67 ask | number of the call u64 (0 = none), number u64, what u8, its arguments |
//! | 68 log | level u32, place, message |
//! | 69 count, 70 observe | name text, u64 (for observe: the bits of a double) |
//!
//! An outcome is a status (u32) and, when that is 0, what was asked for; else retryable u8, split
//! u8 and a message. An answer in batches comes as columns before its outcome, each a stream with
//! the schema and one batch; no batches are one stream with a schema only. Example, a `check` of
//! the call 7 without deadline, 42 bytes and their size:
//!
//! ```text
//! 2a000000 02 0700000000000000 ffffffffffffff7f <16 bytes> <8 bytes> 02
//! ```
//!
//! What is asked for in a call's name is answered by the thread that waits for that call, requests
//! over HTTP and what no call asks for by others (`desk`), the time at once. A runner asks for
//! [`desk::ASKED_MAX`] of those things at a time and lets its plugin's threads wait for more.
//!
//! A socket that is closed says that the daemon is gone.
//!
//! This module does not know when something is called, and does not decide what follows from a
//! death: that is `slot`.

mod ask;
mod columns;
mod describe;
mod desk;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod mailbox;
mod message;
mod output;
mod report;
mod runner;
mod serve;
mod watch;
mod wire;

pub(super) use ask::{Launch, Process, ProcessSettings};
pub(super) use describe::{Described, describe};
pub(super) use runner::warn_of_less;
pub use runner::{RunnerError, run};

/// Subcommand of the program that is a runner.
pub const RUNNER_COMMAND: &str = "plugin-runner";

/// How a runner ends that cannot reach the daemon any more (`EX_IOERR`).
const HUNG_UP: i32 = 74;

#[cfg(test)]
mod tests;
