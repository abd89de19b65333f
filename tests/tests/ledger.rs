//! `rated ledger verify`, `backup` and `restore` as an operator uses them.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rated_tests::{
    Config, Daemon, DataSet, Exact, Prometheus, actual_bill, build_folder, enter_price_list,
    expected_bill, rated_asks, send, wait_until,
};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Rows that are pushed are of this month, which nobody collects.
const PUSHED: &str = "begin=2019-07-01&end=2019-08-01";

/// Exit code and what was printed.
fn rated(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(build_folder().join("rated")).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A daemon that nobody is to be billed by but those who are pushed.
fn quiet(folder: &Path) -> PathBuf {
    let data = DataSet::ending_lately(1, 1, 1, 1);
    fs::write(folder.join("metrics.toml"), data.metrics_toml()).unwrap();
    Config::prometheus("http://127.0.0.1:9", data.begin).without_scopes().write(folder)
}

/// A row of price 1 for each of some machines.
fn row(number: u64, machines: usize) -> Value {
    let point = |machine: usize| {
        json!({
            "vol": {"unit": "instance", "qty": 1},
            "rating": {"price": 1},
            "groupby": {"project_id": "pushed", "id": format!("vm-{number}-{machine}")},
            "metadata": {},
        })
    };
    let points: Vec<Value> = (0..machines).map(point).collect();
    let day = 1 + number % 28;
    let period = json!({
        "begin": format!("2019-07-{day:02}T00:00:00+00:00"),
        "end": format!("2019-07-{day:02}T01:00:00+00:00"),
    });
    json!({"dataframes": [{"period": period, "usage": {"instance": points}}]})
}

/// Pushes one row after the other, and counts those that are acknowledged.
struct Pusher {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Pusher {
    fn start(daemon: &Daemon) -> Pusher {
        let (is_over, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let url = format!("{}/v2/dataframes", daemon.url);
        let (over, count) = (Arc::clone(&is_over), Arc::<AtomicU64>::clone(&acknowledged));
        let thread = thread::spawn(move || {
            for number in 0.. {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                send(&Method::POST, &url, Some(&row(number, 1))).unwrap().expect(204);
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Pusher { is_over, acknowledged, thread }
    }

    fn count(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    fn wait_for(&self, count: u64) {
        wait_until("rows are pushed", || (self.count() >= count).then_some(()));
    }

    fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
    }
}

/// What pushed rows cost, which is how many there are.
fn pushed(daemon: &Daemon) -> Exact {
    let summary = daemon.get(&format!("/v2/summary?{PUSHED}"));
    summary["results"][0]
        .as_array()
        .map_or(Exact::parse("0"), |row| Exact::parse(&row.last().unwrap().to_string()))
}

fn backup(daemon: &Daemon, to: &Path) -> String {
    let (done, printed) = rated_asks(&daemon.url, &["ledger", "backup", "--to", text(to)]);
    assert!(done, "{printed}");
    printed
}

#[test]
fn a_backup_under_load_is_the_ledger_of_one_moment() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(3, 20, 4, 96);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
    fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let mut config = Config::prometheus(&prometheus.url, data.begin);
    // Small slices, so that there is a middle.
    config.collect += "slice_scopes_max = 5\nslices_in_flight_max = 2\n";
    let setup = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&setup, &data);
    setup.stop();
    let daemon = Daemon::start(&config.write(folder.path()));
    let pusher = Pusher::start(&daemon);
    pusher.wait_for(10);
    let to = folder.path().join("backup");

    let first = backup(&daemon, &to);
    let before = pusher.count();
    pusher.wait_for(before + 10);
    let least = pusher.count();
    let second = backup(&daemon, &to);
    let most = pusher.count() + 1;

    print!("{first}{second}");
    assert!(first.contains(", 0 bytes there already"), "{first}");
    assert!(!second.contains(", 0 bytes there already"), "{second}");
    pusher.stop();
    daemon.stop();
    let other = TempDir::new().unwrap();
    fs::write(other.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let file = config.write(other.path());
    let restore = ["ledger", "restore", "--from", text(&to), "--config", text(&file)];
    let (code, printed) = rated(&restore);
    print!("{printed}");
    assert_eq!(code, 0, "{printed}");
    let (code, printed) = rated(&["ledger", "verify", "--config", text(&file)]);
    print!("{printed}");
    assert_eq!((code, printed.as_str()), (0, "the ledger is whole\n"));
    let restored = Daemon::start(&file);
    let found = pushed(&restored);
    let range = Exact::parse(&least.to_string())..Exact::parse(&(most + 1).to_string());
    assert!(range.contains(&found), "{found:?} is not in {range:?}");
    // It goes on where the copy stood: no hour twice, none missing.
    restored.wait_until_processed(data.scopes, data.end(), 3600);
    let bill = actual_bill(&restored, data.begin, data.end());
    assert_eq!(bill, expected_bill(&data, 0..data.hours));
    restored.stop();
    // And is never written over.
    let (code, printed) = rated(&restore);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("there is a ledger in `"), "{printed}");
}

#[test]
fn an_interrupted_backup_goes_on_and_a_damaged_one_is_not_restored() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let daemon = Daemon::start(&file);
    for number in 0..28 {
        daemon.post("/v2/dataframes", &row(number, 400)).expect(204);
    }
    let to = folder.path().join("backup");
    for round in 0..8 {
        let mut command = Command::new(build_folder().join("rated"));
        command.args(["ledger", "backup", "--to", text(&to)]).env("RATED_URL", &daemon.url);
        let mut child = command.spawn().unwrap();
        thread::sleep(Duration::from_millis(round * 9));
        let _ = child.kill();
        child.wait().unwrap();
    }
    // As if it had been killed in the middle of a file.
    let copied = to.join("data");
    fs::create_dir_all(&copied).unwrap();
    let source = folder.path().join("state/ledger/data");
    let name = fs::read_dir(&source).unwrap().next().unwrap().unwrap().file_name();
    let whole = fs::read(source.join(&name)).unwrap();
    fs::write(copied.join(&name), &whole[..whole.len() / 2]).unwrap();

    let printed = backup(&daemon, &to);

    print!("{printed}");
    assert!(!printed.contains(", 0 bytes there already"), "{printed}");
    daemon.stop();
    let copy = fs::read(copied.join(&name)).unwrap();
    assert!(whole.starts_with(&copy), "the copy is not what was there");
    // A wrong byte is found before anything is written.
    let mut wrong = copy.clone();
    wrong[copy.len() / 2] ^= 1;
    fs::write(copied.join(&name), &wrong).unwrap();
    fs::rename(folder.path().join("state"), folder.path().join("gone")).unwrap();
    let restore = ["ledger", "restore", "--from", text(&to), "--config", text(&file)];
    let (code, printed) = rated(&restore);
    print!("{printed}");
    assert_eq!(code, 1);
    assert!(printed.contains("its checksum does not fit"), "{printed}");
    assert!(!folder.path().join("state").exists());

    fs::write(copied.join(&name), &copy).unwrap();
    // What an interrupted one has left is taken or replaced.
    let staging = folder.path().join("state/ledger.restoring");
    fs::create_dir_all(staging.join("data")).unwrap();
    fs::write(staging.join("data").join(&name), b"rated data").unwrap();
    fs::write(staging.join("db"), b"half").unwrap();
    let (code, printed) = rated(&restore);
    assert_eq!(code, 0, "{printed}");
    let daemon = Daemon::start(&file);
    assert_eq!(pushed(&daemon), Exact::parse(&(28 * 400).to_string()));
    daemon.stop();
}

#[test]
fn verify_names_damage_of_a_stopped_and_of_a_running_daemon() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let daemon = Daemon::start(&file);
    daemon.post("/v2/dataframes", &row(0, 3)).expect(204);
    daemon.post("/v2/dataframes", &row(1, 3)).expect(204);
    let (done, printed) = rated_asks(&daemon.url, &["ledger", "verify"]);
    assert_eq!((done, printed.trim()), (true, "the ledger is whole"));
    daemon.stop();
    let data = folder.path().join("state/ledger/data");
    let name = fs::read_dir(&data).unwrap().next().unwrap().unwrap().file_name();
    let mut bytes = fs::read(data.join(&name)).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 1;
    fs::write(data.join(&name), bytes).unwrap();

    let (code, stopped) = rated(&["ledger", "verify", "--config", text(&file)]);
    let daemon = Daemon::start(&file);
    let (done, running) = rated_asks(&daemon.url, &["ledger", "verify"]);
    let (_, as_json) = rated_asks(&daemon.url, &["ledger", "verify", "--json"]);

    print!("{stopped}");
    assert_eq!(code, 1);
    assert!(!done);
    for printed in [&stopped, &running] {
        assert!(printed.contains("2019-07-02T00:00:00Z"), "{printed}");
        assert!(printed.contains("scope `pushed`"), "{printed}");
        assert!(printed.contains(&format!("`data/{}`", name.to_string_lossy())), "{printed}");
        assert!(printed.contains("rated: 1 place is damaged"), "{printed}");
    }
    let end = as_json.rfind('}').unwrap() + 1;
    let findings: Value = serde_json::from_str(&as_json[..end]).unwrap();
    let finding = &findings["findings"][0];
    assert_eq!(finding["begin"], "2019-07-02T00:00:00+00:00");
    assert_eq!(finding["remedy"], "restore a backup");
    // Never a zero; and the rest is there.
    let by_machine = |range: &str| {
        let path = format!("/v2/summary?{range}&groupby=id");
        daemon.call(&Method::GET, &path, None)
    };
    assert_eq!(by_machine(PUSHED).status, 503);
    let rest = by_machine("begin=2019-07-01&end=2019-07-02").expect(200);
    assert_eq!(rest["total"], json!(3));
    daemon.stop();
}
