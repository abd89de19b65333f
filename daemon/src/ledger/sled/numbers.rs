//! Columns of a block: quantities and prices, whole numbers of one scale.
//!
//! ```text
//! numbers = scale:u8 values
//! prices  = numbers | scale:u8 3:u8 zeros:u8 values
//! values  = 0:u8 lowest:wide width:u8 bits
//!         | 1:u8 lowest:wide width:u8 packed(planes)
//!         | 2:u8 count:uint { number:wide } indexes
//! ```
//!
//! 0: each as its distance to the lowest one. 1: the same in `width` bytes (0 to 16), all the
//! lowest bytes first, then all the second ones: for distances that 64 bits do not hold. 2: a list
//! of the numbers that occur, in the order in which rows first have them, and their `indexes`.
//!
//! 3: a price times 10^`zeros` is the quantity times a rate, and the values are the rates. There
//! are few of them and they mostly follow from an attribute, so prices take no room.
//!
//! In blocks of versions 1 and 2:
//!
//! ```text
//! numbers = scale:u8 lowest:wide width:u8 packed(planes)
//! ```

use arrow_buffer::i256;

use super::bits::{Bits, bits_size, pack_bits, width_of};
use super::codec::{Damage, Packed, Reader, Writer, pack};
use super::hash::NumberMap;
use super::indexes::{Bases, Indexes, PackedIndexes, write_indexes};
use super::rates::{Rates, ZEROS_MAX, rates};
use crate::usage::SUM_SCALE;

const DISTANCES: u8 = 0;
const PLANES: u8 = 1;
const LISTED: u8 = 2;
const RATES: u8 = 3;

/// Most numbers of a list.
pub(super) const LIST_MAX: usize = 256;

/// Numbers of one scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimals {
    pub(super) scale: u8,
    pub(super) values: Vec<i128>,
}

/// Numbers of a block's rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Numbers {
    /// Any of them added up fit an `i64`.
    Small(Vec<i64>),
    Big(Vec<i128>),
}

impl Numbers {
    pub(super) fn into_wide(self) -> Vec<i128> {
        match self {
            Numbers::Small(values) => values.into_iter().map(i128::from).collect(),
            Numbers::Big(values) => values,
        }
    }
}

pub(super) fn write_numbers(writer: &mut Writer, scale: u8, values: &[i128], bases: &Bases<'_>) {
    writer.u8(scale);
    write_values(writer, values, bases);
}

pub(super) fn write_prices(
    writer: &mut Writer,
    scale: u8,
    (qty, price): (&[i128], &[i128]),
    bases: &Bases<'_>,
) {
    writer.u8(scale);
    let (_, farthest) = range(price);
    if farthest > 0
        && let Some((zeros, rates)) = rates(qty, price, bases)
    {
        let mut product = Writer::new();
        product.u8(RATES);
        product.u8(zeros);
        match rates {
            Rates::Listed(list, indexes) => write_list(&mut product, &list, &indexes, bases),
            Rates::Each(rates) => write_values(&mut product, &rates, bases),
        }
        let width = u64::try_from(farthest).map_or(u128::BITS, width_of);
        if product.len() < bits_size(width, price.len()) {
            writer.raw(&product.into_bytes());
            return;
        }
    }
    write_values(writer, price, bases);
}

/// The lowest, and how far the highest is from it.
fn range(values: &[i128]) -> (i128, u128) {
    let lowest = values.iter().copied().min().unwrap_or(0);
    let highest = values.iter().copied().max().unwrap_or(0);
    (lowest, distance(lowest, highest))
}

fn distance(lowest: i128, value: i128) -> u128 {
    value.cast_unsigned().wrapping_sub(lowest.cast_unsigned())
}

