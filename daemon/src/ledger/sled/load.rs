//! Reads the catalog when a ledger is opened.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::{Catalog, Counters, MetricNotes, ScopeEntry, ScopeNumber};
use super::codec::Damage;
use super::store::{Store, Table, damaged};
use super::{COUNTERS_KEY, cursors, data, records, reprocessing, states, sums};
use crate::ledger::LedgerError;

/// What is known, and what was left out because it is damaged: nobody's figures depend on it.
/// `file_highest` = the highest number that a data file has on disk.
pub(super) fn load(
    store: &Store,
    file_highest: Option<u32>,
) -> Result<(Catalog, Vec<String>), LedgerError> {
    let mut catalog = Catalog::default();
    let mut skipped = Vec::new();
    let scopes = numbered(store, Table::Scopes, records::decode_scope)?;
    let by_id = (0..).zip(&scopes).map(|(number, scope)| (scope.id.clone(), number));
    catalog.scope_numbers = Arc::new(by_id.collect::<HashMap<_, _>>());
    catalog.listed = Arc::new(listed(&scopes)?);
    catalog.scopes = Arc::new(scopes);
    let decode_metric = |_, bytes: &[u8]| records::decode_metric(bytes);
    let metrics = numbered(store, Table::Metrics, decode_metric)?;
    let by_id = (0..).zip(&metrics).map(|(number, metric)| (metric.clone(), number));
    catalog.metric_numbers = Arc::new(by_id.collect::<HashMap<_, _>>());
    catalog.metrics = Arc::new(metrics);
    let decode_chain = |_, bytes: &[u8]| records::decode_chain(bytes);
    catalog.chains = Arc::new(numbered(store, Table::Chains, decode_chain)?);
    catalog.cursors = load_cursors(store, catalog.metrics.len())?;
    if let Err(error) = load_notes(store, &mut catalog) {
        catalog.notes = Arc::default();
        skipped.push(error.to_string());
    }
    states::load(store, &mut catalog)?;
    reprocessing::load(store, &mut catalog)?;
    catalog.counters = match store.get(Table::Meta, COUNTERS_KEY)? {
        Some(bytes) => records::decode_counters(&bytes)
            .map_err(|damage| damaged("counters".to_owned(), damage))?,
        None => Counters::default(),
    };
    data::load_into(store, &mut catalog)?;
    let after_highest = file_highest.map_or(0, |number| number.saturating_add(1));
    catalog.next_file = catalog.next_file.max(after_highest);
    if let Err(error) = sums::load(store, &mut catalog) {
        // The slices say the same.
        catalog.sums = Arc::default();
        catalog.sums_are_off = true;
        skipped.push(error.to_string());
    }
    Ok((catalog, skipped))
}

/// The scopes that have a place in the order of creation, in that order.
fn listed(scopes: &[ScopeEntry]) -> Result<Vec<ScopeNumber>, LedgerError> {
    let ranks = (0..).zip(scopes).filter_map(|(number, scope)| Some((scope.rank?, number)));
    let mut ranks: Vec<(u32, ScopeNumber)> = ranks.collect();
    ranks.sort_unstable();
    if (0..).zip(&ranks).any(|(expected, (rank, _))| *rank != expected) {
        return Err(damaged("scopes".to_owned(), Damage("their order has a gap")));
    }
    Ok(ranks.into_iter().map(|(_, number)| number).collect())
}

/// Records whose keys are 0, 1, 2 …
fn numbered<T>(
    store: &Store,
    table: Table,
    decode: impl Fn(u32, &[u8]) -> Result<T, Damage>,
) -> Result<Vec<T>, LedgerError> {
    let mut records = Vec::new();
    for entry in store.prefix(table, &[]) {
        let (key, value) = entry?;
        let place = || format!("{} {}", table.name(), records.len());
        let number = u32::try_from(records.len()).unwrap_or(u32::MAX);
        if key.as_ref() != number.to_be_bytes() {
            return Err(damaged(place(), Damage("it is missing")));
        }
        let record = decode(number, &value).map_err(|damage| damaged(place(), damage))?;
        records.push(record);
    }
    Ok(records)
}

fn load_cursors(
    store: &Store,
    metrics: usize,
) -> Result<Vec<Arc<Vec<cursors::Cursor>>>, LedgerError> {
    let mut list = Vec::new();
    for (number, _) in (0_u32..).zip(0..metrics) {
        let bytes = states::get_long(store, Table::Cursors, &number.to_be_bytes())?;
        let place = || format!("cursors of metric {number}");
        let decoded = bytes.map_or(Ok(Vec::new()), |bytes| {
            cursors::decode(&bytes).map_err(|damage| damaged(place(), damage))
        })?;
        list.push(Arc::new(decoded));
    }
    Ok(list)
}

fn load_notes(store: &Store, catalog: &mut Catalog) -> Result<(), LedgerError> {
    let notes = Arc::make_mut(&mut catalog.notes);
    for entry in store.prefix(Table::Notes, &[]) {
        let (key, value) = entry?;
        let wrong = |damage| damaged("notes of failures".to_owned(), damage);
        let (metric, rest) =
            key.split_first_chunk::<4>().ok_or(wrong(Damage("a key is too short")))?;
        let number = rest.first_chunk::<8>().ok_or(wrong(Damage("a key is too short")))?;
        let note = records::decode_note(&value).map_err(wrong)?;
        let of_metric: &mut MetricNotes =
            notes.by_metric.entry(u32::from_be_bytes(*metric)).or_default();
        let number = u64::from_be_bytes(*number);
        of_metric.of_scope.extend(note.scopes.iter().map(|scope| (*scope, number)));
        of_metric.notes.insert(number, note);
    }
    Ok(())
}
