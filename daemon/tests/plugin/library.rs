//! Every reason to refuse a library, with its message; and how it is kept when it is accepted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use rated::ledger::is_disk_full;
use rated::plugin::{
    InstanceConfig, Isolation, LibraryConfig, PluginConfig, PluginHost, PluginHostError,
};
use rated_plugin::{AsOf, Status};

use crate::fixture::build;
use crate::support::{World, at, get, price, rate_request, rows};

fn plugins_dir(world: &World) -> PathBuf {
    let dir = world.dir.path().join("plugins");
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn start(world: &World, config: PluginConfig) -> PluginHost {
    let config = PluginConfig { plugin_dirs: vec![plugins_dir(world)], ..config };
    PluginHost::start(config, world.services()).unwrap()
}

/// The message a library of that kind is refused with.
fn refusal(world: &World, path: &Path) -> String {
    let host = start(world, world.config());
    let plugins = host.generation();
    assert_eq!(plugins.libraries(), []);
    assert_eq!(plugins.refused().len(), 1, "{:?}", plugins.refused());
    let message = plugins.refused()[0].to_string();
    let prefix = format!("plugin `{}`: ", path.display());
    message.strip_prefix(&prefix).unwrap_or_else(|| panic!("{message}")).to_owned()
}

fn check(macros: &[&str], expected: &str) {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, macros);

    let message = refusal(&world, &path);

    assert_eq!(message, expected);
}

#[test]
fn what_is_not_a_plugin_is_refused() {
    check(&["NO_ENTRY"], "is not a rated plugin: it has no symbol `rated_plugin_entry`");
    check(&["NO_DECLARATION"], "is not a rated plugin: `rated_plugin_entry` returns nothing");
    check(&["MAGIC=1"], "is not a rated plugin: its description begins with a wrong magic number");
}

#[test]
fn another_interface_is_refused() {
    check(&["MINOR=3"], "needs ABI 1.3, this daemon has 1.1; upgrade rated");
    check(&["MAJOR=2"], "needs ABI 2.1, this daemon has 1.1; upgrade rated");
    check(&["MAJOR=0"], "was built for ABI 0.1, this daemon has 1.1; rebuild the plugin");
    check(
        &["FEATURES=(1 << 9 | 1)"],
        "needs services that this daemon does not have: feature bit 9; upgrade rated",
    );
    check(
        &["FLAGS=0"],
        "was built so that a panic ends the process; build it with `panic = \"unwind\"` and set \
         the flag that says so",
    );
}

#[test]
fn tables_that_are_too_short_or_have_holes_are_refused() {
    check(
        &["DECL_SIZE=40"],
        "its description is 40 bytes long, at least 104 are needed; rebuild the plugin",
    );
    check(
        &["COMPONENT_SIZE=16"],
        "its component 0 is 16 bytes long, at least 104 are needed; rebuild the plugin",
    );
    check(
        &["TABLE_SIZE=8"],
        "its table of functions of `fixture` is 8 bytes long, at least 64 are needed; rebuild \
         the plugin",
    );
    check(&["START=0"], "its start function is missing");
    check(&["HANDLE=0"], "its function in the table of `fixture` is missing");
}

/// Its table ends before `explain`: what stands behind it is nobody's.
#[test]
fn a_plugin_of_the_first_interface_gives_no_reasons() {
    let reasons = |macros: &[&str]| {
        let world = World::new();
        let path = plugins_dir(&world).join("libfixture.so");
        build(&path, macros);
        let host = start(&world, world.config());
        assert_eq!(host.generation().refused(), []);
        let module = host.generation().module("fixture").unwrap().clone();
        let rater = world.wait(module.prepare(AsOf { at: at(0), revision: 0 })).unwrap();
        world.wait(rater.explain(rate_request(), rows(2), 0..1))
    };
    let told = "REASONS=\"{\\\"rows\\\": [[]]}\"";

    assert_eq!(reasons(&["MINOR=0", "TABLE_SIZE=64", told]).unwrap(), None);
    assert_eq!(reasons(&[]).unwrap(), None);
    assert_eq!(reasons(&[told]).unwrap().unwrap().rows, [vec![]]);
    let wrong = |told: &str| reasons(&[told]).unwrap_err().error.message;
    assert!(wrong("REASONS=\"[]\"").starts_with("the reasons are not understood: "));
    let two = wrong("REASONS=\"{\\\"rows\\\": [[], []]}\"");
    assert_eq!(two, "expected the reasons of 1 rows, got 2");
}

