//! `verify` tells what is damaged, each thing once, and nothing that is sound.

use super::compaction::{compact, slices};
use super::flips::verify;
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::sled::slice::Slice;
use crate::ledger::sled::store::Table;
use crate::ledger::{Finding, Ledger, Remedy, Retention};

/// A push of one row in the month that begins so many hours after the first.
fn push_at(ledger: &SledLedger, index: i64) {
    let rows = [("ann", 1, 1, Some("vm-1"), None)];
    ledger.push(push_of(vec![pushed("net", hour(index), &["ann"], &rows)], None)).unwrap();
}

const DECEMBER: i64 = 30 * 24;
const JANUARY: i64 = 61 * 24;

/// Its scope with rows has gone out of it, the one without has stayed.
#[test]
fn figures_without_rows_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let mixed = slice("cpu", hour(4), &["ann", "bob"], &[("ann", 5, 5, None, None)]);
    ledger.commit(vec![mixed]).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann", "bob"], (4, 4))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(4, &["ann", "bob"], 70)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();

    ledger.reset(&reset_of(&["ann"], at(4))).unwrap();

    assert_eq!(verify(&ledger), []);
}

#[test]
fn slices_whose_rows_were_forgotten_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let mixed = slice("cpu", hour(4), &["ann", "bob"], &[("ann", 5, 5, None, None)]);
    ledger.commit(vec![mixed]).unwrap();
    push_at(&ledger, DECEMBER);
    let retention = Retention { rows_months: Some(0), ..Retention::default() };
    while ledger.retain(retention, at(DECEMBER)).unwrap().slices > 0 {}

    ledger.reset(&reset_of(&["ann"], at(4))).unwrap();

    assert_eq!(verify(&ledger), []);
}

#[test]
fn a_slice_of_a_metric_that_is_not_known_is_told() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_of_two(folder.path()));
    let strange = Slice { metric: 77, ..slices(folder.path()).swap_remove(0) };
    let ledger = open(folder.path());
    let (key, record) = (strange.key().bytes(), strange.encode());
    ledger.inner.store.put_as_it_is(Table::Slices, &key, &record);

    let findings = verify(&ledger);

    let is_it = |finding: &&Finding| finding.detail == "its metric is not known";
    assert_eq!(findings.iter().filter(is_it).count(), 1, "{findings:?}");
}

#[test]
fn a_sum_of_slices_that_are_gone_is_told() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_of_two(folder.path()));
    let ledger = open(folder.path());
    push_at(&ledger, DECEMBER);
    compact(&ledger);
    drop(ledger);
    let november: Vec<Slice> = slices(folder.path());
    let ledger = open(folder.path());
    for slice in &november[..november.len() - 1] {
        ledger.inner.store.remove_as_it_is(Table::Slices, &slice.key().bytes());
    }

    // What is not what was written is told as that, and compared with nothing.
    let (mut findings, mut from) = (Vec::new(), Some("sums..0".to_owned()));
    while let Some(position) = from {
        let step = ledger.verify(Some(&position)).unwrap();
        findings.extend(step.findings);
        from = step.next;
    }

    let is_it = |finding: &&Finding| finding.detail == "they are not those of its slices";
    let told: Vec<&Finding> = findings.iter().filter(is_it).collect();
    assert!(told.iter().all(|finding| finding.remedy == Remedy::Rebuild));
    // Of the day. The month is the sum of its days.
    assert_eq!(told.len(), 1, "{findings:?}");
}

/// Between two steps the ledger goes on: files come and go.
#[test]
fn what_goes_between_two_steps_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    push_at(&ledger, DECEMBER);
    push_at(&ledger, JANUARY);
    let mut names: Vec<_> = std::fs::read_dir(folder.path().join("data")).unwrap().collect();
    names.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let december = names[1].as_ref().unwrap().path();
    let mut bytes = std::fs::read(&december).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&december, bytes).unwrap();
    let (mut findings, mut from, mut files) = (Vec::new(), None, 0);
    loop {
        let step = ledger.verify(from.as_deref()).unwrap();
        findings.extend(step.findings);
        let Some(next) = step.next else { break };
        files += usize::from(next.starts_with("files."));
        // The first of three was looked at.
        if files == 2 {
            let retention = Retention { sums_months: Some(1), ..Retention::default() };
            while ledger.retain(retention, at(JANUARY)).unwrap().slices > 0 {}
            compact(&ledger);
        }
        from = Some(next);
    }

    let is_it = |finding: &&Finding| finding.file.as_deref().is_some_and(|f| f.contains("2026-12"));
    assert_eq!(findings.iter().filter(is_it).count(), 1, "{findings:?}");
}
