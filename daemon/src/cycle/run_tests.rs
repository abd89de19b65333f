//! The whole road, simulated.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;

use super::backoff::Jitter;
use super::simulation::*;
use crate::clock::ManualClock;
use crate::ledger::{
    CollectorMapping, CompletenessQuery, CompletenessState, Enabled, Ledger, Reset, ScopeChange,
};
use crate::usage::ScopeId;

/// Due at hour h: the periods that begin before h - `WAIT_PERIODS`.
fn due(hour: i64) -> usize {
    usize::try_from(hour - i64::from(WAIT_PERIODS)).unwrap()
}

#[tokio::test]
async fn catching_up_asks_once_per_metric_and_period_and_the_totals_are_exact() {
    let mut simulation = Simulation::new(24, Script::default());

    simulation.run_until(24).await;

    assert_eq!(simulation.all_hours(), [due(24); 15]);
    simulation.check_totals(23);
    let script = simulation.world.script();
    assert_eq!(script.asked.len(), METRICS.len() * due(24));
    assert!(script.asked.iter().all(|(_, _, scopes)| *scopes == SCOPES.len()));
}

#[tokio::test]
async fn periods_that_are_caught_up_with_share_commits() {
    let mut simulation = Simulation::new(24, Script::default());

    simulation.run_until(24).await;

    assert_eq!(simulation.all_hours(), [due(24); 15]);
    let commits = simulation.commits;
    assert!(commits <= METRICS.len(), "{commits} commits for {} periods of each metric", due(24));
}

#[tokio::test]
async fn what_fails_while_catching_up_loses_nothing_before_it() {
    let script = Script { garbled: Some("s1"), garbled_from: 5, ..Script::default() };
    let mut simulation = Simulation::new(12, script);

    simulation.run_until(12).await;
    for (metric, _) in METRICS {
        assert_eq!(simulation.hours_stored(metric, "s1"), 5, "{metric}");
        for scope in ["s0", "s2", "s3", "s4"] {
            assert_eq!(simulation.hours_stored(metric, scope), due(12), "{metric} {scope}");
        }
    }

    simulation.world.script().garbled = None;
    simulation.run_until(14).await;

    assert_eq!(simulation.all_hours(), [due(14); 15]);
    simulation.check_totals(13);
}

#[tokio::test]
async fn a_period_is_collected_at_the_first_tick_after_it_is_due() {
    let mut simulation = Simulation::new(0, Script::default());

    simulation.run_until(2).await;
    assert_eq!(simulation.all_hours(), [1; 15]);
    simulation.world.clock.set(at(3) - TimeDelta::seconds(1));
    simulation.run_until(2).await;
    assert_eq!(simulation.all_hours(), [1; 15]);

    simulation.run_until(50).await;

    assert_eq!(simulation.all_hours(), [due(50); 15]);
    simulation.check_totals(49);
}

#[tokio::test]
async fn an_outage_of_one_metric_delays_it_alone() {
    let script = Script { outages: vec![("ram", 10, 20)], ..Script::default() };
    let mut simulation = Simulation::new(0, script);

    simulation.run_until(19).await;
    for scope in SCOPES {
        assert_eq!(simulation.hours_stored("cpu", scope), due(19));
        assert_eq!(simulation.hours_stored("disk", scope), due(19));
        assert_eq!(simulation.hours_stored("ram", scope), due(10) - 1);
    }
    let troubles = simulation.runner.status.borrow().troubles.clone();
    assert_eq!(troubles[0].subject, "metric `ram` of collector `a`");
    assert_eq!(troubles[0].reason, "the source is down");
    let asked = simulation.world.script().asked.len();
    assert!(asked < 3 * 19 + 25, "{asked} questions in 19 hours, 9 of them in vain");

    simulation.run_until(22).await;

    assert_eq!(simulation.all_hours(), [due(22); 15]);
    simulation.check_totals(21);
    assert_eq!(simulation.runner.status.borrow().troubles, []);
}

