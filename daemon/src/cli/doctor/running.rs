//! The running daemon: its process, and what it says of itself.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use nix::sys::stat::{major, minor};
use serde_json::Value;

use super::DoctorArguments;
use super::finding::{Findings, Note};
use crate::cli::client::ClientError;
use crate::cli::{Environment, chain, credentials};
use crate::clock::Clock;
use crate::config::Config;

/// Troubles that are shown one by one.
const TROUBLES_SHOWN_MAX: usize = 10;
/// What the daemon opens beside connections: data files, the log, pipes to processes of plugins.
const FILES_BESIDE_CONNECTIONS: u64 = 512;
/// Periods that a scope may be behind beyond what the configuration asks for.
const PERIODS_BEHIND_MAX: i32 = 2;
/// Of the bytes in data files: more dead ones should have been compacted away.
const DEAD_SHARE: u64 = 2;
const MIB: u64 = 1 << 20;

pub(super) fn examine(
    config: &Config,
    (arguments, environment): (&DoctorArguments, &Environment),
    clock: &dyn Clock,
    findings: &mut Findings,
) {
    let lock = config.daemon.state_dir.join("ledger/lock");
    let holder = holder_of(&lock);
    if let Some(process) = holder {
        findings.add("ledger lock", Note::ok(format!("held by process {process}")));
        findings.add("open files", files_of(process, config.api.connections_max));
    } else {
        let hint = "`rated serve` holds it; start it, or see its log for why it has ended";
        findings.add("ledger lock", Note::warn("held by nobody".to_owned(), hint));
    }
    let asked = arguments.server.client_for(config, environment).map_err(|error| chain(&error));
    let client = match asked {
        Ok(Some(client)) => client,
        Ok(None) => {
            let text = "`api.listen` has port 0, so only its log says where it listens";
            findings.add("daemon", Note::warn(text.to_owned(), "`--url` says where to ask"));
            return;
        }
        Err(text) => return findings.add("daemon", Note::fail(text, "")),
    };
    match client.get_ready_or_not(&["readyz"], &|answer: &Value| answer["ready"].is_boolean()) {
        Ok(ready) => health(config, &ready, clock.now(), findings),
        Err(error) if holder.is_none() && !arguments.running => {
            findings.add("daemon", Note::warn(chain(&error), ""));
        }
        Err(error) => {
            let hint = match error {
                ClientError::Unreachable { .. } if holder.is_some() => {
                    "it runs, and does not answer there: `--url` says where to ask"
                }
                // Its own hint says who may ask, or whether anybody runs.
                _ => "",
            };
            findings.add("daemon", Note::fail(chain(&error), hint));
        }
    }
    match client.bytes(&["metrics"], &[]) {
        Ok(text) => ledger(&String::from_utf8_lossy(&text), findings),
        Err(error) if holder.is_none() => drop(error),
        Err(error) => findings.add("ledger", Note::warn(chain(&error), "")),
    }
}

