//! What prices are for each unit of the quantities.
//!
//! Found only if it is exact: a price that was rounded, or that does not come from a quantity, has
//! no rate.

use super::hash::NumberMap;
use super::indexes::{Bases, Indexes};
use super::numbers::{LIST_MAX, LIST_SHARE_MIN, index_of_next};

/// Most trailing zeros that a price may lack to be the quantity times a rate.
pub(super) const ZEROS_MAX: u8 = 6;

/// By row.
#[derive(Debug)]
pub(super) enum Rates {
    /// Those that occur, and an index for each row.
    Listed(Vec<i128>, Indexes),
    Each(Vec<i128>),
}

/// For each row what its price times some power of ten is for each unit of its quantity; `None` =
/// there is no such number for some row.
pub(super) fn rates(qty: &[i128], price: &[i128], bases: &Bases<'_>) -> Option<(u8, Rates)> {
    (0..=ZEROS_MAX).find_map(|zeros| {
        let by = 10_i128.pow(u32::from(zeros));
        let rates_of = |base| rates_of_base((qty, price), by, base);
        let rates = bases.iter().find_map(|(_, base)| rates_of(base));
        rates.or_else(|| rates_of_rows(qty, price, by)).map(|rates| (zeros, rates))
    })
}

/// When all rows with the same item of a base have the same rate.
fn rates_of_base((qty, price): (&[i128], &[i128]), by: i128, base: &Indexes) -> Option<Rates> {
    if base.count > LIST_MAX || base.count * LIST_SHARE_MIN > qty.len() {
        return None;
    }
    let mut known: Vec<Option<i128>> = vec![None; base.count];
    for ((qty, price), index) in qty.iter().zip(price).zip(&base.of_rows) {
        let price = price.checked_mul(by)?;
        let rate = &mut known[*index as usize];
        if *qty == 0 {
            // Any rate will do.
            if price != 0 {
                return None;
            }
        } else if rate.is_none() {
            *rate = Some(exact_quotient(price, *qty)?);
        } else if rate.and_then(|rate| product(*qty, rate)) != Some(price) {
            return None;
        }
    }
    let mut list = Vec::new();
    let mut numbers: NumberMap<i128, u32> = NumberMap::default();
    let mut index_of =
        |rate| *numbers.entry(rate).or_insert_with(|| index_of_next(&mut list, rate));
    // Items are in the order in which rows first have them, so the list is, too.
    let map = known.into_iter().map(|rate| index_of(rate.unwrap_or_default()));
    let map: Vec<u32> = map.collect();
    let of_rows = base.of_rows.iter().map(|index| map[*index as usize]).collect();
    let count = list.len();
    Some(Rates::Listed(list, Indexes { count, of_rows }))
}

fn rates_of_rows(qty: &[i128], price: &[i128], by: i128) -> Option<Rates> {
    let mut rates = Vec::with_capacity(qty.len());
    let mut last = 0;
    for (qty, price) in qty.iter().zip(price) {
        let price = price.checked_mul(by)?;
        if product(*qty, last) != Some(price) {
            last = exact_quotient(price, *qty)?;
        }
        rates.push(last);
    }
    Some(Rates::Each(rates))
}

fn product(qty: i128, rate: i128) -> Option<i128> {
    match (i64::try_from(qty), i64::try_from(rate)) {
        (Ok(qty), Ok(rate)) => Some(i128::from(qty) * i128::from(rate)),
        _ => qty.checked_mul(rate),
    }
}

fn exact_quotient(dividend: i128, divisor: i128) -> Option<i128> {
    if let (Ok(dividend), Ok(divisor)) = (i64::try_from(dividend), i64::try_from(divisor)) {
        let quotient = dividend.checked_div(divisor)?;
        return (quotient * divisor == dividend).then_some(i128::from(quotient));
    }
    (dividend.checked_rem(divisor)? == 0).then(|| dividend / divisor)
}
