//! The steps that lead to a price, in the order in which `plan` computes it.
//!
//! Each step that comes from a rule names it. Only rules that have a part in the price are told: a
//! flat price that a higher one replaces is told, a threshold that another one beats is not.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use rated_plugin::{Given, Operation, PRICE, QTY, Result, Rule, Step, Steps, UsageBatch};
use rust_decimal::Decimal;

use super::columns::{Combination, Combinations};
use super::levels::Level;
use super::plan::Winner;
use super::price_list::{DEFAULT_GROUP, Effect, ServicePrices};
use crate::record::{Id, Kind, Parent};
use crate::snapshot::Snapshot;

/// The number of what all groups cost together.
const SUM: &str = "sum";

impl ServicePrices {
    /// The steps of each row of `usage`.
    pub(crate) fn explain(
        &self,
        snapshot: &Snapshot,
        batch: &RecordBatch,
        usage: &UsageBatch<'_>,
    ) -> Result<Vec<Vec<Step>>> {
        let combinations = Combinations::of(self, batch, usage)?;
        let distinct: Vec<Combination<'_>> = combinations.distinct().collect();
        let rows = combinations.rows.iter().enumerate();
        rows.map(|(row, combination)| {
            let (qty, price) = (usage.qty_at(row), usage.price_at(row));
            let writer = Writer {
                prices: self,
                snapshot,
                qty,
                steps: Steps::new(qty, price),
                groups: BTreeMap::new(),
            };
            writer.write(distinct[*combination as usize])
        })
        .collect()
    }
}

/// Writes down the steps of one row.
struct Writer<'a> {
    prices: &'a ServicePrices,
    snapshot: &'a Snapshot,
    qty: Decimal,
    steps: Steps,
    /// By number, those that have something to say.
    groups: BTreeMap<u32, Found<'a>>,
}

/// What was found for a group.
#[derive(Default)]
struct Found<'a> {
    /// The highest level of a field that is reached.
    field: Option<&'a Level>,
}

