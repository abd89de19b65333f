//! Bad plugins are refused or contained while the others go on.
#![forbid(unsafe_code)]

mod apart;
mod site;
mod threads;

use std::fs;

use rated_tests::{Daemon, rated, summary, wait_until};
use reqwest::Method;
use serde_json::json;

use site::{Site, build_fixture, pairs};

#[test]
fn collectors_that_hang_panic_or_lie_stop_only_their_own_metrics() {
    let site = Site::new();
    let metrics = [
        ("good", "sound"),
        ("late", "hangs"),
        ("loud", "panics"),
        ("odd", "lies"),
        ("half", "breaks"),
    ];
    let plugins = "[collectors.hangs]\nplugin = \"hostile\"\ndoes = \"hang\"\n\
         [collectors.panics]\nplugin = \"hostile\"\ndoes = \"panic in collect\"\n\
         [collectors.lies]\nplugin = \"hostile\"\ndoes = \"bring another scope\"\n\
         [collectors.breaks]\nplugin = \"hostile\"\ndoes = \"end half-way\"\n";
    let daemon = Daemon::start(&site.config(&metrics, plugins));
    let expected = pairs(&[("good", "a"), ("good", "b"), ("good", "cursed")]);

    wait_until("every scope has its hours of the good metric", || {
        (site.complete(&daemon) == expected).then_some(())
    });
    wait_until("the hanging collector is given up", || {
        (daemon.metric("rated_plugin_threads_lost_total") >= 1.0).then_some(())
    });
    wait_until("the panic is caught", || {
        (daemon.metric("rated_plugin_panics_total") >= 1.0).then_some(())
    });

    let types = summary(&daemon, site.begin, site.end(), "type");
    assert_eq!(types.len(), 1, "only the good metric has rows: {types:?}");
    let none = daemon.last_processed().values().all(Option::is_none);
    assert!(none, "a scope waits for all of its metrics");
    // A thread still hangs; the daemon ends all the same, within its grace.
    daemon.stop();
}

#[test]
fn what_plugins_say_fills_no_log() {
    let site = Site::new();
    let plugins = "[collectors.here]\nplugin = \"hostile\"\ndoes = \"say much\"\n\
         [collectors.apart]\nplugin = \"hostile\"\ndoes = \"say much\"\n\
         isolation = \"process\"\n";
    let metrics = [("one", "here"), ("other", "apart")];
    let daemon = Daemon::start(&site.config(&metrics, plugins));

    wait_until("it works", || (site.complete(&daemon).len() == 6).then_some(()));

    let said = daemon.process.output();
    for instance in ["collector/here", "collector/apart"] {
        let lines = || said.lines().filter(|line| line.contains(instance));
        assert!(lines().any(|line| line.contains("messages are left out")), "{instance}: {said}");
        // Each of four hours is collected once, at least.
        let messages = lines().filter(|line| line.contains("nobody wants to read")).count();
        assert!(messages < 4 * 1000 / 2, "{instance}: {messages}");
    }
    daemon.stop();
}

#[test]
fn a_module_that_loses_rows_of_one_scope_stops_only_that_scope() {
    let site = Site::new();
    let plugins =
        "[rating.hostile]\nenabled = true\npriority = 1\ndoes = \"lose a row of the cursed\"\n";
    let daemon = Daemon::start(&site.config(&[("good", "sound")], plugins));
    let expected = pairs(&[("good", "a"), ("good", "b")]);

    wait_until("the other scopes go on", || (site.complete(&daemon) == expected).then_some(()));

    let rows = summary(&daemon, site.begin, site.end(), "project_id");
    assert_eq!(rows.len(), 2, "nothing of the third scope: {rows:?}");
    daemon.stop();
}

#[test]
fn a_library_for_a_newer_interface_is_refused_and_the_rest_runs() {
    let site = Site::new();
    let newer = site.folder.path().join("plugins/libnewer.so");
    build_fixture(&newer, "MINOR=3");
    build_fixture(&site.folder.path().join("plugins/libother.so"), "MAGIC=1");
    let file = site.config(&[("good", "sound")], "");
    let mut daemon = Daemon::start(&file);
    // As the configuration names them: relative to its folder.
    let refused = "libnewer.so`: needs ABI 1.3, this daemon has 1.1; upgrade rated";
    let wrong = "libother.so`: is not a rated plugin: its description begins with a wrong magic";

    let said = daemon.process.output();
    assert!(said.contains(refused) && said.contains(wrong), "{said}");
    wait_until("it works", || (site.complete(&daemon).len() == 3).then_some(()));
    assert!(daemon.process.is_running());
    daemon.stop();

    let (succeeded, listed) = rated(&["plugin", "list", "--config", file.to_str().unwrap()]);
    assert!(succeeded, "{listed}");
    assert!(listed.contains(refused) && listed.contains("collector `hostile`"), "{listed}");
    let (succeeded, said) = rated(&["plugin", "check", newer.to_str().unwrap()]);
    assert!(!succeeded && said.contains(refused), "{said}");
}

#[test]
fn a_broken_library_changes_nothing_at_a_reload() {
    let site = Site::new();
    let daemon = Daemon::start(&site.config(&[("good", "sound")], ""));
    let module = || daemon.call(&Method::GET, "/v1/rating/modules/hostile", None).status;
    assert_eq!(module(), 200);
    build_fixture(&site.folder.path().join("plugins/libnewer.so"), "MINOR=3");

    let answer = daemon.call(&Method::GET, "/v1/rating/reload_modules", None);

    assert_ne!(answer.status, 204, "{}", answer.text);
    assert_eq!(module(), 200);
    let quote = json!({"resources": [{"service": "x", "volume": "1", "desc": {}}]});
    daemon.post("/v1/rating/quote", &quote).expect(200);
    fs::remove_file(site.folder.path().join("plugins/libnewer.so")).unwrap();
    let answer = daemon.call(&Method::GET, "/v1/rating/reload_modules", None);
    assert_eq!(answer.status, 204, "{}", answer.text);
    daemon.stop();
}
