//! Exact decimals in columns, and the one place where products, sums and quotients are rounded.
//!
//! The rule is that of Python's `decimal` with a context of 28 digits and `ROUND_HALF_EVEN`, for
//! results that need at most 28 fractional digits; a result that needs more is rounded once, half
//! even, to 28. Checked against 1,500 results that Python wrote (`tests/data/decimal_python.py`):
//! all are equal where Python's own have at most 28 fractional digits.
//!
//! `rust_decimal`'s own operators follow another rule: they keep as many digits as fit 96 bits, 28
//! or 29, and of the 804 products in that file whose integer part fits, 108 come out otherwise. So
//! money is multiplied with [`multiply_half_even`], never with `*`.

use std::ops::RangeInclusive;

use arrow_array::{Array, Decimal128Array};
use arrow_buffer::i256;
use rust_decimal::Decimal;

pub use crate::number::{NumberError, Precision};
use crate::{Error, Result};

/// Most fractional digits of any quantity or price.
pub const SCALE_MAX: u32 = 28;
/// Most significant digits of anything that had to be rounded.
pub const DIGITS_MAX: u32 = 28;
/// Digits a decimal column can hold.
const COLUMN_DIGITS: u32 = 38;
/// Bits of a [`Decimal`] without its sign.
const DECIMAL_BITS: u32 = 96;

/// `10^n` for every `n` that fits.
const POWERS: [i128; 39] = {
    let mut powers = [1_i128; 39];
    let mut index = 1;
    while index < powers.len() {
        powers[index] = powers[index - 1] * 10;
        index += 1;
    }
    powers
};

const fn power(digits: u32) -> i128 {
    POWERS[digits as usize]
}

/// `10^digits`, if 128 bits hold it.
pub fn power_of_ten(digits: u32) -> Option<i128> {
    POWERS.get(digits as usize).copied()
}

/// A column of decimals in the smallest scale that loses no digit, precision 38, without nulls.
///
/// ```
/// use rated_plugin::{Decimal, decimal_at, decimal_column};
///
/// let column = decimal_column(&[Decimal::new(150, 2), Decimal::ONE])?;
/// assert_eq!((column.scale(), column.value(0)), (1, 15));
/// assert_eq!(decimal_at(&column, 0)?, Decimal::new(15, 1));
/// # Ok::<(), rated_plugin::Error>(())
/// ```
///
/// The error has the split flag: no one scale holds all values exactly, fewer of them may fit.
pub fn decimal_column<'a>(
    values: impl IntoIterator<Item = &'a Decimal, IntoIter: Clone>,
) -> Result<Decimal128Array> {
    let values = values.into_iter();
    let scale = values.clone().fold(0, |scale, value| scale.max(scale_needed(value, scale)));
    let unscaled =
        values.map(|value| rescale(value, scale)).collect::<Option<Vec<i128>>>().ok_or_else(
            || Error::split(format!("values do not fit one decimal column of scale {scale}")),
        )?;
    let scale = i8::try_from(scale).expect("a Decimal has a scale of at most 28");
    Decimal128Array::from(unscaled)
        .with_precision_and_scale(38, scale)
        .map_err(|error| Error::internal(error.to_string()))
}

/// A column of decimals that are whole numbers of `10^-scale`, in the smallest scale that loses no
/// digit, precision 38, without nulls.
///
/// ```
/// use rated_plugin::decimal::unscaled_column;
///
/// let column = unscaled_column(vec![1500, 20], 3)?;
/// assert_eq!((column.scale(), column.value(0), column.value(1)), (2, 150, 2));
/// # Ok::<(), rated_plugin::Error>(())
/// ```
pub fn unscaled_column(mut values: Vec<i128>, scale: u32) -> Result<Decimal128Array> {
    let mut zeros = scale;
    for value in &values {
        // Mostly the first values have a digit in the last place.
        while zeros > 0 && value % power(zeros) != 0 {
            zeros -= 1;
        }
        if zeros == 0 {
            break;
        }
    }
    if zeros > 0 {
        for value in &mut values {
            *value /= power(zeros);
        }
    }
    let scale = i8::try_from(scale - zeros).map_err(|error| Error::internal(error.to_string()))?;
    Decimal128Array::from(values)
        .with_precision_and_scale(38, scale)
        .map_err(|error| Error::internal(error.to_string()))
}

