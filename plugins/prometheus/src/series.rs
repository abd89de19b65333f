//! The series of an answer, read one by one into columns.
//!
//! Nothing but the row under way is kept beside the columns: label values go from the body's bytes
//! into the dictionaries. A row is only taken when it is beyond doubt: its scope was asked for, its
//! labels came once, its value is a finite number. One row that is not fails the whole answer.
//!
//! Most rows bring a text that their column did not have, such as the id of a resource: they cannot
//! be like a row before them. When there are others, the columns are compared once all are there.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;

use rated_plugin::access::excerpt;
use rated_plugin::decimal::Precision;
use rated_plugin::{
    Call, CollectRequest, Decimal, Error, RecordBatch, Result, UsageBatch, UsageBuilder, text_at,
};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::answer::DataReader;
use crate::query::LABELS_MAX;

/// Most series in one answer; a slice that has more is asked for in parts. Tests reach it.
const SERIES_MAX: usize = if cfg!(test) { 1000 } else { 1_000_000 };
const _: () = assert!(LABELS_MAX <= 64);
/// Rows between two looks at whether the call is cancelled.
const ROWS_PER_CHECK: usize = 4096;

/// Rows of usage as they come in.
pub(crate) struct Series<'a> {
    call: &'a Call,
    request: &'a CollectRequest,
    labels: &'a [String],
    precision: Precision,
    /// Empty = every scope.
    scopes: HashSet<&'a str>,
    row_count: usize,
    usage: Rows,
    /// What belongs to nobody, where every scope is asked for: it must not come twice either.
    nobodys: Rows,
    error: Option<Error>,
}

struct Rows {
    builder: UsageBuilder,
    /// Each row has a text that no row before has.
    are_all_new: bool,
}

impl<'a> Series<'a> {
    /// `labels`: the scope key, then the metric's groupby, then its metadata.
    pub(crate) fn new(
        call: &'a Call,
        request: &'a CollectRequest,
        labels: &'a [String],
        precision: Precision,
    ) -> Series<'a> {
        Series {
            call,
            request,
            labels,
            precision,
            scopes: request.scopes.iter().map(String::as_str).collect(),
            row_count: 0,
            usage: Rows::new(request),
            nobodys: Rows::new(request),
            error: None,
        }
    }

    pub(crate) fn finish(self) -> Result<RecordBatch> {
        let Series { request, labels, usage, nobodys, .. } = self;
        nobodys.finish(request, labels)?;
        usage.finish(request, labels)
    }

    fn push(&mut self, values: &[Cow<'_, str>], number: &str) -> Result<()> {
        if self.row_count == SERIES_MAX {
            return Err(Error::split(format!("must have at most {SERIES_MAX} series at once")));
        }
        if self.row_count.is_multiple_of(ROWS_PER_CHECK) {
            self.call.check_cancelled()?;
        }
        self.row_count += 1;
        let (scope, attributes) = (&*values[0], values[1..].iter().map(|value| Some(&**value)));
        if scope.is_empty() && self.scopes.is_empty() {
            // It was not asked for, so its value does not matter.
            let pushed = self.nobodys.builder.push_each(scope, Decimal::ZERO, attributes)?;
            self.nobodys.are_all_new &= pushed.has_new_text;
            return Ok(());
        }
        let quantity = self.precision.quantity(number).map_err(|error| {
            bad_series(self.labels, values, &format!("`{}` is {error}", excerpt(number)))
        })?;
        let pushed = self.usage.builder.push_each(scope, quantity, attributes)?;
        self.usage.are_all_new &= pushed.has_new_text;
        let is_foreign = || !self.scopes.is_empty() && !self.scopes.contains(scope);
        if pushed.has_new_scope && is_foreign() {
            return Err(bad_series(self.labels, values, "a scope that was not asked for"));
        }
        Ok(())
    }
}

impl Rows {
    fn new(request: &CollectRequest) -> Rows {
        let builder = UsageBuilder::new(&request.metric.groupby, &request.metric.metadata);
        Rows { builder, are_all_new: true }
    }

    fn finish(self, request: &CollectRequest, labels: &[String]) -> Result<RecordBatch> {
        let batch = self.builder.finish()?;
        if self.are_all_new {
            return Ok(batch);
        }
        let usage = UsageBatch::new(&batch)?;
        let attributes = request.metric.groupby.iter().chain(&request.metric.metadata);
        let attributes = attributes.filter_map(|name| usage.attribute(name));
        let columns: Vec<_> = [usage.scope_ids()].into_iter().chain(attributes).collect();
        let codes: Vec<&[i32]> = columns.iter().map(|column| &**column.keys().values()).collect();
        let Some(row) = repeated_row(&codes) else { return Ok(batch) };
        let text = |column| Cow::Borrowed(text_at(column, row).unwrap_or_default());
        let values: Vec<Cow<'_, str>> = columns.iter().map(|column| text(column)).collect();
        Err(bad_series(labels, &values, "came twice"))
    }
}