#[tokio::test]
async fn a_scope_that_cannot_be_rated_is_found_and_waits_alone() {
    let script = Script { poisoned: Some("s3"), ..Script::default() };
    let mut simulation = Simulation::new(0, script);

    simulation.run_until(12).await;
    for (metric, _) in METRICS {
        for scope in ["s0", "s1", "s2", "s4"] {
            assert_eq!(simulation.hours_stored(metric, scope), due(12), "{metric} {scope}");
        }
        assert!(simulation.hours_stored(metric, "s3") < due(12));
    }

    // It waits until something changes, then it goes on where it stood.
    simulation.world.script().poisoned = None;
    simulation.run_until(14).await;
    assert!(simulation.hours_stored("cpu", "s3") < due(14));
    simulation.world.script().generation += 1;
    simulation.run_until(15).await;

    assert_eq!(simulation.all_hours(), [due(15); 15]);
    simulation.check_totals(14);
}

#[tokio::test]
async fn a_scope_that_garbles_the_sources_answer_is_found_and_waits_alone() {
    let script = Script { garbled: Some("s1"), ..Script::default() };
    let mut simulation = Simulation::new(0, script);

    simulation.run_until(12).await;
    for scope in ["s0", "s2", "s3", "s4"] {
        assert_eq!(simulation.hours_stored("cpu", scope), due(12), "{scope}");
    }
    assert_eq!(simulation.hours_stored("cpu", "s1"), 0);
    let notes = CompletenessQuery { begin: at(0), end: at(20), scopes: None };
    let notes = simulation.ledger.completeness(&notes).unwrap();
    let failing = notes.iter().filter(|one| !matches!(one.state, CompletenessState::Known(_)));
    let failing: Vec<&str> = failing.map(|one| one.scope.as_str()).collect();
    assert_eq!(failing, ["s1"; 3]);

    simulation.world.script().garbled = None;
    simulation.run_until(16).await;

    assert_eq!(simulation.all_hours(), [due(16); 15]);
    simulation.check_totals(15);
}

#[tokio::test]
async fn a_scope_that_makes_a_module_panic_is_found_without_many_panics() {
    let script = Script { explosive: Some("s4"), ..Script::default() };
    let mut simulation = Simulation::new(2, script);

    simulation.run_until(8).await;

    for (metric, _) in METRICS {
        for scope in ["s0", "s1", "s2", "s3"] {
            assert_eq!(simulation.hours_stored(metric, scope), due(8), "{metric} {scope}");
        }
        assert!(simulation.hours_stored(metric, "s4") < due(8));
        let script = simulation.world.script();
        let of_metric = script.panics.iter().filter(|(name, _)| name == metric);
        let times: Vec<_> = of_metric.map(|(_, time)| *time).collect();
        assert!(times.len() > 2, "{times:?}");
        assert!(times.windows(2).all(|two| two[1] - two[0] >= TimeDelta::minutes(6)), "{times:?}");
    }
}

#[tokio::test]
async fn a_past_that_is_lost_is_noted_and_left_behind_quickly() {
    let script = Script { lost_before: 700, ..Script::default() };
    let mut simulation = Simulation::new(720, script);

    simulation.run_until(720).await;

    assert_eq!(simulation.all_hours(), [due(720); 15]);
    simulation.check_totals(719);
}

#[tokio::test]
async fn restarts_at_any_moment_change_nothing() {
    let script = Script { outages: vec![("disk", 5, 9)], ..Script::default() };
    let mut simulation = Simulation::new(20, script);
    for steps in 1..25 {
        for _ in 0..steps {
            simulation.step().await;
        }
        simulation = simulation.restart().await;
    }

    simulation.run_until(30).await;

    assert_eq!(simulation.all_hours(), [due(30); 15]);
    simulation.check_totals(29);
}

