//! Figures from before a reprocessing are kept, compared, and seen by nobody else.

use super::compaction::{answers, assert_nothing_is_left_over, compact};
use super::crash::{copy, remove_marks};
use super::flips::verify;
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    DifferenceQuery, Fact, GroupKey, Ledger, LedgerError, Retention, SliceScope, Which,
};

pub(super) fn all_of(reprocessing: Option<u64>) -> DifferenceQuery {
    DifferenceQuery {
        reprocessing,
        scopes: None,
        begin: at(-1000),
        end: at(1000),
        which: Which::All,
        after: None,
        limit: 1000,
    }
}

/// `id: hour scope old -> new` for each row, read in pages of two.
pub(super) fn differences(ledger: &SledLedger, query: &DifferenceQuery) -> Vec<String> {
    let mut query = DifferenceQuery { limit: 2, ..query.clone() };
    let mut lines = Vec::new();
    loop {
        let page = ledger.differences(&query).unwrap();
        for row in &page.rows {
            let hour = (row.period.begin_secs() - START_SECS) / HOUR_SECS;
            let (old, new) = (row.old, row.new);
            lines.push(format!(
                "{}: {hour} {} {}x {} -> {}x {}",
                row.reprocessing,
                row.scope,
                old.rows,
                old.price.to_text(0),
                new.rows,
                new.price.to_text(0)
            ));
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return lines,
        }
    }
}

fn reprocess(ledger: &SledLedger, scopes: &[&str], (first, last): (i64, i64), price: i128) -> u64 {
    let id = ledger.add_reprocessing(&reprocessing_of(scopes, (first, last))).unwrap();
    finish(ledger, id, scopes, (first, last), price);
    id
}

/// Stages what is not staged yet.
fn finish(ledger: &SledLedger, id: u64, scopes: &[&str], (first, last): (i64, i64), price: i128) {
    for index in first..=last {
        ledger.stage_reprocessed(id, vec![priced(index, scopes, price)]).unwrap();
    }
    ledger.finish_reprocessing(id).unwrap();
}

fn open_keeping(path: &std::path::Path, keep_generations: u32) -> SledLedger {
    SledLedger::open(path, SledOptions { cache_size_mib: 8, disk_reserve_mib: 0, keep_generations })
        .unwrap()
}

#[test]
fn old_figures_stand_beside_the_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let pushed = pushed("cpu", hour(1), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![pushed], None)).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (1, 2))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(1, &["ann"], 70)]).unwrap();
    ledger.stage_reprocessed(id, vec![priced(2, &["ann"], 10)]).unwrap();

    // Not before it is finished.
    assert_eq!(ledger.generations().unwrap(), []);
    assert_eq!(differences(&ledger, &all_of(None)), [""; 0]);
    let unfinished = ledger.differences(&all_of(Some(id)));
    assert!(matches!(unfinished, Err(LedgerError::NoGeneration(found)) if found == id));
    ledger.finish_reprocessing(id).unwrap();

    let expected = ["1: 1 ann 1x 0.1 -> 1x 0.7", "1: 2 ann 1x 0.1 -> 1x 0.1"];
    for _ in 0..2 {
        assert_eq!(differences(&ledger, &all_of(None)), expected);
        assert_eq!(differences(&ledger, &all_of(Some(id))), expected);
        let changed = DifferenceQuery { which: Which::Changed, ..all_of(None) };
        assert_eq!(differences(&ledger, &changed), expected[..1]);
        let other = DifferenceQuery { scopes: Some(vec![scope("bob")]), ..all_of(None) };
        assert_eq!(differences(&ledger, &other), [""; 0]);
        let later = DifferenceQuery { begin: at(2), ..all_of(None) };
        assert_eq!(differences(&ledger, &later), expected[1..]);
        assert_eq!(summary(&ledger, &everything(&[])), [" 9x 8.01 1.41"]);
        assert_eq!(verify(&ledger), []);
        compact(&ledger);
    }
    assert_eq!(ledger.generations().unwrap()[0].id, id);
    drop(ledger);
    assert_eq!(differences(&open(folder.path()), &all_of(None)), expected);
    assert_nothing_is_left_over(folder.path());
}

