//! The journal: one record with all writes of a change, durable before any of them is in its place.

use std::sync::atomic::Ordering::Relaxed;

use super::codec::{self, Damage, Kind, Packed, Reader, Writer};
use super::store::{Store, TABLES, Table, VALUE_SIZE_MAX, Write, damaged};
use crate::fault::{Step, passed};
use crate::ledger::LedgerError;

pub(super) const JOURNAL: &[u8] = b"journal";
const JOURNAL_KIND: Kind = Kind(b'J', 2);
/// About how many bytes of writes are packed together: well below what a packed column may have.
const JOURNAL_PIECE_SIZE: usize = 8 << 20;

impl Store {
    /// After this the writes are durable, all or none of them, but not in their places yet:
    /// [`Store::apply`] puts them there, now or when the store is opened again.
    pub(super) fn journal(&self, writes: &[Write]) -> Result<(), LedgerError> {
        let slot = self.journal_slot.fetch_xor(1, Relaxed);
        let body = encode_writes(writes);
        let parts: Vec<&[u8]> = body.chunks(VALUE_SIZE_MAX).collect();
        let [inline] = parts.as_slice() else {
            return self.journal_in_parts(slot, &parts);
        };
        self.write_journal_header(slot, 0, inline)
    }

    fn journal_in_parts(&self, slot: u8, parts: &[&[u8]]) -> Result<(), LedgerError> {
        let mut early = Vec::new();
        for (index, part) in (0_u32..).zip(parts) {
            early.push(Write::put(Table::Meta, journal_part_key(slot, index), part.to_vec()));
        }
        self.write_early(&early)?;
        let crc = crc32fast::hash(&parts.concat());
        self.write_journal_header(slot, parts.len(), &crc.to_le_bytes())
    }

    fn write_journal_header(&self, slot: u8, parts: usize, rest: &[u8]) -> Result<(), LedgerError> {
        let mut header = Writer::framed(JOURNAL_KIND);
        header.u8(slot);
        header.count(parts);
        header.raw(rest);
        self.write_one(&Write::put(Table::Meta, JOURNAL.to_vec(), header.seal()))?;
        passed(Step::GroupJournalWritten);
        self.sync()?;
        passed(Step::GroupDurable);
        Ok(())
    }

    pub(super) fn replay_journal(&self) -> Result<(), LedgerError> {
        let Some((slot, writes)) = self.last_journal()? else { return Ok(()) };
        self.journal_slot.store((slot & 1) ^ 1, Relaxed);
        passed(Step::StartJournalRead);
        self.write_all(&writes, Step::StartReplaying)?;
        passed(Step::StartReplayed);
        Ok(())
    }

    /// What the last change wrote; a start writes it again.
    pub(super) fn last_journal(&self) -> Result<Option<(u8, Vec<Write>)>, LedgerError> {
        let Some(bytes) = self.get(Table::Meta, JOURNAL)? else { return Ok(None) };
        let damaged = |damage| damaged("journal".to_owned(), damage);
        let mut header = Reader::versioned(JOURNAL_KIND, &bytes).map_err(damaged)?.1;
        let slot = header.u8().map_err(damaged)?;
        let parts = header.count(usize::from(u16::MAX)).map_err(damaged)?;
        let body = if parts == 0 {
            header.raw(header.left()).map_err(damaged)?.to_vec()
        } else {
            self.read_journal_parts(slot, parts, header)?
        };
        Ok(Some((slot, decode_writes(&body).map_err(damaged)?)))
    }

    fn read_journal_parts(
        &self,
        slot: u8,
        parts: usize,
        mut header: Reader<'_>,
    ) -> Result<Vec<u8>, LedgerError> {
        let damaged = |damage| damaged("journal".to_owned(), damage);
        let mut body = Vec::new();
        for (index, _) in (0_u32..).zip(0..parts) {
            let part = self.get(Table::Meta, &journal_part_key(slot, index))?;
            body.extend_from_slice(&part.ok_or(damaged(Damage("a part is missing")))?);
        }
        let crc = header.raw(4).map_err(damaged)?;
        if crc == crc32fast::hash(&body).to_le_bytes() {
            Ok(body)
        } else {
            Err(damaged(Damage("its checksum does not fit")))
        }
    }
}

/// Of the record, not of its parts.
pub(super) fn check_record(bytes: &[u8]) -> Result<(), Damage> {
    Reader::versioned(JOURNAL_KIND, bytes).map(|_| ())
}

fn journal_part_key(slot: u8, index: u32) -> Vec<u8> {
    [JOURNAL, &[b'/', slot], &index.to_be_bytes()].concat()
}

/// Packed, in pieces.
pub(super) fn encode_writes(writes: &[Write]) -> Vec<u8> {
    let mut body = Writer::new();
    let mut piece = Writer::new();
    for write in writes {
        piece.u8(write.table as u8);
        piece.bytes(&write.key);
        piece.u8(u8::from(write.value.is_some()));
        if let Some(value) = &write.value {
            piece.bytes(value);
        }
        if piece.len() >= JOURNAL_PIECE_SIZE {
            let full = std::mem::replace(&mut piece, Writer::new());
            codec::pack(&mut body, &full.into_bytes());
        }
    }
    codec::pack(&mut body, &piece.into_bytes());
    body.into_bytes()
}

pub(super) fn decode_writes(body: &[u8]) -> Result<Vec<Write>, Damage> {
    let mut pieces = Reader::new(body);
    let mut writes = Vec::new();
    while !pieces.is_empty() {
        let piece = Packed::read(&mut pieces)?.unpack()?;
        let mut reader = Reader::new(&piece);
        while !reader.is_empty() {
            let table = TABLES.get(usize::from(reader.u8()?)).ok_or(Damage("it names no table"))?;
            let key = reader.bytes()?.to_vec();
            let value = match reader.u8()? {
                0 => None,
                _ => Some(reader.bytes()?.to_vec()),
            };
            writes.push(Write { table: table.0, key, value });
        }
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_of_many_pieces_is_read_back() {
        let write = |number: u32| match number % 3 {
            0 => Write::remove(Table::Slices, number.to_be_bytes().to_vec()),
            _ => Write::put(Table::Blocks, number.to_be_bytes().to_vec(), vec![7; VALUE_SIZE_MAX]),
        };
        let writes: Vec<Write> = (0..900).map(write).collect();
        let size: usize = writes.iter().map(Write::size).sum();
        assert!(size > 2 * JOURNAL_PIECE_SIZE);

        let read = decode_writes(&encode_writes(&writes)).unwrap();

        assert!(read == writes);
    }
}
