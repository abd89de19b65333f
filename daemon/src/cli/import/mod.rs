//! `rated import`: what another rating daemon has, taken over.

mod cloudkitty;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod metrics;
mod report;
mod yaml;

use std::path::PathBuf;

use super::{Environment, Outcome};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ImportArguments {
    #[command(subcommand)]
    source: Option<Source>,
    /// `CloudKitty`'s metrics file; becomes one of ours
    #[arg(required = true, value_name = "METRICS.YML")]
    file: Option<PathBuf>,
    /// Where to write it, a file that is not there yet; default: the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The attribute that says who used something: `collect.scope_key` of the configuration
    #[arg(long, value_name = "ATTRIBUTE", default_value = "project_id")]
    scope_key: String,
}

#[derive(Debug, clap::Subcommand)]
enum Source {
    /// Copy prices, scripts, modules' states and scopes from a running `CloudKitty` or rated
    ///
    /// What is there already stays as it is, so that running it twice changes nothing.
    Cloudkitty(cloudkitty::CloudkittyArguments),
}

pub(super) fn run(
    arguments: &ImportArguments,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    if let Some(Source::Cloudkitty(arguments)) = &arguments.source {
        return cloudkitty::run(arguments, clock, environment);
    }
    let file = arguments.file.as_deref().unwrap_or_else(|| std::path::Path::new("metrics.yml"));
    metrics::run(file, arguments.output.as_deref(), &arguments.scope_key)
}
