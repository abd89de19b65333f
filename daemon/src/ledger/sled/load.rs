//! Reads the catalog when a ledger is opened; what is damaged becomes a hole in it (`holes`).

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::{Catalog, Counters, MetricNotes, ScopeEntry, ScopeNumber};
use super::codec::{Damage, Reader};
use super::cursors::Cursor;
use super::data::DataFiles;
use super::holes::Holes;
use super::seal_group::{BROKEN, Group};
use super::slice::Slice;
use super::store::{Store, Table, Write, damaged, store_error};
use super::{COUNTERS_KEY, cursors, data, records, reprocessing, states, sums};
use crate::ledger::LedgerError;
use crate::usage::MetricId;

/// Records that are missing between others: more of them are no gap, but keys that make no sense.
const GAP_MAX: usize = 1024;

/// What is known, and what was left out because it is damaged: nobody's figures depend on it.
pub(super) fn load(store: &Store, data: &DataFiles) -> Result<(Catalog, Vec<String>), LedgerError> {
    let mut catalog = Catalog::default();
    let mut holes = Holes::default();
    let mut skipped = Vec::new();
    load_scopes(store, &mut catalog, &mut holes)?;
    let metrics = numbered(store, Table::Metrics, &mut holes, |_, bytes| {
        records::decode_metric(bytes).map(Some)
    })?;
    let by_id = (0..).zip(&metrics).filter_map(|(number, metric)| Some((metric.clone()?, number)));
    catalog.metric_numbers = Arc::new(by_id.collect::<HashMap<_, _>>());
    let unknown = || MetricId { name: "?".to_owned(), alt_name: String::new() };
    let metrics = metrics.into_iter().map(|metric| metric.unwrap_or_else(unknown));
    catalog.metrics = Arc::new(metrics.collect());
    let decode_chain = |_, bytes: &[u8]| records::decode_chain(bytes);
    catalog.chains = Arc::new(numbered(store, Table::Chains, &mut holes, decode_chain)?);
    catalog.cursors = load_cursors(store, &catalog.metrics, &mut holes)?;
    if let Err(error) = load_notes(store, &mut catalog) {
        catalog.notes = Arc::default();
        skipped.push(left_out(error)?);
    }
    states::load(store, &mut catalog, &mut holes)?;
    reprocessing::load(store, &mut catalog, &mut holes)?;
    data::load_into(store, &mut catalog, &mut holes)?;
    let highest = data.highest_number().map_err(store_error)?;
    let after_highest = highest.map_or(0, |number| number.saturating_add(1));
    catalog.next_file = catalog.next_file.max(after_highest);
    if holes.check(Table::Files).is_err() || !store.lost().is_empty() {
        // Where their ends are is not known for sure; behind them may be rows that were lost.
        catalog.first_file = catalog.next_file;
    }
    if let Err(error) = sums::load(store, &mut catalog) {
        // The slices say the same.
        catalog.sums = Arc::default();
        catalog.sums_are_off = true;
        skipped.push(left_out(error)?);
    }
    load_counters(store, &mut catalog, &mut holes, &mut skipped)?;
    if let Some(damage) = store.unreplayed() {
        // Counters that are older ones have been counted again.
        let is_counted = |group: &Group| group.table() == Some(Table::Meta);
        if store.broken().iter().all(is_counted) && store.lost().is_empty() {
            skipped.push(format!("{damage}; what it says stands in its places"));
        } else {
            holes.take(Table::Meta, super::journal::JOURNAL, Err::<(), _>(damage))?;
        }
    }
    catalog.holes = Arc::new(holes);
    Ok((catalog, skipped))
}

/// For the log, if it is damage.
fn left_out(error: LedgerError) -> Result<String, LedgerError> {
    if matches!(error, LedgerError::Damaged { .. }) { Ok(error.to_string()) } else { Err(error) }
}

