//! Blocks: some thousand rows of a slice, column by column.
//!
//! ```text
//! block     = frame('B', 2) rows:uint scopes decimals decimals count:uint { attribute }
//! scopes    = packed({ gap:int rows:uint })
//! attribute = kind:u8 name:text dictionary:uint codes
//! ```
//!
//! Rows are in the order in which readers get them: of one commit sorted by scope number, commits
//! one after the other. `scopes` has for each run of rows of one scope its number, as the
//! difference to the run before, and how many rows it has. In version 1 `gap` is a `uint`.
//!
//! The decimals are quantity and price. Bit 0 of `kind` says metadata (else groupby), bit 1 that
//! the texts are JSON. A column is unpacked only when a query needs it.

use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::columns::{
    BLOCK_ROWS_MAX, Codes, Decimals, PackedCodes, PackedDecimals, write_codes, write_decimals,
};
use super::store::VALUE_SIZE_MAX;

const KIND: Kind = Kind(b'B', 2);

/// Most attributes of a slice: bounds what damage can make us allocate.
pub(super) const ATTRIBUTES_MAX: usize = 256;
/// Longest name of an attribute, bytes: a block of one row with all its names is small enough to be
/// stored.
pub(super) const NAME_SIZE_MAX: usize = 128;
const _: () = assert!(ATTRIBUTES_MAX * (NAME_SIZE_MAX + 24) < VALUE_SIZE_MAX);

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
        let rows = self.scopes.len();
        for begin in (0..rows).step_by(BLOCK_ROWS_MAX) {
            self.encode_range(begin, (begin + BLOCK_ROWS_MAX).min(rows), &mut blocks);
        }
        blocks
    }

    fn encode_range(&self, begin: usize, end: usize, blocks: &mut Vec<EncodedBlock>) {
        let bytes = self.encode_rows(begin, end);
        let rows = end - begin;
        if bytes.len() > VALUE_SIZE_MAX && rows > 1 {
            let middle = begin + rows / 2;
            self.encode_range(begin, middle, blocks);
            self.encode_range(middle, end, blocks);
            return;
        }
        let scopes = self.scopes[begin..end].iter().copied();
        let (first_scope, last_scope) =
            scopes.fold((u32::MAX, 0), |(first, last), scope| (first.min(scope), last.max(scope)));
        blocks.push(EncodedBlock { rows, first_scope, last_scope, bytes });
    }

    fn encode_rows(&self, begin: usize, end: usize) -> Vec<u8> {
        let mut writer = Writer::framed(KIND);
        writer.count(end - begin);
        let mut scopes = Writer::new();
        let mut before = 0;
        for run in self.scopes[begin..end].chunk_by(|left, right| left == right) {
            scopes.int(i64::from(run[0]) - i64::from(before));
            scopes.count(run.len());
            before = run[0];
        }
        pack(&mut writer, &scopes.into_bytes());
        write_decimals(&mut writer, self.qty_scale, &self.qty[begin..end]);
        write_decimals(&mut writer, self.price_scale, &self.price[begin..end]);
        writer.count(self.attributes.len());
        for attribute in &self.attributes {
            let is_metadata = attribute.name.kind == AttributeKind::Metadata;
            writer.u8(u8::from(is_metadata) | u8::from(attribute.name.is_json) << 1);
            writer.text(&attribute.name.name);
            writer.uint(u64::from(attribute.dictionary));
            write_codes(&mut writer, &attribute.codes[begin..end]);
        }
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
    pub(super) scopes: Vec<ScopeRun>,
    qty: PackedDecimals<'a>,
    price: PackedDecimals<'a>,
    pub(super) attributes: Vec<AttributeColumn<'a>>,
}

#[derive(Debug, Clone)]
pub(super) struct AttributeColumn<'a> {
    pub(super) name: AttributeName,
    pub(super) dictionary: u32,
    codes: PackedCodes<'a>,
}

impl<'a> Block<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Block<'a>, Damage> {
        let (version, mut reader) = Reader::versioned(KIND, bytes)?;
        let rows = reader.count(BLOCK_ROWS_MAX)?;
        let scopes = read_scopes(Packed::read(&mut reader)?, rows, version)?;
        let qty = PackedDecimals::read(&mut reader)?;
        let price = PackedDecimals::read(&mut reader)?;
        let mut attributes = Vec::new();
        for _ in 0..reader.count(ATTRIBUTES_MAX)? {
            attributes.push(AttributeColumn::read(&mut reader)?);
        }
        reader.end()?;
        Ok(Block { rows, scopes, qty, price, attributes })
    }

    pub(super) fn qty(&self) -> Result<Decimals, Damage> {
        self.qty.unpack(self.rows)
    }

    pub(super) fn price(&self) -> Result<Decimals, Damage> {
        self.price.unpack(self.rows)
    }

    /// The attributes of that name, groupby before metadata.
    pub(super) fn attributes(&self, name: &str) -> impl Iterator<Item = &AttributeColumn<'a>> {
        // They are sorted by kind.
        self.attributes.iter().filter(move |attribute| attribute.name.name == name)
    }
}

impl<'a> AttributeColumn<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<AttributeColumn<'a>, Damage> {
        let flags = reader.u8()?;
        if flags > 3 {
            return Err(Damage("an attribute is of an unknown kind"));
        }
        let is_metadata = flags & 1 == 1;
        let kind = if is_metadata { AttributeKind::Metadata } else { AttributeKind::Groupby };
        let name = reader.text()?.to_owned();
        let dictionary = reader.u32()?;
        let codes = PackedCodes::read(reader)?;
        let name = AttributeName { kind, name, is_json: flags & 2 == 2 };
        Ok(AttributeColumn { name, dictionary, codes })
    }

    pub(super) fn codes(&self, rows: usize) -> Result<Codes, Damage> {
        self.codes.unpack(rows)
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
