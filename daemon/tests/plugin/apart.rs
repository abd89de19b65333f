//! Plugins in processes of their own: whatever they do, it is done to themselves.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rated::plugin::{
    Generation, InstanceConfig, Isolation, Module, PluginConfig, PluginHost, Rater,
};
use rated_plugin::{AsOf, Status};
use serde_json::{Map, Value, json};

use crate::fixture::{build, build_faults};
use crate::support::{World, at, get, price, rate_request, rows};

/// One that runs apart, of the component that is given.
pub(crate) fn apart(component: &str) -> InstanceConfig {
    InstanceConfig {
        plugin: Some(component.to_owned()),
        required: false,
        isolation: Isolation::Process,
        config: Map::new(),
    }
}

pub(crate) fn here(component: &str) -> InstanceConfig {
    InstanceConfig { isolation: Isolation::Thread, ..apart(component) }
}

pub(crate) fn plugins_dir(world: &World) -> PathBuf {
    let dir = world.dir.path().join("plugins");
    fs::create_dir_all(&dir).unwrap();
    dir
}

/// With the program of the daemon as the runner: this one is a test.
pub(crate) fn config(world: &World) -> PluginConfig {
    PluginConfig {
        runner: env!("CARGO_BIN_EXE_rated").into(),
        plugin_dirs: vec![plugins_dir(world)],
        ..world.config()
    }
}

/// The module that harms itself, with names of instances.
pub(crate) fn faults(world: &World, config: PluginConfig, names: &[&str]) -> PluginHost {
    build_faults(&plugins_dir(world).join("libfaults.so"), &[]);
    let rating = names.iter().map(|name| ((*name).to_owned(), apart("faults"))).collect();
    let host = PluginHost::start(PluginConfig { rating, ..config }, world.services()).unwrap();
    assert!(host.generation().refused().is_empty(), "{:?}", host.generation().refused());
    host
}

/// One of them, `one`, with settings.
pub(crate) fn faults_with(
    world: &World,
    config: PluginConfig,
    settings: &Value,
) -> (PluginHost, Module) {
    build_faults(&plugins_dir(world).join("libfaults.so"), &[]);
    let settings = settings.as_object().unwrap().clone();
    let rating = [("one".to_owned(), InstanceConfig { config: settings, ..apart("faults") })];
    let config = PluginConfig { rating: rating.into(), ..config };
    let host = PluginHost::start(config, world.services()).unwrap();
    assert!(host.generation().refused().is_empty(), "{:?}", host.generation().refused());
    let one = module(&host.generation(), "one").clone();
    (host, one)
}

pub(crate) fn module<'a>(plugins: &'a Generation, name: &str) -> &'a Module {
    plugins.module(name).unwrap()
}

/// Nothing of it is mapped into this process.
fn is_mapped(name: &str) -> bool {
    fs::read_to_string("/proc/self/maps").unwrap().contains(name)
}

pub(crate) fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state stands behind the name; a zombie waits for whoever inherits it.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("not in time: {what}");
}

/// What a call ends with after which its process is dead, and that the next one works.
fn dies(path: &str, expected: &str) {
    let world = World::new();
    let host = faults(&world, config(&world), &["bad", "other"]);
    let plugins = host.generation();

    world.wait(async {
        let failure = get(module(&plugins, "bad"), path).await.unwrap_err();

        assert_eq!(failure.status(), Status::Panic, "{path}: {failure}");
        assert!(failure.to_string().contains(expected), "{path}: {failure}");
        assert!(!failure.stopped, "{path}");
        assert_eq!(get(module(&plugins, "bad"), "/fine").await.unwrap().status, 200, "{path}");
        assert_eq!(get(module(&plugins, "other"), "/fine").await.unwrap().status, 200, "{path}");
    });
    let of = |name: &str| world.metric(&format!("{name}{{instance=\"rating/bad\"}}"));
    assert_eq!(of("rated_plugin_process_deaths_total"), "1", "{path}");
    assert_eq!(of("rated_plugin_process_restarts_total"), "1", "{path}");
    let other = "rated_plugin_process_deaths_total{instance=\"rating/other\"}";
    assert_eq!(world.metric(other), "0", "{path}");
}

#[test]
fn an_abort_costs_its_call() {
    dies("/abort", "its process was ended by the signal SIGABRT");
}

#[test]
fn a_segmentation_fault_costs_its_call() {
    dies("/segfault", "its process was ended by the signal SIGSEGV");
    dies("/divide", "its process was ended by the signal SIGFPE");
}

#[test]
fn an_exit_costs_its_call() {
    dies("/exit", "its process ended with the code 3");
}

