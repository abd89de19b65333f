//! The series of an answer, read one by one into columns.
//!
//! Nothing but the row under way is kept beside the columns: label values go from the body's bytes
//! into the dictionaries. A row is only taken when it is beyond doubt: its scope was asked for, its
//! labels came once, its value is a finite number. One row that is not fails the whole answer.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use rated_plugin::access::excerpt;
use rated_plugin::decimal::Precision;
use rated_plugin::{Call, CollectRequest, Error, RecordBatch, Result, UsageBuilder};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use crate::answer::DataReader;

/// Most series in one answer; a slice that has more is asked for in parts. Tests reach it.
const SERIES_MAX: usize = if cfg!(test) { 1000 } else { 1_000_000 };
/// Rows between two looks at whether the call is cancelled.
const ROWS_PER_CHECK: usize = 4096;

/// Rows of usage as they come in.
pub(crate) struct Series<'a> {
    call: &'a Call,
    labels: &'a [String],
    precision: Precision,
    /// Empty = every scope.
    scopes: HashSet<&'a str>,
    hashers: [RandomState; 2],
    seen: HashSet<u128>,
    row_count: usize,
    builder: UsageBuilder,
    error: Option<Error>,
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
            labels,
            precision,
            scopes: request.scopes.iter().map(String::as_str).collect(),
            hashers: [RandomState::new(), RandomState::new()],
            seen: HashSet::new(),
            row_count: 0,
            builder: UsageBuilder::new(&request.metric.groupby, &request.metric.metadata),
            error: None,
        }
    }

    pub(crate) fn finish(self) -> Result<RecordBatch> {
        self.builder.finish()
    }

    fn push(&mut self, values: &[Cow<'_, str>], number: &str) -> Result<()> {
        if self.row_count == SERIES_MAX {
            return Err(Error::split(format!("must have at most {SERIES_MAX} series at once")));
        }
        if self.row_count.is_multiple_of(ROWS_PER_CHECK) {
            self.call.check_cancelled()?;
        }
        self.row_count += 1;
        let scope = &*values[0];
        let is_wanted = if self.scopes.is_empty() {
            // What belongs to nobody was not asked for.
            !scope.is_empty()
        } else if self.scopes.contains(scope) {
            true
        } else {
            return Err(self.bad_series(values, "a scope that was not asked for"));
        };
        if !self.seen.insert(self.fingerprint(values)) {
            return Err(self.bad_series(values, "came twice"));
        }
        if !is_wanted {
            return Ok(());
        }
        let quantity = self.precision.quantity(number).map_err(|error| {
            self.bad_series(values, &format!("`{}` is {error}", excerpt(number)))
        })?;
        let attributes: Vec<Option<&str>> =
            values[1..].iter().map(|value| Some(&**value)).collect();
        self.builder.push(scope, quantity, &attributes)
    }

    /// 128 bits from two keyed hashes stand for the whole label set: two different sets collide
    /// less often than memory fails, and then the answer is refused, not billed wrongly.
    fn fingerprint(&self, values: &[Cow<'_, str>]) -> u128 {
        let [first, second] = &self.hashers;
        u128::from(first.hash_one(values)) << 64 | u128::from(second.hash_one(values))
    }

    fn bad_series(&self, values: &[Cow<'_, str>], what: &str) -> Error {
        let labels: Vec<String> = self
            .labels
            .iter()
            .zip(values)
            .map(|(label, value)| format!("{label}=\"{}\"", excerpt(value)))
            .collect();
        Error::bad_data(format!("series `{}`: {what}", labels.join(", ")))
    }
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
        while let Some(Text(label)) = map.next_key()? {
            let Text(value) = map.next_value()?;
            if let Some(index) = self.labels.iter().position(|wanted| *wanted == label) {
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