#[test]
fn as_many_generations_are_kept_as_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_of_two(folder.path()));
    let ledger = open_keeping(folder.path(), 3);
    for (price, last) in [(20, 1), (30, 1), (40, 0)] {
        reprocess(&ledger, &["ann", "bob"], (0, last), price);
    }
    let newest = [
        "3: 0 ann 1x 0.3 -> 1x 0.4",
        "3: 0 bob 1x 0.3 -> 1x 0.4",
        "2: 1 ann 1x 0.2 -> 1x 0.3",
        "2: 1 bob 1x 0.2 -> 1x 0.3",
    ];
    assert_eq!(differences(&ledger, &all_of(None)), newest);
    let first = |ledger: &SledLedger| differences(ledger, &all_of(Some(1)));
    assert_eq!(first(&ledger)[0], "1: 0 ann 1x 0.1 -> 1x 0.2");
    assert_eq!(first(&ledger).len(), 4);

    // Of the first hour there are four, of the second three.
    compact(&ledger);

    assert_eq!(first(&ledger), ["1: 1 ann 1x 0.1 -> 1x 0.2", "1: 1 bob 1x 0.1 -> 1x 0.2"]);
    assert_eq!(differences(&ledger, &all_of(None)), newest);
    drop(ledger);
    let ledger = open_keeping(folder.path(), 2);
    compact(&ledger);
    assert!(matches!(ledger.differences(&all_of(Some(1))), Err(LedgerError::NoGeneration(1))));
    assert_eq!(differences(&ledger, &all_of(None)), newest);
    assert_eq!(verify(&ledger), []);
    drop(ledger);
    let ledger = open_keeping(folder.path(), 1);
    reprocess(&ledger, &["ann"], (3, 3), 50);
    compact(&ledger);
    assert_eq!(ledger.generations().unwrap(), []);
    assert_eq!(differences(&ledger, &all_of(None)), [""; 0]);
    assert_eq!(verify(&ledger), []);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
}

#[test]
fn what_was_not_replaced_is_no_generation() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (0, 3))).unwrap();
    let mut lost = priced(0, &["ann"], 70);
    lost.scopes.push(SliceScope { id: scope("bob"), fact: Fact::Lost });
    for slice in [lost, priced(1, &["ann", "bob"], 70), priced(3, &["ann", "bob"], 70)] {
        ledger.stage_reprocessed(id, vec![slice]).unwrap();
    }
    ledger.advance_reprocessing(id, at(0), &[scope("bob")]).unwrap();
    ledger.reset(&reset_of(&["ann"], at(3))).unwrap();

    ledger.finish_reprocessing(id).unwrap();

    let expected = ["1: 0 ann 1x 0.1 -> 1x 0.7", "1: 1 ann 1x 0.1 -> 1x 0.7"];
    assert_eq!(differences(&ledger, &all_of(None)), expected);
    assert_eq!(verify(&ledger), []);
    // What a reset takes away had no figures before.
    ledger.reset(&reset_of(&["ann"], at(1))).unwrap();
    assert_eq!(differences(&ledger, &all_of(None)), expected[..1]);
    // And what is forgotten is forgotten.
    let december = 31 * 24;
    let far = pushed("cpu", hour(december), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![far], None)).unwrap();
    let retention =
        Retention { rows_months: Some(0), sums_months: Some(0), ..Retention::default() };
    while ledger.retain(retention, at(december)).unwrap().slices > 0 {}
    assert_eq!(ledger.generations().unwrap(), []);
    compact(&ledger);
    assert_eq!(verify(&ledger), []);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
}

