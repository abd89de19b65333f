//! The hostile set in processes of their own, and what the lethal part of it does to a daemon that
//! runs it in threads. `plugin-api/ISOLATION.md` has the table.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus};

use rated_tests::{
    Config, Daemon, DataSet, PATIENCE, Prometheus, enter_price_list, rated, run, summary,
    wait_until,
};
use tempfile::TempDir;

use super::site::{HOURS, Site, pairs};

const SIGABRT: i32 = 6;
const SIGSEGV: i32 = 11;

/// What a collector does, and whether its process dies of it.
const SET: [(&str, Fate); 17] = [
    ("panic in create", Fate::Refused),
    ("panic in check", Fate::Works),
    ("panic in collect", Fate::Fails),
    ("panic in next", Fate::Fails),
    ("panic with a payload that panics", Fate::Fails),
    ("panic on a thread", Fate::Works),
    ("abort", Fate::Dies),
    ("exit", Fate::Dies),
    ("segfault", Fate::Dies),
    ("overflow the stack", Fate::Dies),
    ("spin", Fate::Dies),
    ("leak to 8 GiB", Fate::Dies),
    ("fork and hang", Fate::Dies),
    ("close all files", Fate::Dies),
    ("write to stdout", Fate::Works),
    ("bring another scope", Fate::Fails),
    ("count wrongly", Fate::Fails),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// The instance is not made.
    Refused,
    /// Its calls fail, its process lives.
    Fails,
    /// Its process dies.
    Dies,
    /// Nobody notices.
    Works,
}

#[test]
fn the_hostile_set_apart_stops_only_its_own_metrics() {
    let mut site = Site::new();
    site.deadline_secs = 5;
    let name = |(does, _): &(&str, Fate)| does.replace(' ', "-").to_lowercase();
    let names: Vec<String> = SET.iter().map(name).collect();
    let mut metrics = vec![("good", "sound")];
    metrics.extend(names.iter().map(|name| (name.as_str(), name.as_str())));
    let plugins: Vec<String> = names
        .iter()
        .zip(SET)
        .map(|(name, (does, _))| {
            format!(
                "[collectors.{name}]\nplugin = \"hostile\"\nisolation = \"process\"\n\
                 required = false\ndoes = \"{does}\"\n"
            )
        })
        .collect();
    let mut daemon = Daemon::start(&site.config(&metrics, &plugins.concat()));
    let of = |fate: Fate| names.iter().zip(SET).filter(move |(_, (_, of))| *of == fate);
    let working = of(Fate::Works).map(|(name, _)| name.as_str()).chain(["good"]);
    let working: Vec<(&str, &str)> =
        working.flat_map(|name| ["a", "b", "cursed"].map(|scope| (name, scope))).collect();
    let expected = pairs(&working);
    let deaths = |name: &str| {
        daemon
            .metric(&format!("rated_plugin_process_deaths_total{{instance=\"collector/{name}\"}}"))
    };

    for (name, (does, _)) in of(Fate::Dies) {
        wait_until(&format!("dead of `{does}`"), || (deaths(name) >= 1.0).then_some(()));
    }
    wait_until("everybody else has all hours", || {
        (site.complete(&daemon) == expected).then_some(())
    });

    for (name, (does, fate)) in names.iter().zip(SET) {
        let failed: f64 = ["panic", "bad_data", "timeout"]
            .map(|status| {
                daemon.metric(&format!(
                    "rated_plugin_calls_total{{instance=\"collector/{name}\",call=\"collect\",\
                     status=\"{status}\"}}"
                ))
            })
            .iter()
            .sum();
        assert_eq!(failed > 0.0, matches!(fate, Fate::Dies | Fate::Fails), "{does}: {failed}");
        assert_eq!(deaths(name) > 0.0, fate == Fate::Dies, "{does}");
    }
    let types = summary(&daemon, site.begin, site.end(), "type");
    assert_eq!(types.len(), 1 + of(Fate::Works).count(), "nobody else has rows: {types:?}");
    let lost = daemon.metric("rated_plugin_threads_lost_total");
    assert!(lost < 0.5, "kills cost no thread: {lost}");
    let said = daemon.process.output();
    assert!(said.contains("of what nobody asked for"), "its output is in the log");
    assert!(said.contains("further messages are left out"), "and there is a limit to it");
    assert!(daemon.process.is_running());
    daemon.stop();
    wait_until("nothing is left of what was started", || {
        (!is_running("collector/fork-and-hang")).then_some(())
    });
}

