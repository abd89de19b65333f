//! `rated prices`: hashmap's price list as one file, read, compared and applied as a whole.
//!
//! What applying a list does is decided by the daemon, which also says beforehand what it would do;
//! this program shows that and asks.

mod difference;
mod file;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;

pub(in crate::cli) use self::file::quoted;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::client::{Client, ClientError, Server};
use super::moment;
use super::table::{Align, Style, Table};
use super::terminal::{self, Consent};
use super::{Environment, Outcome};
use crate::clock::Clock;

const PRICES: [&str; 5] = ["v1", "rating", "module_config", "hashmap", "prices"];

#[derive(Debug, clap::Subcommand)]
pub(super) enum PricesCommand {
    /// List the prices that count now or later
    List {
        /// Print the API's answer
        #[arg(long)]
        json: bool,
    },
    /// Write the price list to a file that people can read and edit
    Export {
        /// The file; default: the standard output
        file: Option<PathBuf>,
    },
    /// Make the price list that of a file: show what is different, then apply all of it or nothing
    ///
    /// Prices of the past never change: a running rule that is not in the file ends now, one with
    /// another price ends now and a new one begins.
    Import {
        file: PathBuf,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Only show what is different
        #[arg(long)]
        dry_run: bool,
        /// New rules may begin in the past
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, thiserror::Error)]
enum PricesError {
    #[error("the daemon has no price list\n(hint: it must have the module `hashmap`)")]
    NoHashmap(#[source] ClientError),
    #[error("cannot write `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: std::io::Error,
    },
    #[error("`{}`: line {line}", path.display())]
    Line {
        path: PathBuf,
        line: usize,
        #[source]
        error: ClientError,
    },
    #[error("`{}`", path.display())]
    Refused {
        path: PathBuf,
        #[source]
        error: ClientError,
    },
    #[error(
        "the price list was changed since `{}` was made\n(hint: export it again, or take the line \
         `revision` out of the file to apply it to whatever there is now)",
        path.display()
    )]
    Stale {
        path: PathBuf,
        #[source]
        error: ClientError,
    },
}

pub(super) fn run(
    command: &PricesCommand,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let client = server.client(environment)?;
    let style = terminal::style(environment);
    match command {
        PricesCommand::List { json } => {
            let list = read(&client)?;
            let text = if *json { format!("{list:#}\n") } else { table(&list).render(style) };
            terminal::print(&text)?;
            Ok(())
        }
        PricesCommand::Export { file } => {
            let list = read(&client)?;
            let head = format!("{}, {}", client.address(), moment::show(clock.now()));
            write(&file::render(&list, &head), file.as_deref())
        }
        PricesCommand::Import { file, yes, dry_run, force } => {
            let import = Import { path: file, client: &client, force: *force };
            let consent = if *dry_run { None } else { Some(Consent::of(*yes)) };
            import.run(consent, style)
        }
    }
}

/// The list as the API has it.
pub(super) fn read(client: &Client) -> Result<Value, ClientError> {
    client.get(&PRICES, &[])
}

/// What a list changes; with `dry_run` in the query nothing is changed.
pub(super) fn put(
    client: &Client,
    list: &Value,
    query: &[(&str, String)],
) -> Result<Value, ClientError> {
    client.call(Method::PUT, &PRICES, query, Some(list))
}

/// One line for each thing that a list changes.
pub(super) fn describe(answer: &Value, style: Style) -> Vec<String> {
    let changes = answer["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
    changes.iter().map(|change| difference::line(change, style)).collect()
}

fn write(text: &str, file: Option<&Path>) -> Outcome {
    let Some(path) = file else {
        terminal::print(text)?;
        return Ok(());
    };
    let written = std::fs::File::create(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| PricesError::Write { path: path.to_owned(), error })?;
    Ok(())
}

fn table(list: &Value) -> Table {
    let mut table = Table::new([
        ("SERVICE", Align::Left),
        ("FIELD", Align::Left),
        ("VALUE", Align::Left),
        ("FROM", Align::Number),
        ("GROUP", Align::Left),
        ("TENANT", Align::Left),
        ("TYPE", Align::Left),
        ("COST", Align::Number),
        ("START", Align::Left),
        ("END", Align::Left),
        ("NAME", Align::Left),
    ]);
    let names =
        ["service", "field", "value", "level", "group", "tenant", "type", "cost", "start", "end"];
    for rule in list["rules"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let cells = names.iter().chain(&["name"]).map(|name| super::text(&rule[*name]));
        table.push(cells);
    }
    table
}

/// A file that becomes the price list.
struct Import<'a> {
    path: &'a Path,
    client: &'a Client,
    force: bool,
}

impl Import<'_> {
    /// Without consent to ask for, nothing is applied.
    fn run(&self, consent: Option<Consent>, style: Style) -> Outcome {
        let mut file = file::PriceFile::read(self.path)?;
        let planned = self.put(&file, true)?;
        let lines = describe(&planned, style);
        if lines.is_empty() {
            terminal::print("no difference\n")?;
            return Ok(());
        }
        terminal::print(&(lines.join("\n") + "\n"))?;
        let Some(consent) = consent else { return Ok(()) };
        consent.obtain("Apply all of this?")?;
        // What was shown is what is applied: a list that others change meanwhile is refused.
        file.list["revision"] = planned["revision"].clone();
        let applied = self.put(&file, false)?;
        let revision = &applied["revision"];
        terminal::print(&format!("applied: the price list is at revision {revision}\n"))?;
        Ok(())
    }

    fn put(&self, file: &file::PriceFile, is_dry: bool) -> Result<Value, PricesError> {
        let mut query = Vec::new();
        query.extend(is_dry.then(|| ("dry_run", "true".to_owned())));
        query.extend(self.force.then(|| ("force", "true".to_owned())));
        let path = self.path.to_owned();
        put(self.client, &file.list, &query).map_err(|error| match &error {
            ClientError::Refused { status, .. } if *status == StatusCode::CONFLICT.as_u16() => {
                PricesError::Stale { path, error }
            }
            ClientError::Refused { status, .. }
                if [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED]
                    .iter()
                    .any(|known| known.as_u16() == *status) =>
            {
                PricesError::NoHashmap(error)
            }
            ClientError::Refused { text, .. } => match file.line_of(text) {
                Some(line) => PricesError::Line { path, line, error },
                None => PricesError::Refused { path, error },
            },
            _ => PricesError::Refused { path, error },
        })
    }
}
