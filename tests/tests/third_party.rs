//! The path of a plugin author who has nothing but the plugin crate: copy, change, build, drop in,
//! reload.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rated_tests::{Config, Daemon, Exact, run, wait_until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests have a folder").to_owned()
}

/// The manifest that the README of the plugin crate tells authors to write.
fn manifest() -> String {
    let text = fs::read_to_string(repository().join("plugin-api/README.md")).unwrap();
    let (_, rest) = text.split_once("```toml\n").expect("the README shows a manifest");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let interface = repository().join("plugin-api");
    block.replace("../rated/plugin-api", interface.to_str().unwrap())
}

/// Follows the README of the plugin crate, step by step.
fn build_copy(folder: &Path) -> PathBuf {
    let copy = folder.join("acme");
    let noop = repository().join("plugins/noop");
    let (succeeded, text) = run(Command::new("cp").arg("-r").args([&noop, &copy]));
    assert!(succeeded, "{text}");
    fs::write(copy.join("Cargo.toml"), manifest()).unwrap();
    let source = fs::read_to_string(noop.join("src/lib.rs")).unwrap();
    let changed = source.replace("\"noop\"", "\"acme\"").replace(
        "PRICE_PER_UNIT: Decimal = Decimal::ZERO",
        "PRICE_PER_UNIT: Decimal = Decimal::from_parts(25, 0, 0, false, 2)",
    );
    assert!(changed.contains("\"acme\"") && changed.contains("from_parts"));
    fs::write(copy.join("src/lib.rs"), changed).unwrap();
    // The versions this repository was tested with, so that nothing needs to be fetched.
    fs::copy(repository().join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();

    // Kept between runs: what it depends on takes half a minute to build.
    let target = rated_tests::build_folder().join("third-party");
    let (succeeded, text) = run(Command::new("cargo")
        .args(["build", "--offline", "--manifest-path"])
        .arg(copy.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target));
    assert!(succeeded, "{text}");
    target.join("debug/libacme.so")
}

#[test]
fn a_copied_plugin_rates_after_a_reload() {
    let folder = TempDir::new().unwrap();
    let library = build_copy(folder.path());
    let metrics = "[[metric]]\nname = \"m\"\nunit = \"u\"\n";
    fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    let config = Config::prometheus("http://127.0.0.1:1", chrono::DateTime::UNIX_EPOCH);
    let daemon = Daemon::start(&config.without_scopes().write(folder.path()));
    let quote = json!({"resources": [{"service": "anything", "volume": "21", "desc": {}}]});
    let ask =
        || Exact::parse(daemon.post("/v1/rating/quote", &quote).expect(200).as_str().unwrap());
    assert_eq!(ask().to_string(), "0");
    assert_eq!(daemon.call(&Method::GET, "/v1/rating/modules/acme", None).status, 404);

    fs::copy(&library, folder.path().join("plugins/libacme.so")).unwrap();
    let answer = daemon.call(&Method::GET, "/v1/rating/reload_modules", None);

    assert_eq!(answer.status, 204, "{}", answer.text);
    let module = wait_until("the module is listed", || {
        let answer = daemon.call(&Method::GET, "/v1/rating/modules/acme", None);
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(module["enabled"], true);
    assert_eq!(ask().to_string(), "5.25");
    daemon.stop();
}
