//! A hash for numbers that the module made up itself: nobody else chooses them, so nobody can
//! choose them to collide.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type QuickHashMap<K, V> =
    std::collections::HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// A product for each number, 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64((*byte).into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(FACTOR);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    /// The upper half of a product is mixed better, a table looks at the lower half first.
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;

    fn hash(numbers: &[u32]) -> u64 {
        let mut hasher = QuickHasher::default();
        numbers.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn little_numbers_are_spread() {
        let numbers = (0..64_u32).flat_map(|a| (0..64).map(move |b| [0, a, 0, b]));

        let hashes: Vec<u64> = numbers.map(|numbers| hash(&numbers)).collect();

        let distinct = |of: &dyn Fn(&u64) -> u64| hashes.iter().map(of).collect::<HashSet<_>>();
        assert_eq!(distinct(&|hash| *hash).len(), 4096);
        // Of 4,096 marbles in 4,096 boxes about 2,589 boxes have one, if chance decides.
        assert!(distinct(&|hash| hash % 4096).len() > 2000, "the lower bits");
        assert!(distinct(&|hash| hash >> 52).len() > 2000, "the upper bits");
    }
}
