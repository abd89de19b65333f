//! A ledger of many little slices, old months and dead bytes is made small.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Datelike, Months, TimeDelta, Timelike, Utc};
use rated_tests::now;
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Driven};
use crate::picture::{date, picture};
use crate::site::{Acknowledged, Scenario, Site};

pub(crate) const STEPS: [&str; 7] = [
    "change.merged",
    "change.moved",
    "change.file_forgotten",
    "change.summed_up",
    "change.rows_forgotten",
    "change.slices_forgotten",
    "compaction.file_deleted",
];

const SCOPES: usize = 40;
/// Months back: kept, without rows, gone.
const MONTHS: [u32; 3] = [1, 5, 9];
const PUSHES: usize = 24;

pub(crate) struct Upkeep {
    now: DateTime<Utc>,
}

impl Upkeep {
    pub(crate) fn new() -> Upkeep {
        Upkeep { now: now() }
    }

    /// The begin of a month that many months ago.
    fn month(&self, back: u32) -> DateTime<Utc> {
        let day = self.now.with_day(1).and_then(|day| day.with_hour(0)).unwrap();
        let day = day.with_minute(0).and_then(|day| day.with_second(0)).unwrap();
        day.with_nanosecond(0).unwrap() - Months::new(back)
    }

    /// Nobody is found, nothing is collected.
    fn config_with(&self, ledger: &str) -> String {
        let hour = self.now - TimeDelta::hours(1);
        crate::config((hour, hour), 0, &format!("\n[ledger]\n{ledger}"))
    }

    fn body(&self, back: u32, index: usize) -> Value {
        let hours = i64::try_from(index % 4 * 13).unwrap();
        let begin = self.month(back) + TimeDelta::hours(hours);
        let end = begin + TimeDelta::hours(1);
        let point = |scope: usize| {
            // Numbers that nothing makes short, so that there is something to move.
            let number = (index * SCOPES + scope + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (quantity, price) = (number >> 20, number % 1_000_000_007);
            json!({
                "vol": {"unit": "piece", "qty": quantity}, "rating": {"price": price},
                "groupby": {"project_id": format!("project-{scope}")}, "metadata": {},
            })
        };
        let points: Vec<Value> = (0..SCOPES).map(point).collect();
        let period = json!({"begin": date(begin), "end": date(end)});
        json!({"dataframes": [{"period": period, "usage": {"gift": points}}]})
    }
}

impl Scenario for Upkeep {
    fn config(&self) -> String {
        let keep = "keep_months = 3\nkeep_rollups_months = 7\n";
        self.config_with(&format!("compaction_percent = 100\n{keep}"))
    }

    fn prepare(&self, site: &Site) {
        site.on_template(&self.config_with("compaction_percent = 0\n"), |client| {
            for back in MONTHS {
                for index in 0..PUSHES {
                    let body = self.body(back, index);
                    client.say(&Method::POST, "/v2/dataframes", &body, &[204])?;
                }
            }
            Ok(())
        });
    }

    fn drive(&self, client: &mut Client, _: &Path, known: &mut Acknowledged) -> Driven<()> {
        // Whatever upkeep has done: what is kept is all there, at any moment.
        let (begin, end) = (date(self.month(MONTHS[0])), date(self.month(0)));
        let rows = move |client: &mut Client| -> Driven<Value> {
            let range = format!("begin={begin}&end={end}");
            Ok(client.get(&format!("/v2/dataframes?limit=1&{range}"))?["total"].clone())
        };
        assert_eq!(rows(client)?, PUSHES * SCOPES);
        known.add("rows", move |client| {
            assert_eq!(rows(client)?, PUSHES * SCOPES);
            Ok(())
        });
        client.wait_until("all of it is done", |client| {
            let metrics = client.call(&Method::GET, "/metrics", None)?.text;
            let name = "rated_compaction_last_end_seconds ";
            let last = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            Ok(last != "0")
        })
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        let kept =
            picture(client, &format!("begin={}&end={}", date(self.month(1)), date(self.now)))?;
        let (old, older) = (date(self.month(MONTHS[1])), date(self.month(MONTHS[2])));
        let mut lines = kept;
        for begin in [old, older] {
            let range = format!("begin={begin}&end={}", date(self.month(0)));
            for path in ["/v2/summary?groupby=project_id&", "/v2/dataframes?limit=1&"] {
                let answer = client.call(&Method::GET, &format!("{path}{range}"), None)?;
                write!(lines, "\n{path} {} {}", answer.status, answer.text).unwrap();
            }
        }
        Ok(lines)
    }
}