#[test]
fn components_that_make_no_sense_are_refused() {
    check(&["KIND=9"], "component 0 is of the unknown kind 9");
    check(&["NAME=\"Bad_Name\""], "the name `Bad_Name` is not of the form `[a-z][a-z0-9-]{0,31}`");
    check(
        &["PATHS=\"[]\""],
        "the paths that `fixture` serves cannot be read: it is not a JSON object",
    );
    check(&["START_STATUS=11"], "its start failed with the status 11");
}

#[test]
fn the_dynamic_loaders_own_words_are_passed_on() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, &["UNDEFINED"]);

    let message = refusal(&world, &path);

    assert!(message.starts_with("the dynamic loader refuses it: "), "{message}");
    assert!(message.contains("undefined symbol: nobody_has_this"), "{message}");
}

#[test]
fn files_that_may_not_be_loaded_are_refused() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, &[]);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let message = refusal(&world, &path);
    assert_eq!(message, "can be written by everybody; take the right away with `chmod o-w`");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let message = refusal(&world, &path);
    assert!(message.starts_with("is cut short: has "), "{message}");

    fs::write(&path, "not a library").unwrap();
    let message = refusal(&world, &path);
    assert_eq!(message, "is not a shared library of this machine: it does not begin as one");

    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert_eq!(refusal(&world, &path), "is not a regular file");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(refusal(&world, &path).starts_with("cannot read it: "));
}

#[test]
fn a_file_of_somebody_else_is_refused() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, &[]);
    if std::os::unix::fs::chown(&path, Some(65534), None).is_err() {
        println!("NOT RUN: only root can give files away, and this is not root");
        return;
    }

    let message = refusal(&world, &path);

    let expected = "belongs to user 65534; it must belong to root or to the daemon's user (";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_file_with_another_hash_than_configured_is_refused() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, &[]);
    let mut config = world.config();
    let wanted = "00".repeat(32);
    let library = LibraryConfig { sha256: Some(wanted.clone()), trusted: false };
    config.libraries.insert("libfixture.so".to_owned(), library);

    let host = start(&world, config.clone());
    let message = host.generation().refused()[0].to_string();
    assert!(message.contains("has the SHA-256 "), "{message}");
    assert!(message.contains(&format!("the configuration asks for {wanted}")), "{message}");

    let found = message.split("has the SHA-256 ").nth(1).unwrap()[..64].to_owned();
    let library = LibraryConfig { sha256: Some(found.to_uppercase()), trusted: true };
    config.libraries.insert("libfixture.so".to_owned(), library);
    let host = start(&world, config);
    let plugins = host.generation();
    assert!(plugins.libraries()[0].trusted);
    assert_eq!(plugins.module("fixture").unwrap().library_sha256(), found);
}

#[test]
fn a_component_that_is_there_already_is_refused_with_its_library() {
    let world = World::new();
    let dir = plugins_dir(&world);
    build(&dir.join("liba.so"), &[]);
    build(&dir.join("libb.so"), &["ANSWER=\"2\""]);

    let host = start(&world, world.config());

    let plugins = host.generation();
    assert_eq!(plugins.libraries().len(), 1);
    let message = plugins.refused()[0].to_string();
    let (a, b) = (dir.join("liba.so"), dir.join("libb.so"));
    let expected = format!(
        "plugin `{}`: its rating module `fixture` is already provided by `{}`; remove one of the \
         two",
        b.display(),
        a.display()
    );
    assert_eq!(message, expected);
}

#[test]
fn a_sound_library_runs_from_a_private_copy() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    build(&path, &[]);

    let host = start(&world, world.config());

    let plugins = host.generation();
    assert_eq!(plugins.refused(), []);
    let info = &plugins.libraries()[0];
    let copy = world.dir.path().join("state/plugins");
    let copy = copy.join(format!("fixture-{}.so", &info.sha256[..16]));
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o500);
    // The operator overwrites the file in place, as `cp` does: what runs is not touched by it.
    fs::write(&path, vec![0; 100_000]).unwrap();
    let module = plugins.module("fixture").unwrap();
    assert_eq!(world.wait(get(module, "/answer")).unwrap().body, b"1");
    assert_eq!(world.metric("rated_plugin_generations"), "1");
}

