//! Sums by group: from slices' records where that is enough, else from rollups, else from rows.
//!
//! Threads that are free share the parts of the slices; each adds up its own, and what they have
//! found is added at the end. Sums are exact, so nobody can tell who has read what.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::block::Block;
use super::catalog::{Catalog, ScopeEntry, ScopeNumber};
use super::cells::{Rows, Run};
use super::codec::Damage;
use super::gather::ScopeSums;
pub(super) use super::groups::ALL_SCOPES;
use super::groups::{Chains, GroupId, Groups, NO_TEXTS};
use super::lookup::{Attribute, CodeNumbers, Matcher, Matches};
use super::query::{BlockError, Reading, Selection, calendar_index, is_scope_key, rows_of_scopes};
use super::slice::{Part, Slice};
use super::store::Table;
use super::sums::Level;
use super::threads::with_helpers;
use crate::ledger::{GroupKey, LedgerError, Measures, SummaryGroup, SummaryQuery};
use crate::usage::{Period, calendar_attributes};

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

/// A thread is worth its start from so many entries on (rows, or scopes of rollups).
const HELPER_ENTRIES_MIN: usize = 50_000;
/// A thread takes at most so many parts at once, and leaves others a share of the rest.
const TURN_PARTS_MAX: usize = 16;
const TURN_SHARES: usize = 16;

pub(super) fn summarize(
    reading: Reading<'_>,
    query: &SummaryQuery,
    slices: &[Slice],
) -> Result<Vec<SummaryGroup>, LedgerError> {
    let selection = Selection::new(reading.catalog, &query.filters)?;
    let plan = Plan::new(reading, query, &selection);
    let mut slice_groups = SliceGroups::default();
    let mut scan = Scan::new(&plan);
    let mut jobs = Vec::new();
    for slice in slices {
        if selection.takes_slice(reading.metric_type(slice), slice.period) {
            let slice_group = slice_groups.number(plan.slice_group(slice));
            scan.begin_slice(slice, slice_group, &mut jobs);
        }
    }
    // What goes into the same groups one after the other: they are still in the processor's cache.
    jobs.sort_by_key(|job| (job.slice_group, job.index));
    let entries: usize = jobs.iter().map(|job| job.part.rows).sum();
    let turn = (jobs.len() / TURN_SHARES).clamp(1, TURN_PARTS_MAX);
    let (next, has_failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let found = with_helpers(entries / HELPER_ENTRIES_MIN, || {
        let mut scan = Scan::new(&plan);
        while !has_failed.load(Ordering::Relaxed) {
            let begin = next.fetch_add(turn, Ordering::Relaxed);
            let Some(left) = jobs.get(begin..) else { break };
            for (index, job) in (begin..).zip(left.iter().take(turn)) {
                if let Err(error) = scan.run(job).and_then(|()| scan.groups.check()) {
                    has_failed.store(true, Ordering::Relaxed);
                    return Err((index, error));
                }
            }
        }
        Ok(scan)
    });
    let mut all = scan;
    let mut failures = Vec::new();
    for found in found {
        match found {
            Ok(found) if all.groups.is_empty() => all = found,
            Ok(found) => {
                all.groups.merge(&mut all.chains, (found.groups, &found.chains));
                all.groups.check()?;
            }
            Err(failure) => failures.push(failure),
        }
    }
    // Turns are taken in order, and to their end: the first failure is the same for any threads.
    match failures.into_iter().min_by_key(|(index, _)| *index) {
        Some((_, error)) => Err(error),
        None => all.finish(&slice_groups),
    }
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

/// What is asked, the same for all threads.
pub(super) struct Plan<'a> {
    pub(super) reading: Reading<'a>,
    pub(super) selection: &'a Selection<'a>,
    keys: Vec<Key<'a>>,
    attributes: Vec<&'a str>,
    by_rows: bool,
    measures: Measures,
    /// By number the scope that a scope's groups have; `None` = scopes are not told apart.
    group_scopes: Option<Vec<ScopeNumber>>,
}

/// A part of a slice's rollups or blocks that has to be read.
struct Job<'a> {
    slice: &'a Slice,
    slice_group: u32,
    of: PartOf,
    index: usize,
    part: &'a Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PartOf {
    Rollups,
    Blocks,
}

