//! A price changes, and the past is rated again: readers see all of the old totals or all of the
//! new ones, and a daemon that is killed on the way goes on where it was.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use rated_tests::{
    Config, Daemon, DataSet, Exact, Prometheus, actual_bill, enter_price_list, expected_bill, get,
    rated_asks, wait_until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const HASHMAP: &str = "/v1/rating/module_config/hashmap";
const SURCHARGE: &str = "0.003";

/// Of the scopes 0 and 1, both ends included.
const FIRST_HOUR: usize = 5;
const LAST_HOUR: usize = 54;

type Bill = BTreeMap<(String, String), (Exact, Exact)>;

struct Site {
    folder: TempDir,
    data: DataSet,
    _prometheus: Prometheus,
    daemon: Daemon,
}

impl Site {
    /// Everything is collected and rated by the old prices; then the surcharge comes.
    fn with_new_prices() -> Site {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(2, 3, 4, 60);
        let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        let config = Config::prometheus(&prometheus.url, data.begin);
        let daemon = Daemon::start(&config.clone().without_scopes().write(folder.path()));
        enter_price_list(&daemon, &data);
        daemon.stop();
        let daemon = Daemon::start(&config.write(folder.path()));
        daemon.wait_until_processed(data.scopes, data.end(), 3600);
        let site = Site { folder, data, _prometheus: prometheus, daemon };
        assert_eq!(site.bill(), expected_bill(&data, 0..data.hours));
        site.enter_surcharge();
        site
    }

    /// In force since ever, so only what is rated from now on has it.
    fn enter_surcharge(&self) {
        let group = self.daemon.post(&format!("{HASHMAP}/groups"), &json!({"name": "surcharge"}));
        let group = group.expect(201)["group_id"].clone();
        let services = self.daemon.get(&format!("{HASHMAP}/services"));
        let start = self.data.begin.format("%Y-%m-%dT%H:%M:%S").to_string();
        for service in services["services"].as_array().unwrap() {
            let rule = json!({
                "service_id": service["service_id"], "group_id": group, "cost": SURCHARGE,
                "start": start,
            });
            self.daemon.post(&format!("{HASHMAP}/mappings?force=true"), &rule).expect(201);
        }
    }

    fn bill(&self) -> Bill {
        actual_bill(&self.daemon, self.data.begin, self.data.end())
    }

    fn new_bill(&self) -> Bill {
        let mut bill = expected_bill(&self.data, 0..self.data.hours);
        let again = expected_bill(&self.data, FIRST_HOUR..LAST_HOUR + 1);
        for ((scope, metric), (quantity, _)) in again {
            if scope != DataSet::scope_id(2) {
                let entry = bill.get_mut(&(scope, metric)).unwrap();
                entry.1 = entry.1 + quantity * Exact::parse(SURCHARGE);
            }
        }
        bill
    }

    fn reprocess(&self) {
        let form = "%Y-%m-%dT%H:%M:%SZ";
        let body = json!({
            "scope_ids": [DataSet::scope_id(0), DataSet::scope_id(1)],
            "reason": "a surcharge",
            "start_reprocess_time": self.data.hour(FIRST_HOUR).format(form).to_string(),
            "end_reprocess_time": self.data.hour(LAST_HOUR).format(form).to_string(),
        });
        self.daemon.post("/v2/task/reprocesses", &body).expect(202);
    }

    /// Begin of the last period that is staged.
    fn current(&self) -> String {
        let path = format!("/v2/task/reprocesses/{}", DataSet::scope_id(1));
        let rows = self.daemon.get(&path);
        rows["results"][0]["current_reprocess_time"].as_str().unwrap().to_owned()
    }

    fn hour_text(&self, hour: usize) -> String {
        self.data.hour(hour).format("%Y-%m-%dT%H:%M:%S").to_string()
    }

    fn wait_until_finished(&self) {
        wait_until("the reprocessing is finished", || {
            (self.daemon.metric("rated_reprocessings_total") > 0.0).then_some(())
        });
        assert_eq!(self.current(), self.hour_text(LAST_HOUR));
    }
}

/// Asks for the same two totals over and over, and keeps the different answers.
struct Poll {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, BTreeSet<String>, BTreeSet<String>)>,
}

impl Poll {
    fn start(site: &Site) -> Poll {
        let form = "%Y-%m-%dT%H:%M:%SZ";
        let range =
            format!("begin={}&end={}", site.data.begin.format(form), site.data.end().format(form));
        let url = &site.daemon.url;
        let summary = format!("{url}/v2/summary?{range}&groupby=project_id,type");
        let total = format!("{url}/v1/report/total?{range}");
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        let thread = thread::spawn(move || {
            let (mut count, mut summaries, mut totals) = (0, BTreeSet::new(), BTreeSet::new());
            while !until.load(Ordering::Relaxed) {
                summaries.insert(get(&summary).expect(200).to_string());
                totals.insert(get(&total).expect(200).to_string());
                count += 1;
            }
            (count, summaries, totals)
        });
        Poll { is_over, thread }
    }

