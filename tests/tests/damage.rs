//! What a damaged record costs, and what is answered and rated beside it.
//!
//! Half of the hours are taken back and the source is away while the daemon is stopped; then a bit
//! of a record is flipped. A damaged data file is in `ledger.rs`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rated_tests::{
    Config, Daemon, DataSet, Exact, Prometheus, enter_price_list, expected_bill, rated, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const HOURS: usize = 24;
/// From here on the hours are taken back.
const MIDDLE: usize = 12;
const SCOPES: usize = 3;
const METRICS: usize = 2;
const FORM: &str = "%Y-%m-%dT%H:%M:%SZ";

/// A daemon that stopped in the middle of its data.
struct Site {
    folder: TempDir,
    data: DataSet,
    file: PathBuf,
    prometheus: Prometheus,
    /// In order of creation.
    scopes: Vec<String>,
}

impl Site {
    fn new() -> Site {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(METRICS, SCOPES, 2, HOURS);
        let mut prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        let config = Config::prometheus(&prometheus.url, data.begin);
        let setup = Daemon::start(&config.clone().without_scopes().write(folder.path()));
        enter_price_list(&setup, &data);
        setup.stop();
        let file = config.write(folder.path());
        let daemon = Daemon::start(&file);
        daemon.wait_until_processed(SCOPES, data.end(), 3600);
        prometheus.stop();
        let middle = data.hour(MIDDLE).format(FORM).to_string();
        let body = json!({"all_scopes": true, "last_processed_timestamp": middle});
        daemon.call(&Method::PUT, "/v2/scope", Some(&body)).expect(202);
        let list = daemon.get("/v2/scope");
        let scopes = list["results"].as_array().unwrap();
        let scopes = scopes.iter().map(|scope| scope["scope_id"].as_str().unwrap().to_owned());
        let scopes = scopes.collect();
        // The last change is written again at a start, so it must not be of what is damaged; what
        // says nothing new is no change.
        daemon.set_module("hashmap", &json!({"module_id": "hashmap", "priority": 7}));
        daemon.stop();
        Site { folder, data, file, prometheus, scopes }
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("state/ledger")
    }

    fn start(&mut self) -> Daemon {
        self.prometheus.start_again();
        Daemon::start(&self.file)
    }

    fn range(&self) -> String {
        format!("begin={}&end={}", self.data.begin.format(FORM), self.data.end().format(FORM))
    }

    /// What the rows cost that a filter leaves.
    fn price(&self, daemon: &Daemon, filter: &str) -> Exact {
        let path = format!("/v2/summary?{}&{filter}", self.range());
        let summary = daemon.call(&Method::GET, &path, None).expect(200);
        let row = summary["results"][0].as_array();
        row.map_or(Exact::parse("0"), |row| Exact::parse(&row[3].to_string()))
    }

    fn wait_for_price(&self, daemon: &Daemon, filter: &str, price: Exact) {
        let what = format!("the rows of {filter} are there");
        wait_until(&what, || (self.price(daemon, filter) == price).then_some(()));
    }

    fn status(&self, daemon: &Daemon, path: &str) -> u16 {
        let separator = if path.contains('?') { '&' } else { '?' };
        let range = if path.starts_with("/v2/scope") { String::new() } else { self.range() };
        let path = format!("{path}{separator}{range}");
        daemon.call(&Method::GET, &path, None).status
    }
}

/// What of the bill is of some scope and metric.
fn part(
    bill: &BTreeMap<(String, String), (Exact, Exact)>,
    is_it: impl Fn(&str, &str) -> bool,
) -> Exact {
    let of_it = bill.iter().filter(|((scope, metric), _)| is_it(scope, metric));
    of_it.fold(Exact::parse("0"), |sum, (_, (_, price))| sum + *price)
}

fn open(ledger: &Path) -> sled::Db {
    sled::Config::new().path(ledger).segment_size(4 << 20).open().unwrap()
}

