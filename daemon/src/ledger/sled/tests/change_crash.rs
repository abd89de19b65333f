//! What a kill leaves of pushes, resets and reprocessings: all or nothing.

use std::fs;
use std::path::Path;

use super::crash::{copy, remove_marks};
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{CompletenessQuery, GroupKey, Ledger, PushOutcome};

/// All that these changes touch, as text.
fn state(ledger: &SledLedger) -> String {
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let parts = [
        format!("{:?}", summary(ledger, &everything(&[GroupKey::Scope, GroupKey::Time]))),
        format!("{:?}", summary(ledger, &everything(&[attribute("flavor")]))),
        format!("{:?}", rows(ledger, &all_rows(0, 100))),
        format!("{:?}", ledger.scopes().unwrap()),
        format!("{:?}", ledger.cursors().unwrap()),
        format!("{:?}", ledger.completeness(&query).unwrap()),
        format!("{:?}", ledger.reprocessings().unwrap()),
        format!("{:?}", ledger.size().unwrap().rows),
    ];
    parts.join("\n")
}

fn push(ledger: &SledLedger) -> PushOutcome {
    let rows = [("eve", 1, 1, Some("vm-7"), None), ("ann", 2, 2, None, Some("large"))];
    let slices = (0..3).map(|index| pushed("net", hour(index), &["ann", "eve"], &rows)).collect();
    ledger.push(push_of(slices, Some(("a", 1)))).unwrap()
}

/// One change after the other, each durable.
fn steps() -> [fn(&SledLedger); 5] {
    [
        |ledger| assert_eq!(push(ledger), PushOutcome::Stored { rows: 6 }),
        |ledger| {
            ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
        },
        |ledger| {
            let staged = (0..4).map(|index| priced(index, &["ann", "bob"], 70)).collect();
            ledger.stage_reprocessed(1, staged).unwrap();
        },
        |ledger| {
            ledger.reset(&reset_of(&["ann"], at(2))).unwrap();
        },
        |ledger| ledger.finish_reprocessing(1).unwrap(),
    ]
}

#[test]
fn a_kill_at_any_length_of_the_log_leaves_whole_changes() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    let length = |path: &Path| fs::metadata(path.join("db")).unwrap().len();
    let ledger = ledger_of_two(&live);
    let mut stages = vec![(length(&live), state(&ledger))];
    for step in steps() {
        step(&ledger);
        stages.push((length(&live), state(&ledger)));
    }
    drop(ledger);
    let full = fs::read(live.join("db")).unwrap();
    let files = fs::read_dir(&live).unwrap().map(|entry| entry.unwrap().path());
    for path in files.filter(|path| path.to_string_lossy().contains("snap.")) {
        fs::remove_file(path).unwrap();
    }
    let last = stages.last().unwrap().clone();

    let mut seen = std::collections::BTreeSet::new();
    for cut in (stages[0].0..last.0).step_by(149).chain([last.0]) {
        let killed = folder.path().join("killed");
        let _ = fs::remove_dir_all(&killed);
        copy(&live, &killed);
        fs::write(killed.join("db"), &full[..usize::try_from(cut).unwrap()]).unwrap();
        remove_marks(&killed);

        let ledger = open(&killed);

        let found = state(&ledger);
        let acknowledged = stages.iter().rposition(|(length, _)| *length <= cut).unwrap();
        let matching = (acknowledged..stages.len()).find(|index| stages[*index].1 == found);
        let matching = matching.unwrap_or_else(|| panic!("cut at {cut}: {found}"));
        // A push alone is repeated by its key; the others go on where they were.
        if matching > 0 {
            assert_eq!(push(&ledger), PushOutcome::Known);
        }
        for step in &steps()[matching..] {
            step(&ledger);
        }
        assert_eq!(state(&ledger), last.1, "cut at {cut}");
        seen.insert(matching);
    }
    // Staging shows nothing: what follows it looks like what was before.
    assert!(seen.len() >= steps().len(), "{seen:?}");
}
