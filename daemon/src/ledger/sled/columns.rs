//! Columns of a block: whole numbers of one scale, and codes of texts.
//!
//! ```text
//! decimals = scale:u8 lowest:wide width:u8 packed(planes)
//! ```
//!
//! Each value is stored as its distance to the lowest one, in `width` bytes (0 to 16), all the
//! lowest bytes first, then all the second ones: bytes of equal weight resemble each other and pack
//! well.
//!
//! ```text
//! codes = packed({ gap:uint }) packed(indexes)
//! ```
//!
//! The codes that occur, ascending, as gaps; then for each row the index of its code in that list,
//! in as few bytes (1, 2 or 4, little endian) as the list needs, none when it has one code only.

use arrow_buffer::i256;

use super::codec::{Damage, Packed, Reader, Writer, pack};
use crate::usage::SUM_SCALE;

/// Most rows of one block.
pub(super) const BLOCK_ROWS_MAX: usize = 8192;

/// Numbers of one scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decimals {
    pub(super) scale: u8,
    pub(super) values: Vec<i128>,
}

pub(super) fn write_decimals(writer: &mut Writer, scale: u8, values: &[i128]) {
    let lowest = values.iter().copied().min().unwrap_or(0);
    let highest = values.iter().copied().max().unwrap_or(0);
    let distance = |value: i128| value.cast_unsigned().wrapping_sub(lowest.cast_unsigned());
    let bits = u128::BITS - distance(highest).leading_zeros();
    let width = bits.div_ceil(8) as usize;
    writer.u8(scale);
    writer.wide(i256::from_i128(lowest));
    writer.count(width);
    let mut planes = vec![0; values.len() * width];
    for (row, value) in values.iter().enumerate() {
        let bytes = distance(*value).to_le_bytes();
        for (plane, byte) in bytes.iter().take(width).enumerate() {
            planes[plane * values.len() + row] = *byte;
        }
    }
    pack(writer, &planes);
}

/// A column of numbers, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedDecimals<'a> {
    scale: u8,
    lowest: i128,
    width: usize,
    planes: Packed<'a>,
}

impl<'a> PackedDecimals<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<PackedDecimals<'a>, Damage> {
        let scale = reader.u8()?;
        if scale > SUM_SCALE {
            return Err(Damage("a scale is too big"));
        }
        let lowest = reader.wide()?.to_i128().ok_or(Damage("a decimal is too big"))?;
        let width = reader.count(size_of::<i128>())?;
        Ok(PackedDecimals { scale, lowest, width, planes: Packed::read(reader)? })
    }

    pub(super) fn unpack(self, rows: usize) -> Result<Decimals, Damage> {
        let planes = self.planes.unpack()?;
        if planes.len() != rows * self.width {
            return Err(Damage("a column has another number of rows"));
        }
        let values = if self.width <= size_of::<u64>() {
            self.narrow(&planes, rows)
        } else {
            self.broad(&planes, rows)
        };
        Ok(Decimals { scale: self.scale, values })
    }

    fn narrow(self, planes: &[u8], rows: usize) -> Vec<i128> {
        let mut distances = vec![0_u64; rows];
        for plane in (0..self.width).rev() {
            let bytes = &planes[plane * rows..][..rows];
            for (distance, byte) in distances.iter_mut().zip(bytes) {
                *distance = *distance << 8 | u64::from(*byte);
            }
        }
        let value = |distance: u64| self.lowest.wrapping_add(i128::from(distance));
        distances.into_iter().map(value).collect()
    }

    fn broad(self, planes: &[u8], rows: usize) -> Vec<i128> {
        let value = |row: usize| {
            let mut bytes = [0; size_of::<u128>()];
            for (plane, byte) in bytes.iter_mut().take(self.width).enumerate() {
                *byte = planes[plane * rows + row];
            }
            self.lowest.wrapping_add(u128::from_le_bytes(bytes).cast_signed())
        };
        (0..rows).map(value).collect()
    }
}

