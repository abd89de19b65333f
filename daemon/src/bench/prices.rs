//! The price list of 29 rules for each metric, and what it makes of a point.
//!
//! [`price`] and [`price_list`] say the same: `flavor's price x region's rate x threshold's rate x
//! quantity`, all of it exact. A test lets hashmap rate points by the list.

use serde_json::{Value, json};

use super::cloud::{Cloud, FLAVORS, REGIONS, Size};
use super::texts::Attribute;

/// Factors of the regions, tenths.
const REGION_TENTHS: [u32; REGIONS as usize] = [10, 9, 11];

/// From so many units on, that factor in hundredths.
const THRESHOLDS: [(u32, u32); 5] = [(1, 100), (2, 98), (4, 95), (6, 92), (8, 90)];

/// Below the price of every flavor; of two the higher one counts.
const SERVICE_THOUSANDTHS: u32 = 5;

fn flavor_thousandths(metric: u32, flavor: u32) -> u32 {
    10 + 37 * flavor + 5 * metric
}

/// Billionths; `qty` in thousandths.
pub(super) fn price(metric: u32, flavor: u32, region: u32, qty: u32) -> u64 {
    let reached = THRESHOLDS.iter().rev().find(|(level, _)| level * 1000 <= qty);
    let hundredths = reached.map_or(100, |(_, hundredths)| *hundredths);
    let tenths = REGION_TENTHS[region as usize];
    u64::from(qty) * u64::from(flavor_thousandths(metric, flavor)) * u64::from(tenths * hundredths)
}

/// The rules as a document for `PUT /v1/rating/module_config/hashmap/prices?force=true`; its
/// `rules` are `initial_rules` of a configuration as well.
pub fn price_list(size: Size) -> Value {
    let start = size.start.format("%Y-%m-%dT%H:%M:%S").to_string();
    let mut rules = Vec::new();
    let mut services = Vec::new();
    let fields = [Attribute::FlavorId.name(), Attribute::Region.name()];
    for metric in 0..size.metrics {
        let service = Cloud::metric(metric).alt_name;
        let mut rule = |mut members: Value| {
            members["service"] = json!(service);
            members["start"] = json!(start);
            rules.push(members);
        };
        rule(json!({"cost": thousandths(SERVICE_THOUSANDTHS)}));
        for flavor in 0..FLAVORS {
            rule(json!({
                "field": Attribute::FlavorId.name(),
                "value": Attribute::FlavorId.text(flavor),
                "cost": thousandths(flavor_thousandths(metric, flavor)),
            }));
        }
        for (region, tenths) in (0..).zip(REGION_TENTHS) {
            let cost = format!("{}.{}", tenths / 10, tenths % 10);
            let (field, value) = (Attribute::Region.name(), Attribute::Region.text(region));
            rule(json!({"field": field, "value": value, "type": "rate", "cost": cost}));
        }
        for (level, hundredths) in THRESHOLDS {
            let cost = format!("{}.{:02}", hundredths / 100, hundredths % 100);
            rule(json!({"level": level.to_string(), "type": "rate", "cost": cost}));
        }
        services.push(json!({"name": service, "fields": fields}));
    }
    json!({"services": services, "groups": [], "rules": rules})
}

fn thousandths(cost: u32) -> String {
    format!("{}.{:03}", cost / 1000, cost % 1000)
}
