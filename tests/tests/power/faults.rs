//! The disk is full, read-only or fails: no figure is wrong meanwhile, and the daemon goes on by
//! itself afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rated_tests::{Access, Answer, Disk, DiskError, Exact, Fault, Harm, Random, run, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{self, Client, Common, time};
use crate::model::{Found, State};
use crate::site::{QUANTITY, SCOPES, Site, Start, day, days_due};

const MEBIBYTE: u64 = 1 << 20;
/// What the daemon leaves free by default.
const RESERVE: u64 = 64 * MEBIBYTE;

pub(crate) fn start(disk: Disk) -> Site {
    match Site::start(disk) {
        Start::Serves(site) => site,
        Start::Cut(_) => panic!("nobody cuts"),
        Start::Failed(_, said) => panic!("{said}"),
    }
}

/// A daemon with one price, all of whose periods are collected.
pub(crate) fn settled() -> Site {
    let site = start(Disk::default());
    client::set_up(&site).unwrap();
    settle(&site);
    site
}

pub(crate) fn settle(site: &Site) {
    wait_until("every period is in the ledger", || {
        let found = client::find(site).ok()?;
        let quantity = Exact::parse(&(QUANTITY * days_due()).to_string());
        SCOPES.iter().all(|scope| found[*scope].quantity == quantity).then_some(())
    });
}

pub(crate) fn send(site: &Site, method: &Method, path: &str, body: Option<&Value>) -> Answer {
    match site.call_any(method, path, &[], body) {
        Ok(answer) => answer,
        Err(error) => panic!("{method} {path}: {error}\n{}", site.output()),
    }
}

/// One row of one unit.
pub(crate) fn push(site: &Site, key: &str) -> Answer {
    let point = json!({
        "vol": {"unit": "u", "qty": 1}, "rating": {"price": "0.5"},
        "groupby": {"project_id": SCOPES[1], "push": key}, "metadata": {},
    });
    let period = json!({"begin": time(day(1)), "end": time(day(2))});
    let body = json!({"dataframes": [{"period": period, "usage": {"pushed": [point]}}]});
    let headers = [("Idempotency-Key", key)];
    site.call_any(&Method::POST, "/v2/dataframes", &headers, Some(&body))
        .unwrap_or_else(|error| panic!("{error}\n{}", site.output()))
}

pub(crate) fn total(site: &Site) -> Answer {
    let range = format!("begin={}&end={}", time(day(0)), time(day(days_due() + 9)));
    send(site, &Method::GET, &format!("/v2/summary?{range}&groupby=project_id,type"), None)
}

pub(crate) fn ready(site: &Site) -> u16 {
    send(site, &Method::GET, "/readyz", None).status
}

/// What is in the ledger of every scope, pushes by their keys.
fn found(site: &Site) -> BTreeMap<String, Found> {
    client::find(site).unwrap_or_else(|stop| panic!("{stop:?}\n{}", site.output()))
}

/// Exactly these pushes, perhaps some of those nobody acknowledged, and every period once.
#[track_caller]
pub(crate) fn expect_exact(site: &Site, acknowledged: &[&str], unknown: &[&str]) {
    settle(site);
    for (scope, found) in found(site) {
        assert_eq!(found.quantity, Exact::parse(&(QUANTITY * days_due()).to_string()), "{scope}");
        if scope != SCOPES[1] {
            assert!(found.pushes.is_empty());
            continue;
        }
        let mut keys: Vec<&str> = found.pushes.keys().map(String::as_str).collect();
        for key in acknowledged {
            assert!(keys.contains(key), "`{key}` was acknowledged: {keys:?}");
        }
        keys.retain(|key| !acknowledged.contains(key) && !unknown.contains(key));
        assert!(keys.is_empty(), "{keys:?}");
        let one = (Exact::parse("1"), Exact::parse("0.5"));
        assert!(found.pushes.values().all(|push| *push == one), "{:?}", found.pushes);
    }
}

/// What totals are while a fault is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Totals {
    Right,
    RightOrNotGiven,
}

/// Changes fail while the fault is there; without it everything goes on, without a restart and
/// after one.
fn goes_on(
    break_it: impl FnOnce(&mut Disk),
    mend_it: impl FnOnce(&mut Disk),
    totals: Totals,
    during: impl FnOnce(&Site),
) {
    let site = settled();
    assert_eq!(push(&site, "before").status, 204);
    let known = total(&site).expect(200);

    site.disk.with(break_it);
    let refused = push(&site, "during");
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(refused.header("retry-after").is_some());
    let reset = json!({"scope_id": [SCOPES[0]], "last_processed_timestamp": time(day(3))});
    assert_eq!(send(&site, &Method::PUT, "/v2/scope", Some(&reset)).status, 503);
    assert_eq!(ready(&site), 503);
    for _ in 0..20 {
        let answer = total(&site);
        if answer.status != 503 || totals == Totals::Right {
            assert_eq!(answer.expect(200), known);
        }
    }
    during(&site);

    site.disk.with(mend_it);
    wait_until("changes are taken again", || (push(&site, "after").status == 204).then_some(()));
    wait_until("it says so", || (ready(&site) == 200).then_some(()));
    expect_exact(&site, &["before", "after"], &["during"]);

    let site = start(site.kill().after_cut(&mut Random::new(1)));
    expect_exact(&site, &["before", "after"], &["during"]);
}

