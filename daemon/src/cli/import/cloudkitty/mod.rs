//! What a running `CloudKitty`, or rated, has, copied into the running daemon.
//!
//! Prices first, scopes last: nothing is rated by half a list. What is there already is never
//! changed, and what can't be copied is said.

#[cfg(any(test, fuzzing))]
pub(super) mod fuzz;
mod hashmap;
mod scopes;
mod scripts;
mod states;

use std::error::Error;

use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::report::Report;
use crate::cli::client::{Client, ClientError, Server};
use crate::cli::table::Style;
use crate::cli::terminal::{self, Consent};
use crate::cli::{Environment, Outcome, UsageError, credentials};
use crate::clock::Clock;

/// The variable that holds the token of the source.
const TOKEN_VARIABLE: &str = "RATED_SOURCE_TOKEN";

#[derive(Debug, clap::Args)]
pub(super) struct CloudkittyArguments {
    /// Address of the API to copy from
    #[arg(long = "url", value_name = "URL")]
    source: String,
    /// Sent to it as `X-Auth-Token` [env: `RATED_SOURCE_TOKEN`]
    #[arg(long, value_name = "TOKEN")]
    source_token: Option<String>,
    /// Address of the daemon to copy into [env: `RATED_URL`] [default: `http://127.0.0.1:8889`]
    #[arg(long, value_name = "URL")]
    into: Option<String>,
    /// What is not copied; several with commas
    #[arg(long, value_delimiter = ',', value_enum)]
    skip: Vec<Kind>,
    /// Only show what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

/// What can be copied, in the order in which it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Hashmap,
    Pyscripts,
    Modules,
    Scopes,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Hashmap, Kind::Pyscripts, Kind::Modules, Kind::Scopes];

    fn name(self) -> &'static str {
        match self {
            Kind::Hashmap => "hashmap",
            Kind::Pyscripts => "pyscripts",
            Kind::Modules => "modules",
            Kind::Scopes => "scopes",
        }
    }
}

/// Is anything changed, or only looked at?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Look,
    Copy,
}

/// From where to where.
struct Copying<'a> {
    source: Client,
    target: Client,
    mode: Mode,
    /// Now, as the API writes it.
    now: String,
    style: Style,
    kinds: &'a [Kind],
}

#[derive(Debug, thiserror::Error)]
#[error("cannot read `{kind}` of the source\n(hint: `--skip {kind}` copies the rest)")]
struct SourceError {
    kind: &'static str,
    #[source]
    error: ClientError,
}

pub(super) fn run(
    arguments: &CloudkittyArguments,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let variable = environment.iter().find(|(name, _)| name == TOKEN_VARIABLE);
    let token = arguments.source_token.as_ref().or(variable.map(|(_, value)| value));
    let headers = match token {
        Some(token) => {
            credentials::header(HeaderName::from_static("x-auth-token"), TOKEN_VARIABLE, token)?
        }
        None => HeaderMap::new(),
    };
    let kinds: Vec<Kind> =
        Kind::ALL.into_iter().filter(|kind| !arguments.skip.contains(kind)).collect();
    let mut copying = Copying {
        source: Client::new(&arguments.source, headers, None)?,
        target: Server::at(arguments.into.clone()).client(environment)?,
        mode: Mode::Look,
        now: clock.now().format("%Y-%m-%dT%H:%M:%S").to_string(),
        style: terminal::style(environment),
        kinds: &kinds,
    };
    if copying.source.address() == copying.target.address() {
        let text = "`--url` and `--into` are the same daemon".to_owned();
        return Err(UsageError(text).into());
    }
    let consent = Consent::of(arguments.yes);
    if arguments.dry_run || consent == Consent::Ask {
        copying.run("would copy")?;
    }
    if arguments.dry_run {
        return Ok(());
    }
    consent.obtain(&format!("Copy this into {}?", copying.target.address()))?;
    copying.mode = Mode::Copy;
    copying.run("copied")
}

impl Copying<'_> {
    fn run(&self, verb: &str) -> Outcome {
        for kind in self.kinds {
            terminal::print(&self.copy(*kind)?.text(kind.name(), verb))?;
        }
        Ok(())
    }

    fn copy(&self, kind: Kind) -> Result<Report, Box<dyn Error + Send + Sync>> {
        match kind {
            Kind::Hashmap => self.hashmap(),
            Kind::Pyscripts => self.scripts(),
            Kind::Modules => self.states(),
            Kind::Scopes => self.scopes(),
        }
    }

    /// A list of the source.
    fn read(
        &self,
        kind: Kind,
        path: &[&str],
        query: &[(&str, String)],
        name: &str,
    ) -> Result<Vec<Value>, SourceError> {
        let answer = self.source.get(path, query);
        let list = answer.and_then(|answer| self.source.list(&answer, name).map(<[_]>::to_vec));
        list.map_err(|error| SourceError { kind: kind.name(), error })
    }

    /// Changes the target; what it refuses is left, and said.
    fn write(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: &Value,
    ) -> Result<Result<Value, String>, ClientError> {
        if self.mode == Mode::Look {
            return Ok(Ok(Value::Null));
        }
        match self.target.call(method, path, query, Some(body)) {
            Ok(answer) => Ok(Ok(answer)),
            Err(ClientError::Refused { status, text, .. }) if status < 500 => Ok(Err(text)),
            Err(error) => Err(error),
        }
    }

    /// A list of the target; `None` when it has no such thing at all.
    fn read_own(&self, path: &[&str], name: &str) -> Result<Option<Vec<Value>>, ClientError> {
        match self.target.get(path, &[]) {
            Err(error) if is_nowhere(&error) => Ok(None),
            answer => Ok(Some(self.target.list(&answer?, name)?.to_vec())),
        }
    }
}

/// Is there nothing at that path?
fn is_nowhere(error: &ClientError) -> bool {
    [StatusCode::NOT_FOUND, StatusCode::METHOD_NOT_ALLOWED, StatusCode::CONFLICT]
        .into_iter()
        .any(|status| error.is_status(status))
}
