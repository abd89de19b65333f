//! REST.md replayed: every recorded request is sent to the built daemon, section by section, and
//! every answer is compared with the recorded one.
//!
//! Where the daemon differs on purpose stands in `tests/data/contract/differences.toml`, with the
//! words of REST.md that ask for it. A section begins with a fresh daemon, and with what the
//! recording had there without showing it (`tests/data/contract/unshown.toml`). What the recorded
//! server could not be asked stands in the same form in `tests/data/contract/ours.md`.
//!
//! The section on authentication is asked by callers whom a real Keystone knows.
//!
//! The sections that are not replayed, and the client's requests (part 2), are not for this test:
//! the client itself is run by `cloudkittyclient.rs`.
#![forbid(unsafe_code)]

mod callers;
mod check;
mod expected;
mod markup;
mod notes;
mod placeholders;
mod record;
mod wire;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rated_tests::Daemon;
use tempfile::TempDir;

use crate::callers::Callers;
use crate::check::{Outcome, Replay};
use crate::notes::{Differences, Unshown};
use crate::record::Section;

/// Daemons that run at the same time.
const DAEMONS_MAX: usize = 4;

const CONFIG: &str = r#"
[daemon]
state_dir = "state"
[api]
listen = "127.0.0.1:0"
[collect]
# Nothing happens unless a request asks for it.
schedule = "0 0 0 1 1 *"
fetchers = []
scope_key = "project_id"
metrics = "metrics.toml"
[rating.hashmap]
enabled = false
"#;

/// For the section that is about it.
const CORS: &str = "[api.cors]\nallowed_origins = [\"http://valid.example.com\"]\n";
const CORS_SECTION: u32 = 20;

/// Of which callers are asked who they are.
const AUTHENTICATION_SECTION: u32 = 19;

fn data(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn configure(folder: &Path, section: u32, callers: Option<&Callers>) -> PathBuf {
    let more = if section == CORS_SECTION { CORS } else { "" };
    let (auth, more) = match callers {
        Some(callers) => ("keystone", callers.config()),
        None => ("none", more.to_owned()),
    };
    let file = folder.join("rated.toml");
    let config = CONFIG.replace("[api]\n", &format!("[api]\nauth = \"{auth}\"\n"));
    fs::write(&file, format!("{config}{more}")).unwrap();
    fs::write(folder.join("metrics.toml"), data("contract/metrics.toml")).unwrap();
    file
}

fn replay(section: &Section, unshown: &Unshown, differences: &Differences) -> Outcome {
    let folder = TempDir::new().unwrap();
    let callers = (section.number == AUTHENTICATION_SECTION).then(|| Callers::start(folder.path()));
    let translated = callers.as_ref().map(|callers| {
        let sections = record::read(&callers.translate(&data("REST.md")));
        let found = sections.into_iter().find(|one| one.number == section.number);
        found.expect("ids are no numbers of sections")
    });
    let section = translated.as_ref().unwrap_or(section);
    let config = configure(folder.path(), section.number, callers.as_ref());
    let daemon = Daemon::start(&config);
    let outcome = Replay::new(&daemon, section, callers.as_ref()).run(unshown, differences);
    daemon.stop();
    outcome
}

#[test]
fn every_recorded_answer_is_ours_or_differs_on_purpose() {
    let text = data("REST.md");
    let mut sections = record::read(&text);
    sections.extend(record::read(&data("contract/ours.md")));
    let unshown: Unshown = toml::from_str(&data("contract/unshown.toml")).unwrap();
    let differences: Differences = toml::from_str(&data("contract/differences.toml")).unwrap();
    let (head, _) = text.split_once("\n## Contents").expect("a head before the contents");
    let notes = (unshown, differences);
    let mistakes = notes::mistakes(head, &sections, &notes);
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));

    // For work on one of them: CONTRACT_SECTION=9.
    let only = std::env::var("CONTRACT_SECTION").ok();
    let is_skipped =
        |section: &Section| notes.1.skip.iter().any(|skip| skip.section == section.number);
    let replayed: Vec<&Section> = sections
        .iter()
        .filter(|section| !is_skipped(section))
        .filter(|section| only.as_ref().is_none_or(|only| *only == section.number.to_string()))
        .collect();
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..DAEMONS_MAX {
            scope.spawn(|| {
                while let Some(section) = replayed.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = replay(section, &notes.0, &notes.1);
                    outcomes.lock().unwrap().push((*section, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap();
    outcomes.sort_by_key(|(section, _)| section.number);

    println!("{}", table(&outcomes, &sections, &notes.1));
    let failures: Vec<String> =
        outcomes.into_iter().flat_map(|(_, outcome)| outcome.failures).collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

fn table(
    outcomes: &[(&Section, Outcome)],
    sections: &[Section],
    differences: &Differences,
) -> String {
    let mut text = format!(
        "{:>3} {:<50} {:>8} {:>11} {:>10} {:>9} {:>6}\n",
        "", "section", "requests", "as recorded", "500 -> 400", "otherwise", "failed"
    );
    let mut total = [0; 5];
    for (section, outcome) in outcomes {
        let Outcome { as_recorded, refused, by_the_table, failures } = outcome;
        let row = [section.examples.len(), *as_recorded, *refused, *by_the_table, failures.len()];
        for (sum, figure) in total.iter_mut().zip(row) {
            *sum += figure;
        }
        let Section { number, title, .. } = section;
        writeln!(text, "{number:>3} {title:<50} {}", figures(row)).expect("writing to a string");
    }
    writeln!(text, "{:>3} {:<50} {}", "", "together", figures(total)).expect("writing to a string");
    text.push_str("\nOtherwise, on purpose:\n");
    for difference in &differences.difference {
        writeln!(text, "{:>3} {}", difference.section, difference.reason())
            .expect("writing to a string");
    }
    text.push_str("\nNot replayed:\n");
    for skip in &differences.skip {
        let section = sections.iter().find(|section| section.number == skip.section);
        let count = section.map_or(0, |section| section.examples.len());
        writeln!(text, "{:>3} {} ({count} requests)", skip.section, skip.reason)
            .expect("writing to a string");
    }
    text
}

fn figures([requests, as_recorded, refused, otherwise, failed]: [usize; 5]) -> String {
    format!("{requests:>8} {as_recorded:>11} {refused:>10} {otherwise:>9} {failed:>6}")
}

#[test]
fn the_whole_record_is_read() {
    let sections = record::read(&data("REST.md"));
    let differences: Differences = toml::from_str(&data("contract/differences.toml")).unwrap();

    let numbers: Vec<u32> = sections.iter().map(|section| section.number).collect();
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    for section in &sections {
        let is_skipped = differences.skip.iter().any(|skip| skip.section == section.number);
        assert!(is_skipped || !section.examples.is_empty(), "section {} is empty", section.number);
    }
}
