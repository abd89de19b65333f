//! A proxy spoils what a real Gnocchi answers: what it touches waits, the rest is rated on time,
//! nothing wrong is rated, and afterwards the bill is whole.

use std::collections::BTreeMap;

use rated_tests::{Daemon, Element, Order, SourceFault, Spoiler, wait_until};
use serde_json::{Value, json};

use crate::cloud::{Bill, Cloud};

const HOURS: usize = 8;
const MEMORY_MAX: u64 = 512 << 20;
/// Whose data are spoiled, where it is one project's.
const TOUCHED: &str = "green";

/// In each hour, what becomes of the answers about `cpu`; whether it touches one project only, and
/// what the record says about it.
fn cases() -> Vec<(SourceFault, bool, &'static str)> {
    let group = || Element { list: "", having: format!("\"{TOUCHED}\"") };
    let value = "/measures/measures/aggregated/0/2";
    let instead =
        |status, line, body: &str| SourceFault::Instead(status, line, body.as_bytes().to_vec());
    vec![
        (SourceFault::Half, false, "cut short"),
        (instead(200, "", "<html>Please log in</html>"), false, "not JSON"),
        (SourceFault::Value(group(), value, json!("bare NaN bare")), false, "not JSON"),
        (SourceFault::ResetWithin, false, "failed"),
        (instead(429, "Retry-After: soon\r\n", ""), false, "HTTP status 429"),
        // The others are through with all hours from here on.
        (SourceFault::Twice(group()), true, "came twice"),
        (SourceFault::TwiceBut(group(), value, json!(1)), true, "came twice"),
        (SourceFault::Value(group(), value, json!("1")), true, "not a number"),
    ]
}

/// States of a project and metric by hour, and the reason of what failed.
fn states(daemon: &Daemon, cloud: &Cloud) -> BTreeMap<(String, String), (Vec<String>, String)> {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (begin, end) = (cloud.data.begin.format(form), cloud.data.end().format(form));
    let path = format!("/v2/completeness?begin={begin}&end={end}&limit=10000");
    let answer = daemon.get(&path);
    let mut rows: Vec<&Value> = answer["results"].as_array().unwrap().iter().collect();
    rows.sort_by_key(|row| row["begin"].as_str().unwrap());
    let mut states: BTreeMap<_, (Vec<String>, String)> = BTreeMap::new();
    for row in rows {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let entry = states.entry((text("scope_id"), text("type"))).or_default();
        entry.0.push(text("state"));
        entry.1.push_str(&text("reason"));
    }
    states
}

/// Each project has stored all hours, or has failed at one and waits with the rest.
fn is_so(
    found: &BTreeMap<(String, String), (Vec<String>, String)>,
    held: Option<(usize, bool)>,
) -> bool {
    found.iter().all(|((project, kind), (states, _))| {
        let failed_at = states.iter().position(|state| state == "failed");
        let pending = states.iter().filter(|state| *state == "pending").count();
        match held {
            Some((hour, one)) if kind == "instance" && (!one || project == TOUCHED) => {
                failed_at == Some(hour) && pending == HOURS - hour - 1
            }
            _ => failed_at.is_none() && pending == 0,
        }
    })
}

fn bill_without(cloud: &Cloud, held: (usize, bool)) -> Bill {
    cloud.expected_bill_of(|point| {
        let is_touched = point.metric == 0 && (!held.1 || cloud.projects[point.scope] == TOUCHED);
        !is_touched || point.hour < held.0
    })
}

#[test]
fn spoiled_answers_of_gnocchi_delay_what_they_touch() {
    let cloud = Cloud::without_keystone(HOURS);
    let spoiler = Spoiler::start(&cloud.gnocchi.url());
    let login = format!(
        "auth_type = \"basic\"\nusername = \"admin\"\nretries_max = 0\nendpoint = \"{}\"\n",
        spoiler.url
    );
    let cases = cases();
    let order = |hour: usize| -> Vec<Order> {
        let Some((fault, one_project, _)) = cases.get(hour) else { return Vec::new() };
        let stop = format!("stop={}", cloud.data.hour(hour + 1).to_rfc3339());
        let mut texts = vec!["/v1/aggregates", "\"cpu\"", stop.as_str()];
        if *one_project {
            texts.push(TOUCHED);
        }
        vec![Order::new(&texts, fault.clone())]
    };
    spoiler.order(order(0));
    let projects = format!("{login}resource_types = [\"instance\"]\n");
    let daemon = cloud.start_daemon(&cloud.config_with(&login, "gnocchi", &projects));

    let mut answers = 0;
    for (hour, (fault, one_project, reason)) in cases.iter().enumerate() {
        println!("hour {hour}: {fault:?}");
        wait_until(&format!("the record of {fault:?}"), || {
            let found = states(&daemon, &cloud);
            (found.len() == 6 && is_so(&found, Some((hour, *one_project)))).then_some(())
        });
        let key = (TOUCHED.to_owned(), "instance".to_owned());
        let found = states(&daemon, &cloud)[&key].1.clone();
        assert!(found.contains(reason), "{fault:?}: {found}");
        assert_eq!(cloud.actual_bill(&daemon), bill_without(&cloud, (hour, *one_project)));
        answers += spoiler.order(order(hour + 1));
    }
    cloud.wait_until_rated(&daemon);

    assert!(is_so(&states(&daemon, &cloud), None));
    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    let memory = daemon.process.memory_peak();
    println!("{} faults, {answers} answers, at most {} MiB", cases.len(), memory >> 20);
    assert!(memory < MEMORY_MAX, "{memory} bytes");
    daemon.stop();
}
