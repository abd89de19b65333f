//! Sums by group: from slices' records where that is enough, else from rollups, else from rows.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::block::Block;
use super::catalog::ScopeNumber;
use super::gather::{ScopeSums, Total};
use super::query::{
    BlockError, Reading, Selection, attribute_texts, calendar_index, is_scope_key,
    rows_of_attributes, rows_of_scopes,
};
use super::slice::Slice;
use super::sums::Level;
use crate::ledger::{Extremes, GroupKey, LedgerError, Measures, SummaryGroup, SummaryQuery};
use crate::usage::{Period, Sum, calendar_attributes};

/// A group key in terms of what is stored.
#[derive(Debug, Clone)]
enum Key<'a> {
    Time,
    Type,
    Calendar(usize),
    Scope,
    /// The attribute that identifies scopes.
    ScopesBy(&'a str),
    Attribute(&'a str),
}

pub(super) fn summarize(
    reading: Reading<'_>,
    query: &SummaryQuery,
    slices: &[Slice],
) -> Result<Vec<SummaryGroup>, LedgerError> {
    let mut summary = Summary::new(reading, query);
    for slice in slices {
        if summary.selection.takes_slice(reading.metric_type(slice), slice.period) {
            summary.add_slice(slice)?;
        }
    }
    Ok(summary.finish())
}

/// What has to be read to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Need {
    /// Sums by metric and scope, up to a level.
    Sums(Level),
    /// The sums of each slice.
    Slices,
    Rows,
}

pub(super) fn need(reading: Reading<'_>, query: &SummaryQuery) -> Need {
    let of_attribute = |name: &String| {
        if calendar_index(name).is_some() {
            // The same for a whole day.
            Need::Sums(Level::Day)
        } else if is_scope_key(reading.catalog, name) {
            Need::Sums(Level::Month)
        } else {
            Need::Rows
        }
    };
    let keys = query.group_by.iter().map(|key| match key {
        GroupKey::Time => Need::Slices,
        GroupKey::Scope | GroupKey::Type => Need::Sums(Level::Month),
        GroupKey::Attribute(name) => of_attribute(name),
    });
    let filters = query.filters.attributes.keys().map(of_attribute);
    let least = match query.measures {
        Measures::Sums => Need::Sums(Level::Month),
        Measures::SumsAndExtremes => Need::Rows,
    };
    keys.chain(filters).fold(least, Need::max)
}

struct Summary<'a> {
    reading: Reading<'a>,
    selection: Selection<'a>,
    keys: Vec<Key<'a>>,
    attributes: Vec<&'a str>,
    by_scope: bool,
    slice_groups: Interned<SliceGroup>,
    /// Of attributes, in the order of `attributes`.
    texts: Interned<Vec<Arc<str>>>,
    groups: HashMap<GroupId, ScopeSums, BuildHasherDefault<NumberHasher>>,
    /// `None` = nobody wants them, so rows are not read for them.
    extremes: Option<HashMap<GroupId, Extremes, BuildHasherDefault<NumberHasher>>>,
}

/// What all rows of a slice have in common in their group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SliceGroup {
    period: Option<Period>,
    /// In the order of the query's keys, empty for those that rows differ in.
    keys: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct GroupId {
    slice_group: u32,
    scope: ScopeNumber,
    texts: u32,
}

/// Hashes the few numbers of a [`GroupId`]; nobody outside chooses them.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        let mixed = (self.0.rotate_left(5) ^ u64::from(number)).wrapping_mul(0x517C_C1B7_2722_0A95);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// Instead of a scope in groups of all scopes.
const ALL_SCOPES: ScopeNumber = ScopeNumber::MAX;

#[derive(Debug)]
struct Interned<T> {
    numbers: HashMap<T, u32>,
    values: Vec<T>,
}

impl<T: Clone + Eq + std::hash::Hash> Interned<T> {
    fn new() -> Interned<T> {
        Interned { numbers: HashMap::new(), values: Vec::new() }
    }

    fn number(&mut self, value: T) -> u32 {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = u32::try_from(self.values.len()).expect("groups fit into memory");
        self.values.push(value.clone());
        self.numbers.insert(value, number);
        number
    }
}

