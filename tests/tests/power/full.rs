//! A start on a disk that is full: what is there can be read, or the start waits; nobody has to
//! come and start it again.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rated_tests::{Access, Disk, DiskError, Fault, MountedDisk, Random, wait_until};
use reqwest::Method;
use serde_json::Value;

use crate::faults::{expect_exact, push, ready, said, send, settled, start, total};
use crate::site::{METRICS, Site, configuration, program};

const MEBIBYTE: u64 = 1 << 20;
const WAITS: &str = "The disk is full, the start waits until there is room.";

/// What is on the disk of a daemon that was killed, with a push.
fn disk_with_a_push() -> (Disk, Value) {
    let site = settled();
    assert_eq!(push(&site, "before").status, 204);
    let known = total(&site).expect(200);
    (site.kill().after_cut(&mut Random::new(1)), known)
}

#[test]
fn a_start_on_a_nearly_full_disk_reads_and_goes_on_when_there_is_room() {
    // Less than is kept free, and enough to open the ledger.
    for free in [40 * MEBIBYTE, 5 * MEBIBYTE] {
        let (mut disk, known) = disk_with_a_push();
        disk.quota = disk.used() + free;
        let site = start(disk);

        assert_eq!(push(&site, "during").status, 503);
        assert_eq!(ready(&site), 503);
        assert_eq!(total(&site).expect(200), known);
        said(&site, "The disk is nearly full, no changes are taken");

        site.disk.with(|disk| disk.quota = disk.used() + 500 * MEBIBYTE);
        wait_until("changes are taken", || (push(&site, "after").status == 204).then_some(()));
        wait_until("it says so", || (ready(&site) == 200).then_some(()));
        expect_exact(&site, &["before", "after"], &[]);
    }
}

/// Nothing can be read before sled has written something; whoever asks meanwhile is told.
fn waits(disk: Disk, known: &Value, mend: impl FnOnce(&mut Disk)) {
    let mut site = Site::start_to_say(disk, WAITS);
    let output = site.output();
    let (_, address) = output.split_once("listen=").expect("it says where it listens");
    let (address, _) = address.split_once(' ').expect("more follows");
    site.answers_at(format!("http://{address}"));
    for path in ["/v2/summary", "/healthz"] {
        let answer = send(&site, &Method::GET, path, None);
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text.contains("disk is full"), "{}", answer.text);
    }
    assert_eq!(push(&site, "during").status, 503);
    assert!(site.process().is_running());

    site.disk.with(mend);
    site.serves();
    assert_eq!(total(&site).expect(200), *known);
    wait_until("changes are taken", || (push(&site, "after").status == 204).then_some(()));
    expect_exact(&site, &["before", "after"], &[]);
}

#[test]
fn a_start_on_a_full_disk_waits_and_goes_on_when_there_is_room() {
    for free in [0, 100_000] {
        let (mut disk, known) = disk_with_a_push();
        disk.quota = disk.used() + free;
        waits(disk, &known, |disk| disk.quota = disk.used() + 500 * MEBIBYTE);
    }
}

/// Room for the ledger, and then none for the plugins: for their folder, or for a copy.
#[test]
fn a_start_that_finds_no_room_for_its_plugins_waits_as_well() {
    for access in [Access::Make, Access::Write, Access::Sync] {
        let (mut disk, known) = disk_with_a_push();
        disk.delete("state/plugins");
        disk.faults.push(Fault::fails(access, "state/plugins", DiskError::Full));
        waits(disk, &known, |disk| disk.faults.clear());
    }
}

/// The first change of a start says what is measured.
#[test]
fn a_start_whose_first_change_finds_no_room_serves_and_collects_when_there_is_some() {
    let mut disk = Disk::default();
    disk.faults.push(Fault::fails(Access::Make, "state/plugins", DiskError::Full));
    let mut site = Site::start_to_say(disk, WAITS);
    let full = Fault::fails(Access::Write, "ledger/db", DiskError::Full);

    site.disk.with(|disk| disk.faults = vec![full]);
    site.serves();
    assert_eq!(total(&site).status, 200, "nothing is nothing");
    site.disk.with(|disk| disk.faults.clear());

    expect_exact(&site, &[], &[]);
}

/// The system says that there is room, and there is none: a quota, for example.
#[test]
fn a_start_whose_writes_find_no_room_waits_as_well() {
    for (access, path) in [(Access::Write, "ledger/"), (Access::Sync, "ledger/db")] {
        let (mut disk, known) = disk_with_a_push();
        disk.faults.push(Fault::fails(access, path, DiskError::Full));
        waits(disk, &known, |disk| disk.faults.clear());
    }
}

#[test]
fn a_start_that_waits_for_room_is_stopped_in_order() {
    let (mut disk, _) = disk_with_a_push();
    disk.quota = disk.used();
    let mut site = Site::start_to_say(disk, WAITS);

    site.process().signal("TERM");

    let status = site.process().wait(Duration::from_secs(10));
    assert!(status.success(), "{status}\n{}", site.output());
    assert!(site.output().contains("Stopped before the start was complete."));
}

/// A ledger that is new needs what is kept free, too: nobody would be served without it.
#[test]
fn a_first_start_on_a_nearly_full_disk_waits() {
    let mut disk = Disk::default();
    disk.quota = 40 * MEBIBYTE;
    let mut site = Site::start_to_say(disk, WAITS);

    site.disk.with(|disk| disk.quota = 500 * MEBIBYTE);

    site.serves();
}

/// Exit code and what was said, with temporary files on that disk.
fn rated(arguments: &[&str], temporary: &Path) -> (Option<i32>, String) {
    let mut command = Command::new(program());
    let output = command.args(arguments).env("TMPDIR", temporary).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Whoever runs it from a script can tell "later" from "never".
#[test]
fn commands_that_find_no_room_end_with_75() {
    let site = settled();
    assert_eq!(push(&site, "before").status, 204);
    let disk = MountedDisk::mount(Disk::default());
    let (backup, file) = (disk.path().join("backup"), disk.path().join("rated.toml"));
    fs::write(&file, configuration(&disk.path())).unwrap();
    fs::write(disk.path().join("metrics.toml"), METRICS).unwrap();
    let (backup, file) = (backup.to_str().unwrap(), file.to_str().unwrap());
    let take = ["ledger", "--url", site.url(), "backup", "--to", backup];
    let restore = ["ledger", "restore", "--from", backup, "--config", file];
    let check = ["check", "--config", file];

    for arguments in [&take[..], &restore, &check] {
        let mut codes = Vec::new();
        // How much each of them needs is its own affair.
        for free in [0, 10_000, 1_000_000, 500 * MEBIBYTE] {
            disk.with(|disk| disk.quota = disk.used() + free);
            let (code, said) = rated(arguments, &disk.path());
            codes.push(code);
            match code {
                Some(0) => break,
                code => assert_eq!(code, Some(75), "{arguments:?}, {free}: {said}"),
            }
        }
        assert_eq!((codes[0], codes[codes.len() - 1]), (Some(75), Some(0)), "{arguments:?}");
    }
}
