//! Everything that a ledger answers, as lines that two runs can be compared by.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rated_tests::Exact;
use serde_json::Value;

use crate::client::{Client, Driven};

const PAGE: usize = 1000;

/// A date as the API takes it.
pub(crate) fn date(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(crate) fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// Every row of a time, one line each, in the order of the lines.
pub(crate) fn frames(client: &mut Client, range: &str) -> Driven<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let offset = lines.len();
        let path = format!("/v2/dataframes?{range}&limit={PAGE}&offset={offset}");
        let page = client.get(&path)?;
        for frame in list(&page["dataframes"]) {
            let usage = frame["usage"].as_object().cloned().unwrap_or_default();
            for (metric, points) in usage {
                let period = &frame["period"];
                lines
                    .extend(list(&points).iter().map(|point| format!("{period} {metric} {point}")));
            }
        }
        if lines.len() == offset || lines.len() as u64 >= page["total"].as_u64().unwrap_or(0) {
            lines.sort();
            return Ok(lines);
        }
    }
}

/// Quantity and price of each begin, scope and type.
pub(crate) type Sums = BTreeMap<(String, String, String), (Exact, Exact)>;

pub(crate) fn sums(client: &mut Client, range: &str) -> Driven<Sums> {
    let mut sums = Sums::new();
    let mut offset = 0;
    loop {
        let path = format!(
            "/v2/summary?{range}&groupby=time,project_id,type&limit={PAGE}&offset={offset}"
        );
        let page = client.get(&path)?;
        let rows = list(&page["results"]);
        offset += rows.len();
        for row in &rows {
            let exact = |index: usize| Exact::parse(&row[index].to_string());
            let columns = list(&page["columns"]);
            let of = |name: &str| {
                let index = columns.iter().position(|column| column == name);
                index.map(|index| text(&row[index])).unwrap_or_default()
            };
            let key = (of("begin"), of("project_id"), of("type"));
            let known = sums.insert(key, (exact(2), exact(3)));
            assert!(known.is_none(), "two groups are the same: {row}");
        }
        if rows.is_empty() || offset as u64 >= page["total"].as_u64().unwrap_or(0) {
            return Ok(sums);
        }
    }
}

/// All of it: rows, sums, how complete it is, scopes, modules, rules, reprocessings.
pub(crate) fn picture(client: &mut Client, range: &str) -> Driven<String> {
    let mut lines = frames(client, range)?;
    for (key, (quantity, price)) in sums(client, range)? {
        lines.push(format!("sum {key:?} {quantity} {price}"));
    }
    let completeness = client.get(&format!("/v2/completeness?{range}"))?;
    lines.push(format!("completeness {} {}", completeness["total"], completeness["counts"]));
    for scope in list(&client.get("/v2/scope?limit=10000")?["results"]) {
        let (id, active) = (&scope["scope_id"], &scope["active"]);
        lines.push(format!("scope {id} {active} {} {}", scope["collector"], scope["fetcher"]));
    }
    for module in list(&client.get("/v1/rating/modules")?["modules"]) {
        let (id, enabled) = (&module["module_id"], &module["enabled"]);
        lines.push(format!("module {id} {enabled} {}", module["priority"]));
    }
    lines.push(format!("mappings {}", client.get("/v1/collector/mappings")?));
    let mut rules = Vec::new();
    for service in list(&client.get("/v1/rating/module_config/hashmap/services")?["services"]) {
        let id = text(&service["service_id"]);
        let path = format!("/v1/rating/module_config/hashmap/mappings?service_id={id}");
        let costs = list(&client.get(&path)?["mappings"]);
        let mut costs: Vec<String> = costs.iter().map(|rule| text(&rule["cost"])).collect();
        costs.sort();
        rules.push(format!("rules {} {costs:?}", service["name"]));
    }
    rules.sort();
    lines.extend(rules);
    let mut again = Vec::new();
    for one in list(&client.get("/v2/task/reprocesses?limit=1000")?["results"]) {
        let (scope, reason) = (&one["scope_id"], &one["reason"]);
        again.push(format!("reprocessed {scope} {reason} {}", one["current_reprocess_time"]));
    }
    again.sort();
    lines.extend(again);
    Ok(lines.join("\n"))
}
