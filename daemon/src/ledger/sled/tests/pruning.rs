//! What is kept for a time beside the figures goes after it, and nothing that somebody needs.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use rated_plugin::Edit;

use super::super::kv;
use super::super::store::Table;
use super::compaction::compact;
use super::flips::verify;
use super::generations::{all_of, differences};
use super::reprocessing::{ledger_of_two, priced, reprocessing_of};
use super::support::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    KvEdit, Ledger, LedgerError, Push, PushOutcome, RatedBy, RatedSlice, Retained, Retention,
};

const DAY: i64 = 24;
const INSTANCE: &str = "rating/hashmap";

/// Time has passed for certain up to then.
fn seen_until(ledger: &SledLedger, hours: i64) {
    let slice = pushed("seen", hour(hours), &["ann"], &[("ann", 1, 1, None, None)]);
    ledger.push(push_of(vec![RatedSlice { rated_by: [].into(), ..slice }], None)).unwrap();
}

fn forget(ledger: &SledLedger, retention: Retention, now: DateTime<Utc>) -> Retained {
    forget_in_steps(ledger, retention, now).0
}

/// And in how many steps.
fn forget_in_steps(
    ledger: &SledLedger,
    retention: Retention,
    now: DateTime<Utc>,
) -> (Retained, usize) {
    let mut all = Retained::default();
    for steps in 1.. {
        let step = ledger.retain(retention, now).unwrap();
        all.slices += step.slices;
        all.push_keys += step.push_keys;
        all.reprocessings += step.reprocessings;
        all.revisions += step.revisions;
        if !step.has_more {
            return (all, steps);
        }
    }
    unreachable!("there is an end")
}

fn push_at(ledger: &SledLedger, key: &str, hours: i64) -> PushOutcome {
    let slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    let push = push_of(vec![slice], Some((key, 1)));
    ledger.push(Push { at: at(hours), ..push }).unwrap()
}

#[test]
fn keys_of_pushes_go_when_they_are_old_enough() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    for number in 0..700 {
        push_at(&ledger, &format!("old-{number}"), 5);
    }
    push_at(&ledger, "new", 6);
    let days = |days| Retention { push_keys_days: Some(days), ..Retention::default() };
    let now = at(5 + 30 * DAY) + chrono::TimeDelta::seconds(1);

    // Nothing has been seen of those days.
    assert_eq!(forget(&ledger, days(30), now).push_keys, 0);
    seen_until(&ledger, 40 * DAY);
    assert_eq!(forget(&ledger, days(31), now).push_keys, 0);
    let ledger = {
        drop(ledger);
        open(folder.path())
    };
    assert_eq!(forget(&ledger, days(30), now).push_keys, 700);

    assert_eq!(push_at(&ledger, "new", 9), PushOutcome::Known);
    assert_eq!(push_at(&ledger, "old-1", 9), PushOutcome::Stored { rows: 1 });
    assert_eq!(verify(&ledger), []);
    // It looks once a day.
    assert_eq!(forget(&ledger, days(1), now).push_keys, 0);
    assert_eq!(forget(&ledger, days(1), now + chrono::TimeDelta::days(1)).push_keys, 2);
}

