//! How many breaks a quantity has reached, found with a few instructions.

use std::ops::RangeInclusive;

use rust_decimal::Decimal;

use super::breaks::units;
use super::line::{Span, low};

/// The quantities of a batch are divided into so many parts of equal length. More make no search
/// shorter: a part seldom has two breaks.
const PARTS: usize = 1 << PARTS_BITS;
const PARTS_BITS: u32 = 8;

/// Those breaks that quantities of a batch may reach.
#[derive(Debug)]
pub(super) struct Ladder {
    /// How many breaks every quantity has reached.
    below: usize,
    /// The others, as quantities are.
    breaks: Vec<i128>,
    /// How many of them the begin of each part has reached.
    parts: Vec<u32>,
    least: i128,
    /// The length of a part is `2^shift`.
    shift: u32,
    /// Quantities have 64 bits.
    is_narrow: bool,
}

impl Ladder {
    pub(super) fn new(breaks: &[Decimal], qty: Span) -> Ladder {
        let all: Vec<i128> = breaks.iter().map(|from| units(*from, qty.scale)).collect();
        let (least, most) = qty.range().into_inner();
        let below = all.partition_point(|from| *from <= least);
        let end = all.partition_point(|from| *from <= most);
        let breaks = all[below..end].to_vec();
        let bits = i128::BITS - most.abs_diff(least).leading_zeros();
        let shift = bits.saturating_sub(PARTS_BITS);
        let parts = if breaks.is_empty() { 0..0 } else { 0..PARTS };
        let begins = parts.map(|part| least.saturating_add((part as i128) << shift));
        let reached = |begin| breaks.partition_point(|from| *from <= begin);
        let parts = begins.map(|begin| u32::try_from(reached(begin)).unwrap_or(0)).collect();
        Ladder { below, breaks, parts, least, shift, is_narrow: qty.is_narrow() }
    }

    /// Which lines between the breaks are reached by any quantity.
    pub(super) fn lines(&self) -> RangeInclusive<usize> {
        self.below..=self.below + self.breaks.len()
    }

    /// The line of a quantity, the first of [`Ladder::lines`] being 0.
    #[inline]
    pub(super) fn reached(&self, qty: i128) -> u32 {
        let part = if self.is_narrow {
            usize::try_from(low(qty).abs_diff(low(self.least)) >> self.shift).ok()
        } else {
            usize::try_from(qty.abs_diff(self.least) >> self.shift).ok()
        };
        let mut count = part.and_then(|part| self.parts.get(part)).copied().unwrap_or(0);
        while self.breaks.get(count as usize).is_some_and(|from| *from <= qty) {
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_is_found_as_by_looking_at_every_break(
            mut levels in proptest::collection::vec(0_i64..2000, 0..40),
            quantities in proptest::collection::vec(-100_i64..2500, 1..40),
            factor in prop::sample::select(vec![1_i128, 1000, 1 << 60, 1 << 75]),
        ) {
            levels.sort_unstable();
            levels.dedup();
            let level = |level: &i64| Decimal::from_i128_with_scale(i128::from(*level) * factor, 0);
            let levels: Vec<Decimal> = levels.iter().map(level).collect();
            let units: Vec<i128> = quantities.iter().map(|it| i128::from(*it) * factor).collect();
            let range = *units.iter().min().unwrap()..=*units.iter().max().unwrap();

            let ladder = Ladder::new(&levels, Span::new(0, range));

            for qty in units {
                let expected = levels.iter().filter(|from| from.mantissa() <= qty).count();
                let reached = ladder.lines().start() + ladder.reached(qty) as usize;
                prop_assert_eq!(reached, expected);
            }
        }
    }
}
