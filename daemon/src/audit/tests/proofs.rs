//! What an audit proves, and what it does not.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rust_decimal::Decimal;

use rated_plugin::decimal_column;

use super::support::*;
use crate::audit::*;
use crate::ledger::{Fact, Filters, Ledger, RatedBy, RatedSlice, Retention, SliceScope};
use crate::usage::{MetricId, with_decimals};

#[test]
fn what_was_rated_by_older_rules_is_proved_by_them() {
    let fixture = Fixture::new();
    fixture.store(0, TWO, "0");
    fixture.set_price("0.1");
    fixture.store(1, TWO, "0");
    fixture.set_price("0.25");
    fixture.store(2, TWO, "0");

    let (counts, findings) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 9, equal: 9, ..AuditCounts::default() });
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_price_that_is_another_is_told_with_its_row_and_its_rules() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0.01");

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.rows, counts.equal, counts.different), (6, 3, 3));
    assert_eq!(counts.outcome(), AuditOutcome::Wrong);
    let Finding::Difference(last) = findings.last().unwrap() else { panic!("{findings:?}") };
    assert_eq!((findings.len(), last.row, last.scope.as_str()), (3, 0, "b"));
    let Finding::Difference(second) = &findings[1] else { panic!("{findings:?}") };
    assert_eq!((second.row, second.scope.as_str(), second.period.begin()), (1, "a", at(1)));
    assert_eq!((second.stored, second.computed), (decimal("0.31"), decimal("0.3")));
    assert_eq!((second.rated_by[0].module.as_str(), second.rated_by[0].revision), ("per-unit", 1));
    assert!(second.is_by_same_libraries);
}

#[test]
fn another_library_than_the_one_that_rated_proves_nothing() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    let old = fixture.plugins.newest.lock().unwrap()[0].clone();
    fixture.change(|module| module.library = "cd");

    let (without, _) = fixture.audit();
    fixture.plugins.kept.lock().unwrap().push(old);
    let (with, _) = fixture.audit();

    let other = AuditCounts { rows: 3, equal_by_other_library: 3, ..AuditCounts::default() };
    assert_eq!(without, other);
    assert_eq!(with, AuditCounts { rows: 3, equal: 3, ..AuditCounts::default() });
}

#[test]
fn what_cannot_be_rated_is_counted_apart_and_told_once() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0");
    fixture.plugins.newest.lock().unwrap().clear();

    let (counts, findings) = fixture.audit();

    let expected = AuditCounts { rows: 6, not_compared: 6, ..AuditCounts::default() };
    assert_eq!(counts, expected);
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, "there is no rating module `per-unit`");
    let page = fixture.explain("a", 0, 10);
    assert!(matches!(&page.groups[0].way, Way::Lost { reason } if *reason == told.reason));
}

/// A module that looks at all rows of a scope gets all of them, though a block ends between them.
#[test]
fn rows_of_a_scope_are_seen_together_where_that_matters() {
    let fixture = Fixture::new();
    fixture.change(|module| module.shares = true);
    let many: Vec<(&str, &str)> =
        (0..20_000).map(|row| (if row < 15_000 { "a" } else { "b" }, "1")).collect();
    fixture.store(0, &many, "0");

    let (counts, findings) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 20_000, equal: 20_000, ..AuditCounts::default() });
    assert!(findings.is_empty());
    let page = fixture.explain("a", 14_990, 20);
    assert_eq!((page.total, page.groups.len()), (15_000, 1));
    assert_eq!((page.groups[0].first_row, page.groups[0].rows.len()), (14_990, 10));
    assert!(page.groups[0].rows.iter().all(|row| row.computed() == row.stored));
}

