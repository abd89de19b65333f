//! The price of a quantity where no rounding is due: a line, in whole numbers.

use std::ops::RangeInclusive;

use rated_plugin::decimal::{SCALE_MAX, power_of_ten};
use rust_decimal::Decimal;

/// Three numbers of so many bits add up to less than 28 digits, which need no rounding.
const BITS_MAX: u32 = 91;

/// `slope × quantity + base`.
///
/// Both are exact, and so is everything that is computed on the way, as long as
/// [`Line::at`] finds it short enough: rounding changes nothing then, and the order of products and
/// sums does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Line {
    slope: i128,
    slope_scale: u32,
    /// At least the sum of all the parts of `slope`, and of those it was made from.
    slope_max: i128,
    base: i128,
    base_scale: u32,
    /// At least the sum of all the parts of `base`.
    base_max: i128,
}

/// The numbers of a batch: `units / 10^scale` each, and no unit beyond a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) scale: u32,
    least: i128,
    most: i128,
}

impl Line {
    /// With `product × factor` more for each unit.
    pub(super) fn rising(mut self, product: Decimal, factor: Decimal) -> Option<Line> {
        let (product, factor) = (product.normalize(), factor.normalize());
        let part = product.mantissa().checked_mul(factor.mantissa())?;
        let part_max = part.checked_abs()?.max(product.mantissa().checked_abs()?);
        let scale = self.slope_scale.max(product.scale() + factor.scale());
        let own = power_of_ten(scale - self.slope_scale)?;
        let others = power_of_ten(scale - product.scale() - factor.scale())?;
        self.slope = self.slope.checked_mul(own)?.checked_add(part.checked_mul(others)?)?;
        let part_max = part_max.checked_mul(others)?;
        self.slope_max = self.slope_max.checked_mul(own)?.checked_add(part_max)?;
        self.slope_scale = scale;
        Some(self)
    }

    /// With so much more whatever the quantity.
    pub(super) fn raised(mut self, cost: Decimal) -> Option<Line> {
        let cost = cost.normalize();
        let scale = self.base_scale.max(cost.scale());
        let own = power_of_ten(scale - self.base_scale)?;
        let part = cost.mantissa().checked_mul(power_of_ten(scale - cost.scale())?)?;
        self.base = self.base.checked_mul(own)?.checked_add(part)?;
        self.base_max = self.base_max.checked_mul(own)?.checked_add(part.abs())?;
        self.base_scale = scale;
        Some(self)
    }

    /// The scale that holds the prices of quantities of that scale.
    pub(super) fn scale(&self, qty_scale: u32) -> u32 {
        self.base_scale.max(if self.slope_max == 0 { 0 } else { self.slope_scale + qty_scale })
    }

    /// Slope and base for whole numbers: quantities as in `qty`, prices of `scale`, which is at
    /// least [`Line::scale`].
    ///
    /// `None` where something on the way, or its sum with a price so far that [`Span::fits`], may
    /// need more than 28 digits.
    pub(super) fn at(&self, scale: u32, qty: Span) -> Option<(i128, i128)> {
        let digits = scale - self.base_scale;
        if scale > SCALE_MAX || longer(bits(self.base_max), digits) > BITS_MAX {
            return None;
        }
        let base = self.base * power_of_ten(digits)?;
        if self.slope_max == 0 {
            return Some((0, base));
        }
        let digits = scale - qty.scale - self.slope_scale;
        if longer(bits(self.slope_max), digits).saturating_add(qty.bits()) > BITS_MAX {
            return None;
        }
        Some((self.slope * power_of_ten(digits)?, base))
    }
}

impl Span {
    pub(super) const NOTHING: Span = Span { scale: 0, least: 0, most: 0 };

    pub(super) fn new(scale: u32, range: RangeInclusive<i128>) -> Span {
        Span { scale, least: *range.start(), most: *range.end() }
    }

    pub(super) fn range(&self) -> RangeInclusive<i128> {
        self.least..=self.most
    }

    /// No number needs more bits in a larger scale than may be added to a line.
    pub(super) fn fits(&self, scale: u32) -> bool {
        longer(self.bits(), scale - self.scale) <= BITS_MAX
    }

    /// 64 bits hold every unit.
    pub(super) fn is_narrow(&self) -> bool {
        i64::try_from(self.least).is_ok() && i64::try_from(self.most).is_ok()
    }

    /// No unit reaches `±2^bits`.
    pub(super) fn bits(&self) -> u32 {
        bits(self.most.max(self.least.saturating_neg()))
    }
}

/// The lower half of a number that has no more.
#[expect(clippy::cast_possible_truncation, reason = "asked of numbers of 64 bits alone")]
pub(super) fn low(value: i128) -> i64 {
    value as i64
}

/// How many bits numbers have when they get so many digits more.
fn longer(bits_before: u32, digits: u32) -> u32 {
    if bits_before == 0 {
        return 0;
    }
    power_of_ten(digits).map_or(u32::MAX, |power| bits_before + bits(power))
}

/// `value < 2^bits`, for one that is not negative.
fn bits(value: i128) -> u32 {
    i128::BITS - value.leading_zeros()
}
