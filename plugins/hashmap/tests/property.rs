//! Prices against a slow and obvious computation: row by row, rule by rule, as the rules of rating
//! read.

#![cfg(test)]

use arrow_array::{Decimal128Array, RecordBatch};
use chrono::{DateTime, Duration, Utc};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rated_hashmap::Hashmap;
use rated_plugin::decimal::{add_half_even, decimal_column, multiply_half_even};
use rated_plugin::testing::{FakeHost, TestModule, TestRater};
use rated_plugin::{
    PriceBatch, Purpose, RateRequest, Result, Step, UsageBatch, UsageBuilder, check_steps,
    decimal_at,
};
use rust_decimal::Decimal;
use serde_json::json;

const FIELDS: [&str; 3] = ["grouped", "described", "both"];
const TEXTS: [&str; 8] = ["x", "y", "", "1", "2.50", "-3", "1e2", "zz"];
const SCOPES: [&str; 3] = ["a", "b", "c"];
const GROUPS: [&str; 3] = ["g", "h", "_DEFAULT_"];
const LEVELS: [&str; 7] = ["-2", "-1", "-0.5", "0", "1", "2.5", "100"];
const QUANTITIES: [&str; 7] = ["0", "0.5", "1", "2.5", "100", "123.456", "-1"];
const COSTS: [&str; 8] =
    ["0", "1", "-2", "0.5", "3", "0.98", "1e-9", "0.1234567890123456789012345678"];

#[derive(Debug, Clone)]
struct Rule {
    /// Below a field, else below the service.
    field: Option<usize>,
    /// A threshold from that level, else a mapping of `value`.
    level: Option<Decimal>,
    value: &'static str,
    group: Option<usize>,
    tenant: Option<&'static str>,
    is_rate: bool,
    cost: Decimal,
    /// Days from the begin of the period.
    start: i64,
    end: Option<i64>,
    deleted: bool,
}

#[derive(Debug, Clone)]
struct Row {
    scope: &'static str,
    qty: Decimal,
    price: Decimal,
    grouped: Option<&'static str>,
    described: Option<&'static str>,
    both: [Option<&'static str>; 2],
}

fn number(text: &str) -> Decimal {
    text.parse().or_else(|_| Decimal::from_scientific(text)).unwrap()
}

prop_compose! {
    fn rule()(
        field in prop::option::of(0..FIELDS.len()),
        level in prop::option::of(select(&LEVELS[..])),
        value in select(&["x", "y", "1", "2.50"][..]),
        group in prop::option::of(0..GROUPS.len()),
        tenant in prop::option::weighted(0.3, select(&SCOPES[..2])),
        is_rate in any::<bool>(),
        cost in select(&COSTS[..]),
        start in select(&[-9_i64, -1, 0, 0, 1][..]),
        end in select(&[None, None, Some(-1_i64), Some(0), Some(1)][..]),
        deleted in prop::bool::weighted(0.1),
    ) -> Rule {
        let (level, cost) = (level.map(number), number(cost));
        Rule { field, level, value, group, tenant, is_rate, cost, start, end, deleted }
    }
}

prop_compose! {
    fn row()(
        scope in select(&SCOPES[..]),
        qty in select(&QUANTITIES[..]),
        price in select(&["0", "1.25", "-3"][..]),
        grouped in prop::option::of(select(&TEXTS[..])),
        described in prop::option::of(select(&TEXTS[..])),
        first in prop::option::of(select(&TEXTS[..])),
        second in prop::option::of(select(&TEXTS[..])),
    ) -> Row {
        let (qty, price) = (number(qty), number(price));
        Row { scope, qty, price, grouped, described, both: [first, second] }
    }
}

/// A number of up to so many digits, before and after the point.
fn long_number(digits: u32, whole_digits: u32) -> impl Strategy<Value = Decimal> {
    let number = (0..=digits).prop_flat_map(move |digits| {
        let limit = 10_i128.pow(digits);
        (-limit..=limit, digits.saturating_sub(whole_digits)..=28.min(digits + 4))
    });
    number.prop_map(|(units, scale)| Decimal::from_i128_with_scale(units, scale.min(28)))
}

prop_compose! {
    fn long_rule()(rule in rule(), cost in long_number(22, 12)) -> Rule {
        Rule { cost, start: 0, end: None, ..rule }
    }
}

prop_compose! {
    fn long_row()(
        row in row(),
        qty in long_number(28, 28),
        price in prop_oneof![Just(Decimal::ZERO), long_number(28, 28)],
    ) -> Row {
        Row { qty, price, ..row }
    }
}

// ---- the obvious computation
// ----------------------------------------------------------------------------------------

impl Rule {
    fn is_active(&self) -> bool {
        !self.deleted && self.start <= 0 && self.end.is_none_or(|end| 0 < end)
    }

