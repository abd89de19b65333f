//! Blocks: some thousand rows of a slice, column by column.
//!
//! ```text
//! block     = frame('B', 3) rows:uint scopes count:uint { attribute } numbers prices
//! scopes    = packed({ gap:int rows:uint })
//! attribute = kind:u8 name:text dictionary:uint codes
//! ```
//!
//! Rows are in the order in which readers get them: of one commit sorted by scope number, commits
//! one after the other. `scopes` has for each run of rows of one scope its number, as the
//! difference to the run before, and how many rows it has.
//!
//! The numbers are the quantities (see `numbers`). Bit 0 of `kind` says metadata (else groupby),
//! bit 1 that the texts are JSON. A column is unpacked only when a query needs it.
//!
//! In versions 1 and 2 the numbers stand before the attributes and all columns have other formats;
//! in version 1 `gap` is a `uint`.
//!
//! Example: two rows of scope 3, both with the first text of dictionary 7 as their `id`,
//! quantities 5 and 9, prices 10 and 18, all of scale 0:
//!
//! ```text
//! 42 03 02 00 02 06 02 01 00 02 69 64 07 01 00 01 02
//! B  3  2  scopes: +3 2 rows
//!                      1  groupby  i  d  7  codes: 1, packed +1
//! 00 00 01 05 03 20 00 00 01 0a 04 80 7d d8 9a 86
//! 0  0  5     3  0,4   0  0  10    4  0,8 crc32
//! ```

use std::ops::Range;

use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::columns::{BLOCK_ROWS_MAX, Codes, Numbering, PackedCodes, write_codes};
use super::indexes::{Bases, Indexes};
use super::numbers::{Decimals, Numbers, PackedNumbers, write_numbers, write_prices};

const KIND: Kind = Kind(b'B', 3);

/// Larger blocks are split, bytes: who wants one scope reads whole blocks.
const BLOCK_SIZE_MAX: usize = 192 << 10;
/// Most attributes of a slice: bounds what damage can make us allocate.
pub(super) const ATTRIBUTES_MAX: usize = 256;
/// Longest name of an attribute, bytes: a block of one row with all its names is small enough to be
/// stored.
pub(super) const NAME_SIZE_MAX: usize = 128;
const _: () = assert!(ATTRIBUTES_MAX * (NAME_SIZE_MAX + 24) < BLOCK_SIZE_MAX);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum AttributeKind {
    Groupby,
    Metadata,
}

/// What an attribute column is, apart from its rows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct AttributeName {
    pub(super) kind: AttributeKind,
    pub(super) name: String,
    pub(super) is_json: bool,
}

/// Rows of a slice, in order, ready to be stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct RowSet {
    pub(super) scopes: Vec<u32>,
    pub(super) qty_scale: u8,
    pub(super) qty: Vec<i128>,
    pub(super) price_scale: u8,
    pub(super) price: Vec<i128>,
    pub(super) attributes: Vec<AttributeRows>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AttributeRows {
    pub(super) name: AttributeName,
    pub(super) dictionary: u32,
    pub(super) codes: Vec<u32>,
}

/// A block and what the slice's record says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EncodedBlock {
    pub(super) rows: usize,
    /// The lowest and the highest.
    pub(super) first_scope: u32,
    pub(super) last_scope: u32,
    pub(super) bytes: Vec<u8>,
}

impl RowSet {
    /// In blocks that are small enough to be stored.
    pub(super) fn encode(&self) -> Vec<EncodedBlock> {
        let mut blocks = Vec::new();
        let mut numbering = Numbering::default();
        let rows = self.scopes.len();
        for begin in (0..rows).step_by(BLOCK_ROWS_MAX) {
            let range = begin..(begin + BLOCK_ROWS_MAX).min(rows);
            self.encode_range(range, &mut numbering, &mut blocks);
        }
        blocks
    }

    fn encode_range(
        &self,
        range: Range<usize>,
        numbering: &mut Numbering,
        blocks: &mut Vec<EncodedBlock>,
    ) {
        let bytes = self.encode_rows(range.clone(), numbering);
        let rows = range.len();
        if bytes.len() > BLOCK_SIZE_MAX && rows > 1 {
            let middle = range.start + rows / 2;
            self.encode_range(range.start..middle, numbering, blocks);
            self.encode_range(middle..range.end, numbering, blocks);
            return;
        }
        let scopes = self.scopes[range].iter().copied();
        let (first_scope, last_scope) =
            scopes.fold((u32::MAX, 0), |(first, last), scope| (first.min(scope), last.max(scope)));
        blocks.push(EncodedBlock { rows, first_scope, last_scope, bytes });
    }

