use std::collections::BTreeMap;

use rated_hashmap::Hashmap;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{Decimal, Purpose, RateRequest, UsageBatch};
use tempfile::TempDir;

use super::*;
use crate::ledger::sled::{SledLedger, SledOptions};
use crate::ledger::{Filters, GroupKey, Ledger, Measures, SummaryQuery};
use crate::usage::Sum;

const THREADS: std::num::NonZero<usize> = std::num::NonZero::new(3).unwrap();

fn cloud() -> Cloud {
    let start = "2026-10-01T00:00:00Z".parse().unwrap();
    let size = Size { scopes: 7, resources: 15, metrics: 3, hours: 200, start, seed: 1 };
    Cloud::new(size).unwrap()
}

/// CSV without its head: lines of cells.
fn cells(text: &[u8]) -> Vec<Vec<String>> {
    let text = str::from_utf8(text).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn hashmap_makes_the_same_prices_from_the_price_list() {
    let cloud = cloud();
    let rules = price_list(cloud.size())["rules"].take();
    let config = format!("initial_rules = {}", toml::Value::try_from(rules).unwrap());
    let module = TestModule::new::<Hashmap>(&FakeHost::new(), &config).unwrap();
    let by_rules = module.prepare_at(cloud.period(0).begin()).unwrap();

    for hour in cloud.hours().filter(|hour| hour.hour % 40 == 0) {
        let rows = cloud.usage(hour, 0..7);
        let request = RateRequest {
            purpose: Purpose::Period,
            metric: Cloud::metric(hour.metric).alt_name,
            begin: cloud.period(hour.hour).begin(),
            end: cloud.period(hour.hour).end(),
        };
        let prices: Vec<Decimal> = by_rules.rate(&request, &rows).unwrap();

        let rated = cloud.slice(hour, 0..7, 1).rows.remove(0);
        let rated = UsageBatch::new(&rated).unwrap();
        let expected: Vec<Decimal> = (0..rated.rows()).map(|row| rated.price_at(row)).collect();
        assert_eq!(prices, expected);
    }
}

#[test]
fn a_ledger_that_was_filled_has_the_same_sums() {
    let cloud = cloud();
    let folder = TempDir::new().unwrap();
    let ledger = SledLedger::open(folder.path(), SledOptions::default()).unwrap();
    fill(&cloud, &ledger, THREADS).unwrap();

    let flavor = GroupKey::Attribute("flavor_id".to_owned());
    let region = ("region".to_owned(), "region-1".to_owned());
    for (group_by, names, filters) in [
        (vec![], vec![], vec![]),
        (vec![GroupKey::Scope, GroupKey::Type], vec!["project_id", "type"], vec![]),
        (vec![GroupKey::Scope, flavor.clone()], vec!["project_id", "flavor_id"], vec![]),
        (vec![flavor], vec!["flavor_id"], vec![region]),
    ] {
        let attributes = filters
            .iter()
            .map(|(name, value): &(String, String)| (name.clone(), vec![value.clone()]));
        let query = SummaryQuery {
            begin: cloud.period(0).begin(),
            end: cloud.period(199).end(),
            filters: Filters { attributes: attributes.collect(), ..Filters::default() },
            group_by,
            measures: Measures::Sums,
        };
        let found = ledger.summarize(&query).unwrap().into_iter().map(|group| {
            let keys = group.keys.iter().map(ToString::to_string).collect();
            (keys, (group.qty, group.price, group.rows))
        });
        let found: BTreeMap<Vec<String>, (Sum, Sum, u64)> = found.collect();

        let query = TotalsQuery {
            group_by: names.into_iter().map(str::to_owned).collect(),
            filters,
            begin: None,
            end: None,
        };
        let expected = totals(&cloud, &query).unwrap();
        let expected: BTreeMap<_, _> = expected
            .groups()
            .map(|(keys, sums)| (keys, (sum(sums.qty, 3), sum(sums.price, 9), sums.rows)))
            .collect();
        assert_eq!(found, expected);
    }
    let error = fill(&cloud, &ledger, THREADS).unwrap_err().to_string();
    assert!(error.starts_with("the ledger took 0 rows of metric_"), "{error}");
}

fn sum(value: u128, scale: u8) -> Sum {
    Sum::from_scaled(i128::try_from(value).unwrap(), scale)
}

#[test]
fn totals_are_those_of_the_rows() {
    let cloud = cloud();
    let mut rows = Vec::new();
    write_rows(&cloud, &mut rows, THREADS).unwrap();
    let rows = cells(&rows);
    assert_eq!(rows.len() as u64, cloud.points() + 1);
    let begin = cloud.period(24).begin();
    let query = TotalsQuery {
        group_by: vec!["time".to_owned(), "state".to_owned()],
        filters: vec![("region".to_owned(), "region-1".to_owned())],
        begin: Some(begin),
        end: Some(cloud.period(48).begin()),
    };

    let mut expected: BTreeMap<Vec<String>, (Decimal, Decimal, u64)> = BTreeMap::new();
    for row in &rows[1..] {
        let time = row[0].replace(' ', "T") + "Z";
        let is_taken = row[4] == "region-1" && row[0].starts_with("2026-10-02");
        if is_taken {
            let sums = expected.entry(vec![time, row[8].clone()]).or_default();
            sums.0 += row[9].parse::<Decimal>().unwrap();
            sums.1 += row[10].parse::<Decimal>().unwrap();
            sums.2 += 1;
        }
    }

    let mut found = Vec::new();
    write_totals(&totals(&cloud, &query).unwrap(), &mut found).unwrap();
    let found = cells(&found).into_iter().map(|cells| {
        let sums =
            (cells[2].parse().unwrap(), cells[3].parse().unwrap(), cells[4].parse().unwrap());
        (cells[..2].to_vec(), sums)
    });
    assert!(expected.len() > 24);
    assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn resources_keep_most_attributes_and_each_has_an_id_of_its_own() {
    let cloud = cloud();
    let points = |hour| (0..35).map(move |row| (hour, row));
    let of = |(hour, row)| cloud.point(Hour { metric: 1, hour }, row);

    let changed = |what: fn(&Point) -> u32| {
        let pairs = points(0).zip(points(199));
        pairs.filter(|(old, new)| what(&of(*old)) != what(&of(*new))).count()
    };
    let ids: std::collections::HashSet<String> = cells(&{
        let mut rows = Vec::new();
        write_rows(&cloud, &mut rows, THREADS).unwrap();
        rows
    })
    .into_iter()
    .skip(1)
    .map(|row| row[3].clone())
    .collect();

    assert_eq!(ids.len(), 7 * 15);
    assert_eq!(changed(|point| point.region), 0);
    assert!((1..12).contains(&changed(|point| point.host)));
    assert!((8..35).contains(&changed(|point| point.qty)));
}

#[test]
fn a_size_that_makes_no_sense_is_refused() {
    let size = cloud().size();

    let uneven = Cloud::new(Size { resources: 16, ..size }).unwrap_err().to_string();
    assert_eq!(uneven, "16 resources of 3 metrics: must be so many times the metrics");
    let start = "2026-10-01T00:00:01Z".parse().unwrap();
    assert_eq!(Cloud::new(Size { start, ..size }).unwrap_err(), SizeError::Start(start));
    assert_eq!(Cloud::new(Size { hours: 0, ..size }).unwrap_err(), SizeError::Nothing);
    let many = Size { scopes: 1 << 23, ..size };
    assert_eq!(Cloud::new(many).unwrap_err(), SizeError::Rows { found: 5 << 23 });
}
