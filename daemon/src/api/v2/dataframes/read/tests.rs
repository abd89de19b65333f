use std::collections::{BTreeMap, HashMap};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int32Type;
use proptest::prelude::*;
use rated_plugin::{GROUPBY_PREFIX, METADATA_PREFIX, UsageBatch, text_at};
use rust_decimal::Decimal;

use super::*;

/// Names and values of an object, in order; a name may come twice.
type Members = Vec<(String, String)>;

#[derive(Debug, Clone)]
struct Point {
    unit: String,
    qty: i32,
    groupby: Members,
    metadata: Members,
}

fn members() -> impl Strategy<Value = Members> {
    // Few of each, so that they come again, in the same place and in others.
    proptest::collection::vec(("[a-c]|project_id", "[x-z]{1,2}|é\\\\u0041"), 0..5)
}

fn point() -> impl Strategy<Value = Point> {
    ("[uv]", any::<i32>(), members(), members()).prop_map(|(unit, qty, groupby, metadata)| Point {
        unit,
        qty,
        groupby,
        metadata,
    })
}

fn json(members: &Members) -> String {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("\"{name}\" : \"{value}\"")).collect();
    format!("{{{}}}", members.join(", "))
}

fn body(points: &[Point]) -> String {
    let points: Vec<String> = points
        .iter()
        .map(|Point { unit, qty, groupby, metadata }| {
            let (groupby, metadata) = (json(groupby), json(metadata));
            let vol = format!(r#"{{"unit": "{unit}", "qty": {qty}e-2}}"#);
            format!(r#"{{"vol": {vol}, "groupby": {groupby}, "metadata": {metadata}}}"#)
        })
        .collect();
    format!(
        r#"{{"dataframes": [{{"period": {{"begin": "2026-11-01T00:00:00", "end":
            "2026-11-01T01:00:00"}}, "usage": {{"t": [{}]}}}}]}}"#,
        points.join(",")
    )
}

/// Unit, quantity, scope and attributes of each row, by unit.
type Rows = BTreeMap<String, Vec<(Decimal, String, BTreeMap<String, String>)>>;

fn rows(slices: &[crate::ledger::RatedSlice]) -> Rows {
    let mut rows = Rows::new();
    for slice in slices {
        for batch in &slice.rows {
            let usage = UsageBatch::new(batch).unwrap();
            let schema = batch.schema();
            for row in 0..batch.num_rows() {
                let mut attributes = BTreeMap::new();
                for (field, column) in schema.fields().iter().zip(batch.columns()) {
                    let is_attribute = field.name().starts_with(GROUPBY_PREFIX)
                        || field.name().starts_with(METADATA_PREFIX);
                    if let Some(column) = column.as_dictionary_opt::<Int32Type>()
                        && is_attribute
                        && let Some(text) = text_at(column, row)
                    {
                        attributes.insert(field.name().clone(), text.to_owned());
                    }
                }
                let scope = usage.scope_at(row).to_owned();
                let row = (usage.qty_at(row).normalize(), scope, attributes);
                rows.entry(slice.unit.clone()).or_default().push(row);
            }
        }
    }
    rows
}

fn expected(points: &[Point]) -> Rows {
    let mut rows = Rows::new();
    for point in points {
        let mut attributes = BTreeMap::new();
        let mut scope = String::new();
        for (prefix, members) in
            [(GROUPBY_PREFIX, &point.groupby), (METADATA_PREFIX, &point.metadata)]
        {
            let last: HashMap<&String, &String> =
                members.iter().map(|(name, value)| (name, value)).collect();
            for (name, value) in last {
                let value = value.replace("\\u0041", "A");
                if prefix == GROUPBY_PREFIX && name == "project_id" {
                    scope = value;
                } else {
                    attributes.insert(format!("{prefix}{name}"), value);
                }
            }
        }
        let row = (Decimal::new(point.qty.into(), 2).normalize(), scope, attributes);
        rows.entry(point.unit.clone()).or_default().push(row);
    }
    rows
}

proptest! {
    #[test]
    fn points_are_what_was_sent(points in proptest::collection::vec(point(), 1..12)) {
        let body = body(&points);
        let mut stream = body.as_bytes();
        let mut reading = Reading::new("project_id");

        read_body(&mut Json::new(&mut stream), &mut reading).unwrap();

        prop_assert_eq!(&reading.problem, &None);
        let Reading { slices, mut texts, .. } = reading;
        prop_assert_eq!(rows(&slices.finish(&mut texts)), expected(&points));
    }
}