#[test]
fn periods_of_another_length_and_rows_that_are_new_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 3))).unwrap();
    let long = crate::usage::Period::new(at(0), at(4)).unwrap();
    let rows = [("ann", 400, 280, Some("vm-1"), None)];
    ledger.stage_reprocessed(id, vec![slice("cpu", long, &["ann"], &rows)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();

    let expected = [
        "1: 0 ann 1x 0.1 -> 1x 2.8",
        "1: 1 ann 1x 0.1 -> 0x 0",
        "1: 2 ann 1x 0.1 -> 0x 0",
        "1: 3 ann 1x 0.1 -> 0x 0",
    ];
    assert_eq!(differences(&ledger, &all_of(Some(id))), expected);
}

/// A kill at any length of the log: the figures of before, or those of after and what they were.
/// Then it goes on to its end.
#[test]
fn a_kill_leaves_the_old_figures_or_the_new_ones_with_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let (live, killed) = (folder.path().join("live"), folder.path().join("killed"));
    let ledger = ledger_of_two(&live);
    let length = || std::fs::metadata(live.join("db")).unwrap().len();
    let begin = length();
    let both = ["ann", "bob"];
    reprocess(&ledger, &both, (0, 3), 70);
    let after = (answers(&ledger), differences(&ledger, &all_of(None)));
    drop(ledger);
    let full = std::fs::read(live.join("db")).unwrap();
    let end = full.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    for entry in std::fs::read_dir(&live).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("snap.") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    for cut in (begin..end).step_by(389).chain([end]) {
        let _ = std::fs::remove_dir_all(&killed);
        copy(&live, &killed);
        std::fs::write(killed.join("db"), &full[..usize::try_from(cut).unwrap()]).unwrap();
        remove_marks(&killed);

        let ledger = open(&killed);

        let total = summary(&ledger, &everything(&[GroupKey::Type]));
        let kept = differences(&ledger, &all_of(None)).len();
        assert_eq!(verify(&ledger), [], "cut at {cut}");
        let task = ledger.reprocessings().unwrap().pop();
        seen.insert(task.as_ref().map(|one| one.finished));
        if total != ["cpu 8x 8 5.6"] {
            assert_eq!((kept, total), (0, vec!["cpu 8x 8 0.8".to_owned()]), "cut at {cut}");
            match task {
                None => drop(reprocess(&ledger, &both, (0, 3), 70)),
                Some(task) => finish(&ledger, task.id, &both, (0, 3), 70),
            }
            assert_eq!(verify(&ledger), [], "cut at {cut}, then finished");
        }
        let found = (answers(&ledger), differences(&ledger, &all_of(None)));
        assert_eq!(found, after, "cut at {cut}");
    }
    assert_eq!(seen, [None, Some(false), Some(true)].into(), "none, unfinished, finished");
}

#[test]
fn a_page_ends_after_so_many_periods_though_nothing_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 3))).unwrap();
    for (index, price) in [(0, 10), (1, 10), (2, 10), (3, 70)] {
        ledger.stage_reprocessed(id, vec![priced(index, &["ann"], price)]).unwrap();
    }
    ledger.finish_reprocessing(id).unwrap();
    let mut query = DifferenceQuery { which: Which::Changed, ..all_of(None) };

    let mut pages = Vec::new();
    loop {
        let page = ledger.differences(&query).unwrap();
        pages.push(page.rows.len());
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }

    assert_eq!(pages, [0, 1]);
}

#[test]
fn nothing_is_looked_at_again_before_another_reprocessing_is_finished() {
    use crate::ledger::sled::generations::Progress;
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    reprocess(&ledger, &["ann", "bob"], (0, 1), 20);
    let mut progress = Progress::default();
    let mut seen_in_pass = || {
        progress.begin_pass(&ledger.inner.catalog());
        let steps = std::iter::from_fn(|| ledger.drop_generations(&mut progress).unwrap());
        steps.sum::<u64>()
    };

    assert_eq!(seen_in_pass(), 2);
    assert_eq!(seen_in_pass(), 0);
    reprocess(&ledger, &["ann", "bob"], (1, 3), 30);

    // Of the second hour the older one goes.
    assert_eq!(seen_in_pass(), 5);
    assert_eq!(seen_in_pass(), 0);
    let oldest = ["1: 0 ann 1x 0.1 -> 1x 0.2", "1: 0 bob 1x 0.1 -> 1x 0.2"];
    assert_eq!(differences(&ledger, &all_of(Some(1))), oldest);
}
