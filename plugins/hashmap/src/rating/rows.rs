//! The price of each row: rules applied once for each combination, then the quantity.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rated_plugin::{Call, Error, Result, UsageBatch};
use rust_decimal::Decimal;

use super::columns::{Class, Combination, Combinations, Number};
use super::levels::{Level, Levels};
use super::price_list::{Choice, Effect, ServicePrices};
use crate::record::Kind;

/// How many rows are rated between two looks at whether the caller still waits.
const ROWS_PER_LOOK: usize = 4096;

/// The prices of a batch, and what was odd about it.
#[derive(Debug)]
pub(crate) struct Rated {
    pub(crate) prices: Vec<Decimal>,
    /// Attributes of rows that thresholds ask for a number and that are none.
    pub(crate) not_numeric: u64,
}

impl ServicePrices {
    /// The price so far of each row of `usage`, plus what this list says.
    pub(crate) fn rate(
        &self,
        call: &Call,
        batch: &RecordBatch,
        usage: &UsageBatch<'_>,
    ) -> Result<Rated> {
        let combinations = Combinations::of(self, batch, usage)?;
        let plans = combinations.distinct.iter().map(|it| self.plan(it));
        let mut plans = plans.collect::<Option<Vec<Plan<'_>>>>().ok_or_else(too_large)?;
        let mut prices = Vec::with_capacity(usage.rows());
        let mut not_numeric = 0;
        for (row, combination) in combinations.rows.iter().enumerate() {
            if row % ROWS_PER_LOOK == 0 {
                call.check_cancelled()?;
            }
            let plan = &mut plans[*combination as usize];
            not_numeric += plan.not_numeric;
            let price = plan.price(usage.qty_at(row)).ok_or_else(too_large)?;
            prices.push(sum(usage.price_at(row), price).ok_or_else(too_large)?);
        }
        Ok(Rated { prices, not_numeric })
    }

    fn plan(&self, combination: &Combination) -> Option<Plan<'_>> {
        let scope = combination.scope;
        let mut tallies: BTreeMap<u32, Tally<'_>> = BTreeMap::new();
        tally_mappings(&mut tallies, &self.mappings, scope)?;
        for (group, levels) in &self.thresholds {
            tallies.entry(*group).or_default().service = Some(levels);
        }
        let mut not_numeric = 0;
        for (field, class) in self.fields.iter().zip(&combination.fields) {
            let Class::Present(value, number) = *class else { continue };
            if let Some(index) = value {
                tally_mappings(&mut tallies, &field.mappings[index as usize], scope)?;
            }
            match number {
                Number::Unasked | Number::Reaches(0) => {}
                Number::Missing => not_numeric += 1,
                Number::Reaches(count) => {
                    let reached = field.bounds[count as usize - 1];
                    for (group, levels) in &field.thresholds {
                        if let Some(level) = levels.reached(scope, reached) {
                            tallies.entry(*group).or_default().compete(level);
                        }
                    }
                }
            }
        }
        let groups = tallies.into_values().map(Tally::finish).collect::<Option<Vec<_>>>()?;
        Some(Plan { scope, groups, not_numeric, last: None })
    }
}

fn tally_mappings(
    tallies: &mut BTreeMap<u32, Tally<'_>>,
    mappings: &BTreeMap<u32, Choice>,
    scope: u32,
) -> Option<()> {
    for (group, choice) in mappings {
        if let Some(effect) = choice.effect(scope) {
            tallies.entry(*group).or_default().apply(effect)?;
        }
    }
    Some(())
}

/// Most sums here have nothing on their left.
fn sum(left: Decimal, right: Decimal) -> Option<Decimal> {
    if left.is_zero() { Some(right) } else { add_half_even(left, right) }
}

fn too_large() -> Error {
    Error::bad_data("a price has more than 28 digits before the point")
}

/// A group's sums while rules are applied.
#[derive(Debug)]
struct Tally<'a> {
    flat: Decimal,
    rate: Decimal,
    /// The highest level of a field that is reached.
    field: Option<Level>,
    service: Option<&'a Levels>,
}

impl Default for Tally<'_> {
    fn default() -> Self {
        Tally { flat: Decimal::ZERO, rate: Decimal::ONE, field: None, service: None }
    }
}

impl<'a> Tally<'a> {
    fn apply(&mut self, effect: Effect) -> Option<()> {
        match effect.kind {
            Kind::Flat => self.flat = self.flat.max(effect.cost),
            Kind::Rate => self.rate = multiply_half_even(self.rate, effect.cost)?,
        }
        Some(())
    }

    /// The first of two equal levels stays.
    fn compete(&mut self, level: &Level) {
        if self.field.is_none_or(|best| best.from < level.from) {
            self.field = Some(*level);
        }
    }

    fn finish(self) -> Option<GroupPlan<'a>> {
        let plain = multiply_half_even(self.rate, self.flat)?;
        let field = match self.field {
            None => None,
            Some(Level { from, kind: Kind::Flat, cost }) => {
                Some((from, multiply_half_even(self.rate, add_half_even(self.flat, cost)?)?))
            }
            Some(Level { from, kind: Kind::Rate, cost }) => {
                Some((from, multiply_half_even(multiply_half_even(self.rate, cost)?, self.flat)?))
            }
        };
        Some(GroupPlan { plain, field, service: self.service })
    }
}

/// What the rows of one combination pay.
#[derive(Debug)]
struct Plan<'a> {
    scope: u32,
    groups: Vec<GroupPlan<'a>>,
    not_numeric: u64,
    /// The last quantity and its price: mostly the next one is the same.
    last: Option<(Decimal, Decimal)>,
}

#[derive(Debug)]
struct GroupPlan<'a> {
    /// `rate × flat` without any threshold.
    plain: Decimal,
    /// The field threshold that is reached: its level, and `rate × flat` with it.
    field: Option<(Decimal, Decimal)>,
    /// The service's thresholds, which depend on the quantity.
    service: Option<&'a Levels>,
}

impl Plan<'_> {
    fn price(&mut self, qty: Decimal) -> Option<Decimal> {
        if let Some((last, price)) = self.last
            && last == qty
        {
            return Some(price);
        }
        let mut price = Decimal::ZERO;
        for group in &self.groups {
            price = sum(price, group.price(self.scope, qty)?)?;
        }
        self.last = Some((qty, price));
        Some(price)
    }
}

impl GroupPlan<'_> {
    fn price(&self, scope: u32, qty: Decimal) -> Option<Decimal> {
        let service = self.service.and_then(|levels| levels.reached(scope, qty));
        match (service, self.field) {
            // Service thresholds come first, so they win a tie.
            (Some(service), field) if field.is_none_or(|(from, _)| service.from >= from) => {
                let price = multiply_half_even(self.plain, qty)?;
                match service.kind {
                    Kind::Flat => add_half_even(price, service.cost),
                    Kind::Rate => multiply_half_even(price, service.cost),
                }
            }
            (_, Some((_, product))) => multiply_half_even(product, qty),
            (_, None) => multiply_half_even(self.plain, qty),
        }
    }
}
