//! What rows cost, by rules in the module's configuration and store.

#![cfg(test)]

use arrow_array::RecordBatch;
use chrono::{DateTime, Utc};
use rated_hashmap::{Hashmap, NOT_NUMERIC_METRIC};
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{AsOf, Purpose, RateRequest, UsageBuilder};
use rust_decimal::Decimal;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn request(metric: &str) -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: metric.to_owned(),
        begin: at("2026-01-01T00:00:00Z"),
        end: at("2026-01-01T01:00:00Z"),
    }
}

/// A batch of one attribute: scope, quantity, attribute.
fn batch(attribute: &str, rows: &[(&str, &str, Option<&str>)]) -> RecordBatch {
    let mut builder = UsageBuilder::new(&[attribute], &[]);
    for (scope, qty, text) in rows {
        builder.push(scope, qty.parse().unwrap(), &[*text]).unwrap();
    }
    builder.finish().unwrap()
}

/// Rates rows by initial rules, each `key = value; …`.
fn check(rules: &[&str], rows: &[(&str, &str, Option<&str>)], expected: &[&str]) {
    let host = FakeHost::new();
    let table = |rule: &&str| {
        format!(
            "[[initial_rules]]
service = \"s\"
{}
",
            rule.replace(
                "; ", "
"
            )
        )
    };
    let config = rules.iter().map(table).collect::<Vec<_>>().concat();
    let module = TestModule::new::<Hashmap>(&host, &config).unwrap();

    let rater = module.prepare_at(host.now()).unwrap();
    let prices = rater.rate(&request("s"), &batch("a", rows)).unwrap();

    let expected: Vec<Decimal> = expected.iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(prices, expected);
}

#[test]
fn volumes_get_cheaper_by_size() {
    let rules = [
        "group = 'g'; cost = '0.001'",
        "group = 'g'; type = 'rate'; level = 50; cost = '0.98'",
        "group = 'g'; type = 'rate'; level = 200; cost = '0.95'",
        "group = 'g'; type = 'rate'; level = 50; cost = '0.97'; tenant = 'X'",
    ];
    let rows = [
        ("a", "20", None),
        ("X", "20", None),
        ("a", "50", None),
        ("X", "50", None),
        ("a", "80", None),
        ("X", "80", None),
        ("a", "250", None),
        ("X", "250", None),
    ];
    let prices = ["0.02", "0.02", "0.049", "0.0485", "0.0784", "0.0776", "0.2375", "0.2375"];

    check(&rules, &rows, &prices);
}

#[test]
fn the_highest_flat_counts_and_rates_multiply() {
    let rules = [
        "cost = '1'",
        "field = 'a'; value = 'x'; cost = '3'",
        "field = 'a'; value = 'y'; cost = '0.5'",
        "field = 'a'; value = 'z'; type = 'rate'; cost = '0.5'",
        "field = 'a'; value = 'n'; cost = '-7'",
    ];
    let rows = [
        ("s", "2", None),
        ("s", "2", Some("x")),
        ("s", "2", Some("y")),
        ("s", "2", Some("z")),
        ("s", "2", Some("n")),
        ("s", "2", Some("")),
    ];

    check(&rules, &rows, &["2", "6", "2", "1", "2", "2"]);
}

#[test]
fn negative_flats_and_rates_alone_are_free() {
    check(&["cost = '-1'"], &[("s", "2", None)], &["0"]);
    check(&["type = 'rate'; cost = '5'"], &[("s", "2", None)], &["0"]);
}

#[test]
fn groups_add_up_and_tenants_have_their_own() {
    let rules = [
        "cost = '1'",
        "group = '_DEFAULT_'; field = 'a'; value = 'x'; cost = '2'",
        "group = 'g'; cost = '10'",
        "group = 'g'; cost = '4'; tenant = 't'",
        "group = 'g'; field = 'a'; value = 'x'; type = 'rate'; cost = '3'; tenant = 't'",
    ];
    let rows = [("s", "1", None), ("s", "1", Some("x")), ("t", "1", None), ("t", "1", Some("x"))];

    check(&rules, &rows, &["11", "12", "5", "14"]);
}

