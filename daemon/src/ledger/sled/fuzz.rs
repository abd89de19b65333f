//! Stored bytes as a fuzzer has them: whatever they are, reading them ends in a value that can be
//! written and read again, or in damage.
//!
//! The checksum is put right before a record is read, else none would be: it says that a record is
//! as it was written, not that whoever wrote it was right.

use super::block::{AttributeColumn, AttributeRows, Block, RowSet};
use super::codec::{Damage, Writer};
use super::columns::BLOCK_ROWS_MAX;
use super::lost::Lost;
use super::marks::Mark;
use super::numbers::Decimals;
use super::rollup::{ROLLUP_SCOPES_MAX, RollupColumns, decode_scopes_with_rows, encode_rollup};
use super::seal::{Root, Seal};
use super::slice::Slice;
use super::store::Write;
use super::{
    aside, cursors, data, header, journal, kv, push, records, reprocessing, states, texts,
};
use crate::usage::SUM_SCALE;

/// A few bytes may stand for many scopes in step. They are as good as a few, and take longer: more
/// are refused here as more than `SCOPES_MAX` are by the daemon.
const SCOPES_MAX: usize = 4096;
/// Numbers beyond this are not written: quantities and prices have 96 bits.
const NUMBER_LIMIT: u128 = 1 << 96;

/// A record of a kind with a sound checksum; the bytes begin with its version.
fn sealed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut record = Writer::new();
    record.u8(kind);
    record.raw(bytes);
    record.seal()
}

/// The bytes of a block behind its kind and before its checksum.
pub(crate) fn block(bytes: &[u8]) {
    let record = sealed(b'B', bytes);
    let Ok(block) = Block::read(&record) else { return };
    assert!(block.rows <= BLOCK_ROWS_MAX, "{} rows", block.rows);
    let Ok(rows) = rows_of(&block) else { return };
    let fits = |values: &[i128]| values.iter().all(|value| value.unsigned_abs() < NUMBER_LIMIT);
    if !fits(&rows.qty) || !fits(&rows.price) {
        return;
    }

    let mut again =
        RowSet { qty_scale: rows.qty_scale, price_scale: rows.price_scale, ..RowSet::default() };
    for encoded in rows.encode() {
        let block = Block::read(&encoded.bytes).expect("it was just written");
        assert_eq!(block.rows, encoded.rows);
        append(&mut again, rows_of(&block).expect("it was just written"));
    }

    if rows.scopes.is_empty() {
        // No block is written, so nothing says what it has no rows of.
        again.attributes.clone_from(&rows.attributes);
    }
    assert_eq!(again, rows);
}

/// All rows, as whoever wrote the block had them.
fn rows_of(block: &Block<'_>) -> Result<RowSet, Damage> {
    let scopes = block.scopes()?;
    let scopes: Vec<u32> =
        scopes.iter().flat_map(|run| std::iter::repeat_n(run.scope, run.rows)).collect();
    let attributes = block.attributes.iter().map(|column| attribute_of(column, block.rows));
    let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
    let Decimals { scale: qty_scale, values: qty } = block.qty()?;
    let Decimals { scale: price_scale, values: price } = block.price()?;
    for count in [scopes.len(), qty.len(), price.len()] {
        assert_eq!(count, block.rows);
    }
    assert!(qty_scale <= SUM_SCALE && price_scale <= SUM_SCALE);
    let measured = block.measured()?;
    assert_eq!((measured.qty_scale, &measured.qty.into_wide()), (qty_scale, &qty));
    let finer = 10_i128.pow(u32::from(measured.price_scale - price_scale));
    let coarse = measured.price.into_wide().into_iter().map(|price| price / finer);
    assert_eq!(coarse.collect::<Vec<i128>>(), price);
    Ok(RowSet { scopes, qty_scale, qty, price_scale, price, attributes })
}

fn attribute_of(column: &AttributeColumn<'_>, rows: usize) -> Result<AttributeRows, Damage> {
    let codes = column.codes(rows)?;
    assert!(codes.distinct.len() <= rows, "{} codes in {rows} rows", codes.distinct.len());
    assert_eq!(codes.indexes.len(), rows);
    let code = |index: &u32| codes.distinct[*index as usize];
    let codes = codes.indexes.iter().map(code).collect();
    Ok(AttributeRows { name: column.name.clone(), dictionary: column.dictionary, codes })
}

fn append(all: &mut RowSet, part: RowSet) {
    if all.scopes.is_empty() {
        *all = part;
        return;
    }
    all.scopes.extend(part.scopes);
    all.qty.extend(part.qty);
    all.price.extend(part.price);
    for (column, part) in all.attributes.iter_mut().zip(part.attributes) {
        column.codes.extend(part.codes);
    }
}

/// The bytes of a rollup behind its kind and before its checksum.
pub(crate) fn rollup(bytes: &[u8]) {
    let record = sealed(b'R', bytes);
    let with_rows = decode_scopes_with_rows(&record);
    let Ok(columns) = RollupColumns::decode(&record) else { return };
    let entries: Vec<_> = columns.entries().collect();
    assert!(entries.len() <= ROLLUP_SCOPES_MAX, "{} scopes", entries.len());
    let expected = entries.iter().filter(|entry| entry.sums.rows > 0).map(|entry| entry.scope);
    assert_eq!(with_rows, Ok(expected.collect()));

    let again = RollupColumns::decode(&encode_rollup(&entries)).expect("it was just written");

    assert_eq!(again.entries().collect::<Vec<_>>(), entries);
}

