//! Quantities as the source measured them become quantities as they are billed.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Decimal128Type, Int32Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Decimal128Array, RecordBatch};
use arrow_schema::{Field, Schema};
use arrow_select::filter::filter_record_batch;
use rated_plugin::{Error, Result};
use rust_decimal::Decimal;

use super::{Conversion, Metric, Mutation};

/// What is done to every quantity of a metric, so that every collector does it alike.
#[derive(Debug, Clone)]
pub struct Converter {
    conversion: Conversion,
    mutate: Mutation,
    skip_zero: bool,
}

/// Rows of one batch, converted.
#[derive(Debug, Clone, Default)]
pub struct Converted {
    /// In order; several when one decimal column cannot hold all quantities exactly.
    pub batches: Vec<RecordBatch>,
    /// By code of the column `scope_id`: whether one of the scope's quantities is not zero; `None`
    /// = it has no row. Rows that were skipped for being zero count.
    pub has_quantity: Vec<Option<bool>>,
}

impl Converter {
    pub fn new(metric: &Metric) -> Converter {
        Converter {
            conversion: Conversion::new(metric.factor, metric.offset),
            mutate: metric.mutate.clone(),
            skip_zero: metric.skip_zero,
        }
    }

    /// A batch of schema `usage/1` without `price`, checked. The error is of the kind `BadData`.
    pub fn convert(&self, batch: &RecordBatch) -> Result<Converted> {
        let qty = self.quantities(column(batch, "qty")?)?;
        let mut converted = Converted {
            batches: Vec::with_capacity(1),
            has_quantity: quantities_by_code(batch, &qty)?,
        };
        if self.skip_zero && qty.iter().any(Decimal::is_zero) {
            let keep: BooleanArray = qty.iter().map(|qty| Some(!qty.is_zero())).collect();
            let rows = filter_record_batch(batch, &keep).map_err(shape)?;
            let qty: Vec<Decimal> = qty.into_iter().filter(|qty| !qty.is_zero()).collect();
            split(&rows, &qty, &mut converted.batches)?;
        } else {
            split(batch, &qty, &mut converted.batches)?;
        }
        Ok(converted)
    }

    fn quantities(&self, column: &Decimal128Array) -> Result<Vec<Decimal>> {
        let scale = u8::try_from(column.scale())
            .map_err(|_| Error::bad_data("the scale of the column `qty` is negative"))?;
        let convert = |value: &i128| match self.conversion.apply(*value, scale) {
            Ok(qty) => Ok(mutated(&self.mutate, qty)),
            Err(error) => Err(Error::bad_data(error.to_string())),
        };
        column.values().iter().map(convert).collect()
    }
}

fn mutated(mutation: &Mutation, qty: Decimal) -> Decimal {
    let truth = |is: bool| if is { Decimal::ONE } else { Decimal::ZERO };
    match mutation {
        Mutation::None => qty,
        Mutation::NumBool => truth(!qty.is_zero()),
        Mutation::NotNumBool => truth(qty.is_zero()),
        Mutation::Floor => qty.floor(),
        Mutation::Ceil => qty.ceil(),
        Mutation::Map(map) => map.get(&qty).copied().unwrap_or_default(),
    }
}

/// The rows with these quantities, halved until a column holds each part exactly.
fn split(rows: &RecordBatch, qty: &[Decimal], batches: &mut Vec<RecordBatch>) -> Result<()> {
    if qty.is_empty() {
        return Ok(());
    }
    match rated_plugin::decimal_column(qty) {
        Ok(column) if is_readable(&column) => {
            batches.push(with_decimals(rows, "qty", column)?);
            Ok(())
        }
        Ok(_) | Err(Error { split: true, .. }) if qty.len() > 1 => {
            let (low, high) = qty.split_at(qty.len() / 2);
            split(&rows.slice(0, low.len()), low, batches)?;
            split(&rows.slice(low.len(), high.len()), high, batches)
        }
        Ok(_) => Err(Error::bad_data("a quantity does not fit a column")),
        Err(error) => Err(error),
    }
}

