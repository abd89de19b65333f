//! Prices are proved and explained: a month with edits of the rules in between is rated again to
//! the last digit, and what was tampered with is found and named.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use chrono::{DateTime, Utc};
use rated_tests::{
    Config, Daemon, DataSet, Exact, Point, Process, Prometheus, SPECIAL_SCOPE, build_folder,
    enter_price_list, get, rated_asks, wait_until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const HASHMAP: &str = "/v1/rating/module_config/hashmap";
/// A month.
const HOURS: usize = 720;

/// What a command printed, and how it ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn audit(daemon: &Daemon, data: &DataSet, more: &[&str]) -> Ended {
    audit_between(daemon, (data.begin, data.end()), more)
}

fn audit_between(
    daemon: &Daemon,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
    more: &[&str],
) -> Ended {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (from, to) = (from.format(form).to_string(), to.format(form).to_string());
    let output = Command::new(build_folder().join("rated"))
        .args(["ledger", "audit", "--from", &from, "--to", &to])
        .args(more)
        .env("RATED_URL", &daemon.url)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A source with a month of one metric, and a daemon that has rated it in three parts, with edits
/// of the rules between them.
struct Month {
    folder: TempDir,
    data: DataSet,
    prometheus: Prometheus,
}

impl Month {
    fn new() -> Month {
        let folder = TempDir::new().unwrap();
        let data = DataSet::ending_lately(1, 4, 2, HOURS);
        let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
        fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
        Month { folder, data, prometheus }
    }

    /// Periods are due once so many more have passed: the rest of the month comes later.
    fn write(&self, hours_left: usize) -> PathBuf {
        let mut config = Config::prometheus(&self.prometheus.url, self.data.begin);
        let wait = format!("wait_periods = {}\n", 2 + hours_left);
        config.collect = config.collect.replace("wait_periods = 2\n", &wait);
        // Two slices of each period, which compaction puts together.
        config.collect += "slice_scopes_max = 2\n";
        config.write(self.folder.path())
    }

    /// Rates everything; the daemon that did the last part goes on.
    fn rated(&self) -> Daemon {
        let config = Config::prometheus(&self.prometheus.url, self.data.begin).without_scopes();
        let daemon = Daemon::start(&config.write(self.folder.path()));
        enter_price_list(&daemon, &self.data);
        daemon.stop();
        for (hours, price) in [(240, ("z2", "1.2")), (480, ("z0", "1.3"))] {
            let daemon = Daemon::start(&self.write(HOURS - hours));
            let end = self.data.hour(hours);
            daemon.wait_until_processed(self.data.scopes, end, 3600);
            add_price(&daemon, &self.data, price);
            daemon.stop();
        }
        let daemon = Daemon::start(&self.write(0));
        daemon.wait_until_processed(self.data.scopes, self.data.end(), 3600);
        daemon
    }

    fn ledger(&self) -> PathBuf {
        self.folder.path().join("state/ledger")
    }
}

/// Another price for a zone, from the begin of the data on: what was rated stays as it was.
fn add_price(daemon: &Daemon, data: &DataSet, (zone, cost): (&str, &str)) {
    let fields = daemon.get(&format!("{HASHMAP}/fields?service_id={}", service_id(daemon)));
    let fields = fields["fields"].as_array().unwrap();
    let field = fields.iter().find(|field| field["name"] == "zone").unwrap();
    let start = data.begin.format("%Y-%m-%dT%H:%M:%S").to_string();
    let mapping = json!({
        "field_id": field["field_id"], "value": zone, "cost": cost, "type": "rate", "start": start,
    });
    daemon.post(&format!("{HASHMAP}/mappings?force=true"), &mapping).expect(201);
}

fn service_id(daemon: &Daemon) -> String {
    let services = daemon.get(&format!("{HASHMAP}/services"));
    services["services"][0]["service_id"].as_str().unwrap().to_owned()
}

/// All rows of a scope, page by page.
fn explained(daemon: &Daemon, data: &DataSet, scope: usize) -> Vec<Value> {
    let form = "%Y-%m-%dT%H:%M:%SZ";
    let (begin, end) = (data.begin.format(form), data.end().format(form));
    let scope = DataSet::scope_id(scope);
    let mut rows = Vec::new();
    loop {
        let path = format!(
            "/v2/explain?scope_id={scope}&begin={begin}&end={end}&limit=777&offset={}",
            rows.len()
        );
        let page = daemon.get(&path);
        let results = page["results"].as_array().unwrap();
        rows.extend(results.iter().cloned());
        if results.is_empty() || rows.len() as u64 == page["total"].as_u64().unwrap() {
            return rows;
        }
    }
}

/// The steps of the row computed by somebody who knows nothing of the daemon.
fn price_by_steps(row: &Value) -> Exact {
    let text = |value: &Value| Exact::parse(value.as_str().unwrap());
    let mut numbers: BTreeMap<String, Exact> = BTreeMap::new();
    numbers.insert("qty".to_owned(), text(&row["qty"]));
    numbers.insert("price".to_owned(), Exact::parse("0"));
    for module in row["modules"].as_array().unwrap() {
        for step in module["steps"].as_array().unwrap() {
            let values = step["operands"].as_array().unwrap().iter().map(|operand| {
                match operand["name"].as_str() {
                    Some(name) => numbers[name],
                    None => text(&operand["value"]),
                }
            });
            let result = match step["operation"].as_str().unwrap() {
                "add" | "take" => values.reduce(|a, b| a + b),
                "multiply" => values.reduce(|a, b| a * b),
                "max" => values.reduce(Exact::max),
                other => panic!("{other}"),
            };
            numbers.insert(step["sets"].as_str().unwrap().to_owned(), result.unwrap());
        }
    }
    numbers["price"]
}

/// Changes a rule in the daemon's store, behind its back: the first that has `old` in it. Whether
/// its checksum is made to fit is for the caller to say. The key.
fn tamper(ledger: &Path, (old, new): (&str, &str), checksum: Checksum) -> String {
    assert_eq!(old.len(), new.len());
    let store = sled::Config::new().path(ledger).segment_size(4 << 20).open().unwrap();
    let tree = store.open_tree("kv").unwrap();
    let found = tree
        .iter()
        .map(Result::unwrap)
        .find(|(_, value)| value.windows(old.len()).any(|window| window == old.as_bytes()));
    let (key, value) = found.expect("a rule says so");
    let at = value.windows(old.len()).position(|window| window == old.as_bytes()).unwrap();
    let mut value = value.to_vec();
    value[at..at + old.len()].copy_from_slice(new.as_bytes());
    if checksum == Checksum::Fits {
        // Two bytes of parts, a frame, and its checksum (daemon/src/ledger/sled/mod.rs).
        let end = value.len() - 4;
        let sum = crc32fast::hash(&value[2..end]).to_le_bytes();
        value[end..].copy_from_slice(&sum);
    }
    tree.insert(&key, value).unwrap();
    store.flush().unwrap();
    let parts: Vec<&[u8]> = key.split(|byte| *byte == 0).collect();
    String::from_utf8(parts[1].to_vec()).unwrap()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Fits,
    Stays,
}

#[test]
fn a_month_with_edits_in_between_is_proved_explained_and_not_to_be_tampered_with() {
    let month = Month::new();
    let data = &month.data;
    let daemon = month.rated();
    let rows = data.points().count();

    // Compaction is under way, or has been: nothing changes by it.
    wait_until("slices are merged", || {
        (daemon.metric("rated_compaction_slices_merged_total") > 0.0).then_some(())
    });
    let ended = audit(&daemon, data, &[]);
    println!("{}{}", ended.err, ended.out);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let nobody = audit(&daemon, data, &["--scope", "nobodyatall"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert_eq!(
        ended.out,
        format!("rows looked at: {rows}\nequal: {rows}\ndifferent: 0\n"),
        "{ended:?}"
    );

    // Each row says by which rules it was rated, and everybody can compute it.
    let explained = explained(&daemon, data, 1);
    println!("{:#}", explained[0]);
    let mut revisions = BTreeSet::new();
    for row in &explained {
        assert_eq!(row["verdict"], "equal", "{row:#}");
        let price = Exact::parse(row["price"].as_str().unwrap());
        assert_eq!(price_by_steps(row), price, "{row:#}");
        let modules = row["modules"].as_array().unwrap();
        let hashmap = modules.iter().find(|module| module["module"] == "hashmap").unwrap();
        revisions.insert(hashmap["revision"].as_u64().unwrap());
    }
    let own = data.points().filter(|point| point.scope == 1).count();
    assert_eq!((explained.len(), revisions.len()), (own, 3), "{revisions:?}");
    daemon.stop();

    the_flipped_byte_is_named(&month, *revisions.first().unwrap());
}

fn the_flipped_byte_is_named(month: &Month, first_revision: u64) {
    // The price of the other group, for everybody.
    let (old, new) = ("\"cost\":\"0.001\"", "\"cost\":\"0.003\"");
    let key = tamper(&month.ledger(), (old, new), Checksum::Stays);
    let daemon = Daemon::start(&month.write(0));

    let ended = audit(&daemon, &month.data, &[]);
    println!("{}", ended.out);

    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.out.contains(&format!("damage: key `{key}` of `rating/hashmap` at revision ")));
    let rules = format!("(rules of module hashmap at revision {first_revision})");
    assert!(ended.out.contains(&rules), "{ended:?}");
    let rows = month.data.points().count();
    for counted in
        [format!("rows looked at: {rows}\nequal: 0\n"), format!("not compared: {rows}\n")]
    {
        assert!(ended.out.contains(&counted), "{counted}: {ended:?}");
    }
    // No other price is told in their place, and nothing is rated by it.
    assert!(!ended.out.contains("difference:"), "{ended:?}");
    let quote = json!({"resources": [{
        "service": DataSet::metric_name(0), "volume": "1", "desc": {"zone": "z1"},
    }]});
    let refused = daemon.post("/v1/rating/quote", &quote);
    assert_ne!(refused.status, 200, "{refused:?}");
    daemon.stop();

    // The same with a checksum that fits: nothing is damaged, but the prices are others.
    tamper(&month.ledger(), (new, new), Checksum::Fits);
    let daemon = Daemon::start(&month.write(0));

    // So many are listed that all of ten days are.
    let data = &month.data;
    let ended = audit_between(&daemon, (data.begin, data.hour(240)), &["--scope", "scope-001"]);
    println!("{}", ended.out.lines().next().unwrap_or_default());

    assert_eq!(ended.code, Some(1), "{ended:?}");
    let differs = |point: &Point| {
        // The rule is for everybody who has none of his own.
        point.scope != SPECIAL_SCOPE
            && point.metric == 0
            && DataSet::quantity(*point).contains(|digit| matches!(digit, '1'..='9'))
    };
    let first_days = |point: &Point| point.scope == 1 && point.hour < 240;
    let expected = data.points().filter(differs).filter(first_days).count();
    let listed: Vec<&str> =
        ended.out.lines().filter(|line| line.starts_with("difference: ")).collect();
    assert_eq!(listed.len(), expected, "{ended:?}");
    for line in listed {
        assert!(line.starts_with("difference: scope scope-001, metric_0 from "), "{line}");
        assert!(line.contains(&format!(" by hashmap revision {first_revision}, ")), "{line}");
    }
    assert!(ended.out.contains(&format!("\ndifferent: {expected}\n")), "{ended:?}");

    // All are counted.
    let ended = audit(&daemon, data, &[]);
    let expected = data.points().filter(differs).count();
    assert!(ended.out.contains(&format!("\ndifferent: {expected}\n")), "{ended:?}");
    daemon.stop();
}

#[test]
fn an_audit_that_cannot_be_done_says_so() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 1, 1, 2);
    let config = Config::prometheus("http://127.0.0.1:1", data.begin).without_scopes();
    fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let daemon = Daemon::start(&config.write(folder.path()));

    let nothing = audit(&daemon, &data, &["--json"]);
    let turned_round = audit_between(&daemon, (data.end(), data.begin), &[]);
    let refused = get(&format!("{}/v2/audit?begin=2026-01-02&end=2026-01-02", daemon.url));
    let nobody = Daemon { url: "http://127.0.0.1:1".to_owned(), ..daemon };
    let ended = audit(&nobody, &data, &[]);

    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    assert!(nothing.err.contains("there are no such rows"), "{nothing:?}");
    let last = nothing.out.lines().last().unwrap();
    assert!(last.starts_with("{\"end\":{\"rows\":0,"), "{nothing:?}");
    assert!(last.ends_with("\"outcome\":\"incomplete\"}}"), "{nothing:?}");
    assert_eq!(turned_round.code, Some(2), "{turned_round:?}");
    assert!(turned_round.err.contains("`--to` must be after `--from`"), "{turned_round:?}");
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.err.contains("the audit could not be done"), "{ended:?}");
}