/// The plugin is told that there is no more memory, and aborts.
#[test]
fn a_leak_ends_at_the_limit() {
    dies("/leak", "its process was ended by the signal SIGABRT");
    dies("/leak-shared", "its process was ended by the signal SIGABRT");
}

/// In C who leaks need not die of it: `malloc` says that there is no more.
#[test]
fn at_the_limit_malloc_gives_null() {
    let world = World::new();
    let limit = 256;
    let config = PluginConfig { process_memory_bytes: limit << 20, ..config(&world) };
    let host = faults(&world, config, &["bad"]);
    let plugins = host.generation();

    let answer = world.wait(get(module(&plugins, "bad"), "/leak-until-null")).unwrap();

    let mebibytes: u64 = String::from_utf8(answer.body).unwrap().parse().unwrap();
    assert!((limit / 2..limit).contains(&mebibytes), "{mebibytes}");
}

#[test]
fn one_that_closes_all_files_is_killed() {
    dies("/close", "its process closed its connection to the daemon");
}

#[test]
fn one_that_speaks_nonsense_is_killed() {
    dies("/garbage", "its process was killed: it said what makes no sense");
    dies("/huge-frame", "its process was killed: a frame of 4294967295 bytes");
}

/// Calls get 2 s, for starting a process may take as long, and 100 ms of grace.
fn hangs(path: &str) {
    let world = World::new();
    let moment = Duration::from_secs(2);
    let config = PluginConfig {
        call_deadline: moment,
        call_grace: Duration::from_millis(100),
        ..config(&world)
    };
    let host = faults(&world, config, &["bad"]);
    let plugins = host.generation();

    world.wait(async {
        let failure = get(module(&plugins, "bad"), path).await.unwrap_err();

        assert_eq!(failure.status(), Status::Timeout, "{path}: {failure}");
        let text = failure.to_string();
        assert!(text.contains("did not end within 2s and 100ms of grace"), "{path}: {text}");
        assert!(text.contains("its process was killed"), "{path}: {text}");
        assert!(!failure.stopped, "the kill cures it: {path}");
        assert_eq!(get(module(&plugins, "bad"), "/fine").await.unwrap().status, 200, "{path}");
    });
    assert_eq!(world.metric("rated_plugin_threads_lost_total"), "0", "{path}");
}

#[test]
fn an_infinite_loop_is_cured_by_a_kill() {
    hangs("/spin");
}

#[test]
fn one_that_stops_itself_or_ignores_signals_is_killed() {
    hangs("/stop");
    hangs("/ignore");
}

#[test]
fn what_it_started_dies_with_it() {
    let world = World::new();
    let host = faults(&world, config(&world), &["bad"]);
    let plugins = host.generation();
    let bad = module(&plugins, "bad");
    let child = world.wait(get(bad, "/fork")).unwrap().body;
    let child = String::from_utf8(child).unwrap();
    assert!(is_alive(&child));

    world.wait(get(bad, "/abort")).unwrap_err();

    wait_until("the child is dead", || !is_alive(&child));
    let child = world.wait(get(bad, "/fork")).unwrap().body;
    let child = String::from_utf8(child).unwrap();
    drop(plugins);
    world.wait(host.stop(Duration::from_secs(20)));
    wait_until("the child is dead", || !is_alive(&child));
}

/// As where the daemon is the first process of a container.
#[test]
fn what_a_process_leaves_to_the_daemon_is_no_zombie() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let world = World::new();
    let host = faults(&world, config(&world), &["bad"]);
    let plugins = host.generation();
    let bad = module(&plugins, "bad");
    let child = world.wait(get(bad, "/fork")).unwrap().body;
    let child = String::from_utf8(child).unwrap();
    assert!(is_alive(&child));

    world.wait(get(bad, "/abort")).unwrap_err();

    wait_until("nothing is left", || !Path::new("/proc").join(&child).exists());
}

/// The process is dead, but not what it spoke through.
#[test]
fn a_socket_that_was_given_away_keeps_nobody_waiting() {
    let world = World::new();
    let to = world.dir.path().join("to");
    // What is sent to it is open as long as it is.
    let _held = UnixListener::bind(&to).unwrap();
    let (_host, one) = faults_with(&world, config(&world), &json!({"to": to}));

    world.wait(async {
        let failure = get(&one, "/give-away").await.unwrap_err();

        assert_eq!(failure.status(), Status::Panic, "{failure}");
        assert!(failure.to_string().contains("SIGABRT"), "{failure}");
        assert!(!failure.stopped, "{failure}");
        assert_eq!(get(&one, "/fine").await.unwrap().status, 200);
    });
}

#[test]
fn what_it_writes_is_no_message() {
    let world = World::new();
    let host = faults(&world, config(&world), &["bad"]);
    let plugins = host.generation();

    world.wait(async {
        for _ in 0..3 {
            assert_eq!(get(module(&plugins, "bad"), "/write").await.unwrap().body, b"fine");
        }
    });
}