#[test]
fn pushed_rows_were_rated_elsewhere() {
    let fixture = Fixture::new();
    let prices = decimal_column(&[decimal("7"), decimal("8"), decimal("9")]).unwrap();
    let rows = vec![with_decimals(&batch(TWO), "price", prices).unwrap()];
    let metric = MetricId { name: "cpu".to_owned(), alt_name: "cpu".to_owned() };
    let slices = vec![RatedSlice { metric, ..slice(0, rows, Arc::new([])) }];
    fixture.push(slices);

    let (counts, _) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 3, pushed: 3, ..AuditCounts::default() });
    let page = fixture.explain("a", 0, 10);
    assert_eq!((page.total, &page.groups[0].way), (2, &Way::Pushed));
    assert_eq!(page.groups[0].rows[1].stored, decimal("9"));
}

#[test]
fn an_audit_ends_when_nobody_listens() {
    let fixture = Fixture::new();
    fixture.store(0, TWO, "0");
    let request = AuditRequest { begin: at(-30), end: at(100), filters: Filters::default() };

    let parts: (&dyn Ledger, _, _) = (&*fixture.ledger, &fixture.rating, &fixture.handle());
    let ended = audit(parts, &request, &mut |_| ControlFlow::Break(()));

    assert!(matches!(ended, Err(AuditError::Stopped)));
}

#[test]
fn a_module_that_fails_leaves_its_rows_out() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    let revision = fixture.ledger.kv_revision("rating/per-unit").unwrap();
    fixture.set_price("13");
    let by = RatedBy {
        module: "per-unit".to_owned(),
        revision: revision + 1,
        library: "ab".to_owned(),
        config: String::new(),
    };
    let prices = decimal_column(&[Decimal::ONE; 3]).unwrap();
    let rows = vec![with_decimals(&batch(TWO), "price", prices).unwrap()];
    fixture.ledger.commit(vec![slice(1, rows, Arc::new([by]))]).unwrap();

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.equal, counts.not_compared), (3, 3));
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, "rating module `per-unit` failed: thirteen");
    assert_eq!(told.period.begin(), at(1));
}

/// Each look at a scope lists slices, decodes rows, and calls the module.
#[test]
fn a_module_that_always_fails_is_not_asked_for_each_scope() {
    let fixture = Fixture::new();
    fixture.set_price("13");
    let revision = fixture.ledger.kv_revision("rating/per-unit").unwrap();
    let ids: Vec<String> = (0..40).map(|number| format!("s{number}")).collect();
    let new: Vec<_> = ids.iter().map(|id| new_scope(id)).collect();
    fixture.ledger.add_scopes(&new).unwrap();
    let by = RatedBy {
        module: "per-unit".to_owned(),
        revision,
        library: "ab".to_owned(),
        config: String::new(),
    };
    let rows: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "1")).collect();
    let prices = decimal_column(&[Decimal::ONE; 40]).unwrap();
    let rows = vec![with_decimals(&batch(&rows), "price", prices).unwrap()];
    let fact = |id: &String| SliceScope { id: scope(id), fact: Fact::Collected };
    let scopes = ids.iter().map(fact).collect();
    let slice = RatedSlice { scopes, ..slice(0, rows, Arc::new([by])) };
    fixture.ledger.commit(vec![slice]).unwrap();

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.rows, counts.not_compared), (40, 40));
    assert_eq!(findings.len(), 1, "{findings:?}");
    let mut calls = 0;
    fixture.change(|module| calls = module.calls.load(Ordering::Relaxed));
    assert!(calls < 20, "{calls}");
}

#[test]
fn a_scope_key_that_was_changed_since_makes_no_difference() {
    let fixture = Fixture::new();
    fixture.change(|module| module.sees = Some(KEY));
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.change_scope_key("a", "domain_id");

    let (counts, findings) = fixture.audit();

    assert_eq!(counts, AuditCounts { rows: 3, equal: 3, ..AuditCounts::default() });
    assert!(findings.is_empty(), "{findings:?}");
    let page = fixture.explain("a", 0, 10);
    assert!(page.groups[0].rows.iter().all(|row| row.verdict == Verdict::Equal));
}