#[tokio::test]
async fn resets_at_any_moment_leave_no_hole_and_double_nothing() {
    for seed in 0..8 {
        let mut random = Jitter::new(seed);
        let mut simulation = Simulation::new(20, Script::default());
        for _ in 0..25 {
            for _ in 0..random.below(14) {
                simulation.step().await;
            }
            reset_some(&simulation, &mut random);
            // Whoever resets wakes the cycle, soon.
            if random.below(3) > 0 {
                simulation.runner.look();
            }
        }

        simulation.run_until(30).await;

        assert_eq!(simulation.all_hours(), [due(30); 15], "seed {seed}");
        simulation.check_totals(29);
    }
}

#[tokio::test]
async fn a_reset_while_slices_are_under_way_is_made_up() {
    for steps in 1..40 {
        let mut simulation = Simulation::new(12, Script::default());
        for _ in 0..steps {
            simulation.step().await;
        }
        reset_some(&simulation, &mut Jitter::new(steps));
        simulation.runner.look();

        // Mostly before the next tick already; a commit may end between the reset and its being
        // read in a way that only the tick's own look at the ledger finds.
        simulation.run_until(13).await;

        assert_eq!(simulation.all_hours(), [due(13); 15], "{steps} steps");
        simulation.check_totals(12);
    }
}

#[tokio::test]
async fn a_reset_between_a_commit_and_the_news_of_it_is_made_up() {
    let mut simulation = Simulation::new(12, Script::default());
    while simulation.runner.finished.is_empty() {
        simulation.step().await;
    }
    simulation.runner.step();
    let ledger = Arc::clone(&simulation.ledger);
    let is_stored = || {
        let cursors = ledger.cursors().unwrap().next_begin_secs;
        cursors.values().flatten().any(|begin| *begin > at(0).timestamp())
    };
    while !is_stored() {
        tokio::task::yield_now().await;
    }

    let scopes = ledger.cursors().unwrap().scopes;
    ledger.reset(&Reset { scopes, from: at(0), period_secs: 3600 }).unwrap();
    simulation.runner.look();
    simulation.runner.step();
    let committed = simulation.runner.commits.join_next().await.unwrap();
    simulation.runner.committed(committed.unwrap());
    while simulation.step().await.is_none() {}

    assert_eq!(simulation.all_hours(), [due(12); 15]);
    simulation.check_totals(11);
}

/// To a moment at which all of them were already: what comes before it stays.
fn reset_some(simulation: &Simulation, random: &mut Jitter) {
    let cursors = simulation.ledger.cursors().unwrap();
    let (mut scopes, mut first) = (Vec::new(), i64::MAX);
    for (index, scope) in cursors.scopes.iter().enumerate() {
        if random.below(2) == 0 {
            let stands = cursors.next_begin_secs.values().map(|metric| metric[index]);
            first = first.min(stands.min().unwrap());
            scopes.push(scope.clone());
        }
    }
    if !scopes.is_empty() {
        let hours = (first - at(0).timestamp()) / 3600;
        let back = i64::try_from(random.below(6)).unwrap();
        let from = at((hours - back).max(0));
        simulation.ledger.reset(&Reset { scopes, from, period_secs: 3600 }).unwrap();
    }
}

#[tokio::test]
async fn an_inactive_scope_is_left_alone_from_the_next_tick_on() {
    let mut simulation = Simulation::new(5, Script::default());
    simulation.run_until(5).await;
    let s2 = ScopeId::new("s2").unwrap();
    let change = |active| ScopeChange { active: Some((active, at(5))), ..ScopeChange::default() };
    simulation.ledger.change_scope(&s2, &change(false)).unwrap();

    simulation.run_until(9).await;
    assert_eq!(simulation.hours_stored("cpu", "s1"), due(9));
    assert_eq!(simulation.hours_stored("cpu", "s2"), due(5), "neither collected nor deleted");
    simulation.ledger.change_scope(&s2, &change(true)).unwrap();
    simulation.run_until(10).await;

    assert_eq!(simulation.all_hours(), [due(10); 15]);
    simulation.check_totals(9);
}

