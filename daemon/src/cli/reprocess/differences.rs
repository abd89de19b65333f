//! `rated reprocess diff`: figures from before they were rated again, beside those since.

use std::error::Error;

use serde_json::{Value, json};

use crate::cli::client::{Client, ClientError};
use crate::cli::moment::{self, Moment};
use crate::cli::table::{Align, Table};
use crate::cli::{Environment, Outcome, Undone, how_many_are, terminal, text};
use crate::clock::Clock;
use crate::usage::Sum;

const DIFFERENCES: [&str; 3] = ["v2", "ledger", "differences"];
const GENERATIONS: [&str; 3] = ["v2", "ledger", "generations"];

/// Rows that are asked for at once.
const PAGE_SIZE: usize = 10_000;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct DiffArguments {
    /// Only of these scopes
    scopes: Vec<String>,
    /// What this reprocessing has replaced, by its number in `rated reprocess generations`;
    /// without it, what was there last of each period
    #[arg(long, value_name = "NUMBER")]
    id: Option<u64>,
    /// Periods that begin then or later
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Periods that begin before
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Figures that are the same, too
    #[arg(long)]
    all: bool,
    /// Print what the API answers, a row in each line
    #[arg(long)]
    json: bool,
}

/// How many figures are others now; they have been listed.
#[derive(Debug, thiserror::Error)]
#[error("{} others now", how_many_are(*.0, "figure"))]
struct Differ(usize);

#[derive(Debug, Default)]
struct Totals {
    changed: usize,
    old: Sum,
    new: Sum,
}

pub(super) fn run(
    arguments: &DiffArguments,
    client: &Client,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let totals = compare(arguments, client, clock, environment);
    let totals = totals.map_err(Undone::of("the comparison"))?;
    let mut difference = totals.new;
    difference -= totals.old;
    let (old, new) = (totals.old.to_text(0), totals.new.to_text(0));
    if arguments.json {
        let total = json!({"old": old, "new": new, "difference": difference.to_text(0)});
        terminal::print(&format!("{}\n", json!({"total_price": total})))?;
    } else {
        let what = if arguments.all { "of all" } else { "of those that changed" };
        let difference = difference.to_text(0);
        terminal::print(&format!("price {what}: {old} before, {new} since, {difference} more\n"))?;
    }
    match totals.changed {
        0 => Ok(()),
        count => Err(Differ(count).into()),
    }
}

/// Prints the rows as they come.
fn compare(
    arguments: &DiffArguments,
    client: &Client,
    clock: &dyn Clock,
    environment: &Environment,
) -> Result<Totals, Box<dyn Error + Send + Sync>> {
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(arguments.scopes.iter().map(|scope| ("scope_id", scope.clone())));
    query.extend(arguments.id.map(|id| ("id", id.to_string())));
    query.extend(arguments.from.as_ref().map(|from| ("begin", from.to_text(clock))));
    query.extend(arguments.to.as_ref().map(|to| ("end", to.to_text(clock))));
    query.push(("show", if arguments.all { "all" } else { "changed" }.to_owned()));
    query.push(("limit", PAGE_SIZE.to_string()));
    let mut totals = Totals::default();
    let mut after: Option<String> = None;
    loop {
        let mut query = query.clone();
        query.extend(after.map(|after| ("after", after)));
        // A page at a time: a range may have more rows than there is room for.
        let page = client.get(&DIFFERENCES, &query)?;
        let rows = client.list(&page, "results")?;
        for row in rows {
            totals.add(client, row)?;
        }
        if arguments.json {
            for row in rows {
                terminal::print(&format!("{row}\n"))?;
            }
        } else if !rows.is_empty() {
            terminal::print(&table(rows).render(terminal::style(environment)))?;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return Ok(totals);
        }
    }
}

impl Totals {
    fn add(&mut self, client: &Client, row: &Value) -> Result<(), ClientError> {
        let price = |of: &str| -> Result<Sum, ClientError> {
            let price = row[of]["price"].as_str().and_then(Sum::from_text);
            price.ok_or_else(|| client.strange(&row.to_string()))
        };
        self.old += price("old")?;
        self.new += price("new")?;
        self.changed += usize::from(row["old"] != row["new"]);
        Ok(())
    }
}

fn table(rows: &[Value]) -> Table {
    let columns = [
        ("PERIOD", Align::Left),
        ("SCOPE", Align::Left),
        ("TYPE", Align::Left),
        ("QTY BEFORE", Align::Number),
        ("QTY SINCE", Align::Number),
        ("PRICE BEFORE", Align::Number),
        ("PRICE SINCE", Align::Number),
        ("MORE", Align::Number),
    ];
    let mut table = Table::new(columns);
    for row in rows {
        table.push([
            moment::tidy(&text(&row["begin"])),
            text(&row["scope_id"]),
            text(&row["type"]),
            text(&row["old"]["qty"]),
            text(&row["new"]["qty"]),
            text(&row["old"]["price"]),
            text(&row["new"]["price"]),
            text(&row["difference"]["price"]),
        ]);
    }
    table
}

/// Which reprocessings can be compared.
pub(super) fn list(client: &Client, is_json: bool, environment: &Environment) -> Outcome {
    let answer = client.get_all(&GENERATIONS, &[], "results")?;
    if is_json {
        terminal::print(&format!("{answer:#}\n"))?;
        return Ok(());
    }
    let titles = ["NUMBER", "FROM", "TO", "SCOPES", "REASON"];
    let mut table = Table::new(titles.map(|title| (title, Align::Left)));
    for generation in client.list(&answer, "results")? {
        let scopes = generation["scope_ids"].as_array().map_or(0, Vec::len);
        table.push([
            text(&generation["id"]),
            moment::tidy(&text(&generation["start_reprocess_time"])),
            moment::tidy(&text(&generation["end_reprocess_time"])),
            scopes.to_string(),
            text(&generation["reason"]),
        ]);
    }
    terminal::print(&table.render(terminal::style(environment)))?;
    Ok(())
}
