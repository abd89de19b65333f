//! Reprocessing, simulated: a real ledger, a clock that only the tests move.

use rust_decimal::Decimal;

use super::simulation::*;
use crate::ledger::{
    Enabled, Filters, GroupKey, Ledger, Measures, NewReprocessing, ScopeChange, SummaryQuery,
};
use crate::usage::{ScopeId, Sum};

/// Everything up to this hour is in the ledger, at the old price, when a test begins.
const HOUR: i64 = 24;

fn new_rate() -> Decimal {
    Decimal::new(31, 4)
}

fn ids(scopes: &[&str]) -> Vec<ScopeId> {
    scopes.iter().map(|scope| ScopeId::new(scope).unwrap()).collect()
}

/// The price has changed, and these hours of these scopes are to have the new one.
async fn with_new_price(scopes: &[&str], first: i64, last: i64) -> Simulation {
    let mut simulation = Simulation::new(HOUR, Script::default());
    simulation.run_until(HOUR).await;
    simulation.world.script().rate = Some(new_rate());
    add(&mut simulation, scopes, first, last);
    simulation
}

fn add(simulation: &mut Simulation, scopes: &[&str], first: i64, last: i64) -> u64 {
    let id = simulation.ledger.add_reprocessing(&NewReprocessing {
        scopes: ids(scopes),
        reason: "a new price".to_owned(),
        start: at(first),
        end: at(last),
        at: at(HOUR),
        author: "test".to_owned(),
    });
    simulation.runner.look();
    id.unwrap()
}

fn prices(simulation: &Simulation) -> Vec<String> {
    let groups = simulation.ledger.summarize(&SummaryQuery {
        begin: at(0),
        end: at(10_000),
        filters: Filters::default(),
        group_by: vec![GroupKey::Scope, GroupKey::Type],
        measures: Measures::Sums,
    });
    let text =
        |scope: &str, metric: &str, qty: Sum, price: Sum| format!("{scope} {metric} {qty} {price}");
    let mut prices: Vec<String> = groups
        .unwrap()
        .iter()
        .map(|group| text(&group.keys[0], &group.keys[1], group.qty, group.price))
        .collect();
    prices.sort();
    prices
}

/// The same by the model.
fn expected(hours: i64, is_new: impl Fn(&str, i64) -> bool) -> Vec<String> {
    let mut expected = Vec::new();
    for (metric, _) in METRICS {
        for scope in SCOPES {
            let (mut qty, mut price) = (Decimal::ZERO, Decimal::ZERO);
            for hour in 0..hours {
                let row = measured(metric, scope, hour).unwrap_or_default();
                qty += row;
                price += row * if is_new(scope, hour) { new_rate() } else { rate() };
            }
            let (qty, price) = (Sum::from_decimal(qty), Sum::from_decimal(price));
            expected.push(format!("{scope} {metric} {qty} {price}"));
        }
    }
    expected.sort();
    expected
}

/// Hours that were collected when the price changed have the old one, unless reprocessed.
fn is_late(hour: i64) -> bool {
    hour >= HOUR - 1
}

fn unfinished(simulation: &Simulation) -> Vec<String> {
    let mut open = simulation.ledger.reprocessings().unwrap();
    open.retain(|one| !one.finished);
    let names = |one: &crate::ledger::Reprocessing| {
        one.scopes.iter().map(ScopeId::as_str).collect::<Vec<_>>().join(",")
    };
    open.iter().map(names).collect()
}

#[tokio::test]
async fn readers_see_all_of_the_old_or_all_of_the_new_totals() {
    let old = expected(HOUR - 1, |_, _| false);
    let new = expected(HOUR - 1, |scope, hour| scope != "s1" && (3..=12).contains(&hour));
    let mut simulation = with_new_price(&["s0", "s2", "s3", "s4"], 3, 12).await;
    assert_eq!(prices(&simulation), old);

    let (mut old_seen, mut new_seen) = (0, 0);
    while !unfinished(&simulation).is_empty() {
        simulation.step().await;
        match prices(&simulation) {
            seen if seen == old => old_seen += 1,
            seen if seen == new => new_seen += 1,
            other => panic!("neither old nor new: {other:?}"),
        }
    }

    assert_eq!(prices(&simulation), new);
    assert!(old_seen > 10 && new_seen > 0, "{old_seen} {new_seen}");
    let reprocessing = simulation.ledger.reprocessings().unwrap().remove(0);
    assert_eq!(reprocessing.current, Some(at(12)));
    assert_eq!(simulation.all_hours(), [23; 15]);
    simulation.run_until(HOUR + 2).await;
    let new = |scope: &str, hour| is_late(hour) || (scope != "s1" && (3..=12).contains(&hour));
    assert_eq!(prices(&simulation), expected(HOUR + 1, new));
}