    fn group(&self) -> &'static str {
        self.group.map_or("_DEFAULT_", |index| GROUPS[index])
    }
}

impl Row {
    fn attribute(&self, field: usize) -> Option<&'static str> {
        [self.grouped, self.described, self.both[0].or(self.both[1])][field]
    }
}

/// Of rules for the same, the scope's own, of several the one made last.
fn mapping<'a>(rules: &[&'a Rule], scope: &str) -> Option<&'a Rule> {
    let of = |tenant: Option<&str>| rules.iter().rev().find(|rule| rule.tenant == tenant).copied();
    of(Some(scope)).or_else(|| of(None))
}

/// The highest level reached; of the same level the scope's own, of several the one made first.
fn threshold<'a>(rules: &[&'a Rule], scope: &str, value: Decimal) -> Option<&'a Rule> {
    let mut best: Option<&Rule> = None;
    for tenant in [Some(scope), None] {
        for rule in rules.iter().filter(|rule| rule.tenant == tenant) {
            let level = rule.level.unwrap();
            let is_better = best.is_none_or(|best| best.level.unwrap() < level);
            if level > Decimal::NEGATIVE_ONE && level <= value && is_better {
                best = Some(rule);
            }
        }
    }
    best
}

/// `None` = it has more than 28 digits before the point.
fn price(rules: &[Rule], row: &Row) -> Option<Decimal> {
    let mut sum = Decimal::ZERO;
    let mut groups: Vec<&str> = Vec::new();
    // The order in which they are added counts where the last of 28 digits is rounded.
    let (mappings, thresholds): (Vec<&Rule>, Vec<&Rule>) =
        rules.iter().filter(|rule| rule.is_active()).partition(|rule| rule.level.is_none());
    for rule in mappings.into_iter().chain(thresholds) {
        if !groups.contains(&rule.group()) {
            groups.push(rule.group());
        }
    }
    for group in groups {
        let of = |is_it: &dyn Fn(&Rule) -> bool| -> Vec<&Rule> {
            rules.iter().filter(|it| it.is_active() && it.group() == group && is_it(it)).collect()
        };
        sum = add_half_even(sum, group_price(&of, row)?)?;
    }
    // A sum is rounded, what nothing is added to is not.
    if row.price.is_zero() { Some(sum) } else { add_half_even(row.price, sum) }
}

/// Finds the rules of a group that are such and such.
type Find<'a, 'f> = &'f dyn Fn(&dyn Fn(&Rule) -> bool) -> Vec<&'a Rule>;

fn group_price(of: Find<'_, '_>, row: &Row) -> Option<Decimal> {
    let mut mappings = Vec::new();
    mappings.extend(mapping(&of(&|it| it.field.is_none() && it.level.is_none()), row.scope));
    let mut best =
        threshold(&of(&|it| it.field.is_none() && it.level.is_some()), row.scope, row.qty);
    for field in 0..FIELDS.len() {
        let Some(text) = row.attribute(field) else { continue };
        let is_mapping =
            |it: &Rule| it.field == Some(field) && it.level.is_none() && it.value == text;
        mappings.extend(mapping(&of(&is_mapping), row.scope));
        let is_threshold = |it: &Rule| it.field == Some(field) && it.level.is_some();
        let numeric = ["1", "2.50", "-3", "1e2"].contains(&text);
        let reached =
            numeric.then(|| threshold(&of(&is_threshold), row.scope, number(text))).flatten();
        if reached.is_some_and(|it| best.is_none_or(|best| best.level < it.level)) {
            best = reached;
        }
    }
    let (mut flat, mut rate) = (Decimal::ZERO, Decimal::ONE);
    for rule in mappings {
        if rule.is_rate {
            rate = multiply_half_even(rate, rule.cost)?;
        } else {
            flat = flat.max(rule.cost);
        }
    }
    match best {
        Some(rule) if rule.field.is_some() && rule.is_rate => {
            rate = multiply_half_even(rate, rule.cost)?;
        }
        Some(rule) if rule.field.is_some() => flat = add_half_even(flat, rule.cost)?,
        _ => {}
    }
    let price = multiply_half_even(multiply_half_even(rate, flat)?, row.qty)?;
    match best {
        Some(rule) if rule.field.is_none() && rule.is_rate => multiply_half_even(price, rule.cost),
        Some(rule) if rule.field.is_none() => add_half_even(price, rule.cost),
        _ => Some(price),
    }
}

