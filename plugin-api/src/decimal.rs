//! Exact decimals in columns, and the one place where products are rounded.

use arrow_array::{Array, Decimal128Array};
use arrow_buffer::i256;
use rust_decimal::Decimal;

use crate::{Error, Result};

/// Most fractional digits of any quantity or price.
pub const SCALE_MAX: u32 = 28;
/// Most significant digits of anything that had to be rounded.
pub const DIGITS_MAX: u32 = 28;
/// Digits a decimal column can hold.
const COLUMN_DIGITS: u32 = 38;

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

/// A column of decimals in the smallest scale that loses no digit, precision 38, without nulls.
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
    let unscaled = if value.scale() <= scale {
        mantissa.checked_mul(power(scale - value.scale()))?
    } else {
        mantissa / power(value.scale() - scale)
    };
    (unscaled.abs() < power(COLUMN_DIGITS)).then_some(unscaled)
}

/// The decimal in a row of a column.
///
/// `BadData` for a null, a scale outside 0 to 28 and a number of more than 96 bits.
pub fn decimal_at(column: &Decimal128Array, row: usize) -> Result<Decimal> {
    if column.is_null(row) {
        return Err(Error::bad_data(format!("no number in row {row}")));
    }
    let scale = column_scale(column)?;
    Decimal::try_from_i128_with_scale(column.value(row), scale)
        .map_err(|_| Error::bad_data(format!("the number in row {row} has too many digits")))
}

/// Checks that [`decimal_at`] cannot fail for any row.
pub fn check_decimals(column: &Decimal128Array) -> Result<()> {
    column_scale(column)?;
    if column.null_count() > 0 {
        return Err(Error::bad_data("a number is missing"));
    }
    let limit = 1_i128 << 96;
    match column.values().iter().position(|value| value.abs() >= limit) {
        None => Ok(()),
        Some(row) => Err(Error::bad_data(format!("the number in row {row} has too many digits"))),
    }
}

fn column_scale(column: &Decimal128Array) -> Result<u32> {
    u32::try_from(column.scale()).ok().filter(|scale| *scale <= SCALE_MAX).ok_or_else(|| {
        Error::bad_data(format!("scale {} is not between 0 and {SCALE_MAX}", column.scale()))
    })
}

/// `a * b`, rounded half to even to 28 significant and at most 28 fractional digits.
///
/// `None` when the product has more than 28 digits before the point.
pub fn multiply_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale() + b.scale();
    if let Some(product) = a.mantissa().checked_mul(b.mantissa()) {
        return round_half_even(product, scale);
    }
    round_wide_half_even(
        i256::from_i128(a.mantissa()).checked_mul(i256::from_i128(b.mantissa()))?,
        scale,
    )
}

/// `a + b`, rounded half to even to 28 significant digits (no sum has more fractional digits than its parts).
pub fn add_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale().max(b.scale());
    let narrow = |value: Decimal| value.mantissa().checked_mul(power(scale - value.scale()));
    if let (Some(a), Some(b)) = (narrow(a), narrow(b))
        && let Some(sum) = a.checked_add(b)
    {
        return round_half_even(sum, scale);
    }
    let wide = |value: Decimal| {
        i256::from_i128(value.mantissa()).checked_mul(i256::from_i128(power(scale - value.scale())))
    };
    round_wide_half_even(wide(a)?.checked_add(wide(b)?)?, scale)
}

