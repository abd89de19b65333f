//! Dictionaries: the texts of an attribute column, stored once and named by codes in all blocks.
//!
//! ```text
//! key   = dictionary:u32be chunk:u32be
//! chunk = frame('X', 1) packed({ text })
//! ```
//!
//! Code 0 is "absent"; the text at `index` of `chunk` has the code `1 + chunk * 1024 + index`. A
//! dictionary only ever grows at its end; the last chunk is written again with more texts, so that
//! a crash in between leaves texts that nobody names, never a name without its text.
//!
//! A metric's column has one dictionary at a time; when it is full the next one begins.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use super::catalog::MetricNumber;
use super::codec::{Damage, Kind, Packed, Reader, Writer, pack};
use super::holes::Holes;
use super::records;
use super::store::{Store, Table, Write, damaged};
use crate::ledger::LedgerError;

pub(super) const CHUNK: Kind = Kind(b'X', 1);
const CHUNK_TEXTS_MAX: u32 = 1024;
const CHUNK_SIZE_MAX: usize = 32 << 10;
/// A dictionary that has so many chunks is left behind: its texts would fill the memory.
const CHUNKS_MAX: u32 = 512;

/// Longest text of an attribute, bytes.
pub(super) const TEXT_SIZE_MAX: usize = 16 << 10;

/// Most texts kept in memory to read, and to write.
const TEXTS_CACHED_MAX: usize = 512 << 10;

/// Code of a row that does not have the attribute.
pub(super) const ABSENT: u32 = 0;

/// A number that no dictionary and no chunk has ever got: there are no more behind it.
const TOO_BIG: Damage = Damage("a number is too big");

/// Key prefix of the records that say which dictionary a column has.
pub(super) const REGISTRY: &[u8] = b"dictionary/";

pub(super) fn registry_key(metric: MetricNumber, column: &str) -> Vec<u8> {
    [REGISTRY, &metric.to_be_bytes(), column.as_bytes()].concat()
}

fn chunk_key(dictionary: u32, chunk: u32) -> Vec<u8> {
    [dictionary.to_be_bytes(), chunk.to_be_bytes()].concat()
}

#[derive(Debug, Default)]
pub(super) struct Texts {
    writer: Mutex<TextWriter>,
    chunks: Mutex<ChunkCache>,
}

#[derive(Debug, Default)]
struct TextWriter {
    registry: HashMap<(MetricNumber, String), u32>,
    next_dictionary: u32,
    /// Whether a part of the register could not be read: a column that is not known may be in it.
    is_torn: bool,
    dictionaries: HashMap<u32, Dictionary>,
    /// Not in the store yet.
    early: Vec<Write>,
    journaled: Vec<Write>,
}

#[derive(Debug, Default)]
struct Dictionary {
    /// Texts and their codes, in order of codes.
    known: Vec<(Arc<str>, u32)>,
    /// Index of a text in `known`.
    places: HashMap<Arc<str>, usize>,
    /// The text after the one that was asked for last: what comes again from period to period
    /// mostly comes in the same order, and comparing is faster than hashing.
    next: usize,
    chunk: u32,
    /// The texts of the last chunk.
    tail: Vec<Arc<str>>,
    tail_size: usize,
    is_tail_dirty: bool,
}

type Chunk = Arc<Vec<Arc<str>>>;

#[derive(Debug, Default)]
struct ChunkCache {
    chunks: HashMap<(u32, u32), Chunk>,
    texts: usize,
}

/// New texts and dictionaries that a group must write before its blocks.
#[derive(Debug, Default)]
pub(super) struct NewTexts {
    pub(super) early: Vec<Write>,
    pub(super) journaled: Vec<Write>,
    /// How many texts dictionaries have with them.
    pub(super) counts: Vec<(u32, u32)>,
}