fn health(config: &Config, ready: &Value, now: DateTime<Utc>, findings: &mut Findings) {
    let date = |name: &str| {
        let date = ready[name].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        date.map(|date| date.with_timezone(&Utc))
    };
    let note = if ready["ready"] == Value::Bool(true) {
        Note::ok("ready".to_owned())
    } else {
        let hint = "its log says why: mostly the disk is full, or fails; it goes on by itself when \
                    that is over";
        Note::fail("the ledger takes no changes".to_owned(), hint)
    };
    findings.add("daemon", note);
    findings.add("last cycle", last_cycle(config, (date("last_cycle_end"), now)));
    findings.add("collected", collected(config, (date("furthest_behind"), now)));
    if ready["troubles_withheld"] == Value::Bool(true) {
        let text = "whether anything is, is not told to whoever asks".to_owned();
        findings.add("held back", Note::warn(text, credentials::HINT));
    }
    let troubles = ready["troubles"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = troubles.iter().filter_map(Value::as_str).collect();
    for text in texts.iter().take(TROUBLES_SHOWN_MAX) {
        let hint = "it is tried again by itself; what failed waits and is not lost";
        findings.add("held back", Note::warn((*text).to_owned(), hint));
    }
    if texts.len() > TROUBLES_SHOWN_MAX {
        let more = texts.len() - TROUBLES_SHOWN_MAX;
        findings.add("held back", Note::warn(format!("{more} more"), "`/readyz` shows them"));
    }
}

/// It should have ended since the schedule asked for the one before the last one.
fn last_cycle(config: &Config, (end, now): (Option<DateTime<Utc>>, DateTime<Utc>)) -> Note {
    let Some(end) = end else {
        return Note::warn("none has ended yet".to_owned(), "a daemon just started needs a moment");
    };
    let due = config.collect.schedule.after(&end).nth(1);
    let text = format!("ended {end}");
    if due.is_some_and(|due| due < now) {
        let hint = "it takes longer than its schedule: `rated_cycle_duration_seconds` in /metrics";
        return Note::warn(text, hint);
    }
    Note::ok(text)
}

/// `begin` is that of the oldest period that is not in the ledger.
fn collected(config: &Config, (begin, now): (Option<DateTime<Utc>>, DateTime<Utc>)) -> Note {
    let Some(begin) = begin else { return Note::ok("nobody waits for a period".to_owned()) };
    let collect = &config.collect;
    let period = TimeDelta::seconds(i64::from(collect.period_secs));
    let wait = i32::try_from(collect.wait_periods).unwrap_or(i32::MAX);
    let behind = now - begin;
    let text = format!("everything before {begin}");
    let usual = period.checked_mul(wait.saturating_add(1 + PERIODS_BEHIND_MAX));
    if usual.is_some_and(|usual| behind > usual) {
        let hint = "see what is held back; after a time without the daemon it catches up";
        return Note::warn(format!("{text}, {} s behind", behind.num_seconds()), hint);
    }
    Note::ok(text)
}

fn ledger(metrics: &str, findings: &mut Findings) {
    let value = |name: &str| -> u64 {
        let mut lines = metrics.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let whole = found.and_then(|text| text.split('.').next());
        whole.and_then(|text| text.parse().ok()).unwrap_or(0)
    };
    let (size, dead) = (value("rated_ledger_size_bytes"), value("rated_compaction_dead_bytes"));
    let rows = value("rated_ledger_rows");
    let text = format!("{rows} rows, {} MiB, of it {} MiB dead", size / MIB, dead / MIB);
    let note = if dead * DEAD_SHARE > size && dead > MIB {
        let hint = "compaction works while the cycle is idle, `ledger.compaction_percent` of the \
                    time; its failures are in the log";
        Note::warn(text, hint)
    } else {
        Note::ok(text)
    };
    findings.add("ledger", note);
    if metrics.lines().any(|line| line == "rated_ledger_unwitnessed 1") {
        let text = "no marks can be written: a loss of its last changes would not be noticed";
        let hint = "its log says why; the file is `ledger/marks` in the state folder";
        findings.add("ledger", Note::warn(text.to_owned(), hint));
    }
}

/// Who holds the lock of a file, as the kernel lists them.
fn holder_of(lock: &Path) -> Option<u32> {
    let file = fs::metadata(lock).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_in(&locks, (file.dev(), file.ino()))
}

fn holder_in(locks: &str, (device, inode): (u64, u64)) -> Option<u32> {
    // Of file systems without a device of their own (btrfs) the list has another number than the
    // file itself.
    let device = match major(device) {
        0 => "00:".to_owned(),
        number => format!("{number:02x}:{:02x}:", minor(device)),
    };
    let inode = format!(":{inode}");
    // `1: FLOCK  ADVISORY  WRITE 5310 fe:00:132098 0 EOF`
    locks.lines().find_map(|line| {
        let mut parts = line.split_whitespace().skip_while(|part| *part != "WRITE").skip(1);
        let (process, place) = (parts.next()?, parts.next()?);
        let is_it = place.starts_with(&device) && place.ends_with(&inode);
        is_it.then(|| process.parse().ok()).flatten()
    })
}

fn files_of(process: u32, connections_max: usize) -> Note {
    let unknown = "cannot be told: run this as the daemon's user".to_owned();
    let Ok(limits) = fs::read_to_string(format!("/proc/{process}/limits")) else {
        return Note::ok(unknown);
    };
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let limit = limit.and_then(|rest| rest.split_whitespace().next());
    let limit = match limit {
        Some("unlimited") => u64::MAX,
        Some(text) => text.parse().unwrap_or(u64::MAX),
        None => return Note::ok(unknown),
    };
    let open = fs::read_dir(format!("/proc/{process}/fd")).map(Iterator::count).ok();
    let open = open.map_or_else(String::new, |open| format!("{open} of "));
    let wanted = connections_max as u64 + FILES_BESIDE_CONNECTIONS;
    let text = format!("{open}{limit}");
    if limit < wanted {
        let hint = format!("raise the limit to {wanted}: `LimitNOFILE=` of the unit");
        return Note::warn(text, &hint);
    }
    Note::ok(text)
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::makedev;

    use super::*;

    #[test]
    fn a_lock_is_known_by_its_device_and_its_inode() {
        let locks = "1: FLOCK  ADVISORY  WRITE 11 08:02:77 0 EOF\n\
                     2: FLOCK  ADVISORY  READ 12 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 14 00:1f:5 0 EOF\n";
        let holder = |major, minor, inode| holder_in(locks, (makedev(major, minor), inode));

        assert_eq!(holder(0xfe, 0, 77), Some(13));
        assert_eq!(holder(8, 2, 77), Some(11));
        assert_eq!(holder(8, 3, 77), None);
        assert_eq!(holder(0xfe, 0, 7), None);
        assert_eq!(holder(0, 0x2a, 5), Some(14), "as btrfs has it");
    }
}