    fn encode_rows(&self, range: Range<usize>, numbering: &mut Numbering) -> Vec<u8> {
        let mut writer = Writer::framed(KIND);
        writer.count(range.len());
        let mut scopes = Writer::new();
        let mut before = 0;
        for run in self.scopes[range.clone()].chunk_by(|left, right| left == right) {
            scopes.int(i64::from(run[0]) - i64::from(before));
            scopes.count(run.len());
            before = run[0];
        }
        pack(&mut writer, &scopes.into_bytes());
        writer.count(self.attributes.len());
        let number = |rows: &AttributeRows| numbering.number(&rows.codes[range.clone()]);
        let numbered: Vec<(Vec<u32>, Indexes)> = self.attributes.iter().map(number).collect();
        let mut bases: Bases<'_> = Vec::new();
        for (column, (rows, numbered)) in self.attributes.iter().zip(&numbered).enumerate() {
            let AttributeName { kind, name, is_json } = &rows.name;
            let is_metadata = *kind == AttributeKind::Metadata;
            writer.u8(u8::from(is_metadata) | u8::from(*is_json) << 1);
            writer.text(name);
            writer.uint(u64::from(rows.dictionary));
            let (distinct, indexes) = numbered;
            if write_codes(&mut writer, distinct, indexes, &bases) {
                bases.push((column, indexes));
            }
        }
        let (qty, price) = (&self.qty[range.clone()], &self.price[range]);
        write_numbers(&mut writer, self.qty_scale, qty, &bases);
        write_prices(&mut writer, self.price_scale, (qty, price), &bases);
        writer.seal()
    }
}

/// Rows of one scope, next to each other in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ScopeRun {
    pub(super) scope: u32,
    pub(super) rows: usize,
}

/// A block, its columns still packed.
#[derive(Debug, Clone)]
pub(super) struct Block<'a> {
    pub(super) rows: usize,
    version: u8,
    scopes: Packed<'a>,
    qty: PackedNumbers<'a>,
    price: PackedNumbers<'a>,
    pub(super) attributes: Vec<AttributeColumn<'a>>,
}

#[derive(Debug, Clone)]
pub(super) struct AttributeColumn<'a> {
    pub(super) name: AttributeName,
    pub(super) dictionary: u32,
    codes: PackedCodes<'a>,
}

/// Quantities and prices of a block's rows.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) qty_scale: u8,
    pub(super) qty: Numbers,
    pub(super) price_scale: u8,
    pub(super) price: Numbers,
}

impl<'a> Block<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Block<'a>, Damage> {
        let (version, mut reader) = Reader::versioned(KIND, bytes)?;
        let rows = reader.count(BLOCK_ROWS_MAX)?;
        let scopes = Packed::read(&mut reader)?;
        let block = if version < 3 {
            let qty = PackedNumbers::read_planes(&mut reader, rows)?;
            let price = PackedNumbers::read_planes(&mut reader, rows)?;
            let attributes = read_attributes(&mut reader, rows, version)?;
            Block { rows, version, scopes, qty, price, attributes }
        } else {
            let attributes = read_attributes(&mut reader, rows, version)?;
            let base = |column: usize| attributes.get(column)?.codes.base();
            let qty = PackedNumbers::read(&mut reader, rows, base)?;
            let price = PackedNumbers::read_prices(&mut reader, rows, base)?;
            Block { rows, version, scopes, qty, price, attributes }
        };
        reader.end()?;
        Ok(block)
    }

    /// Some of which the catalog may not know.
    pub(super) fn scopes(&self) -> Result<Vec<ScopeRun>, Damage> {
        read_scopes(self.scopes, self.rows, self.version)
    }

    pub(super) fn qty(&self) -> Result<Decimals, Damage> {
        Ok(Decimals { scale: self.qty.scale, values: self.qty.unpack()?.into_wide() })
    }

    pub(super) fn price(&self) -> Result<Decimals, Damage> {
        let rates = self.price.unpack()?;
        let price = if self.price.are_rates() {
            self.price.priced(&self.qty.unpack()?, rates)?
        } else {
            rates
        };
        Ok(Decimals { scale: self.price.scale, values: price.into_wide() })
    }

    pub(super) fn measured(&self) -> Result<Measured, Damage> {
        let qty = self.qty.unpack()?;
        let (price, price_scale) = self.price.priced_in_digits(&qty, self.price.unpack()?)?;
        Ok(Measured { qty_scale: self.qty.scale, qty, price_scale, price })
    }

    /// The attributes of that name, groupby before metadata.
    pub(super) fn attributes(&self, name: &str) -> impl Iterator<Item = &AttributeColumn<'a>> {
        // They are sorted by kind.
        self.attributes.iter().filter(move |attribute| attribute.name.name == name)
    }
}

