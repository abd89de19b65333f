//! Whether the parts of a slice can be read, and add up.

use std::collections::BTreeMap;

use super::block::Block;
use super::catalog::ScopeNumber;
use super::codec::Damage;
use super::gather::{ScopeSums, Total};
use super::query::{BlockError, Reading};
use super::slice::{Part, Slice};
use super::sums;
use super::verify::{Findings, of_slice};
use crate::ledger::{Finding, LedgerError, Origin, Remedy};

/// What a slice's parts say of each scope.
type OfScopes = BTreeMap<ScopeNumber, ScopeSums>;

/// Reads all parts of a slice and compares what they say. The scopes that it speaks for.
pub(super) fn check_slice(
    reading: Reading<'_>,
    slice: &Slice,
    findings: &mut Findings,
) -> Result<Vec<ScopeNumber>, LedgerError> {
    let mut of_rollups = OfScopes::new();
    let mut is_readable = true;
    for (index, part) in slice.rollups.iter().enumerate() {
        let about = || (of_part(reading, slice, *part), Remedy::Restore);
        let Some(columns) = findings.take(reading.rollup_columns(slice, index), about)? else {
            is_readable = false;
            continue;
        };
        for entry in columns.entries() {
            let sums = of_rollups.entry(entry.scope).or_default();
            *sums += entry.sums;
        }
    }
    let left = || of_rollups.iter().filter(|(scope, _)| !slice.removed.contains(**scope));
    let mut wrong = |detail: &str| {
        findings.push(Finding {
            place: reading.place_of_slice(slice),
            detail: detail.to_owned(),
            remedy: Remedy::Restore,
            ..of_slice(reading, slice)
        });
    };
    if is_readable {
        let sums: ScopeSums = left().map(|(_, sums)| *sums).sum();
        if sums != slice.sums() || left().count() as u64 != slice.scopes {
            wrong("its sums are not those of its scopes");
        }
    }
    if slice.chain as usize >= reading.catalog.chains.len() && slice.number > 0 {
        wrong("what rated it is not known");
    }
    // Without blocks its rows were forgotten, or those of the scopes that are left are none.
    if !slice.blocks.is_empty() {
        check_rows(reading, slice, is_readable.then_some(&of_rollups), findings)?;
    }
    Ok(of_rollups.into_keys().filter(|scope| !slice.removed.contains(*scope)).collect())
}

fn check_rows(
    reading: Reading<'_>,
    slice: &Slice,
    of_rollups: Option<&OfScopes>,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    // Rows that somebody else has rated cannot be rated again.
    let remedy = match slice.origin {
        Origin::Collected => Remedy::Reprocess,
        Origin::Pushed => Remedy::Restore,
    };
    let mut of_blocks = OfScopes::new();
    let mut is_readable = true;
    for (index, part) in slice.blocks.iter().enumerate() {
        let add = |block: &Block<'_>| add_block(reading, block, &mut of_blocks);
        let about = || (of_part(reading, slice, *part), remedy);
        let read = reading.with_block(slice, index, add);
        is_readable &= findings.take(read, about)?.is_some();
    }
    let Some(of_rollups) = of_rollups.filter(|_| is_readable) else { return Ok(()) };
    let with_rows = of_rollups.iter().filter(|(_, sums)| sums.rows > 0);
    if !with_rows.eq(of_blocks.iter()) {
        findings.push(Finding {
            place: reading.place_of_slice(slice),
            detail: "the sums of its scopes are not those of its rows".to_owned(),
            remedy: Remedy::Restore,
            ..of_slice(reading, slice)
        });
    }
    Ok(())
}

fn add_block(
    reading: Reading<'_>,
    block: &Block<'_>,
    of_blocks: &mut OfScopes,
) -> Result<(), BlockError> {
    let (qty, price) = (block.qty()?, block.price()?);
    let mut begin = 0;
    for run in reading.scopes_of(block)? {
        let (mut qty_total, mut price_total) = (Total::default(), Total::default());
        let end = begin + run.rows;
        let qty_of = qty.values.get(begin..end).ok_or(Damage("it has too few quantities"))?;
        let price_of = price.values.get(begin..end).ok_or(Damage("it has too few prices"))?;
        for (qty, price) in qty_of.iter().zip(price_of) {
            qty_total.add(*qty);
            price_total.add(*price);
        }
        begin = end;
        let sums = of_blocks.entry(run.scope).or_default();
        sums.rows += run.rows as u64;
        sums.qty += qty_total.sum(qty.scale);
        sums.price += price_total.sum(price.scale);
    }
    for column in &block.attributes {
        let codes = column.codes(block.rows)?;
        if codes.indexes.iter().any(|index| *index as usize >= codes.distinct.len()) {
            return Err(Damage("a row has a text that it does not list").into());
        }
        reading.texts.decode(reading.store, column.dictionary, &codes.distinct)?;
    }
    Ok(())
}

/// What a day or month was summed up to is what its slices add up to.
pub(super) fn check_sums(
    reading: Reading<'_>,
    stored: &Slice,
    sources: &[Slice],
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    let mut entries = Vec::new();
    for (index, part) in stored.rollups.iter().enumerate() {
        let about = || (of_part(reading, stored, *part), Remedy::Rebuild);
        match findings.take(reading.rollup(stored, index), about)? {
            Some(more) => entries.extend(more),
            None => return Ok(()),
        }
    }
    let of_metric: Vec<&Slice> =
        sources.iter().filter(|slice| slice.metric == stored.metric).collect();
    // What is damaged below is told there.
    let Ok(summed) = sums::sum_of(reading, stored.period, stored.metric, &of_metric) else {
        return Ok(());
    };
    let is_same = match summed {
        Some((slice, encoded)) => slice.sums() == stored.sums() && encoded.rollup == entries,
        None => entries.is_empty(),
    };
    if !is_same {
        findings.push(Finding {
            place: format!("sums of {}", reading.place_of_slice(stored)),
            detail: "they are not those of its slices".to_owned(),
            remedy: Remedy::Rebuild,
            ..of_slice(reading, stored)
        });
    }
    Ok(())
}

fn of_part(reading: Reading<'_>, slice: &Slice, part: Part) -> Finding {
    let id = |number: ScopeNumber| reading.catalog.scope_name(number);
    let scopes = Some((id(part.first_scope), id(part.last_scope)));
    Finding { scopes, ..of_slice(reading, slice) }
}
