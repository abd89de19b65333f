//! What an operator has said through the API holds, and holds after a restart.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use rated_tests::{
    Config, Daemon, DataSet, Exact, Prometheus, actual_bill, enter_price_list, summary, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

struct Site {
    folder: TempDir,
    data: DataSet,
    prometheus: Prometheus,
}

impl Site {
    fn new() -> Site {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(2, 4, 2, 6);
        let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        Site { folder, data, prometheus }
    }

    fn config(&self) -> Config {
        Config::prometheus(&self.prometheus.url, self.data.begin)
    }

    fn write(&self, config: &Config) -> PathBuf {
        config.write(self.folder.path())
    }
}

#[test]
fn modules_rules_states_and_mappings_survive_a_restart() {
    let site = Site::new();
    let file = site.write(&site.config().without_scopes());
    let daemon = Daemon::start(&file);
    enter_price_list(&daemon, &site.data);
    daemon.set_module("hashmap", &json!({"module_id": "hashmap", "priority": 42}));
    let state = json!({"enabled": false});
    daemon.call(&Method::PUT, "/v1/collector/states/prometheus", Some(&state)).expect(200);
    daemon.post("/v1/collector/mappings/prometheus/metric_1", &json!({})).expect(200);
    let before = everything_said(&daemon);
    daemon.stop();

    let daemon = Daemon::start(&file);

    assert_eq!(everything_said(&daemon), before);
    let module = daemon.get("/v1/rating/modules/hashmap");
    assert_eq!((&module["enabled"], &module["priority"]), (&json!(true), &json!(42)));
    daemon.stop();
}

fn everything_said(daemon: &Daemon) -> Vec<Value> {
    [
        "/v1/rating/modules",
        "/v1/collector/states/prometheus",
        "/v1/collector/mappings",
        "/v1/rating/module_config/hashmap/services",
        "/v1/rating/module_config/hashmap/groups",
    ]
    .map(|path| daemon.get(path))
    .to_vec()
}

#[test]
fn a_disabled_collector_pauses_and_then_misses_nothing() {
    let site = Site::new();
    let daemon = Daemon::start(&site.write(&site.config().without_scopes()));
    enter_price_list(&daemon, &site.data);
    let path = "/v1/collector/prometheus/states";
    daemon.call(&Method::PUT, path, Some(&json!({"enabled": false}))).expect(200);
    daemon.stop();

    let daemon = Daemon::start(&site.write(&site.config()));
    wait_until("the scopes are known", || (daemon.last_processed().len() == 4).then_some(()));
    let cycles = daemon.metric("rated_cycle_duration_seconds_count");
    wait_until("three more cycles", || {
        (daemon.metric("rated_cycle_duration_seconds_count") >= cycles + 3.0).then_some(())
    });
    assert!(daemon.last_processed().values().all(Option::is_none), "nothing is collected");

    daemon.call(&Method::PUT, path, Some(&json!({"enabled": true}))).expect(200);

    daemon.wait_until_processed(4, site.data.end(), 3600);
    let bill = actual_bill(&daemon, site.data.begin, site.data.end());
    assert_eq!(bill, rated_tests::expected_bill(&site.data, 0..6));
    daemon.stop();
}

/// The mapping sends one metric to a collector whose source has nothing; the other keeps its own.
#[test]
fn a_mapping_routes_a_metric_to_another_collector() {
    let site = Site::new();
    let empty_folder = TempDir::new().unwrap();
    let empty = Prometheus::start(empty_folder.path(), "");
    let config = site.config().with_collector("elsewhere", &empty.url);
    let daemon = Daemon::start(&site.write(&config.clone().without_scopes()));
    daemon.post("/v1/collector/mappings/elsewhere/metric_1", &json!({})).expect(200);
    daemon.stop();

    let daemon = Daemon::start(&site.write(&config));
    daemon.wait_until_processed(4, site.data.end(), 3600);

    let rows = summary(&daemon, site.data.begin, site.data.end(), "type");
    let types: Vec<&str> = rows.iter().filter_map(|row| row[4].as_str()).collect();
    assert_eq!(types, ["metric_0"]);
    assert!(empty.queries() > 0.0);
    daemon.stop();
}

#[test]
fn a_module_that_is_switched_off_rates_no_more() {
    let site = Site::new();
    let daemon = Daemon::start(&site.write(&site.config().without_scopes()));
    enter_price_list(&daemon, &site.data);
    let quote = json!({"resources": [
        {"service": "metric_0", "volume": "10", "desc": {"flavor": "f3", "zone": "z1"}}
    ]});
    let ask = || {
        let answer = daemon.post("/v1/rating/quote", &quote).expect(200);
        Exact::parse(answer.as_str().unwrap()).to_string()
    };

    let with_prices = ask();
    daemon.set_module("hashmap", &json!({"module_id": "hashmap", "enabled": false}));
    let without = ask();

    // 10 x 0.0425 x 1.1 and, in the other group, 10 x 0.001.
    assert_eq!((with_prices.as_str(), without.as_str()), ("0.4775", "0"));
    daemon.stop();
}
