//! The documentation in a real browser, where there is one: `tests/setup.sh` installs none, because
//! it would be larger than everything else together.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::{Command, Stdio};

use rated_tests::{Config, Daemon, run};
use tempfile::TempDir;

/// Debian's packages, the smaller one first.
const BROWSERS: [&str; 2] = ["chromium-headless-shell", "chromium"];

fn browser() -> Option<&'static str> {
    let works = |name: &&str| {
        let mut command = Command::new(name);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    BROWSERS.into_iter().find(works)
}

/// The page as the browser has made it, and what it said about it.
fn open(browser: &str, profile: &Path, url: &str) -> String {
    let profile = format!("--user-data-dir={}", profile.display());
    let mut command = Command::new(browser);
    // The tests may run as root, and its pages are ours.
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]);
    command.args(["--virtual-time-budget=5000", "--dump-dom", &profile, url]);
    let (is_fine, output) = run(&mut command);
    assert!(is_fine, "{output}");
    output
}

#[test]
fn every_operation_is_shown() {
    let Some(browser) = browser() else {
        println!("not checked: there is neither of {BROWSERS:?}");
        return;
    };
    let folder = TempDir::new().unwrap();
    let metric = "[[metric]]\nname = \"cpu\"\nunit = \"instance\"\n";
    std::fs::write(folder.path().join("metrics.toml"), metric).unwrap();
    let config = Config {
        daemon: String::new(),
        collect: "fetchers = []\nmetrics = \"metrics.toml\"\n".to_owned(),
        plugins: String::new(),
    };
    let daemon = Daemon::start(&config.write(folder.path()));
    let document = daemon.get("/openapi.json");
    let paths = document["paths"].as_object().unwrap().values();
    let operations: usize =
        paths.map(|item| item.as_object().map_or(0, serde_json::Map::len)).sum();

    let address = format!("{}/docs#post_v1_rating_quote", daemon.url);
    let page = open(browser, &folder.path().join("profile"), &address);

    assert_eq!(page.matches("class=\"operation\"").count(), operations);
    // The one that the address names is open: parameters, answers and a line to copy.
    assert!(page.contains("curl -i -X POST"), "{page}");
    assert_eq!(page.matches("Try it").count(), 1);
    for (name, _) in document["components"]["schemas"].as_object().unwrap() {
        assert!(page.contains(&format!("id=\"schema-{name}\"")), "{name}");
    }
    assert!(!page.contains("CONSOLE"), "{page}");
    daemon.stop();
}
