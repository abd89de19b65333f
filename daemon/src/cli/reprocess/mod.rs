//! `rated reprocess`: periods that are in the ledger already, collected and rated again.

mod differences;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use chrono::DateTime;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{Client, ClientError, Server};
use super::moment::{self, Moment};
use super::scope::Selection;
use super::table::{Align, Table, printable};
use super::{Environment, Outcome, Undone, terminal};
use crate::clock::Clock;

use self::differences::DiffArguments;

const TASKS: [&str; 3] = ["v2", "task", "reprocesses"];

/// How often progress is asked for.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Cells of a progress bar.
const BAR_WIDTH: u32 = 30;
/// Bars drawn at once; the rest is counted.
const BARS_MAX: usize = 20;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ReprocessCommand {
    /// Collect and rate the periods of some scopes again; readers see the old figures until then
    Start {
        #[command(flatten)]
        selection: Selection,
        /// Begin of the first period
        #[arg(long, value_name = "TIME")]
        from: Moment,
        /// Begin of the last period
        #[arg(long, value_name = "TIME")]
        to: Moment,
        /// Why; kept with the task
        #[arg(long)]
        reason: String,
        /// Wait for the end and show progress
        #[arg(long)]
        wait: bool,
    },
    /// Compare figures from before they were rated again with those since
    ///
    /// Ends with 0 = they are the same; 1 = some are others; 2 = it could not be done.
    Diff(DiffArguments),
    /// List finished tasks of which `diff` knows the old figures
    Generations {
        /// Print the API's answer
        #[arg(long)]
        json: bool,
    },
    /// List what is and was reprocessed, the newest first
    List {
        /// Only of these
        scopes: Vec<String>,
        /// Print the API's answer
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(
    command: &ReprocessCommand,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let client = match (command, server.client(environment)) {
        (ReprocessCommand::Diff(_), client) => client.map_err(Undone::of("the comparison"))?,
        (_, client) => client?,
    };
    match command {
        ReprocessCommand::Diff(arguments) => {
            differences::run(arguments, &client, clock, environment)
        }
        ReprocessCommand::Generations { json } => differences::list(&client, *json, environment),
        ReprocessCommand::List { scopes, json } => {
            let answer = client.get_all(&TASKS, &query(scopes), "results")?;
            let text = if *json {
                format!("{answer:#}\n")
            } else {
                let tasks = client.list(&answer, "results")?.iter().map(Task::of).collect();
                table(tasks).render(terminal::style(environment))
            };
            terminal::print(&text)?;
            Ok(())
        }
        ReprocessCommand::Start { selection, from, to, reason, wait } => {
            let scopes =
                if selection.all { vec!["ALL".to_owned()] } else { selection.scopes.clone() };
            let (from, to) = (from.to_text(clock), to.to_text(clock));
            let body = json!({
                "scope_ids": scopes,
                "reason": reason,
                "start_reprocess_time": from,
                "end_reprocess_time": to,
            });
            client.call(Method::POST, &TASKS, &[], Some(&body))?;
            terminal::print(&format!("scheduled: {from} to {to}\n"))?;
            if !wait {
                return Ok(());
            }
            let mine = |task: &Task| {
                task.start == from && task.end == to && task.reason.trim() == reason.trim()
            };
            watch(&client, &selection.scopes, &mine)
        }
    }
}

fn query(scopes: &[String]) -> Vec<(&'static str, String)> {
    scopes.iter().map(|scope| ("scope_ids", scope.clone())).collect()
}

/// Periods of one scope that are rated again.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Task {
    scope: String,
    reason: String,
    start: String,
    /// Begin of the last period.
    end: String,
    /// Begin of the period that was done last; empty before the first.
    current: String,
}

impl Task {
    fn of(task: &Value) -> Task {
        let time = |name: &str| moment::tidy(&super::text(&task[name]));
        Task {
            scope: super::text(&task["scope_id"]),
            reason: super::text(&task["reason"]),
            start: time("start_reprocess_time"),
            end: time("end_reprocess_time"),
            current: time("current_reprocess_time"),
        }
    }

    fn percent(&self) -> u32 {
        let seconds = |text: &str| Some(DateTime::parse_from_rfc3339(text).ok()?.timestamp());
        let times = (seconds(&self.start), seconds(&self.end), seconds(&self.current));
        let (Some(start), Some(end), Some(current)) = times else { return 0 };
        if current >= end {
            return 100;
        }
        // What is not at its end is not at 100.
        let percent = (current - start).max(0) * 100 / (end - start).max(1);
        u32::try_from(percent).unwrap_or(0).min(99)
    }
}

fn table(tasks: Vec<Task>) -> Table {
    let titles = ["SCOPE", "FROM", "TO", "PROGRESS", "REASON"];
    let mut table = Table::new(titles.map(|title| (title, Align::Left)));
    for task in tasks {
        let bar = bar(task.percent());
        table.push([task.scope, task.start, task.end, bar, task.reason]);
    }
    table
}

/// `[##########--------------------]  33 %`
fn bar(percent: u32) -> String {
    let full = (BAR_WIDTH * percent.min(100) / 100) as usize;
    let empty = BAR_WIDTH as usize - full;
    format!("[{}{}] {percent:3} %", "#".repeat(full), "-".repeat(empty))
}

#[derive(Debug, thiserror::Error)]
#[error("the daemon has no such task any more\n(hint: `rated reprocess list` shows those it has)")]
struct NoTask;

/// By scope. The newest task stands first; what was reprocessed before is not waited for.
fn progress(tasks: &[Task]) -> BTreeMap<String, u32> {
    let mut progress = BTreeMap::new();
    for task in tasks {
        progress.entry(printable(&task.scope)).or_insert_with(|| task.percent());
    }
    progress
}

/// Shows progress until everything is done: bars on a terminal, else a line for each step.
fn watch(client: &Client, scopes: &[String], mine: &dyn Fn(&Task) -> bool) -> Outcome {
    let is_terminal = io::stdout().is_terminal();
    let mut shown: BTreeMap<String, u32> = BTreeMap::new();
    let mut drawn = 0;
    loop {
        let progress = progress(&tasks(client, scopes, mine)?);
        if progress.is_empty() {
            return Err(NoTask.into());
        }
        let text = if is_terminal {
            let lines = bars(&progress);
            // Up over what was drawn before, each line cleared as it is drawn anew.
            let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
            drawn = lines.len();
            up + &lines.iter().map(|line| ["\x1b[2K", line, "\n"].concat()).collect::<String>()
        } else {
            let moved =
                progress.iter().filter(|(scope, percent)| shown.get(*scope) != Some(percent));
            let lines = moved.map(|(scope, percent)| format!("{scope}: {percent} %\n"));
            lines.collect::<Vec<_>>().concat()
        };
        terminal::print(&text)?;
        shown = progress;
        if shown.values().all(|percent| *percent == 100) {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

fn tasks(
    client: &Client,
    scopes: &[String],
    mine: &dyn Fn(&Task) -> bool,
) -> Result<Vec<Task>, ClientError> {
    let answer = client.get_all(&TASKS, &query(scopes), "results")?;
    Ok(client.list(&answer, "results")?.iter().map(Task::of).filter(|task| mine(task)).collect())
}

/// Those that are not done first.
fn bars(progress: &BTreeMap<String, u32>) -> Vec<String> {
    let width = progress.keys().map(|scope| scope.chars().count()).max().unwrap_or(0);
    let mut sorted: Vec<(&String, &u32)> = progress.iter().collect();
    sorted.sort_by_key(|(_, percent)| **percent == 100);
    let drawn = sorted.iter().take(BARS_MAX);
    let mut lines: Vec<String> =
        drawn.map(|(scope, percent)| format!("{scope:width$}  {}", bar(**percent))).collect();
    if sorted.len() > BARS_MAX {
        lines.push(format!("{} more", sorted.len() - BARS_MAX));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    fn task(current: &str) -> Task {
        Task::of(&json!({
            "scope_id": "s", "reason": "prices changed",
            "start_reprocess_time": "2026-01-01T00:00:00",
            "end_reprocess_time": "2026-01-01T10:00:00",
            "current_reprocess_time": current,
        }))
    }

    #[test]
    fn progress_is_how_far_the_last_period_is() {
        let percent = |current: &str| task(current).percent();

        assert_eq!(percent(""), 0);
        assert_eq!(percent("2026-01-01T00:00:00"), 0);
        assert_eq!(percent("2026-01-01T05:00:00"), 50);
        assert_eq!(percent("2026-01-01T09:59:59"), 99);
        assert_eq!(percent("2026-01-01T10:00:00"), 100);
        let single = Task { end: task("").start, ..task("2026-01-01T00:00:00") };
        assert_eq!(single.percent(), 100);
    }

    #[test]
    fn a_task_that_is_done_does_not_stand_for_the_one_that_is_not() {
        let tasks = [task(""), task("2026-01-01T10:00:00")];

        assert_eq!(progress(&tasks), BTreeMap::from([("s".to_owned(), 0)]));
    }

    #[test]
    fn bars_are_drawn_to_scale() {
        assert_eq!(bar(0), "[------------------------------]   0 %");
        assert_eq!(bar(50), "[###############---------------]  50 %");
        assert_eq!(bar(100), "[##############################] 100 %");
        let progress = BTreeMap::from([("a".to_owned(), 100), ("long".to_owned(), 5)]);
        let lines = bars(&progress);
        assert!(lines[0].starts_with("long  [#---"), "{lines:?}");
        assert!(lines[1].starts_with("a     [####"), "{lines:?}");
    }
}