/// Flips a bit in the middle of the record with that number.
fn flip(ledger: &Path, table: &str, number: u32) {
    flip_first(ledger, table, &number.to_be_bytes());
}

/// The same of the first record whose key begins so; a second time it is as it was.
fn flip_first(ledger: &Path, table: &str, key: &[u8]) {
    let store = open(ledger);
    let tree = store.open_tree(table).unwrap();
    let (key, value) = tree.scan_prefix(key).next().unwrap().unwrap();
    let mut value = value.to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    tree.insert(&key, value).unwrap();
    store.flush().unwrap();
}

/// Whatever would be rated is rated by then.
fn wait_for_two_cycles(daemon: &Daemon) {
    wait_until("two cycles have ended", || {
        (daemon.metric("rated_cycle_duration_seconds_count") >= 2.0).then_some(())
    });
}

fn verify(file: &Path) -> String {
    let (is_whole, printed) = rated(&["ledger", "verify", "--config", file.to_str().unwrap()]);
    print!("{printed}");
    assert!(!is_whole, "{printed}");
    printed
}

#[test]
fn a_damaged_scope_costs_its_figures_and_nobody_elses() {
    let mut site = Site::new();
    flip(&site.ledger(), "scopes", 1);
    let damaged = site.scopes[1].clone();
    let (all, half) = (expected_bill(&site.data, 0..HOURS), expected_bill(&site.data, 0..MIDDLE));

    let daemon = site.start();

    for scope in site.scopes.iter().filter(|scope| **scope != damaged) {
        let filter = format!("filters=project_id:{scope}");
        site.wait_for_price(&daemon, &filter, part(&all, |of, _| of == scope));
    }
    // It has not gone on, and what it had counts: no total is smaller.
    let expected = part(&all, |of, _| of != damaged) + part(&half, |of, _| of == damaged);
    assert_eq!(site.price(&daemon, ""), expected);
    for path in [
        format!("/v2/summary?filters=project_id:{damaged}"),
        "/v2/summary?groupby=project_id".to_owned(),
        "/v2/summary?groupby=flavor".to_owned(),
        "/v2/scope".to_owned(),
        "/v2/dataframes".to_owned(),
        "/v2/completeness".to_owned(),
        format!("/v1/report/total?tenant_id={damaged}"),
        "/v1/report/summary?groupby=tenant_id".to_owned(),
        "/v1/report/tenants".to_owned(),
        "/v1/storage/dataframes".to_owned(),
    ] {
        assert_eq!(site.status(&daemon, &path), 503, "{path}");
    }
    for path in ["/v1/report/total", "/v2/summary?groupby=type"] {
        assert_eq!(site.status(&daemon, path), 200, "{path}");
    }
    // Who is named and known is not the damaged one; who is not known may be.
    let of = |path: &str, scope: &str| site.status(&daemon, &format!("{path}?scope_id={scope}"));
    for path in ["/v2/scope", "/v2/completeness"] {
        assert_eq!(of(path, &site.scopes[0]), 200, "{path}");
        assert_eq!(of(path, &damaged), 503, "{path}");
        assert_eq!(of(path, "unknown"), 503, "{path}");
        let both = format!("{damaged}&scope_id={}", site.scopes[0]);
        assert_eq!(of(path, &both), 503, "{path}");
    }
    let path = format!("/v2/completeness?scope_id={}&{}", site.scopes[0], site.range());
    let told = daemon.get(&path);
    assert_eq!(told["counts"]["collected"], json!(METRICS * HOURS));
    assert_eq!(told["counts"]["pending"], 0);
    let log = daemon.process.output();
    assert!(log.contains(&format!("scopes 1, perhaps `{damaged}`")), "{log}");
    assert!(log.contains("`rated ledger restore`"), "{log}");
    daemon.stop();
    assert!(verify(&site.file).contains("restore a backup"));
}

