//! `rated check`: everything that is wrong with a configuration, before it is used.
//!
//! Plugins are loaded and make their instances, on a ledger that is thrown away: the state folder
//! is neither read nor written. Whether a source answers is logged, and is no fault of the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};
use tempfile::TempDir;

use super::{Environment, Outcome, chain, logging, terminal};
use crate::api::{Authentication, Policy, Tls};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DaemonConfig, Problem, ProblemKind, Sections};
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::metrics::Metrics;
use crate::plugin::{
    Checked, HostServices, Kind, LibraryInfo, PluginConfig, PluginHost, Refusal, RefusedSubject,
};

/// How many things are wrong; they have been printed.
#[derive(Debug, thiserror::Error)]
#[error("{} found", counted(*.0, "problem"))]
pub(super) struct ProblemsFound(usize);

/// Prints each problem, or a line that says what was found to be fine.
pub(super) fn run(path: &Path, environment: &Environment) -> Outcome {
    let (config, sections) = match Config::load_located(path, environment.iter().cloned()) {
        Ok(loaded) => loaded,
        Err(error) => return report(error.problems()),
    };
    // What loading a plugin logs at lower levels is of no interest here.
    logging::start(
        &DaemonConfig { log: "error".to_owned(), ..config.daemon.clone() },
        environment,
    )?;
    let Examination { problems, .. } = examine(&config, &sections, Sources::LeftAlone)?;
    if let Some(exposed) = &config.exposed_secret {
        terminal::print(&format!(
            "{}: warning: everybody on this machine can read the secret `{}`\n\
             (hint: `chmod o-r`, or a file of its own: `{}_file`)\n",
            exposed.file.display(),
            exposed.field,
            exposed.field,
        ))?;
    }
    if problems.is_empty() {
        terminal::print(&format!("{}\n", summary(&config)))?;
        return Ok(());
    }
    report(&problems)
}

/// Whether those outside are asked whether they answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sources {
    Asked,
    LeftAlone,
}

/// What trying a configuration out has shown.
#[derive(Debug, Default)]
pub(super) struct Examination {
    pub(super) problems: Vec<String>,
    pub(super) libraries: Vec<LibraryInfo>,
    /// Of the instances that could be made.
    pub(super) answers: Vec<Checked>,
}

pub(super) fn examine(
    config: &Config,
    sections: &Sections,
    sources: Sources,
) -> Result<Examination, Box<dyn std::error::Error + Send + Sync>> {
    let mut examination = Examination::default();
    let refusals = ask_plugins(config, sources, &mut examination)?;
    let refused = refusals.iter().map(|refusal| explain(refusal, config, sections));
    examination.problems.extend(refused);
    let policy = Policy::load(config.api.policy.as_deref());
    examination.problems.extend(policy.err().map(|error| chain(&error)));
    examination.problems.extend(check_doors(config));
    Ok(examination)
}

/// What is wrong with the files that say who may come in.
fn check_doors(config: &Config) -> Vec<String> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let authentication = Authentication::load(&config.api, &clock, &Arc::new(Metrics::new()));
    let tls = config.api.tls.as_ref().map(|tls| Tls::load(tls, clock)).transpose();
    let mut problems: Vec<String> = authentication.err().iter().map(|error| chain(error)).collect();
    problems.extend(tls.err().iter().map(|error| chain(error)));
    problems
}

fn report(problems: &[impl fmt::Display]) -> Outcome {
    for problem in problems {
        terminal::print(&format!("{problem}\n"))?;
    }
    Err(ProblemsFound(problems.len()).into())
}

/// What the plugins that are there refuse, or that they are not there.
fn ask_plugins(
    config: &Config,
    sources: Sources,
    found: &mut Examination,
) -> Result<Vec<Refusal>, Box<dyn std::error::Error + Send + Sync>> {
    let folder = folder_for_copies()?;
    let mut wanted = PluginConfig::from(config);
    folder.path().clone_into(&mut wanted.state_dir);
    let instances = wanted.collectors.values_mut().chain(wanted.fetchers.values_mut());
    // A required instance that is refused would hide what else is.
    instances.chain(wanted.rating.values_mut()).for_each(|instance| instance.required = false);

    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let options = SledOptions { disk_reserve_mib: 0, ..config.ledger.options() };
    let services = HostServices {
        ledger: Arc::new(SledLedger::open(&folder.path().join("ledger"), options)?),
        clock: Arc::new(SystemClock),
        runtime: runtime.handle().clone(),
        metrics: Arc::new(Metrics::new()),
    };
    let host = PluginHost::start(wanted, services)?;
    let generation = host.generation();
    let refused = generation.refused().to_vec();
    found.libraries = generation.libraries().to_vec();
    if sources == Sources::Asked {
        found.answers = generation.ask_all();
    }
    drop(generation);
    runtime.block_on(host.stop(Duration::from_secs(config.plugins.call_grace_secs.into())));
    Ok(refused)
}

#[derive(Debug, thiserror::Error)]
#[error(
    "plugins cannot be loaded from `{}`: it is mounted `noexec`\n(hint: TMPDIR names another \
     folder for temporary files)",
    .0.display()
)]
struct NoExec(PathBuf);

/// Where programs for all kinds of things may be put, when `/tmp` is closed to them.
const OTHER_TEMPORARY_DIR: &str = "/var/tmp";

/// In a folder from which libraries can be loaded.
fn folder_for_copies() -> Result<TempDir, Box<dyn std::error::Error + Send + Sync>> {
    let usual = std::env::temp_dir();
    let is_open = |folder: &&Path| {
        statvfs(*folder).is_ok_and(|found| !found.flags().contains(FsFlags::ST_NOEXEC))
    };
    let folders = [usual.as_path(), Path::new(OTHER_TEMPORARY_DIR)];
    match folders.iter().find(|folder| is_open(folder)) {
        Some(folder) => Ok(TempDir::new_in(folder)?),
        None => Err(NoExec(usual).into()),
    }
}

fn explain(refusal: &Refusal, config: &Config, sections: &Sections) -> String {
    let (kind, name) = match &refusal.subject {
        RefusedSubject::Library(_) => return refusal.to_string(),
        RefusedSubject::Instance { kind, name } => (kind, name),
    };
    let section = match kind {
        Kind::Collector => "collectors",
        Kind::Fetcher => "fetchers",
        Kind::Rating => "rating",
    };
    let field = format!("{section}.{name}");
    let problem = Problem {
        file: config.source.clone(),
        place: sections.place(&field),
        metric: None,
        field,
        kind: ProblemKind::RefusedByPlugin { reason: refusal.reason.clone() },
        hint: None,
    };
    problem.to_string()
}

pub(super) fn summary(config: &Config) -> String {
    format!(
        "{}: fine: {}, {}, {}, {}",
        config.source.display(),
        counted(config.collect.metrics.len(), "metric"),
        counted(config.collectors.len(), "collector"),
        counted(config.collect.fetchers.len(), "fetcher"),
        counted(config.rating.len(), "rating module"),
    )
}

pub(super) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