// ---- the same for the module
// ----------------------------------------------------------------------------------------

fn begin() -> DateTime<Utc> {
    "2026-03-01T00:00:00Z".parse().unwrap()
}

fn id(kind: usize, index: usize) -> String {
    format!("{kind:08x}-0000-4000-8000-{index:012x}")
}

/// The module with rules as the store has them.
fn rater(rules: &[Rule]) -> TestRater {
    let host = FakeHost::new();
    let mut seq = 0;
    let mut put = |kind: &str, id: String, mut record: serde_json::Value| {
        seq += 1;
        record["v"] = json!(1);
        record["seq"] = json!(seq);
        host.put(&format!("{kind}/{id}"), record.to_string().as_bytes());
    };
    put("service", id(0, 0), json!({"name": "s"}));
    for (index, name) in FIELDS.iter().enumerate() {
        put("field", id(1, index), json!({"name": name, "service": id(0, 0)}));
    }
    for (index, name) in GROUPS.iter().enumerate() {
        put("group", id(2, index), json!({"name": name}));
    }
    let day = |days: i64| (begin() + Duration::days(days)).format("%Y-%m-%dT%H:%M:%S").to_string();
    for (index, rule) in rules.iter().enumerate() {
        let parent = match rule.field {
            None => json!({"service": id(0, 0)}),
            Some(field) => json!({"field": id(1, field)}),
        };
        let record = json!({
            "parent": parent,
            "type": if rule.is_rate { "rate" } else { "flat" },
            "cost": rule.cost.to_string(),
            "group": rule.group.map(|index| id(2, index)),
            "tenant": rule.tenant,
            "start": day(rule.start),
            "end": rule.end.map(day),
            "name": null,
            "description": null,
            "created_at": day(-9),
            "created_by": "somebody",
            "updated_by": null,
            "deleted": rule.deleted.then(|| day(-1)),
            "deleted_by": null,
        });
        match rule.level {
            None => {
                let value = rule.field.map(|_| rule.value);
                put("mapping", id(3, index), json!({"value": value, "rule": record}));
            }
            Some(level) => {
                let level = level.to_string();
                let threshold = json!({"level": level, "dated": false, "rule": record});
                put("threshold", id(4, index), threshold);
            }
        }
    }
    let module = TestModule::new::<Hashmap>(&host, "").unwrap();
    module.prepare_at(begin()).unwrap()
}

fn batch(rows: &[Row]) -> RecordBatch {
    batch_if_it_fits(rows).unwrap()
}

/// `None` when no scale holds all of the quantities, or of the prices so far.
fn batch_if_it_fits(rows: &[Row]) -> Option<RecordBatch> {
    let mut builder = UsageBuilder::new(&[FIELDS[0], FIELDS[2]], &[FIELDS[1], FIELDS[2]]);
    for row in rows {
        let attributes = [row.grouped, row.both[0], row.described, row.both[1]];
        builder.push(row.scope, row.qty, &attributes).unwrap();
    }
    let batch = builder.finish().ok()?;
    let so_far: Vec<Decimal> = rows.iter().map(|row| row.price).collect();
    let so_far = decimal_column(&so_far).ok()?;
    Some(UsageBatch::new(&batch).unwrap().with_price(so_far).unwrap())
}

fn rate(rater: &TestRater, usage: &RecordBatch) -> Vec<Decimal> {
    let prices = column(rater, usage).unwrap();
    (0..prices.len()).map(|row| decimal_at(&prices, row).unwrap()).collect()
}

/// The column itself: the scale is the smallest that holds all prices.
fn column(rater: &TestRater, usage: &RecordBatch) -> Result<Decimal128Array> {
    let prices = rater.rate_batch(&request(), usage)?;
    Ok(PriceBatch::read(&prices, usage.num_rows())?.clone())
}

fn request() -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: "s".to_owned(),
        begin: begin(),
        end: begin() + Duration::hours(1),
    }
}