/// What all rows of a slice have in common in their group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SliceGroup {
    period: Option<Period>,
    /// In the order of the query's keys, without those that rows differ in.
    keys: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
struct SliceGroups {
    numbers: HashMap<SliceGroup, u32>,
    groups: Vec<SliceGroup>,
}

impl SliceGroups {
    fn number(&mut self, group: SliceGroup) -> u32 {
        let next = u32::try_from(self.groups.len()).expect("groups fit into memory");
        let number = *self.numbers.entry(group.clone()).or_insert(next);
        if number == next {
            self.groups.push(group);
        }
        number
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(
        reading: Reading<'a>,
        query: &'a SummaryQuery,
        selection: &'a Selection<'a>,
    ) -> Plan<'a> {
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
        Plan {
            reading,
            selection,
            attributes: keys.iter().filter_map(attribute).collect(),
            by_rows: need(reading, query) == Need::Rows,
            measures: query.measures,
            group_scopes: group_scopes(reading.catalog, &keys),
            keys,
        }
    }

    fn slice_group(&self, slice: &Slice) -> SliceGroup {
        let mut group = SliceGroup { period: None, keys: Vec::new() };
        for key in &self.keys {
            match key {
                Key::Time => group.period = Some(slice.period),
                Key::Type => group.keys.push(self.reading.metric_type(slice).into()),
                Key::Calendar(index) => {
                    let attributes = calendar_attributes(slice.period.begin());
                    group.keys.push(attributes[*index].1.as_str().into());
                }
                Key::Scope | Key::ScopesBy(_) | Key::Attribute(_) => {}
            }
        }
        group
    }

    pub(super) fn tells_scopes_apart(&self) -> bool {
        self.group_scopes.is_some()
    }

    /// Whether each scope has groups of its own.
    pub(super) fn tells_all_scopes_apart(&self) -> bool {
        self.keys.iter().any(|key| matches!(key, Key::Scope))
            || self.group_scopes.as_ref().is_some_and(|scopes| !scopes.contains(&ALL_SCOPES))
    }

    pub(super) fn group_scope(&self, scope: ScopeNumber) -> ScopeNumber {
        self.group_scopes.as_ref().map_or(ALL_SCOPES, |scopes| scopes[scope as usize])
    }

    /// What the block's runs of rows are that are wanted by their scope.
    fn runs(&self, slice: &Slice, block: &Block<'_>) -> Result<Vec<Run>, Damage> {
        if self.group_scopes.is_none() {
            let ranges = rows_of_scopes(self.reading, slice, block, self.selection)?;
            return Ok(ranges.into_iter().map(|range| (ALL_SCOPES, range)).collect());
        }
        let scopes = self.reading.scopes_of(block)?;
        let mut runs: Vec<Run> = Vec::with_capacity(scopes.len());
        let mut begin = 0;
        for run in &scopes {
            let range: Range<usize> = begin..begin + run.rows;
            begin = range.end;
            if self.selection.takes_scope(run.scope) && !slice.removed.contains(run.scope) {
                runs.push((self.group_scope(run.scope), range));
            }
        }
        Ok(runs)
    }

