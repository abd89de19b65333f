//! From the batches of a slice to sorted rows, and the sums of each scope.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use arrow_array::types::Int32Type;
use arrow_array::{Array, Decimal128Array, DictionaryArray, RecordBatch, StringArray};
use arrow_buffer::i256;
use arrow_schema::Field;

use super::block::{
    ATTRIBUTES_MAX, AttributeKind, AttributeName, AttributeRows, NAME_SIZE_MAX, RowSet,
};
use super::catalog::{MetricNumber, ScopeNumber};
use super::store::Store;
use super::texts::{ABSENT, TEXT_SIZE_MAX, Texts};
use crate::ledger::{LedgerError, RatedSlice, ShapeErrorKind};
use crate::usage::{SUM_SCALE, Sum};

/// Most rows of a slice.
const SLICE_ROWS_MAX: usize = 8 << 20;

/// Marks a column whose texts are JSON.
pub(super) const ENCODING_KEY: &str = "rated.encoding";
pub(super) const ENCODING_JSON: &str = "json";

/// Decimal columns hold numbers of at most 38 digits.
pub(super) const DECIMAL_END: i128 = 10_i128.pow(38);

type Attribute = DictionaryArray<Int32Type>;

/// A slice's batches, their shape checked.
#[derive(Debug)]
pub(super) struct CheckedSlice<'a> {
    slice: &'a RatedSlice,
    batches: Vec<CheckedBatch<'a>>,
}

#[derive(Debug)]
struct CheckedBatch<'a> {
    /// For each row the place of its scope in the slice's list.
    places: Vec<u32>,
    qty: Numbers<'a>,
    price: Numbers<'a>,
    attributes: Vec<(AttributeName, &'a Attribute, &'a StringArray)>,
}

/// A column's numbers with the trailing zeros that they share taken away.
#[derive(Debug)]
struct Numbers<'a> {
    scale: u8,
    values: Cow<'a, [i128]>,
}

/// Sums of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ScopeSums {
    pub(super) rows: u64,
    pub(super) qty: Sum,
    pub(super) price: Sum,
}

impl std::ops::AddAssign for ScopeSums {
    fn add_assign(&mut self, other: ScopeSums) {
        self.rows += other.rows;
        self.qty += other.qty;
        self.price += other.price;
    }
}

impl std::iter::Sum for ScopeSums {
    fn sum<I: Iterator<Item = ScopeSums>>(sums: I) -> ScopeSums {
        sums.fold(ScopeSums::default(), |mut all, sums| {
            all += sums;
            all
        })
    }
}

/// What is stored of a slice: rows by sets that share their scales, sums by scope.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    pub(super) row_sets: Vec<RowSet>,
    /// By place in the list of scopes that was given.
    pub(super) sums: Vec<ScopeSums>,
}

impl<'a> CheckedSlice<'a> {
    pub(super) fn new(slice: &'a RatedSlice) -> Result<CheckedSlice<'a>, ShapeErrorKind> {
        let mut places = HashMap::with_capacity(slice.scopes.len());
        for (place, scope) in (0_u32..).zip(&slice.scopes) {
            if places.insert(scope.id.as_str(), place).is_some() {
                return Err(ShapeErrorKind::ScopeTwice { scope: scope.id.clone() });
            }
        }
        let rows: usize = slice.rows.iter().map(RecordBatch::num_rows).sum();
        too_much("rows in a slice", rows, SLICE_ROWS_MAX)?;
        let batches = slice.rows.iter().map(|batch| CheckedBatch::new(batch, &places));
        Ok(CheckedSlice { slice, batches: batches.collect::<Result<_, _>>()? })
    }

    /// The rows of some of the slice's scopes: for each scope of the slice its number, or `None`
    /// when its rows are left out.
    pub(super) fn gather(
        &self,
        store: &Store,
        texts: &Texts,
        metric: MetricNumber,
        numbers: &[Option<ScopeNumber>],
    ) -> Result<Gathered, LedgerError> {
        let mut sums = vec![ScopeSums::default(); self.slice.scopes.len()];
        for batch in &self.batches {
            batch.add_to(&mut sums);
        }
        let all: Vec<&CheckedBatch<'_>> = self.batches.iter().collect();
        let fits_a_block = scales(&all).is_some() && attribute_count(&all) <= ATTRIBUTES_MAX;
        let groups: Vec<Vec<&CheckedBatch<'_>>> = if fits_a_block {
            vec![all]
        } else {
            all.into_iter().map(|batch| vec![batch]).collect()
        };
        let mut row_sets = Vec::new();
        for batches in groups {
            let scales = scales(&batches).expect("one batch fits its own scale");
            let rows = Rows { batches: &batches, scales, numbers };
            row_sets.push(rows.sorted(store, texts, metric)?);
        }
        row_sets.retain(|rows| !rows.scopes.is_empty());
        Ok(Gathered { row_sets, sums })
    }
}

