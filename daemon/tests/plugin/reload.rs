//! New code under way.

use std::fs;
use std::path::{Path, PathBuf};

use rated::plugin::{
    GENERATIONS_MAX, InstanceConfig, Isolation, PluginConfig, PluginHost, PluginHostError,
};
use rated_plugin::AsOf;

use crate::fixture::build;
use crate::support::{World, at, get, price, rate_request, rows};

/// Puts a library there as an installer does: whole, under another name first.
fn install(path: &Path, macros: &[&str]) {
    let unfinished = path.with_extension("unfinished");
    build(&unfinished, macros);
    fs::rename(unfinished, path).unwrap();
}

fn start(world: &World) -> (PluginHost, PathBuf) {
    start_with(world, &["ANSWER=\"1\""])
}

fn start_with(world: &World, macros: &[&str]) -> (PluginHost, PathBuf) {
    let dir = world.dir.path().join("plugins");
    fs::create_dir_all(&dir).unwrap();
    let path = dir.join("libfixture.so");
    install(&path, macros);
    let config = PluginConfig { plugin_dirs: vec![dir], ..world.config() };
    (PluginHost::start(config, world.services()).unwrap(), path)
}

fn answer(world: &World, host: &PluginHost) -> String {
    let plugins = host.generation();
    let answer = world.wait(get(plugins.module("fixture").unwrap(), "/answer")).unwrap();
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn a_changed_library_is_swapped_in_and_work_in_flight_ends_on_the_old_one() {
    let world = World::new();
    // The new one gives no prices that can be read.
    let (host, path) = start_with(&world, &["ANSWER=\"1\"", "GIVES=0"]);
    let old = host.generation();
    let rater = old.module("fixture").unwrap().prepare(AsOf { at: at(0), revision: 0 });
    let rater = world.wait(rater).unwrap();
    install(&path, &["ANSWER=\"2\"", "GIVES=1"]);

    let report = host.reload().unwrap();

    assert_eq!(report.changed, [path]);
    assert_eq!(report.generation, old.number() + 1);
    assert_eq!(answer(&world, &host), "2");
    let still = world.wait(get(old.module("fixture").unwrap(), "/answer")).unwrap();
    assert_eq!(still.body, b"1");
    drop(old);
    // The rater keeps its instance and its code.
    let prices = world.wait(rater.rate(rate_request(), rows(1))).unwrap();
    assert_eq!(prices.num_rows(), 1);
    let new = host.generation();
    world.wait(price(new.module("fixture").unwrap(), rows(1))).unwrap_err();
    assert_eq!(world.metric("rated_plugin_generations"), "2");
}

/// What it rated can be rated again by it, after a restart too.
#[test]
fn a_library_that_rated_something_is_kept_and_loaded_when_it_is_asked_for() {
    let world = World::new();
    let (host, path) = start(&world);
    let old = host.generation().module("fixture").unwrap().library_sha256().to_owned();
    install(&path, &["ANSWER=\"2\""]);
    host.reload().unwrap();
    let middle = host.generation().module("fixture").unwrap().library_sha256().to_owned();
    install(&path, &["ANSWER=\"3\""]);
    drop(host);
    world.ledger.libraries.lock().unwrap().push(old.clone());

    let config = PluginConfig {
        plugin_dirs: vec![path.parent().unwrap().to_owned()],
        runner: env!("CARGO_BIN_EXE_rated").into(),
        ..world.config()
    };
    let host = PluginHost::start(config, world.services()).unwrap();

    assert_eq!(answer(&world, &host), "3");
    let kept = host.kept_module("fixture", &old).expect("its copy is there");
    assert_eq!(kept.library_sha256(), old);
    let said = world.wait(get(&kept, "/answer")).unwrap();
    assert_eq!(said.body, b"1");
    assert_eq!(answer(&world, &host), "3", "new work is done with the new one");
    assert!(host.kept_module("fixture", &middle).is_none(), "it has rated nothing");
    assert!(host.kept_module("another", &old).is_none());
    assert_eq!(world.metric("rated_plugin_generations"), "1", "nothing of it is in the daemon");
}

/// The newest stay; those in use need no leave to.
#[test]
fn no_more_libraries_are_kept_than_the_configuration_says() {
    let world = World::new();
    let (host, path) = start(&world);
    let mut rated = Vec::new();
    for answer in ["2", "3", "4"] {
        rated.push(host.generation().module("fixture").unwrap().library_sha256().to_owned());
        install(&path, &[&format!("ANSWER=\"{answer}\"")]);
        host.reload().unwrap();
    }
    drop(host);
    rated.reverse();
    world.ledger.libraries.lock().unwrap().clone_from(&rated);
    let config = PluginConfig {
        plugin_dirs: vec![path.parent().unwrap().to_owned()],
        keep_libraries: 2,
        ..world.config()
    };

    let host = PluginHost::start(config, world.services()).unwrap();

    let kept: Vec<String> =
        host.kept_libraries(&rated).into_iter().map(|library| library.sha256).collect();
    assert_eq!(kept, rated[..2]);
    assert_eq!(answer(&world, &host), "4");
}

#[test]
fn a_reload_without_changes_does_nothing() {
    let world = World::new();
    let (host, _) = start(&world);

    let report = host.reload().unwrap();

    assert!(report.unchanged);
    assert_eq!(report.generation, host.generation().number());
    assert_eq!(world.metric("rated_plugin_generations"), "1");
}

#[test]
fn a_broken_library_keeps_the_old_generation() {
    let world = World::new();
    let (host, path) = start(&world);
    for macros in [&["MINOR=9"][..], &["START_STATUS=11"], &["CREATE_STATUS=1"]] {
        install(&path, macros);

        // The second time its code is in memory already.
        for _ in 0..2 {
            let failure = host.reload().unwrap_err();
            assert!(matches!(failure, PluginHostError::Refused(_)), "{failure}");
            assert_eq!(answer(&world, &host), "1");
        }
    }
    install(&path, &["ANSWER=\"3\""]);
    assert!(!host.reload().unwrap().unchanged);
    assert_eq!(answer(&world, &host), "3");
}

#[test]
fn a_file_that_is_still_being_copied_keeps_the_old_generation() {
    let world = World::new();
    let (host, path) = start(&world);
    install(&path, &["ANSWER=\"2\""]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 3]).unwrap();

    let failure = host.reload().unwrap_err();
    assert!(failure.to_string().contains("is cut short"), "{failure}");
    assert_eq!(answer(&world, &host), "1");

    fs::write(&path, &whole).unwrap();
    host.reload().unwrap();
    assert_eq!(answer(&world, &host), "2");
}