/// Each rule that is named is there, active, and says what is said of it.
fn check_rules(rules: &[Rule], steps: &[Step]) {
    for operand in steps.iter().flat_map(|step| &step.operands) {
        let Some(told) = &operand.rule else { continue };
        let (_, index) = told.id.rsplit_once('-').unwrap();
        let rule = &rules[usize::from_str_radix(index, 16).unwrap()];
        assert!(rule.is_active());
        assert_eq!(rule.cost, operand.value);
        assert_eq!(told.kind, if rule.level.is_some() { "threshold" } else { "mapping" });
        assert_eq!(told.details.get("tenant_id").map(String::as_str), rule.tenant);
        assert_eq!(told.details.get("field").map(String::as_str), rule.field.map(|it| FIELDS[it]));
        assert_eq!(told.details["type"], if rule.is_rate { "rate" } else { "flat" });
        assert_eq!(told.details["service"], "s");
    }
}

/// `PROPTEST_CASES` may ask for more.
fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig { cases: default.cases.max(512), failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_row_costs_what_the_rules_say(rules in vec(rule(), 0..24), rows in vec(row(), 0..16)) {
        let prices = column(&rater(&rules), &batch(&rows)).unwrap();

        let expected: Vec<Decimal> = rows.iter().map(|row| price(&rules, row).unwrap()).collect();
        prop_assert_eq!(prices, decimal_column(&expected).unwrap());
    }

    /// Where not every number is short, some prices are rounded and some are too large.
    #[test]
    fn long_numbers_cost_what_the_rules_say(
        rules in vec(long_rule(), 0..12),
        batches in vec(vec(long_row(), 1..6), 1..4),
    ) {
        let rater = rater(&rules);
        for rows in batches {
            let Some(usage) = batch_if_it_fits(&rows) else { continue };

            let prices = column(&rater, &usage);

            let expected: Option<Vec<Decimal>> =
                rows.iter().map(|row| price(&rules, row)).collect();
            let expected = expected.and_then(|prices| decimal_column(&prices).ok());
            prop_assert_eq!(prices.ok(), expected);
        }
    }

    #[test]
    fn the_reasons_of_a_price_lead_to_it(
        rules in vec(rule(), 0..24),
        rows in vec(row(), 1..16),
        at in any::<Index>(),
    ) {
        let (rater, usage) = (rater(&rules), batch(&rows));
        let first = at.index(rows.len());

        let explanation = rater.explain(&request(), &usage, first..rows.len()).unwrap();

        let prices = rate(&rater, &usage);
        prop_assert_eq!(explanation.rows.len(), rows.len() - first);
        for (index, steps) in (first..).zip(&explanation.rows) {
            let row = &rows[index];
            prop_assert_eq!(check_steps(steps, row.qty, row.price), Ok(prices[index]));
            check_rules(&rules, steps);
        }
    }

    /// Where numbers are rounded on the way, they are rounded alike.
    #[test]
    fn the_reasons_of_a_long_price_lead_to_it(
        rules in vec(long_rule(), 0..12),
        rows in vec(long_row(), 1..6),
    ) {
        let rater = rater(&rules);
        for row in rows {
            let usage = batch(std::slice::from_ref(&row));

            let explanation = rater.explain(&request(), &usage, 0..1);

            match column(&rater, &usage) {
                Ok(prices) => {
                    let steps = &explanation.unwrap().rows[0];
                    let price = decimal_at(&prices, 0).unwrap();
                    prop_assert_eq!(check_steps(steps, row.qty, row.price), Ok(price));
                }
                Err(_) => prop_assert!(explanation.is_err()),
            }
        }
    }

    #[test]
    fn splitting_a_batch_changes_no_price(
        rules in vec(rule(), 0..24),
        rows in vec(row(), 1..32),
        at in any::<Index>(),
    ) {
        let (rater, whole) = (rater(&rules), batch(&rows));
        let at = at.index(rows.len());

        let mut parts = rate(&rater, &whole.slice(0, at));
        parts.extend(rate(&rater, &whole.slice(at, rows.len() - at)));

        prop_assert_eq!(parts, rate(&rater, &whole));
    }

    #[test]
    fn the_order_of_rows_changes_no_price(
        rules in vec(rule(), 0..24),
        (rows, shuffled) in vec(row(), 1..32)
            .prop_map(|rows| rows.into_iter().enumerate().collect::<Vec<_>>())
            .prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
    ) {
        let rater = rater(&rules);
        let plain = |rows: &[(usize, Row)]| -> Vec<Row> {
            rows.iter().map(|(_, row)| row.clone()).collect()
        };

        let prices = rate(&rater, &batch(&plain(&rows)));
        let shuffled_prices = rate(&rater, &batch(&plain(&shuffled)));

        for ((index, _), shuffled_price) in shuffled.iter().zip(&shuffled_prices) {
            prop_assert_eq!(shuffled_price, &prices[*index]);
        }
    }
}