    fn keys_of(
        &self,
        slice_group: &SliceGroup,
        id: GroupId,
        chains: &Chains,
    ) -> Result<Vec<Arc<str>>, LedgerError> {
        if id.scope != ALL_SCOPES {
            self.reading.catalog.check_scope(id.scope)?;
        }
        let mut of_slice = slice_group.keys.iter().cloned();
        let mut of_rows = chains.texts_of(id.texts, self.attributes.len()).into_iter();
        let mut keys = Vec::with_capacity(self.keys.len());
        let scope = self.reading.catalog.scopes.get(id.scope as usize);
        for key in &self.keys {
            let text = match key {
                Key::Time => continue,
                Key::Type | Key::Calendar(_) => of_slice.next(),
                Key::Scope => scope.map(|scope| scope.id.as_str().into()),
                Key::ScopesBy(name) => scope
                    .filter(|scope| scope.scope_key.as_ref() == *name)
                    .map(|scope| scope.id.as_str().into()),
                Key::Attribute(_) => of_rows.next(),
            };
            keys.push(text.unwrap_or_default());
        }
        Ok(keys)
    }
}

/// Scopes that no key tells apart are in one group.
fn group_scopes(catalog: &Catalog, keys: &[Key<'_>]) -> Option<Vec<ScopeNumber>> {
    // Where scopes are damaged any attribute may be what identifies one of them.
    let is_hidden = catalog.holes.check(Table::Scopes).is_err();
    let tells = |key: &Key<'_>| match key {
        Key::Scope | Key::ScopesBy(_) => true,
        Key::Attribute(_) => is_hidden,
        _ => false,
    };
    if !keys.iter().any(tells) {
        return None;
    }
    let group_scope = |(number, scope): (ScopeNumber, &ScopeEntry)| {
        let is_told = catalog.check_scope(number).is_err()
            || keys.iter().any(|key| match key {
                Key::Scope => true,
                Key::ScopesBy(name) => scope.scope_key.as_ref() == *name,
                _ => false,
            });
        if is_told { number } else { ALL_SCOPES }
    };
    Some((0..).zip(catalog.scopes.iter()).map(group_scope).collect())
}

/// What one thread has found.
struct Scan<'a> {
    plan: &'a Plan<'a>,
    matcher: Matcher<'a>,
    /// By attribute the numbers of its texts in `chains`.
    tables: Vec<CodeNumbers>,
    chains: Chains,
    groups: Groups,
}