/// Records are missing, or older ones stand in their place, and none is damaged by itself that it
/// could be.
pub(super) fn check_table(store: &Store, table: Table, holes: &mut Holes) {
    if !holes.has_record(table) && store.is_broken(table) {
        holes.add(table, &[], format!("table `{}`", table.name()), BROKEN);
    }
}

fn load_scopes(store: &Store, catalog: &mut Catalog, holes: &mut Holes) -> Result<(), LedgerError> {
    let decode = |number, bytes: &[u8]| records::decode_scope(number, bytes).map(Some);
    let scopes = numbered(store, Table::Scopes, holes, decode)?;
    let by_id = (0..).zip(&scopes);
    let by_id = by_id.filter_map(|(number, scope)| Some((scope.as_ref()?.id.clone(), number)));
    catalog.scope_numbers = Arc::new(by_id.collect::<HashMap<_, _>>());
    catalog.listed = Arc::new(listed(&scopes, holes));
    let scopes = scopes.into_iter().map(|scope| scope.unwrap_or_else(ScopeEntry::unknown));
    catalog.scopes = Arc::new(scopes.collect());
    Ok(())
}

/// The scopes that have a place in the order of creation, in that order.
fn listed(scopes: &[Option<ScopeEntry>], holes: &mut Holes) -> Vec<ScopeNumber> {
    let rank = |(number, scope): (_, &Option<ScopeEntry>)| Some((scope.as_ref()?.rank?, number));
    let mut ranks: Vec<(u32, ScopeNumber)> = (0..).zip(scopes).filter_map(rank).collect();
    ranks.sort_unstable();
    let expected = ranks.len() + holes.count_of_records(Table::Scopes);
    let is_twice = ranks.windows(2).any(|pair| pair[0].0 == pair[1].0);
    if is_twice || ranks.last().is_some_and(|(last, _)| *last as usize >= expected) {
        holes.add(Table::Scopes, &[], "scopes".to_owned(), Damage("their order has a gap"));
    }
    ranks.into_iter().map(|(_, number)| number).collect()
}

/// Records whose keys are 0, 1, 2 …; in place of one that is damaged or missing its default.
fn numbered<T: Default>(
    store: &Store,
    table: Table,
    holes: &mut Holes,
    decode: impl Fn(u32, &[u8]) -> Result<T, Damage>,
) -> Result<Vec<T>, LedgerError> {
    let mut records: Vec<T> = Vec::new();
    for entry in store.range_as_it_is(table, ..) {
        let Some((key, value)) = holes.take(table, &[], entry)? else { break };
        let number = <[u8; 4]>::try_from(key.as_ref()).ok().map(u32::from_be_bytes);
        let gap = number.and_then(|number| (number as usize).checked_sub(records.len()));
        let Some(gap) = gap.filter(|gap| *gap <= GAP_MAX) else {
            let place = format!("table `{}`", table.name());
            holes.add(table, &[], place, Damage("a key is not understood"));
            break;
        };
        for _ in 0..gap {
            let number = number_of(&records);
            let place = format!("{} {number}", table.name());
            holes.add(table, &number.to_be_bytes(), place.clone(), Damage("it is missing"));
            // It may stand under another's number.
            holes.add(table, &[], place, Damage("it is missing"));
            records.push(T::default());
        }
        let number = number_of(&records);
        let record = decode(number, &value).unwrap_or_else(|damage| {
            holes.add(table, &number.to_be_bytes(), place(table, number, &value), damage);
            T::default()
        });
        records.push(record);
    }
    check_table(store, table, holes);
    Ok(records)
}

fn number_of<T>(records: &[T]) -> u32 {
    u32::try_from(records.len()).unwrap_or(u32::MAX)
}

/// A damaged record is called by what it begins with, which may be its name still.
pub(super) fn place(table: Table, number: u32, value: &[u8]) -> String {
    let text = value.get(2..).and_then(|rest| Reader::new(rest).text().ok());
    let is_name = |text: &&str| !text.is_empty() && text.chars().all(|c| !c.is_control());
    let name = text.filter(is_name).map_or_else(String::new, |name| format!(", perhaps `{name}`"));
    format!("{} {number}{name}", table.name())
}

