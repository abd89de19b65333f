//! Who is billed, and up to when: the daemon goes on where the source stopped.

use std::collections::HashSet;
use std::error::Error;

use reqwest::Method;
use serde_json::{Value, json};

use super::{Copying, Kind, Report, SourceError};
use crate::cli::text;

const SCOPE: [&str; 2] = ["v2", "scope"];

impl Copying<'_> {
    pub(super) fn scopes(&self) -> Result<Report, Box<dyn Error + Send + Sync>> {
        let mut report = Report::default();
        let own = self.target.get_all(&SCOPE, &[], "results")?;
        let own = self.target.list(&own, "results")?;
        let known: HashSet<&str> = own.iter().filter_map(|it| it["scope_id"].as_str()).collect();
        let theirs = self
            .source
            .get_all(&SCOPE, &[], "results")
            .map_err(|error| SourceError { kind: Kind::Scopes.name(), error })?;
        for scope in self.source.list(&theirs, "results")? {
            let name = text(&scope["scope_id"]);
            if known.contains(name.as_str()) {
                report.known += 1;
                continue;
            }
            let last = &scope["last_processed_timestamp"];
            if last.is_null() {
                let why = "never rated there; it will be found like any other";
                report.leave(&format!("scope `{name}`"), why);
                continue;
            }
            match self.write(Method::POST, &SCOPE, &[], &new_scope(scope))? {
                Ok(_) => report.copy("scope"),
                Err(why) => report.leave(&format!("scope `{name}`"), &why),
            }
        }
        Ok(report)
    }
}

/// Which fetcher and collector it has here, the daemon says.
fn new_scope(scope: &Value) -> Value {
    let mut body = json!({
        "scope_id": scope["scope_id"],
        "last_processed_timestamp": scope["last_processed_timestamp"],
    });
    for name in ["scope_key", "active"] {
        if !scope[name].is_null() {
            body[name] = scope[name].clone();
        }
    }
    body
}
