//! The numbers in a source's answer: text to decimal, never through a double.
//!
//! Sources write the shortest text that reads back as the same double, with an exponent when it is
//! very large or small.
//!
//! This module does not know metrics or rows; the caller says where a bad number came from.

use std::fmt;

use crate::{Decimal, SCALE_MAX};

/// Longest text read as a number: the longest double without an exponent is shorter.
const TEXT_BYTES_MAX: usize = 400;
/// Longest text, without sign, whose digits fit 64 bits whatever they are.
const SHORT_BYTES_MAX: usize = 19;
/// Most significant digits that any decimal keeps.
const PRECISION_MAX: u32 = 28;
/// Largest exponent worth looking at; everything beyond is too large, or zero.
const EXPONENT_MAX: i64 = 10_000;

/// How many significant digits are kept of a number that a source sends as text.
///
/// [`Precision::quantity`] rounds at most once, half up, at the coarser of two places: the last
/// significant digit asked for, and the 28th fractional digit.
///
/// ```
/// use rated_plugin::decimal::Precision;
///
/// let exact = Precision::ALL.quantity("1.25e-3").unwrap();
/// assert_eq!(exact.to_string(), "0.00125");
/// let nine = Precision::new(9).unwrap().quantity("0.30000000000000004").unwrap();
/// assert_eq!(nine.to_string(), "0.3");
/// assert_eq!(Precision::ALL.quantity("NaN").unwrap_err().to_string(), "not a finite number");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precision(u32);

/// Why a text is not a quantity.
///
/// ```
/// use rated_plugin::decimal::{NumberError, Precision};
///
/// assert_eq!(Precision::ALL.quantity("1,5"), Err(NumberError::NotANumber));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberError {
    /// `NaN` or an infinity.
    NotFinite,
    /// Another text.
    NotANumber,
    /// More digits than a [`Decimal`] can hold.
    TooLarge,
}

impl std::error::Error for NumberError {}

impl fmt::Display for NumberError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NumberError::NotFinite => "not a finite number",
            NumberError::NotANumber => "not a number",
            NumberError::TooLarge => "more digits than a quantity can have",
        })
    }
}

impl Precision {
    /// Every digit that a [`Decimal`] can hold.
    pub const ALL: Precision = Precision(0);

    /// 0 = all digits; `None` when above 28.
    pub fn new(significant_digits: u32) -> Option<Precision> {
        (significant_digits <= PRECISION_MAX).then_some(Precision(significant_digits))
    }

    /// The text as a decimal without trailing zeros, rounded half up (away from zero).
    pub fn quantity(self, text: &str) -> Result<Decimal, NumberError> {
        match self.short_quantity(text.as_bytes()) {
            Some(quantity) => Ok(quantity),
            None => self.long_quantity(text),
        }
    }

    /// Most numbers are short and have no exponent: all their digits fit one machine word.
    fn short_quantity(self, text: &[u8]) -> Option<Decimal> {
        let (is_negative, unsigned) = match text {
            [b'-', rest @ ..] => (true, rest),
            all => (false, all),
        };
        if unsigned.len() > SHORT_BYTES_MAX {
            return None;
        }
        let (mut value, mut digits, mut point) = (0_u64, 0_u32, None);
        for byte in unsigned {
            match byte {
                b'0'..=b'9' => {
                    value = value * 10 + u64::from(byte - b'0');
                    digits += 1;
                }
                b'.' if point.is_none() => point = Some(digits),
                _ => return None,
            }
        }
        if digits == 0 {
            return None;
        }
        let mut scale = digits - point.unwrap_or(digits);
        let insignificant = match self.0 {
            0 => 0,
            precision => value.checked_ilog10().map_or(0, |log| log + 1).saturating_sub(precision),
        };
        if insignificant > scale {
            return None;
        }
        let unit = 10_u64.pow(insignificant);
        value = value / unit + u64::from(value % unit >= unit.div_ceil(2));
        scale -= insignificant;
        while scale > 0 && value.is_multiple_of(10) {
            value /= 10;
            scale -= 1;
        }
        let value = i64::try_from(value).ok()?;
        Some(Decimal::new(if is_negative { -value } else { value }, scale))
    }

    fn long_quantity(self, text: &str) -> Result<Decimal, NumberError> {
        let mut number = Digits::parse(text)?;
        let precision = if self.0 == 0 { i64::MAX } else { i64::from(self.0) };
        let fraction_places = number.places_after_point() - i64::from(SCALE_MAX);
        let insignificant = number.count() - precision;
        number.round_half_up(fraction_places.max(insignificant));
        number.decimal()
    }
}

