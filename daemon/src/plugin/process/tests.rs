//! Columns and messages against what a broken or hostile process may send.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use proptest::prelude::*;
use rated_plugin::{
    CollectRequest, Decimal, Edit, Error, MetricDefinition, RecordBatch as Batch, Request, Status,
    UsageBatch, UsageBuilder, decimal_column,
};

use super::columns;
use super::message::{self, Call, Head, Load, Order};
use super::report::{self, Asked, Given, Report, Wanted};
use super::wire::{Reader, Writer};

const HEAD: Head = Head { number: 7, deadline_ns: i64::MAX, trace_id: [1; 16], span_id: [2; 8] };

/// A frame without its size, as it is read.
fn unframed(frame: &[u8]) -> Vec<u8> {
    frame[4..].to_vec()
}

fn columns_of(schema: &Schema, batch: Option<&Batch>) -> Vec<u8> {
    let mut writer = Writer::new(0);
    columns::put(&mut writer, schema, batch).unwrap();
    unframed(&writer.finish().unwrap())
}

fn read(frame: Vec<u8>) -> rated_plugin::Result<Option<Batch>> {
    let mut reader = Reader::new(frame);
    let _ = reader.u8();
    columns::take(reader, 1_000_000).map(|(_, batch)| batch)
}

fn usage(rows: &[(u8, i64, Option<u8>)]) -> Batch {
    let mut builder = UsageBuilder::new(&["flavor"], &["zone"]);
    for (scope, qty, flavor) in rows {
        let flavor = flavor.map(|flavor| format!("flavor-{flavor}"));
        let attributes = [flavor.as_deref(), Some("z")];
        builder.push(&format!("scope-{scope}"), Decimal::new(*qty, 3), &attributes).unwrap();
    }
    let batch = builder.finish().unwrap();
    let prices = decimal_column(&vec![Decimal::ONE; rows.len()]).unwrap();
    UsageBatch::new(&batch).unwrap().with_price(prices).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_arrives_as_it_was_sent(
        rows in prop::collection::vec((0..5_u8, any::<i64>(), prop::option::of(0..4_u8)), 0..200),
        cut in 0..100_usize,
    ) {
        let whole = usage(&rows);
        let begin = cut.min(whole.num_rows());
        let batch = whole.slice(begin, whole.num_rows() - begin);

        let found = read(columns_of(batch.schema_ref(), Some(&batch))).unwrap().unwrap();

        prop_assert_eq!(&found, &batch);
        prop_assert_eq!(found.schema_ref(), batch.schema_ref());
    }

    /// Whatever comes out of it is an error or a sound batch.
    #[test]
    fn damaged_columns_are_an_error_or_a_sound_batch(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let batch = usage(&[(1, 5, Some(1)), (2, 6, None), (1, 7, Some(2))]);
        let mut frame = columns_of(batch.schema_ref(), Some(&batch));
        for (at, byte) in flips {
            let at = at.index(frame.len());
            frame[at] ^= byte;
        }
        if is_cut {
            frame.truncate(length.index(frame.len()) + 1);
        }

        if let Ok(Some(found)) = read(frame) {
            for column in found.columns() {
                column.to_data().validate_full().unwrap();
            }
        }
    }

    #[test]
    fn nonsense_is_no_message(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Order::decode(bytes.clone());
        let _ = Report::decode(bytes.clone());
        let _ = read(bytes);
    }
}

#[test]
fn a_schema_alone_and_a_batch_without_columns_arrive() {
    let schema = usage(&[]).schema();
    assert_eq!(read(columns_of(&schema, None)).unwrap(), None);
    let bare = Arc::new(Schema::empty());
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(3));
    let batch = RecordBatch::try_new_with_options(bare.clone(), vec![], &options).unwrap();

    assert_eq!(read(columns_of(&bare, Some(&batch))).unwrap(), Some(batch));
}

#[test]
fn too_many_rows_or_columns_are_refused() {
    let batch = usage(&[(1, 5, None), (2, 6, None)]);
    let mut reader = Reader::new(columns_of(batch.schema_ref(), Some(&batch)));
    reader.u8().unwrap();
    assert!(columns::take(reader, 1).unwrap_err().message.contains("a batch of 2 rows"));

    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let fields: Vec<Field> =
        (0..1025).map(|at| Field::new(format!("c{at}"), DataType::Utf8, false)).collect();
    let wide = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![texts; 1025]).unwrap();
    let refused = read(columns_of(wide.schema_ref(), Some(&wide))).unwrap_err();
    assert!(refused.message.contains("1025 columns"), "{refused}");
}

