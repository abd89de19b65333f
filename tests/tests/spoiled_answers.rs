//! A proxy spoils what a real Prometheus answers, in every way that we could think of: exactly the
//! scopes, metrics and periods that it touches wait, all others are rated on time, nothing wrong
//! is rated meanwhile, and afterwards the bill is whole.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use rated_tests::{
    Config, Daemon, DataSet, Element, Exact, Order, Point, Prometheus, SourceFault, Spoiler,
    actual_bill, enter_price_list, expected_bill, price, summary, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const SCOPES: usize = 6;
const HOURS: usize = 10;
/// Whose data are spoiled, where it is one scope's.
const TOUCHED: usize = 2;
/// Metrics whose answers are spoiled; `metric_0` is sound.
const SPOILED: usize = 4;

/// Nobody asked for that.
const GZIP: &str = "Content-Encoding: gzip\r\n";

/// Far above what the daemon needs, far below what the source sends.
const MEMORY_MAX: u64 = 512 << 20;

/// A fault, and whom it touches.
#[derive(Debug, Clone)]
struct Case {
    fault: SourceFault,
    touched: Touched,
    /// What the record says about it.
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Touched {
    Everybody,
    OneScope,
}

fn everybody(fault: SourceFault, reason: &'static str) -> Case {
    Case { fault, touched: Touched::Everybody, reason }
}

fn one_scope(fault: SourceFault, reason: &'static str) -> Case {
    Case { fault, touched: Touched::OneScope, reason }
}

fn instead(status: u16, line: &'static str, body: &str) -> SourceFault {
    SourceFault::Instead(status, line, body.as_bytes().to_vec())
}

fn series() -> Element {
    let having = format!("\"{}\"", DataSet::scope_id(TOUCHED));
    Element { list: "/data/result", having }
}

fn value(text: &str) -> SourceFault {
    SourceFault::Value(series(), "/value/1", json!(text))
}

/// In each hour one fault for each spoiled metric.
fn cases() -> Vec<(usize, [Case; SPOILED])> {
    [broken_connections(), other_answers()].concat()
}

fn broken_connections() -> Vec<(usize, [Case; SPOILED])> {
    let html = "<html><body>Please log in</body></html>";
    vec![
        (
            0,
            [
                everybody(SourceFault::Hold, "no answer from"),
                everybody(SourceFault::Reset, "failed"),
                everybody(instead(500, "", "oops"), "HTTP status 500: oops"),
                one_scope(value("NaN"), "`NaN` is"),
            ],
        ),
        (
            1,
            [
                everybody(SourceFault::ResetWithin, "failed"),
                everybody(SourceFault::Cut, "failed"),
                everybody(SourceFault::CutChunks, "failed"),
                one_scope(SourceFault::Twice(series()), "came twice"),
            ],
        ),
        (
            2,
            [
                everybody(SourceFault::Half, "cut short"),
                everybody(instead(429, "Retry-After: soon\r\n", "slow down"), "HTTP status 429"),
                everybody(instead(200, "", html), "not JSON"),
                one_scope(value("+Inf"), "`+Inf` is"),
            ],
        ),
        (
            4,
            [
                everybody(SourceFault::Instead(200, "", vec![0xff, 0, 0x80, b'{']), "not JSON"),
                everybody(SourceFault::Instead(200, GZIP, vec![0x1f, 0x8b, 8, 0, 0, 0]), "failed"),
                everybody(SourceFault::EndlessHead, "failed"),
                one_scope(SourceFault::TwiceBut(series(), "/value/1", json!("1")), "came twice"),
            ],
        ),
    ]
}

fn other_answers() -> Vec<(usize, [Case; SPOILED])> {
    let partial = r#"{"status":"success","data":{"resultType":"vector","result":[]},
        "warnings":["remote read: one store did not answer"]}"#;
    let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"e"}}"#);
    vec![
        (
            5,
            [
                everybody(instead(200, "", ""), "cut short"),
                everybody(instead(200, "", "{}"), "answer with the status"),
                everybody(instead(503, "", &error("unavailable")), "HTTP status 503: e"),
                one_scope(value("-Inf"), "`-Inf` is"),
            ],
        ),
        (
            7,
            [
                everybody(instead(401, "", "who?"), "HTTP status 401: who?"),
                everybody(instead(400, "", &error("bad_data")), "`bad_data`: e"),
                everybody(instead(200, "", partial), "the answer is partial"),
                one_scope(
                    SourceFault::TwiceBut(series(), "/metric/project_id", json!("somebody")),
                    "a scope that was not asked for",
                ),
            ],
        ),
        (
            8,
            [
                everybody(instead(302, "Location: http://127.0.0.1:1/\r\n", ""), "HTTP status 302"),
                everybody(instead(200, "", &error("timeout")), "`timeout`: e"),
                everybody(instead(204, "", ""), "HTTP status 204"),
                one_scope(value("1e+40"), "`1e+40` is"),
            ],
        ),
    ]
}