/// Records of older versions do not say what modules saw.
#[test]
fn where_the_scope_key_was_not_kept_another_price_is_no_difference() {
    let fixture = Fixture::new();
    fixture.change(|module| module.sees = Some(KEY));
    fixture.set_price("0.1");
    let slice = RatedSlice { rated_scope_key: None, ..fixture.rated(0, TWO, "0") };
    fixture.ledger.commit(vec![slice]).unwrap();
    let (before, _) = fixture.audit();
    fixture.change_scope_key("a", "domain_id");

    let (counts, findings) = fixture.audit();

    assert_eq!(before, AuditCounts { rows: 3, equal: 3, ..AuditCounts::default() });
    let expected = AuditCounts { rows: 3, equal: 1, not_compared: 2, ..AuditCounts::default() };
    assert_eq!(counts, expected);
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, KEY_NOT_KEPT);
    let page = fixture.explain("a", 0, 10);
    assert!(page.groups[0].rows.iter().all(|row| row.verdict == Verdict::NotComputed));
}

/// `fee = "0.25"` then, `fee = "0.30"` now.
#[test]
fn where_a_module_was_configured_otherwise_another_price_is_no_difference() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0.05");
    fixture.change(|module| module.config = "ef");

    let (counts, findings) = fixture.audit();

    // What comes out equal is proved all the same.
    let expected = AuditCounts { rows: 6, equal: 3, not_compared: 3, ..AuditCounts::default() };
    assert_eq!(counts, expected);
    let [Finding::NotCompared(told)] = &findings[..] else { panic!("{findings:?}") };
    assert_eq!(told.reason, OTHER_CONFIGURATION);
    let page = fixture.explain("a", 0, 10);
    let verdicts: Vec<Verdict> =
        page.groups.iter().flat_map(|group| &group.rows).map(|row| row.verdict).collect();
    assert!(verdicts.contains(&Verdict::Equal) && verdicts.contains(&Verdict::NotComputed));
    fixture.change(|module| module.config = "cd");
    assert_eq!(fixture.audit().0.different, 3);
}

#[test]
fn a_page_of_reasons_ends_early_and_goes_on_behind_what_came() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    for hour in 0..3 {
        fixture.store(hour, TWO, "0");
    }
    let whole = fixture.explain("a", 0, 10);

    let mut groups = Vec::new();
    let mut offset = 0;
    while offset < whole.total {
        let page = fixture.explain_while("a", (offset, 10), &|| false);
        assert_eq!((page.total, page.groups.len()), (whole.total, 1));
        offset += page.groups[0].rows.len();
        groups.extend(page.groups);
    }

    assert_eq!(groups.len(), 3);
    let rows = |groups: &[ExplainedGroup]| -> Vec<ExplainedRow> {
        groups.iter().flat_map(|group| group.rows.clone()).collect()
    };
    assert_eq!(rows(&groups), rows(&whole.groups));
}

/// A push of a metric that is called like its type stands beside what is collected of it.
#[test]
fn a_push_does_not_move_the_places_of_collected_rows() {
    let fixture = Fixture::new();
    let metric = MetricId { name: "cpu".to_owned(), alt_name: "cpu".to_owned() };
    fixture.ledger.set_metrics(std::slice::from_ref(&metric)).unwrap();
    fixture.set_price("0.1");
    let pushed = RatedSlice { metric: metric.clone(), ..fixture.rated(0, TWO, "5") };
    let pushed = RatedSlice { rated_by: Arc::new([]), rated_scope_key: None, ..pushed };
    fixture.push(vec![pushed]);
    let wrong = RatedSlice { metric, ..fixture.rated(0, TWO, "1") };
    fixture.ledger.commit(vec![wrong]).unwrap();

    let (counts, findings) = fixture.audit();

    let expected = AuditCounts { rows: 6, pushed: 3, different: 3, ..AuditCounts::default() };
    assert_eq!(counts, expected, "{findings:?}");
    let audited: Vec<(usize, Decimal)> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Difference(difference) if difference.scope == "a" => {
                Some((difference.row, difference.stored))
            }
            _ => None,
        })
        .collect();
    let page = fixture.explain("a", 0, 10);
    let mut explained = Vec::new();
    for group in page.groups.iter().filter(|group| group.way != Way::Pushed) {
        let rows = (group.first_row..).zip(&group.rows);
        explained.extend(rows.map(|(row, explained)| (row, explained.stored)));
    }
    assert_eq!(audited, [(0, decimal("1.15")), (1, decimal("1.3"))]);
    assert_eq!(explained, audited);
}

