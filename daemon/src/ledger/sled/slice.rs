//! A slice's own record: what is known of it without reading its rows.
//!
//! ```text
//! key    = begin:i64be metric:u32be slice:u64be          (the sign bit of `begin` flipped)
//! slice  = frame('I', 4) end:int unit:text described:u8 [ description:text ] chain:uint
//!          scopes:uint rows:uint qty:wide price:wide parts(rollups) parts(blocks)
//!          origin:u8 removed:runs order:uint file:uint offset:uint
//! parts  = count:uint { rows:uint first_scope:uint last_scope:uint size:uint scopes:uint }
//! ```
//!
//! `scopes` of a part of the rollups is how many of its scopes have rows; of a block it is 0.
//!
//! `qty` and `price` are in units of 10^-28. A slice is in the ledger if its record is. For a part
//! of the rollups `rows` is its number of scopes. `origin` is 0 for what the cycle has collected, 1
//! for what somebody pushed. Version 1 ends before it: collected, nothing removed.
//!
//! `order` is the slice's place among those of the same period and metric type: of a slice that was
//! committed its own number, of one that `compaction` has put together that of the first one it
//! stands for. Version 2 ends before it: its own number.
//!
//! The parts stand one after the other, rollups first, from `offset` on in the data file `file` of
//! the month in which the slice begins (see `data`); each takes `size` bytes. A slice with rows but
//! without blocks has lost them to `retention`: its sums are left. Version 3 ends before `file` and
//! its parts end before `size`: they stood in sled, and `raise` has moved them.
//!
//! `removed` (see `runs`) are scopes that readers leave out of the slice: rollups and blocks still
//! have them, and the numbers of the parts count them; `scopes`, `rows`, `qty` and `price` do not.
//! The record of a slice without a scope left is deleted.

use super::block::EncodedBlock;
use super::catalog::{MetricNumber, ScopeNumber};
use super::codec::{Damage, Kind, Reader, Writer};
use super::data::{FileId, Month};
use super::gather::ScopeSums;
use super::runs::ScopeRuns;
use super::store::VALUE_SIZE_MAX;
use crate::ledger::Origin;
use crate::usage::{Period, Sum};

const SLICE: Kind = Kind(b'I', 4);

/// Most parts of a slice that is written: its record is one value of the store.
pub(super) const SLICE_PARTS_MAX: usize = 2000;
const _: () = assert!(SLICE_PARTS_MAX * 18 + 4096 < VALUE_SIZE_MAX);
/// Most parts of a slice that is read.
const PARTS_MAX: usize = 1 << 16;
/// Most bytes of a part: bounds what damage can make us allocate.
const PART_SIZE_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SliceKey {
    pub(super) begin_secs: i64,
    pub(super) metric: MetricNumber,
    /// Of the slices that are there no other one has it; after counters were counted again, one
    /// of a slice that is gone may come again.
    pub(super) number: u64,
}

impl SliceKey {
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut key = time_bytes(self.begin_secs).to_vec();
        key.extend_from_slice(&self.metric.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        key
    }

    pub(super) fn read(key: &[u8]) -> Result<SliceKey, Damage> {
        let too_short = Damage("its key is too short");
        let (time, rest) = key.split_at_checked(8).ok_or(too_short)?;
        let (metric, rest) = rest.split_first_chunk::<4>().ok_or(too_short)?;
        let number = rest.first_chunk::<8>().ok_or(too_short)?;
        Ok(SliceKey {
            begin_secs: secs_of(time).ok_or(too_short)?,
            metric: u32::from_be_bytes(*metric),
            number: u64::from_be_bytes(*number),
        })
    }
}

const SIGN: u64 = 1 << 63;

/// Sorts as the number does.
pub(super) fn time_bytes(secs: i64) -> [u8; 8] {
    (secs.cast_unsigned() ^ SIGN).to_be_bytes()
}

/// What `time_bytes` was made of.
pub(super) fn secs_of(time: &[u8]) -> Option<i64> {
    let time = time.try_into().ok()?;
    Some((u64::from_be_bytes(time) ^ SIGN).cast_signed())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) period: Period,
    pub(super) metric: MetricNumber,
    pub(super) number: u64,
    pub(super) unit: String,
    pub(super) description: Option<String>,
    pub(super) chain: u32,
    /// What is not removed; the parts count what is, too.
    pub(super) scopes: u64,
    pub(super) rows: u64,
    pub(super) qty: Sum,
    pub(super) price: Sum,
    pub(super) rollups: Vec<Part>,
    pub(super) blocks: Vec<Part>,
    pub(super) origin: Origin,
    pub(super) removed: ScopeRuns,
    /// Place in the order of commits.
    pub(super) order: u64,
    /// Number of its data file.
    pub(super) file: u32,
    pub(super) offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rows: usize,
    pub(super) first_scope: ScopeNumber,
    pub(super) last_scope: ScopeNumber,
    /// Bytes.
    pub(super) size: u32,
    /// Of a rollup: how many of its scopes have rows; 0 = not known, or none.
    pub(super) with_rows: usize,
}

impl Part {
    /// Whether a rollup has each scope between its first and its last, and all of them have rows.
    pub(super) fn is_full(&self) -> bool {
        let span = self.last_scope as usize - self.first_scope as usize + 1;
        self.with_rows == span
    }
}