/// For each row an index into the codes that occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codes {
    /// Ascending.
    pub(super) distinct: Vec<u32>,
    pub(super) indexes: Vec<u32>,
}

pub(super) fn write_codes(writer: &mut Writer, codes: &[u32]) {
    let mut distinct = codes.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    let mut gaps = Writer::new();
    let mut before = 0;
    for code in &distinct {
        gaps.uint(u64::from(code - before));
        before = *code;
    }
    pack(writer, &gaps.into_bytes());
    let width = index_width(distinct.len());
    let mut indexes = Vec::with_capacity(codes.len() * width);
    for code in codes {
        let index = distinct.partition_point(|other| other < code);
        indexes.extend_from_slice(&(index as u64).to_le_bytes()[..width]);
    }
    pack(writer, &indexes);
}

fn index_width(distinct: usize) -> usize {
    match distinct {
        0..=1 => 0,
        2..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PackedCodes<'a> {
    gaps: Packed<'a>,
    indexes: Packed<'a>,
}

impl<'a> PackedCodes<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<PackedCodes<'a>, Damage> {
        Ok(PackedCodes { gaps: Packed::read(reader)?, indexes: Packed::read(reader)? })
    }

    pub(super) fn distinct(self) -> Result<Vec<u32>, Damage> {
        let gaps = self.gaps.unpack()?;
        let mut gaps = Reader::new(&gaps);
        let mut distinct = Vec::new();
        let mut code = 0_u32;
        while !gaps.is_empty() {
            code = code.checked_add(gaps.u32()?).ok_or(Damage("a code is too big"))?;
            distinct.push(code);
        }
        Ok(distinct)
    }

    pub(super) fn unpack(self, rows: usize) -> Result<Codes, Damage> {
        let distinct = self.distinct()?;
        let bytes = self.indexes.unpack()?;
        let width = index_width(distinct.len());
        if bytes.len() != rows * width || (rows > 0 && distinct.is_empty()) {
            return Err(Damage("a column has another number of rows"));
        }
        let indexes = unpack_indexes(&bytes, width, rows);
        let sound = indexes.iter().all(|index| (*index as usize) < distinct.len());
        if sound || rows == 0 {
            Ok(Codes { distinct, indexes })
        } else {
            Err(Damage("an index is too big"))
        }
    }
}

fn unpack_indexes(bytes: &[u8], width: usize, rows: usize) -> Vec<u32> {
    match width {
        0 => vec![0; rows],
        1 => bytes.iter().map(|byte| u32::from(*byte)).collect(),
        2 => bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_le_bytes(*pair))).collect(),
        _ => bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            values in prop::collection::vec(any::<i128>(), 0..30),
            shift in 0_u32..128,
            scale in 0_u8..=28,
        ) {
            let values: Vec<i128> = values.into_iter().map(|value| value >> shift).collect();
            let mut writer = Writer::new();
            write_decimals(&mut writer, scale, &values);
            let bytes = writer.into_bytes();

            let packed = PackedDecimals::read(&mut Reader::new(&bytes)).unwrap();

            prop_assert_eq!(packed.unpack(values.len()), Ok(Decimals { scale, values }));
        }

        #[test]
        fn codes_come_back(codes in prop::collection::vec(0_u32..700, 0..600)) {
            let mut writer = Writer::new();
            write_codes(&mut writer, &codes);
            let bytes = writer.into_bytes();

            let packed = PackedCodes::read(&mut Reader::new(&bytes)).unwrap();
            let read = packed.unpack(codes.len()).unwrap();

            let back: Vec<u32> =
                read.indexes.iter().map(|index| read.distinct[*index as usize]).collect();
            prop_assert_eq!(back, codes);
        }
    }

    #[test]
    fn equal_numbers_take_no_room() {
        let mut writer = Writer::new();
        write_decimals(&mut writer, 2, &vec![1234; 5000]);

        assert_eq!(writer.into_bytes().len(), 7);
    }
}
