//! Keys of plugin instances: every revision of every key, until `revisions` forgets it.
//!
//! ```text
//! tree    key                                           record
//! states  "kv/" instance                                frame('K', 1) revision:uint
//! kv      instance 00 00 revision:u64be                 frame('E', 1) author:text at:time
//! kv      instance 00 key 00 revision:u64be part:u16be  long(frame('F', 1) ( 0 | 1 value ))
//! ```
//!
//! Neither instances nor keys contain a NUL, so keys sort as their texts do. `0` says that the key
//! was removed with that revision. A revision whose record is not there is not kept any more: some
//! of what it would read may be gone.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::codec::{Damage, Kind, Reader, Writer};
use super::queue::Stage;
use super::store::{Store, Table, Write, damaged};
use super::{catalog::Catalog, records, states};
use crate::fault::{Step, passed};
use crate::ledger::{KvEdit, LedgerError};

const HEAD: Kind = Kind(b'K', 1);
const REVISION: Kind = Kind(b'E', 1);
const VALUE: Kind = Kind(b'F', 1);

/// Longest key, and longest name of an instance, bytes.
const KEY_SIZE_MAX: usize = 1024;
/// Longest value, bytes.
const VALUE_SIZE_MAX: usize = 1 << 20;

pub(super) fn decode_head(bytes: &[u8]) -> Result<u64, Damage> {
    Reader::framed(HEAD, bytes)?.uint()
}

pub(super) fn check(instance: &str, edit: &KvEdit) -> Result<(), LedgerError> {
    let texts = edit.edits.iter().map(|edit| edit.key.as_str()).chain([instance]);
    for text in texts {
        let size = text.len();
        if size == 0 || size > KEY_SIZE_MAX || text.contains('\0') {
            let instance = instance.to_owned();
            return Err(LedgerError::KvKey { instance, size, size_max: KEY_SIZE_MAX });
        }
    }
    for edit in &edit.edits {
        let size = edit.value.as_ref().map_or(0, Vec::len);
        if size > VALUE_SIZE_MAX {
            let (instance, key) = (instance.to_owned(), edit.key.clone());
            return Err(LedgerError::KvValue { instance, key, size, size_max: VALUE_SIZE_MAX });
        }
    }
    Ok(())
}

pub(super) fn apply(stage: &mut Stage, instance: &str, edit: &KvEdit) -> Result<u64, LedgerError> {
    states::check_kv(&stage.catalog.holes, instance)?;
    let current = stage.catalog.kv_revisions.get(instance).copied().unwrap_or(0);
    if edit.revision != current {
        return Err(LedgerError::Conflict { current });
    }
    let revision = current + 1;
    let mut head = Writer::framed(HEAD);
    head.uint(revision);
    stage.journaled.push(Write::put(Table::States, states::kv_head_key(instance), head.seal()));
    let mut record = Writer::framed(REVISION);
    record.text(&edit.author);
    records::write_time(&mut record, edit.at);
    stage.journaled.push(Write::put(Table::Kv, key_of(instance, "", revision), record.seal()));
    for edit in &edit.edits {
        let mut record = Writer::framed(VALUE);
        record.u8(u8::from(edit.value.is_some()));
        record.raw(edit.value.as_deref().unwrap_or_default());
        let key = key_of(instance, &edit.key, revision);
        stage.journaled.extend(states::put_long(Table::Kv, &key, &record.seal()));
    }
    Arc::make_mut(&mut stage.catalog.kv_revisions).insert(instance.to_owned(), revision);
    passed(Step::ChangeRules);
    Ok(revision)
}

fn key_prefix(instance: &str, key: &str) -> Vec<u8> {
    [instance.as_bytes(), b"\0", key.as_bytes()].concat()
}

pub(super) fn key_of(instance: &str, key: &str, revision: u64) -> Vec<u8> {
    [&key_prefix(instance, key), b"\0".as_slice(), &revision.to_be_bytes()].concat()
}

/// A revision that can be read, and when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Revision {
    pub(super) revision: u64,
    pub(super) at: DateTime<Utc>,
}

/// Those of an instance, ascending.
pub(super) fn revisions(store: &Store, instance: &str) -> Result<Vec<Revision>, LedgerError> {
    let range = key_of(instance, "", 0)..=key_of(instance, "", u64::MAX);
    let mut revisions = Vec::new();
    for entry in store.range(Table::Kv, range) {
        let (stored, record) = entry?;
        let Some((_, _, revision)) = split(&stored, instance) else { continue };
        let place = || format!("revision {revision} of `{instance}`");
        let at = decode_revision(&record).map_err(|damage| damaged(place(), damage))?;
        revisions.push(Revision { revision, at });
    }
    Ok(revisions)
}

/// Whether a revision can be read; `newest` is that of the instance.
pub(super) fn check_kept(
    store: &Store,
    instance: &str,
    revision: u64,
    newest: u64,
) -> Result<(), LedgerError> {
    // Before the first one there was nothing.
    if revision == 0 || revision >= newest {
        return Ok(());
    }
    match store.get(Table::Kv, &key_of(instance, "", revision))? {
        Some(_) => Ok(()),
        None => Err(LedgerError::RevisionGone { instance: instance.to_owned(), revision }),
    }
}

