//! Points as columns: what a collector would hand over, and what rating makes of it.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    Array as _, ArrayRef, Decimal128Array, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow_schema::{Field, FieldRef, Schema};
use rated_plugin::{
    GROUPBY_PREFIX, PRICE, QTY, SCHEMA_USAGE, SCOPE_ID, attribute_type, schema_metadata,
};

use super::cloud::{Cloud, Hour, Point};
use super::texts::{Attribute, ID};
use crate::ledger::{Fact, RatedBy, RatedSlice, SliceScope};

/// Most digits of a number in Arrow's 128 bits.
const PRECISION: u8 = 38;

impl Cloud {
    /// One metric and hour of some scopes, rated by some revision of the price list.
    pub fn slice(&self, hour: Hour, scopes: Range<u32>, revision: u64) -> RatedSlice {
        let known = |index: u32| {
            let id = self.scopes()[index as usize].clone();
            SliceScope { id, fact: Fact::Collected }
        };
        let by = RatedBy {
            module: "hashmap".to_owned(),
            revision,
            library: "5e".repeat(32),
            config: "c0".repeat(32),
        };
        RatedSlice {
            metric: Cloud::metric(hour.metric),
            unit: Cloud::UNIT.to_owned(),
            description: None,
            period: self.period(hour.hour),
            scopes: scopes.clone().map(known).collect(),
            rows: vec![self.batch(hour, scopes, Price::Shown)],
            rated_by: vec![by].into(),
            rated_scope_key: Some(Cloud::SCOPE_KEY.into()),
        }
    }

    /// The same before it is rated: schema `usage/1` without `price`.
    pub fn usage(&self, hour: Hour, scopes: Range<u32>) -> RecordBatch {
        self.batch(hour, scopes, Price::Unknown)
    }

    fn batch(&self, hour: Hour, scopes: Range<u32>, price: Price) -> RecordBatch {
        let rows = self.rows(scopes.clone());
        let points: Vec<Point> = rows.clone().map(|row| self.point(hour, row)).collect();
        let texts = self.texts();
        let qty = points.iter().map(|point| i128::from(point.qty));
        let first = scopes.start;
        let scope_ids = texts.scopes.slice(first as usize, scopes.len());
        let mut columns = vec![
            text(SCOPE_ID, points.iter().map(|point| point.scope - first), scope_ids),
            decimal(QTY, Decimal128Array::from_iter_values(qty), Point::QTY_SCALE),
        ];
        let ids = texts.resources[hour.metric as usize].slice(rows.start as usize, rows.len());
        columns.push(text(&format!("{GROUPBY_PREFIX}{ID}"), 0..rows.end - rows.start, ids));
        for attribute in Attribute::ALL {
            let codes = points.iter().map(|point| attribute.of(point));
            columns.push(text(&attribute.column(), codes, texts.of(attribute).clone()));
        }
        if price == Price::Shown {
            let prices = points.iter().map(|point| i128::from(point.price));
            let prices = Decimal128Array::from_iter_values(prices);
            columns.push(decimal(PRICE, prices, Point::PRICE_SCALE));
        }
        let (fields, columns): (Vec<FieldRef>, _) = columns.into_iter().unzip();
        let schema = Schema::new_with_metadata(fields, schema_metadata(SCHEMA_USAGE));
        RecordBatch::try_new(Arc::new(schema), columns).expect("columns of one length")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Price {
    Shown,
    Unknown,
}

fn text(name: &str, codes: impl Iterator<Item = u32>, texts: StringArray) -> (FieldRef, ArrayRef) {
    let codes = codes.map(|code| i32::try_from(code).expect("rows of a slice are limited"));
    let codes = Int32Array::from_iter_values(codes);
    let column = DictionaryArray::<Int32Type>::try_new(codes, Arc::new(texts));
    let column = column.expect("codes are below the number of texts");
    (Arc::new(Field::new(name, attribute_type(), name != SCOPE_ID)), Arc::new(column))
}

fn decimal(name: &str, values: Decimal128Array, scale: u8) -> (FieldRef, ArrayRef) {
    let scale = i8::try_from(scale).expect("scales are small");
    let values = values.with_precision_and_scale(PRECISION, scale).expect("it has fewer digits");
    let field = Field::new(name, values.data_type().clone(), false);
    (Arc::new(field), Arc::new(values))
}
