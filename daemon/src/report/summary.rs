use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::ledger::{Filters, GroupKey, Ledger, LedgerError, Measures, SummaryGroup, SummaryQuery};
use crate::usage::{CALENDAR_ATTRIBUTES, ScopeId, Sum};

/// What a caller wants summed, and which page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRequest {
    pub query: SummaryQuery,
    pub offset: usize,
    pub limit: usize,
}

/// One page of a summary, sorted by time, then by the groups in the order asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Groups before paging.
    pub total: usize,
    pub groups: Vec<SummaryGroup>,
}

/// The sums of a time range, sorted and cut to the page asked for.
pub fn summarize(ledger: &dyn Ledger, request: SummaryRequest) -> Result<Summary, LedgerError> {
    let SummaryRequest { query, offset, limit } = request;
    if query.begin >= query.end || matches_nothing(&query.filters) {
        return Ok(Summary::default());
    }
    let groups = ledger.summarize(&query)?;
    let total = groups.len();
    let groups = page(groups, (offset, limit), |a, b| order(&query.group_by, a, b));
    Ok(Summary { total, groups })
}

/// What would stand from `offset` on if all were sorted; only that is.
fn page<T>(
    mut all: Vec<T>,
    (offset, limit): (usize, usize),
    order: impl Fn(&T, &T) -> Ordering,
) -> Vec<T> {
    let end = offset.saturating_add(limit).min(all.len());
    if offset >= end {
        return Vec::new();
    }
    if end < all.len() {
        all.select_nth_unstable_by(end, &order);
        all.truncate(end);
    }
    if offset > 0 {
        all.select_nth_unstable_by(offset, &order);
        all.drain(..offset);
    }
    all.sort_unstable_by(order);
    all
}

/// The price of everything that passes the filters; `None` when nothing does.
pub fn total(
    ledger: &dyn Ledger,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
    filters: Filters,
) -> Result<Option<Sum>, LedgerError> {
    let query =
        SummaryQuery { begin, end, filters, group_by: Vec::new(), measures: Measures::Sums };
    let summary = summarize(ledger, SummaryRequest { query, offset: 0, limit: 1 })?;
    Ok(summary.groups.first().map(|group| group.price))
}

/// The scopes that have rated rows in a time range, in order of creation.
pub fn scopes_with_rows(
    ledger: &dyn Ledger,
    begin: DateTime<Utc>,
    end: DateTime<Utc>,
) -> Result<Vec<Arc<str>>, LedgerError> {
    let group_by = vec![GroupKey::Scope];
    let query = SummaryQuery {
        begin,
        end,
        filters: Filters::default(),
        group_by,
        measures: Measures::Sums,
    };
    let summary = summarize(ledger, SummaryRequest { query, offset: 0, limit: usize::MAX })?;
    let mut found: BTreeSet<Arc<str>> =
        summary.groups.into_iter().filter_map(|group| group.keys.into_iter().next()).collect();
    let mut scopes = Vec::with_capacity(found.len());
    for scope in ledger.scopes()? {
        scopes.extend(found.take(scope.id.as_str()));
    }
    // Rows whose scope nobody has listed, but not rows without one.
    scopes.extend(found.into_iter().filter(|scope| !scope.is_empty()));
    Ok(scopes)
}

/// Does a filter leave no value at all?
pub fn matches_nothing(filters: &Filters) -> bool {
    filters.scopes.as_ref().is_some_and(Vec::is_empty)
        || filters.types.as_ref().is_some_and(Vec::is_empty)
        || filters.attributes.values().any(Vec::is_empty)
}

/// Adds a condition. Values of one name are alternatives.
pub fn add_filter(filters: &mut Filters, scope_key: &str, name: &str, value: &str) {
    if name == "type" {
        filters.types.get_or_insert_default().push(value.to_owned());
    } else if name == scope_key {
        // A text that can be no scope's name matches none.
        filters.scopes.get_or_insert_default().extend(ScopeId::new(value));
    } else {
        filters.attributes.entry(name.to_owned()).or_default().push(value.to_owned());
    }
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

            prop_assert_eq!(page(all, (offset, limit), Ord::cmp), expected);
        }
    }

    fn group(keys: &[&str]) -> SummaryGroup {
        let keys = keys.iter().map(|key| Arc::from(*key)).collect();
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

    #[test]
    fn a_filter_that_no_scope_can_pass_matches_nothing() {
        let mut filters = Filters::default();
        assert!(!matches_nothing(&filters));

        add_filter(&mut filters, "project_id", "project_id", "");
        assert!(matches_nothing(&filters));

        add_filter(&mut filters, "project_id", "project_id", "a");
        add_filter(&mut filters, "project_id", "flavor", "small");
        assert!(!matches_nothing(&filters));
        assert_eq!(filters.scopes.map(|scopes| scopes.len()), Some(1));
    }
}
