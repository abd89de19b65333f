//! What queries have in common: which slices, which scopes, which texts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use chrono::{DateTime, Utc};

use super::block::{Block, ScopeRun};
use super::catalog::{Catalog, ChainEntry, ScopeNumber};
use super::codec::Damage;
use super::data::DataFiles;
use super::rollup::{RollupColumns, RollupEntry, decode_scopes_with_rows};
use super::slice::{Part, Slice, SliceKey, time_bytes};
use super::store::{Store, Table, damaged, store_error};
use super::texts::Texts;
use crate::ledger::{DamagedRows, Filters, LedgerError};
use crate::usage::{CALENDAR_ATTRIBUTES, MetricId, Period, ScopeId, calendar_attributes};

/// The ledger as a reader sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) store: &'a Store,
    pub(super) data: &'a DataFiles,
    pub(super) texts: &'a Texts,
    pub(super) catalog: &'a Catalog,
}

impl<'a> Reading<'a> {
    /// Slices whose period begins in `[begin, end)`, by period, metric type and commit.
    pub(super) fn slices(
        self,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Result<Vec<Slice>, LedgerError> {
        let mut slices = self.slices_from(begin, end).collect::<Result<Vec<Slice>, _>>()?;
        self.sort(&mut slices);
        Ok(slices)
    }

    /// As `slices`, if the rows of all that a query picks are there.
    pub(super) fn slices_with_rows(
        self,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        filters: &Filters,
    ) -> Result<Vec<Slice>, LedgerError> {
        let slices = self.slices(begin, end)?;
        self.with_rows(slices, filters)
    }

    /// The same, those that can be read; what cannot goes into `damaged`.
    pub(super) fn slices_past_damage(
        self,
        (begin, end): (DateTime<Utc>, DateTime<Utc>),
        filters: &Filters,
        damaged: &mut Vec<DamagedRows>,
    ) -> Result<Vec<Slice>, LedgerError> {
        let selection = Selection::new(self.catalog, filters)?;
        let mut slices = Vec::new();
        for (metric, slice) in self.slices_with_metrics(first_second(begin), first_second(end)) {
            match slice {
                Ok(slice) => slices.push(slice),
                Err(LedgerError::Damaged { .. }) if !self.may_take(&selection, metric) => {}
                Err(LedgerError::Damaged { place, detail }) => {
                    damaged.push(DamagedRows { place, detail, rows: 0 });
                }
                Err(error) => return Err(error),
            }
        }
        self.sort(&mut slices);
        self.with_rows(slices, filters)
    }

    fn sort(self, slices: &mut [Slice]) {
        slices.sort_by_key(|slice| (slice.period, self.metric_type(slice), slice.order));
    }

    fn with_rows(self, slices: Vec<Slice>, filters: &Filters) -> Result<Vec<Slice>, LedgerError> {
        let selection = Selection::new(self.catalog, filters)?;
        let is_gone = |slice: &&Slice| {
            !slice.has_rows() && selection.takes_slice(self.metric_type(slice), slice.period)
        };
        match slices.iter().rev().find(is_gone) {
            Some(last) => Err(LedgerError::RowsGone { last: last.period.begin() }),
            None => Ok(slices),
        }
    }

    /// As `slices`, in order of their keys.
    pub(super) fn slices_from(
        self,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'a> {
        // A period begins at a whole second.
        self.slices_between(first_second(begin), first_second(end))
    }

    pub(super) fn slices_between(
        self,
        begin_secs: i64,
        end_secs: i64,
    ) -> impl Iterator<Item = Result<Slice, LedgerError>> + use<'a> {
        self.slices_with_metrics(begin_secs, end_secs).map(|(_, slice)| slice)
    }