fn write_values(writer: &mut Writer, values: &[i128], bases: &Bases<'_>) {
    let (lowest, farthest) = range(values);
    let width = u64::try_from(farthest).map_or(u128::BITS, width_of);
    if width > 0
        && let Some((list, indexes)) = list(values)
    {
        let mut listed = Writer::new();
        write_list(&mut listed, &list, &indexes, bases);
        if listed.len() < bits_size(width, values.len()) {
            writer.raw(&listed.into_bytes());
            return;
        }
    }
    if width > u64::BITS {
        write_planes(writer, lowest, farthest, values);
        return;
    }
    writer.u8(DISTANCES);
    writer.wide(i256::from_i128(lowest));
    writer.uint(u64::from(width));
    let low_half = |value: &i128| low_half(distance(lowest, *value));
    writer.raw(&pack_bits(width, values.iter().map(low_half)));
}

fn write_list(writer: &mut Writer, list: &[i128], indexes: &Indexes, bases: &Bases<'_>) {
    writer.u8(LISTED);
    writer.count(list.len());
    for number in list {
        writer.wide(i256::from_i128(*number));
    }
    write_indexes(writer, indexes, bases);
}

#[expect(clippy::cast_possible_truncation, reason = "the farthest distance has 64 bits")]
fn low_half(distance: u128) -> u64 {
    distance as u64
}

fn write_planes(writer: &mut Writer, lowest: i128, farthest: u128, values: &[i128]) {
    let width = (u128::BITS - farthest.leading_zeros()).div_ceil(8) as usize;
    writer.u8(PLANES);
    writer.wide(i256::from_i128(lowest));
    writer.count(width);
    let mut planes = vec![0; values.len() * width];
    for (row, value) in values.iter().enumerate() {
        let bytes = distance(lowest, *value).to_le_bytes();
        for (plane, byte) in bytes.iter().take(width).enumerate() {
            planes[plane * values.len() + row] = *byte;
        }
    }
    pack(writer, &planes);
}

/// The numbers that occur, if they are few.
fn list(values: &[i128]) -> Option<(Vec<i128>, Indexes)> {
    let max = LIST_MAX.min(values.len() / LIST_SHARE_MIN);
    let mut numbers: NumberMap<i128, u32> = NumberMap::default();
    let mut list: Vec<i128> = Vec::new();
    let mut of_rows = Vec::with_capacity(values.len());
    let (mut before, mut index) = (None, 0);
    for value in values {
        if before != Some(*value) {
            before = Some(*value);
            index = *numbers.entry(*value).or_insert_with(|| index_of_next(&mut list, *value));
            if list.len() > max {
                return None;
            }
        }
        of_rows.push(index);
    }
    let count = list.len();
    Some((list, Indexes { count, of_rows }))
}

/// A list pays if so many rows share a number of it.
pub(super) const LIST_SHARE_MIN: usize = 8;

pub(super) fn index_of_next(list: &mut Vec<i128>, number: i128) -> u32 {
    list.push(number);
    u32::try_from(list.len() - 1).expect("a list is short")
}