/// The first row that equals one before it in every column.
///
/// Rows that are equal so far share a number; once all numbers differ, no two rows are equal.
fn repeated_row(columns: &[&[i32]]) -> Option<usize> {
    let row_count = columns.first().map_or(0, |column| column.len());
    let mut numbers = vec![0_usize; row_count];
    let mut repeated = None;
    for column in columns {
        let mut known = HashMap::with_capacity(row_count);
        repeated = None;
        for (row, (number, code)) in numbers.iter_mut().zip(*column).enumerate() {
            let next = known.len();
            let found = *known.entry((*number, *code)).or_insert(next);
            if found != next && repeated.is_none() {
                repeated = Some(row);
            }
            *number = found;
        }
        repeated?;
    }
    repeated
}

fn bad_series(labels: &[String], values: &[Cow<'_, str>], what: &str) -> Error {
    let labels: Vec<String> = labels
        .iter()
        .zip(values)
        .map(|(label, value)| format!("{label}=\"{}\"", excerpt(value)))
        .collect();
    Error::bad_data(format!("series `{}`: {what}", labels.join(", ")))
}

impl<'de> DataReader<'de> for Series<'_> {
    fn read<D: Deserializer<'de>>(&mut self, data: D) -> Result<(), D::Error> {
        data.deserialize_map(VectorVisitor { series: self })
    }

    fn take_error(&mut self) -> Option<Error> {
        self.error.take()
    }
}

/// `{"resultType": "vector", "result": […]}`.
struct VectorVisitor<'r, 'a> {
    series: &'r mut Series<'a>,
}

impl<'de> Visitor<'de> for VectorVisitor<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `resultType` and `result`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut has_result = false;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "resultType" => {
                    let Text(result_type) = map.next_value()?;
                    if result_type != "vector" {
                        self.series.error = Some(Error::bad_data(format!(
                            "the query gives a {}, not a vector",
                            excerpt(&result_type)
                        )));
                        return Err(A::Error::custom("not a vector"));
                    }
                }
                "result" if has_result => return Err(A::Error::duplicate_field("result")),
                "result" => {
                    map.next_value_seed(ResultSeed { series: self.series })?;
                    has_result = true;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if has_result { Ok(()) } else { Err(A::Error::missing_field("result")) }
    }
}

struct ResultSeed<'r, 'a> {
    series: &'r mut Series<'a>,
}

impl<'de> DeserializeSeed<'de> for ResultSeed<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ResultSeed<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of series")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let labels = self.series.labels;
        let mut values: Vec<Cow<'de, str>> = vec![Cow::Borrowed(""); labels.len()];
        while let Some(number) = list.next_element_seed(RowSeed { labels, values: &mut values })? {
            if let Err(error) = self.series.push(&values, &number) {
                self.series.error = Some(error);
                return Err(A::Error::custom("refused"));
            }
        }
        Ok(())
    }
}

/// One series: fills `values`, gives the text of the number.
struct RowSeed<'r, 'de> {
    labels: &'r [String],
    values: &'r mut [Cow<'de, str>],
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_, 'de> {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_, 'de> {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series with `metric` and `value`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let RowSeed { labels, values } = self;
        values.fill(Cow::Borrowed(""));
        let mut number = None;
        let mut has_labels = false;
        while let Some(Text(key)) = map.next_key()? {
            match &*key {
                "metric" if has_labels => return Err(A::Error::duplicate_field("metric")),
                "value" if number.is_some() => return Err(A::Error::duplicate_field("value")),
                "metric" => {
                    map.next_value_seed(LabelsSeed { labels, values: &mut *values })?;
                    has_labels = true;
                }
                "value" => {
                    let (_, Text(text)) = map.next_value::<(IgnoredAny, Text<'de>)>()?;
                    number = Some(text);
                }
                "histogram" => {
                    return Err(A::Error::custom("a histogram is not a quantity"));
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !has_labels {
            return Err(A::Error::missing_field("metric"));
        }
        number.ok_or_else(|| A::Error::missing_field("value"))
    }
}

struct LabelsSeed<'r, 'de> {
    labels: &'r [String],
    values: &'r mut [Cow<'de, str>],
}

impl<'de> DeserializeSeed<'de> for LabelsSeed<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LabelsSeed<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of labels")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // At most so many labels are asked for.
        let mut seen = 0_u64;
        while let Some(Text(label)) = map.next_key()? {
            let Text(value) = map.next_value()?;
            if let Some(index) = self.labels.iter().position(|wanted| *wanted == label) {
                if seen >> index & 1 == 1 {
                    return Err(A::Error::custom(format_args!("the label `{label}` comes twice")));
                }
                seen |= 1 << index;
                self.values[index] = value;
            }
        }
        Ok(())
    }
}

/// A text that stays in the body unless it has escapes; serde's own `Cow` always copies.
struct Text<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}
