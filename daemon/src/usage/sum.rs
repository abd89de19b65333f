use arrow_buffer::i256;
use rust_decimal::Decimal;

/// An exact sum of decimals, in units of 10^-28 (the smallest step of a quantity or price).
///
/// Cannot overflow: 2^255 units hold 10^20 rows of the largest decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sum(pub i256);

impl Sum {
    pub const ZERO: Sum = Sum(i256::ZERO);

    /// From an integer and its scale (0 to 28).
    pub fn from_scaled(value: i128, scale: u8) -> Sum { todo!() }
    pub fn from_decimal(value: Decimal) -> Sum { todo!() }
    /// The exact decimal text, at least `digits_min` fractional digits, no other trailing zeros.
    pub fn to_text(self, digits_min: usize) -> String { todo!() }
}
