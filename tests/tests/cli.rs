//! The command line against running daemons: what an operator types, and what comes of it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::{DateTime, Duration, Utc};
use rated_tests::{
    Config, Daemon, DataSet, FakeSource, Misbehaviour, Prometheus, build_folder, enter_price_list,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const NO_USAGE: &str = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn fine(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    #[track_caller]
    fn failed(&self, code: i32, text: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(text), "{self:?}");
    }
}

/// `rated` with words, asking the daemon at `url`; nobody sits at the terminal.
fn rated(url: &str, words: &[&str]) -> Ended {
    let output = Command::new(build_folder().join("rated"))
        .args(words)
        .env("RATED_URL", url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A daemon whose scopes `a` and `b` use nothing.
struct Idle {
    _source: FakeSource,
    daemon: Daemon,
}

impl Idle {
    fn start(folder: &Path) -> Idle {
        let source = FakeSource::start(Misbehaviour::Answer(200, NO_USAGE.to_owned()));
        fs::create_dir_all(folder).unwrap();
        let metrics = "[[metric]]\nname = \"m\"\nunit = \"u\"\n";
        fs::write(folder.join("metrics.toml"), metrics).unwrap();
        let mut config = Config::prometheus(&source.url, this_hour() - Duration::hours(6));
        config.collect = config.collect.replace("[\"prometheus\"]", "[\"static\"]");
        config.plugins += "\n[fetchers.static]\nscopes = [\"a\", \"b\"]\n";
        config.plugins += "\n[rating.hashmap]\n";
        let daemon = Daemon::start(&config.write(folder));
        Idle { _source: source, daemon }
    }

    fn url(&self) -> &str {
        &self.daemon.url
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon under test goes by the same clock")]
fn this_hour() -> DateTime<Utc> {
    let now = Utc::now().timestamp();
    DateTime::from_timestamp(now - now % 3600, 0).unwrap()
}

#[test]
fn what_cannot_be_done_is_said_with_a_hint_and_a_code() {
    let nobody = "http://127.0.0.1:1";

    rated(nobody, &["module", "list"]).failed(1, "does `rated serve` run there?");
    rated(nobody, &["summary", "--url", "localhost"]).failed(2, "`localhost` is no address");
    rated(nobody, &["summary", "--begin", "soon"]).failed(2, "no time");
    rated(nobody, &["summary", "--filter", "type"]).failed(2, "must be `ATTRIBUTE=VALUE`");
    rated(nobody, &["scope", "reset", "--from", "now"]).failed(2, "required");
    rated(nobody, &["prices", "import", "nowhere.toml"]).failed(2, "nowhere.toml");
    let stranger = FakeSource::start(Misbehaviour::Answer(200, "<html>".to_owned()));
    rated(&stranger.url, &["module", "list"]).failed(1, "does not answer as the API of rated");
    let broken = FakeSource::start(Misbehaviour::HalfOf("{}".repeat(1000)));
    rated(&broken.url, &["module", "list"]).failed(1, "broke its answer off");
}

#[test]
fn modules_are_listed_and_switched() {
    let folder = TempDir::new().unwrap();
    let idle = Idle::start(folder.path());
    let url = idle.url();

    rated(url, &["module", "enable", "hashmap"]).fine();
    rated(url, &["module", "priority", "hashmap", "7"]).fine();

    let table = rated(url, &["module", "list"]).fine();
    let line = table.lines().find(|line| line.starts_with("hashmap")).unwrap();
    let cells: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(cells[..3], ["hashmap", "enabled", "7"]);
    rated(url, &["module", "disable", "hashmap"]).fine();
    let list: Value = json(&rated(url, &["module", "list", "--json"]).fine());
    let mut modules = list["modules"].as_array().unwrap().iter();
    let hashmap = modules.find(|module| module["module_id"] == "hashmap").unwrap();
    assert_eq!((&hashmap["enabled"], &hashmap["priority"]), (&json!(false), &json!(7)));
    rated(url, &["module", "priority", "noop", "42"]).failed(1, "stays as it is");
    rated(url, &["module", "enable", "nope"]).failed(1, "there is no module `nope`");
}

#[test]
fn scopes_are_listed_paused_and_reset() {
    let folder = TempDir::new().unwrap();
    let idle = Idle::start(folder.path());
    let url = idle.url();
    idle.daemon.wait_until_processed(2, this_hour() - Duration::hours(3), 3600);

    rated(url, &["scope", "pause", "a"]).fine();
    let paused = rated(url, &["scope", "list", "--paused"]).fine();
    let active = rated(url, &["scope", "list", "--active"]).fine();

    assert!(paused.lines().nth(1).unwrap().starts_with("a "), "{paused}");
    assert_eq!((paused.lines().count(), active.lines().count()), (2, 2));
    rated(url, &["scope", "reset", "a", "--from", "now-5h"]).failed(1, "`a` is paused");
    rated(url, &["scope", "resume", "a"]).fine();
    rated(url, &["scope", "pause", "nobody"]).failed(1, "there is no scope `nobody`");

    let asked = rated(url, &["scope", "reset", "--all", "--from", "now-5h"]);
    asked.failed(1, "`--yes`");
    assert!(asked.out.contains("Reset of 2 scopes: a, b."), "{}", asked.out);
    rated(url, &["scope", "reset", "--all", "--from", "now-5h", "--yes"]).fine();
    idle.daemon.wait_until_processed(2, this_hour() - Duration::hours(3), 3600);
    let list = json(&rated(url, &["scope", "list", "b", "--json"]).fine());
    assert_eq!(list["results"][0]["scope_id"], "b");
}

#[test]
fn periods_are_rated_again_while_one_waits() {
    let folder = TempDir::new().unwrap();
    let idle = Idle::start(folder.path());
    let url = idle.url();
    idle.daemon.wait_until_processed(2, this_hour() - Duration::hours(3), 3600);
    let hour = |ago: i64| (this_hour() - Duration::hours(ago)).format("%Y-%m-%d %H:%M").to_string();
    let (from, to) = (hour(6), hour(4));
    let start = ["reprocess", "start", "--from", &from, "--to", &to, "--reason", "a test"];

    let waited = rated(url, &[&start[..], &["a", "--wait"]].concat()).fine();
    rated(url, &[&start[..], &["--all", "--wait"]].concat()).fine();

    assert_eq!(waited.lines().last(), Some("a: 100 %"), "{waited}");
    let list = rated(url, &["reprocess", "list", "b"]).fine();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.contains("100 %") && list.contains("a test"), "{list}");
    rated(url, &[&start[..], &["nobody"]].concat()).failed(1, "do not exist");
    rated(url, &["reprocess", "start", "a", "--from", &from]).failed(2, "--to");
}

#[test]
fn sums_are_shown_to_the_digit() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 4, 2, 6);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
    fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let config = Config::prometheus(&prometheus.url, data.begin);
    let daemon = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&daemon, &data);
    daemon.stop();
    let daemon = Daemon::start(&config.write(folder.path()));
    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    let begin = data.begin.format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let words = ["summary", "--begin", &begin, "--group-by", "project_id,type"];
    let with = |more: &[&str]| rated(&daemon.url, &[&words[..], more].concat()).fine();

    let scope = DataSet::scope_id(1);
    let (all, csv) = (json(&with(&["--json"])), with(&["--csv"]));
    let one = with(&["--filter", &format!("project_id={scope}")]);

    assert_eq!(all["total"], 4);
    let row =
        all["results"].as_array().unwrap().iter().find(|row| row[4] == scope.as_str()).unwrap();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let (qty, price) = (text(&row[2]), text(&row[3]));
    let cells: Vec<&str> = one.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(cells[..1], [scope.as_str()]);
    assert_eq!(cells[2..], [qty.as_str(), price.as_str()]);
    assert!(csv.lines().any(|line| line.ends_with(&format!("{qty},{price}"))), "{csv}");
    assert_eq!(csv.lines().count(), 5);
    daemon.stop();
}

