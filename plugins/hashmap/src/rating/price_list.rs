//! The rules that count at one moment, laid out for looking up.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDateTime;
use rust_decimal::Decimal;

use super::breaks::Breaks;
use super::levels::{ANY_SCOPE, Level, Levels};
use super::plans::Plans;
use crate::record::{Id, Kind, Parent, Rule};
use crate::snapshot::Snapshot;

/// A group of this name is the group of the rules that have none.
pub(super) const DEFAULT_GROUP: &str = "_DEFAULT_";

/// Prices by metric type.
#[derive(Debug, Default)]
pub(crate) struct PriceList {
    services: HashMap<String, ServicePrices>,
    /// Between these no rule starts or ends: the list is the same for every moment in there.
    from: Option<NaiveDateTime>,
    until: Option<NaiveDateTime>,
}

/// What a mapping does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    pub(super) id: Id,
    pub(super) kind: Kind,
    pub(super) cost: Decimal,
}

/// The mappings of one parent, value and group: everybody's, and scopes' own by their number.
#[derive(Debug, Default)]
pub(super) struct Choice {
    general: Option<Effect>,
    own: HashMap<u32, Effect>,
}

impl Choice {
    /// Of two rules for the same, the one made later holds.
    fn set(&mut self, scope: u32, effect: Effect) {
        match scope {
            ANY_SCOPE => self.general = Some(effect),
            scope => {
                self.own.insert(scope, effect);
            }
        }
    }

    pub(super) fn effect(&self, scope: u32) -> Option<Effect> {
        match self.own.get(&scope) {
            Some(own) if scope != ANY_SCOPE => Some(*own),
            _ => self.general,
        }
    }
}

/// Everything about one metric type. Groups and scopes with own rules have numbers here.
#[derive(Debug, Default)]
pub(crate) struct ServicePrices {
    pub(super) scopes: HashMap<String, u32>,
    groups: HashMap<Option<Id>, u32>,
    pub(super) mappings: BTreeMap<u32, Choice>,
    pub(super) thresholds: BTreeMap<u32, Levels>,
    pub(super) breaks: Breaks,
    /// Those with rules, in the order they were made.
    pub(super) fields: Vec<FieldPrices>,
    pub(super) plans: Plans,
}

impl ServicePrices {
    /// The group of a number; `None` = that of the rules that have none.
    pub(super) fn group_id(&self, number: u32) -> Option<Id> {
        self.groups.iter().find(|(_, known)| **known == number).and_then(|(id, _)| *id)
    }
}

/// Everything about one attribute of a metric type.
#[derive(Debug, Default)]
pub(super) struct FieldPrices {
    pub(super) name: String,
    /// By value, the index into `mappings`.
    pub(super) values: HashMap<String, u32>,
    /// By group.
    pub(super) mappings: Vec<BTreeMap<u32, Choice>>,
    pub(super) thresholds: BTreeMap<u32, Levels>,
    /// Every level of every group and scope, ascending: numbers between the same two reach the same
    /// thresholds.
    pub(super) bounds: Vec<Decimal>,
}

impl PriceList {
    /// The rules active for a period that begins at `at`.
    pub(crate) fn new(snapshot: &Snapshot, at: NaiveDateTime) -> PriceList {
        let mut builder = Builder { snapshot, services: HashMap::new(), fields: HashMap::new() };
        for (id, _) in snapshot.services.iter() {
            builder.services.insert(id, ServicePrices::default());
        }
        for (id, field) in snapshot.fields.iter() {
            let Some(service) = builder.services.get_mut(&field.service) else { continue };
            builder.fields.insert(id, (field.service, service.fields.len()));
            let name = field.name.clone();
            service.fields.push(FieldPrices { name, ..FieldPrices::default() });
        }
        for (id, mapping) in snapshot.mappings.iter().filter(|(_, it)| it.rule.is_active(at)) {
            let value = mapping.value.as_deref().unwrap_or_default();
            builder.add_mapping(id, value, &mapping.rule);
        }
        for (id, threshold) in snapshot.thresholds.iter().filter(|(_, it)| it.rule.is_active(at)) {
            builder.add_threshold(id, threshold.level, &threshold.rule);
        }
        let mappings = snapshot.mappings.iter().map(|(_, it)| &it.rule);
        let rules = mappings.chain(snapshot.thresholds.iter().map(|(_, it)| &it.rule));
        let (from, until) = unchanged_around(at, rules.filter(|rule| rule.deleted.is_none()));
        PriceList { services: builder.finish(), from, until }
    }

