//! Rollups: what a slice knows of each scope, so that sums are read without rows.
//!
//! ```text
//! rollup = frame('R', 2) packed({ gap:uint }) packed({ fact:u8 }) packed({ rows:uint }) sums sums
//! sums   = 0 numbers | 1 scale:u8 packed({ sum:wide })
//! ```
//!
//! One entry for each scope, with or without rows, ascending. Facts: 1 collected, 2 zero, 3 no
//! data, 4 lost. The sums are quantity and price, as `numbers` (see there) if they fit into
//! 128 bits. Version 1 has `scale:u8 packed({ sum:wide })` for each.

use arrow_buffer::i256;

use super::catalog::ScopeNumber;
use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::gather::ScopeSums;
use super::numbers::{PackedNumbers, write_numbers};
use crate::ledger::Fact;
use crate::usage::{SUM_SCALE, Sum};

const ROLLUP: Kind = Kind(b'R', 2);

/// Most scopes of one rollup, of every version: bounds what damage can make us allocate.
pub(super) const ROLLUP_SCOPES_MAX: usize = 1024;

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
    let scale = common_scale(sums.clone());
    let by = sum_unit(scale);
    let scaled = sums.map(|sum| divide(sum.0, by));
    let narrow: Option<Vec<i128>> = scaled.clone().map(i256::to_i128).collect();
    if let Some(narrow) = narrow {
        writer.u8(0);
        write_numbers(writer, scale, &narrow, &Vec::new());
        return;
    }
    let mut column = Writer::new();
    for sum in scaled {
        column.wide(sum);
    }
    writer.u8(1);
    writer.u8(scale);
    pack(writer, &column.into_bytes());
}

/// The smallest scale that holds all sums exactly.
fn common_scale(sums: impl Iterator<Item = Sum>) -> u8 {
    let mut scale = 0;
    for sum in sums {
        while scale < SUM_SCALE && !is_multiple(sum.0, sum_unit(scale)) {
            scale += 1;
        }
    }
    scale
}

/// Most sums fit into 128 bits, where dividing costs a tenth.
fn is_multiple(sum: i256, of: i128) -> bool {
    match sum.to_i128() {
        Some(sum) => sum % of == 0,
        None => sum.wrapping_rem(i256::from_i128(of)) == i256::ZERO,
    }
}

fn divide(sum: i256, by: i128) -> i256 {
    match sum.to_i128() {
        Some(sum) => i256::from_i128(sum / by),
        None => sum.wrapping_div(i256::from_i128(by)),
    }
}

fn sum_unit(scale: u8) -> i128 {
    10_i128.pow(u32::from(SUM_SCALE - scale))
}

/// A rollup, column by column.
#[derive(Debug)]
pub(super) struct RollupColumns {
    /// Ascending.
    pub(super) scopes: Vec<ScopeNumber>,
    facts: Vec<Fact>,
    pub(super) rows: Vec<u64>,
    pub(super) qty: Sums,
    pub(super) price: Sums,
}

/// A column of sums.
#[derive(Debug)]
pub(super) enum Sums {
    Scaled { scale: u8, values: Vec<i128> },
    Wide(Vec<Sum>),
}

impl Sums {
    fn sum(&self, index: usize) -> Sum {
        match self {
            Sums::Scaled { scale, values } => Sum::from_scaled(values[index], *scale),
            Sums::Wide(sums) => sums[index],
        }
    }
}

