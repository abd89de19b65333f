//! A backup and a restore that are killed: the folder has the backup before or the new one, a
//! ledger is there wholly or not at all, and the same command goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::collecting::{Collecting, wait_until_collected};
use crate::picture::picture;
use crate::site::{Acknowledged, Site, copy_tree};

const SIGKILL: i32 = 9;

/// In the one who asks for a backup, while the folder still has the one before.
const BEFORE_ITS_NAME: [&str; 5] = [
    "backup.begun",
    "backup.piece_written",
    "backup.part_synced",
    "backup.copied",
    "backup.manifest_written",
];
/// The same, when it has the new one.
const AFTER_ITS_NAME: [&str; 2] = ["backup.manifest_named", "backup.old_removed"];
/// In the daemon.
const IN_THE_DAEMON: &str = "backup.spooled";
const BEFORE_THERE_IS_A_LEDGER: [&str; 6] = [
    "restore.checked",
    "restore.part_copied",
    "restore.libraries_copied",
    "restore.files_copied",
    "restore.records_written",
    "restore.built",
];
const AFTER_THERE_IS_A_LEDGER: &str = "restore.named";

pub(crate) fn steps() -> impl Iterator<Item = &'static str> {
    let backup = BEFORE_ITS_NAME.into_iter().chain(AFTER_ITS_NAME).chain([IN_THE_DAEMON]);
    backup.chain(BEFORE_THERE_IS_A_LEDGER).chain([AFTER_THERE_IS_A_LEDGER])
}

/// Two backups of a daemon, and what it answered at those times.
struct Copies {
    collecting: Collecting,
    site: Site,
    folder: TempDir,
    source: Client,
    old: String,
    new: String,
}

impl Copies {
    /// The older backup is in `old`, of the newer state there is none yet.
    fn make() -> Copies {
        let collecting = Collecting::new();
        let site = Site::new(&collecting);
        let folder = TempDir::new().unwrap();
        let config = folder.path().join("source");
        copy_tree(&site.template(), &config);
        let mut source = Client::spawn(site.program(), &config.join("rated.toml"), None, "info");
        source.serves().unwrap();
        let (_, end) = collecting.times();
        wait_until_collected(&mut source, end, &mut Acknowledged::default()).unwrap();
        let (old, new) = (String::new(), String::new());
        let mut copies = Copies { collecting, site, folder, source, old, new };
        copies.old = copies.picture_of_source();
        must(&copies.backup(&copies.place("old"), None));
        let point = json!({
            "vol": {"unit": "piece", "qty": 3}, "rating": {"price": 0.5},
            "groupby": {"project_id": "pushed"}, "metadata": {},
        });
        let hour = |hours| {
            crate::picture::date(copies.collecting.data.begin + chrono::TimeDelta::hours(hours))
        };
        let period = json!({"begin": hour(0), "end": hour(1)});
        let body = json!({"dataframes": [{"period": period, "usage": {"gift": [point]}}]});
        copies.source.say(&Method::POST, "/v2/dataframes", &body, &[204]).unwrap();
        copies.new = copies.picture_of_source();
        assert_ne!(copies.old, copies.new);
        copies
    }

    fn picture_of_source(&mut self) -> String {
        picture(&mut self.source, &self.collecting.range()).unwrap()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str], kill_at: Option<&str>) -> Output {
        let mut command = Command::new(self.site.program());
        if let Some(step) = kill_at {
            command.env("RATED_KILL_AT", format!("{step}:1"));
        }
        command.arg("ledger").args(arguments).output().unwrap()
    }

    fn backup(&self, to: &Path, kill_at: Option<&str>) -> Output {
        self.run(&["--url", self.source.url(), "backup", "--to", to.to_str().unwrap()], kill_at)
    }

    fn restore(&self, from: &Path, config: &Path, kill_at: Option<&str>) -> Output {
        let (from, config) = (from.to_str().unwrap(), config.join("rated.toml"));
        let config = config.to_str().unwrap();
        self.run(&["restore", "--with-libraries", "--from", from, "--config", config], kill_at)
    }

    /// A place for a daemon without a ledger.
    fn nothing(&self, name: &str) -> PathBuf {
        let config = self.place(name);
        copy_tree(&self.site.template(), &config);
        config
    }

    /// What a daemon answers there; no cycle may add to it.
    fn picture_in(&self, config: &Path) -> String {
        let file = config.join("rated.toml");
        let mut client = Client::spawn(self.site.program(), &file, None, "info");
        client.serves().unwrap();
        let picture = picture(&mut client, &self.collecting.range()).unwrap();
        client.terminate();
        assert!(client.end().success(), "{}", client.output());
        picture
    }
}