#[test]
fn damaged_cursors_hold_their_metric_and_no_hour_is_billed_twice() {
    let mut site = Site::new();
    flip(&site.ledger(), "cursors", 0);
    let (all, half) = (expected_bill(&site.data, 0..HOURS), expected_bill(&site.data, 0..MIDDLE));

    let daemon = site.start();

    // Which of them has the first number is the daemon's affair.
    let price = |metric: usize, bill: &BTreeMap<_, _>| {
        let name = DataSet::metric_name(metric);
        part(bill, |_, of| of == name)
    };
    let filter = |metric| format!("filters=type:{}", DataSet::metric_name(metric));
    let held = wait_until("the other metric is rated to its end", || {
        let is_whole = |metric| site.price(&daemon, &filter(metric)) == price(metric, &all);
        (0..METRICS).find(|metric| is_whole(1 - metric))
    });
    assert_eq!(site.price(&daemon, &filter(held)), price(held, &half));
    assert_eq!(site.price(&daemon, ""), price(1 - held, &all) + price(held, &half));
    assert_eq!(site.status(&daemon, "/v2/scope"), 503);
    assert_eq!(site.status(&daemon, "/v2/completeness"), 503);
    assert_eq!(site.status(&daemon, "/v2/summary?groupby=project_id,type"), 200);
    assert_eq!(site.status(&daemon, "/v2/dataframes"), 200);
    let log = daemon.process.output();
    let place = format!("cursors of metric `{}", DataSet::metric_name(held));
    assert!(log.contains(&place), "{log}");
    daemon.stop();
    // Neither does another start.
    let daemon = Daemon::start(&site.file);
    wait_for_two_cycles(&daemon);
    assert_eq!(site.price(&daemon, &filter(held)), price(held, &half));
    daemon.stop();
    assert!(verify(&site.file).contains("cursors"));
}

/// Whether a module or a collector is enabled cannot be read: neither is taken for sure.
#[test]
fn where_a_state_is_damaged_nothing_is_rated_until_it_is_said_anew() {
    let say_module = |daemon: &Daemon, priority: u32| {
        let body = json!({"module_id": "hashmap", "enabled": true, "priority": priority});
        daemon.set_module("hashmap", &body);
    };
    let say_collector = |daemon: &Daemon| {
        let path = "/v1/collector/states/prometheus";
        daemon.call(&Method::PUT, path, Some(&json!({"enabled": true}))).expect(200);
    };
    for damaged in ["module/hashmap", "collector/prometheus"] {
        let mut site = Site::new();
        let daemon = Daemon::start(&site.file);
        say_collector(&daemon);
        say_module(&daemon, 8);
        // The last change is of neither.
        let mapping = format!("/v1/collector/mappings/prometheus/{}", DataSet::metric_name(1));
        daemon.post(&mapping, &json!({})).expect(200);
        daemon.stop();
        flip_first(&site.ledger(), "states", damaged.as_bytes());
        let half = part(&expected_bill(&site.data, 0..MIDDLE), |_, _| true);

        let daemon = site.start();

        wait_for_two_cycles(&daemon);
        assert_eq!(site.price(&daemon, ""), half, "{damaged}");
        if damaged.starts_with("module") {
            say_module(&daemon, 9);
        } else {
            say_collector(&daemon);
        }
        let all = part(&expected_bill(&site.data, 0..HOURS), |_, _| true);
        site.wait_for_price(&daemon, "", all);
        daemon.stop();
    }
}

