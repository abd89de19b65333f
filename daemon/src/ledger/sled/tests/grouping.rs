//! Summaries of rows by any keys, filters and measures, compared with adding up one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::*;
use crate::ledger::sled::SledLedger;
use crate::ledger::{Extremes, Filters, GroupKey, Ledger, Measures, SummaryQuery};
use crate::usage::Sum;

const SCOPES: [&str; 3] = ["ann", "bob", "cid"];
const IDS: [Option<&str>; 5] = [Some("vm-1"), Some("vm-2"), None, Some("vm-4"), Some("")];
const FLAVORS: [Option<&str>; 4] = [Some("small"), Some("large"), None, Some("huge")];

/// Slice, scope, quantity, price, id, flavor.
type ModelRow = (usize, usize, i128, i128, usize, usize);

#[derive(Debug, Clone)]
struct Question {
    /// 0 scope, 1 id, 2 flavor, 3 type, 4 an attribute that nobody has, 5 the scopes' own.
    keys: Vec<usize>,
    by_time: bool,
    scopes: Option<Vec<usize>>,
    ids: Option<Vec<usize>>,
    flavors: Option<Vec<usize>>,
    measures: Measures,
}

fn rows() -> impl Strategy<Value = Vec<ModelRow>> {
    let number = prop_oneof![
        4 => (-500_i128..5_000).boxed(),
        1 => prop::sample::select(vec![i128::from(i64::MAX), 10_i128.pow(37), -(1 << 60)]).boxed(),
    ];
    let row = (0..4_usize, 0..3_usize, number, 0..7_i128, 0..5_usize, 0..4_usize);
    let rated = row.prop_map(|(slice, scope, qty, rate, id, flavor)| {
        // The price list of flavors, or something else.
        let rate = if rate == 0 { 10 + flavor as i128 } else { rate };
        let price = qty.checked_mul(rate).filter(|price| price.abs() < 10_i128.pow(38));
        (slice, scope, qty, price.unwrap_or(1), id, flavor)
    });
    prop::collection::vec(rated, 0..120)
}

fn questions() -> impl Strategy<Value = Question> {
    let some =
        |count: usize| prop::option::weighted(0.3, prop::collection::vec(0..count, 1..3)).boxed();
    let measures = prop::sample::select(vec![Measures::Sums, Measures::SumsAndExtremes]);
    let keys = prop::sample::subsequence(vec![0, 1, 2, 3, 4, 5], 0..=4).prop_shuffle();
    (keys, any::<bool>(), some(3), some(5), some(4), measures).prop_map(
        |(keys, by_time, scopes, ids, flavors, measures)| Question {
            keys,
            by_time,
            scopes,
            ids,
            flavors,
            measures,
        },
    )
}

fn text(text: Option<&str>) -> String {
    text.unwrap_or("").to_owned()
}

impl Question {
    fn query(&self) -> SummaryQuery {
        let key = |key: &usize| match key {
            0 => GroupKey::Scope,
            1 => attribute("id"),
            2 => attribute("flavor"),
            3 => GroupKey::Type,
            4 => attribute("colour"),
            _ => attribute("project_id"),
        };
        let mut group_by: Vec<GroupKey> = self.keys.iter().map(key).collect();
        if self.by_time {
            group_by.push(GroupKey::Time);
        }
        let mut attributes = BTreeMap::new();
        let mut filter = |name: &str, texts: &[Option<&str>], wanted: &Option<Vec<usize>>| {
            if let Some(wanted) = wanted {
                let wanted = wanted.iter().map(|index| text(texts[*index])).collect();
                attributes.insert(name.to_owned(), wanted);
            }
        };
        filter("id", &IDS, &self.ids);
        filter("flavor", &FLAVORS, &self.flavors);
        let scopes = self.scopes.as_ref();
        let scopes = scopes.map(|scopes| scopes.iter().map(|index| scope(SCOPES[*index])));
        let filters =
            Filters { scopes: scopes.map(Iterator::collect), attributes, ..Filters::default() };
        SummaryQuery { filters, measures: self.measures, ..everything(&group_by) }
    }

    fn takes(&self, row: &ModelRow) -> bool {
        let texts = |texts: &[Option<&str>], wanted: &Option<Vec<usize>>, index: usize| {
            let is_same = |other: &usize| text(texts[*other]) == text(texts[index]);
            wanted.as_ref().is_none_or(|wanted| wanted.iter().any(is_same))
        };
        self.scopes.as_ref().is_none_or(|scopes| scopes.contains(&row.1))
            && texts(&IDS, &self.ids, row.4)
            && texts(&FLAVORS, &self.flavors, row.5)
    }

