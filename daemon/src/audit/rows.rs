//! Rows of the ledger as modules see them, and those of one scope in one batch.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, Decimal128Array, DictionaryArray, RecordBatch};
use arrow_schema::{Field, Schema, SchemaRef};
use chrono::TimeDelta;
use rated_plugin::{Purpose, RateRequest, UsageBatch, decimal_at, decimal_column, text_at};
use rust_decimal::Decimal;

use crate::ledger::{Filters, Ledger, LedgerError, Origin, RatedBy, RowsGroup, RowsQuery};
use crate::usage::{Period, ScopeId, with_unit};

/// Most rows of one scope, metric and period that are looked at together.
pub(super) const TOGETHER_ROWS_MAX: usize = 200_000;

/// Rows without their prices, and those. Row by row.
#[derive(Debug)]
pub(super) struct Rows {
    /// Schema `usage/1` without `price`, with the unit, as they were when they were rated.
    pub(super) usage: RecordBatch,
    pub(super) qty: Vec<Decimal>,
    pub(super) stored: Vec<Decimal>,
}

impl Rows {
    pub(super) fn of(group: &RowsGroup) -> Result<Rows, LedgerError> {
        let wrong = |error: rated_plugin::Error| damaged(group, error.message);
        let view = UsageBatch::new(&group.rows).map_err(wrong)?;
        let price = view.price().ok_or_else(|| damaged(group, "no column `price`".to_owned()))?;
        let stored = (0..view.rows()).map(|row| decimal_at(price, row));
        let stored = stored.collect::<Result<_, _>>().map_err(wrong)?;
        let qty = (0..view.rows()).map(|row| view.qty_at(row)).collect();
        let schema = group.rows.schema();
        let left =
            (0..schema.fields().len()).filter(|index| schema.field(*index).name() != "price");
        let left: Vec<usize> = left.collect();
        let usage = group.rows.project(&left).map_err(|error| damaged(group, error.to_string()))?;
        Ok(Rows { usage: with_unit(&usage, &group.unit).map_err(wrong)?, qty, stored })
    }
}

pub(super) fn damaged(group: &RowsGroup, detail: String) -> LedgerError {
    LedgerError::Damaged {
        place: format!("rows of `{}` in {}", group.metric_type, group.period),
        detail,
    }
}

/// What a module is asked about these rows.
pub(super) fn rate_request(group: &RowsGroup) -> RateRequest {
    RateRequest {
        purpose: Purpose::Replay,
        metric: group.metric_type.clone(),
        begin: group.period.begin(),
        end: group.period.end(),
    }
}

/// The attribute as which modules saw the scope; where the ledger does not know it, what it is now.
pub(super) fn scope_key(group: &RowsGroup) -> Option<&str> {
    let now = Some(group.scope_key.as_str()).filter(|key| !key.is_empty());
    group.rated_scope_key.as_deref().or(now)
}

/// Whether the ledger knows all that the modules saw: up to 0.1.0 it did not keep the scope key.
pub(super) fn is_scope_key_known(group: &RowsGroup) -> bool {
    group.rated_scope_key.is_some() || group.rated_by.is_empty()
}

/// What rows have in common that were rated together, if they are of the same scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Together {
    period: Period,
    /// What somebody pushed stands beside what was collected.
    origin: Origin,
    metric_type: String,
    metric_name: String,
    unit: String,
    rated_by: Arc<[RatedBy]>,
    rated_scope_key: Option<Arc<str>>,
}

impl Together {
    pub(super) fn of(group: &RowsGroup) -> Together {
        Together {
            period: group.period,
            origin: group.origin,
            metric_type: group.metric_type.clone(),
            metric_name: group.metric_name.clone(),
            unit: group.unit.clone(),
            rated_by: Arc::clone(&group.rated_by),
            rated_scope_key: group.rated_scope_key.clone(),
        }
    }
}

/// All rows of a scope that were rated together with those of `group`; `None` = they are too many.
pub(super) fn rows_of_scope(
    ledger: &dyn Ledger,
    group: &RowsGroup,
    scope: &ScopeId,
) -> Result<Option<RowsGroup>, LedgerError> {
    let begin = group.period.begin();
    let filters = Filters {
        scopes: Some(vec![scope.clone()]),
        types: Some(vec![group.metric_type.clone()]),
        ..Filters::default()
    };
    let end = begin + TimeDelta::seconds(1);
    let query = RowsQuery { begin, end, filters, offset: 0, limit: usize::MAX };
    let (together, mut found, mut count) = (Together::of(group), Vec::new(), 0);
    ledger.visit_rows(&query, &mut |other| {
        if Together::of(&other) == together {
            count += other.rows.num_rows();
            found.push(other);
        }
        if count > TOGETHER_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    if count > TOGETHER_ROWS_MAX || found.is_empty() {
        return Ok(None);
    }
    united(found).map(Some)
}

/// One group of several that were rated together.
pub(super) fn united(mut groups: Vec<RowsGroup>) -> Result<RowsGroup, LedgerError> {
    if groups.len() == 1 {
        return Ok(groups.remove(0));
    }
    let first = groups[0].clone();
    let wrong = |detail: String| damaged(&first, detail);
    // Blocks of a slice have the attributes that their rows have.
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for field in groups.iter().flat_map(|group| group.rows.schema_ref().fields()) {
        if !fields.iter().any(|known| is_same(known, field)) {
            fields.push(Arc::clone(field));
        }
    }
    let mut columns: Vec<ArrayRef> = Vec::new();
    for field in &mut fields {
        let parts = groups.iter().map(|group| (column(&group.rows, field), group.rows.num_rows()));
        let column: ArrayRef = if matches!(field.name().as_str(), "qty" | "price") {
            let numbers = parts.map(|(column, rows)| numbers(column, rows));
            let numbers: Option<Vec<Vec<Decimal>>> = numbers.collect();
            let numbers = numbers.ok_or_else(|| wrong(format!("no column `{}`", field.name())))?;
            let all: Vec<Decimal> = numbers.concat();
            Arc::new(decimal_column(&all).map_err(|error| wrong(error.message))?)
        } else {
            Arc::new(parts.flat_map(|(column, rows)| texts(column, rows)).collect::<Texts>())
        };
        *field = Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone()));
        columns.push(column);
    }
    let metadata = first.rows.schema_ref().metadata().clone();
    let schema: SchemaRef = Arc::new(Schema::new_with_metadata(fields, metadata));
    let rows = RecordBatch::try_new(schema, columns).map_err(|error| wrong(error.to_string()))?;
    Ok(RowsGroup { rows, ..first })
}

type Texts = DictionaryArray<Int32Type>;

/// An attribute that is no text is another one.
fn is_same(left: &Field, right: &Field) -> bool {
    left.name() == right.name() && left.metadata() == right.metadata()
}

fn column<'a>(batch: &'a RecordBatch, field: &Field) -> Option<&'a ArrayRef> {
    let index = batch.schema_ref().fields().iter().position(|known| is_same(known, field))?;
    Some(batch.column(index))
}

fn numbers(column: Option<&ArrayRef>, rows: usize) -> Option<Vec<Decimal>> {
    let column = column?.as_any().downcast_ref::<Decimal128Array>()?;
    (0..rows).map(|row| decimal_at(column, row).ok()).collect()
}

fn texts(column: Option<&ArrayRef>, rows: usize) -> impl Iterator<Item = Option<&str>> {
    let column = column.and_then(|column| column.as_any().downcast_ref::<Texts>());
    (0..rows).map(move |row| column.and_then(|column| text_at(column, row)))
}
