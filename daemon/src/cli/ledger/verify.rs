//! `rated ledger verify`: everything that is damaged, and what to do about it.
//!
//! Exit code 0: the ledger is whole. 1: something is damaged. 2: it could not be looked at.
//!
//! No ledger is begun where there is none, and none of an older format is raised.

use std::path::Path;

use serde_json::{Value, json};

use super::owner::{Owner, make_private};
use super::{FileError, LEDGER_DIR, readable};
use crate::api::show_finding;
use crate::cli::client::{Client, Server};
use crate::cli::progress::Progress;
use crate::cli::table::{Align, Table};
use crate::cli::{Environment, Outcome, Undone, how_many_are, terminal, text};
use crate::config::Config;
use crate::ledger::sled::{self, Accepted, OpenError, SledLedger};
use crate::ledger::{Ledger as _, LedgerError};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How many places are damaged; they have been listed.
#[derive(Debug, thiserror::Error)]
#[error("{} damaged", how_many_are(*.0, "place"))]
struct DamageFound(usize);

#[derive(Debug, thiserror::Error)]
#[error("a daemon uses the ledger\n(hint: stop it first)")]
struct Running;

const CHECK: &str = "the check of the ledger";

/// What there is to look at.
enum Source {
    Daemon(Client),
    Folder(Box<SledLedger>),
    /// It cannot be opened, and this is why.
    Unopened(Value),
}

pub(super) fn run(
    config: &Path,
    server: &Server,
    is_json: bool,
    environment: &Environment,
) -> Outcome {
    let findings = if server.is_given(environment) {
        server.client(environment).map_err(Failed::from).and_then(|client| ask(&client))
    } else {
        let config = Config::load(config, environment.iter().cloned())?;
        look(&config, server, environment)
    };
    let findings = findings.map_err(Undone::of(CHECK))?;
    let out = if is_json {
        format!("{:#}\n", json!({"findings": findings}))
    } else if findings.is_empty() {
        "the ledger is whole\n".to_owned()
    } else {
        table(&findings).render(terminal::style(environment))
    };
    terminal::print(&out)?;
    match findings.len() {
        0 => Ok(()),
        count => Err(DamageFound(count).into()),
    }
}

fn ask(client: &Client) -> Result<Vec<Value>, Failed> {
    go_through(&mut |from| {
        let query = from.map(|from| ("from", from.to_owned()));
        let answer = client.get(&["v2", "ledger", "verify"], query.as_slice())?;
        let findings = client.list(&answer, "findings")?.to_vec();
        Ok(Step {
            findings,
            next: answer["next"].as_str().map(str::to_owned),
            done: answer["bytes_done"].as_u64().unwrap_or(0),
            total: answer["bytes_total"].as_u64().unwrap_or(0),
        })
    })
}

fn look(config: &Config, server: &Server, environment: &Environment) -> Result<Vec<Value>, Failed> {
    make_private();
    let findings = match open(config, server, environment) {
        Ok(Source::Daemon(client)) => return ask(&client),
        Ok(Source::Unopened(finding)) => Ok(vec![finding]),
        Ok(Source::Folder(ledger)) => go_through(&mut |from| {
            let step = ledger.verify(from)?;
            Ok(Step {
                findings: step.findings.iter().map(show_finding).collect(),
                next: step.next,
                done: step.bytes_done,
                total: step.bytes_total,
            })
        }),
        Err(error) => Err(error),
    };
    give_back(&config.daemon.state_dir)?;
    findings
}

/// Whoever opens a ledger makes files in it, whatever comes of it.
fn give_back(state_dir: &Path) -> Result<(), FileError> {
    let ledger = state_dir.join(LEDGER_DIR);
    if ledger.exists() { Owner::of(state_dir)?.give(&ledger) } else { Ok(()) }
}

fn open(config: &Config, server: &Server, environment: &Environment) -> Result<Source, Failed> {
    let path = config.daemon.state_dir.join(LEDGER_DIR);
    let options = config.ledger.options();
    match SledLedger::open_as_it_is(&path, options) {
        Ok(ledger) => Ok(Source::Folder(Box::new(ledger))),
        Err(error @ OpenError::InUse { .. }) => match server.client_for(config, environment)? {
            Some(client) => Ok(Source::Daemon(client)),
            None => Err(error.into()),
        },
        Err(OpenError::Read(LedgerError::Damaged { place, detail })) => {
            Ok(Source::Unopened(unopened(&place, &detail)))
        }
        Err(error @ (OpenError::Sled { .. } | OpenError::Panic { .. })) => {
            let detail = crate::cli::chain(&error);
            Ok(Source::Unopened(unopened("the ledger", &detail)))
        }
        Err(error) => Err(error.into()),
    }
}

fn unopened(place: &str, detail: &str) -> Value {
    json!({
        "place": place,
        "detail": format!("{detail}; the daemon does not start"),
        "remedy": "restore a backup",
    })
}

struct Step {
    findings: Vec<Value>,
    next: Option<String>,
    done: u64,
    total: u64,
}

fn go_through(
    step: &mut dyn FnMut(Option<&str>) -> Result<Step, Failed>,
) -> Result<Vec<Value>, Failed> {
    let mut progress = Progress::new();
    let mut findings = Vec::new();
    let mut from: Option<String> = None;
    loop {
        let done = step(from.as_deref())?;
        findings.extend(done.findings);
        progress.show(|| {
            let (part, all) = (readable(done.done), readable(done.total));
            format!("checked {part} of {all}, {} damaged", findings.len())
        });
        match done.next {
            Some(next) => from = Some(next),
            None => return Ok(findings),
        }
    }
}

fn table(findings: &[Value]) -> Table {
    let titles = ["PLACE", "WHAT IS WRONG", "WHAT TO DO"];
    let mut table = Table::new(titles.map(|title| (title, Align::Left)));
    for finding in findings {
        table.push(["place", "detail", "remedy"].map(|name| text(&finding[name])));
    }
    table
}

/// Takes what is there for whole.
pub(super) fn accept(config: &Path, environment: &Environment) -> Outcome {
    make_private();
    let config = Config::load(config, environment.iter().cloned())?;
    let path = config.daemon.state_dir.join(LEDGER_DIR);
    let options = config.ledger.options();
    let outcome = sled::accept(&path, options);
    give_back(&config.daemon.state_dir).map_err(Undone::of("that"))?;
    match outcome {
        Err(OpenError::InUse { .. }) => Err(Undone::of("that")(Running).into()),
        outcome => {
            let Accepted { raised_cursors } = outcome.map_err(Undone::of("that"))?;
            if raised_cursors > 0 {
                terminal::print(&format!(
                    "{raised_cursors} cursors of a scope and metric stood before periods that are \
                     in the ledger: raised\n"
                ))?;
            }
            terminal::print("the ledger is taken for whole as it is\n")?;
            Ok(())
        }
    }
}