impl<'a> Summary<'a> {
    fn new(reading: Reading<'a>, query: &'a SummaryQuery) -> Summary<'a> {
        let key = |key: &'a GroupKey| match key {
            GroupKey::Time => Key::Time,
            GroupKey::Scope => Key::Scope,
            GroupKey::Type => Key::Type,
            GroupKey::Attribute(name) => match calendar_index(name) {
                Some(index) => Key::Calendar(index),
                None if is_scope_key(reading.catalog, name) => Key::ScopesBy(name),
                None => Key::Attribute(name),
            },
        };
        let keys: Vec<Key<'a>> = query.group_by.iter().map(key).collect();
        let attribute = |key: &Key<'a>| match key {
            Key::Attribute(name) => Some(*name),
            _ => None,
        };
        Summary {
            reading,
            selection: Selection::new(reading.catalog, &query.filters),
            attributes: keys.iter().filter_map(attribute).collect(),
            by_scope: keys.iter().any(|key| matches!(key, Key::Scope | Key::ScopesBy(_))),
            keys,
            slice_groups: Interned::new(),
            texts: Interned::new(),
            groups: HashMap::default(),
            extremes: (query.measures == Measures::SumsAndExtremes).then(HashMap::default),
        }
    }

    fn add_slice(&mut self, slice: &Slice) -> Result<(), LedgerError> {
        let slice_group = self.slice_group(slice);
        let by_rows = !self.attributes.is_empty() || !self.selection.attributes.is_empty();
        if by_rows || self.extremes.is_some() {
            return self.add_rows(slice, slice_group);
        }
        let no_texts = self.texts.number(Vec::new());
        if !self.by_scope && self.selection.scopes.is_none() {
            let id = GroupId { slice_group, scope: ALL_SCOPES, texts: no_texts };
            self.add(id, ScopeSums { rows: slice.rows, qty: slice.qty, price: slice.price });
            return Ok(());
        }
        for (index, part) in slice.rollups.iter().enumerate() {
            if !self.selection.takes_part(slice, part) {
                continue;
            }
            for entry in self.reading.rollup(slice, index)? {
                if self.selection.takes_scope(entry.scope) {
                    let scope = if self.by_scope { entry.scope } else { ALL_SCOPES };
                    self.add(GroupId { slice_group, scope, texts: no_texts }, entry.sums);
                }
            }
        }
        Ok(())
    }

    fn slice_group(&mut self, slice: &Slice) -> u32 {
        let mut period = None;
        let mut keys = Vec::new();
        for key in &self.keys {
            match key {
                Key::Time => period = Some(slice.period),
                Key::Type => keys.push(self.reading.metric_type(slice).into()),
                Key::Calendar(index) => {
                    let attributes = calendar_attributes(slice.period.begin());
                    keys.push(attributes[*index].1.as_str().into());
                }
                Key::Scope | Key::ScopesBy(_) | Key::Attribute(_) => {}
            }
        }
        self.slice_groups.number(SliceGroup { period, keys })
    }

    fn add(&mut self, id: GroupId, sums: ScopeSums) {
        if sums.rows == 0 {
            return;
        }
        let group = self.groups.entry(id).or_default();
        group.rows += sums.rows;
        group.qty += sums.qty;
        group.price += sums.price;
    }

    fn add_rows(&mut self, slice: &Slice, slice_group: u32) -> Result<(), LedgerError> {
        let reading = self.reading;
        for (index, part) in slice.blocks.iter().enumerate() {
            if self.selection.takes_part(slice, part) {
                let add = |block: &Block<'_>| self.add_block(slice, block, slice_group);
                reading.with_block(slice, index, add)?;
            }
        }
        Ok(())
    }

    fn add_block(
        &mut self,
        slice: &Slice,
        block: &Block<'_>,
        slice_group: u32,
    ) -> Result<(), BlockError> {
        let ranges = rows_of_scopes(slice, block, &self.selection);
        if ranges.is_empty() {
            return Ok(());
        }
        let wanted = rows_of_attributes(self.reading, block, &self.selection)?;
        let (qty, price) = (block.qty()?, block.price()?);
        let mut local = LocalGroups::new(block, self.by_scope);
        let mut texts = Vec::new();
        for name in &self.attributes {
            let Some(attribute) = attribute_texts(self.reading, block, name)? else {
                texts.push(vec![Arc::default()]);
                local.refine_by_nothing();
                continue;
            };
            local.refine(&attribute.indexes, attribute.texts.len());
            texts.push(attribute.texts.into_iter().map(Option::unwrap_or_default).collect());
        }
        let sums = local.sums(&ranges, wanted.as_deref(), &qty.values, &price.values);
        let bounds = |values: &[i128]| local.bounds(&ranges, wanted.as_deref(), values);
        let bounds = self.extremes.as_ref().map(|_| (bounds(&qty.values), bounds(&price.values)));
        for (group, (rows, qty_total, price_total)) in sums.into_iter().enumerate() {
            if rows == 0 {
                continue;
            }
            let (run, indexes) = local.path(group);
            let path = indexes.iter().zip(&texts);
            let key =
                path.map(|(index, texts): (_, &Vec<Arc<str>>)| Arc::clone(&texts[*index as usize]));
            let texts = self.texts.number(key.collect());
            let scope = if self.by_scope { block.scopes[run].scope } else { ALL_SCOPES };
            let sums = ScopeSums {
                rows,
                qty: qty_total.sum(qty.scale),
                price: price_total.sum(price.scale),
            };
            let id = GroupId { slice_group, scope, texts };
            self.add(id, sums);
            if let (Some(extremes), Some((qty_bounds, price_bounds))) =
                (&mut self.extremes, &bounds)
            {
                let extremes_here = extremes_of(
                    qty_bounds[group].scaled(qty.scale),
                    price_bounds[group].scaled(price.scale),
                );
                extremes
                    .entry(id)
                    .and_modify(|all| widen(all, extremes_here))
                    .or_insert(extremes_here);
            }
        }
        Ok(())
    }

    /// Groups whose keys read alike are one: an absent attribute and an empty text, for example.
    fn finish(self) -> Vec<SummaryGroup> {
        type Merged = (ScopeSums, Option<Extremes>);
        let mut merged: HashMap<(Vec<Arc<str>>, Option<Period>), Merged> = HashMap::new();
        for (id, sums) in &self.groups {
            let slice_group = &self.slice_groups.values[id.slice_group as usize];
            let keys = self.keys_of(slice_group, *id);
            let (total, all) = merged.entry((keys, slice_group.period)).or_default();
            total.rows += sums.rows;
            total.qty += sums.qty;
            total.price += sums.price;
            if let Some(extremes) = self.extremes.as_ref().and_then(|extremes| extremes.get(id)) {
                widen(all.get_or_insert(*extremes), *extremes);
            }
        }
        let group = |((keys, period), (sums, extremes)): (_, Merged)| {
            let ScopeSums { rows, qty, price } = sums;
            SummaryGroup { keys, period, qty, price, rows, extremes }
        };
        merged.into_iter().map(group).collect()
    }

    fn keys_of(&self, slice_group: &SliceGroup, id: GroupId) -> Vec<Arc<str>> {
        let mut of_slice = slice_group.keys.iter().cloned();
        let mut of_rows = self.texts.values[id.texts as usize].iter().cloned();
        let mut keys = Vec::with_capacity(self.keys.len());
        for key in &self.keys {
            let scope = || &self.reading.catalog.scopes[id.scope as usize];
            let text = match key {
                Key::Time => continue,
                Key::Type | Key::Calendar(_) => of_slice.next(),
                Key::Scope => Some(scope().id.as_str().into()),
                Key::ScopesBy(name) if scope().scope_key.as_ref() == *name => {
                    Some(scope().id.as_str().into())
                }
                Key::ScopesBy(_) => None,
                Key::Attribute(_) => of_rows.next(),
            };
            keys.push(text.unwrap_or_default());
        }
        keys
    }
}

