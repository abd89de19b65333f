//! A plugin that fails, hangs or panics harms its own call.

use std::time::Duration;

use rated_plugin::{AsOf, Status};

use crate::support::{World, at, collect_request, get, price, rate_request, rows};

#[test]
fn a_panic_in_any_call_is_an_error_of_that_call() {
    let world = World::new();
    let does = ["collect", "next", "scopes", "prepare", "rate"];
    let instances: Vec<(&str, String)> =
        does.iter().map(|call| (*call, format!("panic in {call}"))).collect();
    let instances: Vec<(&str, &str)> =
        instances.iter().map(|(name, does)| (*name, does.as_str())).collect();
    let host = world.hostile(world.config(), &instances).unwrap();
    let plugins = host.generation();

    let failures = world.wait(async {
        let of = |name: &str| plugins.collector(name).unwrap().clone();
        [
            of("collect").collect(collect_request(&["a"])).await.unwrap_err(),
            of("next").collect(collect_request(&["a"])).await.unwrap_err(),
            plugins.fetcher("scopes").unwrap().scopes().await.unwrap_err(),
            price(plugins.module("prepare").unwrap(), rows(1)).await.unwrap_err(),
            price(plugins.module("rate").unwrap(), rows(1)).await.unwrap_err(),
            get(plugins.module("rate").unwrap(), "/panic").await.unwrap_err(),
        ]
    });

    for (failure, call) in failures.iter().zip([&does[..], &["handle"]].concat()) {
        assert_eq!(failure.status(), Status::Panic, "{call}");
        assert!(!failure.stopped, "{call}");
        let text = failure.to_string();
        assert!(text.contains(&format!("{call} went wrong")), "{text}");
        assert!(text.contains("hostile.rs:"), "{text}");
    }
    assert_eq!(world.metric("rated_plugin_panics_total{instance=\"rating/rate\"}"), "2");
}

#[test]
fn a_panicked_instance_is_made_anew() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();
    let module = plugins.module("one").unwrap();

    world.wait(async {
        get(module, "/panic").await.unwrap_err();
        assert_eq!(get(module, "/fine").await.unwrap().status, 200);
    });
}

#[test]
fn a_rater_outlives_the_panic_of_its_instance() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    let plugins = host.generation();
    let module = plugins.module("one").unwrap();

    world.wait(async {
        let rater = module.prepare(AsOf { at: at(0), revision: 0 }).await.unwrap();
        get(module, "/panic").await.unwrap_err();

        let prices = rater.rate(rate_request(), rows(3)).await.unwrap();

        assert_eq!(prices.num_rows(), 3);
    });
}

#[test]
fn three_panics_in_ten_minutes_disable_an_instance() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", ""), ("other", "")]).unwrap();
    let plugins = host.generation();
    let module = plugins.module("one").unwrap();

    world.wait(async {
        for minute in [0, 5, 11, 16] {
            world.clock.set(at(minute * 60));
            let failure = get(module, "/panic").await.unwrap_err();
            assert!(!failure.stopped, "only two of them lie within ten minutes: {minute}");
        }
        world.clock.set(at(20 * 60));
        assert!(get(module, "/panic").await.unwrap_err().stopped);

        let failure = get(module, "/fine").await.unwrap_err();

        assert_eq!(failure.status(), Status::Unavailable);
        assert!(failure.stopped);
        let text = failure.to_string();
        assert!(text.starts_with("rating/one: is disabled until plugins are reloaded"), "{text}");
        assert!(text.contains("panicked 3 times in 10 minutes"), "{text}");
        assert!(module.disabled().is_some());
        assert_eq!(get(plugins.module("other").unwrap(), "/fine").await.unwrap().status, 200);
    });
}

#[test]
fn a_reload_brings_a_disabled_instance_back() {
    let world = World::new();
    let host = world.hostile(world.config(), &[("one", "")]).unwrap();
    world.wait(async {
        let plugins = host.generation();
        for _ in 0..3 {
            get(plugins.module("one").unwrap(), "/panic").await.unwrap_err();
        }
    });

    let report = host.reload().unwrap();

    assert!(!report.unchanged);
    let plugins = host.generation();
    let answer = world.wait(get(plugins.module("one").unwrap(), "/fine"));
    assert_eq!(answer.unwrap().status, 200);
    assert!(host.reload().unwrap().unchanged);
}

#[test]
fn others_work_while_one_hangs_and_its_thread_is_replaced() {
    let world = World::new();
    let mut config = world.hasty();
    config.threads = 2;
    let host = world.hostile(config, &[("bad", ""), ("good", "")]).unwrap();
    let plugins = host.generation();

    world.wait(async {
        // One instance never gets all threads: one call hangs, three wait for their turn.
        let bad = plugins.module("bad").unwrap().clone();
        let hanging: Vec<_> = (0..4)
            .map(|_| {
                let bad = bad.clone();
                tokio::spawn(async move { get(&bad, "/hang").await })
            })
            .collect();
        let good = plugins.module("good").unwrap();
        for _ in 0..20 {
            assert_eq!(get(good, "/fine").await.unwrap().status, 200);
        }

        for call in hanging {
            let failure = call.await.unwrap().unwrap_err();
            assert!(failure.stopped);
            assert!(failure.error.retryable);
        }

        assert_eq!(get(good, "/fine").await.unwrap().status, 200);
        assert!(get(&bad, "/fine").await.unwrap_err().stopped);
    });
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "1");
}

