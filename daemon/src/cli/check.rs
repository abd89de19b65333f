//! `rated check`: everything that is wrong with a configuration, before it is used.

use std::path::Path;

use super::{Environment, Outcome, logging};
use crate::config::{Config, ConfigError};

#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("{count} {} found", if *.count == 1 { "problem" } else { "problems" })]
    Problems { count: usize },
}

/// Prints each problem, or a line that says what was found to be fine.
pub(super) fn run(path: &Path, environment: &Environment) -> Outcome {
    match Config::load(path, environment.iter().cloned()) {
        Ok(config) => {
            logging::start(&config.daemon, environment)?;
            println!("{}", summary(&config));
            Ok(())
        }
        Err(error) => Err(report(&error).into()),
    }
}

fn report(error: &ConfigError) -> CheckError {
    println!("{error}");
    CheckError::Problems { count: error.problems().len() }
}

fn summary(config: &Config) -> String {
    let count = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {one}s"),
    };
    format!(
        "{}: fine: {}, {}, {}, {}",
        config.source.display(),
        count(config.collect.metrics.len(), "metric"),
        count(config.collectors.len(), "collector"),
        count(config.collect.fetchers.len(), "fetcher"),
        count(config.rating.len(), "rating module"),
    )
}
