use proptest::prelude::*;

use super::super::backoff::{BackOff, Jitter};
use super::super::hold::{Failed, Reaction};
use super::*;
use crate::config::RetryConfig;

const HOUR: i64 = 3600;

fn at(secs: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(secs, 0).unwrap()
}

fn plan(places: usize, collectors: &[&str], scope_count: usize) -> Plan {
    let rules = PlanRules {
        period_secs: 3600,
        wait_periods: 2,
        slice_scopes_max: 2,
        slices_in_flight_max: places,
    };
    let bounds = RetryConfig { delay_secs_min: 10, delay_secs_max: 100 };
    let holds = Holds::new(BackOff::new(bounds), Jitter::new(1));
    let mut plan = Plan::new(rules, holds, collectors.len());
    plan.begin_sync();
    plan.sync(world(collectors, scope_count, 0));
    plan
}

fn world(collectors: &[&str], scope_count: usize, next_begin: i64) -> World {
    World {
        scopes: (0..scope_count).map(|n| ScopeId::new(&format!("s{n}")).unwrap()).collect(),
        active: vec![true; scope_count],
        next_begin: vec![vec![next_begin; scope_count]; collectors.len()],
        collectors: collectors.iter().map(|name| Arc::from(*name)).collect(),
        disabled: BTreeSet::new(),
    }
}

fn take_all(plan: &mut Plan, now: DateTime<Utc>) -> Vec<Slice> {
    std::iter::from_fn(|| plan.next(now)).collect()
}

fn text(slices: &[Slice]) -> String {
    let form = |slice: &Slice| {
        let (metric, hour) = (slice.metric, slice.period.begin_secs() / HOUR);
        format!("m{metric}@{hour}{:?}", slice.scopes)
    };
    slices.iter().map(form).collect::<Vec<_>>().join(" ")
}

fn store(plan: &mut Plan, slice: &Slice) {
    plan.stored(slice.metric, &slice.scopes, slice.period.end_secs());
    plan.ended(slice);
}

fn fail(plan: &mut Plan, slice: &Slice, now: DateTime<Utc>) {
    let subject = Subject::Source { collector: slice.collector.to_string(), metric: slice.metric };
    let reason = "down".to_owned();
    let failed = Failed { at: now, began: slice.began, reaction: Reaction::Retry, reason };
    plan.holds.failed(subject, failed);
    plan.put_back(slice.metric, &slice.scopes, slice.period.begin_secs());
    plan.ended(slice);
}

#[test]
fn a_period_is_due_once_its_source_had_the_periods_to_wait() {
    let mut plan = plan(8, &["c"], 1);
    let due = at(3 * HOUR);

    plan.set_due(due - chrono::TimeDelta::seconds(1));
    assert_eq!(plan.next(due), None);
    plan.set_due(due);
    let slices = take_all(&mut plan, due);
    assert_eq!(text(&slices), "m0@0[0]");
    store(&mut plan, &slices[0]);

    assert_eq!(plan.next(due), None, "the next period is due an hour later");
}

#[test]
fn a_period_begins_after_the_one_before_is_stored() {
    let mut plan = plan(8, &["c", "c"], 3);
    plan.set_due(at(10 * HOUR));

    let slices = take_all(&mut plan, at(10 * HOUR));
    assert_eq!(text(&slices), "m0@0[0, 1] m1@0[0, 1] m0@0[2] m1@0[2]");
    store(&mut plan, &slices[2]);

    assert_eq!(text(&take_all(&mut plan, at(10 * HOUR))), "m0@1[2]");
}

#[test]
fn no_collector_takes_the_places_of_another() {
    let mut plan = plan(4, &["slow", "fast"], 20);
    plan.set_due(at(100 * HOUR));
    let now = at(100 * HOUR);

    let slices = take_all(&mut plan, now);
    let of = |collector: &str| slices.iter().filter(|s| &*s.collector == collector).count();
    assert_eq!((of("slow"), of("fast")), (2, 2));

    // The slow one answers nothing; the fast one goes on for ever.
    let mut running: Vec<Slice> = slices.into_iter().filter(|s| &*s.collector == "fast").collect();
    for _ in 0..100 {
        let done = running.remove(0);
        store(&mut plan, &done);
        let next = plan.next(now).expect("there is work and a place");
        assert_eq!(&*next.collector, "fast");
        running.push(next);
    }
    assert!(running[0].period.begin_secs() >= 8 * HOUR, "{:?}", running[0]);
}