/// A site with a daemon that has prices and is about to begin.
struct Site {
    data: DataSet,
    folder: TempDir,
    /// Ends with the site.
    _prometheus: Prometheus,
    spoiler: Spoiler,
}

impl Site {
    fn new(metrics: usize, hours: usize) -> Site {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(metrics, SCOPES, 2, hours);
        let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        let spoiler = Spoiler::start(&prometheus.url);
        std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        Site { data, folder, _prometheus: prometheus, spoiler }
    }

    fn start(&self) -> Daemon {
        let mut config = Config::prometheus(&self.spoiler.url, self.data.begin);
        let collector = "[collectors.prometheus]\n";
        config.plugins =
            config.plugins.replace(collector, &format!("{collector}timeout_secs = 3\n"));
        let daemon = Daemon::start(&config.clone().without_scopes().write(self.folder.path()));
        enter_price_list(&daemon, &self.data);
        daemon.stop();
        Daemon::start(&config.write(self.folder.path()))
    }

    /// With the configuration that it was started with before.
    fn start_again(&self) -> Daemon {
        Daemon::start(&self.folder.path().join("rated.toml"))
    }

    /// Spoils what is answered of a metric for an hour.
    fn order(&self, metric: usize, hour: usize, case: &Case) -> Order {
        let name = format!("{}{{", DataSet::metric_name(metric));
        let time = format!("time={}", self.data.hour(hour + 1).timestamp());
        let scope = DataSet::scope_id(TOUCHED);
        let mut texts = vec![name.as_str(), time.as_str()];
        if case.touched == Touched::OneScope {
            texts.push(&scope);
        }
        Order::new(&texts, case.fault.clone())
    }
}

/// Scope, metric, begin.
type Cell = (String, String, i64);

/// What is known of every scope, metric and hour, and why something failed.
fn completeness(daemon: &Daemon, data: &DataSet) -> BTreeMap<Cell, (String, String)> {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (begin, end) = (data.begin.format(form), data.end().format(form));
    let path = format!("/v2/completeness?begin={begin}&end={end}&limit=100000");
    let answer = daemon.call(&Method::GET, &path, None).expect(200);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = answer["results"].as_array().unwrap().iter();
    rows.map(|row| {
        let begin = DateTime::parse_from_rfc3339(&text(row, "begin")).unwrap().timestamp();
        let cell = (text(row, "scope_id"), text(row, "metric"), begin);
        (cell, (text(row, "state"), text(row, "reason")))
    })
    .collect()
}

/// Where a metric stands still, and for whom.
type Held<'a> = BTreeMap<usize, (usize, &'a Case)>;

fn is_held(held: &Held<'_>, metric: usize, scope: usize) -> Option<usize> {
    let (hour, case) = held.get(&metric)?;
    (case.touched == Touched::Everybody || scope == TOUCHED).then_some(*hour)
}

fn expected_states(data: &DataSet, held: &Held<'_>) -> BTreeMap<Cell, String> {
    let mut quantities: BTreeMap<(usize, usize, usize), Vec<String>> = BTreeMap::new();
    for point in data.points() {
        let key = (point.scope, point.metric, point.hour);
        quantities.entry(key).or_default().push(DataSet::quantity(point));
    }
    let mut states = BTreeMap::new();
    for scope in 0..data.scopes {
        for metric in 0..data.metrics {
            for hour in 0..data.hours {
                let state =
                    match (is_held(held, metric, scope), quantities.get(&(scope, metric, hour))) {
                        (Some(from), _) if hour == from => "failed",
                        (Some(from), _) if hour > from => "pending",
                        (_, None) => "no_data",
                        (_, Some(all)) if all.iter().all(|one| one == "0.0000") => "zero",
                        _ => "collected",
                    };
                let begin = data.hour(hour).timestamp();
                let cell = (DataSet::scope_id(scope), DataSet::metric_name(metric), begin);
                states.insert(cell, state.to_owned());
            }
        }
    }
    states
}

