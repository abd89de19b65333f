//! Sums of days and months: what the slices that begin in them add up to, by metric and scope.
//!
//! ```text
//! tree  key                                   record
//! sums  level:u8 (a slice's key, number 0)    as in `slices`, without blocks
//! ```
//!
//! Level 1 is a day, 2 a month (UTC). Their rollups stand in data files as those of slices do; a
//! scope without rows is not in them. If a day or month has one record, it has those of all
//! metrics.
//!
//! They say nothing that the slices do not say, and can never say anything else: a change of a
//! slice's rows deletes the sums of its day and month in the same change, and `compaction` makes
//! them anew when time has gone on. A day is summed up when something begins after it; a month then
//! too, from its days.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::catalog::{Catalog, MetricNumber, ScopeNumber};
use super::codec::{Damage, Kind, Writer};
use super::commit::Encoded;
use super::data::{self, FileId, Month};
use super::gather::ScopeSums;
use super::inner::Inner;
use super::ledger::SledLedger;
use super::query::{Reading, first_second};
use super::queue::{Company, Stage};
use super::rollup::RollupEntry;
use super::runs::ScopeRuns;
use super::slice::{Slice, SliceKey, secs_of, time_bytes};
use super::store::{Store, Table, Write, damaged};
use crate::fault::{Step, passed};
use crate::ledger::{Fact, LedgerError, Origin};
use crate::usage::Period;

/// Stretches of time that are summed up, longest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Month,
    Day,
}

const DAY_SECS: i64 = 86_400;

/// Says that sums are not to be believed any more, readable or not: rows have changed that they
/// were made of, and they were not there to be forgotten.
pub(super) const STALE_KEY: &[u8] = b"stale sums";
const STALE: Kind = Kind(b'y', 1);
/// Sums are made only of so many slices to a metric, on average.
const SLICES_MIN: usize = 2;
/// So many days are looked at in one step.
const SCAN_DAYS_MAX: usize = 1024;

/// By level and begin: for each metric with rows its record.
pub(super) type Sums = BTreeMap<(Level, i64), Arc<Vec<Slice>>>;

impl Level {
    /// Begin and end of the stretch in which a moment lies, seconds.
    fn around(self, secs: i64) -> (i64, i64) {
        match self {
            Level::Day => {
                let begin = secs.div_euclid(DAY_SECS).saturating_mul(DAY_SECS);
                (begin, begin.saturating_add(DAY_SECS))
            }
            Level::Month => {
                let month = Month::of(secs);
                (month.begin_secs(), month.end_secs())
            }
        }
    }

    fn byte(self) -> u8 {
        match self {
            Level::Day => 1,
            Level::Month => 2,
        }
    }

    fn from_byte(byte: u8) -> Option<Level> {
        [Level::Day, Level::Month].into_iter().find(|level| level.byte() == byte)
    }
}

/// Where the records of a stretch begin.
pub(super) fn place((level, begin_secs): (Level, i64)) -> Vec<u8> {
    [[level.byte()].as_slice(), &time_bytes(begin_secs)].concat()
}

/// From the begin of a key.
pub(super) fn stretch_at(place: &[u8]) -> Option<(Level, i64)> {
    let (level, begin) = place.split_first()?;
    Some((Level::from_byte(*level)?, secs_of(begin)?))
}

pub(super) fn key(level: Level, slice: &Slice) -> Vec<u8> {
    [&[level.byte()], slice.key().bytes().as_slice()].concat()
}