/// A column of numbers, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedNumbers<'a> {
    pub(super) scale: u8,
    rows: usize,
    /// The values are rates, and prices lack so many zeros.
    zeros: Option<u8>,
    values: Values<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Values<'a> {
    Distances { lowest: i128, width: u32, bits: Bits<'a> },
    Planes { lowest: i128, width: usize, planes: Packed<'a> },
    Listed { count: usize, list: &'a [u8], indexes: PackedIndexes<'a> },
}

impl<'a> PackedNumbers<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        rows: usize,
        base: impl Fn(usize) -> Option<PackedIndexes<'a>>,
    ) -> Result<PackedNumbers<'a>, Damage> {
        let scale = read_scale(reader)?;
        let kind = reader.u8()?;
        let values = Values::of_kind(kind, reader, rows, base)?;
        Ok(PackedNumbers { scale, rows, zeros: None, values })
    }

    pub(super) fn read_prices(
        reader: &mut Reader<'a>,
        rows: usize,
        base: impl Fn(usize) -> Option<PackedIndexes<'a>>,
    ) -> Result<PackedNumbers<'a>, Damage> {
        let scale = read_scale(reader)?;
        let mut kind = reader.u8()?;
        let mut zeros = None;
        if kind == RATES {
            zeros = Some(reader.u8()?);
            if zeros > Some(ZEROS_MAX) {
                return Err(Damage("prices lack too many zeros"));
            }
            kind = reader.u8()?;
        }
        let values = Values::of_kind(kind, reader, rows, base)?;
        Ok(PackedNumbers { scale, rows, zeros, values })
    }

    /// Of versions 1 and 2.
    pub(super) fn read_planes(reader: &mut Reader<'a>, rows: usize) -> Result<Self, Damage> {
        let scale = read_scale(reader)?;
        let values = Values::of_kind(PLANES, reader, rows, |_| None)?;
        Ok(PackedNumbers { scale, rows, zeros: None, values })
    }

    /// Whether the quantities are needed to unpack them.
    pub(super) fn are_rates(self) -> bool {
        self.zeros.is_some()
    }

    pub(super) fn unpack(self) -> Result<Numbers, Damage> {
        // Any so many of them fit an `i64`.
        let highest = i64::MAX.unsigned_abs() / (self.rows as u64).max(1);
        self.values.unpack(self.rows, highest.cast_signed())
    }

    /// Prices, if they are rates: the values that `unpack` gives, times the quantities.
    pub(super) fn priced(self, qty: &Numbers, rates: Numbers) -> Result<Numbers, Damage> {
        let Some(zeros) = self.zeros else { return Ok(rates) };
        let by = 10_i64.pow(u32::from(zeros));
        if let Some(products) = self.small_products(qty, &rates) {
            return Ok(Numbers::Small(products.into_iter().map(|price| price / by).collect()));
        }
        let by = i128::from(by);
        let mut prices = rates.into_wide();
        let qty = qty.clone().into_wide();
        for (price, qty) in prices.iter_mut().zip(qty) {
            let product = price.checked_mul(qty).ok_or(Damage("a price is too big"))?;
            *price = product / by;
        }
        Ok(Numbers::Big(prices))
    }

    /// As `priced`, of a scale that may have more digits, which saves dividing.
    pub(super) fn priced_in_digits(
        self,
        qty: &Numbers,
        rates: Numbers,
    ) -> Result<(Numbers, u8), Damage> {
        let scale = self.scale + self.zeros.unwrap_or(0);
        match self.small_products(qty, &rates) {
            Some(products) if scale <= SUM_SCALE => Ok((Numbers::Small(products), scale)),
            _ => Ok((self.priced(qty, rates)?, self.scale)),
        }
    }

    /// If prices are rates, and all products added up fit an `i64`.
    fn small_products(self, qty: &Numbers, rates: &Numbers) -> Option<Vec<i64>> {
        let highest = |values: &[i64]| values.iter().map(|value| value.unsigned_abs()).max();
        let (Numbers::Small(qty), Numbers::Small(rates)) = (qty, rates) else { return None };
        let product = highest(qty)?.checked_mul(highest(rates)?)?;
        let fits = product <= i64::MAX.unsigned_abs() / (self.rows as u64).max(1);
        (self.are_rates() && fits)
            .then(|| qty.iter().zip(rates).map(|(qty, rate)| qty * rate).collect())
    }
}

fn read_scale(reader: &mut Reader<'_>) -> Result<u8, Damage> {
    let scale = reader.u8()?;
    if scale > SUM_SCALE { Err(Damage("a scale is too big")) } else { Ok(scale) }
}

fn read_number(reader: &mut Reader<'_>) -> Result<i128, Damage> {
    reader.wide()?.to_i128().ok_or(Damage("a decimal is too big"))
}