pub(crate) fn said(site: &Site, text: &str) {
    wait_until(text, || site.output().contains(text).then_some(()));
}

fn metric(site: &Site, name: &str) -> f64 {
    let text = send(site, &Method::GET, "/metrics", None).text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {text}"))
}

#[test]
fn a_nearly_full_disk_refuses_changes_and_takes_them_when_there_is_room() {
    let fill = |disk: &mut Disk| disk.quota = disk.used() + RESERVE / 2;
    let empty = |disk: &mut Disk| disk.quota = disk.used() + 4 * RESERVE;
    goes_on(fill, empty, Totals::Right, |site| {
        said(site, "The disk is nearly full, no changes are taken");
        let range = format!("begin={}&end={}", time(day(0)), time(day(9)));
        let rows = format!("/v2/dataframes?{range}&limit=5");
        assert_eq!(send(site, &Method::GET, &rows, None).status, 200, "it can be read");
        assert!((metric(site, "rated_ledger_takes_changes")).abs() < 0.5);
        let free = metric(site, "rated_ledger_disk_free_bytes");
        assert!(free > 0.0 && free < 64.0 * 1_048_576.0, "{free}");
    });
}

#[test]
fn a_full_disk_in_a_data_file_fails_a_change_and_none_after_it() {
    let full = Fault::fails(Access::Write, "ledger/data/", DiskError::Full);
    let site = settled();
    site.disk.with(|disk| disk.faults.push(full));

    let refused = push(&site, "during");
    assert_eq!(refused.status, 503, "{}", refused.text);
    // What needs no row is changed all the same.
    let state = json!({"enabled": true});
    let path = "/v1/collector/states/source";
    assert_eq!(send(&site, &Method::PUT, path, Some(&state)).status, 200);
    site.disk.with(|disk| disk.faults.clear());

    assert_eq!(push(&site, "after").status, 204);
    expect_exact(&site, &["after"], &[]);
}

fn fails(fault: Fault) -> impl FnOnce(&mut Disk) {
    move |disk| disk.faults.push(fault)
}

fn has_failed(site: &Site) {
    said(site, "The ledger takes no changes until it is open again");
}

fn works(disk: &mut Disk) {
    disk.faults.clear();
}

#[test]
fn a_full_disk_under_sled_is_survived_without_a_restart() {
    let full = Fault::fails(Access::Write, "ledger/db", DiskError::Full);
    goes_on(fails(full), works, Totals::RightOrNotGiven, has_failed);
}

#[test]
fn writes_that_fail_are_survived_without_a_restart() {
    let broken = Fault::fails(Access::Write, "ledger/db", DiskError::Input);
    goes_on(fails(broken), works, Totals::RightOrNotGiven, has_failed);
}

#[test]
fn syncs_that_fail_are_survived_without_a_restart() {
    let broken = Fault::fails(Access::Sync, "ledger/db", DiskError::Input);
    goes_on(fails(broken), works, Totals::RightOrNotGiven, has_failed);
}

/// After a sync has failed, the kernel shows bytes that are not on the disk; whoever believes them
/// and goes on loses what comes after.
#[test]
fn what_a_failed_sync_has_lost_is_not_built_upon() {
    for seed in 0..4 {
        let site = settled();
        assert_eq!(push(&site, "before").status, 204);
        let does = Harm::FailsAndForgets;
        let fault =
            Fault { access: Access::DataSync, path: "ledger/db", does, after: seed, times: 1 };
        site.disk.with(|disk| disk.faults.push(fault));
        let mut known = vec!["before".to_owned()];
        let mut unknown = Vec::new();
        for number in 0..8 {
            let key = format!("during-{number}");
            let keys = if push(&site, &key).status == 204 { &mut known } else { &mut unknown };
            keys.push(key);
        }
        wait_until("changes are taken", || (push(&site, "after").status == 204).then_some(()));
        known.push("after".to_owned());

        let site = start(site.kill().after_cut(&mut Random::new(seed)));

        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        expect_exact(&site, &known, &unknown);
    }
}

#[test]
fn a_disk_that_became_read_only_is_read_and_written_again_when_it_can_be() {
    let lock = |disk: &mut Disk| disk.is_read_only = true;
    let unlock = |disk: &mut Disk| disk.is_read_only = false;
    goes_on(lock, unlock, Totals::Right, has_failed);
}

