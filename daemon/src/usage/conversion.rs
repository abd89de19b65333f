//! Exact unit conversion: `quantity x numerator / denominator + offset`, rounded once.

use std::sync::OnceLock;

use arrow_buffer::i256;
use rust_decimal::Decimal;

use super::Factor;

/// Most significant digits of a number that had to be rounded; more would not fit a decimal.
pub const ROUNDED_DIGITS_MAX: usize = 28;

/// Most fractional digits of any quantity.
const SCALE_MAX: i32 = 28;

/// A factor and an offset, made ready for many values.
#[derive(Debug, Clone, Copy)]
pub struct Conversion {
    numerator: i128,
    /// Positive, prime to the numerator and without the divisors 2 and 5 where that was possible.
    denominator: i128,
    /// Power of ten that the fraction is still to be multiplied with.
    exponent: i32,
    offset: i128,
    offset_scale: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the quantity {value} (times 10^-{scale}) does not fit a decimal once it is converted")]
pub struct ConversionError {
    pub value: i128,
    pub scale: u8,
}

impl Conversion {
    pub fn new(factor: Factor, offset: Decimal) -> Conversion {
        let (numerator, denominator) =
            (factor.numerator.normalize(), factor.denominator.normalize());
        let sign = denominator.mantissa().signum();
        let mut fraction = Conversion {
            numerator: numerator.mantissa() * sign,
            denominator: denominator.mantissa() * sign,
            exponent: scale_of(denominator) - scale_of(numerator),
            offset: offset.mantissa(),
            offset_scale: scale_of(offset),
        };
        let divisor = greatest_common_divisor(fraction.numerator, fraction.denominator);
        fraction.numerator /= divisor;
        fraction.denominator /= divisor;
        fraction.make_decimal();
        fraction
    }

    /// Leaves every value as it is.
    pub fn is_identity(&self) -> bool {
        self.numerator == 1 && self.denominator == 1 && self.exponent == 0 && self.offset == 0
    }

    /// A half is five tenths: the divisors 2 and 5 become powers of ten as long as the numerator
    /// can hold it.
    fn make_decimal(&mut self) {
        for (divisor, complement) in [(2, 5), (5, 2)] {
            while self.denominator % divisor == 0 {
                let Some(numerator) = self.numerator.checked_mul(complement) else { return };
                // Beyond a decimal's own size the products of whole columns would not fit 256 bits.
                if numerator.unsigned_abs() >= 1 << 96 {
                    return;
                }
                self.numerator = numerator;
                self.denominator /= divisor;
                self.exponent -= 1;
            }
        }
    }

    /// `value` x 10^-`scale`, converted: exact where 28 fractional digits and 96 bits can hold it,
    /// else rounded half even to 28 significant and at most 28 fractional digits.
    pub fn apply(&self, value: i128, scale: u8) -> Result<Decimal, ConversionError> {
        let scale = i32::from(scale);
        let exponent = self.exponent - scale;
        if let Some(exact) = self.apply_short(value, exponent) {
            return Ok(exact);
        }
        self.apply_long(value, exponent).ok_or(ConversionError {
            value,
            scale: u8::try_from(scale).expect("it was made from one"),
        })
    }

    /// Exact and without division, in 128 bits.
    fn apply_short(&self, value: i128, exponent: i32) -> Option<Decimal> {
        if self.denominator != 1 || !(-SCALE_MAX..=0).contains(&exponent) {
            return None;
        }
        let mut product = value.checked_mul(self.numerator)?;
        let mut scale = -exponent;
        if self.offset != 0 {
            let common = scale.max(self.offset_scale);
            let lift = |number: i128, from: i32| {
                number.checked_mul(10_i128.checked_pow(u32::try_from(common - from).ok()?)?)
            };
            product = lift(product, scale)?.checked_add(lift(self.offset, self.offset_scale)?)?;
            scale = common;
        }
        Decimal::try_from_i128_with_scale(product, u32::try_from(scale).ok()?).ok()
    }

    fn apply_long(&self, value: i128, exponent: i32) -> Option<Decimal> {
        let product = i256::from_i128(value).checked_mul(i256::from_i128(self.numerator))?;
        // What overflows at 28 fractional digits has so many integer digits that fewer are enough.
        let (scale, numerator, denominator) =
            [SCALE_MAX, 19, 10].into_iter().find_map(|scale| {
                let (numerator, denominator) = self.scaled(product, scale + exponent)?;
                Some((scale, numerator, denominator))
            })?;
        let mut floor = Floor::divide(numerator, denominator)?;
        floor.add(self.offset, scale - self.offset_scale)?;
        floor.into_decimal(scale)
    }