impl Texts {
    /// A column whose record is damaged gets another dictionary.
    pub(super) fn load(store: &Store, holes: &Holes) -> Result<Texts, LedgerError> {
        let mut writer = TextWriter::default();
        let end = [REGISTRY, &[0xFF; 1]].concat();
        for entry in store.range_as_it_is(Table::States, REGISTRY.to_vec()..end) {
            // Told where states are read.
            let Ok((key, value)) = entry else {
                writer.is_torn = true;
                break;
            };
            let Ok(numbers) = records::decode_numbers(&value) else { continue };
            if let (Some(column), [number]) = (split_registry_key(&key), &numbers[..]) {
                writer.next_dictionary = writer.next_dictionary.max(number.saturating_add(1));
                writer.registry.insert(column, *number);
            }
        }
        if holes.check(Table::States).is_err() {
            match dictionaries(store) {
                Ok(found) => {
                    let next = found.last().map_or(0, |last| last.saturating_add(1));
                    writer.next_dictionary = writer.next_dictionary.max(next);
                }
                Err(LedgerError::Damaged { .. }) => writer.is_torn = true,
                Err(error) => return Err(error),
            }
        }
        Ok(Texts { writer: Mutex::new(writer), chunks: Mutex::default() })
    }

    /// The dictionary of a column, and the codes of texts in it; unknown texts are added.
    pub(super) fn encode<'a>(
        &self,
        store: &Store,
        (metric, column): (MetricNumber, &str),
        texts: impl Iterator<Item = &'a str>,
    ) -> Result<(u32, Vec<u32>), LedgerError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let number = writer.dictionary_of(store, metric, column)?;
        let dictionary = writer.dictionaries.entry(number).or_default();
        let mut early = Vec::new();
        let codes = texts.map(|text| dictionary.code(number, text, &mut early)).collect();
        writer.early.append(&mut early);
        Ok((number, codes))
    }

    /// What must be in the store before any block that names it.
    pub(super) fn take_new(&self) -> NewTexts {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = &mut *writer;
        let mut counts = Vec::new();
        for (number, dictionary) in &mut writer.dictionaries {
            if let Some(tail) = dictionary.take_tail(*number) {
                writer.early.push(tail);
                let count = u32::try_from(dictionary.tail.len()).unwrap_or(CHUNK_TEXTS_MAX);
                counts.push((*number, dictionary.chunk * CHUNK_TEXTS_MAX + count));
            }
        }
        NewTexts {
            early: std::mem::take(&mut writer.early),
            journaled: std::mem::take(&mut writer.journaled),
            counts,
        }
    }

    /// What was taken did not get there: the next group has to write it.
    pub(super) fn put_back(&self, new: NewTexts) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = &mut *writer;
        // In front: a chunk may have grown since.
        writer.early.splice(0..0, new.early);
        writer.journaled.splice(0..0, new.journaled);
        for (number, _) in new.counts {
            if let Some(dictionary) = writer.dictionaries.get_mut(&number) {
                dictionary.is_tail_dirty = true;
            }
        }
    }

    /// What was taken is in the store: dictionaries may be forgotten, to be read again.
    pub(super) fn settle(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let count: usize = writer.dictionaries.values().map(|each| each.known.len()).sum();
        let is_dirty = writer.dictionaries.values().any(|each| each.is_tail_dirty);
        if count > TEXTS_CACHED_MAX && !is_dirty && writer.early.is_empty() {
            writer.dictionaries.clear();
        }
    }

    /// The texts of codes; `None` = absent.
    pub(super) fn decode(
        &self,
        store: &Store,
        dictionary: u32,
        codes: &[u32],
    ) -> Result<Vec<Option<Arc<str>>>, LedgerError> {
        let mut texts = Vec::with_capacity(codes.len());
        let mut chunk: Option<(u32, Chunk)> = None;
        for code in codes {
            let Some(place) = code.checked_sub(1) else {
                texts.push(None);
                continue;
            };
            let (number, index) = (place / CHUNK_TEXTS_MAX, (place % CHUNK_TEXTS_MAX) as usize);
            let at_hand =
                chunk.take().filter(|(other, texts)| *other == number && index < texts.len());
            let texts_of_chunk = match at_hand {
                Some((_, texts)) => texts,
                None => self.chunk(store, dictionary, number, index)?,
            };
            texts.push(texts_of_chunk.get(index).cloned());
            chunk = Some((number, texts_of_chunk));
        }
        Ok(texts)
    }

    /// A chunk that has at least `index + 1` texts.
    fn chunk(
        &self,
        store: &Store,
        dictionary: u32,
        chunk: u32,
        index: usize,
    ) -> Result<Chunk, LedgerError> {
        let key = (dictionary, chunk);
        let cached = self.lock_chunks().chunks.get(&key).cloned();
        if let Some(texts) = cached.filter(|texts| index < texts.len()) {
            return Ok(texts);
        }
        let place = || format!("texts {dictionary}/{chunk}");
        let missing = || damaged(place(), Damage("a text is missing"));
        let bytes = store.get(Table::Texts, &chunk_key(dictionary, chunk))?.ok_or_else(missing)?;
        let texts = decode_chunk(&bytes).map_err(|damage| damaged(place(), damage))?;
        if index >= texts.len() {
            return Err(missing());
        }
        let texts = Arc::new(texts);
        let mut cache = self.lock_chunks();
        if cache.texts > TEXTS_CACHED_MAX {
            *cache = ChunkCache::default();
        }
        cache.texts += texts.len();
        cache.chunks.insert(key, Arc::clone(&texts));
        Ok(texts)
    }

    fn lock_chunks(&self) -> std::sync::MutexGuard<'_, ChunkCache> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many texts a dictionary has.