    /// How often both were asked, and the different answers of each.
    fn end(self) -> (usize, BTreeSet<String>, BTreeSet<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

#[test]
fn readers_see_all_of_the_old_or_all_of_the_new_totals() {
    let site = Site::with_new_prices();
    let poll = Poll::start(&site);
    // So that the old totals are seen at least once.
    wait_until("a request", || {
        (site.daemon.metric("rated_http_requests_total") > 20.0).then_some(())
    });

    site.reprocess();
    site.wait_until_finished();

    let after = site.bill();
    let (count, summaries, totals) = poll.end();
    println!("{count} polls saw {} summaries and {} totals", summaries.len(), totals.len());
    assert_eq!(after, site.new_bill());
    // Both are right at the ends, so two answers are the old one and the new one.
    assert!(summaries.len() <= 2 && totals.len() <= 2, "{summaries:?} {totals:?}");
    assert!(count > 10, "{count}");
    let untouched = |bill: &Bill| -> Vec<_> {
        let of_scope = |key: &&(String, String)| key.0 == DataSet::scope_id(2);
        bill.keys().filter(of_scope).map(|key| bill[key]).collect()
    };
    assert_eq!(untouched(&after), untouched(&expected_bill(&site.data, 0..site.data.hours)));
    the_difference_is_the_surcharge(&site);
    site.daemon.stop();
}

/// As an operator compares the figures of before with those since.
fn the_difference_is_the_surcharge(site: &Site) {
    let url = &site.daemon.url;
    let price = |bill: &Bill| bill.values().fold(Exact::default(), |sum, (_, price)| sum + *price);
    let before = price(&expected_bill(&site.data, 0..site.data.hours));
    let since = price(&site.new_bill());

    let (is_same, table) = rated_asks(url, &["reprocess", "diff"]);
    let (_, lines) = rated_asks(url, &["reprocess", "diff", "--json", "--all", "--id", "1"]);

    let shown: Vec<&str> = table.lines().take(4).chain(table.lines().rev().take(2)).collect();
    println!("{}", shown.join("\n"));
    assert!(!is_same && table.contains(" figures are others now"), "{table}");
    let total = lines.lines().find(|line| line.contains("total_price")).unwrap();
    let total: Value = serde_json::from_str(total).unwrap();
    let total = &total["total_price"];
    assert_eq!(before + Exact::parse(total["difference"].as_str().unwrap()), since);
    let rows = lines.lines().filter(|line| line.contains("\"difference\"")).count() - 1;
    assert_eq!(rows, (LAST_HOUR - FIRST_HOUR + 1) * 2 * site.data.metrics);
    let (is_same, none) = rated_asks(url, &["reprocess", "diff", &DataSet::scope_id(2)]);
    assert!(is_same, "{none}");
    let (is_known, unknown) = rated_asks(url, &["reprocess", "diff", "--id", "77"]);
    assert!(!is_known && unknown.contains("no figures are kept from before reprocessing 77"));
    let (_, list) = rated_asks(url, &["reprocess", "generations"]);
    assert!(list.contains("a surcharge"), "{list}");
}

#[test]
fn a_daemon_killed_on_the_way_goes_on_where_it_was() {
    let mut site = Site::with_new_prices();
    site.reprocess();
    let middle = site.hour_text(FIRST_HOUR + 10);
    wait_until("the middle", || (site.current() >= middle).then_some(()));
    site.daemon.process.kill();

    site.daemon = Daemon::start(&site.folder.path().join("rated.toml"));
    site.wait_until_finished();

    let periods = site.daemon.metric("rated_reprocessed_periods_total");
    println!("{periods} of {} periods after the restart", LAST_HOUR - FIRST_HOUR + 1);
    // At least 11 of the 50 were staged.
    assert!(periods <= 39.0, "{periods} periods once more");
    assert_eq!(site.bill(), site.new_bill());
    let gaps = site.daemon.get(&format!(
        "/v2/completeness?begin={}Z&end={}Z",
        site.hour_text(0),
        site.hour_text(site.data.hours)
    ));
    assert_eq!(gaps["counts"]["pending"], Value::from(0), "{gaps}");
    assert_eq!(gaps["total"], Value::from(site.data.hours * 3 * 2), "{}", gaps["counts"]);
    site.daemon.stop();
}
