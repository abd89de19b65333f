//! Reads the arguments and the environment, and runs the subcommand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use rated::cli;
#[cfg(not(sanitized))]
use tikv_jemallocator::Jemalloc;

/// Gives back what is not used any more, so that memory stays flat for years.
#[cfg(not(sanitized))]
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // Text that is not UTF-8 can't be a value of ours; it is replaced, not fatal.
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    cli::run(&cli::Arguments::parse(), &environment)
}
