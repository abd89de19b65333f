//! The systemd unit: sound, closed off, and told what it waits for.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rated_tests::{DataSet, Process, build_folder, run};
use tempfile::TempDir;

use crate::steady_config;

/// Of ten; `systemd-analyze` calls up to 2 "safe" and less than 5 "medium". What is left is what
/// sources, callers and the walls around scripts need.
const EXPOSURE_MAX: f64 = 2.7;

fn unit() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::read_to_string(root.join("config/rated.service")).unwrap()
}

/// The unit with the daemon of this build in it, in a folder of its own.
fn installed(folder: &TempDir) -> std::path::PathBuf {
    let program = build_folder().join("rated");
    let text = unit().replace("/usr/bin/rated", program.to_str().unwrap());
    let path = folder.path().join("rated.service");
    fs::write(&path, text).unwrap();
    path
}

/// `systemd-analyze`, where it is.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let is_there = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !is_there {
        println!("`systemd-analyze` is not there: nothing was checked");
        return None;
    }
    Some(run(Command::new("systemd-analyze").args(arguments)))
}

#[test]
fn the_unit_is_sound() {
    let folder = TempDir::new().unwrap();
    let unit = installed(&folder);

    let Some((succeeded, said)) = analyze(&["verify", unit.to_str().unwrap()]) else { return };

    // Units of the machine are looked at too, and their faults are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("rated")).collect();
    assert!(succeeded && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_is_closed_off() {
    let folder = TempDir::new().unwrap();
    let unit = installed(&folder);

    let arguments = ["security", "--offline=true", "--no-pager", unit.to_str().unwrap()];
    let Some((_, said)) = analyze(&arguments) else { return };

    let score = said.split_once("rated.service: ").map(|(_, rest)| rest);
    let score = score.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    println!("exposure {score:?}");
    assert!(score.is_some_and(|score| score <= EXPOSURE_MAX), "{said}");
}

#[test]
fn the_unit_gives_a_stop_more_time_than_the_daemon_takes() {
    let value = |name: &str| {
        let text = unit();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.parse::<u32>().unwrap()
    };

    // The default of `daemon.shutdown_grace_secs`, and what may come after it.
    assert!(value("TimeoutStopSec=") >= 30 + 10);
    assert!(value("WatchdogSec=") >= 10);
}

/// What `pyscripts` puts around a script, seen with `strace`; without one of these it refuses to
/// run any.
#[test]
fn the_unit_leaves_room_for_the_walls_around_scripts() {
    let unit = unit();
    let of = |name: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(name));
        let words = lines.flat_map(|line| line.trim_start_matches('~').split_whitespace());
        words.map(str::to_owned).collect()
    };

    let calls = of("SystemCallFilter=");
    for call in ["mount", "pivot_root", "umount2", "capset", "sethostname", "@system-service"] {
        assert!(calls.iter().any(|allowed| allowed == call), "{call}: {calls:?}");
    }
    let namespaces = of("RestrictNamespaces=");
    assert_eq!(namespaces, ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]);
    for wrong in ["ProtectHostname=", "PrivateUsers=", "NoExecPaths="] {
        assert!(!unit.lines().any(|line| line.starts_with(wrong)), "{wrong}");
    }
}

#[test]
fn a_service_manager_is_told_that_it_serves_lives_and_stops() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 1, 1, 1);
    let file = steady_config(folder.path(), 1, (data.begin, data.end()));
    let socket = folder.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let received = || {
        let mut bytes = [0; 200];
        let size = manager.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..size]).into_owned()
    };
    let mut command = Command::new(build_folder().join("rated"));
    command.arg("serve").arg("--config").arg(&file).env("NOTIFY_SOCKET", &socket);
    command.env("WATCHDOG_USEC", "300000");
    let mut daemon = Process::start("rated", &mut command);

    assert!(received().starts_with("READY=1\n"));
    assert_eq!([received(), received()], ["WATCHDOG=1", "WATCHDOG=1"]);
    daemon.signal("TERM");
    let stopping = std::iter::repeat_with(received).find(|said| said != "WATCHDOG=1");

    assert!(stopping.unwrap().starts_with("STOPPING=1\n"));
    assert!(daemon.wait(Duration::from_secs(15)).success());
}
