//! Where log lines go: to standard error, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::config::{DaemonConfig, LogFormat};

#[derive(Debug, thiserror::Error)]
pub(super) enum LoggingError {
    #[error("`RATED_LOG`: `{filter}` is not a level or a list such as `warn,rated::cycle=debug`")]
    Filter {
        filter: String,
        #[source]
        error: ParseError,
    },
    #[error("logging was started twice")]
    Twice,
}

/// `RATED_LOG` wins over the configuration.
pub(super) fn start(
    config: &DaemonConfig,
    environment: &[(String, String)],
) -> Result<(), LoggingError> {
    let variable = |name: &str| {
        let found = environment.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.clone())
    };
    let filter = variable("RATED_LOG").unwrap_or_else(|| config.log.clone());
    let filter =
        EnvFilter::try_new(&filter).map_err(|error| LoggingError::Filter { filter, error })?;
    let is_coloured = std::io::stderr().is_terminal() && variable("NO_COLOR").is_none();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(is_coloured)
        .with_writer(std::io::stderr);
    let started = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|_| LoggingError::Twice)
}