#[test]
fn the_example_of_the_protocol_is_as_it_stands() {
    let frame = message::call(&HEAD, message::CHECK, |_| Ok(())).unwrap();

    let expected = [0x2a, 0, 0, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert_eq!(frame[..expected.len()], expected);
    assert_eq!((frame.len(), frame[20], frame.last()), (46, 0x7f, Some(&2)));
    let decoded = Order::decode(unframed(&frame)).unwrap();
    assert!(
        matches!(decoded, Order::Call(HEAD, ref call) if matches!(**call, Call::Check)),
        "{decoded:?}"
    );
}

#[test]
fn orders_arrive_as_they_were_given() {
    let (library, trusted) = ("/x.so".to_owned(), true);
    let load = Load { library, trusted, memory_bytes: 1 << 30, levels: 62, grace_secs: 10 };
    let decoded = Order::decode(unframed(&load.encode().unwrap())).unwrap();
    assert!(matches!(decoded, Order::Load(found) if found == load));

    let request = CollectRequest {
        metric: MetricDefinition::new("cpu").with_groupby(["a"]).with_metadata(["b"]),
        scope_key: "project".to_owned(),
        scopes: vec!["one".to_owned(), "two".to_owned()],
        begin: chrono::DateTime::UNIX_EPOCH,
        end: chrono::DateTime::from_timestamp(3600, 0).unwrap(),
    };
    let frame = message::call(&HEAD, message::COLLECT, |it| message::put_collect(it, &request));
    let decoded = Order::decode(unframed(&frame.unwrap())).unwrap();
    let Order::Call(HEAD, call) = decoded else { panic!("{decoded:?}") };
    assert!(matches!(*call, Call::Collect(found) if found == request));

    let request = Request::post("/x", "body");
    let frame = message::call(&HEAD, message::HANDLE, |it| message::put_request(it, &request));
    let decoded = Order::decode(unframed(&frame.unwrap())).unwrap();
    let Order::Call(HEAD, call) = decoded else { panic!("{decoded:?}") };
    assert!(matches!(*call, Call::Handle(found) if found == request));
}

#[test]
fn what_is_asked_and_given_arrives() {
    let edits = [Edit::put("a", "1"), Edit::put("empty", ""), Edit::remove("b")];
    let asked = Asked::KvApply { revision: 3, edits: &edits };
    let decoded = Report::decode(unframed(&Report::ask(7, 1, &asked).unwrap())).unwrap();
    let Report::Ask { call: 7, number: 1, wanted } = decoded else { panic!("{decoded:?}") };
    assert_eq!(wanted, Wanted::KvApply { revision: 3, edits: edits.to_vec() });

    let pairs = vec![("a".to_owned(), b"1".to_vec()), (String::new(), Vec::new())];
    let frame = Order::answer(1, &Ok(Given::Pairs(9, pairs.clone()))).unwrap();
    let decoded = Order::decode(unframed(&frame)).unwrap();
    let Order::Answer(1, Ok(mut reader)) = decoded else { panic!("{decoded:?}") };
    assert_eq!(report::take_pairs(&mut reader), Ok((9, pairs)));

    let error = Error { retryable: true, ..Error::split("too wide") };
    let frame = Order::answer(1, &Err(error.clone())).unwrap();
    let decoded = Order::decode(unframed(&frame)).unwrap();
    assert!(matches!(decoded, Order::Answer(1, Err(found)) if found == error));
}

#[test]
fn a_long_message_is_cut_between_two_letters() {
    let error = Error::new(Status::BadData, "ä".repeat(20_000));

    let frame = Report::outcome(7, &Err(error), |_| {}).unwrap();

    let decoded = Report::decode(unframed(&frame)).unwrap();
    let Report::Outcome(7, Err(found)) = decoded else { panic!("{decoded:?}") };
    assert_eq!((found.status, found.message.len()), (Status::BadData, 16 * 1024));
}
