//! What is too old is forgotten, and nothing else.

use chrono::{DateTime, Utc};

use super::compaction::{assert_nothing_is_left_over, compact};
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::reset::reset_of;
use super::support::*;
use crate::ledger::sled::store::Table;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{GroupKey, Ledger, LedgerError, Retained, Retention, SummaryQuery};

const DAY: i64 = 24;
/// So many hours from the begin of November on: November, December, January.
const HOURS: i64 = 92 * DAY;

fn ledger_of_three_months(path: &std::path::Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob")]).unwrap();
    for index in (0..HOURS).step_by(6) {
        let rows = [
            ("ann", i128::from(index), 3, Some("vm-1"), Some("small")),
            ("bob", 5, 1, None, Some("large")),
        ];
        let slice = pushed("cpu", hour(index), &["ann", "bob"], &rows);
        ledger.push(push_of(vec![slice], None)).unwrap();
    }
    ledger
}

fn data_size(ledger: &std::path::Path) -> u64 {
    let files = std::fs::read_dir(ledger.join("data")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn forget(ledger: &SledLedger, retention: Retention, now: DateTime<Utc>) -> Retained {
    let mut all = Retained::default();
    loop {
        let step = ledger.retain(retention, now).unwrap();
        all.slices += step.slices;
        all.rows += step.rows;
        all.push_keys += step.push_keys;
        all.reprocessings += step.reprocessings;
        all.revisions += step.revisions;
        if !step.has_more {
            return all;
        }
    }
}

fn of(rows_months: Option<u32>, sums_months: Option<u32>) -> Retention {
    Retention { rows_months, sums_months, ..Retention::default() }
}

fn all(keys: &[GroupKey]) -> SummaryQuery {
    SummaryQuery { end: at(HOURS), ..everything(keys) }
}

#[test]
fn rows_go_and_their_sums_stay() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_three_months(folder.path());
    let by_scope = summary(&ledger, &all(&[GroupKey::Scope, GroupKey::Time]));
    compact(&ledger);
    let (size, data_size_before) = (ledger.size().unwrap(), data_size(folder.path()));

    let forgot = forget(&ledger, of(Some(1), None), at(HOURS - 1));

    assert_eq!((forgot.slices, forgot.rows), (30 * 4, 30 * 8));
    assert_eq!(forget(&ledger, of(Some(1), None), at(HOURS - 1)), Retained::default());
    let check = |ledger: &SledLedger| {
        assert_eq!(summary(ledger, &all(&[GroupKey::Scope, GroupKey::Time])), by_scope);
        assert_eq!(ledger.size().unwrap().rows, size.rows - 240);
        let gone = ledger.summarize(&all(&[attribute("flavor")])).unwrap_err();
        let text = "rows of periods up to 2026-11-30T18:00:00Z are not kept any more, only their \
                    sums are";
        assert_eq!(gone.to_string(), text);
        assert!(matches!(ledger.rows(&all_rows(0, 10)).unwrap_err(), LedgerError::RowsGone { .. }));
        let december = SummaryQuery { begin: at(30 * DAY), ..all(&[attribute("flavor")]) };
        assert_eq!(summary(ledger, &december).len(), 2);
        let network = SummaryQuery {
            filters: crate::ledger::Filters {
                types: Some(vec!["net".to_owned()]),
                ..crate::ledger::Filters::default()
            },
            ..all(&[attribute("flavor")])
        };
        assert!(ledger.summarize(&network).unwrap().is_empty());
    };
    check(&ledger);
    compact(&ledger);
    check(&ledger);
    assert!(data_size(folder.path()) < data_size_before);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
    check(&open(folder.path()));
}

#[test]
fn later_the_sums_go_too() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_three_months(folder.path());
    compact(&ledger);

    let forgot = forget(&ledger, of(Some(0), Some(1)), at(HOURS - 1));

    assert_eq!((forgot.slices, forgot.rows), ((30 + 31) * 4, (30 + 31) * 8));
    compact(&ledger);
    let by_month = summary(&ledger, &all(&[attribute("month")]));
    assert_eq!(by_month.len(), 2, "{by_month:?}");
    assert_eq!(ledger.size().unwrap().rows, 31 * 8);
    drop(ledger);
    assert_nothing_is_left_over(folder.path());
    assert_eq!(summary(&open(folder.path()), &all(&[attribute("month")])), by_month);
}

#[test]
fn a_clock_that_runs_ahead_drops_nothing_that_was_not_seen_to_pass() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_three_months(folder.path());

    let forgot = forget(&ledger, of(Some(3), Some(3)), at(HOURS * 1000));

    assert_eq!(forgot, Retained::default());
}

#[test]
fn a_reset_of_what_was_forgotten_takes_its_sums() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_three_months(folder.path());
    forget(&ledger, of(Some(2), None), at(HOURS + 40 * DAY));
    assert_eq!(ledger.size().unwrap().rows, 92 * 8);
    forget(&ledger, of(Some(1), None), at(HOURS - 1));

    let outcome = ledger.reset(&reset_of(&["ann"], at(0))).unwrap();

    assert_eq!(outcome.rows_removed, 62 * 4);
    assert_eq!(ledger.size().unwrap().rows, 62 * 4);
    assert_eq!(summary(&ledger, &all(&[GroupKey::Scope])), ["bob 368x 18.4 3.68"]);
}

#[test]
fn old_figures_that_cannot_be_forgotten_keep_no_rows() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_three_months(folder.path());
    ledger.add_scopes(&[new_scope("eve")]).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["eve"], (0, 1))).unwrap();
    let place = hour(0).begin_secs().cast_unsigned() ^ (1 << 63);
    let key = [id.to_be_bytes().as_slice(), &place.to_be_bytes(), &[0; 12]].concat();
    ledger.inner.store.put_as_it_is(Table::Generations, &key, b"damaged");

    let retention = of(Some(0), Some(1));
    let mut forgotten = 0;
    let error = loop {
        match ledger.retain(retention, at(HOURS)) {
            Ok(step) => forgotten += step.rows,
            Err(error) => break error,
        }
        assert!(forgotten < 10_000);
    };

    assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    assert_eq!(forgotten, 2 * 61 * 4);
    assert_eq!(ledger.size().unwrap().rows, 2 * 31 * 4);
}

/// What gives room may use some of the room that is kept free.
#[test]
fn old_figures_are_forgotten_on_a_disk_that_is_nearly_full() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 1))).unwrap();
    ledger.stage_reprocessed(id, vec![priced(0, &["ann"], 70)]).unwrap();
    ledger.finish_reprocessing(id).unwrap();
    let december = pushed("cpu", hour(31 * DAY), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![december], None)).unwrap();
    let free = ledger.inner.space.free().unwrap();
    drop(ledger);
    // A change that gives no room is refused, unless somebody gives back a third of the disk.
    let disk_reserve_mib = u32::try_from((free + free / 2) >> 20).unwrap();
    let options = SledOptions { disk_reserve_mib, ..SledOptions::default() };
    let ledger = SledLedger::open(folder.path(), options).unwrap();
    let full = ledger.add_scopes(&[new_scope("eve")]).unwrap_err();
    assert!(matches!(full, LedgerError::DiskFull { .. }), "{full}");
    assert_eq!(ledger.generations().unwrap().len(), 1);

    forget(&ledger, of(Some(0), Some(0)), at(31 * DAY));

    assert_eq!(ledger.generations().unwrap(), []);
}
