//! A slice's own record and its rollups: what is known of it without reading its rows.
//!
//! ```text
//! key    = begin:i64be metric:u32be slice:u64be          (the sign bit of `begin` flipped)
//! slice  = frame('I', 3) end:int unit:text described:u8 [ description:text ] chain:uint
//!          scopes:uint rows:uint qty:wide price:wide parts(rollups) parts(blocks)
//!          origin:u8 removed:runs order:uint
//! parts  = count:uint { rows:uint first_scope:uint last_scope:uint }
//! ```
//!
//! `qty` and `price` are in units of 10^-28. A slice is in the ledger if its record is. For a part
//! of the rollups `rows` is its number of scopes. `origin` is 0 for what the cycle has collected, 1
//! for what somebody pushed. Version 1 ends before it: collected, nothing removed.
//!
//! `order` is the slice's place among those of the same period and metric type: of a slice that was
//! committed its own number, of one that `compaction` has put together that of the first one it
//! stands for. Version 2 ends before it: its own number.
//!
//! `removed` (see `runs`) are scopes that readers leave out of the slice: rollups and blocks still
//! have them, and the numbers of the parts count them; `scopes`, `rows`, `qty` and `price` do not.
//! A slice without a scope left goes to the tree `removed`, same key, same record, and so does one
//! whose rows another slice has now: `compaction` deletes what stands there.
//!
//! ```text
//! key    = (the slice's) part:u16be
//! rollup = frame('R', 1) packed({ gap:uint }) packed({ fact:u8 }) packed({ rows:uint })
//!          scale:u8 packed({ qty:wide }) scale:u8 packed({ price:wide })
//! ```
//!
//! One entry for each scope, with or without rows, ascending. Facts: 1 collected, 2 zero, 3 no
//! data, 4 lost.

use arrow_buffer::i256;

use super::block::EncodedBlock;
use super::catalog::{MetricNumber, ScopeNumber};
use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::gather::ScopeSums;
use super::runs::ScopeRuns;
use crate::ledger::{Fact, Origin};
use crate::usage::{Period, SUM_SCALE, Sum};

const SLICE: Kind = Kind(b'I', 3);
const ROLLUP: Kind = Kind(b'R', 1);

/// Most scopes of one rollup.
pub(super) const ROLLUP_SCOPES_MAX: usize = 512;
/// Most parts of a slice.
const PARTS_MAX: usize = 1 << 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SliceKey {
    pub(super) begin_secs: i64,
    pub(super) metric: MetricNumber,
    /// Never used again.
    pub(super) number: u64,
}

impl SliceKey {
    pub(super) fn bytes(self) -> Vec<u8> {
        let mut key = time_bytes(self.begin_secs).to_vec();
        key.extend_from_slice(&self.metric.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        key
    }

    pub(super) fn part(self, part: usize) -> Vec<u8> {
        let part = u16::try_from(part).expect("a slice has at most 65,536 parts");
        let mut key = self.bytes();
        key.extend_from_slice(&part.to_be_bytes());
        key
    }

    pub(super) fn read(key: &[u8]) -> Result<SliceKey, Damage> {
        let too_short = Damage("its key is too short");
        let (time, rest) = key.split_first_chunk::<8>().ok_or(too_short)?;
        let (metric, rest) = rest.split_first_chunk::<4>().ok_or(too_short)?;
        let number = rest.first_chunk::<8>().ok_or(too_short)?;
        Ok(SliceKey {
            begin_secs: (u64::from_be_bytes(*time) ^ SIGN).cast_signed(),
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
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) rows: usize,
    pub(super) first_scope: ScopeNumber,
    pub(super) last_scope: ScopeNumber,
}

impl From<&EncodedBlock> for Part {
    fn from(block: &EncodedBlock) -> Part {
        let EncodedBlock { rows, first_scope, last_scope, .. } = *block;
        Part { rows, first_scope, last_scope }
    }
}

impl Slice {
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
            }
        }
        writer.u8(match self.origin {
            Origin::Collected => 0,
            Origin::Pushed => 1,
        });
        self.removed.write(&mut writer);
        writer.uint(self.order);
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
            rollups: read_parts(&mut reader)?,
            blocks: read_parts(&mut reader)?,
            origin: Origin::Collected,
            removed: ScopeRuns::default(),
            order: key.number,
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
        reader.end()?;
        Ok(slice)
    }
}

