use std::fmt;
use std::iter;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use arrow_buffer::i256;
use rust_decimal::Decimal;

/// Most fractional digits of a quantity or price, and the unit of [`Sum`].
pub const SUM_SCALE: u8 = 28;

/// An exact sum of decimals, in units of 10^-28 (the smallest step of a quantity or price).
///
/// Cannot overflow: 2^255 units hold 10^10 rows of the largest value of a decimal column (10^38
/// without fractional digits) and far more of any quantity that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sum(pub i256);

impl Sum {
    pub const ZERO: Sum = Sum(i256::ZERO);

    /// From an integer and its scale (0 to 28).
    pub fn from_scaled(value: i128, scale: u8) -> Sum {
        assert!(scale <= SUM_SCALE, "a scale is at most {SUM_SCALE}, got {scale}");
        Sum(i256::from_i128(value).wrapping_mul(i256::from_i128(unit(scale))))
    }

    pub fn from_decimal(value: Decimal) -> Sum {
        let scale = u8::try_from(value.scale()).expect("a decimal's scale is at most 28");
        Sum::from_scaled(value.mantissa(), scale)
    }

    pub fn is_zero(self) -> bool {
        self == Sum::ZERO
    }

    /// The integer of the smallest scale that holds the sum exactly, and that scale.
    pub fn to_scaled(self) -> (i256, u8) {
        let mut scale = SUM_SCALE;
        // Halving steps: fewer divisions than zeros. 128 bits are enough for most, and faster.
        if let Some(mut value) = self.0.to_i128() {
            for (zeros, step) in STEPS {
                if scale >= zeros && value % step == 0 {
                    value /= step;
                    scale -= zeros;
                }
            }
            return (i256::from_i128(value), scale);
        }
        let mut value = self.0;
        for (zeros, step) in STEPS {
            let step = i256::from_i128(step);
            if scale >= zeros && value.wrapping_rem(step) == i256::ZERO {
                value = value.wrapping_div(step);
                scale -= zeros;
            }
        }
        (value, scale)
    }

    /// The exact decimal text, at least `digits_min` fractional digits, no other trailing zeros.
    pub fn to_text(self, digits_min: usize) -> String {
        let text = self.0.to_string();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text.as_str()),
        };
        let scale = usize::from(SUM_SCALE);
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let fraction = fraction.trim_end_matches('0');
        if fraction.is_empty() && digits_min == 0 {
            return format!("{sign}{whole}");
        }
        format!("{sign}{whole}.{fraction:0<digits_min$}")
    }

    /// What `to_text` gives, and nothing else but more zeros.
    pub fn from_text(text: &str) -> Option<Sum> {
        let (sign, digits) = match text.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => ("", text),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let are_digits =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !are_digits(whole) || !are_digits(fraction) || fraction.len() > usize::from(SUM_SCALE) {
            return None;
        }
        let scale = usize::from(SUM_SCALE);
        i256::from_string(&format!("{sign}{whole}{fraction:0<scale$}")).map(Sum)
    }

    pub fn checked_add(self, other: Sum) -> Option<Sum> {
        self.0.checked_add(other.0).map(Sum)
    }

    /// The product, rounded half to even to 28 fractional digits; `None` = out of range.
    pub fn multiply_half_even(self, other: Sum) -> Option<Sum> {
        let ((a, a_scale), (b, b_scale)) = (self.to_scaled(), other.to_scaled());
        let product = a.checked_mul(b)?;
        let scale = a_scale + b_scale;
        if scale <= SUM_SCALE {
            return product.checked_mul(i256::from_i128(unit(scale))).map(Sum);
        }
        let step = i256::from_i128(10_i128.pow(u32::from(scale - SUM_SCALE)));
        let quotient =
            Quotient { whole: product.wrapping_div(step), rest: product.wrapping_rem(step) };
        Some(Sum(quotient.rounded_half_even(step)))
    }

    /// The quotient, rounded half to even to 28 significant digits (all of them, where there are
    /// more before the point) and at most 28 fractional ones; `None` = out of range or divided by
    /// zero.
    pub fn divide_half_even(self, other: Sum) -> Option<Sum> {
        let divisor = other.0;
        let whole = self.0.checked_div(divisor)?;
        let mut quotient = Quotient { whole, rest: self.0.checked_rem(divisor)? };
        let whole_digits = match whole {
            i256::ZERO => 0,
            whole => whole.to_string().trim_start_matches('-').len(),
        };
        let ten = i256::from_i128(10);
        let digits = usize::from(SUM_SCALE).saturating_sub(whole_digits);
        for _ in 0..digits {
            let dividend = quotient.rest.checked_mul(ten)?;
            let digit = dividend.wrapping_div(divisor);
            quotient.whole = quotient.whole.checked_mul(ten)?.checked_add(digit)?;
            quotient.rest = dividend.wrapping_rem(divisor);
        }
        let scale = u8::try_from(digits).expect("at most 28");
        quotient.rounded_half_even(divisor).checked_mul(i256::from_i128(unit(scale))).map(Sum)
    }
}

/// Numbers of zeros that together make any number up to [`SUM_SCALE`], and their powers of ten.
const STEPS: [(u8, i128); 5] =
    [(16, 10_i128.pow(16)), (8, 10_i128.pow(8)), (4, 10_000), (2, 100), (1, 10)];

/// What a division of integers gives, towards zero.
struct Quotient {
    whole: i256,
    rest: i256,
}

