//! Which projects of a real Keystone are billed, and at which address Gnocchi is asked.

use std::collections::BTreeSet;
use std::fs;

use chrono::Timelike;
use rated_tests::{Config, Daemon, Keystone, REGION, Target, User, now, wait_until};
use reqwest::Method;
use serde_json::json;
use tempfile::TempDir;

use crate::cloud::Cloud;

/// Nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

/// A daemon that only looks for scopes: the first period is not over yet.
fn config(keystone: &Keystone, user: &User, keys: &str) -> Config {
    let this_hour = now().with_minute(0).and_then(|time| time.with_second(0)).unwrap();
    Config {
        daemon: String::new(),
        collect: format!(
            "collector = \"gnocchi\"\nfetchers = [\"keystone\"]\nmetrics = \"metrics.toml\"\n\
             start = \"{}\"\n",
            this_hour.format("%Y-%m-%dT%H:%M:%SZ")
        ),
        plugins: format!(
            "[collectors.gnocchi]\nauth_type = \"none\"\nendpoint = \"{NOWHERE}\"\n\n\
             [fetchers.keystone]\nauth_url = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\
             project_name = \"billing\"\n{keys}",
            keystone.api.url, user.name, user.password
        ),
    }
}

#[test]
fn the_configuration_says_which_projects_are_billed() {
    let folder = TempDir::new().unwrap();
    let keystone = Keystone::start(folder.path());
    let api = &keystone.api;
    let elsewhere = api.create_domain("elsewhere");
    let billing = api.create_project("billing");
    let user = api.create_user("rated", "service-secret");
    api.assign(&user, "admin", Target::Project(&billing));
    let plain = api.create_project("plain");
    let foreign = api.create_project_in(&elsewhere, "foreign");
    let disabled = api.create_project("disabled");
    let other_role = api.create_project("another role");
    for project in [&plain, &foreign, &disabled] {
        api.assign(&user, "rating", Target::Project(project));
    }
    api.assign(&user, "invoice", Target::Project(&other_role));
    api.set_project_enabled(&disabled, false);
    fs::write(
        folder.path().join("metrics.toml"),
        "[[metric]]\nname = \"cpu\"\nunit = \"cpu\"\n\
        [metric.extra_args]\nresource_type = \"instance\"\n",
    )
    .unwrap();

    let check = |keys: &str, expected: &[&String]| {
        let expected: BTreeSet<String> = expected.iter().map(|id| (*id).clone()).collect();
        let _ = fs::remove_dir_all(folder.path().join("state"));
        let daemon = Daemon::start(&config(&keystone, &user, keys).write(folder.path()));
        let found = wait_until("scopes are found", || {
            let found: BTreeSet<String> = daemon.last_processed().into_keys().collect();
            (!found.is_empty()).then_some(found)
        });
        assert_eq!(found, expected, "with `{keys}`");
        daemon.stop();
    };
    check("", &[&plain, &foreign, &disabled]);
    check("ignore_disabled_tenants = true\n", &[&plain, &foreign]);
    check("rating_role = \"invoice\"\n", &[&other_role]);
    let admin = api.project_id("admin");
    let everybody = [&plain, &foreign, &disabled, &other_role, &billing, &admin];
    check("ignore_rating_role = true\n", &everybody);
}

/// Every other address in the catalogue leads nowhere.
#[test]
fn the_region_and_the_interface_choose_the_address() {
    let cloud = Cloud::new(2);
    let identity = cloud.identity();
    let services = identity.ask(&Method::GET, "/services?type=metric", None).expect(200);
    let service = services["services"][0]["id"].as_str().unwrap();
    let path = format!("/endpoints?service_id={service}");
    let endpoints = identity.ask(&Method::GET, &path, None).expect(200);
    for endpoint in endpoints["endpoints"].as_array().unwrap() {
        if endpoint["interface"] != "admin" {
            let path = format!("/endpoints/{}", endpoint["id"].as_str().unwrap());
            let body = json!({"endpoint": {"url": NOWHERE}});
            identity.ask(&Method::PATCH, &path, Some(&body)).expect(200);
        }
    }
    identity.create_region("Another");
    for interface in ["public", "internal", "admin"] {
        identity.add_endpoint(service, "Another", interface, NOWHERE);
    }
    let login = cloud.password_login();
    let keys = format!("{login}region_name = \"{REGION}\"\ninterface = \"admin\"\n");

    let daemon = cloud.start_daemon(&cloud.config_with(&keys, "keystone", &login));
    cloud.wait_until_rated(&daemon);

    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}
