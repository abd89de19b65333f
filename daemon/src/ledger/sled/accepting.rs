//! Takes what is there for whole, once what is missing has been made up for.
//!
//! What can be told from the rest is told anew: counters, what is dead in a file, seals; sums of
//! days and months are left to be made anew. A cursor that stands before a period that is in the
//! ledger is an older one: it is raised behind that period, which would be collected twice
//! otherwise. That one stands too far ahead cannot be told; `completeness` has the gap.
//!
//! A record that is damaged stays as it is, and so does what only it could tell: what is dead in
//! files of its month, how many texts a dictionary has, counters. Not accepted is half of a change,
//! a loss that no start and no `verify` has told before, and anything while it cannot be said whose
//! periods would be collected again.

use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;

use super::catalog::{Catalog, MetricNumber, ScopeNumber};
use super::cursors::{self, Cursor};
use super::data::{self, DataFiles};
use super::load;
use super::marks::Marks;
use super::opening::{OpenError, SledOptions};
use super::query::Reading;
use super::seal::{self, Seals};
use super::slice::{Slice, SliceKey};
use super::states;
use super::store::{Store, Table, damaged};
use super::texts::Texts;
use crate::ledger::{LedgerError, Origin};

/// What was not as it should have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Cursors (one of each scope and metric) that stood before a period that is in the ledger.
    pub raised_cursors: usize,
}

/// Takes what is there for whole; lost changes are not told any more.
pub fn accept(path: &Path, options: SledOptions) -> Result<Accepted, OpenError> {
    let store = Store::open_as_it_is(path, options)?;
    let folder_error = |source| OpenError::folder(path, source);
    let marks = Marks::open(path).map_err(folder_error)?;
    // Half of a change is not what its owner wanted, whatever he makes up for.
    if let Some(error) = store.unreplayed().filter(|_| seal::is_behind(&store, &marks)) {
        return Err(error.into());
    }
    if let Some(lost) = seal::not_noted(&store, &marks) {
        return Err(OpenError::Untold {
            path: path.to_path_buf(),
            source: Box::new(lost.damage()),
        });
    }
    let data = DataFiles::open(path).map_err(folder_error)?;
    let seals = Seals::load(&store, &marks)?;
    let are_counted = seals
        .is_some_and(|(_, broken)| !broken.iter().any(|group| group.table() == Some(Table::Meta)));
    let raised_cursors = raise_cursors(&store, &data)?;
    data::count_anew(&store)?;
    load::count_anew(&store, &data, are_counted)?;
    Seals::forget_lost(&store)?;
    Seals::make(&store, marks.last().max(1))?;
    store.sync()?;
    Ok(Accepted { raised_cursors })
}

/// How many were raised. Records of cursors that are damaged themselves stay as they are.
fn raise_cursors(store: &Store, data: &DataFiles) -> Result<usize, LedgerError> {
    let (catalog, _) = load::load(store, data)?;
    let texts = Texts::load(store, &catalog.holes)?;
    let reading = Reading { store, data, texts: &texts, catalog: &catalog };
    let mut cursors = catalog.cursors.clone();
    for entry in store.range_as_it_is(Table::Slices, ..) {
        let (key, record) = entry?;
        let wrong = |damage| damaged("a slice".to_owned(), damage);
        let SliceKey { begin_secs, metric, .. } = SliceKey::read(&key).map_err(wrong)?;
        let Some(of_metric) = cursors.get_mut(metric as usize) else { continue };
        if catalog.holes.has(Table::Cursors, &metric.to_be_bytes()) {
            continue;
        }
        match Slice::decode(&key, &record) {
            Ok(slice) if slice.origin == Origin::Collected => {
                raise_behind(reading, &slice, of_metric)?;
            }
            Ok(_) => {}
            Err(_) if stands_behind(of_metric, begin_secs) => {}
            Err(damage) => return Err(damaged(place(&catalog, metric, begin_secs), damage)),
        }
    }
    let (mut writes, mut raised) = (Vec::new(), 0);
    for ((number, old), new) in (0_u32..).zip(&catalog.cursors).zip(&cursors) {
        if !Arc::ptr_eq(old, new) {
            let record = cursors::encode(new);
            writes.extend(states::put_long(Table::Cursors, &number.to_be_bytes(), &record));
            let is_raised = |(index, new): &(usize, &Cursor)| old.get(*index) != Some(*new);
            raised += new.iter().enumerate().filter(is_raised).count();
        }
    }
    store.journal(&writes)?;
    store.apply(&writes)?;
    Ok(raised)
}

/// Whether all cursors that there are stand behind the begin of a period.
fn stands_behind(cursors: &[Cursor], begin_secs: i64) -> bool {
    let mut set = cursors.iter().filter(|cursor| cursor.is_set());
    !cursors.is_empty() && set.all(|cursor| cursor.next_secs() > begin_secs)
}

/// For an error: of a slice of which only the key is known.
fn place(catalog: &Catalog, metric: MetricNumber, begin_secs: i64) -> String {
    let metric = catalog.metrics.get(metric as usize).map_or("?", |metric| &metric.alt_name);
    let begin = DateTime::from_timestamp(begin_secs, 0).map(|begin| begin.format("%FT%TZ"));
    let begin = begin.map_or_else(String::new, |begin| begin.to_string());
    format!("the slice of `{metric}` that begins at {begin}: its scopes might be collected again")
}

/// The slices come in order of their periods. Sums are read only where a cursor may stand before.
fn raise_behind(
    reading: Reading<'_>,
    slice: &Slice,
    cursors: &mut Arc<Vec<Cursor>>,
) -> Result<(), LedgerError> {
    let (begin_secs, end_secs) = (slice.period.begin_secs(), slice.period.end_secs());
    for (index, part) in slice.rollups.iter().enumerate() {
        let stands_before = |scope: &ScopeNumber| {
            let cursor = cursors.get(*scope as usize).filter(|cursor| cursor.is_set());
            cursor.is_none_or(|cursor| cursor.next_secs() <= begin_secs)
                && !slice.removed.contains(*scope)
        };
        if !(part.first_scope..=part.last_scope).any(|scope| stands_before(&scope)) {
            continue;
        }
        let scopes = reading.rollup_columns(slice, index)?.scopes;
        let before: Vec<ScopeNumber> = scopes.into_iter().filter(stands_before).collect();
        for scope in before {
            let (cursors, scope) = (Arc::make_mut(cursors), scope as usize);
            if cursors.len() <= scope {
                cursors.resize(scope + 1, Cursor::UNSET);
            }
            cursors[scope] = Cursor::after(begin_secs, end_secs);
        }
    }
    Ok(())
}