/// Who reads a column row by row reads decimals of 96 bits.
fn is_readable(column: &Decimal128Array) -> bool {
    column.values().iter().all(|value| value.unsigned_abs() < 1 << 96)
}

fn quantities_by_code(batch: &RecordBatch, qty: &[Decimal]) -> Result<Vec<Option<bool>>> {
    let scope_ids = scope_ids(batch)?;
    let mut by_code = vec![None; scope_ids.texts.len()];
    for (code, qty) in scope_ids.codes.iter().zip(qty) {
        let code = usize::try_from(*code).map_err(|_| Error::bad_data("a negative code"))?;
        let seen = by_code.get_mut(code).ok_or_else(|| Error::bad_data("a code without a text"))?;
        *seen = Some(seen.unwrap_or(false) || !qty.is_zero());
    }
    Ok(by_code)
}

/// The column `scope_id`, taken apart.
pub(crate) struct ScopeIds<'a> {
    pub(crate) codes: &'a [i32],
    pub(crate) texts: &'a arrow_array::StringArray,
}

pub(crate) fn scope_ids(batch: &RecordBatch) -> Result<ScopeIds<'_>> {
    let column = batch
        .column_by_name("scope_id")
        .and_then(|column| column.as_dictionary_opt::<Int32Type>())
        .ok_or_else(|| Error::bad_data("the batch has no dictionary column `scope_id`"))?;
    let texts = column
        .values()
        .as_string_opt::<i32>()
        .ok_or_else(|| Error::bad_data("the values of the column `scope_id` are not texts"))?;
    Ok(ScopeIds { codes: column.keys().values(), texts })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a Decimal128Array> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_primitive_opt::<Decimal128Type>())
        .ok_or_else(|| Error::bad_data(format!("the batch has no decimal column `{name}`")))
}

/// The batch with a decimal column set to these values; it is added when it is not there.
pub fn with_decimals(
    batch: &RecordBatch,
    name: &str,
    values: Decimal128Array,
) -> Result<RecordBatch> {
    let field = Arc::new(Field::new(name, values.data_type().clone(), false));
    let values: ArrayRef = Arc::new(values);
    let schema = batch.schema();
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    let mut columns = batch.columns().to_vec();
    if let Ok(index) = schema.index_of(name) {
        fields[index] = field;
        columns[index] = values;
    } else {
        fields.push(field);
        columns.push(values);
    }
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).map_err(shape)
}

/// The batch with a word about the unit of its quantities, for modules that look at it.
pub fn with_unit(batch: &RecordBatch, unit: &str) -> Result<RecordBatch> {
    let schema = batch.schema();
    let mut metadata = schema.metadata().clone();
    metadata.insert(rated_plugin::UNIT_KEY.to_owned(), unit.to_owned());
    let schema = Schema::new_with_metadata(schema.fields().clone(), metadata);
    RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).map_err(shape)
}

/// By value, for `map_err`.
#[expect(clippy::needless_pass_by_value, reason = "the form that `map_err` asks for")]
pub(crate) fn shape(error: arrow_schema::ArrowError) -> Error {
    Error::bad_data(format!("the columns do not fit together: {error}"))
}

#[cfg(test)]
mod tests {
    use arrow_array::{DictionaryArray, StringArray};

    use super::*;
    use crate::usage::{Factor, MetricId};

    fn metric(factor: (i64, i64), mutate: Mutation, skip_zero: bool) -> Metric {
        let name = "cpu".to_owned();
        Metric {
            id: MetricId { name: name.clone(), alt_name: name },
            unit: "core".to_owned(),
            description: None,
            groupby: Vec::new(),
            metadata: Vec::new(),
            factor: Factor { numerator: factor.0.into(), denominator: factor.1.into() },
            offset: Decimal::ZERO,
            mutate,
            collector: None,
            skip_zero,
            extra_args: serde_json::Map::new(),
        }
    }