#[test]
fn three_deaths_in_ten_minutes_disable_an_instance() {
    let world = World::new();
    let host = faults(&world, config(&world), &["one", "other"]);
    let plugins = host.generation();
    let one = module(&plugins, "one");

    world.wait(async {
        for minute in [0, 5, 11, 16] {
            world.clock.set(at(minute * 60));
            let failure = get(one, "/abort").await.unwrap_err();
            assert!(!failure.stopped, "only two of them lie within ten minutes: {minute}");
            world.clock.set(at(minute * 60 + 30));
            assert_eq!(get(one, "/fine").await.unwrap().status, 200);
        }
        world.clock.set(at(20 * 60));
        assert!(get(one, "/abort").await.unwrap_err().stopped);

        let failure = get(one, "/fine").await.unwrap_err();

        assert_eq!(failure.status(), Status::Unavailable);
        let text = failure.to_string();
        assert!(text.contains("lost its process 3 times in 10 minutes"), "{text}");
        assert!(one.disabled().is_some());
        assert_eq!(get(module(&plugins, "other"), "/fine").await.unwrap().status, 200);
    });
    assert!(!host.reload().unwrap().unchanged);
    let again = host.generation();
    assert_eq!(world.wait(get(module(&again, "one"), "/fine")).unwrap().status, 200);
}

#[test]
fn a_second_death_delays_the_next_start() {
    let world = World::new();
    let host = faults(&world, config(&world), &["one"]);
    let plugins = host.generation();
    let one = module(&plugins, "one");

    world.wait(async {
        get(one, "/abort").await.unwrap_err();
        get(one, "/abort").await.unwrap_err();

        let failure = get(one, "/fine").await.unwrap_err();
        assert_eq!(failure.status(), Status::Unavailable);
        let text = failure.to_string();
        assert!(text.contains("its process died and is started again in 1s"), "{text}");

        world.clock.set(at(1));
        assert_eq!(get(one, "/fine").await.unwrap().status, 200);
    });
}

pub(crate) async fn prepared(module: &Module, revision: u64) -> Rater {
    module.prepare(AsOf { at: at(0), revision }).await.unwrap()
}

#[test]
fn rules_of_a_revision_outlive_their_process_and_rules_of_now_do_not() {
    let world = World::new();
    let host = faults(&world, config(&world), &["one"]);
    let plugins = host.generation();
    let one = module(&plugins, "one");

    world.wait(async {
        let (kept, lost) = (prepared(one, 0).await, prepared(one, u64::MAX).await);
        get(one, "/abort").await.unwrap_err();

        assert_eq!(kept.rate(rate_request(), rows(1)).await.unwrap().num_rows(), 1);
        let failure = lost.rate(rate_request(), rows(1)).await.unwrap_err();
        assert_eq!(failure.status(), Status::Unavailable, "{failure}");
    });
}

#[test]
fn unsound_columns_are_the_same_error_here_and_apart() {
    let world = World::new();
    build_faults(&plugins_dir(&world).join("libfaults.so"), &[]);
    let mut config = config(&world);
    config.rating.insert("apart".to_owned(), apart("faults"));
    config.rating.insert("here".to_owned(), here("faults"));
    let host = PluginHost::start(config, world.services()).unwrap();
    let plugins = host.generation();
    let (apart, here) = (module(&plugins, "apart"), module(&plugins, "here"));

    world.wait(async {
        for number in 0..=15 {
            let path = format!("/give-{number}");
            get(apart, &path).await.unwrap();
            get(here, &path).await.unwrap();

            match (price(apart, rows(1)).await, price(here, rows(1)).await) {
                (Ok(one), Ok(other)) => {
                    assert!([0, 15].contains(&number), "{number} is sound");
                    assert_eq!(one, other, "{number}");
                }
                (Err(one), Err(other)) => {
                    assert_eq!(one.error, other.error, "{number}");
                    assert_eq!(one.status(), Status::BadData, "{number}: {one}");
                }
                (one, other) => panic!("{number}: {one:?} apart, {other:?} here"),
            }
        }
    });
}

#[test]
fn a_buffer_that_points_to_nothing_costs_its_call() {
    let world = World::new();
    let host = faults(&world, config(&world), &["bad"]);
    let plugins = host.generation();
    let bad = module(&plugins, "bad");

    world.wait(async {
        get(bad, "/give-16").await.unwrap();

        let failure = price(bad, rows(1)).await.unwrap_err();

        assert_eq!(failure.status(), Status::Panic);
        assert!(failure.to_string().contains("SIGSEGV"), "{failure}");
        assert_eq!(price(bad, rows(1)).await.unwrap().num_rows(), 1);
    });
}