/// The scales of quantity and price that hold all batches without losing a digit.
fn scales(batches: &[&CheckedBatch<'_>]) -> Option<(u8, u8)> {
    let qty: Vec<&Numbers<'_>> = batches.iter().map(|batch| &batch.qty).collect();
    let price: Vec<&Numbers<'_>> = batches.iter().map(|batch| &batch.price).collect();
    Some((common_scale(&qty)?, common_scale(&price)?))
}

/// Columns that rows of all batches together have.
fn attribute_count(batches: &[&CheckedBatch<'_>]) -> usize {
    let names = batches.iter().flat_map(|batch| batch.attributes.iter().map(|(name, ..)| name));
    names.collect::<HashSet<_>>().len()
}

fn common_scale(columns: &[&Numbers<'_>]) -> Option<u8> {
    let scale = columns.iter().map(|column| column.scale).max().unwrap_or(0);
    let fits = |column: &&Numbers<'_>| {
        let by = 10_i128.pow(u32::from(scale - column.scale));
        let fits = |value: &i128| {
            let scaled = value.checked_mul(by);
            scaled.is_some_and(|scaled| -DECIMAL_END < scaled && scaled < DECIMAL_END)
        };
        column.scale == scale || column.values.iter().all(fits)
    };
    columns.iter().all(fits).then_some(scale)
}

impl<'a> CheckedBatch<'a> {
    fn new(
        batch: &'a RecordBatch,
        places: &HashMap<&str, u32>,
    ) -> Result<CheckedBatch<'a>, ShapeErrorKind> {
        let mut attributes = Vec::new();
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some(name) = attribute_name(field) else { continue };
            too_much("bytes in the name of an attribute", name.name.len(), NAME_SIZE_MAX)?;
            let (column, texts) = attribute(field.name(), column)?;
            attributes.push((name, column, texts));
        }
        too_much("attributes", attributes.len(), ATTRIBUTES_MAX)?;
        Ok(CheckedBatch {
            places: scope_places(batch, places)?,
            qty: numbers(batch, "qty")?,
            price: numbers(batch, "price")?,
            attributes,
        })
    }

    fn add_to(&self, sums: &mut [ScopeSums]) {
        let mut begin = 0;
        for run in self.places.chunk_by(|left, right| left == right) {
            let range = begin..begin + run.len();
            begin = range.end;
            let sums = &mut sums[run[0] as usize];
            sums.rows += run.len() as u64;
            sums.qty += self.qty.sum(range.clone());
            sums.price += self.price.sum(range);
        }
    }
}

impl Numbers<'_> {
    fn sum(&self, rows: Range<usize>) -> Sum {
        let mut total = Total::default();
        self.values[rows].iter().for_each(|value| total.add(*value));
        total.sum(self.scale)
    }
}

/// An exact total of numbers of one scale: small as long as that is enough.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    small: i128,
    big: i256,
}

impl Total {
    pub(super) fn add(&mut self, value: i128) {
        if let Some(sum) = self.small.checked_add(value) {
            self.small = sum;
        } else {
            self.big = self.big.wrapping_add(i256::from_i128(self.small));
            self.small = value;
        }
    }

    pub(super) fn sum(self, scale: u8) -> Sum {
        if self.big == i256::ZERO {
            return Sum::from_scaled(self.small, scale);
        }
        let big = self.big.wrapping_mul(i256::from_i128(10_i128.pow(u32::from(SUM_SCALE - scale))));
        Sum(big) + Sum::from_scaled(self.small, scale)
    }
}

/// `None` for the columns that are not attributes.
pub(super) fn attribute_name(field: &Field) -> Option<AttributeName> {
    let (kind, name) = match field.name().split_once('.')? {
        ("groupby", name) => (AttributeKind::Groupby, name),
        ("metadata", name) => (AttributeKind::Metadata, name),
        _ => return None,
    };
    let encoding = field.metadata().get(ENCODING_KEY).map(String::as_str);
    Some(AttributeName { kind, name: name.to_owned(), is_json: encoding == Some(ENCODING_JSON) })
}

pub(super) fn too_much(what: &'static str, found: usize, max: usize) -> Result<(), ShapeErrorKind> {
    if found > max { Err(ShapeErrorKind::TooMuch { what, found, max }) } else { Ok(()) }
}