/// Groups of the rows of one block, told apart column by column: the group of a row is one of a
/// small range of numbers, so that adding up needs no hashing.
struct LocalGroups {
    of_row: Vec<u32>,
    /// Runs of scopes that the first level told apart.
    first: usize,
    /// For each further level the group before and the index added.
    levels: Vec<Vec<(u32, u32)>>,
}

/// Pairs of group and index are looked up in a table up to this size.
const TABLE_SIZE_MAX: usize = 1 << 18;

impl LocalGroups {
    fn new(block: &Block<'_>, by_scope: bool) -> LocalGroups {
        if !by_scope {
            return LocalGroups { of_row: vec![0; block.rows], first: 1, levels: Vec::new() };
        }
        let mut of_row = Vec::with_capacity(block.rows);
        for (group, run) in (0..).zip(&block.scopes) {
            of_row.resize(of_row.len() + run.rows, group);
        }
        LocalGroups { of_row, first: block.scopes.len(), levels: Vec::new() }
    }

    fn count(&self) -> usize {
        self.levels.last().map_or(self.first, Vec::len)
    }

    fn refine_by_nothing(&mut self) {
        let groups = (0..).take(self.count()).map(|group| (group, 0)).collect();
        self.levels.push(groups);
    }

    fn refine(&mut self, indexes: &[u32], distinct: usize) {
        const NONE: u32 = u32::MAX;
        let mut level: Vec<(u32, u32)> = Vec::new();
        let new_group = |level: &mut Vec<(u32, u32)>, group, index| {
            level.push((group, index));
            u32::try_from(level.len() - 1).expect("a block has few rows")
        };
        if self.count().saturating_mul(distinct) <= TABLE_SIZE_MAX {
            let mut table = vec![NONE; self.count() * distinct];
            for (group, index) in self.of_row.iter_mut().zip(indexes) {
                let entry = &mut table[*group as usize * distinct + *index as usize];
                if *entry == NONE {
                    *entry = new_group(&mut level, *group, *index);
                }
                *group = *entry;
            }
        } else {
            let mut table = HashMap::new();
            for (group, index) in self.of_row.iter_mut().zip(indexes) {
                let key = (*group, *index);
                *group = *table.entry(key).or_insert_with(|| new_group(&mut level, key.0, key.1));
            }
        }
        self.levels.push(level);
    }

