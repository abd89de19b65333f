//! Scopes and configured metrics: who is there, and where they stand.

use std::sync::Arc;

use super::catalog::{Catalog, MetricNumber, ScopeEntry, ScopeNumber};
use super::cursors::{Cursor, SCOPES_MAX};
use super::holes::Holes;
use super::queue::Stage;
use super::records;
use super::states;
use super::store::{Table, Write};
use crate::fault::{Step, passed};
use crate::ledger::{Cursors, Held, LedgerError, NEVER_SECS, NewScope, Scope, ScopeChange};
use crate::usage::{MetricId, ScopeId};

/// A scope that is known from pushed rows only is listed by this.
pub(super) fn add(stage: &mut Stage, new: &[NewScope]) -> Result<usize, LedgerError> {
    let mut added = 0;
    for scope in new {
        if scope.id.is_nobody() || stage.catalog.listed_number(&scope.id).is_some() {
            continue;
        }
        // It may be the one whose record is damaged, which would be rated twice then.
        stage.catalog.is_to_grow()?;
        let rank = u32::try_from(stage.catalog.listed.len()).expect("there are fewer scopes");
        let entry = ScopeEntry { rank: Some(rank), ..ScopeEntry::from(scope) };
        let number = put(stage, entry);
        let catalog = &mut stage.catalog;
        Arc::make_mut(&mut catalog.listed).push(number);
        let first = catalog.first_cursor(number);
        for metric in Arc::clone(&catalog.configured).iter() {
            set_cursor(catalog, *metric, number, first);
        }
        added += 1;
    }
    passed(Step::ChangeScopesAdded);
    Ok(added)
}

/// Adds or replaces what is known of a scope. Its number.
pub(super) fn put(stage: &mut Stage, entry: ScopeEntry) -> ScopeNumber {
    let catalog = &mut stage.catalog;
    let known = catalog.scope_numbers.get(&entry.id).copied();
    let number = known.unwrap_or_else(|| {
        assert!(catalog.scopes.len() < SCOPES_MAX, "a ledger has at most {SCOPES_MAX} scopes");
        ScopeNumber::try_from(catalog.scopes.len()).expect("asserted just before")
    });
    let key = number.to_be_bytes().to_vec();
    stage.journaled.push(Write::put(Table::Scopes, key, records::encode_scope(&entry)));
    let scopes = Arc::make_mut(&mut catalog.scopes);
    if known.is_some() {
        scopes[number as usize] = entry;
    } else {
        Arc::make_mut(&mut catalog.scope_numbers).insert(entry.id.clone(), number);
        scopes.push(entry);
    }
    number
}

pub(super) fn change(
    stage: &mut Stage,
    id: &ScopeId,
    change: &ScopeChange,
) -> Result<Option<Scope>, LedgerError> {
    let Some(number) = stage.catalog.listed_number(id) else {
        return stage.catalog.holes.check(Table::Scopes).map(|()| None);
    };
    stage.catalog.check_scope(number)?;
    stage.catalog.holes.check(Table::Cursors)?;
    let before = &stage.catalog.scopes[number as usize];
    let mut entry = before.clone();
    if let Some(fetcher) = &change.fetcher {
        entry.fetcher.clone_from(fetcher);
    }
    if let Some(collector) = &change.collector {
        entry.collector.clone_from(collector);
    }
    if let Some(scope_key) = &change.scope_key {
        entry.scope_key = scope_key.as_str().into();
    }
    if let Some((active, said_at)) = change.active
        && active != entry.active
    {
        entry.active = active;
        entry.activation_toggled = said_at;
    }
    if entry != *before {
        put(stage, entry);
    }
    passed(Step::ChangeScope);
    Ok(Some(stage.catalog.scope(number)))
}

/// Where the cursors of a metric are damaged, none is set.
pub(super) fn set_cursor(
    catalog: &mut Catalog,
    metric: MetricNumber,
    scope: ScopeNumber,
    cursor: Cursor,
) {
    if catalog.holes.check_number(Table::Cursors, metric).is_err() {
        return;
    }
    let cursors = Arc::make_mut(&mut catalog.cursors[metric as usize]);
    let scope = scope as usize;
    if cursors.len() <= scope {
        cursors.resize(scope + 1, Cursor::UNSET);
    }
    cursors[scope] = cursor;
}