/// `a / b`, rounded half to even to 28 significant and at most 28 fractional digits; `None` when `b` is zero or the
/// quotient has more than 28 digits before the point.
pub fn divide_half_even(a: Decimal, b: Decimal) -> Option<Decimal> {
    if b.is_zero() {
        return None;
    }
    // Enough digits that the quotient has more than 28, and then one that says whether anything is left.
    let shift = 28 + DIGITS_MAX + 2;
    let ten = |digits: u32| i256::from_i128(power(digits));
    let dividend = i256::from_i128(a.mantissa())
        .checked_mul(ten(shift / 2))?
        .checked_mul(ten(shift - shift / 2))?;
    let divisor = i256::from_i128(b.mantissa());
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?;
    let sign = if a.is_sign_negative() == b.is_sign_negative() { 1 } else { -1 };
    let sticky = if rest == i256::ZERO { 0 } else { sign };
    let unscaled =
        quotient.checked_mul(i256::from_i128(10))?.checked_add(i256::from_i128(sticky))?;
    round_signed_scale(unscaled, i64::from(a.scale()) - i64::from(b.scale()) + i64::from(shift) + 1)
}

/// The named place of rounding, for what fits 128 bits.
fn round_half_even(unscaled: i128, scale: u32) -> Option<Decimal> {
    let digits = unscaled.unsigned_abs().checked_ilog10().map_or(1, |log| log + 1);
    let excess = digits.saturating_sub(DIGITS_MAX).max(scale.saturating_sub(SCALE_MAX));
    if excess == 0 {
        return Decimal::try_from_i128_with_scale(unscaled, scale).ok();
    }
    if excess > scale {
        return round_wide_half_even(i256::from_i128(unscaled), scale);
    }
    if excess > 38 {
        return Some(Decimal::ZERO);
    }
    let divisor = power(excess);
    let (quotient, rest) = (unscaled / divisor, (unscaled % divisor).abs());
    let up = rest > divisor - rest || (rest == divisor - rest && quotient % 2 != 0);
    let rounded = if up { quotient + unscaled.signum() } else { quotient };
    finish(rounded, scale - excess)
}

/// The same for wider products; a negative power of ten cannot come out of decimals, so `None` means "too large".
fn round_wide_half_even(unscaled: i256, scale: u32) -> Option<Decimal> {
    round_signed_scale(unscaled, i64::from(scale))
}

fn round_signed_scale(unscaled: i256, scale: i64) -> Option<Decimal> {
    let digits = wide_digits(unscaled);
    let excess =
        (i64::from(digits) - i64::from(DIGITS_MAX)).max(scale - i64::from(SCALE_MAX)).max(0);
    if excess > scale.max(0) {
        // Digits before the point would have to go.
        return None;
    }
    let Ok(excess) = u32::try_from(excess) else { return None };
    if excess > 76 {
        return Some(Decimal::ZERO);
    }
    let divisor = wide_power(excess);
    let quotient = unscaled.checked_div(divisor)?;
    let rest = unscaled.checked_rem(divisor)?.checked_abs()?;
    let other = divisor.checked_sub(rest)?;
    let odd = quotient.checked_rem(i256::from_i128(2))? != i256::ZERO;
    let quotient = quotient.to_i128()?;
    let up = excess > 0 && (rest > other || (rest == other && odd));
    let away = if unscaled < i256::ZERO { -1 } else { 1 };
    finish(if up { quotient + away } else { quotient }, u32::try_from(scale).ok()? - excess)
}

/// Rounding up may have made a 29th digit: `999…9.5` became `1000…0`.
fn finish(rounded: i128, scale: u32) -> Option<Decimal> {
    if rounded.abs() == power(DIGITS_MAX) && scale > 0 {
        return Decimal::try_from_i128_with_scale(rounded / 10, scale - 1).ok();
    }
    Decimal::try_from_i128_with_scale(rounded, scale).ok()
}

fn wide_power(digits: u32) -> i256 {
    let low = digits.min(38);
    i256::from_i128(power(low)).wrapping_mul(i256::from_i128(power(digits - low)))
}

fn wide_digits(value: i256) -> u32 {
    let mut digits = 1;
    let mut value = value.wrapping_abs();
    let chunk = i256::from_i128(power(19));
    while value >= chunk {
        value = value.checked_div(chunk).expect("a power of ten is not zero");
        digits += 19;
    }
    let small = value.to_i128().expect("below 10^19");
    digits + small.unsigned_abs().checked_ilog10().unwrap_or(0)
}
