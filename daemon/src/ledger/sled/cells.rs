//! Adding up a block's rows by group.

use std::ops::Range;

use super::block::Measured;
use super::catalog::ScopeNumber;
use super::gather::{ScopeSums, Total};
use super::groups::{GroupId, Groups, Scaled};
use super::lookup::Matches;
use super::numbers::Numbers;
use crate::ledger::{Extremes, Measures};
use crate::usage::Sum;

/// Rows that are next to each other, and the scope whose groups they belong to.
pub(super) type Run = (ScopeNumber, Range<usize>);

/// Rows of a block on their way into groups.
pub(super) struct Rows<'a> {
    pub(super) slice_group: u32,
    pub(super) runs: &'a [Run],
    pub(super) matches: &'a Matches,
    /// By row the place of its texts in `chains`; `None` = the first.
    pub(super) places: Option<&'a [u32]>,
    pub(super) chains: &'a [u32],
}

impl Rows<'_> {
    pub(super) fn add_to(&self, groups: &mut Groups, measured: Measured, wanted: Measures) {
        let Measured { qty_scale, qty, price_scale, price } = measured;
        let scales = (qty_scale, price_scale);
        match (qty, price) {
            (Numbers::Small(qty), Numbers::Small(price)) => {
                self.fold::<SmallSums>(groups, &qty, &price, scales);
                if wanted == Measures::SumsAndExtremes {
                    self.fold::<Bounds<i64>>(groups, &qty, &price, scales);
                }
            }
            (qty, price) => {
                let (qty, price) = (qty.into_wide(), price.into_wide());
                self.fold::<BigSums>(groups, &qty, &price, scales);
                if wanted == Measures::SumsAndExtremes {
                    self.fold::<Bounds<i128>>(groups, &qty, &price, scales);
                }
            }
        }
    }

    fn fold<C: Cell>(
        &self,
        groups: &mut Groups,
        qty: &[C::Number],
        price: &[C::Number],
        scales: (u8, u8),
    ) {
        let mut cells = vec![C::default(); self.chains.len()];
        let mut touched = Vec::new();
        for (scope, rows) in self.runs {
            let mut add = |(place, qty, price): (u32, C::Number, C::Number)| {
                let cell = &mut cells[place as usize];
                if cell.is_empty() {
                    touched.push(place);
                }
                cell.add(qty, price);
            };
            let rows = rows.clone();
            let numbers = qty[rows.clone()].iter().zip(&price[rows.clone()]);
            let numbers = numbers.map(|(qty, price)| (*qty, *price));
            match (self.places, self.matches) {
                (_, Matches::None) => {}
                (None, Matches::All) => numbers.for_each(|(qty, price)| add((0, qty, price))),
                (Some(places), Matches::All) => places[rows]
                    .iter()
                    .zip(numbers)
                    .for_each(|(place, (qty, price))| add((*place, qty, price))),
                (places, Matches::Some(matches)) => {
                    for (row, (qty, price)) in rows.zip(numbers) {
                        if matches[row] {
                            add((places.map_or(0, |places| places[row]), qty, price));
                        }
                    }
                }
            }
            for place in touched.drain(..) {
                let cell = std::mem::take(&mut cells[place as usize]);
                let texts = self.chains[place as usize];
                let id = GroupId { slice_group: self.slice_group, scope: *scope, texts };
                cell.flush(groups, id, scales);
            }
        }
    }
}

/// Rows of one group.
trait Cell: Clone + Default {
    type Number: Copy;

    fn is_empty(&self) -> bool;
    fn add(&mut self, qty: Self::Number, price: Self::Number);
    fn flush(self, groups: &mut Groups, id: GroupId, scales: (u8, u8));
}

#[derive(Debug, Clone, Copy, Default)]
struct SmallSums {
    rows: u64,
    qty: i64,
    price: i64,
}

impl Cell for SmallSums {
    type Number = i64;

    fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn add(&mut self, qty: i64, price: i64) {
        self.rows += 1;
        // No overflow: that is what makes numbers small.
        self.qty += qty;
        self.price += price;
    }

    fn flush(self, groups: &mut Groups, id: GroupId, (qty_scale, price_scale): (u8, u8)) {
        let qty = Scaled { value: i128::from(self.qty), scale: qty_scale };
        let price = Scaled { value: i128::from(self.price), scale: price_scale };
        groups.add_scaled(id, self.rows, qty, price);
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct BigSums {
    rows: u64,
    qty: Total,
    price: Total,
}

impl Cell for BigSums {
    type Number = i128;

    fn is_empty(&self) -> bool {
        self.rows == 0
    }

    fn add(&mut self, qty: i128, price: i128) {
        self.rows += 1;
        self.qty.add(qty);
        self.price.add(price);
    }

    fn flush(self, groups: &mut Groups, id: GroupId, (qty_scale, price_scale): (u8, u8)) {
        let (qty, price) = (self.qty.sum(qty_scale), self.price.sum(price_scale));
        groups.add(id, ScopeSums { rows: self.rows, qty, price });
    }
}

/// The smallest and the largest quantity and price; `None` = of no row.
#[derive(Debug, Clone, Copy)]
struct Bounds<N>(Option<[N; 4]>);

impl<N> Default for Bounds<N> {
    fn default() -> Bounds<N> {
        Bounds(None)
    }
}

impl<N: Copy + Ord + Into<i128>> Cell for Bounds<N> {
    type Number = N;

    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn add(&mut self, qty: N, price: N) {
        let [qty_min, qty_max, price_min, price_max] = self.0.unwrap_or([qty, qty, price, price]);
        self.0 =
            Some([qty_min.min(qty), qty_max.max(qty), price_min.min(price), price_max.max(price)]);
    }

    fn flush(self, groups: &mut Groups, id: GroupId, (qty_scale, price_scale): (u8, u8)) {
        let Some([qty_min, qty_max, price_min, price_max]) = self.0 else { return };
        let scaled = |value: N, scale| Sum::from_scaled(value.into(), scale);
        let extremes = Extremes {
            qty_min: scaled(qty_min, qty_scale),
            qty_max: scaled(qty_max, qty_scale),
            price_min: scaled(price_min, price_scale),
            price_max: scaled(price_max, price_scale),
        };
        groups.widen(id, extremes);
    }
}