impl<'a> Scan<'a> {
    fn new(plan: &'a Plan<'a>) -> Scan<'a> {
        Scan {
            plan,
            matcher: Matcher::new(plan.selection),
            tables: plan.attributes.iter().map(|_| CodeNumbers::default()).collect(),
            chains: Chains::new(),
            groups: Groups::default(),
        }
    }

    /// Adds what a slice's record tells, or says what of the slice has to be read.
    fn begin_slice<'s>(&mut self, slice: &'s Slice, slice_group: u32, jobs: &mut Vec<Job<'s>>) {
        let selection = self.plan.selection;
        let (of, parts) = if self.plan.by_rows {
            (PartOf::Blocks, &slice.blocks)
        } else if self.plan.group_scopes.is_some() || selection.scopes.is_some() {
            (PartOf::Rollups, &slice.rollups)
        } else {
            let id = GroupId { slice_group, scope: ALL_SCOPES, texts: NO_TEXTS };
            let sums = ScopeSums { rows: slice.rows, qty: slice.qty, price: slice.price };
            self.groups.add(id, sums);
            return;
        };
        for (index, part) in parts.iter().enumerate() {
            if selection.takes_part(slice, part) {
                jobs.push(Job { slice, slice_group, of, index, part });
            }
        }
    }

    fn run(&mut self, job: &Job<'_>) -> Result<(), LedgerError> {
        let reading = self.plan.reading;
        let Job { slice, slice_group, index, .. } = *job;
        if job.of == PartOf::Blocks {
            let add = |block: &Block<'_>| self.add_block(slice, block, slice_group);
            return reading.with_block(slice, index, add);
        }
        let rollup = reading.rollup_columns(slice, index)?;
        let takes = |scope: &ScopeNumber| {
            self.plan.selection.takes_scope(*scope) && !slice.removed.contains(*scope)
        };
        let group_scope =
            |scope| Some(scope).filter(takes).map(|scope| self.plan.group_scope(scope));
        self.groups.add_rollup(slice_group, &rollup, group_scope);
        Ok(())
    }

    fn add_block(
        &mut self,
        slice: &Slice,
        block: &Block<'_>,
        slice_group: u32,
    ) -> Result<(), BlockError> {
        let runs = self.plan.runs(slice, block)?;
        if runs.is_empty() {
            return Ok(());
        }
        let matches = self.matcher.matches(self.plan.reading, block)?;
        if matches!(matches, Matches::None) {
            return Ok(());
        }
        let (places, chains) = self.places(block)?;
        let (runs, matches, places) = (&runs, &matches, places.as_deref());
        let rows = Rows { slice_group, runs, matches, places, chains: &chains };
        rows.add_to(&mut self.groups, block.measured()?, self.plan.measures);
        Ok(())
    }

    /// By row the place of its texts in a list of chains (`None` = the first one), and the list.
    fn places(&mut self, block: &Block<'_>) -> Result<(Option<Vec<u32>>, Vec<u32>), BlockError> {
        let mut places: Option<Vec<u32>> = None;
        let mut list = vec![NO_TEXTS];
        for (name, table) in self.plan.attributes.iter().zip(&mut self.tables) {
            let chains = &mut self.chains;
            let number = |text: &str| chains.text_number(text);
            match table.attribute(self.plan.reading, (block, name), number)? {
                Attribute::Same(text) => {
                    for chain in &mut list {
                        *chain = chains.longer(*chain, text);
                    }
                }
                Attribute::Differs { indexes, numbers } => match &mut places {
                    None => {
                        let before = list[0];
                        list = numbers.iter().map(|text| chains.longer(before, *text)).collect();
                        places = Some(indexes);
                    }
                    Some(places) => {
                        let pairs = refine(places, list.len(), &indexes, numbers.len());
                        let chain = |(place, index): (u32, u32)| {
                            chains.longer(list[place as usize], numbers[index as usize])
                        };
                        list = pairs.into_iter().map(chain).collect();
                    }
                },
            }
        }
        Ok((places, list))
    }

    fn finish(self, slice_groups: &SliceGroups) -> Result<Vec<SummaryGroup>, LedgerError> {
        let group = |(id, sums, extremes): (GroupId, ScopeSums, _)| {
            let slice_group = &slice_groups.groups[id.slice_group as usize];
            let keys = self.plan.keys_of(slice_group, id, &self.chains)?;
            let ScopeSums { rows, qty, price } = sums;
            Ok(SummaryGroup { keys, period: slice_group.period, qty, price, rows, extremes })
        };
        self.groups.each().map(group).collect()
    }
}

/// Pairs of place and index are looked up in a table up to this size.
const TABLE_SIZE_MAX: usize = 1 << 18;

/// Makes each row's place that of its pair of place and index in a list of those that occur.
fn refine(places: &mut [u32], count: usize, indexes: &[u32], distinct: usize) -> Vec<(u32, u32)> {
    const NONE: u32 = u32::MAX;
    let mut pairs: Vec<(u32, u32)> = Vec::new();
    let mut new_place = |pair: (u32, u32)| {
        pairs.push(pair);
        u32::try_from(pairs.len() - 1).expect("a block has few rows")
    };
    if count.saturating_mul(distinct) <= TABLE_SIZE_MAX {
        let mut table = vec![NONE; count * distinct];
        for (place, index) in places.iter_mut().zip(indexes) {
            let entry = &mut table[*place as usize * distinct + *index as usize];
            if *entry == NONE {
                *entry = new_place((*place, *index));
            }
            *place = *entry;
        }
    } else {
        let mut table = super::hash::NumberMap::default();
        for (place, index) in places.iter_mut().zip(indexes) {
            let pair = (*place, *index);
            *place = *table.entry(pair).or_insert_with(|| new_place(pair));
        }
    }
    pairs
}