#[test]
fn copies_that_nobody_uses_go_at_the_start() {
    let world = World::new();
    let path = plugins_dir(&world).join("libfixture.so");
    let copies = || fs::read_dir(world.dir.path().join("state/plugins")).unwrap().count();
    build(&path, &[]);
    drop(start(&world, world.config()));
    fs::remove_file(&path).unwrap();
    build(&path, &["ANSWER=\"2\""]);

    let host = start(&world, world.config());

    assert_eq!(copies(), 1);
    assert_eq!(host.generation().libraries().len(), 1);
}

#[test]
fn a_module_that_says_ok_and_gives_nothing_is_an_error() {
    let world = World::new();
    build(&plugins_dir(&world).join("libfixture.so"), &[]);
    let host = start(&world, world.config());
    let plugins = host.generation();

    let failure = world.wait(price(plugins.module("fixture").unwrap(), rows(2))).unwrap_err();

    assert_eq!(failure.status(), Status::BadData);
    assert_eq!(failure.error.message, "the plugin gave no schema");
}

#[test]
fn arrow_structs_that_break_the_rules_are_errors() {
    let world = World::new();
    let price_one = |gives: u32| {
        let path = plugins_dir(&world).join("libfixture.so");
        build(&path, &[&format!("GIVES={gives}")]);
        let host = start(&world, world.config());
        let plugins = host.generation();
        world.wait(price(plugins.module("fixture").unwrap(), rows(1)))
    };
    assert_eq!(price_one(0).unwrap().num_rows(), 1);

    let said: Vec<String> = (1..=14)
        .map(|gives| {
            let failure = price_one(gives).expect_err(&gives.to_string());
            assert_eq!(failure.status(), Status::BadData, "{gives}");
            failure.error.message
        })
        .collect();

    assert!(said[2].starts_with("-1 columns, 0 to 1024 are accepted"), "{said:#?}");
    assert!(said[4].contains("rows, at most"), "{said:#?}");
    assert_eq!(said[5], "a batch has 0 columns where its schema has 1");
    assert_eq!(said[8], "the column `price` has 0 rows, its batch needs 1");
    assert_eq!(said[11], "the plugin gave no batch");
}

/// It may be tried again as often as somebody likes: what was loaded is not started twice.
#[test]
fn an_instance_that_finds_no_room_for_its_keys_is_made_when_there_is_some() {
    let world = World::new();
    let dir = plugins_dir(&world);
    build(&dir.join("libfixture.so"), &["KEEPS_A_KEY"]);
    let instance = |required| {
        let (plugin, isolation, config) = (None, Isolation::Thread, serde_json::Map::new());
        InstanceConfig { plugin, required, isolation, config }
    };
    let config = |required| PluginConfig {
        plugin_dirs: vec![dir.clone()],
        rating: [("fixture".to_owned(), instance(required))].into(),
        ..world.config()
    };
    world.ledger.is_full.store(true, Ordering::SeqCst);
    let host = PluginHost::new(config(true), world.services()).unwrap();

    for _ in 0..2 {
        let failure = host.load().unwrap_err();
        assert!(matches!(failure, PluginHostError::NoRoomForKeys(_)), "{failure}");
        assert!(is_disk_full(&failure), "{failure}");
        assert!(host.generation().module("fixture").is_none());
    }
    world.ledger.is_full.store(false, Ordering::SeqCst);
    host.load().unwrap();

    assert!(host.generation().module("fixture").is_some(), "{:?}", host.generation().refused());
    assert_eq!(world.metric("rated_plugin_generations"), "1");
}

/// What is not needed is nothing to wait for.
#[test]
fn an_instance_that_is_not_required_holds_up_no_start_on_a_full_disk() {
    let world = World::new();
    let dir = plugins_dir(&world);
    build(&dir.join("libfixture.so"), &["KEEPS_A_KEY"]);
    world.ledger.is_full.store(true, Ordering::SeqCst);
    let config = PluginConfig { plugin_dirs: vec![dir], ..world.config() };

    let host = PluginHost::start(config, world.services()).unwrap();

    assert!(host.generation().module("fixture").is_none());
}
