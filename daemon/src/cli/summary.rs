//! `rated summary`: what was used and what it costs, by any attribute.
//!
//! Every digit that the daemon has is shown.

use serde_json::Value;

use super::client::{Client, Server};
use super::moment::{self, Moment};
use super::table::{Align, Table};
use super::{Environment, Outcome, UsageError, terminal};
use crate::clock::Clock;

#[derive(Debug, clap::Args)]
pub(super) struct SummaryArguments {
    /// From then on; default: the begin of this month
    #[arg(long, value_name = "TIME")]
    begin: Option<Moment>,
    /// To before then; default: the begin of the next month
    #[arg(long, value_name = "TIME")]
    end: Option<Moment>,
    /// Attributes, `type` or `time`, `time-d`, `time-w`, `time-m`, `time-y`; several with commas
    #[arg(long, value_name = "ATTRIBUTE", value_delimiter = ',')]
    group_by: Vec<String>,
    /// Only what has this value; of values of the same attribute any
    #[arg(long = "filter", value_name = "ATTRIBUTE=VALUE")]
    filters: Vec<String>,
    /// Print the API's answer
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print comma-separated values
    #[arg(long)]
    csv: bool,
}

pub(super) fn run(
    arguments: &SummaryArguments,
    server: &Server,
    clock: &dyn Clock,
    environment: &Environment,
) -> Outcome {
    let query = query(arguments, clock)?;
    let client = server.client(environment)?;
    let answer = client.get_all(&["v2", "summary"], &query, "results")?;
    if arguments.json {
        terminal::print(&format!("{answer:#}\n"))?;
        return Ok(());
    }
    let text = if arguments.csv {
        table(&client, &answer, Times::Always)?.to_csv()
    } else {
        let by_time = arguments.group_by.iter().any(|name| name == "time");
        let times = if by_time { Times::Always } else { Times::Once };
        let table = table(&client, &answer, times)?;
        let caption = if by_time { String::new() } else { caption(&answer) };
        caption + &table.render(terminal::style(environment))
    };
    terminal::print(&text)?;
    Ok(())
}

fn query<'a>(
    arguments: &SummaryArguments,
    clock: &dyn Clock,
) -> Result<Vec<(&'a str, String)>, UsageError> {
    let mut query = Vec::new();
    for (name, moment) in [("begin", arguments.begin), ("end", arguments.end)] {
        query.extend(moment.map(|moment| (name, moment.to_text(clock))));
    }
    if !arguments.group_by.is_empty() {
        query.push(("groupby", arguments.group_by.join(",")));
    }
    for filter in &arguments.filters {
        let pair = filter.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, value) = pair
            .ok_or_else(|| UsageError(format!("`--filter {filter}`: must be `ATTRIBUTE=VALUE`")))?;
        query.push(("filters", format!("{name}:{value}")));
    }
    Ok(query)
}

/// Where begin and end stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    /// In each row.
    Always,
    /// They are the same for all rows.
    Once,
}

/// Groups first, then what was used and what it costs.
fn table(
    client: &Client,
    answer: &Value,
    times: Times,
) -> Result<Table, super::client::ClientError> {
    let names = client.list(answer, "columns")?;
    let rows = client.list(answer, "results")?;
    let names: Vec<String> = names.iter().map(super::text).collect();
    let measures = ["qty", "rate"];
    let is_shown = |name: &&String| match name.as_str() {
        "begin" | "end" => times == Times::Always,
        name => !measures.contains(&name),
    };
    let index_of = |name: &str| names.iter().position(|it| it == name);
    let mut indexes: Vec<usize> =
        names.iter().filter(is_shown).filter_map(|name| index_of(name)).collect();
    let mut columns: Vec<(String, Align)> =
        indexes.iter().map(|index| (names[*index].to_uppercase(), Align::Left)).collect();
    for (name, title) in measures.into_iter().zip(["QUANTITY", "PRICE"]) {
        indexes.extend(index_of(name));
        columns.push((title.to_owned(), Align::Number));
    }
    let mut table = Table::new(columns);
    for row in rows {
        let cell = |index: &usize| match names[*index].as_str() {
            "begin" | "end" => moment::tidy(&super::text(&row[*index])),
            _ => super::text(&row[*index]),
        };
        table.push(indexes.iter().map(cell));
    }
    Ok(table)
}

/// The period of all rows.
fn caption(answer: &Value) -> String {
    let row = &answer["results"][0];
    match (row[0].as_str(), row[1].as_str()) {
        (Some(begin), Some(end)) => {
            format!("from {} to before {}\n\n", moment::tidy(begin), moment::tidy(end))
        }
        _ => "nothing was rated in that time\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use reqwest::header::HeaderMap;
    use serde_json::json;

    use super::*;
    use crate::cli::table::Style;
    use crate::clock::ManualClock;

    fn arguments(filters: &[&str]) -> SummaryArguments {
        SummaryArguments {
            begin: Some("now-1d".parse().unwrap()),
            end: None,
            group_by: vec!["type".to_owned(), "time-d".to_owned()],
            filters: filters.iter().map(|&filter| filter.to_owned()).collect(),
            json: false,
            csv: false,
        }
    }

    #[test]
    fn filters_are_pairs() {
        let clock = ManualClock::new(DateTime::from_timestamp(86_400, 0).unwrap());

        let query = query(&arguments(&["project_id=a=b", "type=cpu"]), &clock).unwrap();

        let expected = [
            ("begin", "1970-01-01T00:00:00Z"),
            ("groupby", "type,time-d"),
            ("filters", "project_id:a=b"),
            ("filters", "type:cpu"),
        ];
        assert_eq!(query, expected.map(|(name, value)| (name, value.to_owned())));
        assert!(super::query(&arguments(&["type"]), &clock).is_err());
    }

    #[test]
    fn figures_are_exact_and_come_last() {
        let client = Client::new("http://host", HeaderMap::new(), None).unwrap();
        let answer: Value = serde_json::from_str(
            r#"{"total": 2, "format": "table", "columns": ["begin", "end", "qty", "rate", "type"],
            "results": [
                ["2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00",
                 12345678901234567890.0123456789, "0.1", "cpu"],
                ["2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00", 1, 2.50, "disk"]]}"#,
        )
        .unwrap();

        let text =
            caption(&answer) + &table(&client, &answer, Times::Once).unwrap().render(Style::Plain);

        let expected = "\
from 2026-11-01T00:00:00Z to before 2026-12-01T00:00:00Z

TYPE                         QUANTITY  PRICE
cpu   12345678901234567890.0123456789   0.1
disk                     1              2.50
";
        assert_eq!(text, expected);
        let nothing = json!({"columns": [], "results": []});
        assert_eq!(caption(&nothing), "nothing was rated in that time\n");
    }
}
