//! Whether a single record is what its checksum says.

use super::codec::Damage;
use super::slice::Slice;
use super::store::{Store, Table};
use super::{
    COUNTERS_KEY, cursors, data, header, journal, kv, load, push, records, reprocessing, seal,
    states, texts,
};
use crate::ledger::{LedgerError, hex};

type Checked = Result<(), (String, Damage)>;

/// The outer error is not damage.
pub(super) fn check_record(
    store: &Store,
    table: Table,
    key: &[u8],
    value: &[u8],
) -> Result<Checked, LedgerError> {
    let result = match table {
        Table::Meta => check_meta(key, value),
        Table::Scopes => records::decode_scope(0, value).map(|_| ()),
        Table::Metrics => records::decode_metric(value).map(|_| ()),
        Table::Chains => records::decode_chain(value).map(|_| ()),
        Table::Notes => records::decode_note(value).map(|_| ()),
        Table::Slices => check_slice(store, key, value)?,
        Table::Staged | Table::Generations => {
            check_slice(store, reprocessing::slice_key_of(key), value)?
        }
        Table::Sums => Slice::decode(key.get(1..).unwrap_or_default(), value).map(|_| ()),
        Table::Files => data::check_entry(key, value),
        Table::Texts => texts::check_chunk(value),
        Table::Pushes => push::check_record(value),
        Table::Seals => seal::check_record(value),
        Table::States => states::check_record(key, value),
        Table::Cursors | Table::Reprocessings => {
            return check_long(store, table, key, |bytes| match table {
                Table::Cursors => cursors::decode(bytes).map(|_| ()),
                _ => reprocessing::check_record(bytes),
            });
        }
        Table::Kv => match kv::kind_of(key) {
            kv::Stored::Revision => kv::check_revision(value),
            kv::Stored::Value => return check_long(store, table, key, kv::check_value),
        },
        // Moved by a start, if there was anything.
        Table::Rollups | Table::Blocks | Table::Removed => Ok(()),
    };
    let place = || match (table, <[u8; 4]>::try_from(key)) {
        (Table::Scopes | Table::Metrics | Table::Chains, Ok(number)) => {
            load::place(table, u32::from_be_bytes(number), value)
        }
        _ => place(table, key),
    };
    Ok(result.map_err(|damage| (place(), damage)))
}

/// Whether it is of a metric that there is.
fn check_slice(store: &Store, key: &[u8], value: &[u8]) -> Result<Result<(), Damage>, LedgerError> {
    let slice = match Slice::decode(key, value) {
        Ok(slice) => slice,
        Err(damage) => return Ok(Err(damage)),
    };
    match store.get_as_it_is(Table::Metrics, &slice.metric.to_be_bytes()) {
        Ok(None) => Ok(Err(Damage("its metric is not known"))),
        // A record of a metric that cannot be read is told by itself.
        Ok(Some(_)) | Err(LedgerError::Damaged { .. }) => Ok(Ok(())),
        Err(error) => Err(error),
    }
}

fn check_meta(key: &[u8], value: &[u8]) -> Result<(), Damage> {
    match key {
        COUNTERS_KEY => records::decode_counters(value).map(|_| ()),
        key if key == header::HEADER => header::read_header(value).map(|_| ()),
        key if key == journal::JOURNAL => journal::check_record(value),
        key => seal::check_meta(key, value),
    }
}

/// A value in parts is looked at with its first.
fn check_long(
    store: &Store,
    table: Table,
    key: &[u8],
    check: impl FnOnce(&[u8]) -> Result<(), Damage>,
) -> Result<Checked, LedgerError> {
    let Some((key, part)) = key.split_last_chunk::<2>() else {
        return Ok(Err((place(table, key), Damage("its key is too short"))));
    };
    if *part != [0, 0] {
        return Ok(Ok(()));
    }
    match states::get_long_as_it_is(store, table, key) {
        Ok(bytes) => {
            let bytes = bytes.unwrap_or_default();
            Ok(check(&bytes).map_err(|damage| (place(table, key), damage)))
        }
        Err(LedgerError::Damaged { .. }) => {
            Ok(Err((place(table, key), Damage("a part of it is missing"))))
        }
        Err(error) => Err(error),
    }
}

fn place(table: Table, key: &[u8]) -> String {
    let is_text = key.iter().all(|byte| (0x20..0x7F).contains(byte));
    let key = if is_text { String::from_utf8_lossy(key).into_owned() } else { hex(key) };
    format!("record `{key}` of table `{}`", table.name())
}