    fn batch(rows: &[(&str, &str)]) -> RecordBatch {
        let scopes: DictionaryArray<Int32Type> = rows.iter().map(|(scope, _)| *scope).collect();
        let qty: Vec<i128> = rows
            .iter()
            .map(|(_, qty)| {
                let mut qty: Decimal = qty.parse().unwrap();
                qty.rescale(3);
                qty.mantissa()
            })
            .collect();
        let notes: StringArray = (0..rows.len()).map(|row| Some(format!("row {row}"))).collect();
        let columns: [(&str, ArrayRef); 2] =
            [("scope_id", Arc::new(scopes)), ("metadata.note", Arc::new(notes))];
        let qty = Decimal128Array::from(qty).with_precision_and_scale(38, 3).unwrap();
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        with_decimals(&batch, "qty", qty).unwrap()
    }

    fn texts(converted: &Converted) -> String {
        let mut lines = Vec::new();
        for batch in &converted.batches {
            let (scopes, qty) = (scope_ids(batch).unwrap(), column(batch, "qty").unwrap());
            for row in 0..batch.num_rows() {
                let code = usize::try_from(scopes.codes[row]).unwrap();
                let scale = u32::try_from(qty.scale()).unwrap();
                let value = Decimal::try_from_i128_with_scale(qty.value(row), scale).unwrap();
                lines.push(format!("{}={}", scopes.texts.value(code), value.normalize()));
            }
        }
        lines.join(" ")
    }

    fn check(metric: &Metric, rows: &[(&str, &str)], expected: &str) {
        let converted = Converter::new(metric).convert(&batch(rows)).unwrap();

        assert_eq!(texts(&converted), expected);
    }

    #[test]
    fn every_mutation_does_what_it_says() {
        let rows = [("a", "0"), ("b", "1.5"), ("c", "-2.5"), ("d", "11")];
        let map = Mutation::Map([(Decimal::new(110, 1), Decimal::TWO)].into());
        check(&metric((1, 1), Mutation::None, false), &rows, "a=0 b=1.5 c=-2.5 d=11");
        check(&metric((1, 1), Mutation::NumBool, false), &rows, "a=0 b=1 c=1 d=1");
        check(&metric((1, 1), Mutation::NotNumBool, false), &rows, "a=1 b=0 c=0 d=0");
        check(&metric((1, 1), Mutation::Floor, false), &rows, "a=0 b=1 c=-3 d=11");
        check(&metric((1, 1), Mutation::Ceil, false), &rows, "a=0 b=2 c=-2 d=11");
        check(&metric((1, 1), map, false), &rows, "a=0 b=0 c=0 d=2");
        check(&metric((1, 2), Mutation::Floor, false), &rows, "a=0 b=0 c=-2 d=5");
    }

    #[test]
    fn a_skipped_zero_is_still_known_to_be_zero() {
        let metric = metric((1, 1), Mutation::None, true);
        let rows = [("a", "0"), ("b", "0"), ("b", "2"), ("c", "3"), ("a", "0")];

        let converted = Converter::new(&metric).convert(&batch(&rows)).unwrap();

        assert_eq!(texts(&converted), "b=2 c=3");
        assert_eq!(converted.has_quantity, [Some(false), Some(true), Some(true)]);
    }

    #[test]
    fn rows_that_one_column_cannot_hold_exactly_are_split() {
        let metric = metric((1, 3), Mutation::None, false);
        let rows = [("a", "1"), ("b", "3000000000000000000"), ("c", "2")];

        let converted = Converter::new(&metric).convert(&batch(&rows)).unwrap();

        let third = "0.3333333333333333333333333333";
        let two = "0.6666666666666666666666666667";
        assert_eq!(texts(&converted), format!("a={third} b=1000000000000000000 c={two}"));
        assert!(converted.batches.len() > 1);
    }

    #[test]
    fn what_does_not_fit_a_decimal_is_an_error() {
        let metric = metric((i64::MAX, 1), Mutation::None, false);
        let rows = [("a", "9000000000000000000000")];

        let error = Converter::new(&metric).convert(&batch(&rows)).unwrap_err();

        assert_eq!(error.status, rated_plugin::Status::BadData);
        assert!(!error.split);
    }
}
