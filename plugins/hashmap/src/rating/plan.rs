//! What the rules make of one combination, at any quantity.

use std::collections::BTreeMap;
use std::sync::Arc;

use rated_plugin::decimal::{add_half_even, multiply_half_even};
use rust_decimal::Decimal;

use super::columns::Combination;
use super::levels::Level;
use super::line::Line;
use super::price_list::{Choice, Effect, ServicePrices};
use crate::record::Kind;

/// What the rows of one combination pay.
#[derive(Debug)]
pub(super) struct Plan {
    scope: u32,
    groups: Vec<GroupPlan>,
    /// Attributes that thresholds ask for a number and that are none.
    pub(super) not_numeric: u64,
    course: Option<Course>,
}

/// The price as lines: one for each range of quantities.
#[derive(Debug)]
pub(super) struct Course {
    /// Where the next line begins, ascending.
    pub(super) breaks: Arc<[Decimal]>,
    /// One more than `breaks`; `None` where no line holds the price.
    pub(super) lines: Vec<Option<Line>>,
}

#[derive(Debug)]
struct GroupPlan {
    /// `rate × flat` without any threshold.
    plain: Decimal,
    /// The field threshold that is reached: its level, and `rate × flat` with it.
    field: Option<(Decimal, Decimal)>,
    /// The group of the service's thresholds, which depend on the quantity.
    thresholds: Option<u32>,
}

impl Plan {
    /// `None` when a price would be too large.
    pub(super) fn new(prices: &ServicePrices, combination: Combination<'_>) -> Option<Plan> {
        let scope = combination.scope();
        let mut tallies: BTreeMap<u32, Tally> = BTreeMap::new();
        tally_mappings(&mut tallies, &prices.mappings, scope)?;
        for group in prices.thresholds.keys() {
            tallies.entry(*group).or_default().has_thresholds = true;
        }
        let mut not_numeric = 0;
        for (field, class) in prices.fields.iter().zip(combination.fields()) {
            if let Some(index) = class.mappings() {
                tally_mappings(&mut tallies, &field.mappings[index], scope)?;
            }
            not_numeric += u64::from(class.is_not_numeric());
            if let Some(highest) = class.levels_reached().checked_sub(1) {
                for (group, levels) in &field.thresholds {
                    if let Some(level) = levels.reached(scope, field.bounds[highest]) {
                        tallies.entry(*group).or_default().compete(level);
                    }
                }
            }
        }
        let groups = tallies.into_iter().map(|(group, tally)| tally.finish(group));
        let groups = groups.collect::<Option<Vec<_>>>()?;
        let mut plan = Plan { scope, groups, not_numeric, course: None };
        plan.course = plan.make_course(prices);
        Some(plan)
    }

    /// Groups and lines.
    pub(super) fn size(&self) -> usize {
        self.groups.len() + self.course.as_ref().map_or(0, |course| course.lines.len())
    }

    pub(super) fn course(&self) -> Option<&Course> {
        self.course.as_ref()
    }

    /// The price of a quantity, every step rounded as it has to be.
    pub(super) fn price(&self, prices: &ServicePrices, qty: Decimal) -> Option<Decimal> {
        let mut price = Decimal::ZERO;
        for group in &self.groups {
            price = sum(price, group.price(prices, self.scope, qty)?)?;
        }
        Some(price)
    }

    fn make_course(&self, prices: &ServicePrices) -> Option<Course> {
        let breaks = prices.breaks.of_scope(self.scope)?;
        let begins = std::iter::once(Decimal::MIN).chain(breaks.iter().copied());
        let line = |begin| {
            self.groups.iter().try_fold(Line::default(), |line, group| {
                group.extend(line, group.winner(prices, self.scope, begin))
            })
        };
        let lines = begins.map(line).collect();
        Some(Course { breaks: Arc::clone(breaks), lines })
    }
}

/// Who sets the price of a group.
#[derive(Clone, Copy)]
pub(super) enum Winner<'a, Other> {
    /// A threshold of the service.
    Service(&'a Level),
    /// A threshold of a field, or nobody.
    Other(Option<Other>),
}

impl<'a, Other> Winner<'a, Other> {
    /// The highest level of the service that is reached, against that of a field.
    pub(super) fn among(
        service: Option<&'a Level>,
        field: Option<(Decimal, Other)>,
    ) -> Winner<'a, Other> {
        match (service, field) {
            // Service thresholds come first, so they win a tie.
            (Some(level), field) if field.as_ref().is_none_or(|(from, _)| level.from >= *from) => {
                Winner::Service(level)
            }
            (_, field) => Winner::Other(field.map(|(_, other)| other)),
        }
    }
}

impl GroupPlan {
    /// What is not the service's is `rate × flat`.
    fn winner<'a>(
        &self,
        prices: &'a ServicePrices,
        scope: u32,
        qty: Decimal,
    ) -> Winner<'a, Decimal> {
        let levels = self.thresholds.and_then(|group| prices.thresholds.get(&group));
        Winner::among(levels.and_then(|levels| levels.reached(scope, qty)), self.field)
    }

    fn price(&self, prices: &ServicePrices, scope: u32, qty: Decimal) -> Option<Decimal> {
        match self.winner(prices, scope, qty) {
            Winner::Other(product) => multiply_half_even(product.unwrap_or(self.plain), qty),
            Winner::Service(level) => {
                let price = multiply_half_even(self.plain, qty)?;
                match level.kind {
                    Kind::Flat => add_half_even(price, level.cost),
                    Kind::Rate => multiply_half_even(price, level.cost),
                }
            }
        }
    }

    /// `line` with what this group adds.
    fn extend(&self, line: Line, winner: Winner<'_, Decimal>) -> Option<Line> {
        match winner {
            Winner::Other(product) => line.rising(product.unwrap_or(self.plain), Decimal::ONE),
            Winner::Service(level) => match level.kind {
                Kind::Flat => line.rising(self.plain, Decimal::ONE)?.raised(level.cost),
                Kind::Rate => line.rising(self.plain, level.cost),
            },
        }
    }
}

fn tally_mappings(
    tallies: &mut BTreeMap<u32, Tally>,
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
pub(super) fn sum(left: Decimal, right: Decimal) -> Option<Decimal> {
    if left.is_zero() { Some(right) } else { add_half_even(left, right) }
}

/// A group's sums while rules are applied.
#[derive(Debug)]
struct Tally {
    flat: Decimal,
    rate: Decimal,
    /// The highest level of a field that is reached.
    field: Option<Level>,
    has_thresholds: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { flat: Decimal::ZERO, rate: Decimal::ONE, field: None, has_thresholds: false }
    }
}

impl Tally {
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

    fn finish(self, group: u32) -> Option<GroupPlan> {
        let plain = multiply_half_even(self.rate, self.flat)?;
        let field = match self.field {
            None => None,
            Some(Level { from, kind: Kind::Flat, cost, .. }) => {
                Some((from, multiply_half_even(self.rate, add_half_even(self.flat, cost)?)?))
            }
            Some(Level { from, kind: Kind::Rate, cost, .. }) => {
                Some((from, multiply_half_even(multiply_half_even(self.rate, cost)?, self.flat)?))
            }
        };
        Some(GroupPlan { plain, field, thresholds: self.has_thresholds.then_some(group) })
    }
}
