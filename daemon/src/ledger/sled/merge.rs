//! Several slices as one: the rows that are left, in the order in which readers get them.
//!
//! Rows keep the attribute columns that they came with: rows of blocks with other columns, or with
//! numbers that do not fit one scale, go on in a block of their own. So nobody who reads them can
//! tell that they have moved.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::block::{AttributeRows, Block, EncodedBlock, RowSet};
use super::catalog::ScopeNumber;
use super::codec::Damage;
use super::commit::Encoded;
use super::gather::{DECIMAL_END, ScopeSums, Total};
use super::query::{BlockError, Reading, Selection, rows_of_scopes};
use super::rollup::RollupEntry;
use super::slice::{SLICE_PARTS_MAX, Slice};
use super::store::damaged;
use crate::ledger::{Filters, LedgerError, Origin};

/// What is left of some slices, in their order. `None` = they know something of one scope twice, or
/// their rows differ too much, and they have to stay apart. What comes out has been compared with
/// the sums of the slices.
pub(super) fn merge(
    reading: Reading<'_>,
    slices: &[Slice],
) -> Result<Option<Encoded>, LedgerError> {
    let Some(rollup) = merge_rollups(reading, slices)? else { return Ok(None) };
    let filters = Filters::default();
    let everything = Selection::new(reading.catalog, &filters)?;
    let mut rows = Rows::default();
    for slice in slices {
        for (index, part) in slice.blocks.iter().enumerate() {
            if everything.takes_part(slice, part) {
                let add = |block: &Block<'_>| rows.add(reading, (slice, block), &everything);
                reading.with_block(slice, index, add)?;
            }
        }
    }
    let encoded = Encoded { blocks: rows.finish(), rollup };
    if encoded.parts() > SLICE_PARTS_MAX {
        return Ok(None);
    }
    let Some(first) = slices.first() else { return Ok(None) };
    let key = first.key();
    check(slices, &encoded)
        .map_err(|damage| damaged(reading.place_of_metric(key.begin_secs, key.metric), damage))?;
    Ok(Some(encoded))
}

fn merge_rollups(
    reading: Reading<'_>,
    slices: &[Slice],
) -> Result<Option<Vec<RollupEntry>>, LedgerError> {
    let mut entries: BTreeMap<ScopeNumber, RollupEntry> = BTreeMap::new();
    for slice in slices {
        for part in 0..slice.rollups.len() {
            for entry in reading.rollup(slice, part)? {
                match entries.entry(entry.scope) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(entry);
                    }
                    // Two facts about one scope are not one fact.
                    Entry::Occupied(_) if slice.origin == Origin::Collected => return Ok(None),
                    Entry::Occupied(mut occupied) => {
                        let sums = &mut occupied.get_mut().sums;
                        sums.rows += entry.sums.rows;
                        sums.qty += entry.sums.qty;
                        sums.price += entry.sums.price;
                    }
                }
            }
        }
    }
    Ok(Some(entries.into_values().collect()))
}

/// Rows on their way into blocks.
#[derive(Debug, Default)]
struct Rows {
    /// Rows that go together so far.
    open: RowSet,
    blocks: Vec<EncodedBlock>,
}