    /// With the metric of each, as far as its key says it.
    fn slices_with_metrics(
        self,
        begin_secs: i64,
        end_secs: i64,
    ) -> impl Iterator<Item = (Option<u32>, Result<Slice, LedgerError>)> + use<'a> {
        let range = time_bytes(begin_secs).to_vec()..time_bytes(end_secs).to_vec();
        let broken = self.store.broken_month(begin_secs, end_secs);
        let broken = broken.map(|group| Err(group.damage()));
        let lost = self.store.check_lost(begin_secs, end_secs).err().map(Err);
        let broken = lost.or(broken);
        let is_read = begin_secs < end_secs && broken.is_none();
        let entries = is_read.then(|| self.store.range(Table::Slices, range));
        let slices = entries.into_iter().flatten().map(move |entry| match entry {
            Ok((key, value)) => {
                let metric = SliceKey::read(&key).ok().map(|key| key.metric);
                (metric, self.slice(&key, &value))
            }
            Err(error) => (None, Err(error)),
        });
        broken.into_iter().map(|error| (None, error)).chain(slices)
    }

    /// Whether rows of a metric may be wanted; `None` = nobody knows which it is.
    fn may_take(self, selection: &Selection<'_>, metric: Option<u32>) -> bool {
        let Some(metric) = metric.filter(|metric| self.catalog.check_metric(*metric).is_ok())
        else {
            return true;
        };
        let metric = self.catalog.metrics.get(metric as usize);
        metric.is_none_or(|metric| selection.takes_type(&metric.alt_name))
    }

    /// From a slice's key and record.
    pub(super) fn slice(self, key: &[u8], record: &[u8]) -> Result<Slice, LedgerError> {
        let place = || match SliceKey::read(key) {
            Ok(key) => self.place_of_metric(key.begin_secs, key.metric),
            Err(_) => "a slice".to_owned(),
        };
        let slice = Slice::decode(key, record).map_err(|damage| damaged(place(), damage))?;
        if slice.metric as usize >= self.catalog.metrics.len() {
            return Err(damaged(place(), Damage("its metric is not known")));
        }
        self.catalog.check_metric(slice.metric)?;
        Ok(slice)
    }

    pub(super) fn metric(self, slice: &Slice) -> &'a MetricId {
        &self.catalog.metrics[slice.metric as usize]
    }

    pub(super) fn metric_type(self, slice: &Slice) -> &'a str {
        &self.catalog.metrics[slice.metric as usize].alt_name
    }

    pub(super) fn chain(self, slice: &Slice) -> Result<&'a ChainEntry, LedgerError> {
        self.catalog.holes.check_number(Table::Chains, slice.chain)?;
        self.catalog.chains.get(slice.chain as usize).ok_or_else(|| {
            let place = self.place_of_metric(slice.period.begin_secs(), slice.metric);
            damaged(place, Damage("what rated it is not known"))
        })
    }

    pub(super) fn place_of_metric(self, begin_secs: i64, metric: u32) -> String {
        let metric = self.catalog.metrics.get(metric as usize);
        let name = metric.map_or_else(|| "?".to_owned(), MetricId::to_string);
        let begin = DateTime::from_timestamp(begin_secs, 0).unwrap_or_default();
        format!("slice of metric `{name}`, period {}", begin.format("%FT%TZ"))
    }

    pub(super) fn place_of_slice(self, slice: &Slice) -> String {
        let place = self.place_of_metric(slice.period.begin_secs(), slice.metric);
        format!("{place}, file `data/{}`", slice.data_file())
    }

    /// Names the scopes of a part, for an error.
    fn place(self, what: &str, slice: &Slice, part: &Part) -> String {
        let id = |number: ScopeNumber| self.catalog.scope_name(number);
        let (first, last) = (id(part.first_scope), id(part.last_scope));
        let metric = self.metric(slice);
        let (period, file) = (slice.period, slice.data_file());
        let scopes = if first == last {
            format!("scope `{first}`")
        } else {
            format!("scopes `{first}` to `{last}`")
        };
        format!("{what} of metric `{metric}`, period {period}, {scopes}, file `data/{file}`")
    }

    /// The entries of one part of a slice's rollups, without those that were removed.
    pub(super) fn rollup(
        self,
        slice: &Slice,
        part: usize,
    ) -> Result<Vec<RollupEntry>, LedgerError> {
        let is_left = |entry: &RollupEntry| !slice.removed.contains(entry.scope);
        Ok(self.rollup_columns(slice, part)?.entries().filter(is_left).collect())
    }

    /// One part of a slice's rollups, with those that were removed.
    pub(super) fn rollup_columns(
        self,
        slice: &Slice,
        part: usize,
    ) -> Result<RollupColumns, LedgerError> {
        let place = || self.place("rollup", slice, &slice.rollups[part]);
        let wrong = |damage| damaged(place(), damage);
        let (offset, size) = (slice.rollup_offset(part), slice.rollups[part].size);
        let columns = self.data.with_bytes(slice.data_file(), offset, size, |bytes| {
            let bytes = bytes.map_err(|error| read_error(error, place()))?;
            RollupColumns::decode(bytes).map_err(wrong)
        })?;
        if columns.scopes.len() != slice.rollups[part].rows {
            return Err(wrong(Damage("it has another number of scopes")));
        }
        if columns.scopes.last().is_some_and(|last| *last as usize >= self.catalog.scopes.len()) {
            return Err(wrong(Damage("it names a scope that is not there")));
        }
        Ok(columns)
    }

    /// The scopes of a block's rows, all known.
    pub(super) fn scopes_of(self, block: &Block<'_>) -> Result<Vec<ScopeRun>, Damage> {
        let scopes = block.scopes()?;
        let known = self.catalog.scopes.len();
        if scopes.iter().any(|run| run.scope as usize >= known) {
            return Err(Damage("it names a scope that is not there"));
        }
        Ok(scopes)
    }

    /// The scopes of one part of a slice's rollups that have rows and were not removed.
    pub(super) fn scopes_with_rows(
        self,
        slice: &Slice,
        part: usize,
    ) -> Result<Vec<ScopeNumber>, LedgerError> {
        let place = || self.place("rollup", slice, &slice.rollups[part]);
        let wrong = |damage| damaged(place(), damage);
        let (offset, size) = (slice.rollup_offset(part), slice.rollups[part].size);
        let mut scopes = self.data.with_bytes(slice.data_file(), offset, size, |bytes| {
            let bytes = bytes.map_err(|error| read_error(error, place()))?;
            decode_scopes_with_rows(bytes).map_err(wrong)
        })?;
        if scopes.last().is_some_and(|last| *last as usize >= self.catalog.scopes.len()) {
            return Err(wrong(Damage("it names a scope that is not there")));
        }
        if !slice.removed.is_empty() {
            scopes.retain(|scope| !slice.removed.contains(*scope));
        }
        Ok(scopes)
    }

    /// One block of a slice, given to `visit`, and what is to be said of damage in it.
    pub(super) fn with_block<T>(
        self,
        slice: &Slice,
        part: usize,
        visit: impl FnOnce(&Block<'_>) -> Result<T, BlockError>,
    ) -> Result<T, LedgerError> {
        let place = || self.place("block", slice, &slice.blocks[part]);
        let wrong = |damage| damaged(place(), damage);
        let (offset, size) = (slice.block_offset(part), slice.blocks[part].size);
        self.data.with_bytes(slice.data_file(), offset, size, |bytes| {
            let block = Block::read(bytes.map_err(|error| read_error(error, place()))?);
            let block = block.map_err(wrong)?;
            if block.rows != slice.blocks[part].rows {
                return Err(wrong(Damage("it has another number of rows")));
            }
            visit(&block).map_err(|error| match error {
                BlockError::Damage(damage) => wrong(damage),
                BlockError::Ledger(error) => error,
            })
        })
    }
}

