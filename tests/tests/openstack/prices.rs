//! The price list of the cloud: as REST calls for the daemon and as arithmetic for the test.

use rated_tests::{Answer, Daemon, DataSet, Exact, Point};
use serde_json::{Value, json};

use crate::cloud::{Cloud, FLAVORS, TRAFFIC};

const HASHMAP: &str = "/v1/rating/module_config/hashmap";

/// The project with a price of its own.
const GREEN: usize = 1;

const FLAVOR_COSTS: [&str; FLAVORS.len()] = ["0.0125", "0.045"];
const EXTRA_COST: &str = "0.001";
const GREEN_COST: &str = "0.002";
const TRAFFIC_COST: &str = "0.0005";
/// From so many units on …
const MANY: &str = "500";
/// … they cost this part.
const MANY_RATE: &str = "0.9";

/// What the price list says of one number.
pub fn price(point: Point) -> Exact {
    let quantity = Exact::parse(&DataSet::quantity(point));
    if point.metric == TRAFFIC {
        let is_many = quantity >= Exact::parse(MANY);
        let rate = Exact::parse(if is_many { MANY_RATE } else { "1" });
        return Exact::parse(TRAFFIC_COST) * quantity * rate;
    }
    let extra = if point.scope == GREEN { GREEN_COST } else { EXTRA_COST };
    (Exact::parse(FLAVOR_COSTS[point.resource]) + Exact::parse(extra)) * quantity
}

/// Enters the rules, in force from the cloud's first hour, and enables hashmap.
pub fn enter_price_list(daemon: &Daemon, cloud: &Cloud) {
    let start = cloud.data.begin.format("%Y-%m-%dT%H:%M:%S").to_string();
    let create = |list: &str, key: &str, body: &Value| -> String {
        let answer: Answer = daemon.post(&format!("{HASHMAP}/{list}"), body);
        answer.expect(201)[key].as_str().unwrap().to_owned()
    };
    let mapping = |mut rule: Value| {
        rule["start"] = json!(start);
        create("mappings?force=true", "mapping_id", &rule);
    };
    let extra = create("groups", "group_id", &json!({"name": "extra"}));
    let instance = create("services", "service_id", &json!({"name": "instance"}));
    let field = json!({"name": "flavor_name", "service_id": instance});
    let flavor = create("fields", "field_id", &field);
    for (name, cost) in FLAVORS.iter().zip(FLAVOR_COSTS) {
        mapping(json!({"field_id": flavor, "value": name, "cost": cost}));
    }
    mapping(json!({"service_id": instance, "group_id": extra, "cost": EXTRA_COST}));
    mapping(json!({
        "service_id": instance, "group_id": extra, "cost": GREEN_COST,
        "tenant_id": cloud.projects[GREEN]
    }));
    let traffic = create("services", "service_id", &json!({"name": "traffic"}));
    mapping(json!({"service_id": traffic, "cost": TRAFFIC_COST}));
    let level = json!({
        "service_id": traffic, "level": MANY, "cost": MANY_RATE, "type": "rate"
    });
    create("thresholds", "threshold_id", &level);
    daemon.set_module("hashmap", &json!({"module_id": "hashmap", "enabled": true}));
}