/// A ledger of another time: old months have no rows any more, and nobody has the library that
/// rated the others.
#[test]
fn an_audit_of_rows_that_are_gone_or_of_another_library_proves_nothing() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 1, 1, 2);
    let config = Config::prometheus("http://127.0.0.1:1", data.begin).without_scopes();
    std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../daemon/tests/data/ledger-5");
    let state = folder.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let copy = Command::new("cp").arg("-r").arg(sample).arg(state.join("ledger")).status();
    assert!(copy.unwrap().success());
    let daemon = Daemon::start(&config.write(folder.path()));
    let time = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().to_utc();
    let days = |month: u32| {
        let begin = format!("2026-{month:02}-01T00:00:00Z");
        (time(&begin), time(&begin) + chrono::TimeDelta::days(3))
    };

    let gone = audit_between(&daemon, days(9), &[]);
    let foreign = audit_between(&daemon, days(11), &["--type", "disk"]);

    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(gone.err.contains("days whose rows are not kept any more: 3"), "{gone:?}");
    assert_eq!(foreign.code, Some(2), "{foreign:?}");
    let why = "rows compared by another library than rated them: 1";
    assert!(foreign.err.contains(why), "{foreign:?}");
    daemon.stop();
}

/// The program with plugins of its own: what stands behind them makes them others, which do the
/// same.
fn program(folder: &Path, version: &str) -> PathBuf {
    for name in ["rated", "librated_hashmap.so", "librated_prometheus.so"] {
        fs::copy(build_folder().join(name), folder.join(name)).unwrap();
        if name != "rated" {
            let mut library = fs::File::options().append(true).open(folder.join(name)).unwrap();
            library.write_all(version.as_bytes()).unwrap();
        }
    }
    folder.join("rated")
}