/// What all that is not held costs.
fn bill_without(data: &DataSet, held: &Held<'_>) -> BTreeMap<(String, String), (Exact, Exact)> {
    let is_there = |point: &Point| {
        is_held(held, point.metric, point.scope).is_none_or(|from| point.hour < from)
    };
    let mut bill: BTreeMap<_, (Exact, Exact)> = BTreeMap::new();
    for point in data.points().filter(is_there) {
        let key = (DataSet::scope_id(point.scope), DataSet::metric_name(point.metric));
        let entry = bill.entry(key).or_default();
        entry.0 = entry.0 + Exact::parse(&DataSet::quantity(point));
        entry.1 = entry.1 + price(point);
    }
    bill
}

/// Waits until the record says just this, then looks at the bill.
fn check(daemon: &Daemon, data: &DataSet, held: &Held<'_>) {
    let expected = expected_states(data, held);
    let mut last = BTreeMap::new();
    let is_so = || {
        let found = completeness(daemon, data);
        let states = found.iter().map(|(cell, (state, _))| (cell.clone(), state.clone()));
        let states: BTreeMap<Cell, String> = states.collect();
        let same = states == expected;
        last = found;
        same.then_some(())
    };
    wait_until(&format!("the record of {held:?}"), is_so);
    for ((scope, metric, _), (state, reason)) in &last {
        if state == "failed" {
            let index = metric.trim_start_matches("metric_").parse::<usize>().unwrap();
            let case = held[&index].1;
            assert!(reason.contains(case.reason), "{scope} {metric} {case:?}: {reason}");
        }
    }
    assert_eq!(actual_bill(daemon, data.begin, data.end()), bill_without(data, held));
}

#[test]
fn every_fault_holds_back_what_it_touches_and_nothing_else() {
    let site = Site::new(1 + SPOILED, HOURS);
    let data = site.data;
    let cases = cases();
    let orders = |index: usize| -> Vec<Order> {
        let Some((hour, at_once)) = cases.get(index) else { return Vec::new() };
        // Slow is no fault.
        let slow = Order::new(&["metric_0{"], SourceFault::Delay(Duration::from_millis(200)));
        let spoiled = (1..).zip(at_once).map(|(metric, case)| site.order(metric, *hour, case));
        [slow].into_iter().chain(spoiled).collect()
    };
    site.spoiler.order(orders(0));
    let daemon = site.start();

    let mut spoiled = 0;
    for (index, (hour, at_once)) in cases.iter().enumerate() {
        let held: Held<'_> = (1..).zip(at_once.iter().map(|case| (*hour, case))).collect();
        println!("hour {hour}: {:?}", at_once.each_ref().map(|case| &case.fault));
        check(&daemon, &data, &held);
        spoiled += site.spoiler.order(orders(index + 1));
    }
    check(&daemon, &data, &Held::new());

    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..HOURS));
    let memory = daemon.process.memory_peak();
    let faults = cases.len() * SPOILED;
    println!("{faults} faults, {spoiled} answers spoiled, at most {} MiB", memory >> 20);
    assert!(memory < MEMORY_MAX, "{memory} bytes");
    daemon.stop();
}

#[test]
fn ten_million_series_of_one_scope_are_refused_in_bounded_memory() {
    let site = Site::new(2, 2);
    let data = site.data;
    let scope = DataSet::scope_id(TOUCHED);
    let case = one_scope(SourceFault::Flood { scope }, "longer than 67108864 bytes");
    site.spoiler.order(vec![site.order(1, 0, &case)]);
    let daemon = site.start();

    check(&daemon, &data, &Held::from([(1, (0, &case))]));
    let spoiled = site.spoiler.mend();
    check(&daemon, &data, &Held::new());

    let memory = daemon.process.memory_peak();
    println!("{spoiled} floods, at most {} MiB", memory >> 20);
    assert!(memory < MEMORY_MAX, "{memory} bytes");
    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..2));
    daemon.stop();
}

