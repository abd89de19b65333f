//! `rated token`: tokens for machines that call the API.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use ring::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use super::{Outcome, UsageError, terminal};
use crate::config::check_token_name;
use crate::usage::ScopeId;

/// Random bytes of a token.
const TOKEN_SIZE: usize = 32;
/// Tells people and scanners of secrets what it is.
const PREFIX: &str = "rated_";

#[derive(Debug, clap::Subcommand)]
pub(super) enum TokenCommand {
    /// Make a token: prints it, once, and the lines for the file that `api.token.file` names
    New(NewArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct NewArguments {
    /// Who will use it; stands in logs and beside what is changed with it
    name: String,
    /// What it may do: `admin`, `reader`, `member`, `monitoring`, or a role of your policy; several
    /// times
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The scope (project) that it speaks for
    #[arg(long, value_name = "SCOPE")]
    scope: Option<String>,
    /// When it ends, such as `2027-01-01T00:00:00Z`
    #[arg(long, value_name = "DATE")]
    expires: Option<String>,
}

pub(super) fn run(command: &TokenCommand) -> Outcome {
    let TokenCommand::New(arguments) = command;
    let mut random = [0; TOKEN_SIZE];
    let filled = SystemRandom::new().fill(&mut random);
    filled.map_err(|_| UsageError("the system has no random bytes".to_owned()))?;
    let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
    let entry = entry(arguments, &token)?;
    terminal::print(&format!(
        "{token}\n\nThis is the token; it is shown this once. For the file that `api.token.file` \
         names:\n\n{entry}"
    ))?;
    Ok(())
}

/// The lines for the file.
fn entry(arguments: &NewArguments, token: &str) -> Result<String, UsageError> {
    let wrong =
        |what: &str, error: &dyn std::fmt::Display| UsageError(format!("`{what}`: {error}"));
    check_token_name(&arguments.name).map_err(|error| wrong("NAME", &error))?;
    let mut text = String::new();
    let mut add = |key: &str, value: toml::Value| {
        writeln!(text, "{key} = {value}").expect("writing to a string does not fail");
    };
    add("name", arguments.name.clone().into());
    add("sha256", format!("{:x}", Sha256::digest(token)).into());
    add("roles", arguments.roles.clone().into());
    if let Some(scope) = &arguments.scope {
        ScopeId::new(scope).map_err(|error| wrong("--scope", &error))?;
        add("scope", scope.clone().into());
    }
    if let Some(expires) = &arguments.expires {
        let date = DateTime::parse_from_rfc3339(expires).map_err(|_| {
            wrong("--expires", &"must be a date with time and offset: `2027-01-01T00:00:00Z`")
        })?;
        let date = date.with_timezone(&Utc).format("%Y-%m-%dT%H:%M:%SZ").to_string();
        add("expires", date.parse::<toml::value::Datetime>().expect("just written").into());
    }
    Ok(format!("[[token]]\n{text}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::read_tokens;

    fn arguments(name: &str) -> NewArguments {
        NewArguments {
            name: name.to_owned(),
            roles: vec!["monitoring".to_owned(), "a \"quoted\" role".to_owned()],
            scope: Some("p1".to_owned()),
            expires: Some("2027-01-01T02:00:00+02:00".to_owned()),
        }
    }

    #[test]
    fn the_daemon_reads_the_lines() {
        let text = entry(&arguments("prometheus"), "rated_abc").unwrap();

        let tokens = read_tokens(text.as_bytes(), Path::new("tokens.toml")).unwrap();

        assert_eq!(tokens[0].name, "prometheus");
        assert_eq!(tokens[0].sha256, <[u8; 32]>::from(Sha256::digest("rated_abc")));
        assert_eq!(tokens[0].rights.roles, ["monitoring", "a \"quoted\" role"]);
        assert_eq!(tokens[0].rights.scope.as_ref().unwrap().as_str(), "p1");
        assert_eq!(tokens[0].expires.unwrap().to_rfc3339(), "2027-01-01T00:00:00+00:00");
        assert!(!text.contains("rated_abc"));
    }

    #[test]
    fn what_the_daemon_would_refuse_is_refused() {
        assert!(entry(&arguments("two words"), "t").is_err());
        let scope = Some(String::new());
        assert!(entry(&NewArguments { scope, ..arguments("a") }, "t").is_err());
        let expires = Some("tomorrow".to_owned());
        assert!(entry(&NewArguments { expires, ..arguments("a") }, "t").is_err());
    }
}
