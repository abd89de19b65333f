//! `rated plugin`: what the libraries on disk hold, without a running daemon.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rated_plugin::testing;

use super::{ConfigFile, Environment, Outcome};
use crate::config::Config;
use crate::plugin::{
    self, ComponentInfo, Inspected, Inspection, Isolation, Kind, LoadError, PluginConfig,
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum PluginCommand {
    /// List the plugins that a daemon with this configuration would load, and those it would refuse
    List {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Check whether a library is a sound plugin; prints each check
    Check {
        /// The shared library
        file: PathBuf,
    },
    /// Print the sample configuration of a component
    Sample {
        /// The shared library
        file: PathBuf,
        /// The component
        name: String,
    },
}

pub(super) fn run(command: &PluginCommand, environment: &Environment) -> Outcome {
    match command {
        PluginCommand::List { file } => {
            list(&Config::load(&file.path, environment.iter().cloned())?)
        }
        PluginCommand::Check { file } => check(file),
        PluginCommand::Sample { file, name } => sample(file, name),
    }
}

#[derive(Debug, thiserror::Error)]
enum PluginError {
    #[error("cannot copy `{}` to a temporary folder", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    #[error(transparent)]
    Refused(#[from] LoadError),
    #[error("{failed} of {count} checks failed")]
    Checks { failed: usize, count: usize },
    #[error("`{}` has no component `{name}` (it has: {there})", path.display())]
    NoComponent { path: PathBuf, name: String, there: String },
}

/// Every library that a daemon with that configuration would load, and those it would refuse.
fn list(config: &Config) -> Outcome {
    let config = PluginConfig::from(config);
    let inspection = plugin::inspect(&config)?;
    write_list(&inspection, &config, &mut io::stdout().lock())?;
    Ok(())
}

/// One line for each check of the conformance test.
fn check(file: &Path) -> Outcome {
    let checks = open(file)?.conformance();
    write_checks(&checks, &mut io::stdout().lock())?;
    let is_failed = |check: &&testing::Check| matches!(check.outcome, testing::Outcome::Failed(_));
    match checks.iter().filter(is_failed).count() {
        0 => Ok(()),
        failed => Err(PluginError::Checks { failed, count: checks.len() }.into()),
    }
}

/// A configuration section for each component of that name.
fn sample(file: &Path, name: &str) -> Outcome {
    let library = open(file)?;
    let components = &library.info().components;
    let named: Vec<_> = components.iter().filter(|component| component.name == name).collect();
    if named.is_empty() {
        let there: Vec<&str> = components.iter().map(|component| &*component.name).collect();
        let (path, name) = (file.to_owned(), name.to_owned());
        return Err(PluginError::NoComponent { path, name, there: there.join(", ") }.into());
    }
    write_samples(&named, &mut io::stdout().lock())?;
    Ok(())
}

fn open(file: &Path) -> Result<Inspected, PluginError> {
    plugin::inspect_file(file)
        .map_err(|error| PluginError::Folder { path: file.to_owned(), error })?
        .map_err(PluginError::Refused)
}

fn write_list(
    inspection: &Inspection,
    config: &PluginConfig,
    out: &mut impl Write,
) -> io::Result<()> {
    for library in &inspection.libraries {
        let info = library.info();
        writeln!(out, "{} {}  {}", info.name, info.version, info.path.display())?;
        writeln!(out, "    sha256 {}", info.sha256)?;
        writeln!(out, "    built with {}", info.built_with)?;
        for component in &info.components {
            writeln!(out, "    {} `{}`: {}", component.kind, component.name, component.summary)?;
            for (instance, isolation) in config.instances_of(component.kind, &component.name) {
                let place = match isolation {
                    Isolation::Thread => "in the daemon",
                    Isolation::Process => "in a process of its own",
                };
                writeln!(out, "        `{instance}`, {place}")?;
            }
        }
    }
    for refused in &inspection.refused {
        writeln!(out, "refused: {refused}")?;
    }
    if inspection.libraries.is_empty() && inspection.refused.is_empty() {
        writeln!(out, "no plugins found")?;
    }
    Ok(())
}

fn write_checks(checks: &[testing::Check], out: &mut impl Write) -> io::Result<()> {
    checks.iter().try_for_each(|check| writeln!(out, "{check}"))
}

fn write_samples(components: &[&ComponentInfo], out: &mut impl Write) -> io::Result<()> {
    for (index, component) in components.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        let section = match component.kind {
            Kind::Collector => "collectors",
            Kind::Fetcher => "fetchers",
            Kind::Rating => "rating",
        };
        writeln!(out, "# {}", component.summary)?;
        writeln!(out, "[{section}.{}]", component.name)?;
        write!(out, "{}", component.sample_config)?;
        if !component.sample_config.is_empty() && !component.sample_config.ends_with('\n') {
            writeln!(out)?;
        }
    }
    Ok(())
}