impl Quotient {
    fn rounded_half_even(self, divisor: i256) -> i256 {
        let magnitude = |value: i256| value.wrapping_abs();
        let left = magnitude(divisor).wrapping_sub(magnitude(self.rest));
        let is_odd = self.whole.wrapping_rem(i256::from_i128(2)) != i256::ZERO;
        let is_up = magnitude(self.rest) > left || (magnitude(self.rest) == left && is_odd);
        let is_negative = (self.rest < i256::ZERO) != (divisor < i256::ZERO);
        match (is_up, is_negative) {
            (false, _) => self.whole,
            (true, false) => self.whole.wrapping_add(i256::ONE),
            (true, true) => self.whole.wrapping_sub(i256::ONE),
        }
    }
}

/// 10^(28 - scale): what one unit of a scale is in units of a sum.
fn unit(scale: u8) -> i128 {
    10_i128.pow(u32::from(SUM_SCALE - scale))
}

impl Default for Sum {
    fn default() -> Sum {
        Sum::ZERO
    }
}

impl From<Decimal> for Sum {
    fn from(value: Decimal) -> Sum {
        Sum::from_decimal(value)
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text(0))
    }
}

impl Add for Sum {
    type Output = Sum;

    fn add(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for Sum {
    fn add_assign(&mut self, other: Sum) {
        *self = *self + other;
    }
}

impl Sub for Sum {
    type Output = Sum;

    fn sub(self, other: Sum) -> Sum {
        Sum(self.0.wrapping_sub(other.0))
    }
}

impl SubAssign for Sum {
    fn sub_assign(&mut self, other: Sum) {
        *self = *self - other;
    }
}

impl Neg for Sum {
    type Output = Sum;

    fn neg(self) -> Sum {
        Sum(self.0.wrapping_neg())
    }
}

impl iter::Sum for Sum {
    fn sum<I: Iterator<Item = Sum>>(parts: I) -> Sum {
        parts.fold(Sum::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(value: i128, scale: u8, digits_min: usize, text: &str) {
        assert_eq!(Sum::from_scaled(value, scale).to_text(digits_min), text);
        assert_eq!(Sum::from_text(text), Some(Sum::from_scaled(value, scale)));
    }

    #[test]
    fn what_is_no_exact_decimal_is_not_taken_for_one() {
        for text in ["", "-", ".", "1.", ".5", "+1", "1e3", "1 ", "0x1", "1.2.3", "--1"] {
            assert_eq!(Sum::from_text(text), None, "{text}");
        }
        assert_eq!(Sum::from_text("0.00000000000000000000000000001"), None);
    }

    #[test]
    fn the_text_is_exact() {
        check(0, 0, 0, "0");
        check(0, 28, 2, "0.00");
        check(5, 1, 0, "0.5");
        check(-5, 1, 3, "-0.500");
        check(1_200, 2, 0, "12");
        check(1_200, 2, 1, "12.0");
        check(1, 28, 0, "0.0000000000000000000000000001");
        check(-1, 28, 0, "-0.0000000000000000000000000001");
        check(i128::MAX, 0, 0, "170141183460469231731687303715884105727");
        check(i128::MIN, 0, 0, "-170141183460469231731687303715884105728");
    }

    #[test]
    fn ten_billion_of_the_largest_values_do_not_overflow() {
        let largest = Sum::from_scaled(10_i128.pow(38) - 1, 0);
        let mut sum = largest;
        for _ in 0..33 {
            sum += sum;
        }

        assert!(sum > largest);
        assert_eq!(sum.0, largest.0.wrapping_mul(i256::from_i128(1 << 33)));
    }

    fn decimals() -> impl Strategy<Value = Decimal> {
        (
            -79_228_162_514_264_337_593_543_950_335_i128..79_228_162_514_264_337_593_543_950_335,
            0_u32..=28,
        )
            .prop_map(|(value, scale)| Decimal::from_i128_with_scale(value, scale))
    }

    proptest! {
        #[test]
        fn one_decimal_keeps_its_text(value in decimals()) {
            let text = Sum::from_decimal(value).to_text(0);

            prop_assert_eq!(text, value.normalize().to_string());
        }

        #[test]
        fn products_and_quotients_are_those_of_decimals(a in decimals(), b in decimals()) {
            let sums = (Sum::from_decimal(a), Sum::from_decimal(b));

            if let Some(quotient) = rated_plugin::decimal::divide_half_even(a, b) {
                let found = sums.0.divide_half_even(sums.1);
                prop_assert_eq!(found, Some(Sum::from_decimal(quotient)));
            }
            if let Some(product) = rated_plugin::decimal::multiply_half_even(a, b)
                && product.scale() == 28
            {
                let found = sums.0.multiply_half_even(sums.1);
                prop_assert_eq!(found, Some(Sum::from_decimal(product)));
            }
        }

        #[test]
        fn parts_sum_to_the_whole(
            values in prop::collection::vec(decimals(), 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let whole: Sum = values.iter().copied().map(Sum::from).sum();
            let (left, right) = values.split_at(at.index(values.len() + 1));
            let left: Sum = left.iter().copied().map(Sum::from).sum();
            let right: Sum = right.iter().copied().map(Sum::from).sum();

            prop_assert_eq!(left + right, whole);
            prop_assert_eq!(whole - right, left);
        }

        #[test]
        fn any_order_gives_the_same(
            (values, shuffled) in prop::collection::vec(decimals(), 0..40)
                .prop_flat_map(|values| (Just(values.clone()), Just(values).prop_shuffle())),
        ) {
            let sum = |values: Vec<Decimal>| values.into_iter().map(Sum::from).sum::<Sum>();

            prop_assert_eq!(sum(values), sum(shuffled));
        }

        #[test]
        fn the_smallest_scale_holds_the_sum(value in decimals()) {
            let sum = Sum::from_decimal(value);
            let (scaled, scale) = sum.to_scaled();

            let back = scaled.wrapping_mul(i256::from_i128(unit(scale)));

            prop_assert_eq!(back, sum.0);
            prop_assert!(u32::from(scale) <= value.scale());
        }
    }
}
