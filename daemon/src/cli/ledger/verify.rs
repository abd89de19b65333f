//! `rated ledger verify`: everything that is damaged, and what to do about it.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use serde_json::{Value, json};

use super::LEDGER_DIR;
use crate::cli::client::{Client, Server};
use crate::cli::table::{Align, Table};
use crate::cli::{Environment, Outcome, how_many_are, terminal, text};
use crate::config::Config;
use crate::ledger::sled::{self, OpenError, SledLedger};
use crate::ledger::{Finding, Ledger as _, LedgerError};

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// How many places are damaged; they have been listed.
#[derive(Debug, thiserror::Error)]
#[error("{} damaged", how_many_are(*.0, "place"))]
struct DamageFound(usize);

#[derive(Debug, thiserror::Error)]
#[error("a daemon uses the ledger\n(hint: stop it first)")]
struct Running;

/// What there is to look at.
enum Source {
    Daemon(Client),
    Folder(Box<SledLedger>),
    /// It cannot be opened, and this is why.
    Unopened(Vec<Value>),
}

pub(super) fn run(
    config: &Path,
    server: &Server,
    is_json: bool,
    environment: &Environment,
) -> Outcome {
    let findings = match open(config, server, environment)? {
        Source::Unopened(findings) => findings,
        Source::Daemon(client) => go_through(&mut |from| {
            let query = from.map(|from| ("from", from.to_owned()));
            let answer = client.get(&["v2", "ledger", "verify"], query.as_slice())?;
            let findings = client.list(&answer, "findings")?.to_vec();
            Ok(Step {
                findings,
                next: answer["next"].as_str().map(str::to_owned),
                done: answer["bytes_done"].as_u64().unwrap_or(0),
                total: answer["bytes_total"].as_u64().unwrap_or(0),
            })
        })?,
        Source::Folder(ledger) => go_through(&mut |from| {
            let step = ledger.verify(from)?;
            Ok(Step {
                findings: step.findings.iter().map(show).collect(),
                next: step.next,
                done: step.bytes_done,
                total: step.bytes_total,
            })
        })?,
    };
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

fn open(config: &Path, server: &Server, environment: &Environment) -> Result<Source, Failed> {
    if server.is_given(environment) {
        return Ok(Source::Daemon(server.client(environment)?));
    }
    let config = Config::load(config, environment.iter().cloned())?;
    let path = config.daemon.state_dir.join(LEDGER_DIR);
    let options = config.ledger.options();
    match SledLedger::open(&path, options) {
        Ok(ledger) => Ok(Source::Folder(Box::new(ledger))),
        Err(error @ OpenError::InUse { .. }) => match server.client_for(&config, environment)? {
            Some(client) => Ok(Source::Daemon(client)),
            None => Err(error.into()),
        },
        Err(OpenError::Read(LedgerError::Damaged { place, detail })) => {
            let mut findings = vec![unopened(&place, &detail)];
            let records = sled::check_records(&path, options)?;
            let is_new = |finding: &&Finding| finding.place != place;
            findings.extend(records.iter().filter(is_new).map(show));
            Ok(Source::Unopened(findings))
        }
        Err(error @ (OpenError::Sled { .. } | OpenError::Panic { .. })) => {
            let detail = crate::cli::chain(&error);
            Ok(Source::Unopened(vec![unopened("the ledger", &detail)]))
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

fn show(finding: &Finding) -> Value {
    let scopes = finding.scopes.as_ref();
    let form = "%FT%T+00:00";
    json!({
        "place": finding.place,
        "detail": finding.detail,
        "file": finding.file,
        "begin": finding.period.map(|period| period.begin().format(form).to_string()),
        "end": finding.period.map(|period| period.end().format(form).to_string()),
        "metric": finding.metric,
        "first_scope_id": scopes.map(|(first, _)| first),
        "last_scope_id": scopes.map(|(_, last)| last),
        "remedy": finding.remedy.text(),
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
    let is_terminal = io::stderr().is_terminal();
    let mut findings = Vec::new();
    let mut from: Option<String> = None;
    loop {
        let done = step(from.as_deref())?;
        findings.extend(done.findings);
        if is_terminal {
            let (part, all) = (super::readable(done.done), super::readable(done.total));
            eprint!("\r\x1b[2Kchecked {part} of {all}, {} damaged", findings.len());
        }
        match done.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    if is_terminal {
        eprint!("\r\x1b[2K");
    }
    Ok(findings)
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
    let config = Config::load(config, environment.iter().cloned())?;
    let path = config.daemon.state_dir.join(LEDGER_DIR);
    let options = config.ledger.options();
    match sled::accept(&path, options) {
        Err(OpenError::InUse { .. }) => Err(Running.into()),
        outcome => {
            outcome?;
            terminal::print("the ledger is taken for whole as it is\n")?;
            Ok(())
        }
    }
}