fn attribute<'a>(
    name: &str,
    column: &'a dyn Array,
) -> Result<(&'a Attribute, &'a StringArray), ShapeErrorKind> {
    let wrong_type = || ShapeErrorKind::ColumnType {
        column: name.to_owned(),
        found: column.data_type().to_string(),
        wanted: "dictionary<int32, utf8>",
    };
    let column = column.as_any().downcast_ref::<Attribute>().ok_or_else(wrong_type)?;
    let texts = column.values().as_any().downcast_ref::<StringArray>().ok_or_else(wrong_type)?;
    let longest = texts.iter().flatten().map(str::len).max().unwrap_or(0);
    too_much("bytes in the text of an attribute", longest, TEXT_SIZE_MAX)?;
    Ok((column, texts))
}

fn scope_places(
    batch: &RecordBatch,
    places: &HashMap<&str, u32>,
) -> Result<Vec<u32>, ShapeErrorKind> {
    let column = batch
        .column_by_name("scope_id")
        .ok_or(ShapeErrorKind::ColumnMissing { column: "scope_id" })?;
    let (codes, texts) = attribute("scope_id", column)?;
    let place_of = |text: Option<&str>| text.and_then(|text| places.get(text)).copied();
    let by_code: Vec<Option<u32>> = texts.iter().map(place_of).collect();
    let null = |row_index| ShapeErrorKind::Null { column: "scope_id".to_owned(), row_index };
    let mut of_rows = Vec::with_capacity(batch.num_rows());
    for (row_index, key) in codes.keys().iter().enumerate() {
        let code = key.and_then(|key| usize::try_from(key).ok()).ok_or_else(|| null(row_index))?;
        let Some(place) = by_code.get(code).copied().flatten() else {
            let text = texts.iter().nth(code).flatten().ok_or_else(|| null(row_index))?;
            return Err(ShapeErrorKind::ForeignScope { scope: text.to_owned() });
        };
        of_rows.push(place);
    }
    Ok(of_rows)
}

fn numbers<'a>(batch: &'a RecordBatch, name: &'static str) -> Result<Numbers<'a>, ShapeErrorKind> {
    let column =
        batch.column_by_name(name).ok_or(ShapeErrorKind::ColumnMissing { column: name })?;
    let wrong_type = || ShapeErrorKind::ColumnType {
        column: name.to_owned(),
        found: column.data_type().to_string(),
        wanted: "decimal128",
    };
    let decimals = column.as_any().downcast_ref::<Decimal128Array>().ok_or_else(wrong_type)?;
    let is_null = |row: &usize| decimals.is_null(*row);
    if decimals.null_count() > 0
        && let Some(row_index) = (0..decimals.len()).find(is_null)
    {
        return Err(ShapeErrorKind::Null { column: name.to_owned(), row_index });
    }
    let found = decimals.scale();
    let wrong_scale = || ShapeErrorKind::Scale { column: name.to_owned(), found, max: SUM_SCALE };
    let scale = u8::try_from(found).ok().filter(|scale| *scale <= SUM_SCALE);
    let scale = scale.ok_or_else(wrong_scale)?;
    Ok(shorten(scale, decimals.values()))
}

/// Takes away the trailing zeros that all values share.
fn shorten(scale: u8, values: &[i128]) -> Numbers<'_> {
    let mut zeros = scale;
    let mut by = 10_i128.pow(u32::from(zeros));
    for value in values {
        while zeros > 0 && !is_multiple(*value, by) {
            zeros -= 1;
            by /= 10;
        }
        if zeros == 0 {
            return Numbers { scale, values: values.into() };
        }
    }
    Numbers { scale: scale - zeros, values: values.iter().map(|value| value / by).collect() }
}

fn is_multiple(value: i128, of: i128) -> bool {
    // Four times as fast as with 128 bits.
    match (i64::try_from(value), i64::try_from(of)) {
        (Ok(value), Ok(of)) => value % of == 0,
        _ => value % of == 0,
    }
}

/// Batches that share their scales, on their way to become sorted rows.
struct Rows<'a> {
    batches: &'a [&'a CheckedBatch<'a>],
    scales: (u8, u8),
    numbers: &'a [Option<ScopeNumber>],
}