/// The scale that holds `value` exactly, at least `least`.
fn scale_needed(value: &Decimal, least: u32) -> u32 {
    if value.scale() <= least {
        return least;
    }
    // One division settles the common case: the value fits the scale that others need anyway.
    let mantissa = value.mantissa();
    if mantissa % power(value.scale() - least) == 0 {
        return least;
    }
    let mut scale = value.scale();
    let mut mantissa = mantissa;
    while mantissa % 10 == 0 {
        mantissa /= 10;
        scale -= 1;
    }
    scale
}

/// The integer that stands for `value` in a column of `scale`, if it fits.
fn rescale(value: &Decimal, scale: u32) -> Option<i128> {
    let mantissa = value.mantissa();
    let unscaled = match scale.checked_sub(value.scale()) {
        // 96 bits are 29 digits at most.
        Some(0) => return Some(mantissa),
        Some(digits) => shifted(mantissa, digits)?,
        None => mantissa / power(value.scale() - scale),
    };
    (unscaled.abs() < power(COLUMN_DIGITS)).then_some(unscaled)
}

/// `mantissa * 10^digits`, if it fits.
fn shifted(mantissa: i128, digits: u32) -> Option<i128> {
    // Most numbers are small: no check for overflow is needed then, and it costs more than the
    // product.
    match i64::try_from(mantissa) {
        Ok(mantissa) if digits <= 18 => Some(i128::from(mantissa) * power(digits)),
        _ => mantissa.checked_mul(power(digits)),
    }
}

/// The decimal in a row of a column.
///
/// `BadData` for a null, a scale outside 0 to 28 and a number that needs more than 96 bits even
/// without its trailing zeros.
pub fn decimal_at(column: &Decimal128Array, row: usize) -> Result<Decimal> {
    if column.is_null(row) {
        return Err(Error::bad_data(format!("no number in row {row}")));
    }
    let scale = column_scale(column)?;
    read(column.value(row), scale)
        .ok_or_else(|| Error::bad_data(format!("the number in row {row} has too many digits")))
}

/// The decimal that `unscaled` stands for in a column of `scale`.
pub(crate) fn read(unscaled: i128, scale: u32) -> Option<Decimal> {
    if let Ok(value) = Decimal::try_from_i128_with_scale(unscaled, scale) {
        return Some(value);
    }
    // The scale of the column may be another row's: what does not fit may be zeros.
    let (mut unscaled, mut scale) = (unscaled, scale);
    while scale > 0 && unscaled % 10 == 0 {
        unscaled /= 10;
        scale -= 1;
    }
    Decimal::try_from_i128_with_scale(unscaled, scale).ok()
}

/// Checks that [`decimal_at`] cannot fail for any row; a range that holds every unscaled value,
/// from 0 where none is negative.
///
/// ```
/// use rated_plugin::decimal::{check_decimals, unscaled_column};
///
/// assert_eq!(check_decimals(&unscaled_column(vec![15, 10], 1)?)?, 0..=15);
/// # Ok::<(), rated_plugin::Error>(())
/// ```
pub fn check_decimals(column: &Decimal128Array) -> Result<RangeInclusive<i128>> {
    let scale = column_scale(column)?;
    if column.null_count() > 0 {
        return Err(Error::bad_data("a number is missing"));
    }
    let range = rough_range(column.values());
    if *range.end() < (1 << (DECIMAL_BITS - 1)) {
        return Ok(range);
    }
    match column.values().iter().position(|value| read(*value, scale).is_none()) {
        None => Ok(range),
        Some(row) => Err(Error::bad_data(format!("the number in row {row} has too many digits"))),
    }
}