    /// The fraction `product` / denominator x 10^`shift`.
    fn scaled(&self, product: i256, shift: i32) -> Option<(i256, i256)> {
        let denominator = i256::from_i128(self.denominator);
        let power = power_of_ten(shift.unsigned_abs() as usize)?;
        if shift >= 0 {
            Some((product.checked_mul(power)?, denominator))
        } else {
            Some((product, denominator.checked_mul(power)?))
        }
    }
}

/// A number as the largest integer not above it, and what is known of the rest.
#[derive(Debug, Clone, Copy)]
struct Floor {
    whole: i256,
    rest: Rest,
}

/// The part above a whole number, compared with a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rest {
    Nothing,
    BelowHalf,
    Half,
    AboveHalf,
}

impl Rest {
    /// Of `remainder` / `divisor` and, below that, something or nothing.
    fn of(remainder: i256, divisor: i256, below: Rest) -> Rest {
        // remainder < divisor, so the difference cannot overflow where doubling could.
        match remainder.cmp(&(divisor.wrapping_sub(remainder))) {
            std::cmp::Ordering::Equal if below == Rest::Nothing => Rest::Half,
            std::cmp::Ordering::Equal | std::cmp::Ordering::Greater => Rest::AboveHalf,
            std::cmp::Ordering::Less if remainder == i256::ZERO && below == Rest::Nothing => {
                Rest::Nothing
            }
            std::cmp::Ordering::Less => Rest::BelowHalf,
        }
    }
}

impl Floor {
    fn divide(numerator: i256, denominator: i256) -> Option<Floor> {
        Floor { whole: numerator, rest: Rest::Nothing }.divided(denominator)
    }

    fn divided(self, divisor: i256) -> Option<Floor> {
        let mut whole = self.whole.checked_div(divisor)?;
        let mut remainder = self.whole.checked_rem(divisor)?;
        if remainder.is_negative() {
            whole = whole.checked_sub(i256::ONE)?;
            remainder = remainder.checked_add(divisor)?;
        }
        Some(Floor { whole, rest: Rest::of(remainder, divisor, self.rest) })
    }

    /// Adds `number` x 10^`shift`. With a negative shift this number's own rest is already far
    /// below the last digit that rounding leaves, so that only whether there is one matters.
    fn add(&mut self, number: i128, shift: i32) -> Option<()> {
        let number = i256::from_i128(number);
        let power = power_of_ten(shift.unsigned_abs() as usize)?;
        if shift >= 0 {
            self.whole = self.whole.checked_add(number.checked_mul(power)?)?;
        } else {
            let other = Floor::divide(number, power)?;
            self.whole = self.whole.checked_add(other.whole)?;
            if other.rest != Rest::Nothing {
                self.rest = Rest::BelowHalf;
            }
        }
        Some(())
    }

    /// x 10^-`scale`.
    fn into_decimal(mut self, mut scale: i32) -> Option<Decimal> {
        if self.rest == Rest::Nothing {
            let ten = i256::from_i128(10);
            while scale > 0 && self.whole.checked_rem(ten)? == i256::ZERO {
                self.whole = self.whole.checked_div(ten)?;
                scale -= 1;
            }
            if let Some(exact) = decimal(self.whole, scale) {
                return Some(exact);
            }
        }
        let digits = digits_of(self.whole);
        if digits > ROUNDED_DIGITS_MAX {
            let dropped = digits - ROUNDED_DIGITS_MAX;
            self = self.divided(power_of_ten(dropped)?)?;
            scale -= i32::try_from(dropped).ok()?;
        }
        decimal(self.round_half_even()?, scale)
    }

    fn round_half_even(self) -> Option<i256> {
        let is_odd = self.whole.to_parts().0 & 1 == 1;
        match self.rest {
            Rest::Nothing | Rest::BelowHalf => Some(self.whole),
            Rest::Half if !is_odd => Some(self.whole),
            Rest::Half | Rest::AboveHalf => self.whole.checked_add(i256::ONE),
        }
    }
}

fn decimal(value: i256, scale: i32) -> Option<Decimal> {
    Decimal::try_from_i128_with_scale(value.to_i128()?, u32::try_from(scale).ok()?).ok()
}

fn scale_of(value: Decimal) -> i32 {
    i32::try_from(value.scale()).expect("a decimal has at most 28 fractional digits")
}

fn greatest_common_divisor(a: i128, b: i128) -> i128 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `None` beyond 256 bits.
fn power_of_ten(exponent: usize) -> Option<i256> {
    powers_of_ten().get(exponent).copied()
}

/// Decimal digits of the magnitude; 0 has none.
fn digits_of(value: i256) -> usize {
    let magnitude = if value.is_negative() { value.wrapping_neg() } else { value };
    powers_of_ten().partition_point(|power| *power <= magnitude)
}

