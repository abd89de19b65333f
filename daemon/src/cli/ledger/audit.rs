//! `rated ledger audit`: are the prices in the ledger those that its rules lead to?
//!
//! Exit code 0: there are rows, and the libraries that rated them come to the same price for all
//! that were rated here. 1: a difference, or damage. 2: nothing wrong was found, but not all was
//! proved, or nothing could be.

use std::error::Error;
use std::ops::ControlFlow;

use serde_json::Value;

use crate::audit::AuditOutcome;
use crate::cli::client::{Client, Server};
use crate::cli::moment::{self, Moment};
use crate::cli::progress::Progress;
use crate::cli::table::printable;
use crate::cli::{Environment, Outcome, Undone, UsageError, terminal, text};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct AuditArguments {
    /// Periods that begin then or later
    #[arg(long, value_name = "TIME")]
    from: Moment,
    /// Periods that begin before
    #[arg(long, value_name = "TIME")]
    to: Moment,
    /// Rows of this scope only; may be repeated
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// This metric type only; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// Print the API's answer, a line of JSON for each finding
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum AuditFailed {
    #[error("the ledger is not what its rules lead to")]
    Different,
    #[error("not everything was proved: {0}")]
    Incomplete(String),
    #[error("the daemon did not end its answer\n(hint: its log says why)")]
    NoEnd,
}

const AUDIT: &str = "the audit";

pub(super) fn run(
    arguments: &AuditArguments,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    if arguments.from.resolve(clock) >= arguments.to.resolve(clock) {
        let text = "`--to` must be after `--from`".to_owned();
        return Err(UsageError(text).into());
    }
    let counts = ask(arguments, server, clock, environment).map_err(Undone::of(AUDIT))?;
    if !arguments.json {
        terminal::print(&summary(&counts))?;
    }
    let is_it = |outcome: AuditOutcome| counts.0["outcome"] == outcome.name();
    if is_it(AuditOutcome::Proved) {
        Ok(())
    } else if is_it(AuditOutcome::Wrong) {
        Err(AuditFailed::Different.into())
    } else {
        Err(Undone::of(AUDIT)(AuditFailed::Incomplete(counts.unproved())).into())
    }
}

/// The last line of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counts(Value);

impl Counts {
    fn of(&self, name: &str) -> u64 {
        self.0[name].as_u64().unwrap_or(0)
    }

    /// What keeps an audit that found nothing wrong from being a proof.
    fn unproved(&self) -> String {
        if self.of("rows") == 0 && self.of("days_without_rows") == 0 {
            return "there are no such rows".to_owned();
        }
        let reasons = [
            ("not_compared", "rows not compared"),
            ("equal_by_other_library", "rows compared by another library than rated them"),
            ("days_without_rows", "days whose rows are not kept any more"),
        ];
        let is_there = |(name, _): &&(&str, &str)| self.of(name) > 0;
        let told = reasons.iter().filter(is_there);
        let told: Vec<String> =
            told.map(|(name, text)| format!("{text}: {}", self.of(name))).collect();
        if told.is_empty() { "no row was rated here".to_owned() } else { told.join(", ") }
    }
}

fn ask(
    arguments: &AuditArguments,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Result<Counts, Box<dyn Error + Send + Sync>> {
    let client: Client = server.client(environment)?;
    let mut query =
        vec![("begin", arguments.from.to_text(clock)), ("end", arguments.to.to_text(clock))];
    query.extend(arguments.scope.iter().map(|scope| ("scope_id", scope.clone())));
    query.extend(arguments.types.iter().map(|name| ("type", name.clone())));
    let mut end = None;
    let mut printed = Ok(());
    let mut progress = Progress::new();
    client.lines(&["v2", "audit"], &query, &mut |line| {
        if let Some(counts) = line.get("end") {
            end = Some(Counts(counts.clone()));
        }
        if let Some(at) = line.get("progress") {
            progress.show(|| how_far(at));
        }
        let shown = if arguments.json {
            Some(format!("{line}\n"))
        } else {
            finding(line).map(|text| text + "\n")
        };
        if let Some(shown) = shown {
            progress.clear();
            printed = terminal::print(&shown);
        }
        if printed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    progress.clear();
    printed?;
    end.ok_or_else(|| AuditFailed::NoEnd.into())
}

fn how_far(progress: &Value) -> String {
    let counts = Counts(progress["counts"].clone());
    let differences = counts.of("different") + counts.of("different_by_other_library");
    let at = moment::tidy(&text(&progress["at"]));
    format!("up to {at}: {} rows, {differences} differences", counts.of("rows"))
}

/// A finding in one line; `None` = it is none.
fn finding(line: &Value) -> Option<String> {
    let part = |value: &Value| printable(&text(value));
    let time = |value: &Value| moment::tidy(&text(value));
    if let Some(of) = line.get("difference") {
        let by = match of["by_same_libraries"].as_bool() {
            Some(true) => "",
            _ => " (by another library: the one that rated is not here)",
        };
        return Some(format!(
            "difference: scope {}, {} from {} to {}, row {}: stored {}, computed {} from {} by \
             {}{by}",
            part(&of["scope_id"]),
            metric(of),
            time(&of["begin"]),
            time(&of["end"]),
            of["row"],
            part(&of["stored"]),
            part(&of["computed"]),
            part(&of["qty"]),
            rated_by(of),
        ));
    }
    if let Some(of) = line.get("damage") {
        let rules = match (&of["module"], &of["revision"]) {
            (Value::String(module), revision) => {
                format!(" (rules of module {} at revision {revision})", printable(module))
            }
            _ => String::new(),
        };
        return Some(format!("damage: {}: {}{rules}", part(&of["place"]), part(&of["detail"])));
    }
    let of = line.get("not_compared")?;
    Some(format!(
        "not compared: from {} on, {} by {}: {}",
        time(&of["begin"]),
        part(&of["type"]),
        rated_by(of),
        part(&of["reason"])
    ))
}

fn metric(of: &Value) -> String {
    let (name, metric_type) = (text(&of["metric"]), text(&of["type"]));
    let shown = if name == metric_type { name } else { format!("{metric_type} ({name})") };
    printable(&shown)
}

/// `hashmap revision 3`
fn rated_by(of: &Value) -> String {
    let modules = of["rated_by"].as_array().map(Vec::as_slice).unwrap_or_default();
    let module =
        |by: &Value| format!("{} revision {}", printable(&text(&by["module"])), by["revision"]);
    if modules.is_empty() {
        return "no module".to_owned();
    }
    modules.iter().map(module).collect::<Vec<_>>().join(", ")
}

fn summary(counts: &Counts) -> String {
    let told = [
        ("rows looked at", "rows"),
        ("equal", "equal"),
        ("different", "different"),
        ("equal, by another library than rated them", "equal_by_other_library"),
        ("different, by another library than rated them", "different_by_other_library"),
        ("pushed, rated elsewhere", "pushed"),
        ("not compared", "not_compared"),
        ("damaged places", "damages"),
        ("days whose rows are not kept any more", "days_without_rows"),
    ];
    let always = ["rows", "equal", "different"];
    let is_told = |name: &str| always.contains(&name) || counts.of(name) > 0;
    let lines = told.iter().filter(|(_, name)| is_told(name));
    let line = |(title, name): &(&str, &str)| format!("{title}: {}\n", counts.of(name));
    lines.map(line).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_whose_it_is_and_who_made_it() {
        let line = json!({"difference": {
            "scope_id": "alice", "type": "cpu", "metric": "cpu_seconds",
            "begin": "2026-11-01T00:00:00+00:00", "end": "2026-11-01T01:00:00+00:00", "row": 2,
            "qty": "3", "stored": "0.3", "computed": "0.6", "by_same_libraries": true,
            "rated_by": [{"module": "hashmap", "revision": 4, "library": "ab"}],
        }});

        assert_eq!(
            finding(&line).unwrap(),
            "difference: scope alice, cpu (cpu_seconds) from 2026-11-01T00:00:00Z to \
             2026-11-01T01:00:00Z, row 2: stored 0.3, computed 0.6 from 3 by hashmap revision 4"
        );
    }

    #[test]
    fn damage_of_rules_names_module_revision_and_key() {
        let place = "key `mapping/1` of `rating/hashmap` at revision 2";
        let line = json!({"damage": {
            "place": place, "detail": "its checksum is wrong", "module": "hashmap", "revision": 3,
        }});

        let text = finding(&line).unwrap();

        assert!(text.contains(place) && text.ends_with("(rules of module hashmap at revision 3)"));
        assert_eq!(finding(&json!({"progress": {}})), None);
    }

    #[test]
    fn the_summary_tells_what_there_is() {
        let counts = Counts(json!({"rows": 5, "equal": 3, "pushed": 2}));

        assert_eq!(
            summary(&counts),
            "rows looked at: 5\nequal: 3\ndifferent: 0\npushed, rated elsewhere: 2\n"
        );
        assert_eq!(counts.unproved(), "no row was rated here");
        assert_eq!(Counts(json!({"rows": 0})).unproved(), "there are no such rows");
        let counts = Counts(json!({"rows": 5, "not_compared": 2, "days_without_rows": 1}));
        let expected = "rows not compared: 2, days whose rows are not kept any more: 1";
        assert_eq!(counts.unproved(), expected);
    }
}