/// A rule that cannot be read is not left out.
#[test]
fn where_a_rule_is_damaged_nothing_is_rated_nor_quoted() {
    let mut site = Site::new();
    let rule = b"rating/hashmap\0mapping";
    flip_first(&site.ledger(), "kv", rule);
    let half = part(&expected_bill(&site.data, 0..MIDDLE), |_, _| true);
    let service = DataSet::metric_name(0);
    let quote = json!({"resources": [{"service": service, "volume": "1", "desc": {}}]});

    let daemon = site.start();

    wait_for_two_cycles(&daemon);
    assert_eq!(site.price(&daemon, ""), half);
    let refused = daemon.post("/v1/rating/quote", &quote);
    assert!(refused.status >= 500, "{refused:?}");
    daemon.stop();
    flip_first(&site.ledger(), "kv", rule);
    let daemon = Daemon::start(&site.file);
    let all = part(&expected_bill(&site.data, 0..HOURS), |_, _| true);
    site.wait_for_price(&daemon, "", all);
    daemon.post("/v1/rating/quote", &quote).expect(200);
    daemon.stop();
}

/// A row of price 1 on a day of July 2019, which nobody collects.
fn push(daemon: &Daemon, day: u32) {
    let point = json!({
        "vol": {"unit": "instance", "qty": 1},
        "rating": {"price": 1},
        "groupby": {"project_id": "pushed", "id": "vm"},
        "metadata": {},
    });
    let period = json!({
        "begin": format!("2019-07-{day:02}T00:00:00+00:00"),
        "end": format!("2019-07-{day:02}T01:00:00+00:00"),
    });
    let frame = json!({"period": period, "usage": {"instance": [point]}});
    daemon.post("/v2/dataframes", &json!({"dataframes": [frame]})).expect(204);
}

#[test]
fn what_was_lost_at_the_end_of_the_log_is_503_until_somebody_accepts_it() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 1, 1, 1);
    fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let config = Config::prometheus("http://127.0.0.1:9", data.begin).without_scopes();
    let file = config.write(folder.path());
    let log = folder.path().join("state/ledger/db");
    let mut daemon = Daemon::start(&file);
    push(&daemon, 1);
    let length = fs::metadata(&log).unwrap().len();
    push(&daemon, 2);
    push(&daemon, 3);
    daemon.process.kill();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length).unwrap();
    let of_days = |daemon: &Daemon, days: &str| {
        let path = format!("/v2/summary?{days}");
        daemon.call(&Method::GET, &path, None)
    };
    let (first, lost) =
        ("begin=2019-07-01&end=2019-07-02", "begin=2019-07-02&end=2019-07-03T12:00:00");
    let month = "begin=2019-07-01&end=2019-08-01";

    for _ in 0..2 {
        let daemon = Daemon::start(&file);
        assert_eq!(of_days(&daemon, first).expect(200)["total"], json!(1));
        assert_eq!(of_days(&daemon, lost).status, 503);
        assert_eq!(of_days(&daemon, month).status, 503);
        let total = "/v1/report/total?begin=2019-07-01T00:00:00&end=2019-08-01T00:00:00";
        assert_eq!(daemon.call(&Method::GET, total, None).status, 503);
        let log = daemon.process.output();
        assert!(log.contains("changes that were acknowledged are lost"), "{log}");
        // It can be made up for.
        daemon.call(&Method::GET, "/v1/rating/modules", None).expect(200);
        daemon.stop();
    }
    let daemon = Daemon::start(&file);
    push(&daemon, 2);
    assert_eq!(of_days(&daemon, month).status, 503);
    daemon.stop();
    assert!(verify(&file).contains("make up for it, then accept it"));
    let accept = ["ledger", "verify", "--accept", "--config", file.to_str().unwrap()];
    let (is_done, printed) = rated(&accept);
    assert!(is_done, "{printed}");

    let daemon = Daemon::start(&file);
    let summary: Value = of_days(&daemon, month).expect(200);
    let price = summary["results"][0].as_array().unwrap().last().unwrap().to_string();
    assert_eq!(Exact::parse(&price), Exact::parse("2"));
    daemon.stop();
    let (is_whole, printed) = rated(&["ledger", "verify", "--config", file.to_str().unwrap()]);
    assert!(is_whole, "{printed}");
}
