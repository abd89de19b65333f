use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::Int32Type;
use rated_plugin::{
    Attribute, ENCODING_JSON, ENCODING_KEY, GROUPBY_PREFIX, METADATA_PREFIX, UsageBatch, text_at,
};
use rust_decimal::Decimal;

use super::frames::view;
use crate::ledger::{LedgerError, Origin, RowsGroup};
use crate::usage::calendar_attributes;

/// The rows of a group, attribute by attribute.
#[derive(Debug)]
pub struct Rows<'a> {
    pub group: &'a RowsGroup,
    batch: UsageBatch<'a>,
    /// The scope key, other groupby ones, the calendar, metadata.
    pub attributes: Vec<ShownAttribute<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttributeKind {
    Groupby,
    Metadata,
}

/// An attribute that some rows of a group have. Two may have the same kind and name; a row has one
/// of them at most.
#[derive(Debug)]
pub struct ShownAttribute<'a> {
    pub kind: AttributeKind,
    pub name: &'a str,
    /// Whether its texts are JSON values.
    pub is_json: bool,
    values: Values<'a>,
}

#[derive(Debug)]
enum Values<'a> {
    Column(&'a Attribute),
    /// The scope, or a text that all rows have; but what a row itself says of it counts.
    Scope {
        own: Option<&'a Attribute>,
    },
    Every {
        text: String,
        own: Option<&'a Attribute>,
    },
}

impl<'a> Rows<'a> {
    pub fn new(group: &'a RowsGroup) -> Result<Rows<'a>, LedgerError> {
        let batch = view(group)?;
        let columns: Vec<ShownAttribute<'_>> = columns(group).collect();
        let own = |name: &str| {
            let is_own = |column: &&ShownAttribute<'a>| {
                column.kind == AttributeKind::Groupby && column.name == name
            };
            columns.iter().find(is_own).and_then(|column| match column.values {
                Values::Column(column) => Some(column),
                Values::Scope { .. } | Values::Every { .. } => None,
            })
        };
        let derived = |name: &'a str, values| ShownAttribute {
            kind: AttributeKind::Groupby,
            name,
            is_json: false,
            values,
        };
        let mut attributes = Vec::new();
        if !group.scope_key.is_empty() {
            let values = Values::Scope { own: own(&group.scope_key) };
            attributes.push(derived(&group.scope_key, values));
        }
        let [week, day, month, year] = calendar_attributes(group.period.begin());
        let calendar = [year, month, week, day].map(|(name, text)| {
            let own = own(name);
            derived(name, Values::Every { text, own })
        });
        let (groupby, metadata): (Vec<_>, Vec<_>) =
            columns.into_iter().partition(|column| column.kind == AttributeKind::Groupby);
        // What is pushed is shown as it was pushed.
        let is_collected = group.origin == Origin::Collected;
        let calendar = calendar.into_iter().filter(|_| is_collected);
        attributes.extend(groupby.into_iter().chain(calendar).chain(metadata));
        Ok(Rows { group, batch, attributes })
    }

    pub fn count(&self) -> usize {
        self.batch.rows()
    }

    /// Empty = nobody's.
    pub fn scope(&self, row: usize) -> &str {
        self.batch.scope_at(row)
    }

    pub fn qty(&self, row: usize) -> Decimal {
        self.batch.qty_at(row)
    }

    pub fn price(&self, row: usize) -> Decimal {
        self.batch.price_at(row)
    }

    /// What a row has of an attribute; `None` = nothing.
    pub fn text<'r>(&'r self, attribute: &'r ShownAttribute<'a>, row: usize) -> Option<&'r str> {
        let is_said = |own: Option<&Attribute>| own.is_some_and(|own| own.is_valid(row));
        match &attribute.values {
            Values::Column(column) => text_at(column, row),
            Values::Scope { own } | Values::Every { own, .. } if is_said(*own) => None,
            Values::Scope { .. } => Some(self.batch.scope_at(row)),
            Values::Every { text, .. } => Some(text),
        }
    }
}

fn columns(group: &RowsGroup) -> impl Iterator<Item = ShownAttribute<'_>> {
    let fields = group.rows.schema_ref().fields().iter().zip(group.rows.columns());
    fields.filter_map(|(field, column)| {
        let (kind, name) = match field.name().strip_prefix(GROUPBY_PREFIX) {
            Some(name) => (AttributeKind::Groupby, name),
            None => (AttributeKind::Metadata, field.name().strip_prefix(METADATA_PREFIX)?),
        };
        let encoding = field.metadata().get(ENCODING_KEY).map(String::as_str);
        let values = Values::Column(column.as_dictionary_opt::<Int32Type>()?);
        Some(ShownAttribute { kind, name, is_json: encoding == Some(ENCODING_JSON), values })
    })
}
