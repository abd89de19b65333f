//! `rated scope`: who is billed, up to when, and how to begin again.

use serde_json::Value;

use super::client::{Client, Server};
use super::table::{Align, Table};
use super::{Environment, Outcome, moment, terminal};

const SCOPE: [&str; 2] = ["v2", "scope"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum ScopeCommand {
    /// List scopes with the last period that is in the ledger
    List(ListArguments),
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

pub(super) fn run(command: &ScopeCommand, server: &Server, environment: &Environment) -> Outcome {
    let client = server.client(environment)?;
    match command {
        ScopeCommand::List(arguments) => list(&client, arguments, environment),
    }
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
