//! Small records: scopes, metrics, chains, notes, states, counters. Their grammar stands in the
//! folder's module doc.

use chrono::{DateTime, Utc};

use super::catalog::{ChainEntry, Counters, Note, ScopeEntry, ScopeNumber};
use super::codec::{Damage, Kind, Reader, Writer};
use super::cursors::SCOPES_MAX;
use crate::ledger::{CollectorMapping, ModuleState, RatedBy};
use crate::usage::{MetricId, ScopeId};

const SCOPE: Kind = Kind(b'S', 2);
const METRIC: Kind = Kind(b'M', 1);
const CHAIN: Kind = Kind(b'H', 3);
const NOTE: Kind = Kind(b'N', 1);
const MODULE: Kind = Kind(b'U', 1);
const COLLECTOR: Kind = Kind(b'V', 1);
const MAPPING: Kind = Kind(b'W', 1);
const COUNTERS: Kind = Kind(b'O', 1);
const NUMBERS: Kind = Kind(b'Q', 1);

pub(super) fn write_time(writer: &mut Writer, time: DateTime<Utc>) {
    writer.int(time.timestamp());
    writer.uint(u64::from(time.timestamp_subsec_nanos()));
}

pub(super) fn read_time(reader: &mut Reader<'_>) -> Result<DateTime<Utc>, Damage> {
    let secs = reader.int()?;
    let nanos = reader.u32()?;
    DateTime::from_timestamp(secs, nanos).ok_or(Damage("a time is out of range"))
}

pub(super) fn read_bool(reader: &mut Reader<'_>) -> Result<bool, Damage> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Damage("a yes or no is neither")),
    }
}

pub(super) fn encode_scope(scope: &ScopeEntry) -> Vec<u8> {
    let mut writer = Writer::framed(SCOPE);
    writer.text(scope.id.as_str());
    writer.text(&scope.fetcher);
    writer.text(&scope.collector);
    writer.text(&scope.scope_key);
    writer.u8(u8::from(scope.active));
    write_time(&mut writer, scope.activation_toggled);
    write_time(&mut writer, scope.first_period);
    writer.u8(u8::from(scope.said_processed.is_some()));
    if let Some(said) = scope.said_processed {
        write_time(&mut writer, said);
    }
    writer.u8(u8::from(scope.rank.is_some()));
    if let Some(rank) = scope.rank {
        writer.uint(u64::from(rank));
    }
    writer.seal()
}

pub(super) fn decode_scope(number: ScopeNumber, bytes: &[u8]) -> Result<ScopeEntry, Damage> {
    let (version, mut reader) = Reader::versioned(SCOPE, bytes)?;
    let mut scope = ScopeEntry {
        id: read_scope_id(&mut reader)?,
        fetcher: reader.text()?.to_owned(),
        collector: reader.text()?.to_owned(),
        scope_key: reader.text()?.into(),
        active: read_bool(&mut reader)?,
        activation_toggled: read_time(&mut reader)?,
        first_period: read_time(&mut reader)?,
        said_processed: None,
        rank: Some(number),
    };
    if version > 1 {
        scope.said_processed =
            if read_bool(&mut reader)? { Some(read_time(&mut reader)?) } else { None };
        scope.rank = if read_bool(&mut reader)? { Some(reader.u32()?) } else { None };
    }
    Ok(scope)
}

fn read_scope_id(reader: &mut Reader<'_>) -> Result<ScopeId, Damage> {
    match reader.text()? {
        "" => Ok(ScopeId::nobody()),
        id => ScopeId::new(id).map_err(|_| Damage("a scope id is not allowed")),
    }
}

pub(super) fn encode_metric(metric: &MetricId) -> Vec<u8> {
    let mut writer = Writer::framed(METRIC);
    writer.text(&metric.name);
    writer.text(&metric.alt_name);
    writer.seal()
}

pub(super) fn decode_metric(bytes: &[u8]) -> Result<MetricId, Damage> {
    let mut reader = Reader::framed(METRIC, bytes)?;
    let name = reader.text()?.to_owned();
    Ok(MetricId { name, alt_name: reader.text()?.to_owned() })
}

