//! A hash of numbers that is quick.
//!
//! It does not withstand somebody who chooses the numbers: only for what is bounded otherwise.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

#[derive(Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        // Tables look at the lowest bits and at the highest.
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(29) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u128(&mut self, number: u128) {
        let [low, high] = [number, number >> 64].map(low_half);
        self.write_u64(low);
        self.write_u64(high);
    }

    fn write_i128(&mut self, number: i128) {
        self.write_u128(number.cast_unsigned());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the half is what is wanted")]
fn low_half(number: u128) -> u64 {
    number as u64
}