/// Digits, as numbers in text, times 10^`exponent`; no leading and no trailing zeros.
#[derive(Debug)]
struct Digits {
    is_negative: bool,
    values: Vec<u8>,
    exponent: i64,
}

impl Digits {
    fn parse(text: &str) -> Result<Digits, NumberError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(NumberError::NotANumber);
        }
        let (is_negative, unsigned) = match text.as_bytes() {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            all => (false, all),
        };
        if [&b"NaN"[..], b"nan", b"Inf", b"inf"].contains(&unsigned) {
            return Err(NumberError::NotFinite);
        }
        let mut parts = unsigned.splitn(2, |byte| matches!(byte, b'e' | b'E'));
        let significand = parts.next().unwrap_or_default();
        let exponent = parts.next().map_or(Ok(0), parse_exponent)?;

        let mut halves = significand.splitn(2, |byte| *byte == b'.');
        let whole = halves.next().unwrap_or_default();
        let fraction = halves.next().unwrap_or_default();
        let values: Vec<u8> = whole.iter().chain(fraction).copied().collect();
        if values.is_empty() || !values.iter().all(u8::is_ascii_digit) {
            return Err(NumberError::NotANumber);
        }
        let fraction_len = i64::try_from(fraction.len()).expect("bounded by TEXT_BYTES_MAX");
        let mut number = Digits { is_negative, values, exponent: exponent - fraction_len };
        number.trim();
        Ok(number)
    }

    fn count(&self) -> i64 {
        i64::try_from(self.values.len()).expect("bounded by TEXT_BYTES_MAX")
    }

    fn places_after_point(&self) -> i64 {
        -self.exponent
    }

    fn trim(&mut self) {
        let leading = self.values.iter().take_while(|digit| **digit == b'0').count();
        self.values.drain(..leading);
        while self.values.last() == Some(&b'0') {
            self.values.pop();
            self.exponent += 1;
        }
        if self.values.is_empty() {
            self.is_negative = false;
            self.exponent = 0;
        }
    }

    /// Drops the last `places` digits, if any.
    fn round_half_up(&mut self, places: i64) {
        let Ok(places) = usize::try_from(places) else { return };
        if places == 0 {
            return;
        }
        let kept = self.values.len().checked_sub(places);
        let is_up = kept.is_some_and(|kept| self.values[kept] >= b'5');
        self.values.truncate(kept.unwrap_or(0));
        self.exponent += i64::try_from(places).expect("came from an i64");
        if is_up {
            self.increment();
        }
        self.trim();
    }

    fn increment(&mut self) {
        for digit in self.values.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
        self.values.insert(0, b'1');
    }

    fn decimal(mut self) -> Result<Decimal, NumberError> {
        let digits_written = self.count() + self.exponent.max(0);
        if digits_written > i64::from(PRECISION_MAX) + 1 {
            return Err(NumberError::TooLarge);
        }
        while self.exponent > 0 {
            self.values.push(b'0');
            self.exponent -= 1;
        }
        let magnitude =
            self.values.iter().fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        let mantissa = if self.is_negative { -magnitude } else { magnitude };
        let scale = u32::try_from(-self.exponent).expect("rounded to SCALE_MAX places");
        Decimal::try_from_i128_with_scale(mantissa, scale).map_err(|_| NumberError::TooLarge)
    }
}