#[test]
fn what_was_refused_before_does_not_hold_others_back() {
    let world = World::new();
    let (host, path) = start(&world);
    drop(host);
    let dir = path.parent().unwrap().to_owned();
    fs::write(dir.join("libbroken.so"), "broken").unwrap();
    let config = PluginConfig { plugin_dirs: vec![dir], ..world.config() };
    let host = PluginHost::start(config, world.services()).unwrap();
    install(&path, &["ANSWER=\"2\""]);

    let report = host.reload().unwrap();

    assert_eq!(report.refused.len(), 1);
    assert_eq!(answer(&world, &host), "2");
}

#[test]
fn a_library_that_is_gone_takes_its_modules_along() {
    let world = World::new();
    let (host, path) = start(&world);
    fs::remove_file(&path).unwrap();

    let report = host.reload().unwrap();

    assert_eq!(report.removed, [path]);
    assert!(host.generation().module("fixture").is_none());
}

#[test]
fn a_library_that_a_configured_instance_needs_must_stay() {
    let world = World::new();
    let (first, path) = start(&world);
    drop(first);
    let mut config = world.config();
    config.plugin_dirs = vec![path.parent().unwrap().to_owned()];
    let plugin = Some("fixture".to_owned());
    let instance = InstanceConfig {
        plugin,
        required: false,
        isolation: Isolation::Thread,
        config: serde_json::Map::new(),
    };
    config.rating.insert("prices".to_owned(), instance);
    let host = PluginHost::start(config, world.services()).unwrap();
    assert!(host.generation().module("fixture").is_none(), "it is there under another name");
    fs::remove_file(&path).unwrap();

    let failure = host.reload().unwrap_err().to_string();

    let expected = "rating module `prices`: no plugin has a rating module `fixture` (found: none)";
    assert_eq!(failure, expected);
    assert!(host.generation().module("prices").is_some());
}

#[test]
fn too_many_changes_ask_for_a_restart() {
    let world = World::new();
    let (host, path) = start(&world);
    for number in 1..GENERATIONS_MAX {
        install(&path, &[&format!("ANSWER=\"{number} again\"")]);
        host.reload().unwrap();
    }
    install(&path, &["ANSWER=\"one too many\""]);

    let failure = host.reload().unwrap_err().to_string();

    assert!(failure.contains("restart the daemon to load more"), "{failure}");
    assert_eq!(answer(&world, &host), format!("{} again", GENERATIONS_MAX - 1));
    // What is in memory already can come back.
    install(&path, &["ANSWER=\"5 again\""]);
    host.reload().unwrap();
    assert_eq!(answer(&world, &host), "5 again");
}
