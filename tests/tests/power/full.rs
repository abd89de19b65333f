//! A start on a disk that is full: what is there can be read, or the start waits; nobody has to
//! come and start it again.

use std::time::Duration;

use rated_tests::{Access, Disk, DiskError, Fault, Random, wait_until};
use reqwest::Method;
use serde_json::Value;

use crate::faults::{expect_exact, push, ready, said, send, settled, start, total};
use crate::site::Site;

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