fn start(program: &Path, config: &Path) -> Daemon {
    let mut command = Command::new(program);
    Daemon::serving(Process::start("rated", command.args(["serve", "--config"]).arg(config)))
}

/// Another machine, with a newer version of everything, onto which a backup is restored.
struct Elsewhere<'a> {
    data: &'a DataSet,
    config: &'a Config,
    program: &'a Path,
    backup: &'a Path,
}

impl Elsewhere<'_> {
    fn restore(&self, folder: &Path, more: &[&str]) -> (PathBuf, Ended) {
        fs::write(folder.join("metrics.toml"), self.data.metrics_toml()).unwrap();
        let file = self.config.write(folder);
        let mut command = Command::new(self.program);
        command.args(["ledger", "restore", "--from"]).arg(self.backup).args(more);
        let output = command.arg("--config").arg(&file).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        (file, Ended { code: output.status.code(), out, err })
    }

    /// What a restore says, and an audit after it.
    fn audit(&self, more: &[&str]) -> (Ended, Ended) {
        let folder = TempDir::new().unwrap();
        let (file, restored) = self.restore(folder.path(), more);
        assert_eq!(restored.code, Some(0), "{restored:?}");
        let copies = folder.path().join("state/plugins");
        if copies.exists() {
            assert_eq!(fs::metadata(&copies).unwrap().permissions().mode() & 0o7777, 0o700);
            for copy in fs::read_dir(&copies).unwrap() {
                let found = copy.unwrap().metadata().unwrap();
                assert_eq!(found.permissions().mode() & 0o7777, 0o500);
            }
        }
        let daemon = start(self.program, &file);
        let audited = audit(&daemon, self.data, &[]);
        daemon.stop();
        (restored, audited)
    }
}