fn read_attributes<'a>(
    reader: &mut Reader<'a>,
    rows: usize,
    version: u8,
) -> Result<Vec<AttributeColumn<'a>>, Damage> {
    let mut attributes: Vec<AttributeColumn<'a>> = Vec::new();
    for _ in 0..reader.count(ATTRIBUTES_MAX)? {
        let flags = reader.u8()?;
        if flags > 3 {
            return Err(Damage("an attribute is of an unknown kind"));
        }
        let is_metadata = flags & 1 == 1;
        let kind = if is_metadata { AttributeKind::Metadata } else { AttributeKind::Groupby };
        let name = reader.text()?.to_owned();
        let name = AttributeName { kind, name, is_json: flags & 2 == 2 };
        let dictionary = reader.u32()?;
        let base = |column: usize| attributes.get(column)?.codes.base();
        let codes = if version < 3 {
            PackedCodes::read_ascending(reader, rows)?
        } else {
            PackedCodes::read(reader, rows, base)?
        };
        attributes.push(AttributeColumn { name, dictionary, codes });
    }
    Ok(attributes)
}

impl AttributeColumn<'_> {
    pub(super) fn codes(&self, rows: usize) -> Result<Codes, Damage> {
        Ok(Codes { distinct: self.distinct()?, indexes: self.indexes(rows)? })
    }

    /// The codes that occur.
    pub(super) fn distinct(&self) -> Result<Vec<u32>, Damage> {
        self.codes.distinct()
    }

    /// For each row an index into `distinct`.
    pub(super) fn indexes(&self, rows: usize) -> Result<Vec<u32>, Damage> {
        self.codes.indexes(rows)
    }
}

fn read_scopes(packed: Packed<'_>, rows: usize, version: u8) -> Result<Vec<ScopeRun>, Damage> {
    let bytes = packed.unpack()?;
    let mut reader = Reader::new(&bytes);
    let mut scopes = Vec::new();
    let mut scope = 0_u32;
    let mut rows_left = rows;
    while !reader.is_empty() {
        let gap = if version == 1 { i64::from(reader.u32()?) } else { reader.int()? };
        let number = i64::from(scope).checked_add(gap).and_then(|sum| u32::try_from(sum).ok());
        scope = number.ok_or(Damage("a scope number is out of range"))?;
        let rows = reader.count(rows_left)?;
        rows_left -= rows;
        scopes.push(ScopeRun { scope, rows });
    }
    if rows_left == 0 { Ok(scopes) } else { Err(Damage("its scopes have too few rows")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the module's documentation has it.
    const HEAD: &str = "42 03 02 00 02 06 02 01 00 02 69 64 07 01 00 01 02";
    const NUMBERS: &str = "00 00 01 05 03 20 00 00 01 0a 04 80 7d d8 9a 86";

    #[test]
    fn the_layout_is_this() {
        let name =
            AttributeName { kind: AttributeKind::Groupby, name: "id".to_owned(), is_json: false };
        let rows = RowSet {
            scopes: vec![3, 3],
            qty_scale: 0,
            qty: vec![5, 9],
            price_scale: 0,
            price: vec![10, 18],
            attributes: vec![AttributeRows { name, dictionary: 7, codes: vec![1, 1] }],
        };

        let blocks = rows.encode();

        let hex: Vec<String> = blocks[0].bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex.join(" "), format!("{HEAD} {NUMBERS}"));
        assert_eq!(blocks.len(), 1);
    }

    #[test]
    fn rows_that_do_not_fit_one_block_go_into_more() {
        let mix = |row: u64| (row ^ 0x5555).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let many = BLOCK_ROWS_MAX as u64 + 100;
        let numbers = |salt: u64| -> Vec<i128> {
            let number = |row: u64| i128::from(mix(row ^ salt) >> 1) * i128::from(mix(!row));
            (0..many).map(number).collect()
        };
        let rows = RowSet {
            scopes: (0..many).map(|row| u32::try_from(row / 7).unwrap()).collect(),
            qty: numbers(0),
            price: numbers(1 << 40),
            ..RowSet::default()
        };

        let blocks = rows.encode();

        assert!(blocks.len() > 2, "{}", blocks.len());
        let mut qty = Vec::new();
        for block in &blocks {
            assert!(block.bytes.len() <= BLOCK_SIZE_MAX);
            let read = Block::read(&block.bytes).unwrap();
            assert_eq!(read.rows, block.rows);
            assert_eq!(read.scopes().unwrap()[0].scope, block.first_scope);
            qty.extend(read.qty().unwrap().values);
        }
        assert_eq!(qty, rows.qty);
    }
}