    /// The run of scopes of a group (0 when not told apart) and its index at each level.
    fn path(&self, group: usize) -> (usize, Vec<u32>) {
        let mut group = group;
        let mut indexes = Vec::with_capacity(self.levels.len());
        for level in self.levels.iter().rev() {
            let (before, index) = level[group];
            indexes.push(index);
            group = before as usize;
        }
        indexes.reverse();
        (group, indexes)
    }

    fn sums(
        &self,
        ranges: &[Range<usize>],
        wanted: Option<&[bool]>,
        qty: &[i128],
        price: &[i128],
    ) -> Vec<(u64, Total, Total)> {
        let mut sums = vec![(0, Total::default(), Total::default()); self.count()];
        let mut add = |row: usize| {
            let (rows, qty_total, price_total) = &mut sums[self.of_row[row] as usize];
            *rows += 1;
            qty_total.add(qty[row]);
            price_total.add(price[row]);
        };
        for range in ranges {
            match wanted {
                None => range.clone().for_each(&mut add),
                Some(wanted) => range.clone().filter(|row| wanted[*row]).for_each(&mut add),
            }
        }
        sums
    }

    /// By group; senseless in groups without a row.
    fn bounds(
        &self,
        ranges: &[Range<usize>],
        wanted: Option<&[bool]>,
        values: &[i128],
    ) -> Vec<Bounds> {
        let mut bounds = vec![Bounds { min: i128::MAX, max: i128::MIN }; self.count()];
        for row in ranges.iter().cloned().flatten() {
            if wanted.is_none_or(|wanted| wanted[row]) {
                let group = &mut bounds[self.of_row[row] as usize];
                group.min = group.min.min(values[row]);
                group.max = group.max.max(values[row]);
            }
        }
        bounds
    }
}

/// The smallest and the largest of some numbers of one scale.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    min: i128,
    max: i128,
}

impl Bounds {
    fn scaled(self, scale: u8) -> (Sum, Sum) {
        (Sum::from_scaled(self.min, scale), Sum::from_scaled(self.max, scale))
    }
}

fn extremes_of((qty_min, qty_max): (Sum, Sum), (price_min, price_max): (Sum, Sum)) -> Extremes {
    Extremes { qty_min, qty_max, price_min, price_max }
}

fn widen(all: &mut Extremes, other: Extremes) {
    all.qty_min = all.qty_min.min(other.qty_min);
    all.qty_max = all.qty_max.max(other.qty_max);
    all.price_min = all.price_min.min(other.price_min);
    all.price_max = all.price_max.max(other.price_max);
}
