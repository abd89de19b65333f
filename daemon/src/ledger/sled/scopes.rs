//! Scopes and configured metrics: who is there, and where they stand.

use std::sync::Arc;

use super::catalog::{Catalog, MetricNumber, ScopeEntry, ScopeNumber};
use super::cursors::{Cursor, SCOPES_MAX};
use super::queue::Stage;
use super::records;
use super::states;
use super::store::{Table, Write};
use crate::ledger::{Cursors, NewScope};
use crate::usage::MetricId;

pub(super) fn add(stage: &mut Stage, new: &[NewScope]) -> usize {
    let mut added = 0;
    for scope in new {
        if stage.catalog.scope_numbers.contains_key(&scope.id) {
            continue;
        }
        let catalog = &mut stage.catalog;
        assert!(catalog.scopes.len() < SCOPES_MAX, "a ledger has at most {SCOPES_MAX} scopes");
        let number = ScopeNumber::try_from(catalog.scopes.len()).expect("asserted just before");
        let entry = ScopeEntry::from(scope);
        let key = number.to_be_bytes().to_vec();
        stage.journaled.push(Write::put(Table::Scopes, key, records::encode_scope(&entry)));
        Arc::make_mut(&mut catalog.scope_numbers).insert(scope.id.clone(), number);
        let first = Cursor::at(entry.first_period.timestamp());
        Arc::make_mut(&mut catalog.scopes).push(entry);
        for metric in Arc::clone(&catalog.configured).iter() {
            set_cursor(catalog, *metric, number, first);
        }
        added += 1;
    }
    added
}

fn set_cursor(catalog: &mut Catalog, metric: MetricNumber, scope: ScopeNumber, cursor: Cursor) {
    let cursors = Arc::make_mut(&mut catalog.cursors[metric as usize]);
    let scope = scope as usize;
    if cursors.len() <= scope {
        cursors.resize(scope + 1, Cursor::UNSET);
    }
    cursors[scope] = cursor;
}

pub(super) fn set_metrics(stage: &mut Stage, metrics: &[MetricId]) {
    let mut numbers: Vec<MetricNumber> =
        metrics.iter().map(|metric| number_of(stage, metric)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let catalog = &mut stage.catalog;
    if *catalog.configured == numbers {
        return;
    }
    let scopes = ScopeNumber::try_from(catalog.scopes.len()).unwrap_or(ScopeNumber::MAX);
    let stands: Vec<Cursor> = (0..scopes).map(|scope| catalog.stand(scope)).collect();
    for metric in &numbers {
        for (scope, stand) in (0..).zip(&stands) {
            if catalog.cursor(*metric, scope).is_none() {
                set_cursor(catalog, *metric, scope, *stand);
            }
        }
    }
    catalog.configured = Arc::new(numbers);
    if !catalog.configured.is_empty() {
        catalog.standing = Arc::clone(&catalog.configured);
    }
    states::write_configured(stage);
}

fn number_of(stage: &mut Stage, metric: &MetricId) -> MetricNumber {
    let catalog = &mut stage.catalog;
    if let Some(number) = catalog.metric_numbers.get(metric) {
        return *number;
    }
    let number = MetricNumber::try_from(catalog.metrics.len()).expect("metrics come from a file");
    Arc::make_mut(&mut catalog.metrics).push(metric.clone());
    Arc::make_mut(&mut catalog.metric_numbers).insert(metric.clone(), number);
    catalog.cursors.push(Arc::default());
    let key = number.to_be_bytes().to_vec();
    stage.journaled.push(Write::put(Table::Metrics, key, records::encode_metric(metric)));
    number
}

pub(super) fn cursors(catalog: &Catalog) -> Cursors {
    let scopes: Vec<_> = catalog.scopes.iter().map(|scope| scope.id.clone()).collect();
    let count = ScopeNumber::try_from(scopes.len()).unwrap_or(ScopeNumber::MAX);
    let mut next_begin_secs = std::collections::BTreeMap::new();
    for metric in catalog.configured.iter() {
        let next = |scope| {
            let cursor = catalog.cursor(*metric, scope);
            cursor.unwrap_or_else(|| catalog.stand(scope)).next_secs()
        };
        let list = (0..count).map(next).collect();
        next_begin_secs.insert(catalog.metrics[*metric as usize].clone(), list);
    }
    Cursors { scopes, next_begin_secs }
}
