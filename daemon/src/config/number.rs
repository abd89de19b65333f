//! Decimals and fractions, exactly as they are written.

use rust_decimal::Decimal;

use crate::usage::Factor;

/// `None` when it is no number, or has more digits than a decimal holds.
pub(super) fn decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let mantissa = Decimal::from_str_exact(mantissa.trim_start_matches('+')).ok()?.normalize();
    if exponent < 0 {
        let scale = mantissa.scale().checked_add(exponent.unsigned_abs())?;
        return Decimal::try_from_i128_with_scale(mantissa.mantissa(), scale).ok();
    }
    let mut number = mantissa;
    for _ in 0..exponent {
        if number.is_zero() {
            break;
        }
        number = shift_left(number)?;
    }
    Some(number.normalize())
}

/// Times ten, exactly.
fn shift_left(number: Decimal) -> Option<Decimal> {
    if number.scale() > 0 {
        return Decimal::try_from_i128_with_scale(number.mantissa(), number.scale() - 1).ok();
    }
    Decimal::try_from_i128_with_scale(number.mantissa().checked_mul(10)?, 0).ok()
}

/// A number, or two with `/` between them.
pub(super) fn factor(text: &str) -> Option<Factor> {
    let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
    let factor =
        Factor { numerator: decimal(numerator.trim())?, denominator: decimal(denominator.trim())? };
    (!factor.denominator.is_zero()).then_some(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Option<String> {
        decimal(text).map(|number| number.to_string())
    }

    #[test]
    fn decimals_keep_every_digit_or_are_refused() {
        assert_eq!(exact("0.1").as_deref(), Some("0.1"));
        assert_eq!(exact("-12.50").as_deref(), Some("-12.5"));
        assert_eq!(exact("1e-6").as_deref(), Some("0.000001"));
        assert_eq!(exact("1.25E3").as_deref(), Some("1250"));
        assert_eq!(exact("0e999999999").as_deref(), Some("0"));
        assert_eq!(
            exact("0.0000000000000000000000000001").as_deref(),
            Some("0.0000000000000000000000000001")
        );

        assert_eq!(exact("0.00000000000000000000000000001"), None);
        assert_eq!(exact("1e-29"), None);
        assert_eq!(exact("1e29"), None);
        assert_eq!(exact("inf"), None);
        assert_eq!(exact("1,5"), None);
        assert_eq!(exact(""), None);
    }

    #[test]
    fn factors_are_numbers_or_fractions() {
        let fraction = factor("1/1048576").unwrap();
        assert_eq!(fraction.denominator, Decimal::from(1_048_576));
        assert_eq!(factor("2.5").unwrap().denominator, Decimal::ONE);
        assert!(factor("1/0").is_none());
        assert!(factor("1/2/3").is_none());
        assert!(factor("half").is_none());
    }
}
