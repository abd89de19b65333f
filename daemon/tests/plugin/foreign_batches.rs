//! Sources of batches, made in C, that break the rules of their interface.

use rated::plugin::{Fetcher, InstanceConfig, Isolation, PluginHost};
use rated_plugin::Status;
use serde_json::json;

use crate::apart::{apart, config, plugins_dir};
use crate::fixture::build_batches;
use crate::support::World;

/// The last number of `batches.c` that a thread survives, and those that kill.
const HARMLESS: u32 = 19;
const LETHAL: [u32; 2] = [20, 21];

fn start(world: &World, isolation: Isolation, gives: u32) -> (PluginHost, Fetcher) {
    let path = plugins_dir(world).join("libbatches.so");
    if !path.exists() {
        build_batches(&path);
    }
    let settings = json!({"gives": gives.to_string()}).as_object().unwrap().clone();
    let instance = InstanceConfig { isolation, config: settings, ..apart("batches") };
    let mut config = config(world);
    config.fetchers.insert("finder".to_owned(), instance);
    if isolation == Isolation::Process {
        // In a thread what it gives would be what this one gives, too.
        config.fetchers.insert("other".to_owned(), apart("batches"));
    }
    let host = PluginHost::start(config, world.services()).unwrap();
    let finder = host.generation().fetcher("finder").unwrap().clone();
    (host, finder)
}

#[test]
fn sources_that_break_the_rules_are_the_same_error_here_and_apart() {
    let world = World::new();
    for gives in 0..=HARMLESS {
        let found = [Isolation::Thread, Isolation::Process].map(|isolation| {
            let (_host, finder) = start(&world, isolation, gives);
            world.wait(finder.scopes()).map_err(|failure| failure.error)
        });

        assert_eq!(found[0], found[1], "{gives}");
        match &found[0] {
            Ok(scopes) => {
                assert!([0, 19].contains(&gives), "{gives} is sound");
                assert_eq!(scopes, &["a"], "{gives}");
            }
            Err(error) => {
                let expected = [Status::BadData, Status::Internal];
                assert!(expected.contains(&error.status), "{gives}: {error}");
            }
        }
    }
}

#[test]
fn a_source_that_points_to_nothing_costs_its_call() {
    for gives in LETHAL {
        let world = World::new();
        let (host, finder) = start(&world, Isolation::Process, gives);
        let other = host.generation().fetcher("other").unwrap().clone();

        let failure = world.wait(finder.scopes()).unwrap_err();

        assert_eq!(failure.status(), Status::Panic, "{gives}: {failure}");
        assert!(failure.to_string().contains("SIGSEGV"), "{gives}: {failure}");
        let deaths = "rated_plugin_process_deaths_total";
        let of = |name: &str| world.metric(&format!("{deaths}{{instance=\"fetcher/{name}\"}}"));
        assert_eq!((of("finder"), of("other")), ("1".to_owned(), "0".to_owned()), "{gives}");
        assert_eq!(world.wait(other.scopes()).unwrap(), ["a"], "{gives}");
        assert_eq!((of("finder"), of("other")), ("1".to_owned(), "0".to_owned()), "{gives}");
    }
}