/// What is read comes back when it is written.
fn comes_back<T: PartialEq + std::fmt::Debug>(
    record: &[u8],
    read: impl Fn(&[u8]) -> Result<T, Damage>,
    write: impl FnOnce(&T) -> Vec<u8>,
) {
    if let Ok(value) = read(record) {
        assert_eq!(read(&write(&value)).as_ref(), Ok(&value));
    }
}

/// A small record: which one, then its bytes behind the kind and before the checksum.
pub(crate) fn record(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let record = |kind| sealed(kind, bytes);
    match choice % 32 {
        0 | 16 => slice(bytes),
        1 => comes_back(
            &record(b'C'),
            |bytes| cursors::decode_of(bytes, SCOPES_MAX),
            |cursors| {
                for cursor in cursors {
                    let _ = cursor.last_begin_secs();
                }
                cursors::encode(cursors)
            },
        ),
        2 => comes_back(
            &record(b'S'),
            |bytes| records::decode_scope(7, bytes),
            records::encode_scope,
        ),
        3 => comes_back(&record(b'M'), records::decode_metric, records::encode_metric),
        4 => comes_back(&record(b'H'), records::decode_chain, records::encode_chain),
        5 => comes_back(
            &record(b'N'),
            |bytes| records::decode_note_of(bytes, SCOPES_MAX),
            |note| {
                assert!(note.scopes.len() <= SCOPES_MAX);
                records::encode_note(note)
            },
        ),
        6 => comes_back(&record(b'U'), records::decode_module, |state| {
            records::encode_module(*state)
        }),
        7 => comes_back(&record(b'V'), records::decode_collector, |on| {
            records::encode_collector(*on)
        }),
        8 => comes_back(&record(b'W'), records::decode_mapping, records::encode_mapping),
        9 => comes_back(&record(b'O'), records::decode_counters, |counters| {
            records::encode_counters(*counters)
        }),
        10 => comes_back(&record(b'Q'), records::decode_numbers, |numbers| {
            records::encode_numbers(numbers)
        }),
        11 => comes_back(&record(b'T'), reprocessing::decode, reprocessing::encode),
        12 => comes_back(bytes, journal::decode_writes, |writes| journal::encode_writes(writes)),
        13 => drop(texts::decode_chunk(&sealed(texts::CHUNK.0, bytes))),
        14 => {
            let _ = kv::decode_head(&record(b'K'));
        }
        15 => {
            let _ = push::decode_digest(&record(b'Y'));
        }
        17..20 => seal(choice % 32, bytes),
        20 => mark(bytes),
        21 => drop(kv::check_revision(&record(b'E'))),
        22 => drop(kv::check_value(&record(b'F'))),
        23 => drop(header::read_header(&record(b'L'))),
        24 => with_key(bytes, data::check_entry),
        _ => with_key(bytes, states::check_record),
    }
}

/// What says what records add up to, and what is gone.
fn seal(choice: u8, bytes: &[u8]) {
    let value = |write: Write| write.value.expect("it was put");
    match choice {
        17 => comes_back(&sealed(b'Z', bytes), Seal::decode, |seal| seal.encode()),
        18 => comes_back(&sealed(b'A', bytes), Root::decode, |root| value(root.write())),
        _ => comes_back(&sealed(b'G', bytes), Lost::decode, |lost| value(lost.write())),
    }
}

/// A slot of the file beside sled, its checksum put right.
fn mark(bytes: &[u8]) {
    let Some(mark) = Mark::decode(&sealed(b'M', bytes)) else { return };
    assert_eq!(Mark::decode(&mark.encode()), Some(mark));
}

/// A key, its size in front, and the record's bytes with their kind.
fn with_key(bytes: &[u8], check: fn(&[u8], &[u8]) -> Result<(), Damage>) {
    let Some((size, bytes)) = bytes.split_first() else { return };
    let Some((key, bytes)) = bytes.split_at_checked(usize::from(*size)) else { return };
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let _ = check(key, &sealed(*kind, bytes));
}

/// The records of a backup behind their magic bytes: as many bytes as were read are written.
pub(crate) fn backup_records(bytes: &[u8]) {
    let mut written = Writer::new();
    let mut records = bytes;
    while let Ok(Some((table, key, value))) = aside::next_record(&mut records) {
        written.u8(table as u8);
        written.bytes(&key);
        written.bytes(&value);
    }
    let written = written.into_bytes();
    // Sizes may be written in more bytes than they need.
    assert!(written.len() <= bytes.len());
}

/// A slice's key, then its record.
fn slice(bytes: &[u8]) {
    let Some((key, bytes)) = bytes.split_at_checked(20) else { return };
    let record = sealed(b'I', bytes);
    let Ok(slice) = Slice::decode(key, &record) else { return };
    // What readers do with it before they read its parts.
    let _ = (slice.data_file(), slice.sums(), slice.has_rows());
    let end = slice.offset + slice.extent_size();
    assert!((0..slice.rollups.len()).all(|part| slice.rollup_offset(part) <= end));
    assert!((0..slice.blocks.len()).all(|part| slice.block_offset(part) <= end));
    for part in &slice.rollups {
        let _ = part.is_full();
        let _ = slice.removed.meets(part.first_scope, part.last_scope);
        let _ = slice.removed.covers(part.first_scope, part.last_scope);
    }
    assert_eq!(slice.key().bytes(), key);

    assert_eq!(Slice::decode(key, &slice.encode()).as_ref(), Ok(&slice));
}