#[track_caller]
fn must(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

#[track_caller]
fn expect_killed(step: &str, output: &Output) {
    assert_eq!(output.status.signal(), Some(SIGKILL), "{step}: {}", said(output));
}

#[test]
fn a_killed_backup_leaves_the_one_before_and_goes_on() {
    let copies = Copies::make();
    for step in BEFORE_ITS_NAME.into_iter().chain(AFTER_ITS_NAME) {
        println!("{step}");
        let backup = copies.place(step);
        copy_tree(&copies.place("old"), &backup);

        expect_killed(step, &copies.backup(&backup, Some(step)));

        let is_new = AFTER_ITS_NAME.contains(&step);
        let config = copies.nothing(&format!("{step}.restored"));
        must(&copies.restore(&backup, &config, None));
        let expected = if is_new { &copies.new } else { &copies.old };
        assert!(copies.picture_in(&config) == *expected, "{step}");

        must(&copies.backup(&backup, None));
        let config = copies.nothing(&format!("{step}.new"));
        must(&copies.restore(&backup, &config, None));
        assert!(copies.picture_in(&config) == copies.new, "{step}, then again");
        let names = fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().file_name());
        let records = names.filter(|name| name.to_string_lossy().starts_with("records."));
        assert_eq!(records.count(), 1, "{step}: nothing of the one before is left");
    }
    // Without one before there is none.
    let backup = copies.place("first");
    expect_killed("first", &copies.backup(&backup, Some("backup.copied")));
    let refused = copies.restore(&backup, &copies.nothing("first.restored"), None);
    assert!(said(&refused).contains("is no backup"), "{}", said(&refused));
}

#[test]
fn a_daemon_killed_in_a_backup_starts_and_is_backed_up_again() {
    let mut copies = Copies::make();
    copies.source.terminate();
    assert!(copies.source.end().success());
    let config = copies.place("source");
    let file = config.join("rated.toml");
    let at = format!("{IN_THE_DAEMON}:1");
    copies.source = Client::spawn(copies.site.program(), &file, Some(&at), "info");
    copies.source.serves().unwrap();

    let failed = copies.backup(&copies.place("old"), None);

    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert_eq!(copies.source.end().signal(), Some(SIGKILL));
    // What it was writing has no name: nothing is left of it.
    assert!(!config.join("state/ledger/backup.records").exists());
    copies.source = Client::spawn(copies.site.program(), &file, None, "info");
    copies.source.serves().unwrap();
    must(&copies.backup(&copies.place("old"), None));
    let config = copies.nothing("restored");
    must(&copies.restore(&copies.place("old"), &config, None));
    assert!(copies.picture_in(&config) == copies.new);
}

#[test]
fn a_killed_restore_leaves_no_ledger_or_a_whole_one_and_goes_on() {
    let copies = Copies::make();
    let backup = copies.place("old");
    for step in BEFORE_THERE_IS_A_LEDGER.into_iter().chain([AFTER_THERE_IS_A_LEDGER]) {
        println!("{step}");
        let config = copies.nothing(step);

        expect_killed(step, &copies.restore(&backup, &config, Some(step)));

        let again = copies.restore(&backup, &config, None);
        if step == AFTER_THERE_IS_A_LEDGER {
            assert!(said(&again).contains("there is a ledger in"), "{}", said(&again));
        } else {
            must(&again);
        }
        assert!(copies.picture_in(&config) == copies.old, "{step}");
    }
    // A daemon would begin a new ledger where the half one is no ledger yet.
    let config = copies.nothing("refused");
    expect_killed("refused", &copies.restore(&backup, &config, Some("restore.records_written")));
    let file = config.join("rated.toml");
    let mut early = Client::spawn(copies.site.program(), &file, None, "info");
    assert_eq!(early.end().code(), Some(1), "{}", early.output());
    assert!(early.output().contains("a restore of the ledger was not finished"));
    must(&copies.restore(&backup, &config, None));
    assert!(copies.picture_in(&config) == copies.old);
}