impl Rows<'_> {
    fn sorted(
        &self,
        store: &Store,
        texts: &Texts,
        metric: MetricNumber,
    ) -> Result<RowSet, LedgerError> {
        let mut rows = RowSet {
            qty_scale: self.scales.0,
            price_scale: self.scales.1,
            attributes: self.attributes(store, texts, metric)?,
            ..RowSet::default()
        };
        let mut scopes = Vec::new();
        for batch in self.batches {
            scopes.extend(batch.places.iter().map(|place| self.numbers[*place as usize]));
            extend(&mut rows.qty, &batch.qty, rows.qty_scale);
            extend(&mut rows.price, &batch.price, rows.price_scale);
        }
        let order = order(&scopes, &rows.attributes);
        rows.scopes = match &order {
            None => scopes.into_iter().flatten().collect(),
            Some(order) => order.iter().filter_map(|row| scopes[*row]).collect(),
        };
        if let Some(order) = order {
            rows.qty = order.iter().map(|row| rows.qty[*row]).collect();
            rows.price = order.iter().map(|row| rows.price[*row]).collect();
            for attribute in &mut rows.attributes {
                attribute.codes = order.iter().map(|row| attribute.codes[*row]).collect();
            }
        }
        Ok(rows)
    }

    /// Every column of any batch, sorted; rows of a batch without it do not have it.
    fn attributes(
        &self,
        store: &Store,
        texts: &Texts,
        metric: MetricNumber,
    ) -> Result<Vec<AttributeRows>, LedgerError> {
        let mut names: Vec<&AttributeName> = self
            .batches
            .iter()
            .flat_map(|batch| batch.attributes.iter().map(|(name, ..)| name))
            .collect();
        names.sort_unstable_by_key(|name| (name.kind, &name.name, name.is_json));
        names.dedup();
        let mut columns = Vec::new();
        for name in names {
            let column_name = match name.kind {
                AttributeKind::Groupby => format!("groupby.{}", name.name),
                AttributeKind::Metadata => format!("metadata.{}", name.name),
            };
            let arrays: Vec<_> = self.batches.iter().map(|batch| batch.column(name)).collect();
            let used = arrays.iter().flatten().flat_map(|(_, texts)| texts.iter().flatten());
            let (dictionary, codes) = texts.encode(store, (metric, &column_name), used)?;
            let mut codes = codes.into_iter();
            let mut rows = Vec::new();
            for (batch, array) in self.batches.iter().zip(arrays) {
                rows.extend(batch_codes(batch.places.len(), array, &mut codes));
            }
            columns.push(AttributeRows { name: name.clone(), dictionary, codes: rows });
        }
        Ok(columns)
    }
}

impl<'a> CheckedBatch<'a> {
    fn column(&self, name: &AttributeName) -> Option<(&'a Attribute, &'a StringArray)> {
        let found = self.attributes.iter().find(|(other, ..)| other == name)?;
        Some((found.1, found.2))
    }
}

/// Codes of a batch's rows; takes one code for each text of its dictionary.
fn batch_codes(
    rows: usize,
    array: Option<(&Attribute, &StringArray)>,
    codes: &mut impl Iterator<Item = u32>,
) -> Vec<u32> {
    let Some((attribute, texts)) = array else { return vec![ABSENT; rows] };
    let next = |text: Option<&str>| text.and_then(|_| codes.next()).unwrap_or(ABSENT);
    let by_key: Vec<u32> = texts.iter().map(next).collect();
    let code =
        |key: Option<i32>| key.and_then(|key| by_key.get(usize::try_from(key).ok()?).copied());
    attribute.keys().iter().map(|key| code(key).unwrap_or(ABSENT)).collect()
}

fn extend(values: &mut Vec<i128>, numbers: &Numbers<'_>, scale: u8) {
    if numbers.scale == scale {
        values.extend_from_slice(&numbers.values);
    } else {
        let by = 10_i128.pow(u32::from(scale - numbers.scale));
        values.extend(numbers.values.iter().map(|value| value * by));
    }
}

/// The rows to keep, by scope, then by the attribute that tells most rows apart (its codes ascend
/// from period to period alike, and pack well), then as they came; `None` = all, as they came.
fn order(scopes: &[Option<ScopeNumber>], attributes: &[AttributeRows]) -> Option<Vec<usize>> {
    let telling = attributes.iter().max_by_key(|attribute| distinct(&attribute.codes));
    let key = |row: usize| (scopes[row], telling.map(|attribute| attribute.codes[row]));
    let are_all_kept = scopes.iter().all(Option::is_some);
    if are_all_kept && (1..scopes.len()).all(|row| key(row - 1) <= key(row)) {
        return None;
    }
    let mut order: Vec<usize> = (0..scopes.len()).filter(|row| scopes[*row].is_some()).collect();
    order.sort_by_key(|row| key(*row));
    Some(order)
}

/// How many different ones there are.
fn distinct(codes: &[u32]) -> usize {
    let highest = codes.iter().copied().max().unwrap_or(0) as usize;
    let mut seen = vec![0_u64; highest / 64 + 1];
    for code in codes {
        seen[*code as usize / 64] |= 1 << (code % 64);
    }
    seen.iter().map(|word| word.count_ones() as usize).sum()
}
