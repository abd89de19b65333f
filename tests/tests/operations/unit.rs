//! The systemd unit: sound, closed off, and told what it waits for.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rated_tests::{DataSet, Process, build_folder, is_root, run};
use tempfile::TempDir;

use crate::steady_config;

/// Of ten; `systemd-analyze` calls up to 2 "safe" and less than 5 "medium". What is left is what
/// sources, callers and the walls around scripts need.
const EXPOSURE_MAX: f64 = 2.7;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn config(file: &str) -> String {
    fs::read_to_string(repository().join("config").join(file)).unwrap()
}

fn unit() -> String {
    config("rated.service")
}

/// The unit with the daemon of this build in it, in a folder of its own.
fn installed(folder: &TempDir) -> std::path::PathBuf {
    let program = build_folder().join("rated");
    let text = unit().replace("/usr/bin/rated", program.to_str().unwrap());
    let path = folder.path().join("rated.service");
    fs::write(&path, text).unwrap();
    path
}

/// `tests/setup.sh` installs it.
fn analyze(arguments: &[&str]) -> (bool, String) {
    run(Command::new("systemd-analyze").args(arguments))
}

#[test]
fn the_unit_is_sound() {
    let folder = TempDir::new().unwrap();
    let unit = installed(&folder);

    let (succeeded, said) = analyze(&["verify", unit.to_str().unwrap()]);

    // Units of the machine are looked at too, and their faults are not ours.
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("rated")).collect();
    assert!(succeeded && ours.is_empty(), "{said}");
}

#[test]
fn the_unit_is_closed_off() {
    let folder = TempDir::new().unwrap();
    let unit = installed(&folder);

    let arguments = ["security", "--offline=true", "--no-pager", unit.to_str().unwrap()];
    let (_, said) = analyze(&arguments);

    let score = said.split_once("rated.service: ").map(|(_, rest)| rest);
    let score = score.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    println!("exposure {score:?}");
    assert!(score.is_some_and(|score| score <= EXPOSURE_MAX), "{said}");
}

/// What the unit, or the sample configuration, says.
fn value(text: &str, name: &str) -> u32 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap_or_else(|error| panic!("{name}{line}: {error}"))
}

#[test]
fn the_unit_gives_a_stop_more_time_than_the_daemon_takes() {
    let unit = unit();

    // The sample has the defaults: a test of the daemon says so.
    let grace = value(&config("rated.toml"), "#shutdown_grace_secs =");
    // And what may come after it.
    assert!(value(&unit, "TimeoutStopSec=") >= grace + 10);
    assert!(value(&unit, "WatchdogSec=") >= 10);
    // Processes of plugins and scripts are the daemon's to end: they have work in flight.
    assert!(unit.lines().any(|line| line == "KillMode=mixed"));
}

/// A configuration that is wrong does not become right by trying again.
#[test]
fn the_unit_does_not_start_a_wrong_configuration_again() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rated.toml");
    fs::write(&file, "[daemon]\nnonsense = 1\n").unwrap();
    let unit = unit();

    let code = value(&unit, "RestartPreventExitStatus=");
    for name in ["serve", "check"] {
        let mut command = Command::new(build_folder().join("rated"));
        let status = command.args([name, "--config"]).arg(&file).status().unwrap();
        assert_eq!(status.code().map(i32::unsigned_abs), Some(code));
    }
    // Its exit code would be the one that counts.
    assert!(!unit.contains("ExecStartPre="));
    // What fails at once whatever the reason does not do so for ever.
    let (interval, burst) =
        (value(&unit, "StartLimitIntervalSec="), value(&unit, "StartLimitBurst="));
    assert!(burst * value(&unit, "RestartSec=") * 2 <= interval);
}

/// Closed to programs, as on many servers.
#[test]
fn a_check_loads_plugins_where_the_temporary_folder_is_mounted_noexec() {
    if !is_root() {
        println!("NOT RUN: only root can mount a file system, and this is not root");
        return;
    }
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 1, 1, 1);
    let file = steady_config(folder.path(), 1, (data.begin, data.end()));
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    let checked = |folders: &str| {
        let commands = format!(
            r#"for folder in {folders}; do mount -t tmpfs -o noexec none "$folder" || exit 99; done
            exec "$0" check --config "$1""#
        );
        let mut shell = Command::new("unshare");
        shell.args(["--mount", "sh", "-c", &commands]).arg(build_folder().join("rated")).arg(&file);
        run(shell.env("TMPDIR", &closed))
    };

    let (succeeded, said) = checked("\"$TMPDIR\"");
    assert!(succeeded && said.contains(": fine: 2 metrics"), "{said}");
    // With both closed it says what to do.
    let (succeeded, said) = checked("\"$TMPDIR\" /var/tmp");
    let expected = "it is mounted `noexec`\n(hint: TMPDIR names";
    assert!(!succeeded && said.contains(expected), "{said}");
}

