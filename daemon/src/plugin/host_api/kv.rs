//! The keys of an instance, kept by the ledger.

use rated_plugin::raw::RawEdit;
use rated_plugin::{Edit, Error, KvPairs, Result};

use super::context::Services;
use super::text;
use crate::ledger::{KvEdit, LedgerError, is_disk_full};
use crate::plugin::call;
use crate::plugin::ffi::borrow;

/// Longest key, bytes.
const KEY_SIZE_MAX: usize = 1024;
/// Longest value, bytes; the ledger takes no longer one.
const VALUE_SIZE_MAX: usize = 1024 * 1024;
/// Most edits in one revision.
const EDITS_MAX: usize = 100_000;

pub(super) fn get(services: &Services, label: &str, revision: u64, key: &str) -> Result<Vec<u8>> {
    let value = services.lent.ledger.kv_get(label, revision, key);
    let value = value.map_err(|error| failed(&error))?;
    value.ok_or_else(|| Error::not_found("there is no such key"))
}

pub(super) fn scan(
    services: &Services,
    label: &str,
    revision: u64,
    prefix: &str,
) -> Result<(u64, KvPairs)> {
    services.lent.ledger.kv_scan(label, revision, prefix).map_err(|error| failed(&error))
}

pub(super) fn apply(
    services: &Services,
    label: &str,
    revision: u64,
    edits: Vec<Edit>,
) -> Result<u64> {
    check_count(edits.len())?;
    for edit in &edits {
        check_sizes(&edit.key, edit.value.as_deref().unwrap_or_default())?;
    }
    let at = services.lent.clock.now();
    let edit = KvEdit { revision, edits, author: call::author(), at };
    services.lent.ledger.kv_apply(label, &edit).map_err(|error| {
        let told = failed(&error);
        if is_disk_full(&error) {
            services.note_refused_for_room(error);
        }
        told
    })
}

/// # Safety
///
/// `edits` is null or holds `edits_len` edits whose keys and values are readable.
pub(super) unsafe fn edits(edits: *const RawEdit, edits_len: usize) -> Result<Vec<Edit>> {
    if edits.is_null() || edits_len == 0 {
        return Ok(Vec::new());
    }
    check_count(edits_len)?;
    // SAFETY: the caller's promise.
    let edits = unsafe { std::slice::from_raw_parts(edits, edits_len) };
    edits
        .iter()
        .map(|edit| {
            // SAFETY: the caller's promise.
            let (key, value) = unsafe { (text(edit.key)?, borrow(edit.value)) };
            // Copied here, and looked at again by whoever applies it.
            check_sizes(key, value)?;
            let value = (!edit.value.ptr.is_null()).then(|| value.to_vec());
            Ok(Edit { key: key.to_owned(), value })
        })
        .collect()
}

fn check_count(count: usize) -> Result<()> {
    if count > EDITS_MAX {
        return Err(Error::invalid_request(format!(
            "{count} edits at once, at most {EDITS_MAX} are accepted"
        )));
    }
    Ok(())
}

fn check_sizes(key: &str, value: &[u8]) -> Result<()> {
    if key.is_empty() || key.len() > KEY_SIZE_MAX {
        return Err(Error::invalid_request(format!(
            "a key must be 1 to {KEY_SIZE_MAX} bytes long, got {}",
            key.len()
        )));
    }
    if value.len() > VALUE_SIZE_MAX {
        return Err(Error::invalid_request(format!(
            "the value of `{key}` is {} bytes long, at most {VALUE_SIZE_MAX} are accepted",
            value.len()
        )));
    }
    Ok(())
}

fn failed(error: &LedgerError) -> Error {
    match error {
        LedgerError::Conflict { .. } => Error::conflict(error.to_string()),
        LedgerError::Store(_)
        | LedgerError::Stopped
        | LedgerError::Closed
        | LedgerError::DiskFull { .. } => Error::unavailable("the daemon's store failed"),
        other => Error::internal(other.to_string()),
    }
}