/// The first whole second that is not before a moment.
pub(super) fn first_second(moment: DateTime<Utc>) -> i64 {
    moment.timestamp() + i64::from(moment.timestamp_subsec_nanos() > 0)
}

/// A file that is gone or too short is damage, not a failing disk.
pub(super) fn read_error(error: io::Error, place: String) -> LedgerError {
    match error.kind() {
        io::ErrorKind::NotFound => damaged(place, Damage("its data file is missing")),
        io::ErrorKind::UnexpectedEof => damaged(place, Damage("its data file ends before it")),
        _ => store_error(error),
    }
}

#[derive(Debug)]
pub(super) enum BlockError {
    Damage(Damage),
    Ledger(LedgerError),
}

impl From<Damage> for BlockError {
    fn from(damage: Damage) -> BlockError {
        BlockError::Damage(damage)
    }
}

impl From<LedgerError> for BlockError {
    fn from(error: LedgerError) -> BlockError {
        BlockError::Ledger(error)
    }
}

/// Filters in terms of what is stored.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// Ascending; `None` = all.
    pub(super) scopes: Option<Vec<ScopeNumber>>,
    types: Option<BTreeSet<&'a str>>,
    calendar: Vec<(usize, &'a [String])>,
    /// Attributes that rows have.
    pub(super) attributes: BTreeMap<&'a str, &'a [String]>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(
        catalog: &Catalog,
        filters: &'a Filters,
    ) -> Result<Selection<'a>, LedgerError> {
        let scopes = filters.scopes.as_ref().map(|ids| catalog.numbers_of(ids)).transpose()?;
        let mut scopes: Option<BTreeSet<ScopeNumber>> = scopes;
        let mut calendar = Vec::new();
        let mut attributes = BTreeMap::new();
        for (name, values) in &filters.attributes {
            if let Some(index) = calendar_index(name) {
                calendar.push((index, values.as_slice()));
                continue;
            }
            // It may be what identifies a scope whose record is damaged.
            catalog.holes.check(Table::Scopes)?;
            if let Some(keyed) = scopes_by_key(catalog, name, values) {
                scopes = Some(match scopes {
                    Some(scopes) => scopes.intersection(&keyed).copied().collect(),
                    None => keyed,
                });
            } else {
                attributes.insert(name.as_str(), values.as_slice());
            }
        }
        let types = filters.types.as_ref();
        Ok(Selection {
            scopes: scopes.map(|scopes| scopes.into_iter().collect()),
            types: types.map(|types| types.iter().map(String::as_str).collect()),
            calendar,
            attributes,
        })
    }

    fn takes_type(&self, metric_type: &str) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(metric_type))
    }

    pub(super) fn takes_slice(&self, metric_type: &str, period: Period) -> bool {
        if !self.takes_type(metric_type) {
            return false;
        }
        if self.calendar.is_empty() {
            return true;
        }
        let attributes = calendar_attributes(period.begin());
        self.calendar.iter().all(|(index, values)| values.contains(&attributes[*index].1))
    }

    pub(super) fn takes_scope(&self, scope: ScopeNumber) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.binary_search(&scope).is_ok())
    }

    /// Whether any scope of a slice's part may be wanted.
    pub(super) fn takes_part(&self, slice: &Slice, part: &Part) -> bool {
        if slice.removed.covers(part.first_scope, part.last_scope) {
            return false;
        }
        let Some(scopes) = &self.scopes else { return true };
        let at = scopes.partition_point(|scope| *scope < part.first_scope);
        scopes.get(at).is_some_and(|scope| *scope <= part.last_scope)
    }
}