    /// Is this, of the same snapshot, the list of that moment as well?
    pub(crate) fn holds(&self, at: NaiveDateTime) -> bool {
        self.from.is_none_or(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }

    /// The prices of a metric type; `None` = it has none.
    pub(crate) fn service(&self, metric: &str) -> Option<&ServicePrices> {
        self.services.get(metric)
    }
}

struct Builder<'a> {
    snapshot: &'a Snapshot,
    services: HashMap<Id, ServicePrices>,
    /// The service of a field and its place there.
    fields: HashMap<Id, (Id, usize)>,
}

impl Builder<'_> {
    /// The service a rule belongs to, the place of its field there, the numbers of its scope and
    /// group.
    fn place(&mut self, rule: &Rule) -> Option<(&mut ServicePrices, Option<usize>, u32, u32)> {
        let (service, field) = match rule.parent {
            Parent::Service(service) => (service, None),
            Parent::Field(field) => {
                let (service, index) = *self.fields.get(&field)?;
                (service, Some(index))
            }
        };
        let is_default =
            |id: &Id| self.snapshot.groups.get(*id).is_some_and(|it| it.name == DEFAULT_GROUP);
        let group = rule.group.filter(|id| !is_default(id));
        let service = self.services.get_mut(&service)?;
        let scope = match &rule.tenant {
            None => ANY_SCOPE,
            Some(scope) => number(&mut service.scopes, scope, ANY_SCOPE + 1),
        };
        let group = number(&mut service.groups, &group, 0);
        Some((service, field, scope, group))
    }

    fn add_mapping(&mut self, id: Id, value: &str, rule: &Rule) {
        let effect = Effect { id, kind: rule.kind, cost: rule.cost };
        let Some((service, field, scope, group)) = self.place(rule) else { return };
        let by_group = match field {
            None => &mut service.mappings,
            Some(index) => {
                let field = &mut service.fields[index];
                let index = number(&mut field.values, value, 0) as usize;
                if index == field.mappings.len() {
                    field.mappings.push(BTreeMap::new());
                }
                &mut field.mappings[index]
            }
        };
        by_group.entry(group).or_default().set(scope, effect);
    }

    fn add_threshold(&mut self, id: Id, from: Decimal, rule: &Rule) {
        let level = Level { id, from, kind: rule.kind, cost: rule.cost };
        let Some((service, field, scope, group)) = self.place(rule) else { return };
        let by_group = match field {
            None => &mut service.thresholds,
            Some(index) => &mut service.fields[index].thresholds,
        };
        by_group.entry(group).or_default().push(scope, level);
    }

    fn finish(self) -> HashMap<String, ServicePrices> {
        let mut services = HashMap::new();
        for (id, mut prices) in self.services {
            prices.thresholds.values_mut().for_each(Levels::sort);
            prices.breaks = Breaks::of(&prices.thresholds);
            for field in &mut prices.fields {
                field.thresholds.values_mut().for_each(Levels::sort);
                field.bounds = field.thresholds.values().flat_map(Levels::all).collect();
                field.bounds.sort();
                field.bounds.dedup();
            }
            prices.fields.retain(|field| !field.values.is_empty() || !field.bounds.is_empty());
            let service = self.snapshot.services.get(id).expect("made from the snapshot");
            services.insert(service.name.clone(), prices);
        }
        services
    }
}

/// The last moment until `at`, and the first after it, at which a rule starts or ends.
fn unchanged_around<'a>(
    at: NaiveDateTime,
    rules: impl Iterator<Item = &'a Rule>,
) -> (Option<NaiveDateTime>, Option<NaiveDateTime>) {
    let (mut from, mut until) = (None, None);
    for moment in rules.flat_map(|rule| [Some(rule.start), rule.end]).flatten() {
        if moment <= at {
            from = from.max(Some(moment));
        } else {
            until = until.map_or(Some(moment), |known| Some(moment.min(known)));
        }
    }
    (from, until)
}

/// The number of `key`, a new one if it has none; the first is `first`.
fn number<K, Q>(numbers: &mut HashMap<K, u32>, key: &Q, first: u32) -> u32
where
    K: std::hash::Hash + Eq + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ToOwned<Owned = K> + ?Sized,
{
    if let Some(number) = numbers.get(key) {
        return *number;
    }
    let number = first + u32::try_from(numbers.len()).expect("rules are fewer than 2^32");
    numbers.insert(key.to_owned(), number);
    number
}
