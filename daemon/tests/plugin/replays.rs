//! Who rates again what was rated, or asks why, cannot harm the instance that rates.

use std::fs;
use std::time::Duration;

use chrono::TimeDelta;
use rated::ledger::Ledger as _;
use rated::plugin::{InstanceConfig, Isolation, Module, PluginConfig, PluginHost};
use rated_plugin::{AsOf, Explanation, Status};
use serde_json::json;

use crate::apart::{apart, children, config, module, plugins_dir, prepared, wait_until};
use crate::fixture::{build, build_faults};
use crate::support::{World, at, get, rate_request, rows};

/// The module that does what is said, in a thread or in a process.
fn one(world: &World, isolation: Isolation, does: &str) -> PluginHost {
    let moment = Duration::from_millis(100);
    // Starting a process takes its time.
    let call_deadline = if isolation == Isolation::Process { 20 * moment } else { moment };
    let config = PluginConfig { call_deadline, call_grace: moment, ..config(world) };
    start(world, config, isolation, does)
}

fn start(world: &World, config: PluginConfig, isolation: Isolation, does: &str) -> PluginHost {
    build_faults(&plugins_dir(world).join("libfaults.so"), &[]);
    let settings = json!({"does": does}).as_object().unwrap().clone();
    let instance = InstanceConfig { isolation, config: settings, ..apart("faults") };
    let rating = [("one".to_owned(), instance)].into();
    let host = PluginHost::start(PluginConfig { rating, ..config }, world.services()).unwrap();
    assert!(host.generation().refused().is_empty(), "{:?}", host.generation().refused());
    host
}

type Told = Result<Option<Explanation>, rated::plugin::CallError>;

async fn explain(module: &Module) -> Told {
    let rater = module.prepare(AsOf { at: at(0), revision: 0 }).await?;
    rater.explain(rate_request(), rows(1), 0..1).await
}

fn of(world: &World, series: &str, instance: &str) -> String {
    world.metric(&format!("{series}{{instance=\"{instance}\"}}"))
}

/// In a process: reasons end with that status, again and again; whoever rates goes on.
fn harms_itself_only(does: &str, status: Status) {
    let world = World::new();
    let host = one(&world, Isolation::Process, does);
    let plugins = host.generation();
    let live = module(&plugins, "one");

    world.wait(async {
        let rater = prepared(live, 0).await;
        for second in [0, 10, 20] {
            world.clock.set(at(second));
            let failure = explain(&live.for_replay()).await.unwrap_err();
            assert_eq!(failure.status(), status, "{does}: {failure}");
            assert!(!failure.stopped, "{does}");
            rater.rate(rate_request(), rows(1)).await.unwrap();
        }
        world.clock.set(at(30));
        let failure = explain(&live.for_replay()).await.unwrap_err();
        let text = failure.to_string();
        assert!(text.contains("its process died and is started again in 570s"), "{text}");

        world.clock.set(at(600) + TimeDelta::seconds(30));
        let failure = explain(&live.for_replay()).await.unwrap_err();
        assert_eq!(failure.status(), status, "{does}: it is tried again");
        rater.rate(rate_request(), rows(1)).await.unwrap();
        assert_eq!(get(live, "/fine").await.unwrap().status, 200);
    });
    assert_eq!(live.disabled(), None);
    assert_eq!(of(&world, "rated_plugin_process_deaths_total", "rating/one"), "0", "{does}");
    assert_eq!(of(&world, "rated_plugin_process_deaths_total", "replay/one"), "4", "{does}");
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "0", "{does}");
}

#[test]
fn a_crash_of_who_explains_is_nothing_to_who_rates() {
    harms_itself_only("die in explain", Status::Panic);
}

#[test]
fn an_overrun_of_who_explains_is_nothing_to_who_rates() {
    harms_itself_only("hang in explain", Status::Timeout);
}