/// Is there a process of that instance, or a copy of it that it left behind?
fn is_running(instance: &str) -> bool {
    !processes_of(instance).is_empty()
}

fn processes_of(instance: &str) -> Vec<String> {
    let names = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let found = names.filter(|entry| {
        let arguments = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == instance.as_bytes())
    });
    found.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The same in a thread: the daemon is gone, and in that way; one that refuses to start is not.
fn kills_the_daemon(does: &str, ended: impl Fn(ExitStatus) -> bool) {
    let site = Site::new();
    let plugins = format!("[collectors.bad]\nplugin = \"hostile\"\ndoes = \"{does}\"\n");
    let config = site.config(&[("good", "sound"), ("evil", "bad")], &plugins);

    let mut process = Daemon::spawn(&config);

    let status = process.wait(PATIENCE);
    assert!(ended(status), "`{does}`: {status}\n{}", process.output());
}

/// That is why the other mode is there.
#[test]
fn in_a_thread_an_abort_a_fault_or_an_exit_ends_the_daemon() {
    kills_the_daemon("abort", |status| status.signal() == Some(SIGABRT));
    kills_the_daemon("segfault", |status| status.signal() == Some(SIGSEGV));
    kills_the_daemon("exit", |status| status.code() == Some(3));
}

/// Processes that a process has started and that still run.
fn children(parent: u32) -> Vec<String> {
    let parent = parent.to_string();
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == parent).then_some(name)
    });
    names.collect()
}

fn is_alive(process: &String) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// But for what a plugin has started, when the daemon is killed: the kernel kills the plugin's
/// process then, and nobody is left who knew of its children. The service manager kills those.
#[test]
fn no_process_outlives_a_daemon_that_is_killed_or_stopped() {
    let mut site = Site::new();
    site.deadline_secs = 60;
    // A name that no other daemon has: it is looked for among all processes.
    let forking = format!("forking-{}", std::process::id());
    let plugins = format!(
        "[collectors.far]\nplugin = \"hostile\"\nisolation = \"process\"\n\
         [collectors.busy]\nplugin = \"hostile\"\nisolation = \"process\"\ndoes = \"hang\"\n\
         [collectors.{forking}]\nplugin = \"hostile\"\nisolation = \"process\"\n\
         does = \"fork and hang\"\n"
    );
    let metrics = [("good", "far"), ("late", "busy"), ("later", forking.as_str())];
    let file = site.config(&metrics, &plugins);
    let of_forking = || processes_of(&format!("collector/{forking}"));
    for killed in [true, false] {
        let mut daemon = Daemon::start(&file);
        wait_until("it collects", || (site.complete(&daemon).len() == 3).then_some(()));
        wait_until("it has forked", || (of_forking().len() == 2).then_some(()));
        let alive = || -> Vec<String> {
            children(daemon.process.id()).into_iter().filter(is_alive).collect()
        };
        let processes = wait_until("each has its process", || {
            let processes = alive();
            (processes.len() == 3).then_some(processes)
        });

        if killed {
            daemon.process.kill();
        } else {
            // One of them hangs: it is killed when the grace of the stop is over.
            daemon.stop();
        }

        wait_until("they are gone", || (!processes.iter().any(is_alive)).then_some(()));
        if killed {
            let left = of_forking();
            assert_eq!(left.len(), 1, "what it has started is left");
            assert!(run(Command::new("kill").args(["-9", &left[0]])).0);
        }
        wait_until("nothing is left", || of_forking().is_empty().then_some(()));
    }
}

