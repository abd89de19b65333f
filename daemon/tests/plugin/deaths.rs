//! What the death of a process, or a plugin that cannot be made, leaves of the calls that were not
//! to blame.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use rated::ledger::Ledger as _;
use rated::plugin::{InstanceConfig, Isolation, Module, PluginConfig, PluginHost};
use rated_plugin::Status;
use serde_json::json;

use crate::apart::{
    apart, children, config, here, is_alive, module, plugins_dir, prepared, wait_until,
};
use crate::fixture::{build, build_faults};
use crate::support::{World, at, get, price, rate_request, rows};

/// An instance `one` that does it while the file is there.
struct Fault {
    host: PluginHost,
    file: PathBuf,
}

impl Fault {
    fn start(world: &World, config: PluginConfig, isolation: Isolation, does: &str) -> Fault {
        Fault::built_with(world, config, (isolation, does), &[])
    }

    fn built_with(
        world: &World,
        config: PluginConfig,
        (isolation, does): (Isolation, &str),
        macros: &[&str],
    ) -> Fault {
        build_faults(&plugins_dir(world).join("libfaults.so"), macros);
        let file = world.dir.path().join("armed");
        let settings = json!({"does": does, "while": file}).as_object().unwrap().clone();
        let instance = InstanceConfig { isolation, config: settings, ..apart("faults") };
        let mut config = config;
        config.rating.insert("one".to_owned(), instance);
        let host = PluginHost::start(config, world.services()).unwrap();
        assert!(host.generation().refused().is_empty(), "{:?}", host.generation().refused());
        Fault { host, file }
    }

    fn arm(&self) {
        fs::write(&self.file, "").unwrap();
    }

    fn disarm(&self) {
        fs::remove_file(&self.file).unwrap();
    }

    fn module(&self) -> Module {
        self.host.generation().module("one").unwrap().clone()
    }
}

/// Calls that reach their deadline are over soon.
fn hasty(world: &World) -> PluginConfig {
    let (call_deadline, call_grace) = (Duration::from_secs(2), Duration::from_millis(200));
    PluginConfig { call_deadline, call_grace, ..config(world) }
}

fn deaths(world: &World) -> String {
    world.metric("rated_plugin_process_deaths_total{instance=\"rating/one\"}")
}

async fn prepared_count(module: &Module) -> String {
    String::from_utf8(get(module, "/prepared").await.unwrap().body).unwrap()
}

#[test]
fn lost_rules_are_prepared_once_for_everybody_of_a_serial_module_too() {
    for macros in [&["COMPONENT_FLAGS=RATED_COMPONENT_SERIAL"][..], &[]] {
        let world = World::new();
        let how = (Isolation::Process, "");
        let fault = Fault::built_with(&world, config(&world), how, macros);
        let one = fault.module();

        world.wait(async {
            let rater = prepared(&one, 0).await;
            get(&one, "/abort").await.unwrap_err();

            let calls = (0..20).map(|_| rater.rate(rate_request(), rows(1)));
            for outcome in join_all(calls).await {
                assert_eq!(outcome.unwrap().num_rows(), 1, "{macros:?}");
            }

            assert_eq!(prepared_count(&one).await, "1", "{macros:?}");
        });
    }
}

#[test]
fn who_was_under_way_with_the_one_that_killed_the_process_is_rated_all_the_same() {
    let world = World::new();
    let config = PluginConfig { threads: 8, ..config(&world) };
    let fault = Fault::start(&world, config, Isolation::Process, "die of 13 rows");
    let one = fault.module();

    world.wait(async {
        // More often than a module may die: with its repetition each counts once.
        for minute in [0, 6, 12, 18] {
            world.clock.set(at(minute * 60));
            fault.arm();
            let rater = prepared(&one, 0).await;
            let rate = |count| rater.rate(rate_request(), rows(count));
            let (harm, others) = join(rate(13), join_all((0..3).map(|_| rate(1)))).await;

            let harm = harm.unwrap_err();
            assert_eq!(harm.status(), Status::Panic, "{minute}: {harm}");
            assert!(!harm.stopped, "{minute}: {harm}");
            for outcome in others {
                assert_eq!(outcome.unwrap().num_rows(), 1, "{minute}");
            }
        }
    });
    assert_eq!(deaths(&world), "8", "each time once together, once alone");
}

