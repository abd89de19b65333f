//! A page of sled that is torn, now or while the ledger is open: what is in it is an error, and
//! nobody waits for it.

use std::ops::ControlFlow;

use super::reprocessing::ledger_of_two;
use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::sled::store::{Failing, Table};
use crate::ledger::{Ledger, LedgerError, Visited};

fn tear(ledger: &SledLedger, failing: Failing) {
    *ledger.inner.store.failing.lock().unwrap() = Some(failing);
}

fn is_damaged<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Damaged { .. }))
}

/// sled gives its error again and again.
#[test]
fn who_goes_through_a_table_is_told_of_a_torn_page_once() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_two(folder.path());
    tear(&ledger, Failing::all_of(Table::Slices));
    let store = &ledger.inner.store;

    assert_eq!(store.range(Table::Slices, ..).take(9).count(), 1);
    assert_eq!(store.range_as_it_is(Table::Slices, ..).rev().take(9).count(), 1);
    assert_eq!(store.prefix(Table::Slices, &[]).take(9).count(), 1);
    let mut damaged = 0;
    let mut visit = |visited| {
        damaged += usize::from(matches!(visited, Visited::Damaged(_)));
        ControlFlow::Continue(())
    };
    ledger.visit_rows_past_damage(&all_rows(0, 9), &mut visit).unwrap();
    assert_eq!(damaged, 1);
}
