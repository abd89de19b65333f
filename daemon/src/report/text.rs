//! Numbers as texts.

use arrow_buffer::i256;
use rust_decimal::Decimal;

use crate::usage::Sum;

/// Most digits of a number that comes in, without leading zeros.
pub const SIGNIFICANT_DIGITS_MAX: usize = 28;

/// Fractional digits of a [`Sum`].
const SUM_SCALE: u32 = 28;

/// All digits, at least one of them after the point.
pub fn exact(sum: Sum) -> String {
    sum.to_text(1)
}

/// All digits of a decimal and no needless zero.
pub fn plain_decimal(value: Decimal) -> String {
    value.normalize().to_string()
}

/// All digits of a decimal, at least one of them after the point.
pub fn exact_decimal(value: Decimal) -> String {
    let value = value.normalize();
    if value.scale() == 0 { format!("{}.0", value.mantissa()) } else { value.to_string() }
}

/// At most `digits` after the point, at least one; halves go to the even neighbour.
pub fn rounded_half_even(sum: Sum, digits: u32) -> String {
    let step = i256::from_i128(10_i128.pow(SUM_SCALE.saturating_sub(digits)));
    let (mut quotient, rest) = (sum.0.wrapping_div(step), sum.0.wrapping_rem(step));
    let twice = rest.wrapping_abs().wrapping_add(rest.wrapping_abs());
    let odd = quotient.wrapping_rem(i256::from_i128(2)) != i256::ZERO;
    if twice > step || (twice == step && odd) {
        let away = if sum.0 < i256::ZERO { -1 } else { 1 };
        quotient = quotient.wrapping_add(i256::from_i128(away));
    }
    Sum(quotient.wrapping_mul(step)).to_text(1)
}

/// As quotes are shown: padded to 28 significant digits, and zero as `0`.
pub fn quoted(sum: Sum) -> String {
    if sum == Sum::ZERO {
        return "0".to_owned();
    }
    let text = sum.to_text(0);
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let whole_digits = whole.trim_start_matches(['-', '0']).len();
    let significant = match whole_digits {
        0 => fraction.trim_start_matches('0').len(),
        digits => digits + fraction.len(),
    };
    let room = (SUM_SCALE as usize).saturating_sub(fraction.len());
    let padding = SIGNIFICANT_DIGITS_MAX.saturating_sub(significant).min(room);
    let point = if fraction.is_empty() && padding > 0 { "." } else { "" };
    format!("{text}{point}{}", "0".repeat(padding))
}

/// Why a text is no number for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("not a number")]
    NotANumber,
    #[error("must have at most {SIGNIFICANT_DIGITS_MAX} significant digits")]
    TooManyDigits,
    #[error("out of range")]
    OutOfRange,
}

/// The decimal that a text says, exactly; `1e3` is understood.
pub fn decimal(text: &str) -> Result<Decimal, DecimalError> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(place) => (&text[..place], Some(&text[place + 1..])),
        None => (text, None),
    };
    let (number, fraction_digits) = mantissa_of(mantissa)?;
    let exponent: i32 = match exponent {
        Some(text) => text.parse().map_err(|_| DecimalError::NotANumber)?,
        None => 0,
    };
    if number == 0 {
        return Ok(Decimal::ZERO);
    }
    let scale = fraction_digits.saturating_sub(exponent);
    let (number, scale) = if scale < 0 {
        let power = 10_i128.checked_pow(scale.unsigned_abs()).ok_or(DecimalError::OutOfRange)?;
        (number.checked_mul(power).ok_or(DecimalError::OutOfRange)?, 0)
    } else {
        (number, scale.unsigned_abs())
    };
    let value = Decimal::try_from_i128_with_scale(number, scale);
    let value = value.map_err(|_| DecimalError::OutOfRange)?;
    // Without an exponent the last digit after the point is no zero.
    Ok(if exponent == 0 { value } else { value.normalize() })
}

