//! Costs and levels: how they are read and shown.
//!
//! A number is read as the decimal that its text says; one that cannot be kept exactly is refused,
//! never rounded in silence. Only the decimals of a level beyond the eighth are rounded, as clients
//! rely on that.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};

/// Most digits of any number, leading and trailing zeros apart.
pub(crate) const SIGNIFICANT_DIGITS_MAX: usize = 28;
/// Most digits before the point.
pub(crate) const INTEGER_DIGITS_MAX: i64 = 12;
/// Decimals that a cost is shown with.
pub(crate) const COST_DECIMALS: u32 = 28;
/// Decimals that a level is kept and shown with.
pub(crate) const LEVEL_DECIMALS: u32 = 8;

/// Why a text is no cost and no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AmountError {
    NotANumber,
    NotFinite,
    TooManyDigits,
    TooLarge,
    TooManyDecimals,
}

impl fmt::Display for AmountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AmountError::NotANumber => f.write_str("Not a decimal number"),
            AmountError::NotFinite => f.write_str("Not a finite number"),
            AmountError::TooManyDigits => {
                write!(f, "More than {SIGNIFICANT_DIGITS_MAX} significant digits")
            }
            AmountError::TooLarge => {
                write!(f, "More than {INTEGER_DIGITS_MAX} digits before the point")
            }
            AmountError::TooManyDecimals => {
                write!(f, "More than {COST_DECIMALS} digits after the point")
            }
        }
    }
}

/// A number's digits without leading and trailing zeros, times ten to the power of `exponent`.
struct Digits {
    negative: bool,
    text: String,
    exponent: i64,
}

/// Reads a decimal number as people, Python and JSON write it: `1`, `-.5`, `1e-5`.
fn read_digits(text: &str) -> Result<Digits, AmountError> {
    let text = text.trim();
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if ["nan", "snan", "inf", "infinity"].contains(&unsigned.to_ascii_lowercase().as_str()) {
        return Err(AmountError::NotFinite);
    }
    let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, read_power(power)?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = [whole, fraction].concat();
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::NotANumber);
    }
    let significant = all.trim_end_matches('0');
    let zeros = i64::try_from(all.len() - significant.len()).unwrap_or(i64::MAX);
    let decimals = i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    Ok(Digits {
        negative,
        text: significant.trim_start_matches('0').to_owned(),
        exponent: power.saturating_sub(decimals).saturating_add(zeros),
    })
}

fn read_power(text: &str) -> Result<i64, AmountError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(AmountError::NotANumber);
    }
    // A power that is out of range makes the number too large or too small, whatever it is exactly.
    let limit = i64::from(i32::MAX);
    let power = digits.parse::<i64>().unwrap_or(limit).min(limit);
    Ok(if text.starts_with('-') { -power } else { power })
}

/// Reads a cost: exact, at most 12 digits before and 28 after the point, 28 significant ones.
pub(crate) fn parse_cost(text: &str) -> Result<Decimal, AmountError> {
    let number = read_digits(text)?;
    if number.text.is_empty() {
        return Ok(Decimal::ZERO);
    }
    let length = i64::try_from(number.text.len()).unwrap_or(i64::MAX);
    if number.text.len() > SIGNIFICANT_DIGITS_MAX {
        return Err(AmountError::TooManyDigits);
    }
    if length.saturating_add(number.exponent) > INTEGER_DIGITS_MAX {
        return Err(AmountError::TooLarge);
    }
    if number.exponent < -i64::from(COST_DECIMALS) {
        return Err(AmountError::TooManyDecimals);
    }
    Ok(compose(&number))
}

/// Reads a level: as a cost, and rounded to 8 decimals.
pub(crate) fn parse_level(text: &str) -> Result<Decimal, AmountError> {
    let level = parse_cost(text)?;
    Ok(level.round_dp_with_strategy(LEVEL_DECIMALS, RoundingStrategy::MidpointNearestEven))
}

/// Reads an attribute as a number to compare with levels; a number that no level can reach becomes
/// the largest or smallest there is, digits that no level has are cut off.
pub(crate) fn parse_attribute(text: &str) -> Option<Decimal> {
    // By far most attributes are plain and short.
    if text.len() <= SIGNIFICANT_DIGITS_MAX
        && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
        && let Ok(plain) = text.parse()
    {
        return Some(plain);
    }
    let mut number = read_digits(text).ok()?;
    let length = i64::try_from(number.text.len()).unwrap_or(i64::MAX);
    if !number.text.is_empty() && length.saturating_add(number.exponent) > INTEGER_DIGITS_MAX {
        return Some(if number.negative { Decimal::MIN } else { Decimal::MAX });
    }
    // Twelve digits before the point leave sixteen after it: twice as many as a level has.
    let needless = -number.exponent - 2 * i64::from(LEVEL_DECIMALS);
    if let Ok(needless) = usize::try_from(needless) {
        number.text.truncate(number.text.len().saturating_sub(needless));
        number.exponent = -2 * i64::from(LEVEL_DECIMALS);
    }
    if number.text.is_empty() {
        return Some(Decimal::ZERO);
    }
    Some(compose(&number))
}