/// A range that holds all values, with powers of two at its ends.
fn rough_range(values: &[i128]) -> RangeInclusive<i128> {
    // The bits of all values together say enough, and cost little.
    let all = values.iter().fold(0, |all, value| all | value);
    if all >= 0 {
        return 0..=ones(all);
    }
    let all = values.iter().fold(0, |all, value| all | (value ^ (value >> (i128::BITS - 1))));
    !ones(all)..=ones(all)
}

/// As many ones as `value`, which is not negative, has binary digits.
fn ones(value: i128) -> i128 {
    i128::MAX >> (value.leading_zeros() - 1)
}

fn column_scale(column: &Decimal128Array) -> Result<u32> {
    u32::try_from(column.scale()).ok().filter(|scale| *scale <= SCALE_MAX).ok_or_else(|| {
        Error::bad_data(format!("scale {} is not between 0 and {SCALE_MAX}", column.scale()))
    })
}

/// `a * b`, rounded half to even to 28 significant and at most 28 fractional digits.
///
/// `None` when the product has more than 28 digits before the point.
///
/// ```
/// use rated_plugin::{Decimal, decimal::multiply_half_even};
///
/// let (tiny, half) = (Decimal::new(5, 28), Decimal::new(5, 1));
/// assert_eq!(multiply_half_even(tiny, half), Some(Decimal::new(2, 28)));
/// assert_eq!(multiply_half_even(Decimal::MAX, Decimal::MAX), None);
/// ```
pub fn multiply_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale() + b.scale();
    let (left, right) = (a.mantissa(), b.mantissa());
    // Most numbers are small: no check for overflow is needed then.
    if let (Ok(left), Ok(right)) = (i64::try_from(left), i64::try_from(right)) {
        return round_half_even(i128::from(left) * i128::from(right), scale);
    }
    match left.checked_mul(right) {
        Some(product) => round_half_even(product, scale),
        None => round_wide_half_even(wide(left).checked_mul(wide(right))?, scale),
    }
}

/// `a + b`, rounded half to even to 28 significant digits (no sum has more fractional digits than
/// its parts).
pub fn add_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale().max(b.scale());
    let narrow = |value: Decimal| shifted(value.mantissa(), scale - value.scale());
    if let (Some(a), Some(b)) = (narrow(a), narrow(b))
        && let Some(sum) = a.checked_add(b)
    {
        return round_half_even(sum, scale);
    }
    let widened =
        |value: Decimal| wide(value.mantissa()).checked_mul(wide(power(scale - value.scale())));
    round_wide_half_even(widened(a)?.checked_add(widened(b)?)?, scale)
}

/// `a / b`, rounded half to even to 28 significant and at most 28 fractional digits.
///
/// `None` when `b` is zero or the quotient has more than 28 digits before the point.
pub fn divide_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    if a.is_zero() || b.is_zero() {
        return (!b.is_zero()).then_some(Decimal::ZERO);
    }
    // Enough digits that the quotient has at least 30, and one more that says whether anything is
    // left.
    let (dividend, divisor) = (wide(a.mantissa()), wide(b.mantissa()));
    let shift = (DIGITS_MAX + 2 + wide_digits(divisor)).saturating_sub(wide_digits(dividend));
    let dividend = dividend.checked_mul(wide_power(shift))?;
    let quotient = dividend.checked_div(divisor)?;
    let is_exact = dividend.checked_rem(divisor)? == i256::ZERO;
    let away = if a.is_sign_negative() == b.is_sign_negative() { 1 } else { -1 };
    let sticky = wide(if is_exact { 0 } else { away });
    let unscaled = quotient.checked_mul(wide(10))?.checked_add(sticky)?;
    let scale = i64::from(a.scale()) - i64::from(b.scale()) + i64::from(shift) + 1;
    round_wide_half_even(unscaled, u32::try_from(scale).ok()?)
}