#[test]
fn a_call_that_honours_cancellation_runs_out_of_time_and_nothing_is_lost() {
    let world = World::new();
    let host = world.hostile(world.hasty(), &[("slow", "hang politely")]).unwrap();
    let plugins = host.generation();

    world.wait(async {
        let module = plugins.module("slow").unwrap();
        let failure = get(module, "/hang-politely").await.unwrap_err();
        assert_eq!(failure.status(), Status::Timeout);
        assert!(!failure.stopped);
        assert!(failure.to_string().contains("did not end within 100ms"), "{failure}");
        let collector = plugins.collector("slow").unwrap();
        let failure = collector.collect(collect_request(&["a"])).await.unwrap_err();
        assert_eq!(failure.status(), Status::Timeout);

        assert_eq!(get(module, "/fine").await.unwrap().status, 200);
    });
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "0");
}

#[test]
fn a_caller_that_goes_away_cancels_its_call() {
    let world = World::new();
    let mut config = world.config();
    config.threads = 1;
    let host = world.hostile(config, &[("one", "")]).unwrap();
    let plugins = host.generation();
    let module = plugins.module("one").unwrap();

    world.wait(async {
        let moment = Duration::from_millis(20);
        let call = get(module, "/hang-politely");
        tokio::time::timeout(moment, call).await.unwrap_err();

        // The only thread is free again, long before the deadline of a minute.
        assert_eq!(get(module, "/fine").await.unwrap().status, 200);
    });
}

#[test]
fn an_instance_that_cannot_be_made_is_refused_and_the_others_run() {
    let world = World::new();
    let instances = [
        ("bad", "refuse"),
        ("panics", "panic in create"),
        ("hangs", "hang in create"),
        ("good", ""),
    ];

    let host = world.hostile(world.hasty(), &instances).unwrap();

    let plugins = host.generation();
    assert!(plugins.module("bad").is_none() && plugins.module("hangs").is_none());
    let refused: Vec<String> = plugins.refused().iter().map(ToString::to_string).collect();
    let has = |text: &str| refused.iter().any(|refusal| refusal.contains(text));
    assert!(has("rating module `bad`: `does`: refuses to be made"), "{refused:?}");
    assert!(has("collector `panics`: panicked"), "{refused:?}");
    assert!(has("fetcher `hangs`: Create did not end within 100ms"), "{refused:?}");
    let answer = world.wait(get(plugins.module("good").unwrap(), "/fine"));
    assert_eq!(answer.unwrap().status, 200);
}

#[test]
fn a_required_instance_that_is_refused_stops_the_start() {
    let world = World::new();
    let mut config = world.config();
    let required = rated::plugin::InstanceConfig {
        plugin: Some("absent".to_owned()),
        required: true,
        isolation: rated::plugin::Isolation::Thread,
        config: serde_json::Map::new(),
    };
    config.collectors.insert("meter".to_owned(), required);

    let declarations = vec![crate::hostile::declaration()];
    let started = rated::plugin::PluginHost::with_embedded(declarations, config, world.services());

    let text = started.unwrap_err().to_string();
    assert_eq!(text, "collector `meter`: no plugin has a collector `absent` (found: `hostile`)");
}

#[test]
fn a_world_that_does_not_answer_does_not_stop_the_start() {
    let world = World::new();

    let host =
        world.hostile(world.config(), &[("away", "be away"), ("bad", "be misconfigured")]).unwrap();

    let plugins = host.generation();
    assert!(plugins.collector("away").is_some());
    assert!(plugins.collector("bad").is_none());
    // A panic costs the check, not the instance.
    let host = world.hostile(world.config(), &[("panics", "panic in check")]).unwrap();
    assert!(host.generation().collector("panics").is_some());
}

#[test]
fn a_stop_does_not_wait_for_what_was_written_off() {
    let world = World::new();
    let host = world.hostile(world.hasty(), &[("bad", ""), ("good", "")]).unwrap();
    let plugins = host.generation();
    world.wait(async {
        let bad = plugins.module("bad").unwrap();
        assert!(get(bad, "/hang").await.unwrap_err().stopped);
        drop(plugins);

        let stopped = tokio::time::timeout(Duration::from_secs(20), host.stop(Duration::MAX));

        stopped.await.unwrap();
    });
    assert!(host.generation().modules().next().is_none());
    assert!(host.reload().is_err());
}
