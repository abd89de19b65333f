//! What operators set: modules, collectors, mappings; the configured metrics; long values.

use std::sync::Arc;

use super::catalog::Catalog;
use super::codec::Damage;
use super::cursors::Cursor;
use super::holes::Holes;
use super::queue::Stage;
use super::store::{Store, Table, VALUE_SIZE_MAX, Write, damaged};
use super::{load, records};
use crate::fault::{Step, passed};
use crate::ledger::{CollectorMapping, Enabled, LedgerError, ModuleState, hex};

pub(super) const MODULE_PREFIX: &[u8] = b"module/";
pub(super) const COLLECTOR_PREFIX: &[u8] = b"collector/";
pub(super) const MAPPING_PREFIX: &[u8] = b"mapping/";
const CONFIGURED_KEY: &[u8] = b"configured";
const STANDING_KEY: &[u8] = b"standing";
pub(super) const KV_PREFIX: &[u8] = b"kv/";

/// What keys begin with.
const PREFIXES: [&[u8]; 7] = [
    CONFIGURED_KEY,
    STANDING_KEY,
    MODULE_PREFIX,
    COLLECTOR_PREFIX,
    MAPPING_PREFIX,
    KV_PREFIX,
    super::texts::REGISTRY,
];

pub(super) fn load(
    store: &Store,
    catalog: &mut Catalog,
    holes: &mut Holes,
) -> Result<(), LedgerError> {
    for entry in store.range_as_it_is(Table::States, ..) {
        let Some((key, value)) = holes.take(Table::States, &[], entry)? else { break };
        if let Err(damage) = load_one(catalog, &key, &value) {
            holes.add(Table::States, &key, place(&key), damage);
        }
        let is_known = PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        if !is_known {
            // Whatever it is, it is missing elsewhere.
            let damage = Damage("a key is not understood");
            holes.add(Table::States, &[], place(&key), damage);
        }
    }
    load::check_table(store, Table::States, holes);
    if holes.check_at(Table::States, CONFIGURED_KEY).is_err() {
        // Those that stand somewhere are what it has said, or once has.
        let is_somewhere = |cursors: &Arc<Vec<Cursor>>| cursors.iter().any(|each| each.is_set());
        let numbers = (0..).zip(&catalog.cursors).filter(|(_, cursors)| is_somewhere(cursors));
        catalog.configured = Arc::new(numbers.map(|(number, _)| number).collect());
    }
    Ok(())
}

fn load_one(catalog: &mut Catalog, key: &[u8], value: &[u8]) -> Result<(), Damage> {
    let name = |prefix: &[u8]| {
        let name = key.strip_prefix(prefix)?;
        Some(std::str::from_utf8(name).map(str::to_owned))
    };
    let not_a_name = |_| Damage("its name is not UTF-8");
    if key == CONFIGURED_KEY || key == STANDING_KEY {
        let numbers = records::decode_numbers(value)?;
        if numbers.iter().any(|number| *number as usize >= catalog.metrics.len()) {
            return Err(Damage("it names a metric that is not there"));
        }
        let is_configured = key == CONFIGURED_KEY;
        let list = if is_configured { &mut catalog.configured } else { &mut catalog.standing };
        *list = Arc::new(numbers);
    } else if let Some(name) = name(MODULE_PREFIX) {
        let state = records::decode_module(value)?;
        Arc::make_mut(&mut catalog.modules).insert(name.map_err(not_a_name)?, state);
    } else if let Some(name) = name(COLLECTOR_PREFIX) {
        let state = records::decode_collector(value)?;
        Arc::make_mut(&mut catalog.collectors).insert(name.map_err(not_a_name)?, state);
    } else if key.starts_with(MAPPING_PREFIX) {
        let number = key.last_chunk::<8>().ok_or(Damage("its key is too short"))?;
        let mapping = records::decode_mapping(value)?;
        Arc::make_mut(&mut catalog.mappings).insert(u64::from_be_bytes(*number), mapping);
    } else if let Some(instance) = name(KV_PREFIX) {
        let revision = super::kv::decode_head(value)?;
        Arc::make_mut(&mut catalog.kv_revisions).insert(instance.map_err(not_a_name)?, revision);
    } else {
        // Dictionaries: `texts` reads them, and does without.
        records::decode_numbers(value)?;
    }
    Ok(())
}

fn place(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(key) if !key.chars().any(char::is_control) => format!("state `{key}`"),
        _ => format!("state `{}`", hex(key)),
    }
}

/// Whether the lists of metrics are whole.
pub(super) fn check_lists(holes: &Holes) -> Result<(), LedgerError> {
    holes.check_at(Table::States, CONFIGURED_KEY)?;
    holes.check_at(Table::States, STANDING_KEY)
}

/// Whether the revision of an instance's keys is.
pub(super) fn check_kv(holes: &Holes, instance: &str) -> Result<(), LedgerError> {
    holes.check_at(Table::States, &kv_head_key(instance))
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
    fill_hole(stage, &state_key(MODULE_PREFIX, &name));
    Arc::make_mut(&mut stage.catalog.modules).insert(name, module);
    passed(Step::ChangeModule);
}

pub(super) fn set_collector(stage: &mut Stage, collector: String, enabled: Enabled) {
    let enabled = enabled == Enabled::Yes;
    let key = state_key(COLLECTOR_PREFIX, &collector);
    stage.journaled.push(Write::put(Table::States, key, records::encode_collector(enabled)));
    fill_hole(stage, &state_key(COLLECTOR_PREFIX, &collector));
    Arc::make_mut(&mut stage.catalog.collectors).insert(collector, enabled);
    passed(Step::ChangeCollector);
}

/// What stood there is said anew.
fn fill_hole(stage: &mut Stage, key: &[u8]) {
    if stage.catalog.holes.check_at(Table::States, key).is_ok() {
        return;
    }
    let holes = Arc::make_mut(&mut stage.catalog.holes);
    holes.fill(Table::States, key);
    stage.states_are_mended = holes.check(Table::States).is_ok();
}

fn mapping_key(number: u64) -> Vec<u8> {
    [MAPPING_PREFIX, &number.to_be_bytes()].concat()
}

fn number_of_mapping(catalog: &Catalog, service: &str) -> Option<u64> {
    let found = catalog.mappings.iter().find(|(_, mapping)| mapping.service == service);
    found.map(|(number, _)| *number)
}

/// A mapping that is replaced keeps its place.
pub(super) fn set_mapping(stage: &mut Stage, mapping: CollectorMapping) -> Result<(), LedgerError> {
    // One that is damaged may be of the same service.
    stage.catalog.holes.check_below(Table::States, MAPPING_PREFIX)?;
    let number = number_of_mapping(&stage.catalog, &mapping.service).unwrap_or_else(|| {
        let number = stage.catalog.counters.next_mapping;
        stage.catalog.counters.next_mapping += 1;
        number
    });
    let record = records::encode_mapping(&mapping);
    stage.journaled.push(Write::put(Table::States, mapping_key(number), record));
    Arc::make_mut(&mut stage.catalog.mappings).insert(number, mapping);
    passed(Step::ChangeMapping);
    Ok(())
}

pub(super) fn remove_mapping(stage: &mut Stage, service: &str) -> Result<bool, LedgerError> {
    stage.catalog.holes.check_below(Table::States, MAPPING_PREFIX)?;
    let Some(number) = number_of_mapping(&stage.catalog, service) else { return Ok(false) };
    stage.journaled.push(Write::remove(Table::States, mapping_key(number)));
    Arc::make_mut(&mut stage.catalog.mappings).remove(&number);
    passed(Step::ChangeMapping);
    Ok(true)
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
