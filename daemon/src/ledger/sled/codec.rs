//! Bytes of stored records: variable-length integers, texts, and the frame with version and CRC.

use std::cell::RefCell;
use std::io;

use arrow_buffer::i256;

/// What is wrong with stored bytes; the caller adds the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damage(pub(super) &'static str);

/// Kind and version of a framed record: the first two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8, pub(super) u8);

/// Builds a record.
#[derive(Debug)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new() -> Writer {
        Writer(Vec::new())
    }

    /// A record that ends with [`Writer::seal`].
    pub(super) fn framed(kind: Kind) -> Writer {
        Writer(vec![kind.0, kind.1])
    }

    /// Appends the CRC of all before.
    pub(super) fn seal(mut self) -> Vec<u8> {
        let crc = crc32fast::hash(&self.0);
        self.0.extend_from_slice(&crc.to_le_bytes());
        self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// Seven bits a byte, lowest first, the top bit says "more follows".
    pub(super) fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low_byte(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_byte(value));
    }

    pub(super) fn count(&mut self, value: usize) {
        self.uint(value as u64);
    }

    /// Zigzag: small numbers of either sign are short.
    pub(super) fn int(&mut self, value: i64) {
        self.uint(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    /// Length, then as many bytes of the two's complement as are needed, lowest first.
    pub(super) fn wide(&mut self, value: i256) {
        let bytes = value.to_le_bytes();
        let fill = if value < i256::ZERO { 0xFF } else { 0 };
        let mut len = bytes.len();
        while len > 0 && bytes[len - 1] == fill {
            len -= 1;
        }
        // The top bit of the last byte kept is the sign.
        let sign_shows = len > 0 && (bytes[len - 1] & 0x80 != 0) == (fill == 0xFF);
        if !sign_shows && (len > 0 || fill == 0xFF) {
            len += 1;
        }
        self.0.push(low_byte(len as u64));
        self.0.extend_from_slice(&bytes[..len]);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

fn low_byte(value: u64) -> u8 {
    value.to_le_bytes()[0]
}

/// Reads a record; never panics on any bytes.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    /// The payload of a sealed record, its CRC, kind and version checked.
    pub(super) fn framed(kind: Kind, bytes: &'a [u8]) -> Result<Reader<'a>, Damage> {
        match Reader::versioned(kind, bytes)? {
            (version, payload) if version == kind.1 => Ok(payload),
            _ => Err(Damage("it has a version not known here")),
        }
    }

    /// As `framed`, of that version or an older one, and the version.
    pub(super) fn versioned(kind: Kind, bytes: &'a [u8]) -> Result<(u8, Reader<'a>), Damage> {
        let Some((body, crc)) = bytes.split_last_chunk::<4>() else {
            return Err(Damage("it is too short"));
        };
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(Damage("its checksum does not fit"));
        }
        match body {
            [found, version, payload @ ..]
                if *found == kind.0 && (1..=kind.1).contains(version) =>
            {
                Ok((*version, Reader(payload)))
            }
            [found, ..] if *found == kind.0 => Err(Damage("it has a version not known here")),
            _ => Err(Damage("it is of another kind")),
        }
    }

    /// Whether the checksum at the end of a record fits.
    pub(super) fn is_sealed(bytes: &[u8]) -> bool {
        let split = bytes.split_last_chunk::<4>();
        split.is_some_and(|(body, crc)| crc32fast::hash(body) == u32::from_le_bytes(*crc))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything must have been read.
    pub(super) fn end(&self) -> Result<(), Damage> {
        if self.0.is_empty() { Ok(()) } else { Err(Damage("it has bytes too many")) }
    }

    pub(super) fn raw(&mut self, len: usize) -> Result<&'a [u8], Damage> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(Damage("it ends early"))?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Damage> {
        Ok(self.raw(1)?[0])
    }

    pub(super) fn uint(&mut self) -> Result<u64, Damage> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Damage("a number is too long"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Damage> {
        u32::try_from(self.uint()?).map_err(|_| Damage("a number is too big"))
    }

    /// A number of things that each take at least `size_min` of the bytes left (0: up to `max`).
    pub(super) fn count(&mut self, max: usize) -> Result<usize, Damage> {
        let count = usize::try_from(self.uint()?).map_err(|_| Damage("a count is too big"))?;
        if count > max { Err(Damage("a count is too big")) } else { Ok(count) }
    }

    pub(super) fn int(&mut self) -> Result<i64, Damage> {
        let value = self.uint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    pub(super) fn wide(&mut self) -> Result<i256, Damage> {
        let len = usize::from(self.u8()?);
        let kept = self.raw(len)?;
        let negative = kept.last().is_some_and(|last| last & 0x80 != 0);
        let mut bytes = [if negative { 0xFF } else { 0 }; 32];
        bytes.get_mut(..len).ok_or(Damage("a number is too long"))?.copy_from_slice(kept);
        Ok(i256::from_le_bytes(bytes))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Damage> {
        let len = self.count(self.0.len())?;
        self.raw(len)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Damage("a text is not UTF-8"))
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// How many bytes are left: a bound for counts.
    pub(super) fn left(&self) -> usize {
        self.0.len()
    }
}

/// zstd's own default; higher levels cost more than they save on these columns.
const ZSTD_LEVEL: i32 = 3;

thread_local! {
    // Making one takes longer than packing a small column does.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot {
            Some(compressor) => compressor,
            None => slot.insert(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        };
        compressor.compress(bytes)
    })
}

fn decompress(bytes: &[u8], size: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        let decompressor = match slot {
            Some(decompressor) => decompressor,
            None => slot.insert(zstd::bulk::Decompressor::new()?),
        };
        decompressor.decompress(bytes, size)
    })
}

/// Appends a length, the length unpacked, and the bytes, compressed when that is shorter.
pub(super) fn pack(writer: &mut Writer, bytes: &[u8]) {
    let packed = compress(bytes).ok();
    if let Some(packed) = packed.filter(|packed| packed.len() < bytes.len()) {
        writer.count(bytes.len());
        writer.bytes(&packed);
    } else {
        writer.count(0);
        writer.bytes(bytes);
    }
}

/// A packed column, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packed<'a> {
    /// 0 = it is not compressed.
    size: usize,
    bytes: &'a [u8],
}