fn read_parts(reader: &mut Reader<'_>) -> Result<Vec<Part>, Damage> {
    let count = reader.count(PARTS_MAX)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let rows = reader.count(usize::MAX)?;
        parts.push(Part { rows, first_scope: reader.u32()?, last_scope: reader.u32()? });
    }
    Ok(parts)
}

/// What a slice knows of one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RollupEntry {
    pub(super) scope: ScopeNumber,
    pub(super) fact: Fact,
    pub(super) sums: ScopeSums,
}

fn fact_byte(fact: Fact) -> u8 {
    match fact {
        Fact::Collected => 1,
        Fact::Zero => 2,
        Fact::NoData => 3,
        Fact::Lost => 4,
    }
}

fn read_fact(byte: u8) -> Result<Fact, Damage> {
    match byte {
        1 => Ok(Fact::Collected),
        2 => Ok(Fact::Zero),
        3 => Ok(Fact::NoData),
        4 => Ok(Fact::Lost),
        _ => Err(Damage("a fact is not known")),
    }
}

/// Entries ascend by scope.
pub(super) fn encode_rollup(entries: &[RollupEntry]) -> Vec<u8> {
    let mut writer = Writer::framed(ROLLUP);
    let (mut gaps, mut facts, mut rows) = (Writer::new(), Writer::new(), Writer::new());
    let mut before = 0;
    for entry in entries {
        gaps.uint(u64::from(entry.scope - before));
        before = entry.scope;
        facts.u8(fact_byte(entry.fact));
        rows.uint(entry.sums.rows);
    }
    for column in [gaps, facts, rows] {
        pack(&mut writer, &column.into_bytes());
    }
    write_sums(&mut writer, entries.iter().map(|entry| entry.sums.qty));
    write_sums(&mut writer, entries.iter().map(|entry| entry.sums.price));
    writer.seal()
}

fn write_sums(writer: &mut Writer, sums: impl Iterator<Item = Sum> + Clone) {
    let scale = sums.clone().map(|sum| sum.to_scaled().1).max().unwrap_or(0);
    let by = sum_unit(scale);
    let mut column = Writer::new();
    for sum in sums {
        column.wide(sum.0.wrapping_div(by));
    }
    writer.u8(scale);
    pack(writer, &column.into_bytes());
}

fn sum_unit(scale: u8) -> i256 {
    i256::from_i128(10_i128.pow(u32::from(SUM_SCALE - scale)))
}

pub(super) fn decode_rollup(bytes: &[u8]) -> Result<Vec<RollupEntry>, Damage> {
    let mut reader = Reader::framed(ROLLUP, bytes)?;
    let gaps = Packed::read(&mut reader)?.unpack()?;
    let facts = Packed::read(&mut reader)?.unpack()?;
    let rows = Packed::read(&mut reader)?.unpack()?;
    let qty = read_sums(&mut reader, facts.len())?;
    let price = read_sums(&mut reader, facts.len())?;
    reader.end()?;
    let (mut gaps, mut rows) = (Reader::new(&gaps), Reader::new(&rows));
    let mut entries = Vec::with_capacity(facts.len());
    let mut scope = 0_u32;
    for ((fact, qty), price) in facts.iter().zip(qty).zip(price) {
        scope = scope.checked_add(gaps.u32()?).ok_or(Damage("a scope number is too big"))?;
        let sums = ScopeSums { rows: rows.uint()?, qty, price };
        entries.push(RollupEntry { scope, fact: read_fact(*fact)?, sums });
    }
    gaps.end()?;
    rows.end()?;
    Ok(entries)
}

fn read_sums(reader: &mut Reader<'_>, count: usize) -> Result<Vec<Sum>, Damage> {
    let scale = reader.u8()?;
    if scale > SUM_SCALE {
        return Err(Damage("a scale is too big"));
    }
    let by = sum_unit(scale);
    let bytes = Packed::read(reader)?.unpack()?;
    let mut column = Reader::new(&bytes);
    let mut sums = Vec::with_capacity(count);
    for _ in 0..count {
        let value = column.wide()?.checked_mul(by).ok_or(Damage("a sum is too big"))?;
        sums.push(Sum(value));
    }
    column.end()?;
    Ok(sums)
}