#[test]
fn finished_reprocessings_go_but_the_newest_and_those_with_figures_stay() {
    let folder = tempfile::tempdir().unwrap();
    drop(ledger_of_two(folder.path()));
    let open = |keep_generations| {
        let options = SledOptions { keep_generations, ..SledOptions::default() };
        SledLedger::open(folder.path(), options).unwrap()
    };
    let finish = |ledger: &SledLedger, hours: i64| {
        let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (hours, hours))).unwrap();
        ledger.stage_reprocessed(id, vec![priced(hours, &["ann"], 7)]).unwrap();
        ledger.finish_reprocessing(id).unwrap();
    };
    let ledger = open(2);
    finish(&ledger, 2);
    drop(ledger);
    let ledger = open(1);
    for _ in 0..70 {
        finish(&ledger, 1);
    }
    ledger.add_reprocessing(&reprocessing_of(&["bob"], (0, 0))).unwrap();
    for _ in 0..3 {
        finish(&ledger, 3);
    }
    let keep = |count| Retention { reprocessings: Some(count), ..Retention::default() };
    let ids = |ledger: &SledLedger| -> Vec<u64> {
        ledger.reprocessings().unwrap().iter().map(|found| found.id).collect()
    };
    drop(ledger);
    let ledger = open(2);

    assert_eq!(forget(&ledger, keep(2), at(9)).reprocessings, 71);

    assert_eq!(ids(&ledger), [1, 72, 74, 75]);
    assert_eq!(differences(&ledger, &all_of(Some(1))), ["1: 2 ann 1x 0.1 -> 1x 0.07"]);
    let next = at(3) + chrono::TimeDelta::days(1);
    seen_until(&ledger, 3 + DAY);
    assert_eq!(forget(&ledger, keep(0), next).reprocessings, 1);
    assert_eq!(ids(&ledger), [1, 72, 75]);
    assert_eq!(verify(&ledger), []);
    drop(ledger);
    let ledger = open(1);
    assert_eq!(ids(&ledger), [1, 72, 75]);
    // Figures that are not kept any more do not hold it.
    compact(&ledger);
    assert_eq!(forget(&ledger, keep(0), next).reprocessings, 1);
    assert_eq!(ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 0))).unwrap(), 76);
}

fn edit(ledger: &SledLedger, at_hours: i64, edits: &[(&str, Option<&str>)]) -> u64 {
    let edits = edits.iter().map(|(key, value)| Edit {
        key: (*key).to_owned(),
        value: value.map(|value| value.as_bytes().to_vec()),
    });
    let revision = ledger.kv_revision(INSTANCE).unwrap();
    let (author, at) = ("ann".to_owned(), at(at_hours));
    let edit = KvEdit { revision, edits: edits.collect(), author, at };
    ledger.kv_apply(INSTANCE, &edit).unwrap()
}

fn read(ledger: &SledLedger, revision: u64) -> Result<rated_plugin::KvPairs, LedgerError> {
    ledger.kv_scan(INSTANCE, revision, "").map(|(_, pairs)| pairs)
}

fn is_gone(ledger: &SledLedger, revision: u64) -> bool {
    let is_gone = matches!(read(ledger, revision), Err(LedgerError::RevisionGone { .. }));
    let get = ledger.kv_get(INSTANCE, revision, "a");
    assert_eq!(is_gone, matches!(get, Err(LedgerError::RevisionGone { .. })));
    is_gone
}

fn rated(index: i64, price: i128, revision: u64) -> RatedSlice {
    let by = |module: &str, revision| RatedBy {
        module: module.to_owned(),
        revision,
        library: "ab".repeat(32),
        config: "cd".repeat(32),
    };
    let rated_by = [by("noop", 0), by("hashmap", revision)].into();
    RatedSlice { rated_by, ..priced(index, &["ann"], price) }
}

/// Rows that were rated by it are there.
fn use_revision(ledger: &SledLedger, revision: u64) {
    let slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    let rated_by = rated(0, 1, revision).rated_by;
    ledger.push(push_of(vec![RatedSlice { rated_by, ..slice }], None)).unwrap();
}

const TEN_DAYS: Retention =
    Retention { rules_days: Some(10), rows_months: None, sums_months: None, ..NOTHING };
const NOTHING: Retention = Retention {
    rows_months: None,
    sums_months: None,
    push_keys_days: None,
    reprocessings: None,
    rules_days: None,
};