#[test]
fn so_many_differences_are_told_and_all_are_counted() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    let many: Vec<(&str, &str)> =
        (0..800).map(|row| (if row < 700 { "a" } else { "b" }, "1")).collect();
    for hour in 0..=24 {
        let (rows, more) = if hour % 24 == 0 { (many.as_slice(), "1") } else { (TWO, "0") };
        fixture.store(hour, rows, more);
    }

    let (counts, findings) = fixture.audit();

    assert_eq!((counts.equal, counts.different), (3 * 23, 1600));
    assert_eq!(findings.len(), DIFFERENCES_TOLD_MAX);
}

#[test]
fn an_audit_that_proves_nothing_says_so() {
    let nothing = AuditCounts::default();
    let equal = AuditCounts { rows: 9, equal: 9, ..nothing.clone() };
    let of = |change: fn(&mut AuditCounts)| {
        let mut counts = equal.clone();
        change(&mut counts);
        counts.outcome()
    };

    assert_eq!(equal.outcome(), AuditOutcome::Proved);
    assert_eq!(of(|counts| counts.pushed = 3), AuditOutcome::Proved);
    assert_eq!(nothing.outcome(), AuditOutcome::Incomplete);
    assert_eq!(of(|counts| counts.equal = 0), AuditOutcome::Incomplete);
    assert_eq!(of(|counts| counts.not_compared = 1), AuditOutcome::Incomplete);
    assert_eq!(of(|counts| counts.equal_by_other_library = 1), AuditOutcome::Incomplete);
    assert_eq!(of(|counts| counts.days_without_rows = 1), AuditOutcome::Incomplete);
    assert_eq!(of(|counts| counts.different = 1), AuditOutcome::Wrong);
    assert_eq!(of(|counts| counts.different_by_other_library = 1), AuditOutcome::Wrong);
    assert_eq!(of(|counts| counts.damages = 1), AuditOutcome::Wrong);
}

#[test]
fn a_damaged_part_hides_no_other_rows_of_its_hour() {
    let fixture = Fixture::new();
    let named = |name: &str| MetricId { name: name.to_owned(), alt_name: name.to_owned() };
    // By type one stands before the damaged one and one behind it.
    fixture.ledger.set_metrics(&[metric(), named("art"), named("net")]).unwrap();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0");
    for name in ["art", "net"] {
        let slice = RatedSlice { metric: named(name), ..fixture.rated(0, TWO, "0") };
        assert_eq!(fixture.ledger.commit(vec![slice]).unwrap()[0].rows_stored, 3);
    }
    fixture.damage_first_block();

    let (counts, findings) = fixture.audit();

    let expected =
        AuditCounts { rows: 12, equal: 9, not_compared: 3, damages: 1, ..AuditCounts::default() };
    assert_eq!(counts, expected, "{findings:?}");
    let [Finding::Damage(told)] = &findings[..] else { panic!("{findings:?}") };
    assert!(told.place.contains("metric `cpu (cpu_seconds)`"), "{told:?}");
}

#[test]
fn days_without_rows_are_counted_once() {
    let fixture = Fixture::new();
    fixture.set_price("0.1");
    fixture.store(0, TWO, "0");
    fixture.store(1, TWO, "0");
    fixture.push(vec![fixture.rated(24 * 40, TWO, "0")]);
    let retention = Retention { rows_months: Some(1), ..Retention::default() };
    while fixture.ledger.retain(retention, at(24 * 40)).unwrap().slices > 0 {}

    let (counts, _) = fixture.audit();

    assert_eq!((counts.rows, counts.days_without_rows), (0, 1));
    assert_eq!(counts.outcome(), AuditOutcome::Incomplete);
}