/// Beside damage of what tells where a metric begins everything stays as it was: a metric that is
/// not known may be the one whose record is damaged, and would be rated twice.
pub(super) fn set_metrics(stage: &mut Stage, metrics: &[MetricId]) {
    let holes = &stage.catalog.holes;
    let tables = [Table::Metrics, Table::Cursors].into_iter();
    if tables.map(|table| holes.check(table)).any(|checked| checked.is_err())
        || stage.catalog.is_to_grow().is_err()
    {
        return;
    }
    let mut numbers: Vec<MetricNumber> =
        metrics.iter().map(|metric| number_of(stage, metric)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let catalog = &mut stage.catalog;
    if *catalog.configured == numbers {
        return;
    }
    let listed = Arc::clone(&catalog.listed);
    let stands: Vec<Cursor> = listed.iter().map(|scope| catalog.stand(*scope)).collect();
    for metric in &numbers {
        for (scope, stand) in listed.iter().zip(&stands) {
            if catalog.known_cursor(*metric, *scope).is_none() {
                set_cursor(catalog, *metric, *scope, *stand);
            }
        }
    }
    catalog.configured = Arc::new(numbers);
    if !catalog.configured.is_empty() {
        catalog.standing = Arc::clone(&catalog.configured);
    }
    states::write_configured(stage);
    passed(Step::ChangeMetrics);
}

/// A metric that is not there yet is added, without cursors.
pub(super) fn number_of(stage: &mut Stage, metric: &MetricId) -> MetricNumber {
    let catalog = &mut stage.catalog;
    if let Some(number) = catalog.metric_numbers.get(metric) {
        return *number;
    }
    let number = MetricNumber::try_from(catalog.metrics.len()).expect("metrics are limited");
    Arc::make_mut(&mut catalog.metrics).push(metric.clone());
    Arc::make_mut(&mut catalog.metric_numbers).insert(metric.clone(), number);
    catalog.cursors.push(Arc::default());
    let key = number.to_be_bytes().to_vec();
    stage.journaled.push(Write::put(Table::Metrics, key, records::encode_metric(metric)));
    number
}

/// Of what is whole: the others are held.
pub(super) fn cursors(catalog: &Catalog) -> Result<Cursors, LedgerError> {
    // Whoever is active, or by which rules prices are made, would be guessed.
    catalog.holes.check_at(Table::Scopes, &[])?;
    catalog.holes.check_at(Table::States, &[])?;
    let is_whole = |scope: &&ScopeNumber| catalog.check_scope(**scope).is_ok();
    let listed: Vec<ScopeNumber> = catalog.listed.iter().filter(is_whole).copied().collect();
    let entries = || listed.iter().map(|scope| &catalog.scopes[*scope as usize]);
    let mut next_begin_secs = std::collections::BTreeMap::new();
    for metric in catalog.configured.iter() {
        if catalog.check_metric(*metric).is_err() || catalog.cursor(*metric, 0).is_err() {
            continue;
        }
        let next = |scope: &ScopeNumber| {
            let cursor = catalog.known_cursor(*metric, *scope);
            // Where the metric begins is not found out beside damage.
            let begin = || match catalog.is_to_grow() {
                Ok(()) => catalog.stand(*scope).next_secs(),
                Err(_) => NEVER_SECS,
            };
            cursor.map_or_else(begin, Cursor::next_secs)
        };
        let list = listed.iter().map(next).collect();
        next_begin_secs.insert(catalog.metrics[*metric as usize].clone(), list);
    }
    Ok(Cursors {
        scopes: entries().map(|scope| scope.id.clone()).collect(),
        active: entries().map(|scope| scope.active).collect(),
        next_begin_secs,
        held_scopes: held(catalog.holes.errors_of(Table::Scopes)),
        held: held(errors_of_metrics(&catalog.holes)),
    })
}

/// What keeps metrics from being rated.
fn errors_of_metrics(holes: &Holes) -> impl Iterator<Item = LedgerError> {
    let tables = [Table::Metrics, Table::Cursors].into_iter();
    tables.flat_map(|table| holes.errors_of(table)).chain(states::check_lists(holes).err())
}

pub(super) fn held(errors: impl Iterator<Item = LedgerError>) -> Vec<Held> {
    let held = errors.filter_map(|error| match error {
        LedgerError::Damaged { place, detail } => Some(Held { place, detail }),
        _ => None,
    });
    held.collect()
}