/// The named place of rounding, for what fits 128 bits.
fn round_half_even(unscaled: i128, scale: u32) -> Option<Decimal> {
    if scale <= SCALE_MAX && unscaled.unsigned_abs() < power(DIGITS_MAX).unsigned_abs() {
        return Decimal::try_from_i128_with_scale(unscaled, scale).ok();
    }
    let digits = unscaled.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    let excess = digits.saturating_sub(DIGITS_MAX).max(scale.saturating_sub(SCALE_MAX));
    if excess > scale {
        // Digits before the point would have to go.
        return None;
    }
    let divisor = power(excess);
    let (quotient, rest) = (unscaled / divisor, (unscaled % divisor).abs());
    let up = rest > divisor - rest || (rest == divisor - rest && quotient % 2 != 0);
    finish(if up { quotient + unscaled.signum() } else { quotient }, scale - excess)
}

/// The same for what does not.
fn round_wide_half_even(unscaled: i256, scale: u32) -> Option<Decimal> {
    let digits = wide_digits(unscaled);
    let excess = digits.saturating_sub(DIGITS_MAX).max(scale.saturating_sub(SCALE_MAX));
    if excess > scale {
        return None;
    }
    if excess > WIDE_POWER_MAX {
        return Some(Decimal::ZERO);
    }
    let divisor = wide_power(excess);
    let rest = unscaled.checked_rem(divisor)?.checked_abs()?;
    let other = divisor.checked_sub(rest)?;
    let quotient = unscaled.checked_div(divisor)?.to_i128()?;
    let up = rest > other || (rest == other && quotient % 2 != 0);
    let away = if unscaled < i256::ZERO { -1 } else { 1 };
    finish(if up { quotient + away } else { quotient }, scale - excess)
}

/// Rounding up may have made a 29th digit: `999…9.5` became `1000…0`.
fn finish(rounded: i128, scale: u32) -> Option<Decimal> {
    if rounded.abs() == power(DIGITS_MAX) && scale > 0 {
        return Decimal::try_from_i128_with_scale(rounded / 10, scale - 1).ok();
    }
    Decimal::try_from_i128_with_scale(rounded, scale).ok()
}

/// The largest power of ten that an `i256` holds.
const WIDE_POWER_MAX: u32 = 76;

fn wide(value: i128) -> i256 {
    i256::from_i128(value)
}

fn wide_power(digits: u32) -> i256 {
    let low = digits.min(38);
    wide(power(low)).wrapping_mul(wide(power(digits - low)))
}

