//! A price list, as REST calls for the daemon and as arithmetic for the test.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{Daemon, DataSet, Exact, Point};

/// The scope that has a price of its own.
pub const SPECIAL_SCOPE: usize = 3;

const HASHMAP: &str = "/v1/rating/module_config/hashmap";

/// Enters the price list for every metric of the data set, in force from its begin, and enables
/// hashmap.
///
/// For each metric, in the default group: a flat price for everybody, one for each flavor, zone
/// `z1` ten per cent dearer, and from 500 units on ten per cent off. In a group of its own: a
/// small flat price, the double of it for one scope.
pub fn enter_price_list(daemon: &Daemon, data: &DataSet) {
    let group =
        id(&daemon.post(&format!("{HASHMAP}/groups"), &json!({"name": "extra"})), "group_id");
    for metric in 0..data.metrics {
        let name = DataSet::metric_name(metric);
        let service =
            id(&daemon.post(&format!("{HASHMAP}/services"), &json!({"name": name})), "service_id");
        let field = |name: &str| {
            let body = json!({"name": name, "service_id": service});
            id(&daemon.post(&format!("{HASHMAP}/fields"), &body), "field_id")
        };
        let (flavor, zone) = (field("flavor"), field("zone"));
        let mapping = |mut rule: Value| {
            rule["start"] = json!(data.begin.format("%Y-%m-%dT%H:%M:%S").to_string());
            daemon.post(&format!("{HASHMAP}/mappings?force=true"), &rule).expect(201);
        };
        mapping(json!({"service_id": service, "cost": "0.0150"}));
        for index in 0..8 {
            let cost = flavor_cost(index);
            mapping(json!({"field_id": flavor, "value": format!("f{index}"), "cost": cost}));
        }
        mapping(json!({"field_id": zone, "value": "z1", "cost": "1.1", "type": "rate"}));
        mapping(json!({"service_id": service, "cost": "0.001", "group_id": group}));
        mapping(json!({
            "service_id": service, "cost": "0.002", "group_id": group,
            "tenant_id": DataSet::scope_id(SPECIAL_SCOPE)
        }));
        let threshold =
            json!({"service_id": service, "level": "500", "cost": "0.9", "type": "rate"});
        daemon.post(&format!("{HASHMAP}/thresholds"), &threshold).expect(201);
    }
    daemon.set_module("hashmap", &json!({"module_id": "hashmap", "enabled": true}));
}

fn id(answer: &crate::Answer, key: &str) -> String {
    answer.expect(201)[key].as_str().expect("an id").to_owned()
}

fn flavor_cost(index: usize) -> String {
    // The first is below the price for everybody, which then holds.
    format!("0.0{}25", index + 1)
}

/// What the price list says of one point.
pub fn price(point: Point) -> Exact {
    let quantity = Exact::parse(&DataSet::quantity(point));
    let everybody = Exact::parse("0.0150");
    let flat = everybody.max(Exact::parse(&flavor_cost(DataSet::flavor(point))));
    let rate = Exact::parse(if DataSet::zone(point) == 1 { "1.1" } else { "1" });
    let discount = Exact::parse(if quantity >= Exact::parse("500") { "0.9" } else { "1" });
    let extra = Exact::parse(if point.scope == SPECIAL_SCOPE { "0.002" } else { "0.001" });
    rate * flat * quantity * discount + extra * quantity
}

/// Quantity and price of each (scope, metric type) that has points in `hours`.
pub fn expected_bill(
    data: &DataSet,
    hours: std::ops::Range<usize>,
) -> BTreeMap<(String, String), (Exact, Exact)> {
    let mut bill: BTreeMap<_, (Exact, Exact)> = BTreeMap::new();
    for point in data.points().filter(|point| hours.contains(&point.hour)) {
        let key = (DataSet::scope_id(point.scope), DataSet::metric_name(point.metric));
        let entry = bill.entry(key).or_default();
        entry.0 = entry.0 + Exact::parse(&DataSet::quantity(point));
        entry.1 = entry.1 + price(point);
    }
    bill
}

/// The same from the daemon's `/v2/summary`, page by page.
pub fn actual_bill(
    daemon: &Daemon,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> BTreeMap<(String, String), (Exact, Exact)> {
    let rows = summary(daemon, begin, end, "project_id,type");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let exact = |value: &Value| Exact::parse(&value.to_string());
    rows.iter()
        .map(|row| ((text(&row[4]), text(&row[5])), (exact(&row[2]), exact(&row[3]))))
        .collect()
}

/// All rows of a summary in table format: begin, end, qty, rate, then the groups.
pub fn summary(
    daemon: &Daemon,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    groups: &str,
) -> Vec<Value> {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (begin, end) = (begin.format(form), end.format(form));
    let mut rows = Vec::new();
    loop {
        let offset = rows.len();
        let path = format!(
            "/v2/summary?begin={begin}&end={end}&groupby={groups}&limit=1000&offset={offset}"
        );
        let page = daemon.call(&Method::GET, &path, None).expect(200);
        let results = page["results"].as_array().expect("a list of rows");
        rows.extend(results.iter().cloned());
        if results.is_empty() || rows.len() as u64 >= page["total"].as_u64().expect("a count") {
            return rows;
        }
    }
}