fn load_cursors(
    store: &Store,
    metrics: &[MetricId],
    holes: &mut Holes,
) -> Result<Vec<Arc<Vec<Cursor>>>, LedgerError> {
    let mut list = Vec::new();
    for (number, metric) in (0_u32..).zip(metrics) {
        let key = number.to_be_bytes();
        let place = || format!("cursors of metric `{metric}`");
        let read = match states::get_long_as_it_is(store, Table::Cursors, &key) {
            Ok(None) => Ok(Vec::new()),
            Ok(Some(bytes)) => cursors::decode(&bytes).map_err(|damage| damaged(place(), damage)),
            Err(LedgerError::Damaged { detail, .. }) => {
                Err(LedgerError::Damaged { place: place(), detail })
            }
            Err(error) => Err(error),
        };
        list.push(Arc::new(holes.take(Table::Cursors, &key, read)?.unwrap_or_default()));
    }
    check_table(store, Table::Cursors, holes);
    Ok(list)
}

/// If their record is damaged, or an older one, they are counted again.
fn load_counters(
    store: &Store,
    catalog: &mut Catalog,
    holes: &mut Holes,
    skipped: &mut Vec<String>,
) -> Result<(), LedgerError> {
    let read = match store.get_as_it_is(Table::Meta, COUNTERS_KEY) {
        Ok(None) => Ok(Counters::default()),
        Ok(Some(bytes)) => records::decode_counters(&bytes)
            .map_err(|damage| damaged("counters".to_owned(), damage)),
        Err(error) => Err(error),
    };
    let is_broken = store.is_broken(Table::Meta);
    match read {
        Ok(counters) if !is_broken => catalog.counters = counters,
        Ok(_) | Err(LedgerError::Damaged { .. }) => {
            match count(store, catalog) {
                Ok(counters) => catalog.counters = counters,
                Err(error) => {
                    holes.take(Table::Meta, COUNTERS_KEY, Err::<(), _>(error))?;
                }
            }
            skipped.push(damaged("counters".to_owned(), BROKEN).to_string());
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Writes the counters anew; where a slice is damaged, they stay.
pub(super) fn count_anew(
    store: &Store,
    data: &DataFiles,
    are_whole: bool,
) -> Result<(), LedgerError> {
    let (catalog, _) = load(store, data)?;
    let counters = match count(store, &catalog) {
        Err(LedgerError::Damaged { .. }) if are_whole => return Ok(()),
        counters => counters?,
    };
    let record = records::encode_counters(counters);
    let writes = [Write::put(Table::Meta, COUNTERS_KEY.to_vec(), record)];
    store.journal(&writes)?;
    store.apply(&writes)
}

fn count(store: &Store, catalog: &Catalog) -> Result<Counters, LedgerError> {
    let wrong = |damage| damaged("a slice, where the counters are damaged too".to_owned(), damage);
    let mut counters = Counters::default();
    for (table, prefix_size) in [(Table::Slices, 0), (Table::Staged, 8), (Table::Generations, 8)] {
        for entry in store.range_as_it_is(table, ..) {
            let (key, record) = entry?;
            let key = key.get(prefix_size..).unwrap_or_default();
            let slice = Slice::decode(key, &record).map_err(wrong)?;
            let last = slice.number.max(slice.order);
            counters.next_slice = counters.next_slice.max(last.saturating_add(1));
            if table == Table::Slices && slice.has_rows() {
                counters.rows += slice.rows;
            }
        }
    }
    for entry in store.range_as_it_is(Table::Notes, ..) {
        let (key, _) = entry?;
        let number = key.last_chunk::<8>().map_or(0, |number| u64::from_be_bytes(*number));
        counters.next_note = counters.next_note.max(number.saturating_add(1));
    }
    let last_mapping = catalog.mappings.last_key_value();
    counters.next_mapping = last_mapping.map_or(0, |(last, _)| last.saturating_add(1));
    Ok(counters)
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