/// The number itself; at most 28 digits, of which at most 12 before the point.
fn compose(number: &Digits) -> Decimal {
    let digits = number.text.parse::<i128>().expect("at most 28 digits");
    let digits = if number.negative { -digits } else { digits };
    if let Ok(scale) = u32::try_from(-number.exponent) {
        return Decimal::from_i128_with_scale(digits, scale);
    }
    let power = u32::try_from(number.exponent).expect("at most 12 digits");
    Decimal::from_i128_with_scale(digits * 10_i128.pow(power), 0)
}

/// A number with exactly that many decimals; zero is `0E-<decimals>`, as clients know it.
pub(crate) fn show(value: Decimal, decimals: u32) -> String {
    if value.is_zero() {
        return format!("0E-{decimals}");
    }
    let text = value.normalize().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    format!("{whole}.{fraction:0<width$}", width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(text: &str) -> Result<String, AmountError> {
        parse_cost(text).map(|cost| show(cost, COST_DECIMALS))
    }

    #[test]
    fn a_cost_is_shown_with_28_decimals() {
        assert_eq!(cost("0.3").unwrap(), "0.3000000000000000000000000000");
        assert_eq!(cost("3").unwrap(), "3.0000000000000000000000000000");
        assert_eq!(cost("1e-5").unwrap(), "0.0000100000000000000000000000");
        assert_eq!(cost("-2.5").unwrap(), "-2.5000000000000000000000000000");
        assert_eq!(cost("123456789012.5").unwrap(), "123456789012.5000000000000000000000000000");
        assert_eq!(cost(" +1.5E1 ").unwrap(), "15.0000000000000000000000000000");
        assert_eq!(cost("0").unwrap(), "0E-28");
        assert_eq!(cost("-0.000").unwrap(), "0E-28");
        assert_eq!(cost("1e11").unwrap(), "100000000000.0000000000000000000000000000");
        assert_eq!(cost("0e99999999999999999999").unwrap(), "0E-28");
    }

    #[test]
    fn a_cost_that_cannot_be_kept_exactly_is_refused() {
        assert_eq!(cost("0.12345678901234567890123456789012345"), Err(AmountError::TooManyDigits));
        assert_eq!(cost("12345678901234567.123456789012"), Err(AmountError::TooManyDigits));
        assert_eq!(cost("1234567890123"), Err(AmountError::TooLarge));
        assert_eq!(cost("1e12"), Err(AmountError::TooLarge));
        assert_eq!(cost("1e99999999999999999999"), Err(AmountError::TooLarge));
        assert_eq!(cost("1e-29"), Err(AmountError::TooManyDecimals));
        assert_eq!(cost("1e-99999999999999999999"), Err(AmountError::TooManyDecimals));
        assert_eq!(cost("cheap"), Err(AmountError::NotANumber));
        assert_eq!(cost(""), Err(AmountError::NotANumber));
        assert_eq!(cost("."), Err(AmountError::NotANumber));
        assert_eq!(cost("1e"), Err(AmountError::NotANumber));
        assert_eq!(cost("--1"), Err(AmountError::NotANumber));
        assert_eq!(cost("NaN"), Err(AmountError::NotFinite));
        assert_eq!(cost("-Infinity"), Err(AmountError::NotFinite));
    }

    #[test]
    fn zeros_at_the_end_are_not_significant() {
        let text = format!("1.5{}", "0".repeat(60));

        assert_eq!(cost(&text).unwrap(), "1.5000000000000000000000000000");
    }

    #[test]
    fn a_level_has_eight_decimals() {
        let level = |text| show(parse_level(text).unwrap(), LEVEL_DECIMALS);

        assert_eq!(level("2"), "2.00000000");
        assert_eq!(level("-1.5"), "-1.50000000");
        assert_eq!(level("1.123456789"), "1.12345679");
        assert_eq!(level("0"), "0E-8");
    }

    #[test]
    fn an_attribute_is_a_number_however_long() {
        assert_eq!(parse_attribute("8"), Some(Decimal::from(8)));
        assert_eq!(parse_attribute("1e3"), Some(Decimal::from(1000)));
        assert_eq!(parse_attribute("-1e30"), Some(Decimal::MIN));
        assert_eq!(parse_attribute(&"9".repeat(100)), Some(Decimal::MAX));
        assert_eq!(parse_attribute(&format!("0.{}1", "0".repeat(50))), Some(Decimal::ZERO));
        assert_eq!(
            parse_attribute("999999999999.99999999999999999999999"),
            Some("999999999999.9999999999999999".parse().unwrap())
        );
        assert_eq!(parse_attribute(""), None);
        assert_eq!(parse_attribute("m1.tiny"), None);
        assert_eq!(parse_attribute("NaN"), None);
    }
}
