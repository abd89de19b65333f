//! Threads of a plugin's own ask the daemon for the same and get the same, here and apart; and a
//! module's panics, in whatever call, cost that call in a process too.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use rated_tests::{Daemon, summary, wait_until};
use reqwest::Method;
use serde_json::{Value, json};

use super::site::{HOURS, Site};

/// More than a host serves one after the other in a call's time.
const REQUESTS: usize = 40;

/// Answers when so many have asked.
fn patient_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let all = Arc::new(Barrier::new(REQUESTS));
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut connection, all) = (connection.unwrap(), all.clone());
            std::thread::spawn(move || {
                let (mut asked, mut part) = (Vec::new(), [0; 1024]);
                while !asked.ends_with(b"ping") {
                    let length = connection.read(&mut part).unwrap();
                    asked.extend_from_slice(&part[..length]);
                }
                all.wait();
                connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npong").unwrap();
            });
        }
    });
    format!("http://{address}/")
}

/// Takes connections and says nothing.
fn silent_server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

#[test]
fn threads_of_a_plugin_ask_at_the_same_time_and_in_their_calls_time_here_and_apart() {
    let mut site = Site::new();
    site.deadline_secs = 5;
    let plugins = "[rating.here]\nplugin = \"hostile\"\n\
         [rating.apart]\nplugin = \"hostile\"\nisolation = \"process\"\n";
    let daemon = Daemon::start(&site.config(&[("good", "sound")], plugins));
    let (_listener, silent) = silent_server();
    for module in ["here", "apart"] {
        let base = format!("/v1/rating/module_config/{module}");

        assert_eq!(daemon.get(&format!("{base}/ask-at-once")), json!([100, 100]), "{module}");
        let body = json!({"url": patient_server(), "count": REQUESTS});
        let answers = daemon.post(&format!("{base}/send-at-once"), &body).expect(200);
        assert_eq!(answers, json!(vec!["pong"; REQUESTS]), "{module}");

        let begin = Instant::now();
        let body = json!({"url": silent, "count": 20});
        let answer = daemon.call(&Method::POST, &format!("{base}/send-at-once"), Some(&body));
        assert!(begin.elapsed() < Duration::from_secs(15), "{module}: {:?}", begin.elapsed());
        // The plugin is still heard: it answers with what became of its requests.
        let outcomes = answer.expect(200);
        let outcomes = outcomes.as_array().unwrap();
        assert_eq!(outcomes.len(), 20, "{module}");
        let is_late = |outcome: &Value| outcome == "Timeout" || outcome == "Cancelled";
        assert!(outcomes.iter().all(is_late), "{module}: {outcomes:?}");
    }
    assert!(daemon.metric("rated_plugin_threads_lost_total") < 0.5);
    assert!(daemon.metric("rated_plugin_process_deaths_total") < 0.5);
    daemon.stop();
}

#[test]
fn a_module_apart_that_panics_costs_its_calls_and_no_process() {
    let site = Site::new();
    let panics = ["prepare", "rate", "drop", "explain"];
    let sections: Vec<String> = panics
        .iter()
        .map(|call| {
            format!(
                "[rating.{call}]\nplugin = \"hostile\"\nisolation = \"process\"\n\
                 enabled = {}\npriority = 1\ndoes = \"panic in {call}\"\n",
                // With the other two nothing can be rated.
                ["drop", "explain"].contains(call)
            )
        })
        .collect();
    let daemon = Daemon::start(&site.config(&[("good", "sound")], &sections.concat()));
    wait_until("it rates", || (site.complete(&daemon).len() == 3).then_some(()));

    let explained = |scope: &str| {
        let (begin, end) = (site.begin.format("%FT%TZ"), site.end().format("%FT%TZ"));
        daemon.get(&format!("/v2/explain?scope_id={scope}&begin={begin}&end={end}")).to_string()
    };
    assert!(explained("a").contains("explain went wrong"), "{}", explained("a"));
    let quote = json!({"resources": [{"service": "good", "volume": "1", "desc": {}}]});
    daemon.post("/v1/rating/quote", &quote).expect(200);
    for call in ["prepare", "rate"] {
        daemon.set_module(call, &json!({"module_id": call, "enabled": true}));
        let answer = daemon.call(&Method::POST, "/v1/rating/quote", Some(&quote));
        assert!(answer.status >= 500, "{call}: {} {}", answer.status, answer.text);
        daemon.set_module(call, &json!({"module_id": call, "enabled": false}));
    }
    daemon.post("/v1/rating/quote", &quote).expect(200);
    let panic = "/v1/rating/module_config/drop/panic";
    assert!(daemon.call(&Method::GET, panic, None).status >= 500);
    daemon.post("/v1/rating/quote", &quote).expect(200);

    let rows = summary(&daemon, site.begin, site.end(), "time");
    assert_eq!(rows.len(), usize::try_from(HOURS).unwrap());
    let deaths = daemon.metric("rated_plugin_process_deaths_total");
    assert!(deaths < 0.5, "a panic is caught in the process: {deaths}");
    assert!(daemon.metric("rated_plugin_panics_total{instance=\"replay/explain\"}") >= 1.0);
    daemon.stop();
}
