use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};

use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::sled::push::{SLICE_ROWS_MAX, split};
use crate::ledger::{
    CompletenessQuery, Fact, GroupKey, Ledger, LedgerError, PushOutcome, RatedSlice,
    ShapeErrorKind, SliceScope,
};
use crate::usage::{MetricId, Period, ScopeId};

fn ledger_of_ann(path: &std::path::Path) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu")]).unwrap();
    ledger.add_scopes(&[new_scope("ann")]).unwrap();
    ledger
}

#[test]
fn pushed_rows_are_read_like_any_and_move_no_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let of_hour = |index| {
        let rows = [("ann", 100, 10, Some("vm-1"), None), ("eve", 50, 5, None, Some("small"))];
        pushed("cpu", hour(index), &["ann", "eve"], &rows)
    };
    ledger.commit(vec![slice("cpu", hour(0), &["ann"], &[("ann", 1, 1, None, None)])]).unwrap();

    let outcome = ledger.push(push_of(vec![of_hour(0), of_hour(7)], None)).unwrap();

    assert_eq!(outcome, PushOutcome::Stored { rows: 4 });
    let check = |ledger: &SledLedger| {
        assert_eq!(
            summary(ledger, &everything(&[GroupKey::Scope, GroupKey::Time])),
            ["ann @0 2x 1.01 0.11", "ann @7 1x 1 0.1", "eve @0 1x 0.5 0.05", "eve @7 1x 0.5 0.05"]
        );
        assert_eq!(ledger.size().unwrap().rows, 5);
        let cursors = ledger.cursors().unwrap();
        assert_eq!(cursors.scopes, [scope("ann")]);
        assert_eq!(cursors.next_begin_secs.len(), 1);
        assert_eq!(cursors.next_begin_secs[&metric("cpu")], [at(1).timestamp()]);
        assert_eq!(ledger.scopes().unwrap().len(), 1);
        assert_eq!(ledger.scopes().unwrap()[0].last_processed, Some(at(0)));
        let query = CompletenessQuery { begin: at(0), end: at(9), scopes: None };
        assert_eq!(ledger.completeness(&query).unwrap().len(), 1);
    };
    check(&ledger);
    drop(ledger);
    check(&open(folder.path()));
}

#[test]
fn a_scope_known_from_pushed_rows_is_listed_last_when_it_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let rows = [("eve", 50, 5, None, None)];
    ledger.push(push_of(vec![pushed("net", hour(0), &["eve"], &rows)], None)).unwrap();
    ledger.add_scopes(&[new_scope("bob")]).unwrap();

    assert_eq!(ledger.add_scopes(&[new_scope("eve"), new_scope("ann")]).unwrap(), 1);

    for ledger in [ledger, open_again(folder.path())] {
        let names: Vec<_> = ledger.scopes().unwrap().into_iter().map(|scope| scope.id).collect();
        assert_eq!(names, ["ann", "bob", "eve"].map(scope));
        assert_eq!(ledger.cursors().unwrap().scopes, names);
        assert_eq!(
            ledger.cursors().unwrap().next_begin_secs[&metric("cpu")],
            [at(0).timestamp(); 3]
        );
        assert_eq!(summary(&ledger, &everything(&[attribute("project_id")])), ["eve 1x 0.5 0.05"]);
        let eve = slice("cpu", hour(0), &["eve"], &rows);
        ledger.commit(vec![eve]).unwrap();
        assert_eq!(summary(&ledger, &everything(&[])), [" 2x 1 0.1"]);
    }
}

/// A copy of what is on disk, opened.
fn open_again(path: &std::path::Path) -> SledLedger {
    let copy = path.join("copy");
    super::crash::copy_files(path, &copy);
    open(&copy)
}

#[test]
fn a_key_is_stored_once_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let push = |key| {
        let rows = [("ann", 100, 10, None, None)];
        push_of(vec![pushed("net", hour(0), &["ann"], &rows)], Some(key))
    };

    let first = ledger.push(push(("a", 1))).unwrap();
    let again = ledger.push(push(("a", 1))).unwrap();
    let other = ledger.push(push(("a", 2))).unwrap();
    drop(ledger);
    let ledger = open(folder.path());

    assert_eq!(first, PushOutcome::Stored { rows: 1 });
    assert_eq!((again, other), (PushOutcome::Known, PushOutcome::KeyTaken));
    assert_eq!(ledger.push(push(("a", 1))).unwrap(), PushOutcome::Known);
    assert_eq!(ledger.push(push(("b", 1))).unwrap(), PushOutcome::Stored { rows: 1 });
    assert_eq!(summary(&ledger, &everything(&[])), [" 2x 2 0.2"]);
}

