//! Small ways to say what goes into a ledger and what is in it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Decimal128Array, DictionaryArray, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use chrono::{DateTime, Utc};

use crate::ledger::sled::slice::Slice;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{
    Fact, Filters, GroupKey, Ledger, Measures, NewScope, Push, PushKey, RatedBy, RatedSlice,
    RowsGroup, RowsQuery, SliceScope, SummaryQuery,
};
use crate::usage::{MetricId, Period, ScopeId};

/// Begin of the first period: 2026-11-01T00:00:00Z.
pub(super) const START_SECS: i64 = 1_793_491_200;
pub(super) const HOUR_SECS: i64 = 3600;

pub(super) fn open(path: &Path) -> SledLedger {
    SledLedger::open(path, SledOptions { cache_size_mib: 8, ..SledOptions::default() }).unwrap()
}

pub(super) fn at(hour: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(START_SECS + hour * HOUR_SECS, 0).unwrap()
}

pub(super) fn hour(hour: i64) -> Period {
    Period::new(at(hour), at(hour + 1)).unwrap()
}

pub(super) fn scope(name: &str) -> ScopeId {
    ScopeId::new(name).unwrap()
}

pub(super) fn metric(name: &str) -> MetricId {
    MetricId { name: format!("source_{name}"), alt_name: name.to_owned() }
}

pub(super) fn new_scope(name: &str) -> NewScope {
    NewScope {
        id: scope(name),
        fetcher: "static".to_owned(),
        collector: "host".to_owned(),
        scope_key: "project_id".to_owned(),
        first_period: at(0),
        last_processed: None,
        active: true,
        found_at: at(3),
    }
}

/// A row: scope, quantity and price in hundredths, texts of `groupby.id` and `metadata.flavor`.
pub(super) type Row<'a> = (&'a str, i128, i128, Option<&'a str>, Option<&'a str>);

pub(super) fn decimals(values: impl IntoIterator<Item = i128>, scale: i8) -> ArrayRef {
    let values = Decimal128Array::from_iter_values(values);
    Arc::new(values.with_precision_and_scale(38, scale).unwrap())
}

pub(super) fn texts<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>())
}