    /// One row after the other.
    fn expected(&self, rows: &[ModelRow]) -> BTreeMap<Key, Found> {
        let mut groups: BTreeMap<Key, Found> = BTreeMap::new();
        for row in rows.iter().filter(|row| self.takes(row)) {
            let (slice, scope, qty, price, id, flavor) = *row;
            let key = |key: &usize| match key {
                0 | 5 => SCOPES[scope].to_owned(),
                1 => text(IDS[id]),
                2 => text(FLAVORS[flavor]),
                3 => metric_of(slice).to_owned(),
                _ => String::new(),
            };
            let hour = self.by_time.then(|| at(hour_of(slice)).timestamp());
            let key = (self.keys.iter().map(key).collect(), hour);
            let (qty, price) = (Sum::from_scaled(qty, 2), Sum::from_scaled(price, 2));
            let one = Extremes { qty_min: qty, qty_max: qty, price_min: price, price_max: price };
            let found = groups.entry(key).or_insert((0, Sum::ZERO, Sum::ZERO, None));
            let all = found.3.get_or_insert(one);
            *found = (
                found.0 + 1,
                found.1 + qty,
                found.2 + price,
                Some(Extremes {
                    qty_min: all.qty_min.min(qty),
                    qty_max: all.qty_max.max(qty),
                    price_min: all.price_min.min(price),
                    price_max: all.price_max.max(price),
                }),
            );
        }
        if self.measures == Measures::Sums {
            for found in groups.values_mut() {
                found.3 = None;
            }
        }
        groups
    }
}

type Key = (Vec<String>, Option<i64>);
type Found = (u64, Sum, Sum, Option<Extremes>);

fn metric_of(slice: usize) -> &'static str {
    ["cpu", "disk"][slice % 2]
}

fn hour_of(slice: usize) -> i64 {
    i64::try_from(slice / 2).unwrap()
}

fn ledger_of(path: &std::path::Path, rows: &[ModelRow]) -> SledLedger {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&SCOPES.map(new_scope)).unwrap();
    for number in 0..4 {
        let own = rows.iter().filter(|row| row.0 == number);
        let own: Vec<Row<'_>> = own
            .map(|(_, scope, qty, price, id, flavor)| {
                (SCOPES[*scope], *qty, *price, IDS[*id], FLAVORS[*flavor])
            })
            .collect();
        ledger
            .commit(vec![slice(metric_of(number), hour(hour_of(number)), &SCOPES, &own)])
            .unwrap();
    }
    ledger
}

fn found(ledger: &SledLedger, query: &SummaryQuery) -> BTreeMap<Key, Found> {
    let mut found = BTreeMap::new();
    for group in ledger.summarize(query).unwrap() {
        let keys = group.keys.iter().map(ToString::to_string).collect();
        let key = (keys, group.period.map(crate::usage::Period::begin_secs));
        let sums = (group.rows, group.qty, group.price, group.extremes);
        assert_eq!(found.insert(key, sums), None, "a group is there twice");
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_question_is_answered_as_one_by_one(
        rows in rows(),
        questions in prop::collection::vec(questions(), 12),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ledger = ledger_of(folder.path(), &rows);
        for question in &questions {
            let answer = found(&ledger, &question.query());
            prop_assert_eq!(answer, question.expected(&rows), "{:?}", question);
        }
    }
}

/// So many rows that several blocks are read, by several threads.
#[test]
fn many_rows_are_added_up_as_few_are() {
    let row = |number: usize| {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let qty = 1 + i128::try_from(mixed % 700).unwrap();
        let flavor = mixed / 7 % 4;
        let price = qty * i128::try_from(3 + flavor).unwrap();
        (number % 4, number * 3 / 120_000, qty, price, mixed / 64 % 5, flavor)
    };
    let rows: Vec<ModelRow> = (0..120_000).map(row).collect();
    let folder = tempfile::tempdir().unwrap();
    let ledger = ledger_of(folder.path(), &rows);
    let all = Question {
        keys: vec![2],
        by_time: false,
        scopes: None,
        ids: None,
        flavors: None,
        measures: Measures::SumsAndExtremes,
    };
    let by_two = Question { keys: vec![0, 2, 1], by_time: true, ..all.clone() };
    let of_one = Question { ids: Some(vec![3]), measures: Measures::Sums, ..all.clone() };
    for question in [all, by_two, of_one] {
        assert_eq!(found(&ledger, &question.query()), question.expected(&rows), "{question:?}");
    }
}