impl RollupColumns {
    pub(super) fn decode(bytes: &[u8]) -> Result<RollupColumns, Damage> {
        let (version, mut reader) = Reader::versioned(ROLLUP, bytes)?;
        let gaps = Packed::read(&mut reader)?.unpack()?;
        let facts = read_facts(&mut reader)?;
        let row_counts = Packed::read(&mut reader)?.unpack()?;
        let qty = read_sums(&mut reader, facts.len(), version)?;
        let price = read_sums(&mut reader, facts.len(), version)?;
        reader.end()?;
        let (mut gaps, mut row_counts) = (Reader::new(&gaps), Reader::new(&row_counts));
        let (mut scopes, mut rows) = (Vec::with_capacity(facts.len()), Vec::new());
        rows.reserve(facts.len());
        let mut scope = 0_u32;
        for _ in &facts {
            scope = scope.checked_add(gaps.u32()?).ok_or(Damage("a scope number is too big"))?;
            scopes.push(scope);
            rows.push(row_counts.uint()?);
        }
        gaps.end()?;
        row_counts.end()?;
        Ok(RollupColumns { scopes, facts, rows, qty, price })
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = RollupEntry> {
        let entry = |(index, scope): (usize, &ScopeNumber)| {
            let (qty, price) = (self.qty.sum(index), self.price.sum(index));
            let sums = ScopeSums { rows: self.rows[index], qty, price };
            RollupEntry { scope: *scope, fact: self.facts[index], sums }
        };
        self.scopes.iter().enumerate().map(entry)
    }
}

/// The scopes with rows, ascending: what the record begins with.
pub(super) fn decode_scopes_with_rows(bytes: &[u8]) -> Result<Vec<ScopeNumber>, Damage> {
    let (_, mut reader) = Reader::versioned(ROLLUP, bytes)?;
    let gaps = Packed::read(&mut reader)?.unpack()?;
    let facts = read_facts(&mut reader)?;
    let rows = Packed::read(&mut reader)?.unpack()?;
    let (mut gaps, mut rows) = (Reader::new(&gaps), Reader::new(&rows));
    let mut scopes = Vec::with_capacity(facts.len());
    let mut scope = 0_u32;
    for _ in facts {
        scope = scope.checked_add(gaps.u32()?).ok_or(Damage("a scope number is too big"))?;
        if rows.uint()? > 0 {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

/// As many as there are scopes.
fn read_facts(reader: &mut Reader<'_>) -> Result<Vec<Fact>, Damage> {
    let facts = Packed::read(reader)?.unpack()?;
    if facts.len() > ROLLUP_SCOPES_MAX {
        return Err(Damage("it has too many scopes"));
    }
    facts.iter().map(|byte| read_fact(*byte)).collect()
}

fn read_sums(reader: &mut Reader<'_>, count: usize, version: u8) -> Result<Sums, Damage> {
    if version > 1 && reader.u8()? == 0 {
        let packed = PackedNumbers::read(reader, count, |_| None)?;
        return Ok(Sums::Scaled { scale: packed.scale, values: packed.unpack()?.into_wide() });
    }
    let scale = reader.u8()?;
    if scale > SUM_SCALE {
        return Err(Damage("a scale is too big"));
    }
    let by = i256::from_i128(sum_unit(scale));
    let bytes = Packed::read(reader)?.unpack()?;
    let mut column = Reader::new(&bytes);
    let mut sums = Vec::with_capacity(count);
    for _ in 0..count {
        let value = column.wide()?.checked_mul(by).ok_or(Damage("a sum is too big"))?;
        sums.push(Sum(value));
    }
    column.end()?;
    Ok(Sums::Wide(sums))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sums() -> impl Strategy<Value = Sum> {
        (any::<i128>(), 0_u32..127, 0_u8..=SUM_SCALE)
            .prop_map(|(value, shift, scale)| Sum::from_scaled(value >> shift, scale))
    }

    fn of_scope() -> impl Strategy<Value = (u64, Sum, Sum)> {
        (prop_oneof![Just(0), any::<u64>()], sums(), sums())
    }

    fn entry((scope, (rows, qty, price)): (u32, (u64, Sum, Sum))) -> RollupEntry {
        let fact = [Fact::Collected, Fact::Zero, Fact::NoData, Fact::Lost][scope as usize % 4];
        RollupEntry { scope, fact, sums: ScopeSums { rows, qty, price } }
    }

    proptest! {
        #[test]
        fn rollups_come_back(
            entries in prop::collection::btree_map(any::<u32>(), of_scope(), 0..40),
        ) {
            let entries: Vec<RollupEntry> = entries.into_iter().map(entry).collect();

            let bytes = encode_rollup(&entries);

            let with_rows = entries.iter().filter(|entry| entry.sums.rows > 0);
            let with_rows: Vec<ScopeNumber> = with_rows.map(|entry| entry.scope).collect();
            prop_assert_eq!(decode_scopes_with_rows(&bytes), Ok(with_rows));
            let columns = RollupColumns::decode(&bytes).unwrap();
            prop_assert_eq!(columns.entries().collect::<Vec<_>>(), entries);
        }
    }
}
