//! `rated ledger verify`, `backup` and `restore` as an operator uses them.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
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
    fs::write(to.join("rated-backup"), "").unwrap();
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

/// What a folder holds, with what is in its folders.
fn listed(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            found.push(text(&path).to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_backup_deletes_nothing_that_it_has_not_written() {
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::start(&quiet(folder.path()));
    daemon.post("/v2/dataframes", &row(0, 3)).expect(204);
    let home = folder.path().join("home");
    fs::create_dir_all(home.join("data")).unwrap();
    for name in ["data/2026-11.0", "data/photo", "records.17", "manifest.json"] {
        fs::write(home.join(name), "mine").unwrap();
    }
    let before = listed(&home);

    let (done, printed) = rated_asks(&daemon.url, &["ledger", "backup", "--to", text(&home)]);

    assert!(!done && printed.contains("holds something that is no backup"), "{printed}");
    assert_eq!(listed(&home), before);
    // What somebody has put beside a backup stays, what it has left behind itself does not.
    let to = folder.path().join("backup");
    backup(&daemon, &to);
    let mine = ["data/photo", "data/2019-07.notes", "records.txt"];
    let left = ["data/2019-07.99", "records.17"];
    for name in mine.iter().chain(&left) {
        fs::write(to.join(name), "x").unwrap();
    }
    backup(&daemon, &to);
    for name in mine {
        assert!(to.join(name).exists(), "{name}");
    }
    for name in left {
        assert!(!to.join(name).exists(), "{name}");
    }
    // It is everybody's figures: nobody else reads it.
    for path in listed(&to).iter().filter(|path| !path.contains("photo")) {
        let is_ours = !mine.iter().any(|name| path.ends_with(name));
        let is_left = left.iter().any(|name| path.ends_with(name));
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o77;
        assert!(!is_ours || is_left || mode == 0, "{path} {mode:o}");
    }
    daemon.stop();
}

/// Somebody else than root.
const DAEMONS_USER: u32 = 54321;

#[test]
fn a_restored_ledger_is_for_the_owner_of_the_state_folder_alone() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let daemon = Daemon::start(&file);
    daemon.post("/v2/dataframes", &row(0, 3)).expect(204);
    let to = folder.path().join("backup");
    backup(&daemon, &to);
    daemon.stop();
    let state = folder.path().join("state");
    fs::rename(&state, folder.path().join("gone")).unwrap();
    fs::create_dir(&state).unwrap();
    let is_root = chown(&state, Some(DAEMONS_USER), Some(DAEMONS_USER)).is_ok();
    let owner = fs::metadata(&state).unwrap().uid();

    let (code, printed) =
        rated(&["ledger", "restore", "--from", text(&to), "--config", text(&file)]);

    assert_eq!(code, 0, "{printed}");
    let ledger = state.join("ledger");
    let check = |when: &str| {
        for path in listed(&ledger).iter().chain([&text(&ledger).to_owned()]) {
            let metadata = fs::symlink_metadata(path).unwrap();
            assert_eq!(metadata.uid(), owner, "{when}: {path}");
            assert_eq!(metadata.mode() & 0o77, 0, "{when}: {path} {:o}", metadata.mode());
        }
    };
    check("restored");
    // Looking at it leaves nothing behind that the daemon could not open.
    let (code, printed) = rated(&["ledger", "verify", "--config", text(&file)]);
    assert_eq!(code, 0, "{printed}");
    check("verified");
    if !is_root {
        println!("NOT RUN: only root can give files away, and this is not root");
        return;
    }
    // The doctor would open everything as root, and sees what the daemon's user could not.
    let doctor = ["doctor", "--config", text(&file), "--url", "http://127.0.0.1:9"];
    let (_, printed) = rated(&doctor);
    assert!(printed.contains("ok    ledger files: "), "{printed}");
    chown(ledger.join("db"), Some(0), Some(0)).unwrap();
    let (code, printed) = rated(&doctor);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("fail  ledger files: "), "{printed}");
    assert!(printed.contains("/db`: it belongs to `root`"), "{printed}");
}

#[test]
fn a_ledger_is_not_restored_for_somebody_else() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let daemon = Daemon::start(&file);
    let to = folder.path().join("backup");
    backup(&daemon, &to);
    daemon.stop();
    let state = folder.path().join("state");
    fs::rename(&state, folder.path().join("gone")).unwrap();
    fs::create_dir(&state).unwrap();
    let me = DAEMONS_USER + 1;
    if chown(&state, Some(DAEMONS_USER), None).is_err() {
        println!("NOT RUN: only root can be two other users");
        return;
    }
    let metrics = folder.path().join("metrics.toml");
    let mine = [folder.path(), &file, &metrics, &to];
    for path in mine.into_iter().chain(listed(&to).iter().map(Path::new)) {
        chown(path, Some(me), None).unwrap();
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("rated");
    fs::copy(build_folder().join("rated"), &program).unwrap();

    let mut command = Command::new(program);
    command.args(["ledger", "restore", "--from", text(&to), "--config", text(&file)]);
    let output = command.uid(me).output().unwrap();

    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(printed.contains("belongs to `54321`, and this runs as `54322`"), "{printed}");
    assert_eq!(listed(&state), Vec::<String>::new());
}

#[test]
fn verify_of_no_ledger_is_an_error_and_begins_none() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let state = folder.path().join("state");

    for is_mounted in [false, true] {
        if is_mounted {
            fs::create_dir_all(state.join("ledger")).unwrap();
        }
        for accept in [&[][..], &["--accept"]] {
            let verify = ["ledger", "verify", "--config", text(&file)];
            let (code, printed) = rated(&[&verify[..], accept].concat());

            assert_eq!(code, 2, "{printed}");
            assert!(printed.contains("there is no ledger in `"), "{printed}");
            let expected =
                if is_mounted { vec![text(&state.join("ledger")).to_owned()] } else { vec![] };
            let found = if state.exists() { listed(&state) } else { vec![] };
            assert_eq!(found, expected);
        }
    }
}

#[test]
fn who_looks_for_damage_or_differences_tells_found_from_could_not_look() {
    let folder = TempDir::new().unwrap();
    let file = quiet(folder.path());
    let nowhere = ["--url", "http://127.0.0.1:9"];
    let commands: [&[&str]; 3] = [
        &["ledger", "verify"],
        &["ledger", "audit", "--from", "2019-07-01", "--to", "2019-08-01"],
        &["reprocess", "diff"],
    ];

    for command in commands {
        let (code, printed) = rated(&[command, &nowhere].concat());
        assert_eq!(code, 2, "{printed}");
        assert!(printed.contains("could not be done: nobody answers"), "{printed}");
    }

    let text_of_file = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("nonsense = 1\n{text_of_file}")).unwrap();
    for command in [&["check"][..], &["ledger", "verify"], &["serve"]] {
        let (code, printed) = rated(&[command, &["--config", text(&file)]].concat());
        assert_eq!(code, 2, "{command:?}: {printed}");
    }
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