#[test]
fn in_a_thread_a_hang_of_who_explains_is_nothing_to_who_rates() {
    let world = World::new();
    let host = one(&world, Isolation::Thread, "hang in explain");
    let plugins = host.generation();
    let live = module(&plugins, "one");

    world.wait(async {
        let rater = prepared(live, 0).await;
        assert!(explain(&live.for_replay()).await.unwrap_err().stopped);
        assert!(explain(&live.for_replay()).await.unwrap_err().stopped);

        rater.rate(rate_request(), rows(1)).await.unwrap();
        assert_eq!(get(live, "/fine").await.unwrap().status, 200);
    });
    assert_eq!(live.disabled(), None);
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "1", "the second one never began");
    assert!(!host.reload().unwrap().unchanged, "a reload brings reasons back");
}

#[test]
fn who_rates_again_changes_no_keys() {
    for isolation in [Isolation::Thread, Isolation::Process] {
        let world = World::new();
        let host = one(&world, isolation, "store in explain");
        let plugins = host.generation();
        let live = module(&plugins, "one");

        // The one that rates may. What it writes into its answer is of no matter.
        let _ = world.wait(explain(live));
        assert_eq!(world.ledger.kv_revision("rating/one").unwrap(), 1, "{isolation:?}");

        let failure = world.wait(explain(&live.for_replay())).unwrap_err();

        assert_eq!(failure.status(), Status::InvalidRequest, "{isolation:?}: {failure}");
        assert!(failure.to_string().contains("changes no keys"), "{isolation:?}: {failure}");
        assert_eq!(world.ledger.kv_revision("rating/one").unwrap(), 1, "{isolation:?}");
        assert_eq!(world.ledger.kv_revision("replay/one").unwrap(), 0, "{isolation:?}");
    }
}

#[test]
fn what_rates_again_is_made_when_it_is_needed_and_ended_when_it_is_not() {
    let world = World::new();
    let config = PluginConfig { replay_idle: Duration::from_millis(20), ..config(&world) };
    let host = start(&world, config, Isolation::Process, "");
    let plugins = host.generation();
    let replay = module(&plugins, "one").for_replay();
    assert_eq!(children().len(), 1, "the one that rates");

    for _ in 0..2 {
        let rater = world.wait(prepared(&replay, 0));
        assert_eq!(children().len(), 2);
        assert_eq!(world.wait(rater.rate(rate_request(), rows(1))).unwrap().num_rows(), 1);
        drop(rater);
        wait_until("it has ended", || children().len() == 1);
    }
    assert_eq!(of(&world, "rated_plugin_process_deaths_total", "replay/one"), "0");
}

#[test]
fn a_library_that_rated_and_cannot_be_had_is_tried_again_and_has_series_of_its_own() {
    let world = World::new();
    let dir = plugins_dir(&world);
    let path = dir.join("libfixture.so");
    build(&path, &["ANSWER=\"1\""]);
    // Without a program there are no processes; as when no memory is left for one.
    let runner = world.dir.path().join("runner");
    let idle = Duration::from_millis(20);
    let config = PluginConfig { runner: runner.clone(), replay_idle: idle, ..config(&world) };
    let host = PluginHost::start(config, world.services()).unwrap();
    let old = host.generation().libraries()[0].sha256.clone();
    fs::remove_file(&path).unwrap();
    build(&path, &["ANSWER=\"2\""]);
    host.reload().unwrap();
    assert!(host.kept_module("fixture", &old).is_none());

    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rated"), runner).unwrap();
    assert!(host.kept_module("fixture", &old).is_none(), "not again within a minute");
    world.clock.set(at(61));
    let kept = host.kept_module("fixture", &old).expect("now it can be had");

    let answer = world.wait(get(&kept, "/answer")).unwrap();
    assert_eq!(answer.body, b"1");
    wait_until("its process has ended", || children().is_empty());
    let calls = "rated_plugin_calls_total";
    let handled = |instance: &str| {
        world.metric(&format!("{calls}{{instance=\"{instance}\",call=\"handle\",status=\"ok\"}}"))
    };
    assert_eq!((handled("replay/fixture"), handled("rating/fixture")), ("1".into(), "0".into()));
}