#[test]
fn one_of_many_pushes_with_the_same_key_at_once_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let push = || {
        let rows = [("ann", 100, 10, None, None)];
        push_of(vec![pushed("net", hour(0), &["ann"], &rows)], Some(("a", 1)))
    };

    let outcomes: Vec<_> = std::thread::scope(|threads| {
        let push = || ledger.push(push()).unwrap();
        let handles: Vec<_> = (0..8).map(|_| threads.spawn(push)).collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    });

    let stored = outcomes.iter().filter(|outcome| **outcome == PushOutcome::Stored { rows: 1 });
    assert_eq!(stored.count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == PushOutcome::Known).count(), 7);
    assert_eq!(summary(&ledger, &everything(&[])), [" 1x 1 0.1"]);
}

#[test]
fn rows_may_have_no_scope() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let mut slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    slice.scopes.push(SliceScope { id: ScopeId::nobody(), fact: Fact::Collected });
    slice.rows.push(batch(&[("", 200, 20, Some("vm-9"), None)]));
    ledger.push(push_of(vec![slice], None)).unwrap();

    let page = ledger.rows(&all_rows(0, 10)).unwrap();

    let keys: Vec<_> = page.groups.iter().map(|group| group.scope_key.as_str()).collect();
    assert_eq!(keys, ["project_id", ""]);
    assert_eq!(lines_of(&page.groups[1]), ["0 net  2.00 0.20 vm-9 -"]);
    for key in [GroupKey::Scope, attribute("project_id")] {
        assert_eq!(summary(&ledger, &everything(&[key])), [" 1x 2 0.2", "ann 1x 0.01 0.01"]);
    }
    let mut of_nobody = everything(&[]);
    of_nobody.filters.attributes.insert("project_id".to_owned(), vec![String::new()]);
    assert_eq!(summary(&ledger, &of_nobody), [" 1x 2 0.2"]);
    assert_eq!(summary(&open_again(folder.path()), &of_nobody), [" 1x 2 0.2"]);
}

#[test]
fn periods_need_no_grid() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let odd = Period::from_secs(START_SECS + 61, START_SECS + 4_000).unwrap();
    let rows = [("ann", 100, 10, None, None)];
    ledger.push(push_of(vec![pushed("net", odd, &["ann"], &rows)], None)).unwrap();

    let page = ledger.rows(&all_rows(0, 10)).unwrap();

    assert_eq!(page.groups[0].period, odd);
}

/// Of one row: attributes as (column, whether it is JSON, text).
fn row_with(attributes: &[(&str, bool, &str)]) -> RecordBatch {
    let plain = batch(&[("ann", 100, 10, None, None)]);
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for name in ["scope_id", "qty", "price"] {
        fields.push(plain.schema().field_with_name(name).unwrap().clone());
        columns.push(Arc::clone(plain.column_by_name(name).unwrap()));
    }
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    for (name, is_json, text) in attributes {
        let mut field = Field::new(*name, dictionary.clone(), true);
        if *is_json {
            let encoding = ("rated.encoding".to_owned(), "json".to_owned());
            field = field.with_metadata(HashMap::from([encoding]));
        }
        fields.push(field);
        columns.push(texts([Some(*text)]));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn slice_with(rows: Vec<RecordBatch>) -> RatedSlice {
    RatedSlice { rows, ..pushed("net", hour(0), &["ann"], &[("ann", 100, 10, None, None)]) }
}

#[test]
fn attributes_of_the_same_name_are_told_apart_and_keep_their_types() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let both = row_with(&[("groupby.x", false, "a"), ("metadata.x", true, "{\"n\":1}")]);
    let other = row_with(&[("metadata.x", true, "\"b\""), ("metadata.y", false, "c")]);

    ledger.push(push_of(vec![slice_with(vec![both, other])], None)).unwrap();

    let page = ledger.rows(&all_rows(0, 10)).unwrap();
    let rows = &page.groups[0].rows;
    let schema = rows.schema();
    let is_json = |field: &&Arc<Field>| field.metadata().get("rated.encoding").is_some();
    let json: Vec<_> = schema.fields().iter().filter(is_json).map(|field| field.name()).collect();
    assert_eq!(json, ["metadata.x"]);
    assert_eq!(schema.fields().len(), 6);
    assert_eq!(summary(&ledger, &everything(&[attribute("x")])), ["a 1x 1 0.1", "b 1x 1 0.1"]);
    assert_eq!(summary(&ledger, &everything(&[attribute("y")])), [" 1x 1 0.1", "c 1x 1 0.1"]);
    let mut of_b = everything(&[]);
    of_b.filters.attributes.insert("x".to_owned(), vec!["b".to_owned()]);
    assert_eq!(summary(&ledger, &of_b), [" 1x 1 0.1"]);
}

#[test]
fn more_attributes_than_a_block_holds_are_kept_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let named = |begin: usize, count: usize| {
        let names: Vec<_> =
            (begin..begin + count).map(|number| format!("groupby.{number:0>120}")).collect();
        row_with(&names.iter().map(|name| (name.as_str(), false, "x")).collect::<Vec<_>>())
    };

    let fits = slice_with(vec![named(0, 256), named(200, 256), named(400, 256)]);
    ledger.push(push_of(vec![fits], None)).unwrap();
    let too_many = ledger.push(push_of(vec![slice_with(vec![named(0, 257)])], None));

    let page = ledger.rows(&all_rows(0, 10)).unwrap();
    assert_eq!(page.total, 3);
    assert!(page.groups.iter().all(|group| group.rows.num_columns() == 3 + 256));
    let is_too_much = |error: &LedgerError| match error {
        LedgerError::Shape { kind, .. } => matches!(kind, ShapeErrorKind::TooMuch { .. }),
        _ => false,
    };
    assert!(is_too_much(&too_many.unwrap_err()));
    let long = MetricId { name: "x".repeat(256), alt_name: "x".repeat(256) };
    let long = RatedSlice { metric: long, ..slice_with(vec![named(0, 1)]) };
    assert!(is_too_much(&ledger.push(push_of(vec![long], None)).unwrap_err()));
    assert_eq!(ledger.rows(&all_rows(0, 10)).unwrap().total, 3);
}

