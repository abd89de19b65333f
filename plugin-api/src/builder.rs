//! Builds usage batches row by row.

use std::fmt;
use std::sync::Arc;

use arrow_array::builder::StringDictionaryBuilder;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{Field, FieldRef};
use rust_decimal::Decimal;

use crate::batch::{
    GROUPBY_PREFIX, METADATA_PREFIX, QTY, SCHEMA_USAGE, SCOPE_ID, assemble, attribute_type,
    decimal_field,
};
use crate::decimal::decimal_column;
use crate::{Error, Result};

/// Builds a `usage/1` batch row by row; picks the scale so that no digit is lost.
///
/// ```
/// use rated_plugin::{Decimal, UsageBatch, UsageBuilder};
///
/// let mut rows = UsageBuilder::new(&["id"], &["flavor"]);
/// rows.push("alice", Decimal::new(15, 1), &[Some("vm-1"), Some("small")])?;
/// rows.push("bob", Decimal::ONE, &[Some("vm-2"), None])?;
/// let batch = rows.finish()?;
///
/// let usage = UsageBatch::new(&batch)?;
/// assert_eq!((usage.scope_at(0), usage.qty_at(0)), ("alice", Decimal::new(15, 1)));
/// assert_eq!(batch.schema().field(1).data_type().to_string(), "Decimal128(38, 1)");
/// # Ok::<(), rated_plugin::Error>(())
/// ```
pub struct UsageBuilder {
    scope_ids: Texts,
    qty: Vec<Decimal>,
    /// Column name and values, groupby first.
    attributes: Vec<(String, Texts)>,
}

#[derive(Default)]
struct Texts {
    column: StringDictionaryBuilder<Int32Type>,
    /// The code that the next new text gets.
    next_code: i32,
}

/// What of a row no row before had. A row with a new text in any column is like none before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// Its scope.
    pub has_new_scope: bool,
    /// Its scope, or a text of one of its attributes.
    pub has_new_text: bool,
}

impl UsageBuilder {
    /// The names of the metric's attributes, without prefix.
    pub fn new<S: AsRef<str>>(groupby: &[S], metadata: &[S]) -> UsageBuilder {
        let named = |prefix: &'static str| {
            move |name: &S| (format!("{prefix}{}", name.as_ref()), Texts::default())
        };
        UsageBuilder {
            scope_ids: Texts::default(),
            qty: Vec::new(),
            attributes: groupby
                .iter()
                .map(named(GROUPBY_PREFIX))
                .chain(metadata.iter().map(named(METADATA_PREFIX)))
                .collect(),
        }
    }

    /// Adds a row. `attributes`: groupby first, then metadata, in the order given to
    /// [`UsageBuilder::new`]; `None` = absent.
    ///
    /// `Internal` when their number differs; then, and on any other error, no batch can be finished
    /// from what is here.
    pub fn push(
        &mut self,
        scope_id: &str,
        qty: Decimal,
        attributes: &[Option<&str>],
    ) -> Result<()> {
        self.push_each(scope_id, qty, attributes.iter().copied()).map(|_| ())
    }

    /// Like [`UsageBuilder::push`], from an iterator; says what of the row no row before had.
    ///
    /// ```
    /// use rated_plugin::{Decimal, UsageBuilder};
    ///
    /// let mut rows = UsageBuilder::new(&["id"], &[]);
    /// let mut push = |scope, id| rows.push_each(scope, Decimal::ONE, [Some(id)]);
    ///
    /// let first = push("alice", "vm-1")?;
    /// assert!(first.has_new_scope && first.has_new_text);
    /// let second = push("alice", "vm-2")?;
    /// assert!(!second.has_new_scope && second.has_new_text);
    /// let again = push("alice", "vm-1")?;
    /// assert!(!again.has_new_scope && !again.has_new_text);
    /// # Ok::<(), rated_plugin::Error>(())
    /// ```
    pub fn push_each<'t>(
        &mut self,
        scope_id: &str,
        qty: Decimal,
        attributes: impl IntoIterator<Item = Option<&'t str>, IntoIter: ExactSizeIterator>,
    ) -> Result<Pushed> {
        let attributes = attributes.into_iter();
        if attributes.len() != self.attributes.len() {
            return Err(Error::internal(format!(
                "{} attributes for {} columns",
                attributes.len(),
                self.attributes.len()
            )));
        }
        let has_new_scope = self.scope_ids.append(Some(scope_id))?;
        self.qty.push(qty);
        let mut has_new_text = has_new_scope;
        for ((_, column), value) in self.attributes.iter_mut().zip(attributes) {
            has_new_text |= column.append(value)?;
        }
        Ok(Pushed { has_new_scope, has_new_text })
    }

    /// Rows so far.
    pub fn len(&self) -> usize {
        self.qty.len()
    }

    /// No row yet?
    pub fn is_empty(&self) -> bool {
        self.qty.is_empty()
    }

    /// The batch; `Err` with the split flag when the values do not fit one decimal column together.
    pub fn finish(mut self) -> Result<RecordBatch> {
        let qty = decimal_column(&self.qty)?;
        let mut fields: Vec<FieldRef> =
            vec![Arc::new(Field::new(SCOPE_ID, attribute_type(), false)), decimal_field(QTY, &qty)];
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(self.scope_ids.column.finish()), Arc::new(qty)];
        for (name, mut values) in self.attributes {
            fields.push(Arc::new(Field::new(name, attribute_type(), true)));
            columns.push(Arc::new(values.column.finish()));
        }
        assemble(SCHEMA_USAGE, fields, columns)
    }
}

impl Texts {
    /// Is it a text that the column did not have before?
    fn append(&mut self, value: Option<&str>) -> Result<bool> {
        let Some(text) = value else {
            self.column.append_null();
            return Ok(false);
        };
        let code = self.column.append(text).map_err(|error| Error::split(error.to_string()))?;
        let is_new = code == self.next_code;
        self.next_code += i32::from(is_new);
        Ok(is_new)
    }
}

impl fmt::Debug for UsageBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.attributes.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("UsageBuilder")
            .field("rows", &self.qty.len())
            .field("attributes", &names)
            .finish_non_exhaustive()
    }
}