#[test]
fn a_price_list_is_exported_edited_and_applied() {
    let folder = TempDir::new().unwrap();
    let idle = Idle::start(folder.path());
    let url = idle.url();
    let file = folder.path().join("prices.toml");
    let name = file.to_str().unwrap();
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/hashmap/sample.toml");

    rated(url, &["prices", "import", sample]).failed(1, "`--yes`");
    rated(url, &["prices", "import", sample, "--yes"]).fine();
    rated(url, &["prices", "export", name]).fine();
    assert_eq!(rated(url, &["prices", "import", name]).fine(), "no difference\n");

    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("cost = \"0.08\"", "cost = \"0.09\"")).unwrap();
    let shown = rated(url, &["prices", "import", name, "--dry-run"]).fine();
    assert!(shown.starts_with("~ instance flavor_id=m1.large: flat 0.08 "), "{shown}");
    assert_eq!(shown.lines().count(), 1);
    let list = rated(url, &["prices", "list"]).fine();
    assert!(list.contains("0.08") && !list.contains("0.09"), "{list}");
    rated(url, &["prices", "import", name, "--yes"]).fine();
    let list = rated(url, &["prices", "list"]).fine();
    assert!(list.contains("0.09") && !list.contains("0.08"), "{list}");
    assert_eq!(rated(url, &["prices", "import", name, "--yes"]).fine(), "no difference\n");

    fs::write(&file, text.replace("cost = \"0.01\"", "cost = \"0.02\"")).unwrap();
    rated(url, &["prices", "import", name, "--yes"]).failed(1, "was changed since");
    fs::write(&file, text.replace("cost = \"0.01\"", "cost = \"cheap\"")).unwrap();
    let line = 1 + text.lines().position(|line| line == "[[rules]]").unwrap();
    let refused = rated(url, &["prices", "import", name, "--yes"]);
    refused.failed(1, &format!("line {line}: `rules[0]`: `cost`: `cheap`: not a decimal number"));
}

