//! `rated import`: what another rating daemon has, taken over.

mod metrics;
mod yaml;

use std::path::PathBuf;

use super::Outcome;

#[derive(Debug, clap::Args)]
pub(super) struct ImportArguments {
    /// `CloudKitty`'s metrics file; becomes one of ours
    #[arg(value_name = "METRICS.YML")]
    file: PathBuf,
    /// Where to write it, a file that is not there yet; default: the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The attribute that says who used something: `collect.scope_key` of the configuration
    #[arg(long, value_name = "ATTRIBUTE", default_value = "project_id")]
    scope_key: String,
}

pub(super) fn run(arguments: &ImportArguments) -> Outcome {
    metrics::run(&arguments.file, arguments.output.as_deref(), &arguments.scope_key)
}
