//! For each row of a block the index of what it has in a list of what occurs.
//!
//! The list is in the order in which rows first have its items, so a row's index is at most the
//! number of different ones before it. With one item all indexes are 0, and with as many items as
//! rows they are 0, 1, 2 …: such indexes take no room. Else:
//!
//! ```text
//! indexes = plain | 2:u8 column:uint plain
//! plain   = nothing | 0:u8 bits | 1:u8 count:uint packed({ rows:uint }) bits
//! ```
//!
//! 0: one after the other. 1: in `count` runs of rows that have the same, how long each is and what
//! its rows have. 2: they follow from those of an attribute (by its number in the block) whose own
//! are plain: for each item of that one's list an index, and these are `plain` again. So the name
//! of a flavor that goes with its id takes no room, and neither does a price list.

use super::bits::{Bits, index_width, pack_bits};
use super::codec::{Damage, Packed, Reader, Writer, pack};

const BITS: u8 = 0;
const RUNS: u8 = 1;
const FOLLOW: u8 = 2;

/// A run takes about as many bits, its index not counted.
const RUN_BITS: usize = 8;

/// Indexes follow only from those of an attribute that so many rows share an item of.
const SHARE_MIN: usize = 4;

/// Indexes of a block's rows, not packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Indexes {
    /// Of the list.
    pub(super) count: usize,
    pub(super) of_rows: Vec<u32>,
}

/// Attributes whose indexes are plain, by number.
pub(super) type Bases<'a> = Vec<(usize, &'a Indexes)>;

/// Whether they are plain.
pub(super) fn write_indexes(writer: &mut Writer, indexes: &Indexes, bases: &Bases<'_>) -> bool {
    let Indexes { count, of_rows } = indexes;
    if !are_implied(*count, of_rows.len()) {
        for (column, base) in bases {
            if base.count * SHARE_MIN <= of_rows.len()
                && let Some(map) = follow(base, indexes)
            {
                writer.u8(FOLLOW);
                writer.count(*column);
                write_plain(writer, *count, &map);
                return false;
            }
        }
    }
    write_plain(writer, *count, of_rows);
    true
}

/// Whether indexes of so many rows into so long a list can only be these.
fn are_implied(count: usize, rows: usize) -> bool {
    count <= 1 || count == rows
}

/// For each item of the base the index that all its rows have.
fn follow(base: &Indexes, indexes: &Indexes) -> Option<Vec<u32>> {
    const NONE: u32 = u32::MAX;
    if indexes.count > base.count {
        return None;
    }
    let mut map = vec![NONE; base.count];
    for (from, to) in base.of_rows.iter().zip(&indexes.of_rows) {
        let known = &mut map[*from as usize];
        if *known != *to {
            if *known != NONE {
                return None;
            }
            *known = *to;
        }
    }
    Some(map)
}

fn write_plain(writer: &mut Writer, count: usize, indexes: &[u32]) {
    if are_implied(count, indexes.len()) {
        return;
    }
    let width = index_width(count);
    let starts = indexes.windows(2).filter(|pair| pair[0] != pair[1]).count() + 1;
    if starts * (width as usize + RUN_BITS) < indexes.len() * width as usize {
        let mut lengths = Writer::new();
        let mut of_runs = Vec::with_capacity(starts);
        for run in indexes.chunk_by(|left, right| left == right) {
            lengths.count(run.len());
            of_runs.push(u64::from(run[0]));
        }
        writer.u8(RUNS);
        writer.count(starts);
        pack(writer, &lengths.into_bytes());
        writer.raw(&pack_bits(width, of_runs.into_iter()));
        return;
    }
    writer.u8(BITS);
    writer.raw(&pack_bits(width, indexes.iter().map(|index| u64::from(*index))));
}

/// Indexes, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct PackedIndexes<'a> {
    /// Of the list.
    count: usize,
    rows: usize,
    plain: Plain<'a>,
    /// Those that they follow from, and the length of their list.
    base: Option<(usize, Plain<'a>)>,
}

#[derive(Debug, Clone, Copy)]
enum Plain<'a> {
    Implied,
    Bits(Bits<'a>),
    Runs { lengths: Packed<'a>, of_runs: Bits<'a> },
}

impl<'a> PackedIndexes<'a> {
    /// Of so many rows into so long a list; `base` knows those of the attributes before.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        (rows, count): (usize, usize),
        base: impl Fn(usize) -> Option<PackedIndexes<'a>>,
    ) -> Result<PackedIndexes<'a>, Damage> {
        if rows > 0 && count == 0 {
            return Err(Damage("a column has no items"));
        }
        if are_implied(count, rows) {
            return Ok(PackedIndexes { count, rows, plain: Plain::Implied, base: None });
        }
        let kind = reader.u8()?;
        if kind != FOLLOW {
            let plain = Plain::of_kind(kind, reader, rows, count)?;
            return Ok(PackedIndexes { count, rows, plain, base: None });
        }
        let column = reader.count(usize::MAX)?;
        let base = base(column).filter(|base| base.base.is_none() && base.rows == rows);
        let base = base.ok_or(Damage("a column follows from one that is not there"))?;
        let plain = Plain::read(reader, base.count, count)?;
        Ok(PackedIndexes { count, rows, plain, base: Some((base.count, base.plain)) })
    }

    pub(super) fn unpack(self) -> Result<Vec<u32>, Damage> {
        let Some((base_count, base)) = self.base else {
            return self.plain.unpack(self.rows, self.count);
        };
        let map = self.plain.unpack(base_count, self.count)?;
        let mut indexes = base.unpack(self.rows, base_count)?;
        if self.count != base_count {
            for index in &mut indexes {
                *index = map[*index as usize];
            }
        }
        Ok(indexes)
    }
}