impl<'a> Values<'a> {
    fn of_kind(
        kind: u8,
        reader: &mut Reader<'a>,
        rows: usize,
        base: impl Fn(usize) -> Option<PackedIndexes<'a>>,
    ) -> Result<Values<'a>, Damage> {
        match kind {
            DISTANCES => {
                let lowest = read_number(reader)?;
                let width = reader.u32()?;
                Ok(Values::Distances { lowest, width, bits: Bits::read(reader, width, rows)? })
            }
            PLANES => {
                let lowest = read_number(reader)?;
                let width = reader.count(size_of::<i128>())?;
                Ok(Values::Planes { lowest, width, planes: Packed::read(reader)? })
            }
            LISTED => {
                let count = reader.count(rows)?;
                let list = reader.rest();
                for _ in 0..count {
                    read_number(reader)?;
                }
                let indexes = PackedIndexes::read(reader, (rows, count), base)?;
                Ok(Values::Listed { count, list, indexes })
            }
            _ => Err(Damage("numbers are of an unknown kind")),
        }
    }

    /// Small ones if none is farther from 0 than `highest`.
    fn unpack(self, rows: usize, highest: i64) -> Result<Numbers, Damage> {
        let fits = |value: i128| value.unsigned_abs() <= u128::from(highest.unsigned_abs());
        let small = |value: i128| i64::try_from(value).ok().filter(|_| fits(value));
        match self {
            Values::Distances { lowest, width, bits } => {
                let farthest = (1_u128 << width) - 1;
                let end = lowest.checked_add_unsigned(farthest);
                if let (Some(lowest), Some(_)) = (small(lowest), end.and_then(small)) {
                    let value = |distance: u64| lowest.wrapping_add_unsigned(distance);
                    return Ok(Numbers::Small(bits.unpack(value)));
                }
                let value = |distance: u64| lowest.wrapping_add(i128::from(distance));
                Ok(Numbers::Big(bits.unpack(value)))
            }
            Values::Planes { lowest, width, planes } => {
                let planes = planes.unpack()?;
                if planes.len() != rows * width {
                    return Err(Damage("a column has another number of rows"));
                }
                Ok(Numbers::Big(read_planes(&planes, lowest, width, rows)))
            }
            Values::Listed { count, list, indexes } => {
                let mut reader = Reader::new(list);
                let list = (0..count).map(|_| read_number(&mut reader));
                let list = list.collect::<Result<Vec<i128>, _>>()?;
                let indexes = indexes.unpack()?.into_iter();
                let smalls: Option<Vec<i64>> = list.iter().map(|value| small(*value)).collect();
                Ok(match smalls {
                    Some(list) => {
                        Numbers::Small(indexes.map(|index| list[index as usize]).collect())
                    }
                    None => Numbers::Big(indexes.map(|index| list[index as usize]).collect()),
                })
            }
        }
    }
}