#[test]
fn what_libraries_of_old_have_rated_is_proved_after_a_restore_elsewhere() {
    let folders = [(); 3].map(|()| TempDir::new().unwrap());
    let [folder, old, new] = folders.each_ref().map(TempDir::path);
    let (old, new) = (program(old, "old"), program(new, "new"));
    let data = DataSet::ending_lately(1, 4, 2, 24);
    let prometheus = Prometheus::start(folder, &data.open_metrics());
    fs::write(folder.join("metrics.toml"), data.metrics_toml()).unwrap();
    let config = Config::prometheus(&prometheus.url, data.begin);
    let daemon = start(&old, &config.clone().without_scopes().write(folder));
    enter_price_list(&daemon, &data);
    daemon.stop();
    let daemon = start(&old, &config.write(folder));
    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    let backup = folder.join("backup");
    let take = ["ledger", "backup", "--to", backup.to_str().unwrap()];

    let (done, said) = rated_asks(&daemon.url, &take);
    assert!(done && said.contains("1 of them libraries"), "{said}");
    // Once more, with half of the library there.
    let library = fs::read_dir(backup.join("libraries")).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&library).unwrap();
    for wrong in [&whole[..whole.len() / 2], b"something else"] {
        fs::write(&library, wrong).unwrap();
        let (done, said) = rated_asks(&daemon.url, &take);
        assert!(done, "{said}");
        assert!(fs::read(&library).unwrap() == whole, "it is whole again");
    }
    daemon.stop();

    let (data, config, program, backup) = (&data, &config, new.as_path(), backup.as_path());
    let elsewhere = Elsewhere { data, config, program, backup };
    let (restored, audited) = elsewhere.audit(&[]);
    assert!(restored.out.contains("without 1 library that rated rows: "), "{restored:?}");
    assert_eq!(audited.code, Some(2), "{audited:?}");

    let (restored, audited) = elsewhere.audit(&["--with-libraries"]);
    assert!(restored.out.contains("with 1 library that rated rows"), "{restored:?}");
    let rows = data.points().count();
    let proved = format!("rows looked at: {rows}\nequal: {rows}\ndifferent: 0\n");
    assert_eq!((audited.code, audited.out), (Some(0), proved), "{}", audited.err);

    a_spoiled_library_is_not_restored(&elsewhere, &library);
}

fn a_spoiled_library_is_not_restored(elsewhere: &Elsewhere<'_>, library: &Path) {
    let mut bytes = fs::read(library).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(library, &bytes).unwrap();
    let folder = TempDir::new().unwrap();

    let (_, refused) = elsewhere.restore(folder.path(), &["--with-libraries"]);

    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("its checksum does not fit"), "{refused:?}");
    assert!(!folder.path().join("state").exists());
    // The ledger does not need it, nor does one of a backup that has none.
    elsewhere.audit(&[]);
    let manifest = elsewhere.backup.join("manifest.json");
    let text = fs::read_to_string(&manifest).unwrap();
    let mut format_1: Value = serde_json::from_str(&text).unwrap();
    format_1["format"] = json!(1);
    format_1.as_object_mut().unwrap().remove("libraries").unwrap();
    fs::write(&manifest, format_1.to_string()).unwrap();
    let (restored, _) = elsewhere.audit(&["--with-libraries"]);
    assert!(!restored.out.contains("librar"), "{restored:?}");
}