pub(super) fn count(store: &Store, dictionary: u32) -> Result<u32, LedgerError> {
    let wrong = |damage| damaged(format!("texts {dictionary}"), damage);
    let range = chunk_key(dictionary, 0)..=chunk_key(dictionary, u32::MAX);
    let Some(last) = store.range_as_it_is(Table::Texts, range).next_back() else { return Ok(0) };
    let (key, value) = last?;
    let chunk = key.last_chunk::<4>().ok_or(wrong(Damage("its key is too short")))?;
    let count = decode_chunk(&value).map_err(wrong)?.len();
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    Ok(u32::from_be_bytes(*chunk).saturating_mul(CHUNK_TEXTS_MAX).saturating_add(count))
}

/// Those that have a text.
pub(super) fn dictionaries(store: &Store) -> Result<Vec<u32>, LedgerError> {
    let mut found = Vec::new();
    let mut next = Some(0_u32);
    while let Some(number) = next {
        let mut rest = store.range_as_it_is(Table::Texts, chunk_key(number, 0)..);
        let Some(first) = rest.next() else { break };
        let key = first?.0;
        let number = key.first_chunk::<4>().map(|number| u32::from_be_bytes(*number));
        found.extend(number);
        next = number.and_then(|number| number.checked_add(1));
    }
    Ok(found)
}

pub(super) fn check_chunk(bytes: &[u8]) -> Result<(), Damage> {
    decode_chunk(bytes).map(|_| ())
}

fn split_registry_key(key: &[u8]) -> Option<(MetricNumber, String)> {
    let (metric, column) = key.strip_prefix(REGISTRY)?.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*metric), String::from_utf8(column.to_vec()).ok()?))
}