#[test]
fn a_call_that_may_not_be_made_twice_is_told_that_it_may_not_be_to_blame() {
    let world = World::new();
    let host = crate::apart::faults(&world, hasty(&world), &["one"]);
    let one = module(&host.generation(), "one").clone();

    world.wait(async {
        let (spin, abort) = join(get(&one, "/spin"), get(&one, "/abort-together")).await;
        for failure in [spin.unwrap_err(), abort.unwrap_err()] {
            assert_eq!(failure.status(), Status::Unavailable, "{failure}");
            assert!(failure.error.retryable && !failure.stopped, "{failure}");
            assert!(failure.to_string().contains("2 calls were under way in it"), "{failure}");
        }
    });
}

#[test]
fn an_instance_that_is_not_made_in_time_costs_no_thread_and_nobody_elses_calls() {
    let world = World::new();
    let mut config = hasty(&world);
    config.rating.insert("other".to_owned(), apart("faults"));
    let fault = Fault::start(&world, config, Isolation::Process, "hang in create");
    let (one, other) = (fault.module(), fault.host.generation().module("other").unwrap().clone());

    world.wait(async {
        get(&one, "/abort").await.unwrap_err();
        fault.arm();
        let hanging = join_all((0..3).map(|_| get(&one, "/fine")));
        // Many, so that some of them are made while it hangs.
        let beside = Box::pin(async {
            for _ in 0..100 {
                assert_eq!(get(&other, "/fine").await.unwrap().status, 200);
            }
        });
        let Either::Left(((), hanging)) = select(beside, hanging).await else {
            panic!("the other one has waited for it")
        };
        for failure in hanging.await {
            let failure = failure.unwrap_err();
            assert!(!failure.stopped && failure.error.retryable, "{failure}");
        }

        fault.disarm();
        world.clock.set(at(10));
        assert_eq!(get(&one, "/fine").await.unwrap().status, 200);
    });
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "0");
}

#[test]
fn in_a_thread_who_waits_for_an_instance_is_told_when_it_is_given_up() {
    let world = World::new();
    let fault = Fault::start(&world, hasty(&world), Isolation::Thread, "hang in create");
    let one = fault.module();

    world.wait(async {
        get(&one, "/panic").await.unwrap_err();
        fault.arm();
        let failures = join_all((0..3).map(|_| get(&one, "/fine"))).await;

        assert!(failures.into_iter().any(|failure| failure.unwrap_err().stopped));
        assert!(get(&one, "/fine").await.unwrap_err().stopped);
    });
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "1", "the one that hangs");
}

#[test]
fn running_out_of_time_in_create_is_no_death() {
    let world = World::new();
    let fault = Fault::start(&world, config(&world), Isolation::Process, "time out in create");
    let one = fault.module();

    world.wait(async {
        get(&one, "/abort").await.unwrap_err();
        fault.arm();
        for _ in 0..5 {
            let failure = get(&one, "/fine").await.unwrap_err();
            assert_eq!(failure.status(), Status::Timeout, "{failure}");
            assert!(!failure.stopped, "{failure}");
        }

        fault.disarm();
        assert_eq!(get(&one, "/fine").await.unwrap().status, 200);
    });
    assert_eq!(deaths(&world), "1");
}

/// Each in its own way, and in the next process it works.
#[test]
fn deaths_in_create_prepare_rate_release_and_while_idle_cost_their_calls() {
    for does in ["die in create", "die in prepare", "die in rate", "die in release", ""] {
        let world = World::new();
        let fault = Fault::start(&world, config(&world), Isolation::Process, does);
        let one = fault.module();
        let before = children();
        let expected = if does == "die in create" { "2" } else { "1" };

        world.wait(async {
            if does == "die in create" {
                get(&one, "/abort").await.unwrap_err();
            }
            fault.arm();
            match does {
                "die in create" => {
                    let failure = get(&one, "/fine").await.unwrap_err();
                    assert_eq!(failure.status(), Status::Panic, "{failure}");
                }
                // The release of these rules kills.
                "die in release" => drop(prepared(&one, 0).await),
                "" => {
                    let process = before[0].parse().unwrap();
                    let process = nix::unistd::Pid::from_raw(process);
                    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
                }
                _ => {
                    let failure = price(&one, rows(1)).await.unwrap_err();
                    assert_eq!(failure.status(), Status::Panic, "{does}: {failure}");
                }
            }
            wait_until(does, || deaths(&world) == expected);
            fault.disarm();
            world.clock.set(at(10));
            price(&one, rows(1)).await.unwrap();
            assert_eq!(get(&one, "/fine").await.unwrap().status, 200, "{does}");
        });
        assert_eq!(deaths(&world), expected, "{does}");
    }
}

