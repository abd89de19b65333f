//! `rated scope`: who is billed, up to when, and how to begin again.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{Client, Server};
use super::moment::{self, Moment};
use super::table::{Align, Table, printable};
use super::terminal::{self, Consent};
use super::{Environment, Outcome};
use crate::clock::Clock;

const SCOPE: [&str; 2] = ["v2", "scope"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum ScopeCommand {
    /// List scopes with the last period that is in the ledger
    List(ListArguments),
    /// Remove what was rated from a time on, so that it is collected and rated again
    Reset {
        #[command(flatten)]
        selection: Selection,
        /// From then on; it becomes the scopes' last processed time
        #[arg(long, value_name = "TIME")]
        from: Moment,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Collect scopes no more; what is in the ledger stays
    Pause {
        #[arg(required = true)]
        scopes: Vec<String>,
    },
    /// Collect scopes again, from where they stopped
    Resume {
        #[arg(required = true)]
        scopes: Vec<String>,
    },
}

/// Some scopes, or all.
#[derive(Debug, clap::Args)]
#[group(required = true)]
pub(super) struct Selection {
    pub(super) scopes: Vec<String>,
    /// All that are not paused
    #[arg(long, conflicts_with = "scopes")]
    pub(super) all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    /// Only these
    scopes: Vec<String>,
    /// Only those with this scope key
    #[arg(long)]
    scope_key: Option<String>,
    /// Only those that this fetcher found
    #[arg(long)]
    fetcher: Option<String>,
    /// Only those that this collector measures
    #[arg(long)]
    collector: Option<String>,
    /// Only those that are collected
    #[arg(long, conflicts_with = "paused")]
    active: bool,
    /// Only those that are not
    #[arg(long)]
    paused: bool,
    /// Print the API's answer
    #[arg(long)]
    json: bool,
}

/// Most scopes that are named when it is asked whether to reset them.
const NAMED_MAX: usize = 20;

#[derive(Debug, thiserror::Error)]
enum ScopeError {
    #[error("there is no scope `{name}`\n(hint: `rated scope list` names them)")]
    NoScope { name: String },
    #[error("there is no scope that is not paused")]
    NoScopes,
    #[error(
        "the scope `{name}` is paused, and only active ones are reset\n(hint: `rated scope resume \
         {name}` collects it again)"
    )]
    Paused { name: String },
}

pub(super) fn run(
    command: &ScopeCommand,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let client = server.client(environment)?;
    match command {
        ScopeCommand::List(arguments) => list(&client, arguments, environment),
        ScopeCommand::Reset { selection, from, yes } => {
            reset(&client, selection, &from.to_text(clock), Consent::of(*yes))
        }
        ScopeCommand::Pause { scopes } => scopes.iter().try_for_each(|name| {
            change(&client, name, false)?;
            say(name, "is paused")
        }),
        ScopeCommand::Resume { scopes } => scopes.iter().try_for_each(|name| {
            change(&client, name, true)?;
            say(name, "is active")
        }),
    }
}

fn say(name: &str, what: &str) -> Outcome {
    terminal::print(&format!("{}: {what}\n", printable(name)))?;
    Ok(())
}

fn change(client: &Client, name: &str, active: bool) -> Outcome {
    let body = json!({"scope_id": name, "active": active});
    match client.call(Method::PATCH, &SCOPE, &[], Some(&body)) {
        Err(error) if error.is_status(StatusCode::NOT_FOUND) => {
            Err(ScopeError::NoScope { name: name.to_owned() }.into())
        }
        answer => Ok(answer.map(|_| ())?),
    }
}

/// What is meant is looked up first: what is said is what is done.
fn reset(client: &Client, selection: &Selection, from: &str, consent: Consent) -> Outcome {
    let names = selected(client, selection)?;
    let shown: Vec<String> = names.iter().take(NAMED_MAX).map(|name| printable(name)).collect();
    let more = match names.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let count = names.len();
    let scopes = if count == 1 { "scope" } else { "scopes" };
    terminal::print(&format!(
        "Reset of {count} {scopes}: {}{more}.\nWhat was rated from {from} on is removed from the \
         ledger, then collected and rated again by the rules in force then.\n",
        shown.join(", ")
    ))?;
    consent.obtain("Do that?")?;
    let body = json!({"scope_id": names, "last_processed_timestamp": from});
    client.call(Method::PUT, &SCOPE, &[], Some(&body))?;
    terminal::print("done\n")?;
    Ok(())
}

/// Active scopes by name; others are an error.
fn selected(
    client: &Client,
    selection: &Selection,
) -> Result<Vec<String>, Box<dyn std::error::Error + Send + Sync>> {
    let answer = client.get_all(&SCOPE, &[], "results")?;
    let known = client.list(&answer, "results")?;
    let is_active = |scope: &Value| scope["active"].as_bool().unwrap_or_default();
    if selection.all {
        let active = known.iter().filter(|scope| is_active(scope));
        let names: Vec<String> = active.map(|scope| super::text(&scope["scope_id"])).collect();
        return if names.is_empty() { Err(ScopeError::NoScopes.into()) } else { Ok(names) };
    }
    for name in &selection.scopes {
        let name = name.clone();
        match known.iter().find(|scope| scope["scope_id"] == name.as_str()) {
            None => return Err(ScopeError::NoScope { name }.into()),
            Some(scope) if !is_active(scope) => return Err(ScopeError::Paused { name }.into()),
            Some(_) => {}
        }
    }
    Ok(selection.scopes.clone())
}

fn list(client: &Client, arguments: &ListArguments, environment: &Environment) -> Outcome {
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(arguments.scopes.iter().map(|scope| ("scope_id", scope.clone())));
    query.extend(arguments.scope_key.clone().map(|key| ("scope_key", key)));
    query.extend(arguments.fetcher.clone().map(|name| ("fetcher", name)));
    query.extend(arguments.collector.clone().map(|name| ("collector", name)));
    query.extend(arguments.active.then(|| ("active", "1".to_owned())));
    query.extend(arguments.paused.then(|| ("active", "0".to_owned())));
    let answer = client.get_all(&SCOPE, &query, "results")?;
    if arguments.json {
        terminal::print(&format!("{answer:#}\n"))?;
        return Ok(());
    }
    let table = table(client.list(&answer, "results")?);
    terminal::print(&table.render(terminal::style(environment)))?;
    Ok(())
}

fn table(scopes: &[Value]) -> Table {
    let titles = ["SCOPE", "KEY", "STATE", "LAST PERIOD", "FETCHER", "COLLECTOR"];
    let mut table = Table::new(titles.map(|title| (title, Align::Left)));
    for scope in scopes {
        let is_active = scope["active"].as_bool().unwrap_or_default();
        let last = match scope["last_processed_timestamp"].as_str() {
            Some(last) => moment::tidy(last),
            None => "none yet".to_owned(),
        };
        table.push([
            super::text(&scope["scope_id"]),
            super::text(&scope["scope_key"]),
            if is_active { "active" } else { "paused" }.to_owned(),
            last,
            super::text(&scope["fetcher"]),
            super::text(&scope["collector"]),
        ]);
    }
    table
}
