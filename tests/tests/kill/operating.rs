//! A daemon that has collected is told something new, one thing after the other: rules, states,
//! pushes, resets, reprocessings.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{DataSet, Exact, steady_scope};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{Client, Driven};
use crate::collecting::{Collecting, HOURS, SCOPES, expected_sums, price_of, wait_until_collected};
use crate::picture::{date, list, picture, sums, text};
use crate::site::{Acknowledged, Scenario, Site};

pub(crate) const STEPS: [&str; 29] = [
    "start.journal_read",
    "start.replaying",
    "start.replayed",
    "start.stray_removed",
    "plugin.copy_removed",
    "cycle.committed",
    "cycle.ended",
    "change.module",
    "change.collector",
    "change.mapping",
    "change.push",
    "change.newcomers",
    "change.scope",
    "change.reset",
    "change.reprocessing_added",
    "change.reprocessed_staged",
    "change.reprocessing_advanced",
    "change.reprocessing_postponed",
    "change.swapped",
    "reprocess.worked",
    "reprocess.period_staged",
    "reprocess.swapped",
    "push.read",
    "group.writing_early",
    "stop.begun",
    "stop.cycle_ended",
    "stop.api_ended",
    "stop.plugins_ended",
    "group.durable",
];

const HASHMAP: &str = "/v1/rating/module_config/hashmap";
/// What everybody pays more for a unit of the first metric, as soon as it is collected again.
const SURCHARGE: &str = "0.25";
const RESET_HOUR: usize = 2;
/// So many scopes come with a push that their records do not fit into one of the journal's.
const PUSHED_SCOPES: usize = 2500;
const KEY: [(&str, &str); 1] = [("Idempotency-Key", "a-push-of-many")];

pub(crate) struct Operating(Collecting);

impl Operating {
    pub(crate) fn new() -> Operating {
        Operating(Collecting::new())
    }

    fn hour(&self, hour: usize) -> DateTime<Utc> {
        self.0.data.begin + TimeDelta::hours(i64::try_from(hour).unwrap())
    }

    fn price(metric: usize, surcharge: bool) -> Exact {
        let more = if surcharge && metric == 0 { SURCHARGE } else { "0" };
        price_of(metric) + Exact::parse(more)
    }

    /// The surcharge of one hour of a scope, or what there is instead.
    fn is_dearer(&self, client: &mut Client, scope: usize, hour: usize) -> Driven<Option<bool>> {
        let (begin, end) = (date(self.hour(hour)), date(self.hour(hour + 1)));
        let sums = sums(client, &format!("begin={begin}&end={end}"))?;
        let key = (steady_scope(scope), DataSet::metric_name(0));
        let found = sums.iter().find(|((_, scope, metric), _)| (scope, metric) == (&key.0, &key.1));
        Ok(found.map(|(_, (quantity, price))| *price == *quantity * Operating::price(0, true)))
    }
}

impl Scenario for Operating {
    fn config(&self) -> String {
        crate::config(self.0.times(), SCOPES, "")
    }

    fn prepare(&self, site: &Site) {
        let (_, end) = self.0.times();
        site.on_template(&self.config(), |client| {
            wait_until_collected(client, end, &mut Acknowledged::default())
        });
        let state = site.template().join("state");
        std::fs::write(state.join("ledger/data/2019-01.77"), "rated data\n").unwrap();
        std::fs::write(state.join("plugins/gone-0123456789abcdef.so"), "an old copy").unwrap();
    }

    fn drive(&self, client: &mut Client, _: &Path, known: &mut Acknowledged) -> Driven<()> {
        let (_, end) = self.0.times();
        wait_until_collected(client, end, known)?;
        self.enter_surcharge(client, known)?;
        set_states(client, known)?;
        push(client, known)?;
        self.reset(client, known)?;
        self.reprocess(client, known)?;
        let found = sums(client, &self.0.range())?;
        let expected = expected_sums(self.0.data.begin, |metric, scope, hour| {
            let is_reset = scope == 0 && hour >= RESET_HOUR;
            Operating::price(metric, is_reset || (scope > 0 && hour < 2))
        });
        assert_eq!(found, expected);
        Ok(())
    }

    fn picture(&self, client: &mut Client) -> Driven<String> {
        let collected = picture(client, &self.0.range())?;
        let pushed = picture(client, PUSHED_RANGE)?;
        Ok(format!("{collected}\n{pushed}"))
    }
}

impl Operating {
    fn enter_surcharge(&self, client: &mut Client, known: &mut Acknowledged) -> Driven<()> {
        let path = format!("{HASHMAP}/services");
        let services = list(&client.get(&path)?["services"]);
        let first = services.iter().find(|service| service["name"] == "metric_0").unwrap();
        let id = text(&first["service_id"]);
        let of_service = format!("{HASHMAP}/mappings?service_id={id}");
        let costs = move |client: &mut Client| -> Driven<usize> {
            let rules = list(&client.get(&of_service)?["mappings"]);
            Ok(rules.iter().filter(|rule| rule["tenant_id"].is_null()).count())
        };
        let groups = list(&client.get(&format!("{HASHMAP}/groups"))?["groups"]);
        let known_group = groups.iter().find(|group| group["name"] == "surcharge");
        let group = if let Some(group) = known_group {
            group["group_id"].clone()
        } else {
            let body = json!({"name": "surcharge"});
            let path = format!("{HASHMAP}/groups");
            client.say(&Method::POST, &path, &body, &[201])?["group_id"].clone()
        };
        if costs(client)? == 1 {
            let start = self.0.data.begin.format("%Y-%m-%dT%H:%M:%S").to_string();
            let rule = json!({
                "service_id": id, "cost": SURCHARGE, "group_id": group, "start": start,
            });
            let path = format!("{HASHMAP}/mappings?force=true");
            client.say(&Method::POST, &path, &rule, &[201])?;
        }
        known.add("surcharge", move |client| {
            assert_eq!(costs(client)?, 2, "the surcharge is gone");
            Ok(())
        });
        Ok(())
    }