#[tokio::test]
async fn a_disabled_collector_pauses_and_resumes_where_it_stood() {
    let mut simulation = Simulation::new(5, Script::default());
    simulation.run_until(5).await;
    simulation.ledger.set_collector_state("a", Enabled::No).unwrap();
    simulation.runner.is_sync_due = true;

    simulation.run_until(10).await;
    assert_eq!(simulation.hours_stored("disk", "s0"), due(10));
    assert_eq!(simulation.hours_stored("cpu", "s0"), due(5));

    simulation.ledger.set_collector_state("a", Enabled::Yes).unwrap();
    simulation.run_until(11).await;

    assert_eq!(simulation.all_hours(), [due(11); 15]);
    simulation.check_totals(10);
}

#[tokio::test]
async fn a_mapping_routes_a_metric_and_an_unknown_collector_says_so() {
    let mut simulation = Simulation::new(5, Script::default());
    simulation.run_until(5).await;
    let service = "cpu".to_owned();
    let mapping = CollectorMapping { service, collector: "nowhere".to_owned() };
    simulation.ledger.set_collector_mapping(&mapping).unwrap();

    simulation.run_until(8).await;
    assert_eq!(simulation.hours_stored("cpu", "s0"), due(5));
    assert_eq!(simulation.hours_stored("ram", "s0"), due(8));
    let troubles = simulation.runner.status.borrow().troubles.clone();
    assert_eq!(troubles[0].reason, "there is no collector `nowhere`");

    let mapping = CollectorMapping { collector: "b".to_owned(), ..mapping };
    simulation.ledger.set_collector_mapping(&mapping).unwrap();
    simulation.run_until(9).await;

    assert_eq!(simulation.all_hours(), [due(9); 15]);
}

#[tokio::test]
async fn a_tick_during_a_cycle_is_joined_and_a_source_that_hangs_holds_up_nobody() {
    let script = Script { hanging: Some("b"), ..Script::default() };
    let mut simulation = Simulation::new(3, script);

    simulation.run_until(9).await;
    assert!(simulation.runner.tally.is_some(), "the cycle has not ended");
    assert_eq!(simulation.runner.status.borrow().cycles_ended, 0);
    assert_eq!(simulation.world.script().hanging_now, 1, "asked once, not at each tick");
    for scope in SCOPES {
        assert!(simulation.hours_stored("cpu", scope) >= due(8));
        assert_eq!(simulation.hours_stored("disk", scope), 0);
    }

    // The host gives up a call that hangs; here the process does.
    simulation.world.script().hanging = None;
    simulation.world.script().hanging_now = 0;
    let mut simulation = simulation.restart().await;
    simulation.run_until(10).await;

    assert_eq!(simulation.all_hours(), [due(10); 15]);
    simulation.check_totals(9);
}

#[tokio::test]
async fn metrics_that_found_no_room_at_the_start_are_set_by_the_cycle() {
    let clock = Arc::new(ManualClock::new(at(10)));
    let world = Arc::new(World { script: Mutex::default(), clock });
    let dir = tempfile::tempdir().unwrap();
    let mut simulation = Simulation::start_without_metrics(dir, world, collect_config());

    simulation.run_until(12).await;

    assert_eq!(simulation.all_hours(), [due(12); 15]);
}

#[tokio::test]
async fn a_fetcher_that_fails_delays_itself_alone() {
    let mut collect = collect_config();
    collect.fetchers.push("broken".to_owned());
    let clock = Arc::new(ManualClock::new(at(10)));
    let world = Arc::new(World { script: Mutex::default(), clock });
    let mut simulation = Simulation::start(tempfile::tempdir().unwrap(), world, collect);

    simulation.run_until(12).await;

    assert_eq!(simulation.all_hours(), [due(12); 15]);
    let troubles = simulation.runner.status.borrow().troubles.clone();
    assert_eq!(troubles[0].subject, "fetcher `broken`");
}