fn parse_exponent(text: &[u8]) -> Result<i64, NumberError> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        all => (1, all),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NumberError::NotANumber);
    }
    let magnitude = digits
        .iter()
        .fold(0_i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX));
    Ok(sign * magnitude)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(precision: u32, text: &str, expected: &str) {
        let quantity = Precision::new(precision).unwrap().quantity(text).unwrap();
        assert_eq!(quantity.to_string(), expected, "{text} with {precision} digits");
    }

    #[test]
    fn nine_digits_are_kept_rounded_half_up() {
        check(9, "0", "0");
        check(9, "-0", "0");
        check(9, "1.5", "1.5");
        check(9, "123456789.4", "123456789");
        check(9, "123456789.5", "123456790");
        check(9, "-123456789.5", "-123456790");
        check(9, "1234567894999", "1234567890000");
        check(9, "999999999.9", "1000000000");
        check(9, "0.0001234567895", "0.00012345679");
        check(9, "0.30000000000000004", "0.3");
        check(9, "1.25e+3", "1250");
    }

    #[test]
    fn zero_means_all_digits() {
        check(0, "0.30000000000000004", "0.30000000000000004");
        check(0, "17179869184000001", "17179869184000001");
        check(0, "79228162514264337593543950335", "79228162514264337593543950335");
        check(0, "1.7976931348623157e+10", "17976931348.623157");
        check(0, "00012.3400", "12.34");
        check(0, "5E-1", "0.5");
    }

    #[test]
    fn digits_after_the_28th_are_rounded_half_up_and_only_once() {
        check(0, "1e-28", "0.0000000000000000000000000001");
        check(0, "5e-29", "0.0000000000000000000000000001");
        check(0, "4.9e-29", "0");
        check(0, "5e-324", "0");
        check(0, "-5e-29", "-0.0000000000000000000000000001");
        // Rounded to nine digits first, this would become 5e-29 and then be rounded up.
        check(9, "4.9999999999e-29", "0");
        check(9, "1.23456789e-25", "0.0000000000000000000000001235");
    }

    #[test]
    fn what_is_no_finite_number_is_refused() {
        let refused = |text: &str| Precision::new(9).unwrap().quantity(text).unwrap_err();

        for text in ["NaN", "+Inf", "-Inf", "Inf"] {
            assert_eq!(refused(text), NumberError::NotFinite, "{text}");
        }
        for text in ["", "-", ".", "e5", "1e", "1e+", "0x10", "1_000", " 1", "1 ", "1.2.3", "--1"] {
            assert_eq!(refused(text), NumberError::NotANumber, "{text}");
        }
        assert_eq!(refused(&"1".repeat(401)), NumberError::NotANumber);
        for text in ["1e+29", "1.7976931348623157e+308", "1e99999999999999999999"] {
            assert_eq!(refused(text), NumberError::TooLarge, "{text}");
        }
        let all = Precision::new(0).unwrap();
        assert_eq!(all.quantity("79228162514264337593543950336"), Err(NumberError::TooLarge));
        assert_eq!(all.quantity("1.00000000000000000000000000001"), Ok(Decimal::ONE));
    }

    proptest! {
        #[test]
        fn the_short_way_and_the_long_way_agree(
            text in "[-+]?(0{0,3}[0-9]{0,12}|[0-9]{0,19})(\\.[0-9]{0,19}0{0,3})?(e[0-9]|\\.|x)?",
            precision in 0_u32..=28,
        ) {
            let precision = Precision::new(precision).unwrap();

            let long = precision.long_quantity(&text);

            if let Some(short) = precision.short_quantity(text.as_bytes()) {
                let long = long.unwrap();
                prop_assert_eq!((short.mantissa(), short.scale()), (long.mantissa(), long.scale()));
            }
            let (found, long) = (precision.quantity(&text), precision.long_quantity(&text));
            prop_assert_eq!(found, long);
        }

        #[test]
        fn text_without_exponent_is_read_exactly(
            mantissa in -(1_i128 << 95)..(1_i128 << 95),
            scale in 0_u32..=28,
        ) {
            let expected = Decimal::from_i128_with_scale(mantissa, scale).normalize();

            let quantity = Precision::new(0).unwrap().quantity(&expected.to_string());

            prop_assert_eq!(quantity, Ok(expected));
        }

        #[test]
        fn an_exponent_moves_the_point_and_nothing_else(
            mantissa in 1_i64..=i64::MAX,
            exponent in -40_i32..40,
        ) {
            let shifted = Precision::new(0).unwrap().quantity(&format!("{mantissa}e{exponent}"));
            let zeros = usize::try_from(exponent.unsigned_abs()).unwrap();
            let plain = if exponent >= 0 {
                format!("{mantissa}{}", "0".repeat(zeros))
            } else {
                let digits = format!("{}{mantissa}", "0".repeat(zeros));
                let (whole, fraction) = digits.split_at(digits.len() - zeros);
                format!("{whole}.{fraction}")
            };

            prop_assert_eq!(shifted, Precision::new(0).unwrap().quantity(&plain));
        }

        #[test]
        fn rounding_moves_by_at_most_half_of_the_last_digit(
            mantissa in 1_i64..=i64::MAX,
            exponent in -28_i32..=0,
            precision in 1_u32..=18,
        ) {
            let text = format!("-{mantissa}e{exponent}");
            let exact = Precision::new(0).unwrap().quantity(&text).unwrap();

            let rounded = Precision::new(precision).unwrap().quantity(&text).unwrap();

            let digits = rounded.mantissa().unsigned_abs().to_string();
            prop_assert!(digits.trim_end_matches('0').len() <= precision as usize);
            let first_digit = i32::try_from(mantissa.ilog10()).unwrap() + exponent;
            let last_digit = first_digit - i32::try_from(precision).unwrap() + 1;
            let unit = Precision::new(0).unwrap().quantity(&format!("1e{last_digit}")).unwrap();
            prop_assert!((rounded - exact).abs() * Decimal::TWO <= unit.max(Decimal::new(1, 28)));
        }
    }
}