pub(super) fn batch(rows: &[Row<'_>]) -> RecordBatch {
    let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let fields = vec![
        Field::new("scope_id", dictionary.clone(), false),
        Field::new("qty", DataType::Decimal128(38, 2), false),
        Field::new("groupby.id", dictionary.clone(), true),
        Field::new("metadata.flavor", dictionary, true),
        Field::new("price", DataType::Decimal128(38, 2), false),
    ];
    let columns = vec![
        texts(rows.iter().map(|row| Some(row.0))),
        decimals(rows.iter().map(|row| row.1), 2),
        texts(rows.iter().map(|row| row.3)),
        texts(rows.iter().map(|row| row.4)),
        decimals(rows.iter().map(|row| row.2), 2),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

pub(super) fn slice(name: &str, period: Period, scopes: &[&str], rows: &[Row<'_>]) -> RatedSlice {
    let fact = |name: &str| {
        let own: Vec<&Row<'_>> = rows.iter().filter(|row| row.0 == name).collect();
        match own.as_slice() {
            [] => Fact::NoData,
            own if own.iter().all(|row| row.1 == 0) => Fact::Zero,
            _ => Fact::Collected,
        }
    };
    RatedSlice {
        metric: metric(name),
        unit: "GiB".to_owned(),
        description: Some("what it is".to_owned()),
        period,
        scopes: scopes
            .iter()
            .map(|name| SliceScope { id: scope(name), fact: fact(name) })
            .collect(),
        rows: vec![batch(rows)],
        rated_by: vec![RatedBy {
            module: "hashmap".to_owned(),
            revision: 3,
            library: "ab".repeat(32),
            config: "cd".repeat(32),
        }]
        .into(),
        rated_scope_key: Some("project_id".into()),
    }
}

pub(super) fn everything(group_by: &[GroupKey]) -> SummaryQuery {
    SummaryQuery {
        begin: at(-1_000),
        end: at(1_000),
        filters: Filters::default(),
        group_by: group_by.to_vec(),
        measures: Measures::Sums,
    }
}

pub(super) fn attribute(name: &str) -> GroupKey {
    GroupKey::Attribute(name.to_owned())
}

/// A summary as sorted lines: keys, period's hour, rows, quantity, price.
pub(super) fn summary(ledger: &SledLedger, query: &SummaryQuery) -> Vec<String> {
    let mut lines = Vec::new();
    for group in ledger.summarize(query).unwrap() {
        let hour = group.period.map(|period| (period.begin_secs() - START_SECS) / HOUR_SECS);
        let hour = hour.map_or(String::new(), |hour| format!("@{hour} "));
        let keys = group.keys.join("|");
        lines.push(format!("{keys} {hour}{}x {} {}", group.rows, group.qty, group.price));
    }
    lines.sort();
    lines
}

pub(super) fn all_rows(offset: usize, limit: usize) -> RowsQuery {
    RowsQuery { begin: at(-1_000), end: at(1_000), filters: Filters::default(), offset, limit }
}

/// A page of rows as lines: hour, type, scope, quantity, price (as integers with scale), texts.
pub(super) fn rows(ledger: &SledLedger, query: &RowsQuery) -> (usize, Vec<String>) {
    let page = ledger.rows(query).unwrap();
    let mut lines = Vec::new();
    for group in &page.groups {
        lines.extend(lines_of(group));
    }
    (page.total, lines)
}

pub(super) fn lines_of(group: &RowsGroup) -> Vec<String> {
    let mut lines = Vec::new();
    {
        let hour = (group.period.begin_secs() - START_SECS) / HOUR_SECS;
        let text = |column: &str, row: usize| {
            let column = group.rows.column_by_name(column)?;
            let column = column.as_any().downcast_ref::<DictionaryArray<Int32Type>>()?;
            let texts = column.downcast_dict::<arrow_array::StringArray>()?;
            arrow_array::Array::is_valid(column, row)
                .then(|| arrow_array::ArrayAccessor::value(&texts, row).to_owned())
        };
        let decimal = |column: &str, row: usize| {
            let column = group.rows.column_by_name(column).unwrap();
            column.as_any().downcast_ref::<Decimal128Array>().unwrap().value_as_string(row)
        };
        for row in 0..group.rows.num_rows() {
            lines.push(format!(
                "{hour} {} {} {} {} {} {}",
                group.metric_type,
                text("scope_id", row).unwrap(),
                decimal("qty", row),
                decimal("price", row),
                text("groupby.id", row).unwrap_or("-".to_owned()),
                text("metadata.flavor", row).unwrap_or("-".to_owned()),
            ));
        }
    }
    lines
}

/// As `slice`, by somebody who pushes.
pub(super) fn pushed(name: &str, period: Period, scopes: &[&str], rows: &[Row<'_>]) -> RatedSlice {
    let metric = MetricId { name: name.to_owned(), alt_name: name.to_owned() };
    RatedSlice { metric, ..slice(name, period, scopes, rows) }
}

pub(super) fn push_of(slices: Vec<RatedSlice>, key: Option<(&str, u8)>) -> Push {
    let key = key.map(|(key, digest)| PushKey { key: key.to_owned(), digest: [digest; 32] });
    let (scope_key, author) = ("project_id".to_owned(), "ann".to_owned());
    Push { slices, scope_key, key, at: at(5), author }
}

/// The file that a slice's parts are in, to be damaged.
pub(super) fn data_file(ledger: &Path, slice: &Slice) -> File {
    let path = ledger.join("data").join(slice.data_file().to_string());
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

pub(super) fn flip_bit(ledger: &Path, slice: &Slice, offset: u64) {
    let file = data_file(ledger, slice);
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}
