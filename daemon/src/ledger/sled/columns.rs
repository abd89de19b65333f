//! Columns of a block: codes of texts.
//!
//! ```text
//! codes   = count:uint packed({ gap:int }) indexes
//! ```
//!
//! The `count` codes that occur in the order in which rows first have them, each as the difference
//! to the one before; then for each row the index of its code in that list (see `indexes`). Rows
//! are in an order in which the codes of one attribute mostly ascend, so that its gaps are small.
//!
//! In blocks of versions 1 and 2:
//!
//! ```text
//! codes   = packed({ gap:uint }) packed(indexes)
//! ```
//!
//! The codes that occur, ascending, as gaps; then for each row the index of its code in that list,
//! in as few bytes (1, 2 or 4, little endian) as the list needs, none when it has one code only.

use super::codec::{Damage, Packed, Reader, Writer, pack};
use super::hash::NumberMap;
use super::indexes::{Bases, Indexes, PackedIndexes, write_indexes};

/// Most rows of one block.
pub(super) const BLOCK_ROWS_MAX: usize = 8192;

/// For each row an index into the codes that occur.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codes {
    pub(super) distinct: Vec<u32>,
    pub(super) indexes: Vec<u32>,
}

/// Numbers the codes that rows have, in the order in which they first have them.
#[derive(Debug, Default)]
pub(super) struct Numbering {
    /// By code the number and one; 0 = not seen.
    numbers: Vec<u32>,
}

/// Codes beyond so many times the number of rows are looked up by hash: a table for them would cost
/// more than the few rows do.
const TABLE_SHARE: usize = 16;

impl Numbering {
    pub(super) fn number(&mut self, codes: &[u32]) -> (Vec<u32>, Indexes) {
        let highest = codes.iter().copied().max().unwrap_or(0) as usize;
        if highest / TABLE_SHARE > codes.len() {
            return number_few(codes);
        }
        if self.numbers.len() <= highest {
            self.numbers.resize(highest + 1, 0);
        }
        let mut distinct = Vec::new();
        let mut of_rows = Vec::with_capacity(codes.len());
        let mut last = 0;
        for code in codes {
            let number = &mut self.numbers[*code as usize];
            if *number == 0 {
                distinct.push(*code);
                last += 1;
                *number = last;
            }
            of_rows.push(*number - 1);
        }
        for code in &distinct {
            self.numbers[*code as usize] = 0;
        }
        (distinct, Indexes { count: last as usize, of_rows })
    }
}

fn number_few(codes: &[u32]) -> (Vec<u32>, Indexes) {
    let mut numbers: NumberMap<u32, u32> = NumberMap::default();
    let mut distinct = Vec::new();
    let index = |code: &u32| {
        *numbers.entry(*code).or_insert_with(|| {
            distinct.push(*code);
            u32::try_from(distinct.len() - 1).expect("a block has few rows")
        })
    };
    let of_rows = codes.iter().map(index).collect();
    let count = distinct.len();
    (distinct, Indexes { count, of_rows })
}

/// Whether the indexes are plain.
pub(super) fn write_codes(
    writer: &mut Writer,
    distinct: &[u32],
    indexes: &Indexes,
    bases: &Bases<'_>,
) -> bool {
    writer.count(distinct.len());
    let mut gaps = Writer::new();
    let mut before = 0;
    for code in distinct {
        gaps.int(i64::from(*code) - i64::from(before));
        before = *code;
    }
    pack(writer, &gaps.into_bytes());
    write_indexes(writer, indexes, bases)
}

/// A column of codes, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) enum PackedCodes<'a> {
    /// Of versions 1 and 2.
    Ascending {
        rows: usize,
        gaps: Packed<'a>,
        indexes: Packed<'a>,
    },
    AsMet {
        count: usize,
        gaps: Packed<'a>,
        indexes: PackedIndexes<'a>,
    },
}

impl<'a> PackedCodes<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        rows: usize,
        base: impl Fn(usize) -> Option<PackedIndexes<'a>>,
    ) -> Result<PackedCodes<'a>, Damage> {
        let count = reader.count(rows)?;
        let gaps = Packed::read(reader)?;
        let indexes = PackedIndexes::read(reader, (rows, count), base)?;
        Ok(PackedCodes::AsMet { count, gaps, indexes })
    }

    pub(super) fn read_ascending(
        reader: &mut Reader<'a>,
        rows: usize,
    ) -> Result<PackedCodes<'a>, Damage> {
        let gaps = Packed::read(reader)?;
        Ok(PackedCodes::Ascending { rows, gaps, indexes: Packed::read(reader)? })
    }

    /// Those that other columns may follow from.
    pub(super) fn base(self) -> Option<PackedIndexes<'a>> {
        match self {
            PackedCodes::Ascending { .. } => None,
            PackedCodes::AsMet { indexes, .. } => Some(indexes),
        }
    }

    pub(super) fn distinct(self) -> Result<Vec<u32>, Damage> {
        match self {
            PackedCodes::Ascending { rows, gaps, .. } => ascending(gaps, rows),
            PackedCodes::AsMet { count, gaps, .. } => as_met(gaps, count),
        }
    }

    pub(super) fn indexes(self, rows: usize) -> Result<Vec<u32>, Damage> {
        match self {
            PackedCodes::AsMet { indexes, .. } => indexes.unpack(),
            PackedCodes::Ascending { gaps, indexes, .. } => {
                unpack_bytes(indexes, rows, ascending(gaps, rows)?.len())
            }
        }
    }
}