#[tokio::test]
async fn a_restart_at_any_moment_goes_on_behind_the_last_period_that_is_staged() {
    let mut simulation = with_new_price(&["s0", "s1"], 0, 20).await;
    for steps in 1..30 {
        for _ in 0..steps {
            simulation.step().await;
        }
        simulation = simulation.restart().await;
        let staged = simulation.ledger.reprocessings().unwrap().remove(0).current;
        let first_left = staged.map_or(0, |staged| (staged - at(0)).num_hours() + 1);
        simulation.world.script().asked.clear();
        simulation.step().await;
        simulation.step().await;
        simulation.step().await;
        let again = simulation.world.script().asked.clone();
        assert!(again.iter().all(|(_, hour, _)| *hour >= first_left), "{first_left}: {again:?}");
    }

    simulation.run_until(HOUR + 1).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new = |scope: &str, hour| is_late(hour) || (hour <= 20 && "s0 s1".contains(scope));
    assert_eq!(prices(&simulation), expected(HOUR, is_new));
}

#[tokio::test]
async fn a_source_that_is_down_is_waited_for_and_never_taken_for_no_usage() {
    let mut simulation = with_new_price(&["s0", "s1"], 5, 9).await;
    simulation.world.script().outages = vec![("ram", HOUR, HOUR + 2)];

    simulation.run_until(HOUR + 1).await;
    let troubles = simulation.runner.status.borrow().troubles.clone();
    let subjects: Vec<&str> = troubles.iter().map(|one| one.subject.as_str()).collect();
    assert!(subjects.contains(&"reprocessing: metric `ram` of collector `a`"), "{subjects:?}");
    assert_eq!(unfinished(&simulation), ["s0,s1"]);

    simulation.run_until(HOUR + 4).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new =
        |scope: &str, hour| is_late(hour) || ((5..=9).contains(&hour) && "s0 s1".contains(scope));
    assert_eq!(prices(&simulation), expected(HOUR + 3, is_new));
    assert_eq!(simulation.runner.status.borrow().troubles, []);
}

#[tokio::test]
async fn a_scope_that_fails_for_itself_is_put_off_and_the_others_get_through() {
    let mut simulation = with_new_price(&["s1", "s3"], 2, 6).await;
    simulation.world.script().poisoned = Some("s3");

    simulation.run_until(HOUR + 1).await;
    assert_eq!(unfinished(&simulation), ["s3"]);
    let troubles = simulation.runner.status.borrow().troubles.clone();
    let trouble = troubles.iter().find(|one| one.subject == "reprocessing 2").unwrap();
    assert_eq!(trouble.reason, "rating module `flat` failed: no price for that");

    // A later one does not wait for it.
    add(&mut simulation, &["s0"], 0, 3);
    simulation.run_until(HOUR + 2).await;
    assert_eq!(unfinished(&simulation), ["s3"]);

    simulation.world.script().poisoned = None;
    simulation.world.script().generation += 1;
    simulation.runner.look();
    simulation.run_until(HOUR + 4).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new = |scope: &str, hour: i64| {
        let is_reprocessed = match scope {
            "s0" => hour <= 3,
            "s1" | "s3" => (2..=6).contains(&hour),
            _ => false,
        };
        is_late(hour) || is_reprocessed
    };
    assert_eq!(prices(&simulation), expected(HOUR + 3, is_new));
}

#[tokio::test]
async fn an_inactive_scope_waits_apart_until_it_is_active_again() {
    let mut simulation = with_new_price(&["s0", "s4"], 0, 9).await;
    for _ in 0..12 {
        simulation.step().await;
    }
    let s4 = ScopeId::new("s4").unwrap();
    let change = |active| ScopeChange { active: Some((active, at(HOUR))), ..Default::default() };
    simulation.ledger.change_scope(&s4, &change(false)).unwrap();
    simulation.runner.look();

    simulation.run_until(HOUR + 1).await;
    assert_eq!(unfinished(&simulation), ["s4"]);
    let is_new = |scope: &str, hour| is_late(hour) || (scope == "s0" && hour <= 9);
    let others = |prices: Vec<String>| -> Vec<String> {
        prices.into_iter().filter(|line| !line.starts_with("s4")).collect()
    };
    assert_eq!(others(prices(&simulation)), others(expected(HOUR, is_new)));

    simulation.ledger.change_scope(&s4, &change(true)).unwrap();
    simulation.run_until(HOUR + 2).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new = |scope: &str, hour| is_late(hour) || ("s0 s4".contains(scope) && hour <= 9);
    assert_eq!(prices(&simulation), expected(HOUR + 1, is_new));
}

#[tokio::test]
async fn a_disabled_collector_pauses_a_reprocessing() {
    let mut simulation = with_new_price(&["s2"], 0, 4).await;
    simulation.ledger.set_collector_state("b", Enabled::No).unwrap();

    simulation.run_until(HOUR + 1).await;
    assert_eq!(unfinished(&simulation), ["s2"]);
    simulation.ledger.set_collector_state("b", Enabled::Yes).unwrap();
    simulation.run_until(HOUR + 2).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new = |scope: &str, hour| is_late(hour) || (scope == "s2" && hour <= 4);
    assert_eq!(prices(&simulation), expected(HOUR + 1, is_new));
}

#[tokio::test]
async fn a_past_that_the_source_has_forgotten_keeps_what_was_collected() {
    let mut simulation = with_new_price(&["s0"], 0, 9).await;
    simulation.world.script().lost_before = 5;

    simulation.run_until(HOUR).await;

    assert_eq!(unfinished(&simulation), [""; 0]);
    let is_new = |scope: &str, hour| scope == "s0" && (5..=9).contains(&hour);
    assert_eq!(prices(&simulation), expected(HOUR - 1, is_new));
}
