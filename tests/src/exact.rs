//! Exact decimals of the tests' own: integers at a fixed scale, so that no code is shared with
//! what is tested.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Mul};

/// In units of 10^-16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Exact(i128);

const SCALE: usize = 16;
const ONE: i128 = 10_i128.pow(16);

impl Exact {
    /// From decimal text, exponents included; panics when it has more digits than the scale holds.
    pub fn parse(text: &str) -> Exact {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().expect("an exponent")),
            None => (text, 0),
        };
        let (negative, mantissa) = match mantissa.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, mantissa),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let scale = i32::try_from(SCALE).expect("small");
        let shift = exponent - i32::try_from(fraction.len()).expect("short") + scale;
        let value: i128 = digits.parse().unwrap_or_else(|_| panic!("not a number: {text}"));
        let value = if shift >= 0 {
            value * 10_i128.pow(shift.unsigned_abs())
        } else {
            let divisor = 10_i128.pow(shift.unsigned_abs());
            assert_eq!(value % divisor, 0, "{text} has more than {SCALE} fractional digits");
            value / divisor
        };
        Exact(if negative { -value } else { value })
    }
}

impl Add for Exact {
    type Output = Exact;
    fn add(self, other: Exact) -> Exact {
        Exact(self.0 + other.0)
    }
}

impl Mul for Exact {
    type Output = Exact;
    /// Panics when the product has more digits than the scale holds.
    fn mul(self, other: Exact) -> Exact {
        let product = self.0.checked_mul(other.0).expect("the tests' figures are small");
        assert_eq!(product % ONE, 0, "the product of {self} and {other} is not exact here");
        Exact(product / ONE)
    }
}

impl Sum for Exact {
    fn sum<I: Iterator<Item = Exact>>(parts: I) -> Exact {
        parts.fold(Exact::default(), Add::add)
    }
}

impl fmt::Display for Exact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let magnitude = self.0.unsigned_abs();
        let one = ONE.unsigned_abs();
        let text = format!("{}.{:0width$}", magnitude / one, magnitude % one, width = SCALE);
        write!(f, "{sign}{}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_survive() {
        for (text, shown) in
            [("0.1", "0.1"), ("-12.50", "-12.5"), ("1.5e3", "1500"), ("2E-3", "0.002"), ("7", "7")]
        {
            assert_eq!(Exact::parse(text).to_string(), shown);
        }
        assert_eq!((Exact::parse("0.1") * Exact::parse("-0.2")).to_string(), "-0.02");
    }
}