fn as_met(gaps: Packed<'_>, count: usize) -> Result<Vec<u32>, Damage> {
    let bytes = gaps.unpack()?;
    let mut gaps = Reader::new(&bytes);
    let mut distinct = Vec::with_capacity(count);
    let mut code = 0_u32;
    for _ in 0..count {
        let next = i64::from(code).checked_add(gaps.int()?).and_then(|sum| u32::try_from(sum).ok());
        code = next.ok_or(Damage("a code is out of range"))?;
        distinct.push(code);
    }
    gaps.end()?;
    Ok(distinct)
}

fn ascending(gaps: Packed<'_>, rows: usize) -> Result<Vec<u32>, Damage> {
    let bytes = gaps.unpack()?;
    let mut gaps = Reader::new(&bytes);
    let mut distinct = Vec::new();
    let mut code = 0_u32;
    while !gaps.is_empty() {
        if distinct.len() == rows {
            return Err(Damage("a column has more codes than rows"));
        }
        code = code.checked_add(gaps.u32()?).ok_or(Damage("a code is too big"))?;
        distinct.push(code);
    }
    Ok(distinct)
}

/// Indexes of versions 1 and 2.
fn unpack_bytes(packed: Packed<'_>, rows: usize, distinct: usize) -> Result<Vec<u32>, Damage> {
    let bytes = packed.unpack()?;
    let width = match distinct {
        0..=1 => 0,
        2..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        _ => 4,
    };
    if bytes.len() != rows * width || (rows > 0 && distinct == 0) {
        return Err(Damage("a column has another number of rows"));
    }
    let indexes: Vec<u32> = match width {
        0 => vec![0; rows],
        1 => bytes.iter().map(|byte| u32::from(*byte)).collect(),
        2 => bytes.as_chunks().0.iter().map(|pair| u32::from(u16::from_le_bytes(*pair))).collect(),
        _ => bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect(),
    };
    let sound = indexes.iter().all(|index| (*index as usize) < distinct);
    if sound { Ok(indexes) } else { Err(Damage("an index is too big")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpack(packed: PackedCodes<'_>, rows: usize) -> Vec<u32> {
        let (distinct, indexes) = (packed.distinct().unwrap(), packed.indexes(rows).unwrap());
        indexes.iter().map(|index| distinct[*index as usize]).collect()
    }

    proptest! {
        #[test]
        fn codes_come_back(
            first in prop::collection::vec(0_u32..700, 0..600),
            second in prop::collection::vec(0_u32..70_000, 0..600),
        ) {
            let mut numbering = Numbering::default();
            for codes in [first, second] {
                let (distinct, indexes) = numbering.number(&codes);
                let mut writer = Writer::new();
                write_codes(&mut writer, &distinct, &indexes, &Vec::new());
                let bytes = writer.into_bytes();

                let mut reader = Reader::new(&bytes);
                let packed = PackedCodes::read(&mut reader, codes.len(), |_| None).unwrap();

                prop_assert_eq!(unpack(packed, codes.len()), codes);
                prop_assert!(reader.is_empty());
            }
        }

        #[test]
        fn codes_of_version_2_come_back(codes in prop::collection::vec(0_u32..700, 0..600)) {
            let mut distinct = codes.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let width = if distinct.len() > 0x100 { 2 } else { usize::from(distinct.len() > 1) };
            let mut gaps = Writer::new();
            let mut before = 0;
            for code in &distinct {
                gaps.uint(u64::from(code - before));
                before = *code;
            }
            let indexes = codes.iter().flat_map(|code| {
                let index = distinct.binary_search(code).unwrap();
                index.to_le_bytes().into_iter().take(width)
            });
            let mut writer = Writer::new();
            pack(&mut writer, &gaps.into_bytes());
            pack(&mut writer, &indexes.collect::<Vec<u8>>());
            let bytes = writer.into_bytes();

            let mut reader = Reader::new(&bytes);
            let packed = PackedCodes::read_ascending(&mut reader, codes.len()).unwrap();

            prop_assert_eq!(unpack(packed, codes.len()), codes);
        }
    }
}
