//! One page of a summary.
//!
//! With the period among the keys no group is of two periods: how many groups a period has is
//! counted without their sums, and sums are read of those periods only that are on the page.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::query::{Reading, Selection};
use super::slice::Slice;
use super::summary::{ALL_SCOPES, Need, Plan, need, summarize};
use super::threads::with_helpers;
use crate::ledger::{GroupKey, LedgerError, PageOf, SummaryPage, SummaryQuery};
use crate::usage::Period;

/// A thread is worth its start from so many scopes of rollups on.
const HELPER_SCOPES_MIN: usize = 100_000;

pub(super) fn page(
    reading: Reading<'_>,
    query: &SummaryQuery,
    slices: &[Slice],
    page: PageOf,
) -> Result<SummaryPage, LedgerError> {
    let by_period = query.group_by.contains(&GroupKey::Time) && need(reading, query) != Need::Rows;
    if !by_period || (page.offset == 0 && page.limit == usize::MAX) {
        return Ok(SummaryPage::of(summarize(reading, query, slices)?, query, page));
    }
    let periods = periods(reading, query, slices)?;
    let counts = counts(reading, query, &periods)?;
    let total = counts.iter().sum();
    let wanted = page.of(total);
    let mut before = 0;
    let (mut on_page, mut skipped) = (Vec::new(), 0);
    for (slices, count) in periods.iter().zip(counts) {
        if before + count <= wanted.start {
            skipped += count;
        } else if before < wanted.end {
            on_page.extend(slices.iter().copied().cloned());
        }
        before += count;
    }
    let groups = summarize(reading, query, &on_page)?;
    let page = PageOf { offset: wanted.start - skipped, limit: wanted.len() };
    Ok(SummaryPage { total, ..SummaryPage::of(groups, query, page) })
}

/// The slices that a query picks, by period.
fn periods<'s>(
    reading: Reading<'_>,
    query: &SummaryQuery,
    slices: &'s [Slice],
) -> Result<Vec<Vec<&'s Slice>>, LedgerError> {
    let selection = Selection::new(reading.catalog, &query.filters)?;
    let mut periods: BTreeMap<Period, Vec<&Slice>> = BTreeMap::new();
    for slice in slices {
        if selection.takes_slice(reading.metric_type(slice), slice.period) {
            periods.entry(slice.period).or_default().push(slice);
        }
    }
    Ok(periods.into_values().collect())
}

/// How many groups each period has.
fn counts(
    reading: Reading<'_>,
    query: &SummaryQuery,
    periods: &[Vec<&Slice>],
) -> Result<Vec<usize>, LedgerError> {
    let selection = Selection::new(reading.catalog, &query.filters)?;
    let plan = Plan::new(reading, query, &selection);
    let scopes: usize =
        periods.iter().flatten().flat_map(|slice| &slice.rollups).map(|part| part.rows).sum();
    let next = AtomicUsize::new(0);
    let found = with_helpers(scopes / HELPER_SCOPES_MIN, || {
        let mut counter = Counter::new(&plan, query);
        let mut counts = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(slices) = periods.get(index) else { return Ok(counts) };
            counts.push((index, counter.count(slices)?));
        }
    });
    let mut counts = vec![0; periods.len()];
    for found in found {
        for (index, count) in found? {
            counts[index] = count;
        }
    }
    Ok(counts)
}

/// Counts the groups of a period at a time.
struct Counter<'a> {
    plan: &'a Plan<'a>,
    by_type: bool,
    by_each_scope: bool,
    /// A bit for each scope, and one for the group of all that are not told apart.
    seen: Vec<u64>,
}

impl<'a> Counter<'a> {
    fn new(plan: &'a Plan<'a>, query: &SummaryQuery) -> Counter<'a> {
        let bits = plan.reading.catalog.scopes.len() + 1;
        Counter {
            plan,
            by_type: query.group_by.contains(&GroupKey::Type),
            by_each_scope: plan.tells_all_scopes_apart(),
            seen: vec![0; bits.div_ceil(64)],
        }
    }

    fn count(&mut self, slices: &[&Slice]) -> Result<usize, LedgerError> {
        if !self.by_type {
            return self.count_scopes(slices);
        }
        let mut of_types: BTreeMap<&str, Vec<&Slice>> = BTreeMap::new();
        for slice in slices {
            of_types.entry(self.plan.reading.metric_type(slice)).or_default().push(slice);
        }
        of_types.into_values().map(|slices| self.count_scopes(&slices)).sum()
    }

    fn count_scopes(&mut self, slices: &[&Slice]) -> Result<usize, LedgerError> {
        self.seen.fill(0);
        let Plan { reading, selection, .. } = self.plan;
        let last = self.plan.reading.catalog.scopes.len();
        for slice in slices {
            if !self.plan.tells_scopes_apart() && selection.scopes.is_none() {
                self.seen[last / 64] |= u64::from(slice.rows > 0) << (last % 64);
                continue;
            }
            for (index, part) in slice.rollups.iter().enumerate() {
                if !selection.takes_part(slice, part) {
                    continue;
                }
                let takes_all = selection.scopes.is_none() && slice.removed.is_empty();
                if takes_all && part.is_full() && self.by_each_scope {
                    set(&mut self.seen, part.first_scope as usize..part.last_scope as usize + 1);
                    continue;
                }
                for scope in reading.scopes_with_rows(slice, index)? {
                    if selection.takes_scope(scope) {
                        let group = self.plan.group_scope(scope);
                        let bit = if group == ALL_SCOPES { last } else { group as usize };
                        self.seen[bit / 64] |= 1 << (bit % 64);
                    }
                }
            }
        }
        Ok(self.seen.iter().map(|bits| bits.count_ones() as usize).sum())
    }
}

fn set(bits: &mut [u64], range: std::ops::Range<usize>) {
    for (word, bits) in bits.iter_mut().enumerate().skip(range.start / 64) {
        let begin = range.start.saturating_sub(word * 64);
        let end = range.end.saturating_sub(word * 64).min(64);
        if end == 0 {
            return;
        }
        *bits |= (u64::MAX >> (64 - end)) & (u64::MAX << begin);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_of_a_range_are_set(begin in 0..300_usize, count in 0..300_usize) {
            let mut bits = [0; 10];
            super::set(&mut bits, begin..begin + count);

            for place in 0..640 {
                let is_set = bits[place / 64] >> (place % 64) & 1 == 1;
                prop_assert_eq!(is_set, (begin..begin + count).contains(&place));
            }
        }
    }
}
