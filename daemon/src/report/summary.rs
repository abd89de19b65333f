use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::ledger::{
    Filters, GroupKey, Ledger, LedgerError, Measures, PageOf, SummaryPage, SummaryQuery,
};
use crate::usage::{ScopeId, Sum};

/// What a caller wants summed, and which page of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRequest {
    pub query: SummaryQuery,
    pub page: PageOf,
}

/// The sums of a time range, sorted and cut to the page asked for.
pub fn summarize(
    ledger: &dyn Ledger,
    request: &SummaryRequest,
) -> Result<SummaryPage, LedgerError> {
    let SummaryRequest { query, page } = request;
    if query.begin >= query.end || matches_nothing(&query.filters) {
        return Ok(SummaryPage::default());
    }
    ledger.summary_page(query, *page)
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
    let summary = summarize(ledger, &SummaryRequest { query, page: PageOf::ALL })?;
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
    let summary = summarize(ledger, &SummaryRequest { query, page: PageOf::ALL })?;
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

#[cfg(test)]
mod tests {
    use super::*;

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