/// What a source asks for holds for all that it is asked, whatever of it has failed.
#[test]
fn a_source_that_says_when_is_left_alone_until_then() {
    let site = Site::new(2, 2);
    let data = site.data;
    let hour = "Retry-After: 3600\r\n";
    // Not what the fetcher asks.
    let queries = ["query=", "metric_"];
    site.spoiler.order(vec![Order::new(&queries, instead(429, hour, "slow down"))]);
    let daemon = site.start();
    // The attempts of each metric at its first hour, once it is not sent any more.
    let unsent = || {
        let found = completeness(&daemon, &data);
        let failed = found.values().filter(|(state, _)| state == "failed");
        let reasons: Vec<&String> = failed.map(|(_, reason)| reason).collect();
        let is_unsent = |reason: &&String| reason.contains("asked to be left alone until");
        (reasons.len() == 2 * SCOPES && reasons.iter().all(is_unsent)).then_some(())
    };
    wait_until("both metrics wait for the time that the source has named", unsent);

    let counted = Order::new(&queries, SourceFault::Delay(Duration::ZERO));
    assert!(site.spoiler.order(vec![counted]) > 0, "it was never asked");
    let cycles = daemon.metric("rated_cycle_duration_seconds_count");
    wait_until("five more cycles", || {
        (daemon.metric("rated_cycle_duration_seconds_count") >= cycles + 5.0).then_some(())
    });

    assert_eq!(site.spoiler.mend(), 0, "it was asked before its time");
    assert!(unsent().is_some());
    daemon.stop();
    // A new instance has heard nothing.
    let daemon = site.start_again();
    check(&daemon, &data, &Held::new());
    daemon.stop();
}

/// Who is billed is asked of a source, too.
#[test]
fn a_spoiled_list_of_scopes_stops_nobody_who_is_known() {
    let site = Site::new(1, 4);
    let data = site.data;
    let daemon = site.start();
    wait_until("the scopes are known", || (daemon.last_processed().len() == SCOPES).then_some(()));
    for fault in [
        SourceFault::Half,
        SourceFault::Reset,
        instead(500, "", ""),
        instead(200, "", r#"{"status":"success","data":[1]}"#),
        instead(200, "", r#"{"status":"success","data":[]}"#),
    ] {
        let before = daemon.metric("rated_cycle_duration_seconds_count");
        site.spoiler.order(vec![Order::new(&["/api/v1/label/"], fault)]);
        wait_until("two more cycles", || {
            (daemon.metric("rated_cycle_duration_seconds_count") >= before + 2.0).then_some(())
        });
        site.spoiler.mend();
    }

    check(&daemon, &data, &Held::new());
    assert_eq!(daemon.last_processed().len(), SCOPES);
    daemon.stop();
}

/// A gauge below zero, a counter that begins anew: figures like any other, as Prometheus has them.
#[test]
fn negative_values_and_resets_are_rated_as_prometheus_says() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 1, 1, 1);
    let minute = |minute: i64| data.begin.timestamp() + minute * 60;
    let labels = r#"{project_id="scope-000",id="r"}"#;
    let mut history = "# TYPE metric_0 gauge\n".to_owned();
    for (value, at) in [("-7.25", 13), ("-2.5", 47)] {
        history += &format!("metric_0{labels} {value} {}\n", minute(at));
    }
    history += "# TYPE restarted unknown\n";
    for (value, at) in [(900, 57), (1000, 58), (30, 59)] {
        history += &format!("restarted{labels} {value} {}\n", minute(at));
    }
    let prometheus = Prometheus::start(folder.path(), &(history + "# EOF\n"));
    let metric = |name: &str, kind: &str, arguments: &str| {
        format!(
            "[[metric]]\nname = \"{name}\"\nalt_name = \"{kind}\"\nunit = \"u\"\n\
             groupby = [\"id\"]\n[metric.extra_args]\n{arguments}\n"
        )
    };
    let metrics = metric("metric_0", "balance", "aggregation_method = \"max\"")
        + &metric("restarted", "rate", "range_function = \"irate\"")
        + &metric("restarted", "step", "range_function = \"idelta\"");
    std::fs::write(folder.path().join("metrics.toml"), metrics).unwrap();

    let config = Config::prometheus(&prometheus.url, data.begin);
    let daemon = Daemon::start(&config.write(folder.path()));
    daemon.wait_until_processed(1, data.end(), 3600);

    let rows = summary(&daemon, data.begin, data.end(), "type");
    let quantities: BTreeMap<String, String> =
        rows.iter().map(|row| (row[4].as_str().unwrap().to_owned(), row[2].to_string())).collect();
    // `irate` knows that a counter began anew at 0: 30 in 60 seconds. `idelta` does not.
    let expected = [("balance", "-2.5"), ("rate", "0.5"), ("step", "-970")];
    let expected = expected.map(|(kind, value)| (kind.to_owned(), Exact::parse(value)));
    let found = quantities.into_iter().map(|(kind, value)| (kind, Exact::parse(&value)));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), BTreeMap::from(expected));
    daemon.stop();
    drop(prometheus);
}