pub(super) fn encode_chain(chain: &ChainEntry) -> Vec<u8> {
    let mut writer = Writer::framed(CHAIN);
    writer.u8(u8::from(chain.scope_key.is_some()));
    if let Some(scope_key) = &chain.scope_key {
        writer.text(scope_key);
    }
    for module in chain.rated_by.iter() {
        writer.text(&module.module);
        writer.uint(module.revision);
        writer.text(&module.library);
        writer.text(&module.config);
    }
    writer.seal()
}

pub(super) fn decode_chain(bytes: &[u8]) -> Result<ChainEntry, Damage> {
    let (version, mut reader) = Reader::versioned(CHAIN, bytes)?;
    let is_key_kept = version > 1 && read_bool(&mut reader)?;
    let scope_key = if is_key_kept { Some(reader.text()?.into()) } else { None };
    let mut rated_by = Vec::new();
    while !reader.is_empty() {
        let module = reader.text()?.to_owned();
        let revision = reader.uint()?;
        let library = reader.text()?.to_owned();
        let config = if version > 2 { reader.text()?.to_owned() } else { String::new() };
        rated_by.push(RatedBy { module, revision, library, config });
    }
    Ok(ChainEntry { rated_by: rated_by.into(), scope_key })
}

/// Sorted numbers as runs: gap to the run before, length less one.
pub(super) fn write_runs(writer: &mut Writer, numbers: &[u32]) {
    let mut next = 0;
    for run in numbers.chunk_by(|left, right| left.checked_add(1) == Some(*right)) {
        writer.uint(u64::from(run[0] - next));
        writer.count(run.len() - 1);
        next = run[run.len() - 1].saturating_add(1);
    }
}

/// Until the end of the record; so many numbers at most.
pub(super) fn read_runs(reader: &mut Reader<'_>, count_max: usize) -> Result<Vec<u32>, Damage> {
    let mut numbers = Vec::new();
    let mut next = 0_u32;
    while !reader.is_empty() {
        let too_big = Damage("a scope number is too big");
        let first = next.checked_add(reader.u32()?).ok_or(too_big)?;
        let room = count_max.checked_sub(numbers.len() + 1).ok_or(too_big)?;
        let more = u32::try_from(reader.count(room)?).map_err(|_| too_big)?;
        let last = first.checked_add(more).ok_or(too_big)?;
        numbers.extend(first..=last);
        next = last.saturating_add(1);
    }
    Ok(numbers)
}

pub(super) fn encode_note(note: &Note) -> Vec<u8> {
    let mut writer = Writer::framed(NOTE);
    writer.int(note.begin_secs);
    writer.int(note.end_secs);
    writer.uint(u64::from(note.attempts));
    writer.int(note.at_secs);
    writer.text(&note.reason);
    write_runs(&mut writer, &note.scopes);
    writer.seal()
}

pub(super) fn decode_note(bytes: &[u8]) -> Result<Note, Damage> {
    decode_note_of(bytes, SCOPES_MAX)
}

/// Of so many scopes at most: a few bytes may stand for many.
pub(super) fn decode_note_of(bytes: &[u8], scopes_max: usize) -> Result<Note, Damage> {
    let mut reader = Reader::framed(NOTE, bytes)?;
    Ok(Note {
        begin_secs: reader.int()?,
        end_secs: reader.int()?,
        attempts: reader.u32()?,
        at_secs: reader.int()?,
        reason: reader.text()?.to_owned(),
        scopes: read_runs(&mut reader, scopes_max)?,
    })
}

pub(super) fn encode_module(state: ModuleState) -> Vec<u8> {
    let mut writer = Writer::framed(MODULE);
    writer.u8(u8::from(state.enabled));
    writer.int(state.priority);
    writer.seal()
}

pub(super) fn decode_module(bytes: &[u8]) -> Result<ModuleState, Damage> {
    let mut reader = Reader::framed(MODULE, bytes)?;
    Ok(ModuleState { enabled: read_bool(&mut reader)?, priority: reader.int()? })
}