fn read_planes(planes: &[u8], lowest: i128, width: usize, rows: usize) -> Vec<i128> {
    let mut distances = vec![0_u128; rows];
    for plane in (0..width).rev() {
        for (distance, byte) in distances.iter_mut().zip(&planes[plane * rows..][..rows]) {
            *distance = *distance << 8 | u128::from(*byte);
        }
    }
    let value = |distance: u128| lowest.wrapping_add(distance.cast_signed());
    distances.into_iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn indexes_of(items: &[u32]) -> Indexes {
        let (_, indexes) = super::super::columns::Numbering::default().number(items);
        indexes
    }

    /// How many bytes the prices take.
    fn check(qty: &[i128], price: &[i128], base: &[u32]) -> usize {
        let rows = qty.len();
        let base = indexes_of(base);
        let bases: Bases<'_> = vec![(4, &base)];
        let mut writer = Writer::new();
        write_indexes(&mut writer, &base, &Vec::new());
        write_numbers(&mut writer, 3, qty, &bases);
        let begin = writer.len();
        write_prices(&mut writer, 28, (qty, price), &bases);
        let bytes = writer.into_bytes();

        let mut reader = Reader::new(&bytes);
        let base = PackedIndexes::read(&mut reader, (rows, base.count), |_| None).unwrap();
        let bases = |column| (column == 4).then_some(base);
        let packed_qty = PackedNumbers::read(&mut reader, rows, bases).unwrap();
        let packed_price = PackedNumbers::read_prices(&mut reader, rows, bases).unwrap();

        assert!(reader.is_empty());
        assert_eq!((packed_qty.scale, packed_price.scale), (3, 28));
        let found_qty = packed_qty.unpack().unwrap();
        let found_price = packed_price.priced(&found_qty, packed_price.unpack().unwrap()).unwrap();
        for numbers in [&found_qty, &found_price] {
            if let Numbers::Small(values) = numbers {
                let sum = values.iter().try_fold(0_i64, |sum, value| sum.checked_add(*value));
                assert!(sum.is_some());
            }
        }
        assert_eq!(found_qty.into_wide(), qty);
        assert_eq!(found_price.into_wide(), price);
        bytes.len() - begin
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(
            values in prop::collection::vec((any::<i128>(), any::<i128>(), 0_u32..5), 0..40),
            shift in 0_u32..128,
        ) {
            let qty: Vec<i128> = values.iter().map(|row| row.0 >> shift).collect();
            let price: Vec<i128> = values.iter().map(|row| row.1 >> shift).collect();
            let base: Vec<u32> = values.iter().map(|row| row.2).collect();
            check(&qty, &price, &base);
        }

        #[test]
        fn rated_numbers_come_back(
            rows in prop::collection::vec((-50_i64..5_000, 0_u32..9, 0_usize..3), 0..200),
            rates in prop::collection::vec(-900_i64..9_000, 9),
            factor in prop::sample::select(vec![1_i128, 7, 1 << 40, 10_i128.pow(25)]),
            zeros in 0_u32..4,
        ) {
            let qty: Vec<i128> = rows.iter().map(|row| i128::from(row.0) * factor).collect();
            let by = 10_i128.pow(zeros);
            // Of the attribute, of something else, and not quite.
            for (telling, more) in [(1, 0), (0, 0), (1, 1)] {
                let price = rows.iter().zip(&qty).map(|((_, flavor, other), qty)| {
                    let rate = rates[*flavor as usize * telling + other * (1 - telling)];
                    qty * i128::from(rate) / by + more * i128::from(*flavor)
                });
                let base: Vec<u32> = rows.iter().map(|row| row.1).collect();
                check(&qty, &price.collect::<Vec<_>>(), &base);
            }
        }

        #[test]
        fn random_bytes_do_no_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            rows in 0_usize..40,
        ) {
            if let Ok(packed) =
                PackedNumbers::read_prices(&mut Reader::new(&bytes), rows, |_| None)
                && let Ok(numbers) = packed.unpack()
            {
                prop_assert_eq!(numbers.clone().into_wide().len(), rows);
                let _ = packed.priced(&numbers.clone(), numbers.clone());
                let _ = packed.priced_in_digits(&numbers.clone(), numbers);
            }
        }
    }

    #[test]
    fn prices_by_a_price_list_take_no_room() {
        let flavors: Vec<u32> = (0..4000_u32).map(|row| row * row % 20).collect();
        let qty: Vec<i128> = (0..4000).map(|row| row % 977).collect();
        let price = |(qty, flavor): (&i128, &u32)| qty * i128::from(25 + flavor);
        let price: Vec<i128> = qty.iter().zip(&flavors).map(price).collect();
        assert!(check(&qty, &price, &flavors) < 50);

        let tenths: Vec<i128> = qty.iter().map(|qty| qty * 10).collect();
        let shortened: Vec<i128> = price.clone();
        assert!(check(&tenths, &shortened, &flavors) < 50);
        let flat: Vec<i128> = flavors.iter().map(|flavor| 30 + i128::from(*flavor)).collect();
        assert!(check(&qty, &flat, &flavors) < 50);
    }

    #[test]
    fn equal_numbers_take_no_room() {
        let mut writer = Writer::new();
        write_numbers(&mut writer, 2, &vec![1234; 5000], &Vec::new());

        assert_eq!(writer.into_bytes().len(), 6);
    }

    #[test]
    fn numbers_are_small_as_long_as_their_sum_is() {
        let highest = i64::MAX / 4;
        for (value, is_small) in [(highest, true), (-highest, true), (highest + 1, false)] {
            let mut writer = Writer::new();
            write_numbers(&mut writer, 0, &[i128::from(value); 4], &Vec::new());
            let bytes = writer.into_bytes();
            let packed = PackedNumbers::read(&mut Reader::new(&bytes), 4, |_| None).unwrap();

            assert_eq!(matches!(packed.unpack(), Ok(Numbers::Small(_))), is_small);
        }
    }
}
