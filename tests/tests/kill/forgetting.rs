//! A ledger of another time, of which little is to be kept.

use std::path::Path;

use chrono::TimeDelta;
use rated_tests::now;
use reqwest::Method;
use serde_json::json;

use crate::client::{Client, Driven};
use crate::picture::{list, picture};
use crate::site::{Acknowledged, Scenario, Site, copy_tree};

pub(crate) const STEPS: [&str; 4] = [
    "change.push_keys_forgotten",
    "change.reprocessings_forgotten",
    "change.rules_forgotten",
    "change.generations_dropped",
];

const RANGE: &str = "begin=2026-10-01&end=2026-12-31";
/// A scope that was rated again.
const OF: &str = "scope_id=cid";

pub(crate) struct Forgetting;

impl Forgetting {
    pub(crate) fn new() -> Forgetting {
        Forgetting
    }

    /// Nothing is due: the sample stays what it is.
    fn config_with(ledger: &str) -> String {
        let now = now() - TimeDelta::hours(1);
        let config = crate::config((now, now), 0, &format!("\n[ledger]\n{ledger}"));
        config.replace("period_secs = 3600", "period_secs = 86400\nwait_periods = 10000")
    }
}

/// Of how many reprocessings there are figures from before, and how many.
fn old_figures(client: &mut Client) -> Driven<(usize, usize)> {
    let generations = list(&client.get("/v2/ledger/generations")?["results"]);
    let differences = list(&client.get("/v2/ledger/differences?limit=10000")?["results"]);
    Ok((generations.len(), differences.len()))
}

impl Scenario for Forgetting {
    fn config(&self) -> String {
        let keep = "keep_generations = 1\nkeep_push_keys_days = 1\nkeep_reprocessings = 1\n\
                    keep_rules_days = 1\n";
        Forgetting::config_with(&format!("compaction_percent = 100\n{keep}"))
    }

    fn prepare(&self, site: &Site) {
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/data/ledger-5");
        let ledger = site.template().join("state/ledger");
        copy_tree(&sample, &ledger);
        std::fs::create_dir_all(ledger.join("blobs")).unwrap();
        // What it has begun is ended before.
        site.on_template(&Forgetting::config_with("compaction_percent = 0\n"), |client| {
            client.wait_until("both are reprocessed that were not", |client| {
                Ok(client.output().matches("Reprocessing finished").count() >= 2)
            })?;
            let (reprocessings, rows) = old_figures(client)?;
            assert!(reprocessings > 1 && rows > 1, "{reprocessings}, {rows}");
            Ok(())
        });
    }

    fn drive(&self, client: &mut Client, _: &Path, _: &mut Acknowledged) -> Driven<()> {
        client.wait_until("all of it is done", |client| {
            let metrics = client.call(&Method::GET, "/metrics", None)?.text;
            let name = "rated_compaction_last_end_seconds ";
            let last = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0");
            Ok(last != "0")
        })
    }

    fn more_kills(&self) -> u64 {
        1
    }

    /// As a caller sees it: no old figures are left, rows are explained as before, and a key that
    /// is gone takes another body.
    fn picture(&self, client: &mut Client) -> Driven<String> {
        let mut lines = picture(client, RANGE)?;
        assert_eq!(old_figures(client)?, (0, 0));
        let explained = list(&client.get(&format!("/v2/explain?{RANGE}&{OF}"))?["results"]);
        assert!(!explained.is_empty());
        lines.extend(explained.iter().map(|row| format!("\nexplained {row}")));
        let point = json!({
            "vol": {"unit": "u", "qty": 1}, "rating": {"price": 1},
            "groupby": {"project_id": "late"}, "metadata": {},
        });
        let period = json!({"begin": "2019-07-23T12:00:00", "end": "2019-07-23T13:00:00"});
        let body = json!({"dataframes": [{"period": period, "usage": {"late": [point]}}]});
        let key = [("Idempotency-Key", "a")];
        let answer = client.call_with(&Method::POST, "/v2/dataframes", &key, Some(&body))?;
        assert_eq!(answer.status, 204, "{}", answer.text);
        Ok(lines)
    }
}
