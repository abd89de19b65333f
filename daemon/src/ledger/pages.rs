//! Pages of what a ledger answers.

use std::cmp::Ordering;
use std::ops::Range;

use super::{GroupKey, SummaryGroup, SummaryQuery};
use crate::usage::CALENDAR_ATTRIBUTES;

/// A part of a sorted list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageOf {
    pub offset: usize,
    pub limit: usize,
}

impl PageOf {
    pub const ALL: PageOf = PageOf { offset: 0, limit: usize::MAX };

    /// Places of a list of so many.
    pub fn of(self, total: usize) -> Range<usize> {
        let begin = self.offset.min(total);
        begin..self.offset.saturating_add(self.limit).min(total)
    }
}

/// Groups sorted by period, then by the keys in the order of the query, calendar attributes as
/// numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SummaryPage {
    /// Groups before paging.
    pub total: usize,
    pub groups: Vec<SummaryGroup>,
}

impl SummaryPage {
    /// Of all groups of a query, in any order.
    pub fn of(groups: Vec<SummaryGroup>, query: &SummaryQuery, page: PageOf) -> SummaryPage {
        let total = groups.len();
        let order = |a: &SummaryGroup, b: &SummaryGroup| order(&query.group_by, a, b);
        SummaryPage { total, groups: cut(groups, page.of(total), order) }
    }
}

/// What would stand at some places if all were sorted; only that is.
fn cut<T>(mut all: Vec<T>, wanted: Range<usize>, order: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    if wanted.is_empty() {
        return Vec::new();
    }
    if wanted.end < all.len() {
        all.select_nth_unstable_by(wanted.end, &order);
        all.truncate(wanted.end);
    }
    if wanted.start > 0 {
        all.select_nth_unstable_by(wanted.start, &order);
        all.drain(..wanted.start);
    }
    all.sort_unstable_by(order);
    all
}

fn order(group_by: &[GroupKey], a: &SummaryGroup, b: &SummaryGroup) -> Ordering {
    let mut order = a.period.cmp(&b.period);
    let columns = group_by.iter().filter(|key| **key != GroupKey::Time);
    for (column, (a, b)) in columns.zip(a.keys.iter().zip(&b.keys)) {
        order = order.then_with(|| match column {
            // Day 10 comes after day 9.
            GroupKey::Attribute(name) if CALENDAR_ATTRIBUTES.contains(&name.as_str()) => {
                (a.len(), a).cmp(&(b.len(), b))
            }
            _ => a.cmp(b),
        });
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::usage::Sum;

    proptest! {
        #[test]
        fn a_page_is_part_of_all_sorted(
            all in proptest::collection::vec(0..20_u32, 0..50),
            offset in 0..60_usize,
            limit in prop_oneof![0..60_usize, Just(usize::MAX)],
        ) {
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let expected: Vec<u32> = sorted.into_iter().skip(offset).take(limit).collect();
            let wanted = PageOf { offset, limit }.of(all.len());

            prop_assert_eq!(cut(all, wanted, Ord::cmp), expected);
        }
    }

    fn group(keys: &[&str]) -> SummaryGroup {
        let keys = keys.iter().map(|key| (*key).into()).collect();
        SummaryGroup {
            keys,
            period: None,
            qty: Sum::ZERO,
            price: Sum::ZERO,
            rows: 1,
            extremes: None,
        }
    }

    #[test]
    fn groups_are_sorted_in_the_order_asked_for() {
        let group_by = [GroupKey::Attribute("month".to_owned()), GroupKey::Scope];
        let mut groups =
            [group(&["10", "a"]), group(&["9", "b"]), group(&["9", "a"]), group(&["10", "10"])];

        groups.sort_by(|a, b| order(&group_by, a, b));

        let keys: Vec<String> = groups.iter().map(|group| group.keys.join("/")).collect();
        assert_eq!(keys, ["9/a", "9/b", "10/10", "10/a"]);
    }
}