    fn reset(&self, client: &mut Client, known: &mut Acknowledged) -> Driven<()> {
        if self.is_dearer(client, 0, RESET_HOUR)? == Some(false) {
            let body = json!({
                "scope_id": [steady_scope(0)],
                "last_processed_timestamp": date(self.hour(RESET_HOUR)),
            });
            client.say(&Method::PUT, "/v2/scope", &body, &[202])?;
            // The cursor went back.
            known.add("cursors", |_| Ok(()));
        }
        let again = Operating(Collecting { data: self.0.data });
        known.add("reset", move |client| {
            let is_old = again.is_dearer(client, 0, RESET_HOUR)? == Some(false);
            assert!(!is_old, "what was reset is there again");
            Ok(())
        });
        let (_, end) = self.0.times();
        client.wait_until("what was reset is collected again", |client| {
            Ok(self.is_dearer(client, 0, HOURS - 1)? == Some(true))
        })?;
        wait_until_collected(client, end, known)
    }

    /// The second scope now, the third one when it is active again.
    fn reprocess(&self, client: &mut Client, known: &mut Acknowledged) -> Driven<()> {
        if self.is_dearer(client, 1, 1)? == Some(false) {
            // A disabled collector pauses it, so that the third scope is inactive when it begins.
            let state = "/v1/collector/states/steady";
            client.say(&Method::PUT, state, &json!({"enabled": false}), &[200])?;
            if tasks(client)? == 0 {
                let body = json!({
                    "scope_ids": [steady_scope(1), steady_scope(2)],
                    "reason": "a surcharge",
                    "start_reprocess_time": date(self.hour(0)),
                    "end_reprocess_time": date(self.hour(1)),
                });
                client.say(&Method::POST, "/v2/task/reprocesses", &body, &[202])?;
            }
            let body = json!({"scope_id": steady_scope(2), "active": false});
            client.say(&Method::PATCH, "/v2/scope", &body, &[200])?;
            client.say(&Method::PUT, state, &json!({"enabled": true}), &[200])?;
        }
        known.add("reprocessing", |client| {
            assert_eq!(tasks(client)?, 2, "a reprocessing is gone");
            Ok(())
        });
        client.wait_until("the second scope is rated again", |client| {
            Ok(self.is_dearer(client, 1, 1)? == Some(true))
        })?;
        let body = json!({"scope_id": steady_scope(2), "active": true});
        client.say(&Method::PATCH, "/v2/scope", &body, &[200])?;
        known.add("active again", |client| {
            let scopes = list(&client.get("/v2/scope?limit=10")?["results"]);
            assert!(scopes.iter().all(|scope| scope["active"] == true), "{scopes:?}");
            Ok(())
        });
        client.wait_until("the third scope is rated again", |client| {
            Ok(self.is_dearer(client, 2, 1)? == Some(true))
        })
    }
}

/// Scopes that are in a reprocessing.
fn tasks(client: &mut Client) -> Driven<usize> {
    Ok(list(&client.get("/v2/task/reprocesses?limit=1000")?["results"]).len())
}

fn set_states(client: &mut Client, known: &mut Acknowledged) -> Driven<()> {
    let body = json!({"module_id": "hashmap", "priority": 42});
    client.say(&Method::PUT, "/v1/rating/modules/hashmap", &body, &[302])?;
    known.add("priority", |client| {
        assert_eq!(client.get("/v1/rating/modules/hashmap")?["priority"], 42);
        Ok(())
    });
    let body = json!({"enabled": true});
    client.say(&Method::PUT, "/v1/collector/states/steady", &body, &[200])?;
    let path = "/v1/collector/mappings/steady/metric_1";
    client.say(&Method::POST, path, &json!({}), &[200])?;
    known.add("mapping", |client| {
        let mappings = list(&client.get("/v1/collector/mappings")?["mappings"]);
        assert_eq!(mappings.len(), 1, "{mappings:?}");
        Ok(())
    });
    Ok(())
}

const PUSHED_RANGE: &str = "begin=2019-07-01&end=2019-08-01";

fn push(client: &mut Client, known: &mut Acknowledged) -> Driven<()> {
    let point = |index: usize| {
        // Ids that no compression makes short.
        let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x00de_fced_a11e_5eed;
        let id = format!("{id:016x}{:016x}", id.wrapping_mul(0xbf58_476d_1ce4_e5b9));
        json!({
            "vol": {"unit": "piece", "qty": index}, "rating": {"price": 0.5},
            "groupby": {"project_id": id}, "metadata": {"colour": format!("c{}", index % 7)},
        })
    };
    let points: Vec<Value> = (0..PUSHED_SCOPES).map(point).collect();
    let period = json!({"begin": "2019-07-23T12:00:00", "end": "2019-07-23T13:00:00"});
    let body = json!({"dataframes": [{"period": period, "usage": {"gift": points}}]});
    let answer = client.call_with(&Method::POST, "/v2/dataframes", &KEY, Some(&body))?;
    answer.expect(204);
    known.add("push", |client| {
        let total = &client.get(&format!("/v2/dataframes?limit=1&{PUSHED_RANGE}"))?["total"];
        assert_eq!(*total, PUSHED_SCOPES);
        Ok(())
    });
    Ok(())
}