pub(super) fn calendar_index(name: &str) -> Option<usize> {
    CALENDAR_ATTRIBUTES.iter().position(|attribute| *attribute == name)
}

/// Whether scopes are identified by this attribute.
pub(super) fn is_scope_key(catalog: &Catalog, name: &str) -> bool {
    !name.is_empty() && catalog.scopes.iter().any(|scope| scope.scope_key.as_ref() == name)
}

/// The scopes of some ids, if scopes are identified by this attribute.
fn scopes_by_key(
    catalog: &Catalog,
    name: &str,
    values: &[String],
) -> Option<BTreeSet<ScopeNumber>> {
    if !is_scope_key(catalog, name) {
        return None;
    }
    let is_keyed =
        |number: &ScopeNumber| catalog.scopes[*number as usize].scope_key.as_ref() == name;
    let number = |value: &String| {
        let id = ScopeId::new(value).ok()?;
        catalog.scope_numbers.get(&id).copied().filter(is_keyed)
    };
    let mut scopes: BTreeSet<ScopeNumber> = values.iter().filter_map(number).collect();
    if values.iter().any(String::is_empty) {
        // Rows without the attribute: those of everybody else.
        scopes.extend((0..).take(catalog.scopes.len()).filter(|number| !is_keyed(number)));
    }
    Some(scopes)
}

/// Which rows of a slice's block are wanted, as ranges of rows, first by scope.
pub(super) fn rows_of_scopes(
    reading: Reading<'_>,
    slice: &Slice,
    block: &Block<'_>,
    selection: &Selection<'_>,
) -> Result<Vec<Range<usize>>, Damage> {
    if selection.scopes.is_none() && slice.removed.is_empty() {
        return Ok(std::iter::once(0..block.rows).collect());
    }
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    for run in reading.scopes_of(block)? {
        let end = begin + run.rows;
        if selection.takes_scope(run.scope) && !slice.removed.contains(run.scope) {
            match ranges.last_mut() {
                Some(last) if last.end == begin => last.end = end,
                _ => ranges.push(begin..end),
            }
        }
        begin = end;
    }
    Ok(ranges)
}