pub(super) fn load(store: &Store, catalog: &mut Catalog) -> Result<(), LedgerError> {
    let wrong = |damage| damaged("a record of sums".to_owned(), damage);
    if store.get_as_it_is(Table::Meta, STALE_KEY)?.is_some() {
        return Err(wrong(Damage("rows have changed while it could not be read")));
    }
    let mut sums: BTreeMap<(Level, i64), Vec<Slice>> = BTreeMap::new();
    for entry in store.prefix(Table::Sums, &[]) {
        let (key, record) = entry?;
        let (level, slice_key) = key.split_first().ok_or(wrong(Damage("its key is too short")))?;
        let level = Level::from_byte(*level).ok_or(wrong(Damage("its level is not known")))?;
        let slice = Slice::decode(slice_key, &record).map_err(wrong)?;
        sums.entry((level, slice.period.begin_secs())).or_default().push(slice);
    }
    let sums = sums.into_iter().map(|(key, slices)| (key, Arc::new(slices)));
    catalog.sums = Arc::new(sums.collect());
    Ok(())
}

/// Rows that begin then have come or gone: what was summed up with them is not true any more.
pub(super) fn forget(stage: &mut Stage, begin_secs: i64) {
    if stage.catalog.sums_are_off {
        let record = Writer::framed(STALE).seal();
        stage.journaled.push(Write::put(Table::Meta, STALE_KEY.to_vec(), record));
    }
    for level in [Level::Day, Level::Month] {
        let key_of_sums = (level, level.around(begin_secs).0);
        if !stage.catalog.sums.contains_key(&key_of_sums) {
            continue;
        }
        let slices = Arc::make_mut(&mut stage.catalog.sums).remove(&key_of_sums);
        for slice in slices.iter().flat_map(|slices| slices.iter()) {
            data::bury(stage, slice.data_file(), slice.extent_size());
            stage.journaled.push(Write::remove(Table::Sums, key(level, slice)));
        }
    }
}

/// Those with their rollups in a file.
pub(super) fn in_file(catalog: &Catalog, file: FileId) -> Vec<(Level, Slice)> {
    let (begin_secs, end_secs) = (file.month.begin_secs(), file.month.end_secs());
    let mut found = Vec::new();
    for level in [Level::Day, Level::Month] {
        for (_, slices) in catalog.sums.range((level, begin_secs)..(level, end_secs)) {
            let in_file = slices.iter().filter(|slice| slice.data_file() == file);
            found.extend(in_file.map(|slice| (level, slice.clone())));
        }
    }
    found
}

/// A record has a new place.
pub(super) fn moved(stage: &mut Stage, key_of_record: &[u8], slice: Slice) {
    let level = key_of_record.first().and_then(|byte| Level::from_byte(*byte));
    let Some(level) = level else { return };
    let sums = Arc::make_mut(&mut stage.catalog.sums);
    let Some(slices) = sums.get_mut(&(level, slice.period.begin_secs())) else { return };
    if let Some(old) = Arc::make_mut(slices).iter_mut().find(|old| old.metric == slice.metric) {
        *old = slice;
    }
}

impl Reading<'_> {
    /// Slices and sums that together say what is known by metric and scope of the periods that
    /// begin in `[begin, end)`: as few as there are, up to a level. In no particular order.
    pub(super) fn sources(
        self,
        begin: DateTime<Utc>,
        end: DateTime<Utc>,
        up_to: Level,
    ) -> Result<Vec<Slice>, LedgerError> {
        let (begin_secs, end_secs) = (first_second(begin), first_second(end));
        // Sums may be older ones, too.
        self.store.check_lost(begin_secs, end_secs)?;
        let mut stretches: Vec<(i64, i64, &Arc<Vec<Slice>>)> = Vec::new();
        for level in [Level::Month, Level::Day].into_iter().filter(|level| *level >= up_to) {
            if begin_secs >= end_secs {
                break;
            }
            let coarser = stretches.clone();
            for ((_, begin), slices) in
                self.catalog.sums.range((level, begin_secs)..(level, end_secs))
            {
                let end = level.around(*begin).1;
                let is_covered = coarser.iter().any(|(from, to, _)| from <= begin && end <= *to);
                if end <= end_secs && !is_covered {
                    stretches.push((*begin, end, slices));
                }
            }
        }
        stretches.sort_unstable_by_key(|(begin, ..)| *begin);
        let mut sources = Vec::new();
        let mut position_secs = begin_secs;
        for (begin, end, slices) in stretches {
            self.add_slices(position_secs, begin, &mut sources)?;
            for slice in slices.iter() {
                self.catalog.check_metric(slice.metric)?;
                sources.push(slice.clone());
            }
            position_secs = end;
        }
        self.add_slices(position_secs, end_secs, &mut sources)?;
        Ok(sources)
    }

    fn add_slices(
        self,
        begin_secs: i64,
        end_secs: i64,
        slices: &mut Vec<Slice>,
    ) -> Result<(), LedgerError> {
        for slice in self.slices_between(begin_secs, end_secs) {
            slices.push(slice?);
        }
        Ok(())
    }
}