/// Most bytes that a packed column may unpack to: bounds what damage can make us allocate.
const UNPACKED_SIZE_MAX: usize = 64 << 20;
/// A block of zstd takes at least so many bytes (its head and one more), and stands for at most so
/// many. What claims to unpack to more does not, which is known before memory is taken for it.
const BLOCK_PACKED_SIZE_MIN: usize = 4;
const BLOCK_SIZE_MAX: usize = 128 << 10;

impl<'a> Packed<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Packed<'a>, Damage> {
        let size = reader.count(UNPACKED_SIZE_MAX)?;
        Ok(Packed { size, bytes: reader.bytes()? })
    }

    pub(super) fn unpack(self) -> Result<std::borrow::Cow<'a, [u8]>, Damage> {
        if self.size == 0 {
            return Ok(self.bytes.into());
        }
        let blocks = self.bytes.len() / BLOCK_PACKED_SIZE_MIN;
        if self.size > blocks * BLOCK_SIZE_MAX {
            return Err(Damage("it unpacks to another length"));
        }
        let bytes = decompress(self.bytes, self.size)
            .map_err(|_| Damage("its compressed bytes do not unpack"))?;
        if bytes.len() == self.size {
            Ok(bytes.into())
        } else {
            Err(Damage("it unpacks to another length"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: Kind = Kind(b'x', 1);

    fn i256s() -> impl Strategy<Value = i256> {
        (any::<[u8; 32]>(), 0_u8..=255)
            .prop_map(|(bytes, shift)| i256::from_le_bytes(bytes) >> shift)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            unsigned in any::<u64>(),
            signed in any::<i64>(),
            wide in i256s(),
            text in ".*",
        ) {
            let mut writer = Writer::framed(KIND);
            writer.uint(unsigned);
            writer.int(signed);
            writer.wide(wide);
            writer.text(&text);
            let bytes = writer.seal();

            let mut reader = Reader::framed(KIND, &bytes).unwrap();

            prop_assert_eq!(reader.uint(), Ok(unsigned));
            prop_assert_eq!(reader.int(), Ok(signed));
            prop_assert_eq!(reader.wide(), Ok(wide));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_flipped_bit_is_found(text in ".{1,40}", at in any::<prop::sample::Index>()) {
            let mut writer = Writer::framed(KIND);
            writer.text(&text);
            let mut bytes = writer.seal();
            let bit = at.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);

            prop_assert!(Reader::framed(KIND, &bytes).is_err());
        }

        #[test]
        fn packed_bytes_come_back(bytes in prop::collection::vec(0_u8..4, 0..400)) {
            let mut writer = Writer::new();
            pack(&mut writer, &bytes);
            let packed = writer.into_bytes();

            let column = Packed::read(&mut Reader::new(&packed)).unwrap();

            let back = column.unpack().unwrap().into_owned();
            prop_assert_eq!(back, bytes);
        }

        #[test]
        fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut reader = Reader::new(&bytes);
            while !reader.is_empty() {
                let _ = reader.clone().uint();
                let _ = reader.clone().wide();
                let _ = reader.clone().text();
                let _ = Packed::read(&mut reader.clone()).map(Packed::unpack);
                let _ = reader.u8();
            }
        }
    }

    #[test]
    fn the_largest_column_comes_back_however_well_it_packs() {
        for value in [0, 7] {
            let bytes = vec![value; UNPACKED_SIZE_MAX];
            let mut writer = Writer::new();
            pack(&mut writer, &bytes);
            let packed = writer.into_bytes();
            assert!(packed.len() < 10_000, "{} bytes", packed.len());

            let column = Packed::read(&mut Reader::new(&packed)).unwrap();

            assert!(column.unpack().unwrap() == bytes);
        }
    }

    #[test]
    fn a_length_that_cannot_be_is_found_before_memory_is_taken() {
        let packed = compress(&[7; 100]).unwrap();
        let column = Packed { size: UNPACKED_SIZE_MAX, bytes: &packed };

        let used = allocation_counter::measure(|| assert!(column.unpack().is_err())).bytes_max;

        assert!(used < 1 << 20, "{used} bytes");
    }

    #[test]
    fn wide_numbers_take_few_bytes() {
        for (value, len) in [(0, 1), (1, 2), (-1, 2), (127, 2), (128, 3), (-128, 2), (-129, 3)] {
            let mut writer = Writer::new();
            writer.wide(i256::from_i128(value));
            assert_eq!(writer.into_bytes().len(), len, "{value}");
        }
    }
}
