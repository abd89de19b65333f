//! What reprocessings have changed: figures from before (`generations`) beside those that came
//! after them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::catalog::{Catalog, MetricNumber, ScopeNumber};
use super::gather::ScopeSums;
use super::generations::between;
use super::inner::Inner;
use super::query::{Reading, first_second};
use super::slice::Slice;
use super::store::Table;
use crate::ledger::{
    Difference, DifferencePage, DifferencePlace, DifferenceQuery, Figures, LedgerError, Origin,
    Which,
};
use crate::usage::Period;

/// So many begins of periods are looked at for one page, and so many figures: all of the last
/// begin's.
const PAGE_BEGINS_MAX: usize = if cfg!(test) { 3 } else { 1000 };
const PAGE_FIGURES_MAX: usize = 100_000;

impl Inner {
    /// A period at a time, each as of one moment.
    pub(super) fn differences(
        &self,
        query: &DifferenceQuery,
    ) -> Result<DifferencePage, LedgerError> {
        let _presence = self.readers.enter();
        let mut page = DifferencePage::default();
        let mut from_secs = first_second(query.begin);
        if let Some(after) = query.after {
            from_secs = from_secs.max(after.begin_after());
        }
        let end_secs = first_second(query.end);
        let (mut begins, mut figures) = (0, 0);
        loop {
            let (catalog, found) = {
                let catalog = self.lock_whole()?;
                // Which figures came after which.
                catalog.holes.check(Table::Reprocessings)?;
                let reading = self.reading(&catalog);
                let ids = finished(&catalog, query.reprocessing);
                let found = AtOneBegin::list(reading, &ids, (from_secs, end_secs), query)?;
                (Arc::clone(&catalog), found)
            };
            let Some(found) = found else { return Ok(page) };
            from_secs = found.begin_secs.saturating_add(1);
            figures += found.compare(self.reading(&catalog), query, &mut page)?;
            begins += 1;
            if page.next.is_none() && (begins >= PAGE_BEGINS_MAX || figures >= PAGE_FIGURES_MAX) {
                page.next = Some(DifferencePlace::end_of(found.begin_secs));
            }
            if page.next.is_some() {
                return Ok(page);
            }
        }
    }
}

/// Those that are finished, from one on.
fn finished(catalog: &Catalog, from: Option<u64>) -> Vec<u64> {
    let all = catalog.reprocessings.range(from.unwrap_or(0)..);
    all.filter(|(_, entry)| entry.finished).map(|(id, _)| *id).collect()
}

/// Everything that begins then: old figures by reprocessing, and what is there now.
struct AtOneBegin {
    begin_secs: i64,
    old: Vec<(u64, Slice)>,
    now: Vec<Slice>,
}

type Places = BTreeMap<(MetricNumber, ScopeNumber), Vec<(u64, Period, ScopeSums)>>;

impl AtOneBegin {
    /// The first begin in a range for which figures of the wanted reprocessings are kept.
    fn list(
        reading: Reading<'_>,
        ids: &[u64],
        (from_secs, end_secs): (i64, i64),
        query: &DifferenceQuery,
    ) -> Result<Option<AtOneBegin>, LedgerError> {
        let mut first: Option<i64> = None;
        let is_wanted = |id: &&u64| query.reprocessing.is_none_or(|wanted| wanted == **id);
        for id in ids.iter().filter(is_wanted) {
            let end_secs = first.unwrap_or(end_secs);
            if from_secs < end_secs
                && let Some(slice) = between(reading, *id, (from_secs, end_secs)).next()
            {
                first = Some(slice?.period.begin_secs());
            }
        }
        let Some(begin_secs) = first else { return Ok(None) };
        let end_secs = begin_secs.saturating_add(1);
        let mut old = Vec::new();
        for id in ids {
            for slice in between(reading, *id, (begin_secs, end_secs)) {
                old.push((*id, slice?));
            }
        }
        let mut now = Vec::new();
        for slice in reading.slices_between(begin_secs, end_secs) {
            let slice = slice?;
            if slice.origin == Origin::Collected {
                now.push(slice);
            }
        }
        Ok(Some(AtOneBegin { begin_secs, old, now }))
    }

    /// How many figures were compared.
    fn compare(
        &self,
        reading: Reading<'_>,
        query: &DifferenceQuery,
        page: &mut DifferencePage,
    ) -> Result<usize, LedgerError> {
        let catalog = reading.catalog;
        let wanted = query.scopes.as_ref().map(|ids| catalog.numbers_of(ids)).transpose()?;
        let wanted: Option<BTreeSet<ScopeNumber>> = wanted;
        let mut places = Places::new();
        let mut add = |number: u64, slice: &Slice| {
            for part in 0..slice.rollups.len() {
                for entry in reading.rollup(slice, part)? {
                    if wanted.as_ref().is_none_or(|wanted| wanted.contains(&entry.scope)) {
                        let place = places.entry((slice.metric, entry.scope)).or_default();
                        place.push((number, slice.period, entry.sums));
                    }
                }
            }
            Ok::<(), LedgerError>(())
        };
        for (id, slice) in &self.old {
            add(*id, slice)?;
        }
        for slice in &self.now {
            add(u64::MAX, slice)?;
        }
        let figures = places.len();
        for ((metric, scope), generations) in places {
            let place = DifferencePlace { begin_secs: self.begin_secs, metric, scope };
            if query.after.is_some_and(|after| place <= after) {
                continue;
            }
            let Some((id, period, old, new)) = pair(&generations, query.reprocessing) else {
                continue;
            };
            if query.which == Which::Changed && old == new {
                continue;
            }
            if page.rows.len() >= query.limit {
                page.next = page.rows.last().map(|last| place_of(reading, last));
                return Ok(figures);
            }
            catalog.check_scope(scope)?;
            page.rows.push(Difference {
                period,
                metric: catalog.metrics[metric as usize].clone(),
                scope: catalog.scopes[scope as usize].id.clone(),
                reprocessing: id,
                old,
                new,
            });
        }
        Ok(figures)
    }
}

fn place_of(reading: Reading<'_>, row: &Difference) -> DifferencePlace {
    let catalog = reading.catalog;
    DifferencePlace {
        begin_secs: row.period.begin_secs(),
        metric: catalog.metric_numbers.get(&row.metric).copied().unwrap_or(0),
        scope: catalog.scope_numbers.get(&row.scope).copied().unwrap_or(0),
    }
}

/// What was there, and what came after it. Ascending; what is there now is the last.
fn pair(
    generations: &[(u64, Period, ScopeSums)],
    reprocessing: Option<u64>,
) -> Option<(u64, Period, Figures, Figures)> {
    let figures = |sums: ScopeSums| Figures { rows: sums.rows, qty: sums.qty, price: sums.price };
    let is_it = |(id, ..): &(u64, Period, ScopeSums)| match reprocessing {
        Some(wanted) => *id == wanted,
        None => *id != u64::MAX,
    };
    let at = generations.iter().rposition(is_it)?;
    let (id, period, old) = generations[at];
    let new = generations.get(at + 1).map(|(_, _, sums)| *sums).unwrap_or_default();
    Some((id, period, figures(old), figures(new)))
}
