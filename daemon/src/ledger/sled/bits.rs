//! Numbers of few bits, one after the other, the lowest bits first.
//!
//! ```text
//! bits = the numbers in `width` bits each, the last byte filled up with zeros
//! ```
//!
//! How many there are and how wide they are stands elsewhere. A width is 0 to 57 or 64, so that
//! eight bytes read at once hold a number wherever it begins.

use super::codec::{Damage, Reader};

/// Above it numbers take 64 bits.
const WIDTH_MAX: u32 = 57;

/// Bits that numbers up to `highest` take.
pub(super) fn width_of(highest: u64) -> u32 {
    match u64::BITS - highest.leading_zeros() {
        width @ 0..=WIDTH_MAX => width,
        _ => u64::BITS,
    }
}

/// Bits that indexes into a list of so many take.
pub(super) fn index_width(count: usize) -> u32 {
    width_of((count as u64).saturating_sub(1))
}

/// Bytes that numbers take.
pub(super) fn bits_size(width: u32, count: usize) -> usize {
    (width as usize * count).div_ceil(8)
}

pub(super) fn pack_bits(width: u32, numbers: impl ExactSizeIterator<Item = u64>) -> Vec<u8> {
    let size = bits_size(width, numbers.len());
    let mut bytes = Vec::with_capacity(size + size_of::<u64>());
    if width == 0 {
        return bytes;
    }
    let (mut word, mut filled) = (0_u64, 0);
    for number in numbers {
        word |= number << filled;
        filled += width;
        if filled >= u64::BITS {
            bytes.extend_from_slice(&word.to_le_bytes());
            filled -= u64::BITS;
            word = if filled == 0 { 0 } else { number >> (width - filled) };
        }
    }
    bytes.extend_from_slice(&word.to_le_bytes());
    bytes.truncate(size);
    bytes
}

/// Numbers, still packed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bits<'a> {
    width: u32,
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Bits<'a> {
    pub(super) fn read(
        reader: &mut Reader<'a>,
        width: u32,
        count: usize,
    ) -> Result<Bits<'a>, Damage> {
        if width > WIDTH_MAX && width != u64::BITS {
            return Err(Damage("numbers have an unknown width"));
        }
        Ok(Bits { width, count, bytes: reader.raw(bits_size(width, count))? })
    }

    /// What `value` makes of each number.
    pub(super) fn unpack<T>(self, value: impl Fn(u64) -> T) -> Vec<T> {
        // Where the width is known to the compiler, it takes a third of the time.
        macro_rules! by_width {
            ($($width:literal)*) => {
                match self.width {
                    $($width => self.unpack_eights::<$width, T>(&value),)*
                    _ => Vec::with_capacity(self.count),
                }
            };
        }
        let mut values = by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24);
        let width = self.width as usize;
        let mask = u64::MAX.checked_shr(u64::BITS - self.width).unwrap_or(0);
        values.extend((values.len()..self.count).map(|index| {
            let bit = index * width;
            let rest = &self.bytes[bit / 8..];
            let word = match rest.first_chunk::<LEN>() {
                Some(word) => u64::from_le_bytes(*word),
                None => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
            };
            value(word >> (bit % 8) & mask)
        }));
        values
    }

    /// The numbers up to the last eight or so: each eight take `WIDTH` bytes.
    fn unpack_eights<const WIDTH: usize, T>(self, value: &impl Fn(u64) -> T) -> Vec<T> {
        let mask = (1_u64 << WIDTH) - 1;
        let mut values = Vec::with_capacity(self.count);
        let mut rest = self.bytes;
        while let Some(window) = rest.get(..WIDTH + LEN)
            && values.len() + 8 <= self.count
        {
            values.extend(std::array::from_fn::<T, 8, _>(|index| {
                let bit = index * WIDTH;
                let word = window[bit / 8..][..LEN].try_into().map_or(0, u64::from_le_bytes);
                value(word >> (bit % 8) & mask)
            }));
            rest = &rest[WIDTH..];
        }
        values
    }
}

/// Bytes read at once.
const LEN: usize = size_of::<u64>();

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(
            numbers in prop::collection::vec(any::<u64>(), 0..200),
            shift in 0_u32..=64,
        ) {
            let shorten = |number: u64| number.checked_shr(shift).unwrap_or(0);
            let numbers: Vec<u64> = numbers.into_iter().map(shorten).collect();
            let width = width_of(numbers.iter().copied().max().unwrap_or(0));
            let bytes = pack_bits(width, numbers.iter().copied());
            let mut reader = Reader::new(&bytes);

            let bits = Bits::read(&mut reader, width, numbers.len()).unwrap();

            prop_assert!(reader.is_empty());
            prop_assert_eq!(bits.unpack(|number| number), numbers);
        }
    }

    #[test]
    fn the_layout_is_this() {
        assert_eq!(pack_bits(3, [1, 2, 3, 7].into_iter()), [0b1101_0001, 0b1110]);
        assert!(pack_bits(0, [0; 9].into_iter()).is_empty());
    }

    #[test]
    fn unknown_widths_are_damage() {
        assert!(Bits::read(&mut Reader::new(&[0; 600]), 58, 8).is_err());
        assert!(Bits::read(&mut Reader::new(&[0; 600]), 65, 8).is_err());
        assert!(Bits::read(&mut Reader::new(&[0; 63]), 64, 8).is_err());
    }
}