pub(super) fn encode_collector(enabled: bool) -> Vec<u8> {
    let mut writer = Writer::framed(COLLECTOR);
    writer.u8(u8::from(enabled));
    writer.seal()
}

pub(super) fn decode_collector(bytes: &[u8]) -> Result<bool, Damage> {
    read_bool(&mut Reader::framed(COLLECTOR, bytes)?)
}

pub(super) fn encode_mapping(mapping: &CollectorMapping) -> Vec<u8> {
    let mut writer = Writer::framed(MAPPING);
    writer.text(&mapping.service);
    writer.text(&mapping.collector);
    writer.seal()
}

pub(super) fn decode_mapping(bytes: &[u8]) -> Result<CollectorMapping, Damage> {
    let mut reader = Reader::framed(MAPPING, bytes)?;
    let service = reader.text()?.to_owned();
    Ok(CollectorMapping { service, collector: reader.text()?.to_owned() })
}

pub(super) fn encode_counters(counters: Counters) -> Vec<u8> {
    let mut writer = Writer::framed(COUNTERS);
    writer.uint(counters.rows);
    writer.uint(counters.next_slice);
    writer.uint(counters.next_note);
    writer.uint(counters.next_mapping);
    writer.seal()
}

pub(super) fn decode_counters(bytes: &[u8]) -> Result<Counters, Damage> {
    let mut reader = Reader::framed(COUNTERS, bytes)?;
    Ok(Counters {
        rows: reader.uint()?,
        next_slice: reader.uint()?,
        next_note: reader.uint()?,
        next_mapping: reader.uint()?,
    })
}

/// One number, or a list of them.
pub(super) fn encode_numbers(numbers: &[u32]) -> Vec<u8> {
    let mut writer = Writer::framed(NUMBERS);
    for number in numbers {
        writer.uint(u64::from(*number));
    }
    writer.seal()
}

pub(super) fn decode_numbers(bytes: &[u8]) -> Result<Vec<u32>, Damage> {
    let mut reader = Reader::framed(NUMBERS, bytes)?;
    let mut numbers = Vec::new();
    while !reader.is_empty() {
        numbers.push(reader.u32()?);
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_come_back(numbers in prop::collection::btree_set(0_u32..60, 0..40)) {
            let numbers: Vec<u32> = numbers.into_iter().collect();
            let mut writer = Writer::new();
            write_runs(&mut writer, &numbers);
            let bytes = writer.into_bytes();

            prop_assert_eq!(read_runs(&mut Reader::new(&bytes), SCOPES_MAX), Ok(numbers));
        }
    }

    #[test]
    fn a_chain_of_an_older_version_has_no_scope_key_and_no_configuration() {
        let mut by = RatedBy {
            module: "m".to_owned(),
            revision: 3,
            library: "ab".to_owned(),
            config: String::new(),
        };
        let old = |version: u8| {
            let mut old = Writer::framed(Kind(b'H', version));
            if version > 1 {
                old.u8(1);
                old.text("project_id");
            }
            old.text("m");
            old.uint(3);
            old.text("ab");
            old.seal()
        };
        let mut chain = ChainEntry { rated_by: vec![by.clone()].into(), scope_key: None };

        assert_eq!(decode_chain(&old(1)), Ok(chain.clone()));
        assert_eq!(decode_chain(&encode_chain(&chain)), Ok(chain.clone()));
        chain.scope_key = Some("project_id".into());
        assert_eq!(decode_chain(&old(2)), Ok(chain.clone()));
        by.config = "cd".to_owned();
        chain.rated_by = vec![by].into();
        assert_eq!(decode_chain(&encode_chain(&chain)), Ok(chain));
    }

    #[test]
    fn the_largest_number_comes_back() {
        let mut writer = Writer::new();
        write_runs(&mut writer, &[0, u32::MAX - 1, u32::MAX]);
        let bytes = writer.into_bytes();

        let numbers = read_runs(&mut Reader::new(&bytes), SCOPES_MAX);

        assert_eq!(numbers, Ok(vec![0, u32::MAX - 1, u32::MAX]));
    }
}
