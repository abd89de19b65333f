//! From an empty folder to a bill: the first start, the cycle, the stop.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{DataSet, Exact, steady_quantity, steady_scope};

use crate::client::{Client, Driven};
use crate::picture::{Sums, date, list, picture, sums, text};
use crate::site::{Acknowledged, Scenario};

pub(crate) const SCOPES: usize = 3;
pub(crate) const HOURS: usize = 4;
const RESOURCES: usize = 2;

pub(crate) const STEPS: [&str; 40] = [
    "start.locked",
    "start.leftovers_removed",
    "start.sled_opened",
    "start.header_written",
    "start.trees_opened",
    "start.folders_synced",
    "start.synced",
    "start.data_folder_made",
    "start.ledger_loaded",
    "start.plugins_loaded",
    "start.metrics_set",
    "start.serving",
    "plugin.copy_written",
    "plugin.copy_named",
    "plugin.mapped",
    "plugin.started",
    "plugin.instances_made",
    "plugin.swapped",
    "change.metrics",
    "change.rules",
    "change.scopes_added",
    "change.commit",
    "group.file_made",
    "group.file_named",
    "group.extent_written",
    "group.extents_synced",
    "group.writing_early",
    "group.journal_written",
    "group.flushed",
    "group.durable",
    "group.applying",
    "group.applied",
    "group.shown",
    "group.told",
    "cycle.begun",
    "cycle.fetched",
    "cycle.synced",
    "cycle.collected",
    "cycle.rated",
    "cycle.committing",
];

pub(crate) struct Collecting {
    pub(crate) data: DataSet,
}

impl Collecting {
    pub(crate) fn new() -> Collecting {
        Collecting { data: DataSet::ending_lately(2, SCOPES, RESOURCES, HOURS) }
    }

    pub(crate) fn range(&self) -> String {
        format!("begin={}&end={}", date(self.data.begin), date(self.data.end()))
    }

    pub(crate) fn times(&self) -> (DateTime<Utc>, DateTime<Utc>) {
        (self.data.begin, self.data.end())
    }
}

impl Scenario for Collecting {
    fn config(&self) -> String {
        crate::config(self.times(), SCOPES, "")
    }

    fn drive(&self, client: &mut Client, _: &Path, acknowledged: &mut Acknowledged) -> Driven<()> {
        let (begin, end) = self.times();
        wait_until_collected(client, end, acknowledged)?;
        let collected = sums(client, &self.range())?;
        assert_eq!(collected, expected_sums(begin, |metric, _, _| price_of(metric)));
        Ok(())
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        picture(client, &self.range())
    }
}

/// By the initial rules, for a unit.
pub(crate) fn price_of(metric: usize) -> Exact {
    Exact::parse(["0.5", "0.02"][metric])
}

/// What the source tells, by prices for a unit of metric, scope and hour.
pub(crate) fn expected_sums(
    begin: DateTime<Utc>,
    price: impl Fn(usize, usize, usize) -> Exact,
) -> Sums {
    let mut expected = Sums::new();
    for metric in 0..2 {
        for scope in 0..SCOPES {
            for hour in 0..HOURS {
                let at = begin + TimeDelta::hours(i64::try_from(hour).unwrap());
                let (name, id) = (DataSet::metric_name(metric), steady_scope(scope));
                let used = |resource| steady_quantity(&name, &id, resource, at);
                let quantity = (0..RESOURCES).map(used).sum::<u64>();
                let quantity = Exact::parse(&format!("{quantity}e-4"));
                let at = at.format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
                expected.insert((at, id, name), (quantity, quantity * price(metric, scope, hour)));
            }
        }
    }
    expected
}

/// Waits for every scope; what was seen of a cursor is acknowledged.
pub(crate) fn wait_until_collected(
    client: &mut Client,
    end: DateTime<Utc>,
    acknowledged: &mut Acknowledged,
) -> Driven<()> {
    client.wait_until("every scope is collected", |client| {
        let seen = positions(client)?;
        let is_there = seen.len() >= SCOPES && seen.iter().all(|(_, last)| *last >= Some(end));
        acknowledged.add("cursors", move |client| {
            let now = positions(client)?;
            for (scope, last) in &seen {
                let found = now.iter().find(|(known, _)| known == scope);
                assert!(found.is_some_and(|(_, now)| now >= last), "{scope} is behind {last:?}");
            }
            Ok(())
        });
        Ok(is_there)
    })
}

/// The end of what is known of each scope.
fn positions(client: &mut Client) -> Driven<Vec<(String, Option<DateTime<Utc>>)>> {
    let scopes = list(&client.get("/v2/scope?limit=10000")?["results"]);
    let position = |scope: &serde_json::Value| {
        let last = DateTime::parse_from_rfc3339(&text(&scope["last_processed_timestamp"])).ok();
        let end = last.map(|last| last.with_timezone(&Utc) + TimeDelta::hours(1));
        (text(&scope["scope_id"]), end)
    };
    Ok(scopes.iter().map(position).collect())
}
