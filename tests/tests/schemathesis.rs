//! The daemon keeps what its description promises: schemathesis makes requests out of it, sound and
//! unsound ones, and compares the answers with it. What it must not ask stands in
//! `schemathesis.toml`, with the reasons.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::process::Command;

use rated_tests::{Daemon, python_program, run};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

const RATED: &str = r#"
[daemon]
state_dir = "state"
[api]
listen = "127.0.0.1:0"
[collect]
fetchers = []
metrics = "metrics.toml"
period_secs = 3600
scope_key = "project_id"
"#;

const METRICS: &str = r#"
[[metric]]
name = "cpu"
alt_name = "instance"
unit = "instance"
groupby = ["id"]
metadata = ["flavor"]
mutate = "NUMBOOL"
[[metric]]
name = "volume.size"
unit = "GiB"
groupby = ["id"]
factor = "1/1073741824"
"#;

const V1: &str = "^/v1/";

/// A daemon with all its modules and something of everything.
fn start(folder: &Path) -> Daemon {
    fs::write(folder.join("rated.toml"), RATED).unwrap();
    fs::write(folder.join("metrics.toml"), METRICS).unwrap();
    let daemon = Daemon::start(&folder.join("rated.toml"));
    let config = "/v1/rating/module_config";
    let create = |path: &str, body: Value| daemon.post(&format!("{config}/{path}"), &body);
    let service = create("hashmap/services", json!({"name": "instance"})).expect(201);
    let service = &service["service_id"];
    let field = create("hashmap/fields", json!({"service_id": service, "name": "flavor"}));
    let field = &field.expect(201)["field_id"];
    let group = create("hashmap/groups", json!({"name": "usual"})).expect(201);
    let group = &group["group_id"];
    let price = json!({"field_id": field, "value": "small", "cost": "0.5", "group_id": group});
    create("hashmap/mappings", price).expect(201);
    let level = json!({"service_id": service, "level": 10, "cost": "-0.1", "group_id": group});
    create("hashmap/thresholds", level).expect(201);
    create("pyscripts/scripts", json!({"name": "nothing", "data": "pass"})).expect(201);
    for module in ["hashmap", "pyscripts"] {
        daemon.set_module(module, &json!({"module_id": module, "enabled": true}));
    }
    let scope = json!({"scope_id": "ann", "last_processed_timestamp": "2026-01-01T00:00:00"});
    daemon.post("/v2/scope", &scope).expect(200);
    let point = json!({
        "vol": {"unit": "instance", "qty": 1.5},
        "rating": {"price": 0.75},
        "groupby": {"id": "vm-1", "project_id": "ann"},
        "metadata": {"flavor": "small"},
    });
    let period = json!({"begin": "2026-01-01T00:00:00Z", "end": "2026-01-01T01:00:00Z"});
    let frames = json!({"dataframes": [{"period": period, "usage": {"instance": [point]}}]});
    daemon.post("/v2/dataframes", &frames).expect(204);
    let mapping = "/v1/collector/mappings?collector=host&service=instance";
    daemon.call(&Method::POST, mapping, None).expect(200);
    daemon
}

/// Asks the operations that `which` selects; every failure is one of the test.
fn check(which: &[&str]) {
    let folder = TempDir::new().unwrap();
    let daemon = start(folder.path());
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemathesis.toml");
    let mut command = Command::new(python_program("schemathesis"));
    command.arg("--config-file").arg(config).args(["run", "--no-color"]).args(which);
    command.arg(format!("{}/openapi.json", daemon.url)).current_dir(folder.path());

    let (is_clean, output) = run(&mut command);

    assert!(is_clean, "{output}\n{}", daemon.process.output());
    let (_, cases) = output.split_once("Test cases:").expect("a count of test cases");
    let cases = cases.lines().nth(1).unwrap_or_default().trim();
    println!("{which:?}: {cases}");
    let count: usize = cases.split(' ').next().unwrap_or_default().parse().expect(cases);
    assert!(count > 500, "{cases}");
    assert_eq!(daemon.get("/readyz")["ready"], true);
    daemon.stop();
}

/// Methods that are not described are left out: v1 says 405 without `Allow`, and 404 below an
/// object that has nothing below it, as `CloudKitty` does.
#[test]
fn v1_keeps_what_its_description_promises() {
    check(&[
        "--include-path-regex",
        V1,
        "--exclude-checks",
        "unsupported_method,allow_header_conformance",
    ]);
}

#[test]
fn v2_and_the_daemons_own_paths_keep_what_their_description_promises() {
    check(&["--exclude-path-regex", V1]);
}

#[test]
fn the_description_is_sound() {
    let folder = TempDir::new().unwrap();
    let daemon = start(folder.path());
    let document = daemon.get("/openapi.json");
    assert_eq!(document["openapi"], "3.1.0");
    for path in ["hashmap/mappings/{mapping_id}", "pyscripts/scripts/{script_id}"] {
        let path = format!("/v1/rating/module_config/{path}");
        assert!(document["paths"][&path]["put"].is_object(), "{path}");
    }
    let file = folder.path().join("openapi.json");
    fs::write(&file, document.to_string()).unwrap();

    let (is_sound, output) = run(Command::new(python_program("openapi-spec-validator"))
        .args(["--schema", "3.1"])
        .arg(file));

    assert!(is_sound, "{output}");
    daemon.stop();
}
