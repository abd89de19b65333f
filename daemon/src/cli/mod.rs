//! The command line: one file for each subcommand.

mod bench;
mod bill;
mod check;
mod client;
mod credentials;
mod doctor;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod import;
#[cfg(debug_assertions)]
mod kill_steps;
mod ledger;
mod logging;
mod module;
mod moment;
mod plugin;
mod prices;
mod progress;
mod reprocess;
mod scope;
mod serve;
mod service;
mod summary;
mod table;
mod terminal;
mod token;
mod waiting;

use std::error::Error;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use self::client::{ClientError, Server};
use crate::clock::SystemClock;
use crate::config::ConfigError;
use crate::ledger::is_disk_full;
use crate::plugin::RUNNER_COMMAND;

/// How a subcommand ends; an error is printed once, as its chain.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Collects usage, rates it, keeps it exactly once.
#[derive(Debug, Parser)]
#[command(name = "rated", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon
    Serve {
        #[command(flatten)]
        file: ConfigFile,
        /// Print what everybody used and what it costs, after each cycle that adds to it
        #[arg(long)]
        print_bill: bool,
    },
    /// Check a configuration and say everything that is wrong with it
    ///
    /// Loads the plugins, and neither reads nor writes the state folder. Ends with 0 = fine; 2 =
    /// something is wrong with it, or a plugin refuses its section.
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Look at everything around the daemon, and say what is wrong and what to do
    ///
    /// Configuration, plugins, sources, state folder, disk, clock, limits, certificate, and the
    /// running daemon's health. Run it as the daemon's user. Ends with 0 = nothing failed, though
    /// there may be warnings, and a daemon that does not run is one without `--running`; 1 =
    /// something failed; 2 = the configuration cannot be used.
    Doctor(doctor::DoctorArguments),
    /// Make tokens for machines that call the API
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Look at plugins on disk, without a running daemon
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// List, switch and order the rating modules of the running daemon
    Module {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: module::ModuleCommand,
    },
    /// List, reset, pause and resume the scopes of the running daemon
    Scope {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: scope::ScopeCommand,
    },
    /// Collect and rate periods again that are in the ledger already
    Reprocess {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: reprocess::ReprocessCommand,
    },
    /// Check and prove what is in the ledger, back it up and restore it
    Ledger {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Read, edit and apply the price list of the running daemon
    Prices {
        #[command(flatten)]
        server: Server,
        #[command(subcommand)]
        command: prices::PricesCommand,
    },
    /// Take over what another rating daemon has
    Import(import::ImportArguments),
    /// Show what was used and what it costs
    Summary {
        #[command(flatten)]
        server: Server,
        #[command(flatten)]
        arguments: summary::SummaryArguments,
    },
    /// Print the steps at which a test can kill the daemon: `RATED_KILL_AT=NAME:COUNT`
    #[cfg(debug_assertions)]
    #[command(hide = true)]
    KillSteps,
    /// Make data to measure with
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Run a plugin for the daemon that starts this
    #[command(name = RUNNER_COMMAND, hide = true)]
    PluginRunner {
        /// Which one, for people who list processes
        label: String,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration; `RATED__API__LISTEN=…` in the environment replaces one value of it
    #[arg(long = "config", value_name = "FILE", default_value = "/etc/rated/rated.toml")]
    path: PathBuf,
}

/// Should the bill be printed after each cycle?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrintBill {
    Yes,
    No,
}

/// Names and values; read in `main` only.
pub type Environment = [(String, String)];

/// Something failed because a disk is full: it may work later (`EX_TEMPFAIL`).
const DISK_FULL: u8 = 75;

/// Runs the subcommand. 0 = fine; 1 = failed, and of those that look for something wrong: found it;
/// 2 = bad usage or configuration, and of those: could not look; 75 = failed because a disk is
/// full.
pub fn run(arguments: &Arguments, environment: &Environment) -> ExitCode {
    let outcome = match &arguments.command {
        Command::Serve { file, print_bill } => {
            let print_bill = if *print_bill { PrintBill::Yes } else { PrintBill::No };
            serve::run(&file.path, print_bill, environment)
        }
        Command::Check { file } => check::run(&file.path, environment),
        Command::Doctor(arguments) => doctor::run(arguments, environment),
        Command::Token(command) => token::run(command),
        Command::Plugin(command) => plugin::run(command, environment),
        Command::Module { server, command } => module::run(command, server, environment),
        Command::Scope { server, command } => {
            scope::run(command, server, &SystemClock, environment)
        }
        Command::Reprocess { server, command } => {
            reprocess::run(command, server, &SystemClock, environment)
        }
        Command::Ledger { server, command } => {
            ledger::run(command, server, &SystemClock, environment)
        }
        Command::Prices { server, command } => {
            prices::run(command, server, &SystemClock, environment)
        }
        Command::Import(arguments) => import::run(arguments, &SystemClock, environment),
        Command::Summary { server, arguments } => {
            summary::run(arguments, server, &SystemClock, environment)
        }
        #[cfg(debug_assertions)]
        Command::KillSteps => kill_steps::run(),
        Command::Bench(command) => bench::run(command, &SystemClock),
        Command::PluginRunner { .. } => crate::plugin::run_runner().map_err(Into::into),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    eprintln!("rated: {}", chain(error.as_ref()));
    let is_usage = error.is::<ConfigError>()
        || error.is::<UsageError>()
        || error.is::<Undone>()
        || error.is::<check::ProblemsFound>()
        || error.downcast_ref::<ClientError>().is_some_and(ClientError::is_usage);
    if is_disk_full(error.as_ref()) {
        ExitCode::from(DISK_FULL)
    } else if is_usage {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

/// A command that looks for something wrong could not look, wholly or in part: exit code 2, where 1
/// says that it has found something.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be done")]
struct Undone {
    what: &'static str,
    #[source]
    error: Box<dyn Error + Send + Sync>,
}

impl Undone {
    fn of<E: Into<Box<dyn Error + Send + Sync>>>(what: &'static str) -> impl Fn(E) -> Undone {
        move |error| Undone { what, error: error.into() }
    }
}

/// What was typed makes no sense; nothing was done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// `1 place is`, `2 places are`
fn how_many_are(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what} is") } else { format!("{count} {what}s are") }
}

/// A value of the API as a cell: texts without quotes, null as nothing.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// An error and its sources, joined by `: `; hints come last, each on its own line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut hints) = (String::new(), String::new());
    let mut source = Some(error);
    while let Some(error) = source {
        let part = error.to_string();
        let (message, hint) = part.split_once("\n(hint: ").unwrap_or((&part, ""));
        let joint = if text.is_empty() { "" } else { ": " };
        write!(text, "{joint}{message}").expect("writing to a string does not fail");
        if !hint.is_empty() {
            write!(hints, "\n(hint: {hint}").expect("writing to a string does not fail");
        }
        source = error.source();
    }
    text + &hints
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen on `1.2.3.4:5`\n(hint: port 0 takes any free one)")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("address in use")]
    struct Inner;

    #[test]
    fn a_hint_comes_after_all_causes() {
        let text = chain(&Outer(Inner));

        let expected = "cannot listen on `1.2.3.4:5`: address in use\n\
            (hint: port 0 takes any free one)";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }
}