#[test]
fn rules_go_when_no_row_that_is_there_was_rated_by_them() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&[new_scope("ann")]).unwrap();
    let long = "x".repeat(100_000);
    edit(&ledger, 0, &[("a", Some("1")), ("b", Some(&long)), ("c", Some("1"))]);
    edit(&ledger, 0, &[("a", Some("2")), ("b", Some("2"))]);
    edit(&ledger, 0, &[("b", None), ("c", None)]);
    edit(&ledger, 0, &[("a", Some("4"))]);
    edit(&ledger, 1, &[("b", Some("5"))]);
    edit(&ledger, 20 * DAY, &[("a", None)]);
    edit(&ledger, 29 * DAY, &[("a", Some("7"))]);
    edit(&ledger, 29 * DAY, &[]);
    ledger.commit(vec![rated(0, 10, 2)]).unwrap();
    let id = ledger.add_reprocessing(&reprocessing_of(&["ann"], (0, 0))).unwrap();
    ledger.stage_reprocessed(id, vec![rated(0, 10, 4)]).unwrap();
    let before: Vec<_> = (0..=8).map(|revision| read(&ledger, revision).unwrap()).collect();
    let check = |ledger: &SledLedger, gone: &[u64]| {
        for (revision, before) in (0_u64..).zip(&before) {
            assert_eq!(is_gone(ledger, revision), gone.contains(&revision), "{revision}");
            if !gone.contains(&revision) {
                assert_eq!(read(ledger, revision).unwrap(), *before, "{revision}");
            }
        }
        assert_eq!(verify(ledger), []);
    };
    seen_until(&ledger, 30 * DAY);

    let forgot = forget(&ledger, TEN_DAYS, at(30 * DAY));

    // 5 was replaced within the ten days, 6 and 7 too.
    assert_eq!(forgot, Retained { revisions: 2, ..Retained::default() });
    check(&ledger, &[1, 3]);
    let keys = || ledger.inner.store.range(Table::Kv, Vec::new()..).count();
    // Six revisions; `a` at 2, 4, 6, 7, `b` at 2, 3, 5, and `c` at 1 and 3: 2 reads the first.
    assert_eq!(keys(), 6 + 4 + 3 + 2);
    // A restart changes nothing, and the day after 2 and 4 are needed as before.
    ledger.finish_reprocessing(id).unwrap();
    drop(ledger);
    let ledger = open(folder.path());
    seen_until(&ledger, 32 * DAY);
    assert_eq!(forget(&ledger, TEN_DAYS, at(32 * DAY)).revisions, 2);
    check(&ledger, &[1, 2, 3, 5]);
    let rows_too = Retention { rows_months: Some(0), ..TEN_DAYS };
    assert_eq!(forget(&ledger, rows_too, at(32 * DAY)).slices, 1);
    seen_until(&ledger, 50 * DAY);
    assert_eq!(forget(&ledger, rows_too, at(50 * DAY)).revisions, 3);
    check(&ledger, &[1, 2, 3, 4, 5, 6, 7]);
    let keys = ledger.inner.store.range(Table::Kv, Vec::new()..).count();
    assert_eq!(keys, 1 + 2);
}

/// Nothing is committed while a step looks.
#[test]
fn a_step_looks_at_some_of_a_long_key_only() {
    let steps_with_values_of = |size| {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        for _ in 0..10 {
            let revision = edit(&ledger, 0, &[("a", Some(&"x".repeat(size)))]);
            use_revision(&ledger, revision);
        }
        edit(&ledger, 0, &[]);
        edit(&ledger, 0, &[]);
        seen_until(&ledger, 30 * DAY);
        let (forgot, steps) = forget_in_steps(&ledger, TEN_DAYS, at(30 * DAY));
        assert_eq!(forgot.revisions, 1);
        steps
    };

    // Three, three, three and one.
    assert_eq!(steps_with_values_of(400_000), steps_with_values_of(10) + 3);
}