impl From<&EncodedBlock> for Part {
    fn from(block: &EncodedBlock) -> Part {
        let EncodedBlock { rows, first_scope, last_scope, .. } = *block;
        Part { rows, first_scope, last_scope, size: part_size(&block.bytes), with_rows: 0 }
    }
}

pub(super) fn part_size(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a part has some MiB at most")
}

impl Slice {
    pub(super) fn data_file(&self) -> FileId {
        FileId { month: Month::of(self.period.begin_secs()), number: self.file }
    }

    /// Where a part begins in the data file.
    pub(super) fn rollup_offset(&self, part: usize) -> u64 {
        self.offset + size_of_parts(&self.rollups[..part])
    }

    pub(super) fn block_offset(&self, part: usize) -> u64 {
        self.offset + size_of_parts(&self.rollups) + size_of_parts(&self.blocks[..part])
    }

    /// Of all its parts, bytes.
    pub(super) fn extent_size(&self) -> u64 {
        size_of_parts(&self.rollups) + size_of_parts(&self.blocks)
    }

    /// Whether its rows are there: `retention` may have dropped them.
    pub(super) fn has_rows(&self) -> bool {
        self.rows == 0 || !self.blocks.is_empty()
    }

    /// Of all scopes that are left.
    pub(super) fn sums(&self) -> ScopeSums {
        ScopeSums { rows: self.rows, qty: self.qty, price: self.price }
    }

    pub(super) fn key(&self) -> SliceKey {
        let begin_secs = self.period.begin_secs();
        SliceKey { begin_secs, metric: self.metric, number: self.number }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::framed(SLICE);
        writer.int(self.period.end_secs());
        writer.text(&self.unit);
        writer.u8(u8::from(self.description.is_some()));
        if let Some(description) = &self.description {
            writer.text(description);
        }
        writer.uint(u64::from(self.chain));
        writer.uint(self.scopes);
        writer.uint(self.rows);
        writer.wide(self.qty.0);
        writer.wide(self.price.0);
        for parts in [&self.rollups, &self.blocks] {
            writer.count(parts.len());
            for part in parts {
                writer.count(part.rows);
                writer.uint(u64::from(part.first_scope));
                writer.uint(u64::from(part.last_scope));
                writer.uint(u64::from(part.size));
                writer.count(part.with_rows);
            }
        }
        writer.u8(match self.origin {
            Origin::Collected => 0,
            Origin::Pushed => 1,
        });
        self.removed.write(&mut writer);
        writer.uint(self.order);
        writer.uint(u64::from(self.file));
        writer.uint(self.offset);
        writer.seal()
    }

    pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Slice, Damage> {
        let key = SliceKey::read(key)?;
        let (version, mut reader) = Reader::versioned(SLICE, bytes)?;
        let end_secs = reader.int()?;
        let period = Period::from_secs(key.begin_secs, end_secs);
        let mut slice = Slice {
            period: period.ok_or(Damage("its period ends before it begins"))?,
            metric: key.metric,
            number: key.number,
            unit: reader.text()?.to_owned(),
            description: match reader.u8()? {
                0 => None,
                _ => Some(reader.text()?.to_owned()),
            },
            chain: reader.u32()?,
            scopes: reader.uint()?,
            rows: reader.uint()?,
            qty: Sum(reader.wide()?),
            price: Sum(reader.wide()?),
            rollups: read_parts(&mut reader, version)?,
            blocks: read_parts(&mut reader, version)?,
            origin: Origin::Collected,
            removed: ScopeRuns::default(),
            order: key.number,
            file: 0,
            offset: 0,
        };
        if version > 1 {
            slice.origin = match reader.u8()? {
                0 => Origin::Collected,
                1 => Origin::Pushed,
                _ => return Err(Damage("its origin is not known")),
            };
            slice.removed = ScopeRuns::read(&mut reader)?;
        }
        if version > 2 {
            slice.order = reader.uint()?;
        }
        if version > 3 {
            slice.file = reader.u32()?;
            slice.offset = reader.uint()?;
        }
        reader.end()?;
        if slice.offset.checked_add(slice.extent_size()).is_none() {
            return Err(Damage("its parts end behind every file"));
        }
        Ok(slice)
    }
}

pub(super) fn size_of_parts(parts: &[Part]) -> u64 {
    parts.iter().map(|part| u64::from(part.size)).sum()
}

fn read_parts(reader: &mut Reader<'_>, version: u8) -> Result<Vec<Part>, Damage> {
    let count = reader.count(PARTS_MAX)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let rows = reader.count(usize::MAX)?;
        let (first_scope, last_scope) = (reader.u32()?, reader.u32()?);
        let size = if version > 3 { reader.count(PART_SIZE_MAX)? } else { 0 };
        let size = u32::try_from(size).expect("checked against the maximum");
        let with_rows = if version > 3 { reader.count(rows)? } else { 0 };
        if last_scope < first_scope {
            return Err(Damage("a part ends before it begins"));
        }
        parts.push(Part { rows, first_scope, last_scope, size, with_rows });
    }
    Ok(parts)
}
