//! The bytes of JSON: where a text ends, what a number is made of.

/// How many bytes from the begin on stand for themselves in a text: no quote, no backslash, no
/// control character; and whether all of them are ASCII.
pub(super) fn plain(bytes: &[u8]) -> (usize, bool) {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut high = 0;
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let ends = ends(word);
        if ends != 0 {
            let count = ends.trailing_zeros() / 8;
            high |= word & HIGH & ((1 << (count * 8)) - 1);
            return (index * 8 + count as usize, high == 0);
        }
        high |= word & HIGH;
    }
    let is_plain = |byte: &&u8| **byte >= b' ' && **byte != b'"' && **byte != b'\\';
    let count = rest.iter().take_while(is_plain).count();
    let is_ascii = high == 0 && rest[..count].is_ascii();
    (words.len() * 8 + count, is_ascii)
}

/// The high bit of each of eight bytes.
const HIGH: u64 = 0x8080_8080_8080_8080;
const LOW: u64 = 0x0101_0101_0101_0101;

/// The lowest bit that is set is the high bit of the first byte that ends plain text. Bits above it
/// say nothing: a borrow may have set them.
fn ends(word: u64) -> u64 {
    let equals = |byte: u8| {
        let different = word ^ (LOW * u64::from(byte));
        different.wrapping_sub(LOW) & !different
    };
    let control = word.wrapping_sub(LOW * u64::from(b' ')) & !word;
    (control | equals(b'"') | equals(b'\\')) & HIGH
}

/// Drops what was collected of a text, but not the begin of a character at its end. How many bytes;
/// `None` = it is no UTF-8.
pub(super) fn forget_text(collected: &mut Vec<u8>) -> Option<usize> {
    let size = match std::str::from_utf8(collected) {
        Ok(text) => text.len(),
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return None,
    };
    collected.drain(..size);
    Some(size)
}

/// What was read last of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NumberPart {
    Begin,
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl NumberPart {
    /// How many bytes go on with the number.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            match self.after(*byte) {
                Some(next) => *self = next,
                None => return index,
            }
        }
        bytes.len()
    }

    pub(super) fn is_whole(self) -> bool {
        use NumberPart::{ExponentDigits, Fraction, Whole, Zero};
        matches!(self, Zero | Whole | Fraction | ExponentDigits)
    }

    fn after(self, byte: u8) -> Option<NumberPart> {
        use NumberPart::{
            Begin, Exponent, ExponentDigits, ExponentSign, Fraction, Minus, Point, Whole, Zero,
        };
        Some(match (self, byte) {
            (Begin, b'-') => Minus,
            (Begin | Minus, b'0') => Zero,
            (Begin | Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Whole,
            (Zero | Whole, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Whole | Fraction, b'e' | b'E') => Exponent,
            (Exponent, b'+' | b'-') => ExponentSign,
            (Exponent | ExponentSign | ExponentDigits, b'0'..=b'9') => ExponentDigits,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_text_ends_where_it_ends_byte_by_byte(
            bytes in proptest::collection::vec(
                prop_oneof![8 => b' '..=b'~', 1 => any::<u8>(), 1 => Just(b'"')],
                0..80,
            ),
        ) {
            let ends = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
            let count = bytes.iter().position(ends).unwrap_or(bytes.len());

            prop_assert_eq!(plain(&bytes), (count, bytes[..count].is_ascii()));
        }
    }
}