#[test]
fn rating_modules_apart_serve_rules_and_keep_their_keys() {
    let site = Site::new();
    let plugins = "[rating.hostile]\nenabled = true\npriority = 1\nisolation = \"process\"\n";
    let daemon = Daemon::start(&site.config(&[("good", "sound")], plugins));
    let base = "/v1/rating/module_config/hostile";
    let set = serde_json::json!({"revision": 0, "set": {"a": "1", "b": "2"}});

    let answer = daemon.post(&format!("{base}/keys"), &set).expect(200);

    assert_eq!(answer["keys"], serde_json::json!({"a": "1", "b": "2"}));
    assert_eq!(daemon.get(&format!("{base}/keys-from-a-thread")), "1");
    assert!(daemon.get(&format!("{base}/now"))["now"].is_string());
    let stale = daemon.post(&format!("{base}/keys"), &set);
    assert_eq!(stale.status, 409, "{}", stale.text);
    wait_until("it rates", || (site.complete(&daemon).len() == 3).then_some(()));
    daemon.stop();
}

#[test]
fn the_list_of_plugins_says_what_runs_apart() {
    let site = Site::new();
    let plugins = "[collectors.far]\nplugin = \"hostile\"\nisolation = \"process\"\n";
    let file = site.config(&[("good", "sound")], plugins);

    let (succeeded, listed) = rated(&["plugin", "list", "--config", file.to_str().unwrap()]);

    assert!(succeeded, "{listed}");
    assert!(listed.contains("        `far`, in a process of its own"), "{listed}");
    assert!(listed.contains("        `sound`, in the daemon"), "{listed}");
    let text = fs::read_to_string(&file).unwrap().replace("\"process\"", "\"prison\"");
    fs::write(&file, text).unwrap();
    let (succeeded, said) = rated(&["check", "--config", file.to_str().unwrap()]);
    assert!(!succeeded && said.contains("collectors.far.isolation"), "{said}");
}

/// Every row as text, of a daemon whose plugins run there.
fn rows_with(isolation: &str, data: &DataSet, prometheus: &Prometheus) -> String {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let mut config = Config::prometheus(&prometheus.url, data.begin);
    let line = format!("isolation = \"{isolation}\"\n");
    config.plugins = config
        .plugins
        .replace("[collectors.prometheus]\n", &format!("[collectors.prometheus]\n{line}"))
        .replace("[fetchers.prometheus]\n", &format!("[fetchers.prometheus]\n{line}"))
        + &format!("\n[rating.hashmap]\n{line}\n[rating.noop]\n{line}");
    let daemon = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&daemon, data);
    daemon.stop();
    let daemon = Daemon::start(&config.write(folder.path()));
    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    let mut rows: Vec<String> = summary(&daemon, data.begin, data.end(), "time,type,project_id,id")
        .iter()
        .map(ToString::to_string)
        .collect();
    rows.sort();
    // A collector, a fetcher and two modules.
    let processes = if isolation == "process" { 4 } else { 0 };
    let found = children(daemon.process.id());
    let names: Vec<String> = found
        .iter()
        .map(|name| {
            let read = |what: &str| fs::read_to_string(format!("/proc/{name}/{what}"));
            format!("{:?} {:?}", read("cmdline"), read("stat"))
        })
        .collect();
    assert_eq!(found.len(), processes, "{isolation} {names:#?}");
    assert!(daemon.metric("rated_plugin_process_deaths_total") < 0.5);
    daemon.stop();
    rows.join("\n")
}

#[test]
fn hours_of_prometheus_are_the_same_to_the_digit_here_and_apart() {
    let data = DataSet::ending_lately(2, 4, 3, usize::try_from(HOURS).unwrap());
    let folder = TempDir::new().unwrap();
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());

    let here = rows_with("thread", &data, &prometheus);
    let apart = rows_with("process", &data, &prometheus);

    assert!(here.lines().count() > 50, "{here}");
    assert_eq!(here, apart);
}