#[test]
fn what_failed_goes_on_a_period_at_a_time() {
    let mut plan = plan(8, &["c"], 1);
    plan.set_due(at(9 * HOUR));
    let now = at(9 * HOUR);
    let slice = plan.next(now).unwrap();
    assert!(slice.last_due_begin > slice.period.begin_secs());
    fail(&mut plan, &slice, now);
    let end = plan.holds.next_end(now).unwrap();

    let again = plan.next(end).unwrap();

    assert_eq!(again.last_due_begin, again.period.begin_secs());
}

#[test]
fn a_failed_source_is_asked_by_one_slice_until_it_answers() {
    let mut plan = plan(8, &["c", "c"], 8);
    plan.set_due(at(5 * HOUR));
    let now = at(5 * HOUR);
    let slices = take_all(&mut plan, now);
    assert_eq!(slices.len(), 8);
    let later = now + chrono::TimeDelta::seconds(60);
    for slice in slices.iter().filter(|slice| slice.metric == 1) {
        fail(&mut plan, slice, later);
    }
    for slice in slices.iter().filter(|slice| slice.metric == 0) {
        store(&mut plan, slice);
    }
    assert!(take_all(&mut plan, later).iter().all(|slice| slice.metric == 0));

    let end = plan.holds.next_end(later).unwrap();
    let probes = take_all(&mut plan, end);
    assert_eq!(text(&probes), "m1@0[0, 1]");
    let subject = Subject::Source { collector: "c".to_owned(), metric: 1 };
    assert_eq!(plan.holds.succeeded(&subject).unwrap().attempts, 1);
    store(&mut plan, &probes[0]);

    assert!(take_all(&mut plan, end).iter().any(|slice| slice.metric == 1));
}

#[test]
fn a_disabled_collector_resumes_where_it_stood() {
    let mut plan = plan(8, &["a", "b"], 2);
    plan.set_due(at(5 * HOUR));
    let mut disabled = world(&["a", "b"], 2, 0);
    disabled.disabled.insert("a".to_owned());
    plan.begin_sync();
    plan.sync(disabled);
    assert_eq!(text(&take_all(&mut plan, at(5 * HOUR))), "m1@0[0, 1]");

    plan.begin_sync();
    plan.sync(world(&["a", "b"], 2, 0));

    assert_eq!(text(&take_all(&mut plan, at(9 * HOUR))), "m0@0[0, 1]");
}

#[test]
fn a_scope_that_was_put_aside_waits_for_itself_alone() {
    let mut plan = plan(8, &["c"], 2);
    plan.set_due(at(5 * HOUR));
    let now = at(5 * HOUR);
    let slice = plan.next(now).unwrap();
    let subject = Subject::Scope { metric: 0, scope: 1 };
    let reason = "bad".to_owned();
    let failed = Failed { at: now, began: now, reaction: Reaction::Retry, reason };
    let until = plan.holds.failed(subject, failed).until.unwrap();
    plan.put_aside(0, &[1], 0);
    plan.stored(0, &[0], HOUR);
    plan.ended(&slice);

    assert_eq!(text(&take_all(&mut plan, now)), "m0@1[0]");
    assert_eq!(text(&take_all(&mut plan, until)), "m0@0[1]");
}

proptest! {
    /// Whatever succeeds and fails in whatever order: every period of every scope and metric is
    /// stored once, in order.
    #[test]
    fn every_period_is_stored_once_and_in_order(
        choices in prop::collection::vec((0_usize..8, 0_u8..4), 1..400),
        places in 1_usize..9,
    ) {
        let mut plan = plan(places, &["a", "a", "b"], 5);
        let mut now = at(8 * HOUR);
        plan.set_due(now);
        let mut stored = vec![vec![0_i64; 5]; 3];
        let mut running: Vec<Slice> = Vec::new();
        let mut choices = choices.into_iter();
        loop {
            running.extend(take_all(&mut plan, now));
            if running.is_empty() {
                let Some(next) = plan.holds.next_end(now) else { break };
                now = next;
                continue;
            }
            let (index, kind) = choices.next().unwrap_or((0, 0));
            let slice = running.remove(index % running.len());
            now += chrono::TimeDelta::seconds(1);
            if kind == 0 {
                for scope in &slice.scopes {
                    let begin = &mut stored[slice.metric][*scope as usize];
                    prop_assert_eq!(*begin, slice.period.begin_secs());
                    *begin = slice.period.end_secs();
                }
                let source = Subject::Source {
                    collector: slice.collector.to_string(), metric: slice.metric,
                };
                plan.holds.succeeded(&source);
                store(&mut plan, &slice);
            } else {
                fail(&mut plan, &slice, now);
            }
        }
        // Due at 8 o'clock with two periods to wait: those that begin at 0 to 5.
        prop_assert_eq!(stored, vec![vec![6 * HOUR; 5]; 3]);
        prop_assert_eq!(plan.slices_in_flight(), 0);
    }
}