impl Writer<'_> {
    fn write(mut self, combination: Combination<'_>) -> Result<Vec<Step>> {
        let (prices, scope) = (self.prices, combination.scope());
        for (group, choice) in &prices.mappings {
            self.apply(*group, choice.effect(scope))?;
        }
        for group in prices.thresholds.keys() {
            self.groups.entry(*group).or_default();
        }
        for (field, class) in prices.fields.iter().zip(combination.fields()) {
            if let Some(index) = class.mappings() {
                for (group, choice) in &field.mappings[index] {
                    self.apply(*group, choice.effect(scope))?;
                }
            }
            let Some(highest) = class.levels_reached().checked_sub(1) else { continue };
            for (group, levels) in &field.thresholds {
                let Some(level) = levels.reached(scope, field.bounds[highest]) else { continue };
                let found = self.groups.entry(*group).or_default();
                if found.field.is_none_or(|best| best.from < level.from) {
                    found.field = Some(level);
                }
            }
        }
        let mut group_prices = Vec::new();
        for (group, found) in std::mem::take(&mut self.groups) {
            group_prices.push(self.finish_group(group, &found, scope)?);
        }
        if !group_prices.is_empty() {
            self.steps.push(
                SUM,
                Operation::Add,
                group_prices.iter().map(|it| Given::Number(it)),
            )?;
            self.steps.push(PRICE, Operation::Add, [Given::Number(PRICE), Given::Number(SUM)])?;
        }
        Ok(self.steps.finish())
    }

    fn apply(&mut self, group: u32, effect: Option<Effect>) -> Result<()> {
        let Some(effect) = effect else { return Ok(()) };
        self.groups.entry(group).or_default();
        let names = self.names(group);
        let (name, operation, first) = match effect.kind {
            Kind::Flat => (&names.flat, Operation::Max, Decimal::ZERO),
            Kind::Rate => (&names.rate, Operation::Multiply, Decimal::ONE),
        };
        let rule = Given::Rule(self.mapping(effect.id), effect.cost);
        let so_far = self.number_or(name, first);
        self.steps.push(name, operation, [so_far, rule]).map(drop)
    }

    /// The name of what the group costs.
    fn finish_group(&mut self, group: u32, found: &Found<'_>, scope: u32) -> Result<String> {
        let names = self.names(group);
        let field = found.field;
        let levels = self.prices.thresholds.get(&group);
        let reached = levels.and_then(|levels| levels.reached(scope, self.qty));
        let winner = Winner::among(reached, field.map(|level| (level.from, level)));
        if let Winner::Other(Some(level)) = winner {
            let (name, operation, first) = match level.kind {
                Kind::Flat => (&names.flat, Operation::Add, Decimal::ZERO),
                Kind::Rate => (&names.rate, Operation::Multiply, Decimal::ONE),
            };
            let rule = Given::Rule(self.threshold(level.id), level.cost);
            let so_far = self.number_or(name, first);
            self.steps.push(name, operation, [so_far, rule])?;
        }
        let rate = self.number_or(&names.rate, Decimal::ONE);
        let flat = self.number_or(&names.flat, Decimal::ZERO);
        self.steps.push(&names.unit, Operation::Multiply, [rate, flat])?;
        let product = [Given::Number(&names.unit), Given::Number(QTY)];
        self.steps.push(&names.price, Operation::Multiply, product)?;
        if let Winner::Service(level) = winner {
            let operation = match level.kind {
                Kind::Flat => Operation::Add,
                Kind::Rate => Operation::Multiply,
            };
            let rule = Given::Rule(self.threshold(level.id), level.cost);
            self.steps.push(&names.price, operation, [Given::Number(&names.price), rule])?;
        }
        Ok(names.price)
    }

    fn number_or<'n>(&self, name: &'n str, first: Decimal) -> Given<'n> {
        match self.steps.number(name) {
            Some(_) => Given::Number(name),
            None => Given::Constant(first),
        }
    }

    fn names(&self, group: u32) -> Names {
        let label = match self.prices.group_id(group) {
            None => DEFAULT_GROUP.to_owned(),
            Some(id) => self.group_name(id),
        };
        let name = |what: &str| format!("{label}.{what}");
        Names { flat: name("flat"), rate: name("rate"), unit: name("unit"), price: name("price") }
    }

    fn group_name(&self, id: Id) -> String {
        self.snapshot.groups.get(id).map_or_else(|| id.to_string(), |group| group.name.clone())
    }

    // ---- rules ----------------------------------------------------------------------------------

    fn mapping(&self, id: Id) -> Rule {
        let rule = Rule::new("mapping", id.to_string());
        let Some(mapping) = self.snapshot.mappings.get(id) else { return rule };
        let rule = match &mapping.value {
            Some(value) if mapping.rule.parent.field().is_some() => rule.with("value", value),
            _ => rule,
        };
        self.described(rule, &mapping.rule)
    }

    fn threshold(&self, id: Id) -> Rule {
        let rule = Rule::new("threshold", id.to_string());
        let Some(threshold) = self.snapshot.thresholds.get(id) else { return rule };
        let rule = rule.with("level", threshold.level.normalize().to_string());
        self.described(rule, &threshold.rule)
    }

    /// What mappings and thresholds have in common.
    fn described(&self, told: Rule, rule: &crate::record::Rule) -> Rule {
        let service = match rule.parent {
            Parent::Service(id) => Some(id),
            Parent::Field(id) => self.snapshot.fields.get(id).map(|field| field.service),
        };
        let field = rule.parent.field();
        let field_name = field.and_then(|id| self.snapshot.fields.get(id)).map(|it| &it.name);
        let service_name = service.and_then(|id| self.snapshot.services.get(id));
        let details = [
            ("type", Some(rule.kind.name().to_owned())),
            ("service", service_name.map(|service| service.name.clone())),
            ("service_id", service.map(|id| id.to_string())),
            ("field", field_name.cloned()),
            ("field_id", field.map(|id| id.to_string())),
            ("group", rule.group.map(|id| self.group_name(id))),
            ("group_id", rule.group.map(|id| id.to_string())),
            ("tenant_id", rule.tenant.clone()),
            ("name", rule.name.clone()),
        ];
        let said = details.into_iter().filter_map(|(name, text)| Some((name, text?)));
        said.fold(told, |told, (name, text)| told.with(name, text))
    }
}

/// The names of a group's numbers.
struct Names {
    flat: String,
    rate: String,
    /// `rate × flat`.
    unit: String,
    price: String,
}
