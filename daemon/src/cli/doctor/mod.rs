//! `rated doctor`: what an operator looks at before calling for help, in one go.
//!
//! Looks at configuration, plugins, sources, state folder, machine and running daemon, and says of
//! each whether it is fine, and what to do if not. Nothing is changed: beside the files of its own
//! that it writes into the state folder and deletes, it only reads and asks.
//!
//! It does not read the ledger, which belongs to the daemon: that one is asked over its API. Its
//! files are opened for writing and closed again.

mod finding;
mod machine;
mod running;
mod state;

use self::finding::{Findings, Level, Note};
use super::check::{self, counted};
use super::client::Server;
use super::{ConfigFile, Environment, Outcome, logging, terminal};
use crate::api::Tls;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DaemonConfig};

/// How the findings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

/// What the doctor is asked for.
#[derive(Debug, clap::Args)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    server: Server,
    /// The daemon is meant to run: that nobody answers is a failure
    #[arg(long)]
    running: bool,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Something failed; the findings have been printed.
#[derive(Debug, thiserror::Error)]
#[error("{} failed", counted(*.0, "check"))]
struct Failed(usize);

/// A certificate that ends sooner is worth a warning.
const CERTIFICATE_DAYS_MIN: i64 = 14;

/// Prints every finding. An error = something failed; warnings are none.
pub(super) fn run(arguments: &DoctorArguments, environment: &Environment) -> Outcome {
    let form = if arguments.json { Form::Json } else { Form::Text };
    let loaded = Config::load_located(&arguments.file.path, environment.iter().cloned());
    let (config, sections) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            // As text the error says all of it; its exit code is that of a wrong configuration.
            if form == Form::Json {
                let mut findings = Findings::default();
                for problem in error.problems() {
                    findings.add("configuration", Note::fail(problem.to_string(), ""));
                }
                findings.print(form, terminal::style(environment))?;
            }
            return Err(error.into());
        }
    };
    // What the daemon's parts log as they are tried out is told as findings.
    let quiet = DaemonConfig { log: "off".to_owned(), ..config.daemon.clone() };
    logging::start(&quiet, environment)?;
    let mut findings = Findings::default();
    configuration(&config, &mut findings);
    let found = check::examine(&config, &sections, check::Sources::Asked)?;
    plugins(&found, &mut findings);
    certificate(&config, &SystemClock, &mut findings);
    state::examine(&config.daemon.state_dir, config.ledger.disk_reserve_mib, &mut findings);
    machine::examine(&config.daemon.state_dir, &SystemClock, &mut findings);
    running::examine(&config, (arguments, environment), &SystemClock, &mut findings);
    findings.print(form, terminal::style(environment))?;
    match findings.count(Level::Fail) {
        0 => Ok(()),
        failed => Err(Failed(failed).into()),
    }
}

fn configuration(config: &Config, findings: &mut Findings) {
    let note = match &config.exposed_secret {
        None => Note::ok(check::summary(config)),
        Some(exposed) => Note::warn(
            format!(
                "everybody on this machine can read the secret `{}` in `{}`",
                exposed.field,
                exposed.file.display()
            ),
            "`chmod o-r`, or a file of its own: the same name with `_file`",
        ),
    };
    findings.add("configuration", note);
}

fn plugins(found: &check::Examination, findings: &mut Findings) {
    for problem in &found.problems {
        let hint = "`rated check` says the same; `rated plugin list` shows what is there";
        findings.add("plugins", Note::fail(problem.clone(), hint));
    }
    let names: Vec<String> =
        found.libraries.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
    let note = if names.is_empty() {
        let hint = "they stand beside the program, or in `daemon.plugin_dirs`";
        Note::warn("no plugin was found".to_owned(), hint)
    } else {
        Note::ok(names.join(", "))
    };
    findings.add("plugins", note);
    for answer in &found.answers {
        let name = format!("{} {}", answer.kind, answer.name);
        let note = match &answer.outcome {
            Ok(()) => Note::ok("answers".to_owned()),
            Err(reason) => {
                let hint = "address, network and credentials of its section; what it did not \
                            tell is collected when it answers again";
                Note::fail(reason.clone(), hint)
            }
        };
        findings.add(&name, note);
    }
}

fn certificate(config: &Config, clock: &dyn Clock, findings: &mut Findings) {
    let Some(tls) = &config.api.tls else { return };
    // A file that cannot be read or used is among the problems already.
    let Some(end) = Tls::certificate_end(&tls.cert_file) else { return };
    let days = (end - clock.now()).num_days();
    let text = format!("`{}` is valid until {end}", tls.cert_file.display());
    let note = if days < CERTIFICATE_DAYS_MIN {
        let hint = "put a new one in its place; the daemon takes it up by itself";
        Note::warn(format!("{text}: {}", counted(usize::try_from(days).unwrap_or(0), "day")), hint)
    } else {
        Note::ok(text)
    };
    findings.add("certificate", note);
}