fn powers_of_ten() -> &'static [i256] {
    static POWERS: OnceLock<Vec<i256>> = OnceLock::new();
    POWERS.get_or_init(|| {
        let ten = i256::from_i128(10);
        std::iter::successors(Some(i256::ONE), |power| power.checked_mul(ten)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn conversion(factor: &str, offset: &str) -> Conversion {
        let mut parts = factor.split('/').map(|part| part.parse::<Decimal>().unwrap());
        let numerator = parts.next().unwrap();
        let denominator = parts.next().unwrap_or(Decimal::ONE);
        Conversion::new(Factor { numerator, denominator }, offset.parse().unwrap())
    }

    fn check(value: &str, factor: &str, offset: &str, expected: &str) {
        let value: Decimal = value.parse().unwrap();
        let scale = u8::try_from(value.scale()).unwrap();

        let converted = conversion(factor, offset).apply(value.mantissa(), scale);

        let text = converted.map_or_else(|_| "none".to_owned(), |d| d.normalize().to_string());
        assert_eq!(text, expected, "{value} x {factor} + {offset}");
    }

    #[test]
    fn exact_where_a_decimal_can_hold_it() {
        check("1", "1", "0", "1");
        check("-3.50", "1", "0", "-3.5");
        check("1048576", "1/1048576", "0", "1");
        check("1", "1/1048576", "0", "0.00000095367431640625");
        check("0.000000001", "1/1048576", "0", "0.0000000000000009536743164062");
        check("7", "1/1000", "-273.15", "-273.143");
        check("7", "0.5/0.25", "1", "15");
        check("3", "-2/-4", "0", "1.5");
        check("3", "2/-4", "0", "-1.5");
        check("79228162514264337593543950335", "1", "0", "79228162514264337593543950335");
        check("0", "1/3", "0", "0");
        check("9", "1/3", "0", "3");
        check("5", "0", "2", "2");
    }

    #[test]
    fn rounded_once_half_even_to_28_digits() {
        check("1", "1/3", "0", "0.3333333333333333333333333333");
        check("2", "1/3", "0", "0.6666666666666666666666666667");
        check("-2", "1/3", "0", "-0.6666666666666666666666666667");
        check("20000", "1/3", "0", "6666.666666666666666666666667");
        check("0.0000000000000000000000000001", "1/2", "0", "0");
        check("0.0000000000000000000000000003", "1/2", "0", "0.0000000000000000000000000002");
        check("-0.0000000000000000000000000005", "1/2", "0", "-0.0000000000000000000000000002");
        check(
            "0.0000000000000000000000000001",
            "50001/100000",
            "0",
            "0.0000000000000000000000000001",
        );
        check("1", "1/3600", "0", "0.0002777777777777777777777778");
        check("79228162514264337593543950335", "2", "0", "none");
        check("79228162514264337593543950335", "10000000000000000000000000000", "0", "none");
    }

    proptest! {
        /// Against the definition: the result r of v x n / d satisfies |r x d - v x n| <= half a
        /// last digit x d.
        #[test]
        fn the_error_is_at_most_half_of_the_last_digit(
            value in -1_000_000_000_000_i64..1_000_000_000_000,
            scale in 0_u8..10,
            numerator in 1_i64..1_000_000,
            denominator in 1_i64..1_000_000,
        ) {
            let factor = Factor { numerator: numerator.into(), denominator: denominator.into() };
            let result = Conversion::new(factor, Decimal::ZERO)
                .apply(i128::from(value), scale)
                .unwrap();

            // All in units of 10^-38: r x d against v x n.
            let unit = |mantissa: i128, scale: u32, times: i64| {
                i256::from_i128(mantissa)
                    .checked_mul(power_of_ten(38 - scale as usize).unwrap())
                    .unwrap()
                    .checked_mul(i256::from_i128(times.into()))
                    .unwrap()
            };
            let is = unit(result.mantissa(), result.scale(), denominator);
            let exact = unit(value.into(), scale.into(), numerator);
            let difference = is.wrapping_sub(exact).wrapping_abs();
            let last_digit = unit(1, result.scale(), denominator);
            prop_assert!(difference.checked_mul(i256::from_i128(2)).unwrap() <= last_digit);
            if difference != i256::ZERO {
                let digits = digits_of(i256::from_i128(result.mantissa()));
                prop_assert!(result.scale() == 28 || digits >= ROUNDED_DIGITS_MAX);
            }
        }

        #[test]
        fn the_short_way_and_the_long_way_agree(
            value in -1_000_000_000_000_000_i128..1_000_000_000_000_000,
            scale in 0_u8..8,
            factor in prop::sample::select(vec!["1", "1/1024", "1/1048576", "0.001", "5/8", "60"]),
            offset in prop::sample::select(vec!["0", "0.5", "-273.15", "1000000"]),
        ) {
            let conversion = conversion(factor, offset);
            let exponent = conversion.exponent - i32::from(scale);

            let long = conversion.apply_long(value, exponent).unwrap();

            prop_assert_eq!(conversion.apply(value, scale).unwrap(), long);
            if let Some(short) = conversion.apply_short(value, exponent) {
                prop_assert_eq!(short, long);
            }
        }
    }
}