#[test]
fn what_is_kept_of_a_key_does_not_depend_on_where_a_step_ends() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let long = "x".repeat(400_000);
    // A step ends behind the third of either.
    for key in ["a", "b"] {
        for value in [Some(long.as_str()), Some(&long), Some(&long), None] {
            edit(&ledger, 0, &[(key, value)]);
        }
    }
    edit(&ledger, 0, &[]);
    for revision in [3, 4, 8] {
        use_revision(&ledger, revision);
    }
    seen_until(&ledger, 30 * DAY);

    forget(&ledger, TEN_DAYS, at(30 * DAY));

    let left = |key: &str| {
        let prefix = format!("{INSTANCE}\0{key}");
        let stored = ledger.inner.store.prefix(Table::Kv, prefix.as_bytes());
        let revisions = stored.map(|entry| kv::place_of(&entry.unwrap().0).unwrap().1);
        revisions.collect::<BTreeSet<u64>>()
    };
    // The mark is needed where the value before it is.
    assert_eq!((left("a"), left("b")), (BTreeSet::from([3, 4]), BTreeSet::new()));
    assert_eq!(read(&ledger, 3).unwrap().len(), 1);
    assert_eq!(read(&ledger, 4).unwrap(), []);
    assert_eq!(read(&ledger, 8).unwrap(), []);
    assert_eq!(verify(&ledger), []);
}

#[test]
fn a_revision_that_is_gone_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    edit(&ledger, 0, &[("a", Some("1"))]);
    edit(&ledger, 0, &[("a", Some("2"))]);
    seen_until(&ledger, 30 * DAY);

    forget(&ledger, TEN_DAYS, at(30 * DAY));

    let text = "revision 1 of the keys of `rating/hashmap` is not kept any more\n(hint: \
                `ledger.keep_rules_days` says how long those are kept that rated no row)";
    assert_eq!(read(&ledger, 1).unwrap_err().to_string(), text);
}

/// Keys that each edit writes (or removes), and which revisions rated rows.
fn edits() -> impl Strategy<Value = Vec<(Vec<(u8, bool)>, bool)>> {
    let change = (0_u8..4, any::<bool>());
    prop::collection::vec((prop::collection::vec(change, 0..4), any::<bool>()), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_is_kept_reads_as_before_and_nothing_else_is_left(edits in edits()) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = open(folder.path());
        let mut used = Vec::new();
        for (changes, is_used) in &edits {
            let changes: BTreeMap<String, Option<String>> = changes
                .iter()
                .map(|(key, is_put)| (format!("k{key}"), is_put.then(|| key.to_string())))
                .collect();
            let changes: Vec<(&str, Option<&str>)> =
                changes.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let revision = edit(&ledger, 0, &changes);
            if *is_used {
                used.push(revision);
                use_revision(&ledger, revision);
            }
        }
        let newest = edits.len() as u64;
        used.push(newest);
        let read_all = |revision: &u64| read(&ledger, *revision).unwrap();
        let before: Vec<_> = used.iter().map(read_all).collect();
        seen_until(&ledger, 30 * DAY);

        forget(&ledger, TEN_DAYS, at(30 * DAY));

        for (revision, before) in used.iter().zip(&before) {
            prop_assert_eq!(&read(&ledger, *revision).unwrap(), before);
        }
        for revision in (1..newest).filter(|revision| !used.contains(revision)) {
            prop_assert!(is_gone(&ledger, revision));
        }
        // Each value is read by a revision; each mark of a removal has a value before it.
        used.dedup();
        let mut needed = 0;
        for key in ["k0", "k1", "k2", "k3"] {
            let mut last = None;
            for revision in &used {
                let value = ledger.kv_get(INSTANCE, *revision, key).unwrap();
                needed += usize::from(value != last);
                last = value;
            }
        }
        let left = ledger.inner.store.range(Table::Kv, Vec::new()..).count();
        let revisions = used.len();
        // A value that was written again as it was is there twice.
        prop_assert!(left >= revisions + needed && left <= revisions + 4 * revisions);
        prop_assert_eq!(verify(&ledger), []);
    }
}