/// Digits with a point in them as a number, and how many of its digits are behind the point. Zeros
/// at either end carry no information: 0.10 is 0.1.
fn mantissa_of(text: &str) -> Result<(i128, i32), DecimalError> {
    let is_negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mut number, mut significant) = (0_i128, 0);
    let mut push = |digit: u8| {
        significant += usize::from(number != 0 || digit != 0);
        if significant <= SIGNIFICANT_DIGITS_MAX {
            number = number * 10 + i128::from(digit);
        }
    };
    let (mut has_point, mut digits, mut zeros) = (false, 0_usize, 0_usize);
    let mut fraction_digits = 0_usize;
    for byte in unsigned.bytes() {
        match byte {
            b'.' if !has_point => has_point = true,
            // It counts when another digit follows.
            b'0' if has_point => (digits, zeros) = (digits + 1, zeros + 1),
            b'0'..=b'9' => {
                (0..zeros).for_each(|_| push(0));
                push(byte - b'0');
                fraction_digits += if has_point { zeros + 1 } else { 0 };
                (digits, zeros) = (digits + 1, 0);
            }
            _ => return Err(DecimalError::NotANumber),
        }
    }
    if digits == 0 {
        return Err(DecimalError::NotANumber);
    }
    if significant > SIGNIFICANT_DIGITS_MAX {
        return Err(DecimalError::TooManyDigits);
    }
    let fraction_digits = i32::try_from(fraction_digits).map_err(|_| DecimalError::OutOfRange)?;
    Ok((if is_negative { -number } else { number }, fraction_digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(text: &str) -> Sum {
        Sum::from_decimal(text.parse().unwrap())
    }

    /// Digit texts instead of numbers: slow, and easy to believe.
    fn model(text: &str) -> Result<Decimal, DecimalError> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, ""));
        let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
        let digits: String = unsigned.chars().filter(|&character| character != '.').collect();
        let points = unsigned.len() - digits.len();
        if digits.is_empty() || points > 1 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(DecimalError::NotANumber);
        }
        // Zeros at either end carry no information: 0.10 is 0.1.
        let fraction = unsigned.split_once('.').map_or("", |(_, fraction)| fraction);
        let zeros = fraction.len() - fraction.trim_end_matches('0').len();
        let (significant, _) = digits.split_at(digits.len() - zeros);
        if significant.trim_start_matches('0').len() > SIGNIFICANT_DIGITS_MAX {
            return Err(DecimalError::TooManyDigits);
        }
        let exponent: i32 = match exponent {
            "" if text.contains(['e', 'E']) => return Err(DecimalError::NotANumber),
            "" => 0,
            text => text.parse().map_err(|_| DecimalError::NotANumber)?,
        };
        let mut number: i128 = match significant.trim_start_matches('0') {
            "" => return Ok(Decimal::ZERO),
            digits => digits.parse().map_err(|_| DecimalError::TooManyDigits)?,
        };
        let kept_fraction =
            i32::try_from(fraction.len() - zeros).map_err(|_| DecimalError::OutOfRange)?;
        let mut scale = kept_fraction.saturating_sub(exponent);
        if scale < 0 {
            let power =
                10_i128.checked_pow(scale.unsigned_abs()).ok_or(DecimalError::OutOfRange)?;
            number = number.checked_mul(power).ok_or(DecimalError::OutOfRange)?;
            scale = 0;
        }
        if mantissa.starts_with('-') {
            number = -number;
        }
        Decimal::try_from_i128_with_scale(number, scale.unsigned_abs())
            .map(|value| value.normalize())
            .map_err(|_| DecimalError::OutOfRange)
    }

    #[test]
    fn at_least_one_digit_follows_the_point() {
        assert_eq!(exact(sum("69")), "69.0");
        assert_eq!(exact(sum("0.150")), "0.15");
        assert_eq!(exact(Sum::ZERO), "0.0");
        assert_eq!(
            exact(sum("-0.0000000000000000000000000001")),
            "-0.0000000000000000000000000001"
        );
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (value, expected) in [
            ("1.05", "1.05"),
            ("0.000005", "0.0"),
            ("0.0000050000000000000000000001", "0.00001"),
            ("0.000015", "0.00002"),
            ("-0.000015", "-0.00002"),
            ("-0.000025", "-0.00002"),
            ("2.999999", "3.0"),
        ] {
            assert_eq!(rounded_half_even(sum(value), 5), expected, "{value}");
        }
    }

    #[test]
    fn quotes_have_28_digits() {
        for (value, expected) in [
            ("0", "0"),
            ("0.25", "0.2500000000000000000000000000"),
            ("0.625", "0.6250000000000000000000000000"),
            ("1", "1.000000000000000000000000000"),
            ("4", "4.000000000000000000000000000"),
            ("-4", "-4.000000000000000000000000000"),
            ("0.0000000000000000000000000001", "0.0000000000000000000000000001"),
            ("10000000000000000000000000000", "10000000000000000000000000000"),
        ] {
            assert_eq!(quoted(sum(value)), expected, "{value}");
        }
    }

    #[test]
    fn numbers_are_read_exactly_or_not_at_all() {
        let read = |text: &str| decimal(text).map(|value| value.to_string());
        assert_eq!(read("1.0").as_deref(), Ok("1"));
        assert_eq!(read("0.1").as_deref(), Ok("0.1"));
        assert_eq!(read("-2.50").as_deref(), Ok("-2.5"));
        assert_eq!(read("1e3").as_deref(), Ok("1000"));
        assert_eq!(read("15E-1").as_deref(), Ok("1.5"));
        assert_eq!(read(".5").as_deref(), Ok("0.5"));
        assert_eq!(read("0.0000000000000000000000000000000").as_deref(), Ok("0"));
        assert_eq!(read(&"9".repeat(28)).as_deref(), Ok("9".repeat(28).as_str()));
        assert_eq!(read(&"9".repeat(29)), Err(DecimalError::TooManyDigits));
        assert_eq!(read("1e99"), Err(DecimalError::OutOfRange));
        assert_eq!(read("1e-29"), Err(DecimalError::OutOfRange));
        assert_eq!(read("1e-2147483648"), Err(DecimalError::OutOfRange));
        for text in ["", "x", "1.2.3", "NaN", "inf", "1e", "e5", "--1", "1_0", "٣", "."] {
            assert_eq!(read(text), Err(DecimalError::NotANumber), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(mantissa in any::<i64>(), scale in 0..=28_u32) {
            let value = Decimal::new(mantissa, scale);

            prop_assert_eq!(decimal(&exact_decimal(value)), Ok(value.normalize()));
            prop_assert_eq!(exact_decimal(value), exact(Sum::from_decimal(value)));
            prop_assert_eq!(decimal(&quoted(Sum::from_decimal(value))), Ok(value.normalize()));
        }

        #[test]
        fn any_text_is_a_number_or_refused(text in "[-+0-9.eE]{0,40}") {
            prop_assert_eq!(decimal(&text), model(&text));
        }

        #[test]
        fn a_number_is_read_digit_by_digit(
            text in "[-+]?[0-9]{0,15}[.]?[0]{0,20}[0-9]{0,15}0{0,5}([eE][-+]?[0-9]{1,2})?",
        ) {
            let (value, expected) = (decimal(&text), model(&text));

            prop_assert_eq!(value, expected);
            // The same scale too.
            let scale = |value: Result<Decimal, DecimalError>| value.map(|value| value.scale());
            prop_assert_eq!(scale(value), scale(expected));
        }

        #[test]
        fn rounding_moves_less_than_a_step(mantissa in any::<i64>(), scale in 0..=28_u32) {
            let value = Decimal::new(mantissa, scale);

            let rounded: Decimal = rounded_half_even(Sum::from_decimal(value), 5).parse().unwrap();

            prop_assert_eq!(rounded, value.round_dp(5));
        }
    }
}
