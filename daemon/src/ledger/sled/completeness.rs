//! What is known of each scope, metric and period: facts from rollups, failures from notes.

use std::collections::BTreeSet;

use super::catalog::ScopeNumber;
use super::query::Reading;
use super::slice::Slice;
use crate::ledger::{Completeness, CompletenessQuery, CompletenessState, LedgerError, Origin};
use crate::usage::Period;

/// By period, metric and scope; failures after facts.
pub(super) fn list(
    reading: Reading<'_>,
    query: &CompletenessQuery,
    slices: &[Slice],
) -> Result<Vec<Completeness>, LedgerError> {
    let catalog = reading.catalog;
    let scopes = query.scopes.as_ref().map(|ids| catalog.numbers_of(ids)).transpose()?;
    let scopes: Option<BTreeSet<ScopeNumber>> = scopes;
    let is_wanted =
        |scope: ScopeNumber| scopes.as_ref().is_none_or(|scopes| scopes.contains(&scope));
    let mut list = Vec::new();
    for slice in slices.iter().filter(|slice| slice.origin == Origin::Collected) {
        for (index, part) in slice.rollups.iter().enumerate() {
            let in_part = part.first_scope..=part.last_scope;
            if scopes.as_ref().is_some_and(|scopes| scopes.range(in_part).next().is_none()) {
                continue;
            }
            for entry in reading.rollup(slice, index)? {
                if is_wanted(entry.scope) {
                    catalog.check_scope(entry.scope)?;
                    list.push(Completeness {
                        scope: catalog.scopes[entry.scope as usize].id.clone(),
                        metric: reading.metric(slice).clone(),
                        period: slice.period,
                        state: CompletenessState::Known(entry.fact),
                    });
                }
            }
        }
    }
    for (metric, notes) in &catalog.notes.by_metric {
        catalog.check_metric(*metric)?;
        let Some(metric) = catalog.metrics.get(*metric as usize) else { continue };
        for note in notes.notes.values() {
            let Some(period) = Period::from_secs(note.begin_secs, note.end_secs) else { continue };
            if period.begin() < query.begin || period.begin() >= query.end {
                continue;
            }
            for scope in note.scopes.iter().filter(|scope| is_wanted(**scope)) {
                let Some(entry) = catalog.scopes.get(*scope as usize) else { continue };
                catalog.check_scope(*scope)?;
                let (attempts, reason) = (note.attempts, note.reason.clone());
                list.push(Completeness {
                    scope: entry.id.clone(),
                    metric: metric.clone(),
                    period,
                    state: CompletenessState::Failing { attempts, reason },
                });
            }
        }
    }
    Ok(list)
}
