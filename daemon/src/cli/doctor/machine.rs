//! The machine: does its clock go right?

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use chrono::{DateTime, TimeDelta, Utc};

use super::finding::{Findings, Note};
use crate::clock::Clock;

/// A file that was written so much later than now says that the clock has gone back.
const AHEAD_MAX: TimeDelta = TimeDelta::seconds(5);
/// Most files whose times are looked at.
const FILES_MAX: usize = 10_000;

/// systemd's own client of a time server touches it.
const SYNCHRONIZED: &str = "/run/systemd/timesync/synchronized";

pub(super) fn examine(state: &Path, clock: &dyn Clock, findings: &mut Findings) {
    findings.add("clock", clock_note(state, clock.now()));
}

fn clock_note(state: &Path, now: DateTime<Utc>) -> Note {
    let newest = newest_in(&state.join("ledger")).max(newest_in(&state.join("ledger/data")));
    if let Some(newest) = newest.filter(|newest| *newest > now + AHEAD_MAX) {
        let hint = "periods are due by this clock: set it right before the daemon collects";
        return Note::fail(format!("{now}, but the ledger was written at {newest}"), hint);
    }
    match is_synchronised() {
        Some(true) => Note::ok("synchronised".to_owned()),
        Some(false) => {
            let hint = "periods are due by this clock: `timedatectl set-ntp true`, or chrony";
            Note::warn("not synchronised with a time server".to_owned(), hint)
        }
        None => Note::ok("whether it is synchronised cannot be told here".to_owned()),
    }
}

fn newest_in(folder: &Path) -> Option<DateTime<Utc>> {
    let entries = fs::read_dir(folder).ok()?.take(FILES_MAX);
    let times = entries.filter_map(|entry| entry.ok()?.metadata().ok()?.modified().ok());
    times.max().map(DateTime::<Utc>::from)
}

/// `None` = nobody says.
fn is_synchronised() -> Option<bool> {
    if Path::new(SYNCHRONIZED).exists() {
        return Some(true);
    }
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    match asked.ok()?.stdout.as_slice() {
        b"yes\n" => Some(true),
        b"no\n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::finding::Level;

    #[test]
    fn a_clock_that_went_back_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("ledger")).unwrap();
        fs::write(folder.path().join("ledger/db"), "").unwrap();
        let written = newest_in(&folder.path().join("ledger")).unwrap();
        let level = |now| {
            let mut findings = Findings::default();
            findings.add("clock", clock_note(folder.path(), now));
            findings.count(Level::Fail)
        };

        assert_eq!(level(written), 0);
        assert_eq!(level(written - TimeDelta::minutes(1)), 1);
    }
}
