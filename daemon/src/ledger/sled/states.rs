//! What operators set: modules, collectors, mappings; the configured metrics; long values.

use std::sync::Arc;

use super::catalog::Catalog;
use super::codec::Damage;
use super::queue::Stage;
use super::records;
use super::store::{Store, Table, VALUE_SIZE_MAX, Write, damaged};
use crate::fault::{Step, passed};
use crate::ledger::{CollectorMapping, Enabled, LedgerError, ModuleState};

const CONFIGURED_KEY: &[u8] = b"configured";
const STANDING_KEY: &[u8] = b"standing";
const MODULE_PREFIX: &[u8] = b"module/";
const COLLECTOR_PREFIX: &[u8] = b"collector/";
const MAPPING_PREFIX: &[u8] = b"mapping/";
const KV_PREFIX: &[u8] = b"kv/";

pub(super) fn load(store: &Store, catalog: &mut Catalog) -> Result<(), LedgerError> {
    for (key, list) in
        [(CONFIGURED_KEY, &mut catalog.configured), (STANDING_KEY, &mut catalog.standing)]
    {
        if let Some(bytes) = store.get(Table::States, key)? {
            let wrong = |damage| damaged("list of configured metrics".to_owned(), damage);
            let numbers = records::decode_numbers(&bytes).map_err(wrong)?;
            if numbers.iter().any(|number| *number as usize >= catalog.metrics.len()) {
                return Err(wrong(Damage("it names a metric that is not there")));
            }
            *list = Arc::new(numbers);
        }
    }
    for entry in named(store, MODULE_PREFIX) {
        let (name, bytes) = entry?;
        let state = records::decode_module(&bytes).map_err(|damage| of_state(&name, damage))?;
        Arc::make_mut(&mut catalog.modules).insert(name, state);
    }
    for entry in named(store, COLLECTOR_PREFIX) {
        let (name, bytes) = entry?;
        let state = records::decode_collector(&bytes).map_err(|damage| of_state(&name, damage))?;
        Arc::make_mut(&mut catalog.collectors).insert(name, state);
    }
    for entry in store.prefix(Table::States, MAPPING_PREFIX) {
        let (key, bytes) = entry?;
        let wrong = |damage| of_state("mapping", damage);
        let number = key.last_chunk::<8>().ok_or(wrong(Damage("its key is too short")))?;
        let mapping = records::decode_mapping(&bytes).map_err(wrong)?;
        Arc::make_mut(&mut catalog.mappings).insert(u64::from_be_bytes(*number), mapping);
    }
    for entry in named(store, KV_PREFIX) {
        let (instance, bytes) = entry?;
        let edit = super::kv::decode_head(&bytes).map_err(|damage| of_state(&instance, damage))?;
        Arc::make_mut(&mut catalog.kv_revisions).insert(instance, edit);
    }
    Ok(())
}

pub(super) fn check_record(key: &[u8], value: &[u8]) -> Result<(), Damage> {
    if key.starts_with(MODULE_PREFIX) {
        records::decode_module(value).map(|_| ())
    } else if key.starts_with(COLLECTOR_PREFIX) {
        records::decode_collector(value).map(|_| ())
    } else if key.starts_with(MAPPING_PREFIX) {
        records::decode_mapping(value).map(|_| ())
    } else if key.starts_with(KV_PREFIX) {
        super::kv::decode_head(value).map(|_| ())
    } else {
        records::decode_numbers(value).map(|_| ())
    }
}

fn of_state(name: &str, damage: Damage) -> LedgerError {
    damaged(format!("state of `{name}`"), damage)
}

fn named(
    store: &Store,
    prefix: &'static [u8],
) -> impl Iterator<Item = Result<(String, sled::IVec), LedgerError>> {
    store.prefix(Table::States, prefix).map(move |entry| {
        let (key, value) = entry?;
        let name = key.strip_prefix(prefix).unwrap_or_default();
        let name = String::from_utf8(name.to_vec());
        Ok((name.map_err(|_| of_state("?", Damage("its name is not UTF-8")))?, value))
    })
}

fn state_key(prefix: &[u8], name: &str) -> Vec<u8> {
    [prefix, name.as_bytes()].concat()
}

pub(super) fn kv_head_key(instance: &str) -> Vec<u8> {
    state_key(KV_PREFIX, instance)
}

pub(super) fn write_configured(stage: &mut Stage) {
    for (key, list) in
        [(CONFIGURED_KEY, &stage.catalog.configured), (STANDING_KEY, &stage.catalog.standing)]
    {
        let record = records::encode_numbers(list);
        stage.journaled.push(Write::put(Table::States, key.to_vec(), record));
    }
}