#[test]
fn a_library_whose_instances_all_run_apart_is_not_in_the_daemon() {
    let world = World::new();
    let dir = plugins_dir(&world);
    build(&dir.join("libelsewhere.so"), &["NAME=\"elsewhere\"", "ANSWER=\"1\""]);
    let mut config = config(&world);
    config.rating.insert("one".to_owned(), apart("elsewhere"));
    let host = PluginHost::start(config, world.services()).unwrap();
    let answer = |host: &PluginHost| {
        let plugins = host.generation();
        world.wait(get(module(&plugins, "one"), "/answer")).unwrap().body
    };
    assert_eq!(answer(&host), b"1");

    // Each change is another process, and nothing that stays.
    for number in 2..5 {
        let macros = ["NAME=\"elsewhere\"", &format!("ANSWER=\"{number}\"")];
        install(&dir.join("libelsewhere.so"), &macros);
        assert!(!host.reload().unwrap().unchanged);
        assert_eq!(answer(&host), number.to_string().as_bytes());
    }

    assert!(!is_mapped("elsewhere-"));
    assert_eq!(world.metric("rated_plugin_generations"), "0");
    // A module that no configuration names runs here.
    let mut both = self::config(&world);
    both.rating.clear();
    let host = PluginHost::start(both, world.services()).unwrap();
    assert!(host.generation().module("elsewhere").is_some() && is_mapped("elsewhere-"));
}

/// Whole, under another name first.
fn install(path: &Path, macros: &[&str]) {
    let unfinished = path.with_extension("unfinished");
    build(&unfinished, macros);
    fs::rename(unfinished, path).unwrap();
}

#[test]
fn libraries_that_cannot_be_used_are_refused_in_the_same_words() {
    let world = World::new();
    let dir = plugins_dir(&world);
    build(&dir.join("libnewer.so"), &["MINOR=3"]);
    build(&dir.join("libother.so"), &["MAGIC=1"]);
    build(&dir.join("libunready.so"), &["START_STATUS=11", "NAME=\"unready\""]);
    let mut config = config(&world);
    config.rating.insert("unready".to_owned(), apart("unready"));

    let host = PluginHost::start(config, world.services()).unwrap();

    let plugins = host.generation();
    let refused: Vec<String> = plugins.refused().iter().map(ToString::to_string).collect();
    let has = |text: &str| refused.iter().any(|refusal| refusal.contains(text));
    assert!(has("libnewer.so`: needs ABI 1.3, this daemon has 1.1; upgrade rated"), "{refused:?}");
    assert!(has("libother.so`: is not a rated plugin"), "{refused:?}");
    assert!(has("rating module `unready`: its start failed with the status 11"), "{refused:?}");
}

#[test]
fn what_is_part_of_the_program_cannot_run_apart_from_it() {
    let world = World::new();
    let mut config = config(&world);
    config.rating.insert("one".to_owned(), apart("hostile"));

    let declarations = vec![crate::hostile::declaration()];
    let host = PluginHost::with_embedded(declarations, config, world.services()).unwrap();

    let plugins = host.generation();
    let refused = plugins.refused()[0].to_string();
    let expected = "rating module `one`: is part of the program and cannot run apart from it";
    assert_eq!(refused, expected);
}

#[test]
fn a_stop_ends_the_processes() {
    let world = World::new();
    let host = faults(&world, config(&world), &["one"]);
    let plugins = host.generation();
    assert_eq!(world.wait(get(module(&plugins, "one"), "/fine")).unwrap().status, 200);
    let mine = children();
    assert!(!mine.is_empty());
    drop(plugins);

    world.wait(host.stop(Duration::from_secs(20)));

    wait_until("they have ended", || mine.iter().all(|child| !is_alive(child)));
    assert_eq!(world.metric("rated_plugin_process_deaths_total{instance=\"rating/one\"}"), "0");
}

/// Processes that this one has started and that are runners; of this test only, because tests run
/// in processes of their own.
pub(crate) fn children() -> Vec<String> {
    let mine = std::process::id().to_string();
    let all = fs::read_dir("/proc").unwrap();
    let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_child = |name: &String| {
        let stat = fs::read_to_string(format!("/proc/{name}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        parent == Some(mine.as_str())
    };
    names.filter(is_child).collect()
}

#[test]
fn calls_at_the_same_time_share_a_process() {
    let world = World::new();
    let host = faults(&world, config(&world), &["one"]);
    let plugins = host.generation();
    let one = module(&plugins, "one");

    world.wait(async {
        let calls = (0..50).map(|_| get(one, "/fine"));
        for outcome in futures_util::future::join_all(calls).await {
            assert_eq!(outcome.unwrap().body, b"fine");
        }
    });
}