/// The value of a key as of a revision.
pub(super) fn get(
    store: &Store,
    instance: &str,
    revision: u64,
    key: &str,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let first = key_of(instance, key, 0);
    let last = [key_of(instance, key, revision).as_slice(), &[0xFF; 2]].concat();
    match store.range(Table::Kv, first..=last).next_back() {
        None => Ok(None),
        Some(entry) => {
            let (stored, _) = entry?;
            let Some((_, _, revision)) = split(&stored, instance) else { return Ok(None) };
            read(store, instance, key, revision)
        }
    }
}

/// All keys with a prefix as of a revision, and the revision read.
pub(super) fn scan(
    store: &Store,
    catalog: &Catalog,
    instance: &str,
    revision: u64,
    prefix: &str,
) -> Result<(u64, rated_plugin::KvPairs), LedgerError> {
    states::check_kv(&catalog.holes, instance)?;
    let newest = catalog.kv_revisions.get(instance).copied().unwrap_or(0);
    let revision = revision.min(newest);
    let mut found: Vec<(String, u64)> = Vec::new();
    let begin = key_prefix(instance, prefix);
    // No key is empty: the records of revisions, in front, need not be read.
    let first = if prefix.is_empty() { key_prefix(instance, "\u{1}") } else { begin.clone() };
    for entry in store.range(Table::Kv, first..) {
        let (stored, _) = entry?;
        if !stored.starts_with(&begin) {
            break;
        }
        let damage = Damage("a key is not understood");
        let (key, part, of) = split(&stored, instance)
            .ok_or_else(|| damaged(format!("keys of `{instance}`"), damage))?;
        if part != 0 || of > revision {
            continue;
        }
        match found.last_mut() {
            Some((last, newest)) if last == key => *newest = of,
            _ => found.push((key.to_owned(), of)),
        }
    }
    let mut pairs = Vec::new();
    for (key, of) in found {
        if let Some(value) = read(store, instance, &key, of)? {
            pairs.push((key, value));
        }
    }
    Ok((revision, pairs))
}

/// Key, part and revision; the records of revisions have an empty key.
fn split<'k>(stored: &'k [u8], instance: &str) -> Option<(&'k str, u16, u64)> {
    let rest = stored.strip_prefix(instance.as_bytes())?.strip_prefix(b"\0")?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    let key = std::str::from_utf8(&rest[..end]).ok()?;
    let (revision, part) = rest[end + 1..].split_first_chunk::<8>()?;
    let part = part.first_chunk::<2>().map_or(0, |part| u16::from_be_bytes(*part));
    Some((key, part, u64::from_be_bytes(*revision)))
}

/// What stands at a key of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Revision,
    /// In parts.
    Value,
}

pub(super) fn kind_of(stored: &[u8]) -> Stored {
    // Neither an instance nor a key has a NUL, and no key is empty.
    let end = stored.iter().position(|byte| *byte == 0);
    let is_revision = end.is_some_and(|end| stored.get(end + 1) == Some(&0));
    if is_revision { Stored::Revision } else { Stored::Value }
}

/// Where the versions of a value stand (what their stored keys begin with), and which one it is.
/// `None` = it is no value.
pub(super) fn place_of(stored: &[u8]) -> Option<(&[u8], u64)> {
    let nul = |bytes: &[u8]| bytes.iter().position(|byte| *byte == 0);
    let key_begin = nul(stored)? + 1;
    let key_end = key_begin + nul(&stored[key_begin..])?;
    let revision = stored[key_end + 1..].first_chunk::<8>()?;
    (key_end > key_begin).then(|| (&stored[..=key_end], u64::from_be_bytes(*revision)))
}

/// Whose key it is that stands in such a place.
pub(super) fn instance_of(place: &[u8]) -> &str {
    let instance = place.split(|byte| *byte == 0).next().unwrap_or_default();
    std::str::from_utf8(instance).unwrap_or_default()
}

/// Whether the first part of a value says that the key was removed.
pub(super) fn is_removal(part: &[u8]) -> bool {
    let record = part.get(2..).unwrap_or_default();
    Reader::framed(VALUE, record).and_then(|mut record| record.u8()) == Ok(0)
}

pub(super) fn check_revision(bytes: &[u8]) -> Result<(), Damage> {
    decode_revision(bytes).map(|_| ())
}

fn decode_revision(bytes: &[u8]) -> Result<DateTime<Utc>, Damage> {
    let mut record = Reader::framed(REVISION, bytes)?;
    record.text()?;
    let at = records::read_time(&mut record)?;
    record.end()?;
    Ok(at)
}

pub(super) fn check_value(bytes: &[u8]) -> Result<(), Damage> {
    Reader::framed(VALUE, bytes)?.u8().map(|_| ())
}

fn read(
    store: &Store,
    instance: &str,
    key: &str,
    revision: u64,
) -> Result<Option<Vec<u8>>, LedgerError> {
    let place = || format!("key `{key}` of `{instance}` at revision {revision}");
    let wrong = |damage| damaged(place(), damage);
    let bytes = states::get_long(store, Table::Kv, &key_of(instance, key, revision))?;
    let bytes = bytes.ok_or_else(|| wrong(Damage("it is missing")))?;
    let mut record = Reader::framed(VALUE, &bytes).map_err(wrong)?;
    match record.u8().map_err(wrong)? {
        0 => Ok(None),
        _ => Ok(Some(record.raw(record.left()).map_err(wrong)?.to_vec())),
    }
}