impl Rows {
    fn add(
        &mut self,
        reading: Reading<'_>,
        (slice, block): (&Slice, &Block<'_>),
        selection: &Selection<'_>,
    ) -> Result<(), BlockError> {
        let kept: Vec<usize> =
            rows_of_scopes(reading, slice, block, selection)?.into_iter().flatten().collect();
        if kept.is_empty() {
            return Ok(());
        }
        let mut scopes = Vec::with_capacity(block.rows);
        for run in reading.scopes_of(block)? {
            scopes.resize(scopes.len() + run.rows, run.scope);
        }
        let (qty, price) = (block.qty()?, block.price()?);
        let mut new = RowSet {
            scopes: kept.iter().map(|row| scopes[*row]).collect(),
            qty_scale: qty.scale,
            qty: kept.iter().map(|row| qty.values[*row]).collect(),
            price_scale: price.scale,
            price: kept.iter().map(|row| price.values[*row]).collect(),
            attributes: Vec::with_capacity(block.attributes.len()),
        };
        for column in &block.attributes {
            let codes = column.codes(block.rows)?;
            let code = |row: &usize| codes.distinct[codes.indexes[*row] as usize];
            let (name, dictionary) = (column.name.clone(), column.dictionary);
            let codes = kept.iter().map(code).collect();
            new.attributes.push(AttributeRows { name, dictionary, codes });
        }
        self.append(new);
        Ok(())
    }

    fn append(&mut self, mut new: RowSet) {
        if self.open.scopes.is_empty() {
            self.open = new;
            return;
        }
        let open = &mut self.open;
        let is_alike = |(left, right): (&AttributeRows, &AttributeRows)| {
            left.name == right.name && left.dictionary == right.dictionary
        };
        let are_alike = open.attributes.len() == new.attributes.len()
            && open.attributes.iter().zip(&new.attributes).all(is_alike);
        let qty_scale = open.qty_scale.max(new.qty_scale);
        let price_scale = open.price_scale.max(new.price_scale);
        let fits = are_alike
            && fits(&open.qty, qty_scale - open.qty_scale)
            && fits(&new.qty, qty_scale - new.qty_scale)
            && fits(&open.price, price_scale - open.price_scale)
            && fits(&new.price, price_scale - new.price_scale);
        if !fits {
            let full = std::mem::replace(open, new);
            self.blocks.extend(full.encode());
            return;
        }
        for rows in [&mut *open, &mut new] {
            scale_up(&mut rows.qty, qty_scale - rows.qty_scale);
            scale_up(&mut rows.price, price_scale - rows.price_scale);
            (rows.qty_scale, rows.price_scale) = (qty_scale, price_scale);
        }
        open.scopes.append(&mut new.scopes);
        open.qty.append(&mut new.qty);
        open.price.append(&mut new.price);
        for (column, mut more) in open.attributes.iter_mut().zip(new.attributes) {
            column.codes.append(&mut more.codes);
        }
    }

    fn finish(mut self) -> Vec<EncodedBlock> {
        self.blocks.extend(self.open.encode());
        self.blocks
    }
}

/// Whether numbers with so many digits more are still decimals.
fn fits(values: &[i128], digits: u8) -> bool {
    let by = 10_i128.pow(u32::from(digits));
    let fits = |value: &i128| {
        let scaled = value.checked_mul(by);
        scaled.is_some_and(|scaled| -DECIMAL_END < scaled && scaled < DECIMAL_END)
    };
    digits == 0 || values.iter().all(fits)
}

/// Only what fits.
fn scale_up(values: &mut [i128], digits: u8) {
    if digits > 0 {
        let by = 10_i128.pow(u32::from(digits));
        for value in values {
            *value *= by;
        }
    }
}

/// What will be stored, read again, is what the slices say they have: in all, and of each scope.
fn check(slices: &[Slice], encoded: &Encoded) -> Result<(), Damage> {
    let mut of_scope: BTreeMap<ScopeNumber, ScopeSums> = BTreeMap::new();
    for block in &encoded.blocks {
        let block = Block::read(&block.bytes)?;
        let (qty, price) = (block.qty()?, block.price()?);
        let mut begin = 0;
        for run in block.scopes()? {
            let (mut qty_total, mut price_total) = (Total::default(), Total::default());
            for row in begin..begin + run.rows {
                qty_total.add(qty.values[row]);
                price_total.add(price.values[row]);
            }
            begin += run.rows;
            let sums = of_scope.entry(run.scope).or_default();
            sums.rows += run.rows as u64;
            sums.qty += qty_total.sum(qty.scale);
            sums.price += price_total.sum(price.scale);
        }
    }
    let with_rows = encoded.rollup.iter().filter(|entry| entry.sums.rows > 0);
    if !with_rows.map(|entry| (&entry.scope, &entry.sums)).eq(&of_scope) {
        return Err(Damage("the sums of its scopes are not those of its rows"));
    }
    let mut all = ScopeSums::default();
    for entry in &encoded.rollup {
        all.rows += entry.sums.rows;
        all.qty += entry.sums.qty;
        all.price += entry.sums.price;
    }
    let said = ScopeSums {
        rows: slices.iter().map(|slice| slice.rows).sum(),
        qty: slices.iter().map(|slice| slice.qty).sum(),
        price: slices.iter().map(|slice| slice.price).sum(),
    };
    let is_sound = all == said
        && (slices[0].origin == Origin::Pushed
            || encoded.rollup.len() as u64 == slices.iter().map(|slice| slice.scopes).sum::<u64>());
    if is_sound { Ok(()) } else { Err(Damage("its sums are not those of its scopes")) }
}