#[test]
fn one_failed_write_or_sync_of_many_loses_nothing() {
    let mut random = Random::new(7);
    let site = settled();
    let common = Common::default();
    let scope = SCOPES[2];
    let (state, doubtful) = (State::default(), State::default());
    let own = random.fork();
    let mut client = Client { site: &site, common: &common, scope, state, doubtful, random: own };
    client.state.collected(days_due());
    for round in 0..6 {
        let access = [Access::Write, Access::Sync][usize::try_from(round % 2).unwrap()];
        let path = ["ledger/db", "ledger/data/"][usize::try_from(round / 2 % 2).unwrap()];
        let fault = Fault::fails(access, path, DiskError::Input).once(random.below(9));
        site.disk.with(|disk| disk.faults.push(fault));
        client.push_through_faults(12);
        site.disk.with(|disk| disk.faults.clear());
        wait_until("changes are taken", || (ready(&site) == 200).then_some(()));
        client.expect_state();
    }
}

#[test]
fn rows_that_cannot_be_read_are_an_error_and_never_a_zero() {
    let site = settled();
    assert_eq!(push(&site, "before").status, 204);
    let known = total(&site).expect(200);
    // What has been read once is not read from the disk again.
    let site = start(site.kill().after_cut(&mut Random::new(1)));
    let broken = Fault::fails(Access::Read, "ledger/data/", DiskError::Input);
    site.disk.with(|disk| disk.faults.push(broken));

    let range = format!("begin={}&end={}", time(day(0)), time(day(9)));
    for path in [
        format!("/v2/summary?{range}&groupby=push"),
        format!("/v2/dataframes?{range}"),
        format!("/v1/report/summary?{range}&groupby=tenant_id,res_type"),
    ] {
        let answer = send(&site, &Method::GET, &path, None);
        assert_eq!(answer.status, 503, "{path}: {}", answer.text);
    }
    for path in ["/v2/scope", "/v2/task/reprocesses", "/v1/rating/modules", "/readyz"] {
        let answer = send(&site, &Method::GET, path, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    assert_eq!(push(&site, "during").status, 204, "what is not read is written");

    site.disk.with(|disk| disk.faults.clear());
    assert_ne!(total(&site).expect(200), known);
    expect_exact(&site, &["before", "during"], &[]);
}

/// The kernel asks again for what it could not read ahead.
const READS_FAILING: u64 = 4;

/// A start that cannot read its log must not take what follows for garbage.
#[test]
fn a_start_that_cannot_read_fails_and_loses_nothing() {
    let site = settled();
    assert_eq!(push(&site, "before").status, 204);
    let mut disk = site.kill().after_cut(&mut Random::new(1));
    let mut failures = 0;
    for reads in 0..40 {
        disk.faults.push(
            Fault::fails(Access::Read, "ledger/", DiskError::Input).some(reads, READS_FAILING),
        );
        match Site::start(disk) {
            Start::Serves(site) => {
                expect_exact(&site, &["before"], &[]);
                disk = site.kill().after_cut(&mut Random::new(reads));
            }
            Start::Failed(failed, said) => {
                assert!(said.contains("Input/output error"), "{said}");
                failures += 1;
                disk = failed.after_cut(&mut Random::new(reads));
            }
            Start::Cut(_) => panic!("nobody cuts"),
        }
    }
    // Which read fails follows from the order of threads; a start reads more than a few times.
    println!("{failures} of 40 starts failed");
    assert!(failures >= 20, "{failures} of 40 starts failed");
    expect_exact(&start(disk), &["before"], &[]);
}

/// A real one, small and full. It is made by `mount`, so only root can run this; whoever is not is
/// told so. (Read-only it cannot be made while somebody has files of it open to be written: the
/// system refuses; that is why the disk of the other tests does it.)
#[test]
fn a_real_file_system_that_is_full_is_survived() {
    if !rated_tests::is_root() {
        println!("NOT RUN: only root can mount a file system, and this is not root");
        return;
    }
    let folder = TempDir::new().unwrap();
    let mounted = Tmpfs::mount(folder.path());
    let site = Site::start_in(folder.path());
    client::set_up(&site).unwrap();
    settle(&site);
    assert_eq!(push(&site, "before").status, 204);

    let ballast = folder.path().join("ballast");
    let written = fs::write(&ballast, vec![1; usize::try_from(Tmpfs::SIZE).unwrap()]);
    assert!(written.is_err(), "there is room for everything");
    let refused = push(&site, "during");
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert_eq!(total(&site).status, 200);
    fs::remove_file(&ballast).unwrap();

    wait_until("changes are taken again", || (push(&site, "after").status == 204).then_some(()));
    expect_exact(&site, &["before", "after"], &[]);
    drop(site);
    drop(mounted);
}

struct Tmpfs(std::path::PathBuf);

impl Tmpfs {
    const SIZE: u64 = 256 * MEBIBYTE;

    fn mount(folder: &Path) -> Tmpfs {
        let size = format!("size={}", Tmpfs::SIZE);
        let mut command = Command::new("mount");
        let (succeeded, text) =
            run(command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder));
        assert!(succeeded, "{text}");
        Tmpfs(folder.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let (succeeded, text) = run(Command::new("umount").arg(&self.0));
        if !succeeded {
            eprintln!("{text}");
        }
    }
}
