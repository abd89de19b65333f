//! From a real Prometheus to the bill, exact to the last digit.
#![forbid(unsafe_code)]

use rated_tests::{
    Config, Daemon, DataSet, Exact, Prometheus, actual_bill, enter_price_list, expected_bill,
    price, summary,
};
use tempfile::TempDir;

/// A daemon with prices that has caught up with the data set.
fn caught_up(folder: &TempDir, data: &DataSet, prometheus: &Prometheus) -> Daemon {
    let config = Config::prometheus(&prometheus.url, data.begin);
    std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();

    let daemon = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&daemon, data);
    daemon.stop();

    let daemon = Daemon::start(&config.write(folder.path()));
    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    daemon
}

fn text(value: Exact) -> String {
    value.to_string()
}

#[test]
fn every_total_of_48_hours_is_exact() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 30, 5, 48);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());

    let daemon = caught_up(&folder, &data, &prometheus);

    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..48));
    for hour in [0, 6, 13, 47] {
        let actual = actual_bill(&daemon, data.hour(hour), data.hour(hour + 1));
        assert_eq!(actual, expected_bill(&data, hour..hour + 1), "hour {hour}");
    }
    v1_totals_agree(&daemon, &data);
    flavors_add_up(&daemon, &data);
    daemon.stop();
}

fn v1_totals_agree(daemon: &Daemon, data: &DataSet) {
    let form = "%Y-%m-%dT%H:%M:%S";
    let range = format!("begin={}&end={}", data.begin.format(form), data.end().format(form));
    let total: Exact = data.points().map(price).sum();
    let answer = daemon.get(&format!("/v1/report/total?{range}"));
    assert_eq!(text(Exact::parse(answer.as_str().unwrap())), text(total));

    let one = DataSet::scope_id(3);
    let total: Exact = data.points().filter(|point| point.scope == 3).map(price).sum();
    let answer = daemon.get(&format!("/v1/report/total?{range}&tenant_id={one}"));
    assert_eq!(text(Exact::parse(answer.as_str().unwrap())), text(total));

    let tenants = daemon.get(&format!("/v1/report/tenants?{range}"));
    assert_eq!(tenants.as_array().unwrap().len(), data.scopes);
}

/// Grouping by an attribute that only rules use.
fn flavors_add_up(daemon: &Daemon, data: &DataSet) {
    let rows = summary(daemon, data.begin, data.end(), "flavor");
    assert_eq!(rows.len(), 8);
    for row in rows {
        let flavor = row[4].as_str().unwrap().to_owned();
        let points =
            data.points().filter(|point| format!("f{}", DataSet::flavor(*point)) == flavor);
        let expected: Exact = points.map(price).sum();
        assert_eq!(text(Exact::parse(&row[3].to_string())), text(expected), "flavor {flavor}");
    }
}

/// 100 scopes x 5 metrics x 20 resources x 24 hours: one query for each metric and hour.
#[test]
fn a_source_is_asked_once_for_many_scopes() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(5, 100, 20, 24);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());

    let daemon = caught_up(&folder, &data, &prometheus);

    let queries = prometheus.queries();
    // Up to three more hours became due after the data's last one while this ran; each cycle's
    // discovery asks once, the check at each of the two starts as well.
    let cycles = daemon.metric("rated_cycle_duration_seconds_count");
    let limit = 5.0 * (24.0 + 3.0) + cycles + 4.0;
    println!("Prometheus saw {queries} queries, {cycles} cycles");
    assert!(queries <= limit, "{queries} queries, {limit} at most");
    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..24));
    daemon.stop();
}
