//! Reads the arguments and the environment, and runs the subcommand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use rated::cli;

fn main() -> ExitCode {
    // Text that is not UTF-8 can't be a value of ours; it is replaced, not fatal.
    let environment: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    cli::run(&cli::Arguments::parse(), &environment)
}