/// How far a pass is.
#[derive(Debug)]
pub(super) struct Progress {
    level: Level,
    position_secs: i64,
    /// Nobody comes behind a torn page; the next pass tries.
    is_torn: bool,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress { level: Level::Day, position_secs: i64::MIN, is_torn: false }
    }
}

enum Found {
    /// Begin and end of a stretch.
    Stretch(i64, i64),
    NothingYet,
    Nothing,
}

impl SledLedger {
    /// How many stretches were summed up; `None` = there are none left.
    pub(super) fn sum_up_some(&self, progress: &mut Progress) -> Result<Option<u64>, LedgerError> {
        while !progress.is_torn {
            let next = self.inner.next_stretch(progress).inspect_err(|_| progress.is_torn = true);
            match next? {
                Found::Stretch(begin_secs, end_secs) => {
                    let is_new = self.sum_up(progress.level, begin_secs, end_secs)?;
                    return Ok(Some(u64::from(is_new)));
                }
                Found::NothingYet => return Ok(Some(0)),
                Found::Nothing if progress.level == Level::Day => {
                    *progress = Progress { level: Level::Month, ..Progress::default() };
                }
                Found::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Whether it was worth it, and nobody was faster.
    fn sum_up(&self, level: Level, begin_secs: i64, end_secs: i64) -> Result<bool, LedgerError> {
        let presence = self.inner.readers.enter();
        let (catalog, sources) = {
            let catalog = self.inner.lock();
            let sources = self.inner.sources_of(&catalog, level, begin_secs, end_secs)?;
            (Arc::clone(&catalog), sources)
        };
        let metrics: BTreeSet<MetricNumber> = sources.iter().map(|slice| slice.metric).collect();
        if sources.len() < SLICES_MIN * metrics.len() {
            return Ok(false);
        }
        let Some(period) = Period::from_secs(begin_secs, end_secs) else { return Ok(false) };
        let reading = self.inner.reading(&catalog);
        let mut sums = Vec::new();
        for metric in metrics {
            let of_metric: Vec<&Slice> =
                sources.iter().filter(|slice| slice.metric == metric).collect();
            sums.extend(sum_of(reading, period, metric, &of_metric)?);
        }
        drop(presence);
        if sums.is_empty() {
            return Ok(false);
        }
        let inner = Arc::clone(&self.inner);
        self.change_with(Company::Alone, move |stage: &mut Stage| {
            let catalog = stage.catalog.clone();
            let is_known = catalog.sums.contains_key(&(level, begin_secs));
            if is_known || inner.sources_of(&catalog, level, begin_secs, end_secs)? != sources {
                return Ok(false);
            }
            put(stage, level, sums);
            passed(Step::ChangeSummedUp);
            Ok(true)
        })
    }
}

/// What slices of one metric add up to; `None` = no rows.
pub(super) fn sum_of(
    reading: Reading<'_>,
    period: Period,
    metric: MetricNumber,
    slices: &[&Slice],
) -> Result<Option<(Slice, Encoded)>, LedgerError> {
    let mut of_scope = vec![ScopeSums::default(); reading.catalog.scopes.len()];
    for slice in slices {
        for part in 0..slice.rollups.len() {
            for entry in reading.rollup(slice, part)? {
                of_scope[entry.scope as usize] += entry.sums;
            }
        }
    }
    let with_rows = (0..).zip(of_scope).filter(|(_, sums)| sums.rows > 0);
    let entry =
        |(scope, sums): (ScopeNumber, _)| RollupEntry { scope, fact: Fact::Collected, sums };
    let rollup: Vec<RollupEntry> = with_rows.map(entry).collect();
    let all: ScopeSums = rollup.iter().map(|entry| entry.sums).sum();
    let said: ScopeSums = slices.iter().map(|slice| slice.sums()).sum();
    if all != said {
        let place = reading.place_of_metric(period.begin_secs(), metric);
        return Err(damaged(place, Damage("its sums are not those of its scopes")));
    }
    if rollup.is_empty() {
        return Ok(None);
    }
    let slice = Slice {
        period,
        metric,
        number: 0,
        unit: String::new(),
        description: None,
        chain: 0,
        scopes: rollup.len() as u64,
        rows: all.rows,
        qty: all.qty,
        price: all.price,
        rollups: Vec::new(),
        blocks: Vec::new(),
        origin: Origin::Collected,
        removed: ScopeRuns::default(),
        order: 0,
        file: 0,
        offset: 0,
    };
    Ok(Some((slice, Encoded { blocks: Vec::new(), rollup })))
}

fn put(stage: &mut Stage, level: Level, sums: Vec<(Slice, Encoded)>) {
    let mut slices = Vec::with_capacity(sums.len());
    for (mut slice, encoded) in sums {
        let parts = encoded.into_parts();
        slice.rollups = parts.rollups;
        data::place(stage, &mut slice, parts.bytes);
        stage.journaled.push(Write::put(Table::Sums, key(level, &slice), slice.encode()));
        slices.push(slice);
    }
    if let Some(first) = slices.first() {
        let key = (level, first.period.begin_secs());
        Arc::make_mut(&mut stage.catalog.sums).insert(key, Arc::new(slices));
    }
}

impl Inner {
    /// What a stretch is summed up from, in a fixed order.
    pub(super) fn sources_of(
        &self,
        catalog: &Catalog,
        level: Level,
        begin_secs: i64,
        end_secs: i64,
    ) -> Result<Vec<Slice>, LedgerError> {
        let reading = self.reading(catalog);
        let (Some(begin), Some(end)) =
            (DateTime::from_timestamp(begin_secs, 0), DateTime::from_timestamp(end_secs, 0))
        else {
            return Ok(Vec::new());
        };
        match level {
            Level::Day => reading.slices_between(begin_secs, end_secs).collect(),
            Level::Month => reading.sources(begin, end, Level::Day),
        }
    }

    fn next_stretch(&self, progress: &mut Progress) -> Result<Found, LedgerError> {
        let catalog = self.lock();
        let level = progress.level;
        for _ in 0..SCAN_DAYS_MAX {
            let Some(next_secs) = self.first_begin(progress.position_secs)? else {
                return Ok(Found::Nothing);
            };
            let (begin_secs, end_secs) = level.around(next_secs);
            progress.position_secs = end_secs.max(next_secs.saturating_add(1));
            if self.first_begin(end_secs)?.is_none() {
                return Ok(Found::Nothing);
            }
            if !catalog.sums.contains_key(&(level, begin_secs)) {
                return Ok(Found::Stretch(begin_secs, end_secs));
            }
        }
        Ok(Found::NothingYet)
    }

    /// When the first slice begins that does not begin before a moment.
    fn first_begin(&self, secs: i64) -> Result<Option<i64>, LedgerError> {
        let Some(entry) = self.store.range(Table::Slices, time_bytes(secs).to_vec()..).next()
        else {
            return Ok(None);
        };
        let key = SliceKey::read(&entry?.0);
        key.map(|key| Some(key.begin_secs)).map_err(|damage| damaged("a slice".to_owned(), damage))
    }
}