#[test]
fn a_process_that_panicked_ends_with_its_calls_and_a_disabled_one_at_once() {
    let world = World::new();
    let fault = Fault::start(&world, config(&world), Isolation::Process, "");
    let one = fault.module();
    let first = children();

    let _kept = world.wait(async {
        let rater = prepared(&one, 0).await;
        get(&one, "/panic").await.unwrap_err();
        wait_until("it has ended", || !first.iter().any(|process| is_alive(process)));
        // The rules live on in the next one.
        rater.rate(rate_request(), rows(1)).await.unwrap();
        get(&one, "/panic").await.unwrap_err();
        world.clock.set(at(2));
        rater.rate(rate_request(), rows(1)).await.unwrap();
        assert!(get(&one, "/panic").await.unwrap_err().stopped);
        rater
    });

    wait_until("nobody is left", || children().is_empty());
    assert_eq!(deaths(&world), "0");
}

#[test]
fn what_an_instance_stores_while_it_ends_is_stored() {
    for isolation in [Isolation::Thread, Isolation::Process] {
        let world = World::new();
        let fault = Fault::start(&world, config(&world), isolation, "store at the end");
        fault.arm();

        world.wait(fault.host.stop(Duration::from_secs(20)));

        let kept = world.ledger.kv_get("rating/one", u64::MAX, "ended").unwrap();
        assert_eq!(kept.as_deref(), Some(&b"1"[..]), "{isolation:?}");
    }
}

#[test]
fn a_process_has_the_grace_of_a_call_to_end() {
    let world = World::new();
    let config = PluginConfig { call_grace: Duration::from_mins(2), ..config(&world) };
    let does = "store what is left at the end";
    let fault = Fault::start(&world, config, Isolation::Process, does);
    fault.arm();

    world.wait(fault.host.stop(Duration::from_secs(20)));

    let left = world.ledger.kv_get("rating/one", u64::MAX, "left").unwrap().unwrap();
    let left: u64 = String::from_utf8(left).unwrap().parse().unwrap();
    assert!((60..=121).contains(&left), "{left}");
}

/// One library that runs here and one that runs apart; what is refused.
fn refused_with(world: &World, runner: PathBuf) -> Vec<String> {
    let dir = plugins_dir(world);
    build(&dir.join("libfixture.so"), &[]);
    build(&dir.join("libelsewhere.so"), &["NAME=\"elsewhere\""]);
    let mut config = PluginConfig { runner, ..config(world) };
    config.rating.insert("fixture".to_owned(), here("fixture"));
    config.rating.insert("elsewhere".to_owned(), apart("elsewhere"));

    let host = PluginHost::start(config, world.services()).unwrap();

    let plugins = host.generation();
    assert!(plugins.module("fixture").is_some(), "{:?}", plugins.refused());
    assert!(plugins.module("elsewhere").is_none());
    plugins.refused().iter().map(ToString::to_string).collect()
}

#[test]
fn without_processes_what_needs_none_is_loaded_all_the_same() {
    let refused = refused_with(&World::new(), "/nowhere/rated".into());

    let why = "libelsewhere.so`: cannot be looked at in a process of its own: cannot start";
    assert!(refused.iter().any(|refusal| refusal.contains(why)), "{refused:?}");
}

/// The program as the runner, started with less than this process has.
fn limited(world: &World, limit: &str) -> PathBuf {
    let path = world.dir.path().join("runner");
    let program = env!("CARGO_BIN_EXE_rated");
    let script = format!("#!/bin/sh\nulimit {limit}\nexec '{program}' \"$@\"\n");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    path
}

#[test]
fn a_process_that_cannot_limit_itself_says_why_and_is_nothing_to_who_needs_none() {
    let world = World::new();
    // Standard input and output, and one more.
    let runner = limited(&world, "-n 4");

    let refused = refused_with(&world, runner);

    let why = "libelsewhere.so`: its process cannot limit itself: Too many open files";
    assert!(refused.iter().any(|refusal| refusal.contains(why)), "{refused:?}");
}

#[test]
fn a_process_takes_no_more_than_the_daemon_itself_may() {
    let world = World::new();
    // In KiB; with `process_memory_mib` it would be 5 GiB.
    let runner = limited(&world, "-v 3000000");
    let config = PluginConfig { runner, ..config(&world) };
    let host = crate::apart::faults(&world, config, &["one"]);
    let one = module(&host.generation(), "one").clone();

    assert_eq!(world.wait(get(&one, "/fine")).unwrap().status, 200);

    let limits = fs::read_to_string(format!("/proc/{}/limits", children()[0])).unwrap();
    let space = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
    let bounds: Vec<&str> = space.split_whitespace().skip(3).take(2).collect();
    assert_eq!(bounds, ["3072000000", "3072000000"]);
}