fn wide_digits(value: i256) -> u32 {
    let value = value.wrapping_abs();
    (1..=WIDE_POWER_MAX).find(|&digits| value < wide_power(digits)).unwrap_or(WIDE_POWER_MAX + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        (-(1_i128 << 96) + 1..1_i128 << 96, 0_u32..=28, 0_u32..=28).prop_map(
            |(mantissa, scale, shift)| {
                Decimal::from_i128_with_scale(mantissa / power(shift), scale)
            },
        )
    }

    /// Each line of the file: what Python says, and what the same rule with 28 fractional digits at
    /// most says.
    fn python_cases() -> impl Iterator<Item = [&'static str; 5]> {
        include_str!("../tests/data/decimal_python.txt")
            .lines()
            .map(|line| <[&str; 5]>::try_from(line.split(' ').collect::<Vec<_>>()).unwrap())
    }

    #[test]
    fn products_sums_and_quotients_are_those_of_python_to_28_places() {
        for [operation, a, b, _, expected] in python_cases() {
            let (left, right): (Decimal, Decimal) = (a.parse().unwrap(), b.parse().unwrap());

            let found = match operation {
                "mul" => multiply_half_even(left, right),
                "add" => add_half_even(left, right),
                _ => divide_half_even(left, right),
            };

            let expected = (expected != "none").then(|| expected.parse::<Decimal>().unwrap());
            assert_eq!(found, expected, "{operation} {a} {b}");
        }
    }

    /// Why [`multiply_half_even`] exists: `Decimal::checked_mul` keeps as many digits as fit 96
    /// bits (28 or 29).
    #[test]
    fn the_product_of_rust_decimal_is_another() {
        let mut counts = [0_u32; 3];
        for [operation, a, b, _, expected] in python_cases().filter(|case| case[4] != "none") {
            if operation == "mul" {
                let (a, b): (Decimal, Decimal) = (a.parse().unwrap(), b.parse().unwrap());
                let expected: Decimal = expected.parse().unwrap();
                let found = a.checked_mul(b);
                let place = match found {
                    None => 2,
                    Some(found) if found == expected => 0,
                    Some(_) => 1,
                };
                counts[place] += 1;
            }
        }

        assert_eq!(counts, [696, 108, 0], "equal, other digits, refused");
    }

    proptest! {
        #[test]
        fn a_column_gives_back_what_went_in(values in prop::collection::vec(any_decimal(), 0..20)) {
            match decimal_column(&values) {
                Ok(column) => {
                    for (row, value) in values.iter().enumerate() {
                        prop_assert_eq!(decimal_at(&column, row), Ok(*value));
                    }
                    let needed = values.iter().map(|value| value.normalize().scale()).max();
                    let scale = u32::try_from(column.scale()).ok();
                    prop_assert_eq!(scale, Some(needed.unwrap_or(0)));
                }
                Err(error) => prop_assert!(error.split),
            }
        }

        #[test]
        fn one_value_always_fits(value in any_decimal()) {
            prop_assert!(decimal_column(&[value]).is_ok());
        }

        #[test]
        fn a_product_does_not_depend_on_order_or_zeros(a in any_decimal(), b in any_decimal()) {
            let product = multiply_half_even(a, b);

            prop_assert_eq!(product, multiply_half_even(b, a));
            prop_assert_eq!(product, multiply_half_even(a.normalize(), b.normalize()));
        }

        #[test]
        fn a_sum_does_not_depend_on_order(a in any_decimal(), b in any_decimal()) {
            prop_assert_eq!(add_half_even(a, b), add_half_even(b, a));
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let product = |a: &str, b: &str| {
            multiply_half_even(a.parse().unwrap(), b.parse().unwrap()).unwrap().to_string()
        };

        assert_eq!(
            product("0.0000000000000000000000000005", "0.5"),
            "0.0000000000000000000000000002"
        );
        assert_eq!(
            product("0.0000000000000000000000000007", "0.5"),
            "0.0000000000000000000000000004"
        );
        assert_eq!(product("1.999999999999999999999999999", "5"), "9.999999999999999999999999995");
        assert_eq!(
            product("-0.0000000000000000000000000003", "0.5"),
            "-0.0000000000000000000000000002"
        );
    }

    #[test]
    fn a_product_of_exactly_128_bits_is_rounded_too() {
        let a = Decimal::from_i128_with_scale(-(1 << 64), 14);
        let b = Decimal::from_i128_with_scale(1 << 63, 14);

        let product = multiply_half_even(a, b).unwrap();

        assert_eq!(product.to_string(), "-17014118346.04692317316873037");
    }

    #[test]
    fn a_scale_that_another_row_needs_loses_no_number() {
        let values = ["79228162514.264337593544", "-0.000166213132860763"];
        let values = values.map(|text| text.parse::<Decimal>().unwrap());

        let column = decimal_column(&values).unwrap();

        assert!(column.value(0) >= 1 << 96);
        let range = check_decimals(&column).unwrap();
        assert!(column.values().iter().all(|value| range.contains(value)));
        assert_eq!(values.map(Ok), [decimal_at(&column, 0), decimal_at(&column, 1)]);
    }

    #[test]
    fn what_does_not_fit_a_column_says_split() {
        let error = decimal_column(&[Decimal::MAX, Decimal::new(1, 28)]).unwrap_err();

        assert!(error.split);
        assert_eq!(error.message, "values do not fit one decimal column of scale 28");
    }

    #[test]
    fn numbers_of_more_than_96_bits_are_refused() {
        let column =
            Decimal128Array::from(vec![1, (1 << 96) + 1]).with_precision_and_scale(38, 2).unwrap();

        assert_eq!(decimal_at(&column, 0), Ok(Decimal::new(1, 2)));
        assert!(decimal_at(&column, 1).is_err());
        assert_eq!(
            check_decimals(&column).unwrap_err().message,
            "the number in row 1 has too many digits"
        );
    }
}