impl TextWriter {
    fn dictionary_of(
        &mut self,
        store: &Store,
        metric: MetricNumber,
        column: &str,
    ) -> Result<u32, LedgerError> {
        let key = (metric, column.to_owned());
        if let Some(number) = self.registry.get(&key).copied() {
            let loaded = match self.dictionaries.entry(number) {
                Entry::Occupied(entry) => Ok(entry.into_mut()),
                Entry::Vacant(entry) => {
                    Dictionary::load(store, number).map(|found| entry.insert(found))
                }
            };
            let loaded = loaded.and_then(|dictionary| {
                check_end(store, number, dictionary.chunk)?;
                Ok(dictionary)
            });
            match loaded {
                Ok(dictionary) if dictionary.chunk < CHUNKS_MAX => return Ok(number),
                // What is damaged is read by nobody, and written by nobody.
                Ok(_) | Err(LedgerError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if self.is_torn {
            let place = "register of dictionaries".to_owned();
            return Err(damaged(place, Damage("a part of it cannot be read")));
        }
        let number = self.next_dictionary;
        check_end(store, number, 0)?;
        self.next_dictionary += 1;
        let record = records::encode_numbers(&[number]);
        self.journaled.push(Write::put(Table::States, registry_key(metric, column), record));
        self.registry.insert(key, number);
        Ok(number)
    }
}

/// Whether texts can be written behind those that a dictionary has: into a torn page nothing can,
/// and a failed write would stop all changes.
fn check_end(store: &Store, number: u32, chunk: u32) -> Result<(), LedgerError> {
    for chunk in [chunk, chunk.saturating_add(1)] {
        store.get_as_it_is(Table::Texts, &chunk_key(number, chunk))?;
    }
    Ok(())
}

impl Dictionary {
    fn load(store: &Store, number: u32) -> Result<Dictionary, LedgerError> {
        let mut dictionary = Dictionary::default();
        for entry in store.prefix(Table::Texts, &number.to_be_bytes()) {
            let (key, value) = entry?;
            let wrong = |damage| damaged(format!("texts {number}"), damage);
            let chunk = key.last_chunk::<4>().ok_or(wrong(Damage("its key is too short")))?;
            dictionary.chunk = u32::from_be_bytes(*chunk);
            dictionary.tail = decode_chunk(&value).map_err(wrong)?;
            dictionary.tail_size = 0;
            let first = first_code(dictionary.chunk, &dictionary.tail).map_err(wrong)?;
            for (code, text) in (first..).zip(&dictionary.tail) {
                dictionary.tail_size += stored_size(text);
                dictionary.places.insert(Arc::clone(text), dictionary.known.len());
                dictionary.known.push((Arc::clone(text), code));
            }
        }
        Ok(dictionary)
    }

    fn code(&mut self, number: u32, text: &str, early: &mut Vec<Write>) -> u32 {
        if let Some(code) = self.known_code(text) {
            return code;
        }
        let is_full = self.tail.len() >= CHUNK_TEXTS_MAX as usize
            || self.tail_size + stored_size(text) > CHUNK_SIZE_MAX;
        if is_full {
            early.extend(self.take_tail(number));
            self.chunk += 1;
            self.tail.clear();
            self.tail_size = 0;
        }
        let index = u32::try_from(self.tail.len()).expect("a chunk has 1,024 texts at most");
        let code = 1 + self.chunk * CHUNK_TEXTS_MAX + index;
        let text: Arc<str> = text.into();
        self.tail_size += stored_size(&text);
        self.tail.push(Arc::clone(&text));
        self.is_tail_dirty = true;
        self.places.insert(Arc::clone(&text), self.known.len());
        self.known.push((text, code));
        self.next = self.known.len();
        code
    }

    fn known_code(&mut self, text: &str) -> Option<u32> {
        let is_next = self.known.get(self.next).is_some_and(|(next, _)| **next == *text);
        let place = if is_next { self.next } else { *self.places.get(text)? };
        self.next = place + 1;
        self.known.get(place).map(|(_, code)| *code)
    }

    fn take_tail(&mut self, number: u32) -> Option<Write> {
        if !std::mem::take(&mut self.is_tail_dirty) {
            return None;
        }
        let mut texts = Writer::new();
        for text in &self.tail {
            texts.text(text);
        }
        let mut record = Writer::framed(CHUNK);
        pack(&mut record, &texts.into_bytes());
        Some(Write::put(Table::Texts, chunk_key(number, self.chunk), record.seal()))
    }
}

/// The code of a chunk's first text, if those of all texts of it and of the next chunk are numbers.
fn first_code(chunk: u32, texts: &[Arc<str>]) -> Result<u32, Damage> {
    if texts.len() > CHUNK_TEXTS_MAX as usize {
        return Err(Damage("it has too many texts"));
    }
    let behind = chunk.checked_add(2).and_then(|chunk| chunk.checked_mul(CHUNK_TEXTS_MAX));
    behind.ok_or(TOO_BIG)?;
    Ok(1 + chunk * CHUNK_TEXTS_MAX)
}

/// With its length in front.
fn stored_size(text: &str) -> usize {
    text.len() + 3
}

pub(super) fn decode_chunk(bytes: &[u8]) -> Result<Vec<Arc<str>>, Damage> {
    let mut record = Reader::framed(CHUNK, bytes)?;
    let texts = Packed::read(&mut record)?.unpack()?;
    let mut texts = Reader::new(&texts);
    let mut list = Vec::new();
    while !texts.is_empty() {
        list.push(texts.text()?.into());
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::super::opening::SledOptions;
    use super::super::store::Failing;
    use super::*;

    #[test]
    fn a_column_whose_dictionary_cannot_be_looked_up_gets_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), SledOptions::default()).unwrap();
        store.put_as_it_is(Table::States, &registry_key(0, "flavor"), b"whatever");
        *store.failing.lock().unwrap() = Some(Failing::all_of(Table::States));
        let texts = Texts::load(&store, &Holes::default()).unwrap();
        *store.failing.lock().unwrap() = None;

        let encoded = texts.encode(&store, (0, "flavor"), ["small"].into_iter());

        assert!(matches!(encoded, Err(LedgerError::Damaged { .. })), "{encoded:?}");
        assert!(texts.take_new().journaled.is_empty(), "nothing waits to be written");
    }
}