impl<'a> Plain<'a> {
    fn read(reader: &mut Reader<'a>, rows: usize, count: usize) -> Result<Plain<'a>, Damage> {
        if are_implied(count, rows) {
            return Ok(Plain::Implied);
        }
        let kind = reader.u8()?;
        Plain::of_kind(kind, reader, rows, count)
    }

    fn of_kind(
        kind: u8,
        reader: &mut Reader<'a>,
        rows: usize,
        count: usize,
    ) -> Result<Plain<'a>, Damage> {
        let width = index_width(count);
        match kind {
            BITS => Ok(Plain::Bits(Bits::read(reader, width, rows)?)),
            RUNS => {
                let runs = reader.count(rows)?;
                let lengths = Packed::read(reader)?;
                Ok(Plain::Runs { lengths, of_runs: Bits::read(reader, width, runs)? })
            }
            _ => Err(Damage("indexes are of an unknown kind")),
        }
    }

    /// Each is below `count`.
    fn unpack(self, rows: usize, count: usize) -> Result<Vec<u32>, Damage> {
        let indexes = match self {
            Plain::Implied if count <= 1 => return Ok(vec![0; rows]),
            Plain::Implied => return Ok((0..).take(rows).collect()),
            Plain::Bits(bits) => bits.unpack(low_half),
            Plain::Runs { lengths, of_runs } => unpack_runs(rows, lengths, of_runs)?,
        };
        let highest = indexes.iter().copied().max().unwrap_or(0);
        if (highest as usize) < count { Ok(indexes) } else { Err(Damage("an index is too big")) }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the width of an index is at most 32 bits")]
fn low_half(number: u64) -> u32 {
    number as u32
}

fn unpack_runs(rows: usize, lengths: Packed<'_>, of_runs: Bits<'_>) -> Result<Vec<u32>, Damage> {
    let bytes = lengths.unpack()?;
    let mut lengths = Reader::new(&bytes);
    let mut indexes = Vec::with_capacity(rows);
    for index in of_runs.unpack(low_half) {
        let length = lengths.count(rows - indexes.len())?;
        indexes.resize(indexes.len() + length, index);
    }
    lengths.end()?;
    if indexes.len() == rows { Ok(indexes) } else { Err(Damage("its runs have too few rows")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As a column would have them that rows have these items of.
    fn indexes_of(items: &[u32]) -> Indexes {
        let mut list = Vec::new();
        let index = |item: &u32| {
            let at = list.iter().position(|other| other == item).unwrap_or_else(|| {
                list.push(*item);
                list.len() - 1
            });
            u32::try_from(at).unwrap()
        };
        let of_rows = items.iter().map(index).collect();
        Indexes { count: list.len(), of_rows }
    }

    fn check(base: &[u32], items: &[u32]) -> usize {
        let (base, indexes) = (indexes_of(base), indexes_of(items));
        let rows = items.len();
        let mut writer = Writer::new();
        assert!(write_indexes(&mut writer, &base, &Vec::new()));
        let start = writer.len();
        write_indexes(&mut writer, &indexes, &vec![(7, &base)]);
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);

        let no_base = |_| None;
        let packed_base = PackedIndexes::read(&mut reader, (rows, base.count), no_base).unwrap();
        let bases = |column| (column == 7).then_some(packed_base);
        let packed = PackedIndexes::read(&mut reader, (rows, indexes.count), bases).unwrap();

        assert!(reader.is_empty());
        assert_eq!(packed_base.unpack(), Ok(base.of_rows));
        assert_eq!(packed.unpack(), Ok(indexes.of_rows));
        bytes.len() - start
    }

    proptest! {
        #[test]
        fn they_come_back(
            base in prop::collection::vec(0_u32..300, 0..600),
            items in 1_u32..300,
            repeats in 1_usize..9,
        ) {
            let base: Vec<u32> = base.iter().map(|item| item % items).collect();
            let of_base: Vec<u32> = base.iter().map(|item| item / 3).collect();
            check(&base, &of_base);
            let others: Vec<u32> = base.iter().rev().copied().collect();
            check(&base, &others);
            let runs = base.iter().flat_map(|item| vec![*item; repeats]).take(base.len()).collect();
            let runs: Vec<u32> = runs;
            check(&base, &runs);
        }

        #[test]
        fn random_bytes_do_no_harm(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            rows in 0_usize..40,
            count in 0_usize..40,
        ) {
            let mut reader = Reader::new(&bytes);
            let base = PackedIndexes::read(&mut reader, (rows, count), |_| None);
            let of_base = PackedIndexes::read(&mut reader, (rows, 3), |_| base.ok());
            for packed in [base, of_base].into_iter().flatten() {
                if let Ok(indexes) = packed.unpack() {
                    prop_assert_eq!(indexes.len(), rows);
                    prop_assert!(indexes.iter().all(|index| (*index as usize) < packed.count));
                }
            }
        }
    }

    #[test]
    fn what_follows_takes_no_room() {
        let ids: Vec<u32> = (0..1000).map(|row| row * row % 17).collect();
        let names: Vec<u32> = ids.iter().map(|id| 100 - id).collect();
        assert_eq!(check(&ids, &names), 2);
        assert_eq!(check(&ids, &[5; 1000]), 0);
        assert_eq!(check(&ids, &(0..1000).collect::<Vec<u32>>()), 0);
    }
}