#[test]
fn a_big_slice_is_split_and_nothing_is_lost() {
    let row: Row<'_> = ("ann", 100, 10, None, None);
    let mut big = slice("cpu", hour(0), &["ann"], &[]);
    big.rows = [70_000, 0, 100_000, 300_000].map(|count| batch(&vec![row; count])).into();

    let sizes = split(big).map(|slice| slice.rows.iter().map(RecordBatch::num_rows).sum());

    let full = SLICE_ROWS_MAX;
    assert_eq!(sizes.collect::<Vec<usize>>(), [full, full, full, 470_000 - 3 * full]);
}

/// No scale holds a tiny number and a huge one: each row would be a block of its own.
#[test]
fn rows_of_too_many_scales_are_refused_and_harm_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let mut slice = pushed("net", hour(0), &["ann"], &[("ann", 1, 1, None, None)]);
    let of_scale = |row: i128| match row % 2 {
        0 => decimals([1 + row], 28),
        _ => decimals([10_i128.pow(37) + row], 0),
    };
    let like = slice.rows[0].clone();
    let batch = |row: i128| {
        let mut columns = like.columns().to_vec();
        columns[1] = of_scale(row);
        let mut fields: Vec<_> = like.schema().fields().iter().cloned().collect();
        let qty = arrow_schema::Field::new("qty", columns[1].data_type().clone(), false);
        fields[1] = std::sync::Arc::new(qty);
        let schema = std::sync::Arc::new(arrow_schema::Schema::new(fields));
        arrow_array::RecordBatch::try_new(schema, columns).unwrap()
    };
    slice.rows = (0..3000).map(batch).collect();
    let few = crate::ledger::RatedSlice { rows: slice.rows[..50].to_vec(), ..slice.clone() };

    let error = ledger.push(push_of(vec![slice], None)).unwrap_err();

    assert!(matches!(error, LedgerError::Shape { .. }), "{error}");
    ledger.push(push_of(vec![few], None)).unwrap();
    drop(ledger);
    assert_eq!(open(folder.path()).size().unwrap().rows, 50);
}

#[test]
fn a_visit_sees_the_rows_of_all_pages_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of_ann(folder.path());
    let rows_of = |index| [("ann", 100 + index, 10, Some("vm-1"), None); 3];
    for index in 0..4 {
        let slices = vec![pushed("net", hour(index), &["ann"], &rows_of(i128::from(index)))];
        ledger.push(push_of(slices, None)).unwrap();
    }
    let visit = |offset, limit, groups_max: usize| {
        let mut seen = Vec::new();
        let mut groups = 0;
        let mut visit = |group: crate::ledger::RowsGroup| {
            seen.extend(lines_of(&group));
            groups += 1;
            if groups == groups_max { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        ledger.visit_rows(&all_rows(offset, limit), &mut visit).unwrap();
        seen
    };

    let whole = rows(&ledger, &all_rows(0, usize::MAX)).1;

    assert_eq!(whole.len(), 12);
    assert_eq!(visit(0, usize::MAX, 0), whole);
    assert_eq!(visit(2, 5, 0), whole[2..7]);
    assert_eq!(visit(0, usize::MAX, 2), whole[..6]);
    assert!(visit(0, 0, 0).is_empty());
}