#[test]
fn the_highest_level_wins_and_the_services_wins_a_tie() {
    let rules = [
        "cost = '1'",
        "level = 2; cost = '100'",
        "field = 'a'; level = 2; cost = '1000'",
        "field = 'a'; level = 3; type = 'rate'; cost = '2'",
        "level = -1; cost = '77777'",
    ];
    let rows = [
        ("s", "1", None),
        ("s", "2", None),
        ("s", "1", Some("2")),
        ("s", "2", Some("2")),
        ("s", "2", Some("3.0")),
        ("s", "0", Some("-5")),
    ];

    check(&rules, &rows, &["1", "102", "1001", "102", "4", "0"]);
}

#[test]
fn an_attribute_that_is_no_number_reaches_nothing_and_is_counted() {
    let host = FakeHost::new();
    let config = "[[initial_rules]]\nservice = 's'\ncost = '1'\n\
                  [[initial_rules]]\nservice = 's'\nfield = 'a'\nlevel = 0\ncost = '1'";
    let module = TestModule::new::<Hashmap>(&host, config).unwrap();
    let rater = module.prepare_at(host.now()).unwrap();
    let rows =
        [("s", "1", Some("big")), ("s", "1", Some("")), ("s", "1", Some("1")), ("s", "1", None)];

    let prices = rater.rate(&request("s"), &batch("a", &rows)).unwrap();

    assert_eq!(prices, ["1", "1", "2", "1"].map(|text| text.parse().unwrap()));
    assert_eq!(host.counter(NOT_NUMERIC_METRIC), 2);
}

#[test]
fn a_metric_without_service_keeps_its_prices() {
    let host = FakeHost::new();
    let module = TestModule::new::<Hashmap>(&host, include_str!("../sample.toml")).unwrap();
    let rater = module.prepare_at(host.now()).unwrap();

    let prices = rater.rate(&request("other"), &batch("a", &[("s", "1", None)])).unwrap();

    assert_eq!(prices, [Decimal::ZERO]);
}

#[test]
fn the_configured_price_list_is_written_once() {
    let host = FakeHost::new();
    let price = |config: &str, revision: u64| {
        let module = TestModule::new::<Hashmap>(&host, config).unwrap();
        module.check().unwrap();
        let rater = module.prepare(AsOf { at: host.now(), revision }).unwrap();
        rater.rate(&request("s"), &batch("a", &[("s", "1", None)])).unwrap()[0]
    };
    let list = |cost: u32| format!("[[initial_rules]]\nservice = 's'\ncost = {cost}");

    assert_eq!(price(&list(1), 0), Decimal::ONE);
    assert_eq!(host.revision(), 1);
    assert_eq!(price(&list(2), u64::MAX), Decimal::ONE);
    assert_eq!(host.revision(), 1);
}

/// More levels than are laid out as lines.
#[test]
fn hundreds_of_levels_are_looked_up_like_a_few() {
    let level = |level: u32, tenant: &str| {
        format!("level = {level}; type = 'flat'; cost = '0.{level:04}'{tenant}")
    };
    let mut rules: Vec<String> = (1..=300).map(|number| level(number, "")).collect();
    rules.push("cost = '2'".to_owned());
    rules.push("level = 200; type = 'rate'; cost = '0.5'; tenant = 'X'".to_owned());
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let rows = [
        ("a", "0.5", None),
        ("a", "1", None),
        ("a", "199.9", None),
        ("a", "200", None),
        ("X", "200", None),
        ("X", "201", None),
        ("a", "1000", None),
    ];
    let prices = ["1", "2.0001", "399.8199", "400.02", "200", "402.0201", "2000.03"];

    check(&rules, &rows, &prices);
}