pub(super) fn set_module(stage: &mut Stage, name: String, module: ModuleState) {
    let key = state_key(MODULE_PREFIX, &name);
    stage.journaled.push(Write::put(Table::States, key, records::encode_module(module)));
    Arc::make_mut(&mut stage.catalog.modules).insert(name, module);
    passed(Step::ChangeModule);
}

pub(super) fn set_collector(stage: &mut Stage, collector: String, enabled: Enabled) {
    let enabled = enabled == Enabled::Yes;
    let key = state_key(COLLECTOR_PREFIX, &collector);
    stage.journaled.push(Write::put(Table::States, key, records::encode_collector(enabled)));
    Arc::make_mut(&mut stage.catalog.collectors).insert(collector, enabled);
    passed(Step::ChangeCollector);
}

fn mapping_key(number: u64) -> Vec<u8> {
    [MAPPING_PREFIX, &number.to_be_bytes()].concat()
}

fn number_of_mapping(catalog: &Catalog, service: &str) -> Option<u64> {
    let found = catalog.mappings.iter().find(|(_, mapping)| mapping.service == service);
    found.map(|(number, _)| *number)
}

/// A mapping that is replaced keeps its place.
pub(super) fn set_mapping(stage: &mut Stage, mapping: CollectorMapping) {
    let number = number_of_mapping(&stage.catalog, &mapping.service).unwrap_or_else(|| {
        let number = stage.catalog.counters.next_mapping;
        stage.catalog.counters.next_mapping += 1;
        number
    });
    let record = records::encode_mapping(&mapping);
    stage.journaled.push(Write::put(Table::States, mapping_key(number), record));
    Arc::make_mut(&mut stage.catalog.mappings).insert(number, mapping);
    passed(Step::ChangeMapping);
}

pub(super) fn remove_mapping(stage: &mut Stage, service: &str) -> bool {
    let Some(number) = number_of_mapping(&stage.catalog, service) else { return false };
    stage.journaled.push(Write::remove(Table::States, mapping_key(number)));
    Arc::make_mut(&mut stage.catalog.mappings).remove(&number);
    passed(Step::ChangeMapping);
    true
}

/// A value that may be longer than one of sled's should be, in parts: the first begins with their
/// number. Parts beyond it are left from a longer value, and mean nothing.
pub(super) fn put_long(table: Table, key: &[u8], bytes: &[u8]) -> Vec<Write> {
    const HEAD_SIZE: usize = 2;
    let count = bytes.len().div_ceil(VALUE_SIZE_MAX - HEAD_SIZE).max(1);
    let count = u16::try_from(count).expect("a long value has at most 65,535 parts");
    let mut writes = Vec::new();
    for part in 0..count {
        let begin = usize::from(part) * (VALUE_SIZE_MAX - HEAD_SIZE);
        let end = bytes.len().min(begin + VALUE_SIZE_MAX - HEAD_SIZE);
        let value = [&count.to_be_bytes(), &bytes[begin..end]].concat();
        writes.push(Write::put(table, part_key(key, part), value));
    }
    writes
}

fn part_key(key: &[u8], part: u16) -> Vec<u8> {
    [key, &part.to_be_bytes()].concat()
}

pub(super) fn get_long(
    store: &Store,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, LedgerError> {
    join_parts(table, key, |part| store.get(table, part))
}

/// The same of a broken group too.
pub(super) fn get_long_as_it_is(
    store: &Store,
    table: Table,
    key: &[u8],
) -> Result<Option<Vec<u8>>, LedgerError> {
    join_parts(table, key, |part| store.get_as_it_is(table, part))
}

fn join_parts(
    table: Table,
    key: &[u8],
    get: impl Fn(&[u8]) -> Result<Option<sled::IVec>, LedgerError>,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let wrong = |damage| damaged(format!("a part of {}", table.name()), damage);
    let mut bytes = Vec::new();
    let mut count = 1;
    let mut part = 0;
    while part < count {
        let value = get(&part_key(key, part))?;
        let Some(value) = value else {
            return if part == 0 { Ok(None) } else { Err(wrong(Damage("it is missing"))) };
        };
        let (head, rest) = value.split_first_chunk().ok_or(wrong(Damage("it is too short")))?;
        count = u16::from_be_bytes(*head);
        bytes.extend_from_slice(rest);
        part += 1;
    }
    Ok(Some(bytes))
}
