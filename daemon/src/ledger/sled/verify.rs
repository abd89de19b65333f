//! Looks at everything that is stored, step by step, and says what is damaged.
//!
//! What a step looks at is as of one moment; between steps the ledger goes on. What is found not to
//! be what was written is neither answered nor deleted from then on. In this order:
//! records by their seals, each record by its checksum, files by their headers and by who has
//! places in them, then rows and sums: every part is read, the sums of scopes are compared with
//! their rows, those of slices with their scopes, those of days and months with their slices, and
//! cursors with what is collected.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use chrono::DateTime;

use super::catalog::{MetricNumber, ScopeNumber};
use super::codec::Damage;
use super::inner::Inner;
use super::ledger::SledLedger;
use super::lost::{self, Lost};
use super::query::Reading;
use super::seal_group::{BROKEN, Group};
use super::slice::{Slice, time_bytes};
use super::store::{Store, Table};
use super::verify_parts::{check_slice, check_sums};
use super::verify_position::{Position, Stage};
use super::verify_records::check_record;
use super::{data, reprocessing, sums};
use crate::ledger::{Finding, LedgerError, Origin, Remedy, VerifyStep};
use crate::usage::{MetricId, Period};

/// About how many bytes of data are read in one step.
const STEP_SIZE: u64 = 8 << 20;
/// So many records are decoded in one step.
const STEP_RECORDS: usize = 4096;
/// Most slices that are listed in one step.
const STEP_SLICES: usize = 512;
/// More findings than that are not told of one step.
const FINDINGS_MAX: usize = 1000;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// Of which nothing is to be answered any more.
    broken: Vec<Group>,
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        if self.list.len() < FINDINGS_MAX {
            self.list.push(finding);
        }
    }

    /// Something that belongs to no slice.
    fn plain(&mut self, place: String, damage: Damage, remedy: Remedy) {
        self.push(Finding {
            place,
            detail: damage.0.to_owned(),
            file: None,
            period: None,
            metric: None,
            scopes: None,
            remedy,
        });
    }

    /// Damage is a finding, anything else an error.
    pub(super) fn take<T>(
        &mut self,
        result: Result<T, LedgerError>,
        about: impl FnOnce() -> (Finding, Remedy),
    ) -> Result<Option<T>, LedgerError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(LedgerError::Damaged { place, detail }) => {
                let (finding, remedy) = about();
                self.push(Finding { place, detail, remedy, ..finding });
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn nothing() -> Finding {
    Finding {
        place: String::new(),
        detail: String::new(),
        file: None,
        period: None,
        metric: None,
        scopes: None,
        remedy: Remedy::Restore,
    }
}

/// For an error and the log.
pub(super) fn text_of_lost(lost: &Lost) -> String {
    let count = lost.last - lost.first + 1;
    let tables: Vec<&str> = Table::all()
        .filter(|table| lost.is_about(*table))
        .filter_map(|table| match table {
            Table::Slices => Some("rows"),
            Table::Kv => Some("rules"),
            Table::Pushes => Some("pushes"),
            Table::Reprocessings | Table::Staged => Some("reprocessings"),
            Table::Scopes => Some("scopes"),
            Table::States => Some("states"),
            _ => None,
        })
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let time = |secs| DateTime::from_timestamp(secs, 0).map(|time| time.format("%FT%TZ"));
    let periods =
        lost.periods.map_or(String::new(), |(begin, end)| match (time(begin), time(end)) {
            (Some(begin), Some(end)) => format!(", periods that begin from {begin} to {end}"),
            _ => ", of any period".to_owned(),
        });
    format!(
        "{count} changes that were acknowledged are lost (numbers {} to {}: {}{periods})",
        lost.first,
        lost.last,
        tables.join(", ")
    )
}

/// From a table's number and a key on. Where to go on; `None` = that was all.
fn check_records(
    store: &Store,
    from: &[u8],
    findings: &mut Findings,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let (number, key) = from.split_first().map_or((0, &[][..]), |(first, rest)| (*first, rest));
    let Some(table) = Table::from_number(number) else { return Ok(None) };
    for (index, entry) in store.range_as_it_is(table, key.to_vec()..).enumerate() {
        let restore = || (nothing(), remedy_of(table));
        // What follows cannot be reached: its place is in the page that is torn.
        let Some((key, value)) = findings.take(entry, restore)? else { break };
        if index >= STEP_RECORDS {
            return Ok(Some([&[number], key.as_ref()].concat()));
        }
        if let Err((place, damage)) = check_record(store, table, &key, &value)? {
            findings.plain(place, damage, remedy_of(table));
        }
    }
    Ok(Some(vec![number + 1]))
}

fn remedy_of(table: Table) -> Remedy {
    match table {
        Table::Sums | Table::Files | Table::Seals | Table::Meta => Remedy::Rebuild,
        _ => Remedy::Restore,
    }
}

impl SledLedger {
    pub(super) fn verify_step(&self, from: Option<&str>) -> Result<VerifyStep, LedgerError> {
        let position = match from {
            None => Position::of(Stage::Seals, 0),
            Some(text) => {
                Position::read(text).ok_or_else(|| LedgerError::NoPosition(text.to_owned()))?
            }
        };
        let inner = &self.inner;
        let mut findings = Findings::default();
        let next = match position.stage {
            Stage::Seals => inner.verify_seals(&position, &mut findings)?,
            Stage::Records => inner.verify_records(&position, &mut findings)?,
            Stage::Files => inner.verify_files(&position, &mut findings)?,
            Stage::Slices => inner.verify_slices(&position, &mut findings)?,
            Stage::Sums => inner.verify_sums(&position, &mut findings)?,
            Stage::Staged => inner.verify_by_id(Table::Staged, &position, &mut findings)?,
            Stage::Generations => {
                inner.verify_by_id(Table::Generations, &position, &mut findings)?
            }
        };
        let next = next.or_else(|| position.next_stage());
        let files = &inner.catalog().files;
        let bytes_total = files.values().map(|file| file.content().saturating_sub(file.dead)).sum();
        let bytes_done = next.as_ref().map_or(bytes_total, |next| next.done.min(bytes_total));
        let next = next.map(|next| next.text());
        for group in findings.broken {
            self.hold(group);
        }
        Ok(VerifyStep { findings: findings.list, next, bytes_done, bytes_total })
    }
}

impl Inner {
    /// One group in each step.
    fn verify_seals(
        &self,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        if position.key.is_empty() {
            for lost in lost::list_lost(&self.store)? {
                let finding = Finding {
                    place: "the log".to_owned(),
                    detail: text_of_lost(&lost),
                    period: lost
                        .periods
                        .and_then(|(begin, end)| Period::from_secs(begin, end.saturating_add(1))),
                    remedy: Remedy::Accept,
                    ..nothing()
                };
                findings.push(finding);
            }
            if !self.seals.is_root_whole() {
                let place = format!("table `{}`", Table::Seals.name());
                findings.plain(place, BROKEN, Remedy::Rebuild);
            }
        }
        let last = (!position.key.is_empty()).then(|| Group::from_key(&position.key));
        let group = self.seals.group_after(&self.store, last.as_ref());
        let group = findings.take(group, || (nothing(), Remedy::Restore))?.flatten();
        let Some(group) = group else { return Ok(None) };
        let about = || (of_group(&group), remedy_of_group(&group));
        let is_whole = self.seals.is_whole_now(&self.store, &group, || self.lock_whole());
        let is_whole = findings.take(is_whole, about)?;
        if is_whole != Some(true) {
            findings.broken.push(group.clone());
        }
        if is_whole == Some(false) {
            findings.push(Finding {
                place: group.place(),
                detail: BROKEN.0.to_owned(),
                remedy: remedy_of_group(&group),
                ..of_group(&group)
            });
        }
        Ok(Some(position.at(group.key().to_vec())))
    }

    fn verify_records(
        &self,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        // A value in parts is written part by part.
        let _no_change = self.lock_whole()?;
        let next = check_records(&self.store, &position.key, findings)?;
        Ok(next.map(|key| position.at(key)))
    }

    /// One file in each step.
    fn verify_files(
        &self,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        // As long as somebody may come to it, it is not deleted.
        let _presence = self.readers.enter();
        let catalog = Arc::clone(&*self.lock_whole()?);
        let last = data::FileId::from_key(&position.key);
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let next = catalog.files.range((begin, Bound::Unbounded)).next();
        let Some((file, entry)) = next.map(|(file, entry)| (*file, *entry)) else {
            return Ok(None);
        };
        let mut say = |damage: &'static str, remedy| {
            let finding = Finding {
                place: format!("file `data/{file}`"),
                detail: damage.to_owned(),
                file: Some(format!("data/{file}")),
                remedy,
                ..nothing()
            };
            findings.push(finding);
        };
        match self.data.check_header(file) {
            Ok(size) if size < entry.size => say("it ends too early", Remedy::Restore),
            Ok(_) => {}
            Err(damage) => say(damage.0, Remedy::Restore),
        }
        match self.account(file) {
            Ok(Some(damage)) => say(damage.0, Remedy::Rebuild),
            // Who reads what is damaged is told at its place.
            Ok(None) | Err(LedgerError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(Some(position.at(file.key())))
    }

    /// Whether places in a file are taken once, and what nobody has is counted as dead.
    fn account(&self, file: data::FileId) -> Result<Option<Damage>, LedgerError> {
        let (records, entry) = {
            let lock = self.lock_whole()?;
            let Some(entry) = lock.files.get(&file).copied() else { return Ok(None) };
            (self.records_in_locked(&lock, file)?, entry)
        };
        let mut extents: Vec<(u64, u64)> = records
            .iter()
            .map(|record| (record.slice.offset, record.slice.extent_size()))
            .filter(|(_, size)| *size > 0)
            .collect();
        extents.sort_unstable();
        let mut end = data::HEADER_SIZE;
        for (offset, size) in &extents {
            if *offset < end {
                return Ok(Some(Damage("two slices have the same place in it")));
            }
            end = offset + size;
        }
        let live: u64 = extents.iter().map(|(_, size)| size).sum();
        Ok(if end > entry.size {
            Some(Damage("a slice has its place behind its end"))
        } else if live + entry.dead != entry.content() {
            Some(Damage("what is dead in it is not counted right"))
        } else {
            None
        })
    }

    fn verify_slices(
        &self,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        let _presence = self.readers.enter();
        let (catalog, slices) = {
            let catalog = self.lock_whole()?;
            let mut slices = Vec::new();
            let from = position.key.clone();
            for entry in self.store.range_as_it_is(Table::Slices, from..) {
                let Some((key, record)) = told_before(entry)? else { break };
                // Told with the records, too.
                let Ok(slice) = self.reading(&catalog).slice(&key, &record) else { continue };
                let is_other = slices.last().is_some_and(|last: &Slice| {
                    last.period.begin_secs() != slice.period.begin_secs()
                });
                if slices.len() >= STEP_SLICES && is_other {
                    break;
                }
                slices.push(slice);
            }
            (Arc::clone(&catalog), slices)
        };
        let reading = self.reading(&catalog);
        let mut done = position.done;
        for period in
            slices.chunk_by(|left, right| left.period.begin_secs() == right.period.begin_secs())
        {
            let begin_secs = period[0].period.begin_secs();
            if done - position.done >= STEP_SIZE {
                let key = time_bytes(begin_secs).to_vec();
                return Ok(Some(Position { done, ..position.at(key) }));
            }
            let mut collected = BTreeSet::new();
            for slice in period {
                let scopes = check_slice(reading, slice, findings)?;
                done += slice.extent_size();
                if slice.origin == Origin::Collected {
                    check_cursors(reading, slice, &scopes, &mut collected, findings);
                }
            }
        }
        let Some(last) = slices.last().filter(|_| slices.len() >= STEP_SLICES) else {
            return Ok(Position { done, ..position.clone() }.next_stage());
        };
        let key = time_bytes(last.period.begin_secs().saturating_add(1)).to_vec();
        Ok(Some(Position { done, ..position.at(key) }))
    }

    /// One stretch in each step.
    fn verify_sums(
        &self,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        let _presence = self.readers.enter();
        let last = sums::stretch_at(&position.key);
        let begin = last.map_or(Bound::Unbounded, Bound::Excluded);
        let (catalog, stretch, slices, sources) = {
            let catalog = self.lock_whole()?;
            let next = catalog.sums.range((begin, Bound::Unbounded)).next();
            let Some((stretch, slices)) = next else { return Ok(None) };
            let period =
                slices.first().map(|slice| (slice.period.begin_secs(), slice.period.end_secs()));
            let (begin_secs, end_secs) = period.unwrap_or((0, 0));
            let sources = self.sources_of(&catalog, stretch.0, begin_secs, end_secs);
            (Arc::clone(&catalog), *stretch, Arc::clone(slices), told_before(sources)?)
        };
        let mut done = position.done;
        for slice in slices.iter() {
            done += slice.extent_size();
            if let Some(sources) = &sources {
                check_sums(self.reading(&catalog), slice, sources, findings)?;
            }
        }
        Ok(Some(Position { done, ..position.at(sums::place(stretch)) }))
    }

    /// Of a table whose keys have a reprocessing in front.
    fn verify_by_id(
        &self,
        table: Table,
        position: &Position,
        findings: &mut Findings,
    ) -> Result<Option<Position>, LedgerError> {
        let _presence = self.readers.enter();
        let (catalog, slices, next) = {
            let catalog = self.lock_whole()?;
            let (mut slices, mut next) = (Vec::new(), None);
            for entry in self.store.range_as_it_is(table, position.key.clone()..) {
                let Some((key, record)) = told_before(entry)? else { break };
                if slices.len() >= STEP_SLICES {
                    next = Some(key.to_vec());
                    break;
                }
                let slice_key = reprocessing::slice_key_of(&key);
                slices.extend(self.reading(&catalog).slice(slice_key, &record).ok());
            }
            (Arc::clone(&catalog), slices, next)
        };
        let mut done = position.done;
        for slice in &slices {
            check_slice(self.reading(&catalog), slice, findings)?;
            done += slice.extent_size();
        }
        Ok(next.map(|key| Position { done, ..position.at(key) }))
    }
}

/// Damage that an earlier stage tells; `None` = there is some.
fn told_before<T>(result: Result<T, LedgerError>) -> Result<Option<T>, LedgerError> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(LedgerError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn of_group(group: &Group) -> Finding {
    let period =
        group.month().and_then(|month| Period::from_secs(month.begin_secs(), month.end_secs()));
    Finding { period, ..nothing() }
}

fn remedy_of_group(group: &Group) -> Remedy {
    group.table().map_or(Remedy::Restore, remedy_of)
}

/// What is collected is behind the cursor, and no scope has a period twice.
fn check_cursors(
    reading: Reading<'_>,
    slice: &Slice,
    scopes: &[ScopeNumber],
    collected: &mut BTreeSet<(MetricNumber, ScopeNumber)>,
    findings: &mut Findings,
) {
    let mut say = |scope: ScopeNumber, detail: &str| {
        let id = reading.catalog.scope_name(scope);
        findings.push(Finding {
            place: format!("{}, scope `{id}`", reading.place_of_slice(slice)),
            detail: detail.to_owned(),
            scopes: Some((id.clone(), id)),
            ..of_slice(reading, slice)
        });
    };
    for scope in scopes {
        if !collected.insert((slice.metric, *scope)) {
            say(*scope, "it is there twice");
        }
        // Damaged ones are told with the records.
        let cursor = reading.catalog.cursor(slice.metric, *scope).unwrap_or_default();
        if cursor.is_some_and(|cursor| cursor.next_secs() <= slice.period.begin_secs()) {
            say(*scope, "it is behind the cursor, and will be collected again");
        }
    }
}

/// What is said of anything in a slice.
pub(super) fn of_slice(reading: Reading<'_>, slice: &Slice) -> Finding {
    let metric = reading.catalog.metrics.get(slice.metric as usize).map(MetricId::to_string);
    Finding {
        file: Some(format!("data/{}", slice.data_file())),
        period: Some(slice.period),
        metric,
        ..nothing()
    }
}