/// Who has no name on this machine, in the place of the user and group `rated`.
const RATED: u32 = 61_234;

/// Commands of the text that says how it is installed, in a root folder of their own.
#[test]
fn what_is_installed_as_the_text_says_is_a_daemon_that_can_start() {
    let root = TempDir::new().unwrap();
    let text = config("README.md");
    let (_, section) = text.split_once("## Install it").unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("\n```").unwrap();
    // The machine's users and services stay as they are.
    let is_elsewhere =
        |line: &&str| ["useradd ", "systemctl ", "sudo "].iter().any(|it| line.starts_with(it));
    let (outside, commands): (Vec<&str>, Vec<&str>) = block.lines().partition(is_elsewhere);
    assert_eq!(outside.len(), 4, "{outside:?}");
    let commands = commands.join("\n").replace("target/release", build_folder().to_str().unwrap());
    // Only root can give files away; and the daemon then runs as somebody else, as it should.
    let group = if is_root() { format!("-o root -g {RATED} ") } else { String::new() };
    assert_eq!(commands.matches("-o root -g rated ").count(), 2, "{commands}");
    let commands = commands.replace("-o root -g rated ", &group);
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();

    let mut shell = Command::new("sh");
    shell.args(["-euc", &commands]).current_dir(repository()).env("ROOT", root.path());
    let (succeeded, said) = run(&mut shell);
    assert!(succeeded, "{said}");

    let at = |path: &str| root.path().join(path);
    let installed = fs::read_to_string(at("etc/systemd/system/rated.service")).unwrap();
    assert_eq!(installed, unit());
    let configured = ["rated.toml", "metrics.toml", "policy.toml"];
    let configured = configured.map(|file| (format!("etc/rated/{file}"), 0o640));
    for (file, mode) in configured.into_iter().chain([("etc/rated".to_owned(), 0o750)]) {
        let found = fs::metadata(at(&file)).unwrap();
        assert_eq!(found.mode() & 0o7777, mode, "{file}");
        if is_root() {
            assert_eq!((found.uid(), found.gid()), (0, RATED), "{file}");
        }
    }
    // Plugins are for nobody but root to write.
    let plugins: Vec<_> = fs::read_dir(at("usr/lib/rated/plugins")).unwrap().collect();
    assert!(plugins.len() >= 6, "{plugins:?}");
    for file in plugins.into_iter().map(|plugin| plugin.unwrap().path()) {
        let found = fs::metadata(&file).unwrap();
        assert_eq!(found.mode() & 0o022, 0, "{}", file.display());
        assert!(!is_root() || found.uid() == 0, "{}", file.display());
    }
    let file = at("etc/rated/rated.toml");
    let daemon = fs::read_to_string(&file).unwrap();
    // The unit gives it this folder to write, and no other.
    assert!(daemon.lines().any(|line| line == "state_dir = \"/var/lib/rated\""), "{daemon}");
    assert!(unit().contains("\nStateDirectory=rated\n"));
    let mut check = as_rated(&at("usr/bin/rated"));
    check.args(["check", "--config", file.to_str().unwrap()]);
    let (succeeded, said) =
        run(check.env("RATED__DAEMON__PLUGIN_DIRS", at("usr/lib/rated/plugins")));
    assert!(succeeded && said.contains(": fine: "), "{said}");
    // And it runs from there, with a state folder as the unit makes it.
    fs::create_dir(at("var")).unwrap();
    fs::set_permissions(at("var"), fs::Permissions::from_mode(0o700)).unwrap();
    if is_root() {
        chown(at("var"), Some(RATED), Some(RATED)).unwrap();
    }
    let mut serve = as_rated(&at("usr/bin/rated"));
    serve.args(["serve", "--config", file.to_str().unwrap()]);
    serve.env("RATED__DAEMON__PLUGIN_DIRS", at("usr/lib/rated/plugins"));
    serve.env("RATED__DAEMON__STATE_DIR", at("var")).env("RATED__API__LISTEN", "127.0.0.1:0");
    let mut serve = Process::start("rated", &mut serve);
    serve.wait_for_output("it has started", |output| output.contains("Started.").then_some(()));
    serve.signal("TERM");
    assert!(serve.wait(Duration::from_secs(45)).success());
}

/// As the user that the unit names, if this is root; else as whoever this is.
fn as_rated(program: &Path) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(RATED).gid(RATED);
    } else {
        println!("NOT RUN: as another user; this is not root");
    }
    command
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