#[test]
fn one_daemon_takes_over_what_another_has() {
    let folder = TempDir::new().unwrap();
    let theirs = Idle::start(&folder.path().join("theirs"));
    let ours = Idle::start(&folder.path().join("ours"));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugins/hashmap/sample.toml");
    rated(theirs.url(), &["prices", "import", sample, "--yes"]).fine();
    rated(theirs.url(), &["module", "priority", "hashmap", "42"]).fine();
    let processed = (this_hour() - Duration::hours(8)).format("%Y-%m-%dT%H:%M:%SZ").to_string();
    let scope = json!({"scope_id": "new", "last_processed_timestamp": processed, "active": false});
    theirs.daemon.post("/v2/scope", &scope).expect(200);
    let import = |more: &[&str]| {
        let words = ["import", "cloudkitty", "--url", theirs.url()];
        rated(ours.url(), &[&words[..], more].concat())
    };

    let looked = import(&["--dry-run"]).fine();
    let untouched = rated(ours.url(), &["prices", "list"]).fine();
    import(&[]).failed(1, "`--yes`");
    let copied = import(&["--yes"]).fine();
    let again = import(&["--yes"]).fine();

    assert!(
        looked.contains("hashmap: would copy 2 services, 2 fields, 2 groups, 7 rules"),
        "{looked}"
    );
    assert_eq!(untouched.lines().count(), 1);
    assert!(copied.contains("hashmap: copied 2 services"), "{copied}");
    assert!(copied.contains("modules: copied 1 state"), "{copied}");
    assert!(copied.contains("scopes: copied 1 scope; as it was: 2; left: 0"), "{copied}");
    for line in again.lines() {
        assert!(line.contains("copied nothing; as it was: "), "{again}");
    }
    let prices = |url: &str| {
        let list = json(&rated(url, &["prices", "list", "--json"]).fine());
        (list["services"].clone(), list["groups"].clone(), list["rules"].clone())
    };
    assert_eq!(prices(ours.url()), prices(theirs.url()));
    let list = json(&rated(ours.url(), &["scope", "list", "new", "--json"]).fine());
    assert_eq!(list["results"][0]["active"], false);
    import(&["--into", theirs.url()]).failed(2, "the same daemon");
}

#[test]
fn a_metrics_file_of_cloudkitty_is_one_of_ours_afterwards() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let yaml = "metrics:\n  cpu:\n    unit: instance\n    alt_name: instance\n    groupby:\n\
        \x20     - id\n      - project_id\n    metadata: [flavor_id]\n    mutate: NUMBOOL\n\
        \x20   factor: 1/3\n    extra_args:\n      aggregation_method: max\n\
        \x20     resource_type: instance\n";
    fs::write(path("metrics.yml"), yaml).unwrap();
    let source = FakeSource::start(Misbehaviour::Answer(200, NO_USAGE.to_owned()));
    let config = Config::prometheus(&source.url, DateTime::UNIX_EPOCH).write(folder.path());
    let words = ["import", &path("metrics.yml"), "--output", &path("metrics.toml")];

    rated("", &words).fine();

    rated("", &["check", "--config", config.to_str().unwrap()]).fine();
    rated("", &words).failed(1, "is there already");
    fs::write(path("metrics.yml"), yaml.replace("1/3", "1/0")).unwrap();
    rated("", &["import", &path("metrics.yml")]).failed(1, "line 10: metric `cpu (instance)`");
    rated("", &["import", &path("nowhere.yml")]).failed(1, "cannot read");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}
