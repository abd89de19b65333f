//! The servers themselves, as the other tests use them.

use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use rated_tests::{ArchivePolicy, Gnocchi, Keystone, Measures, Target, get, send_with, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

#[test]
fn a_token_is_good_until_it_is_revoked() {
    let folder = TempDir::new().unwrap();
    let start = Instant::now();
    let keystone = Keystone::start(folder.path());
    println!("Keystone {} serves after {:?}", keystone.server.version(), start.elapsed());
    let project = keystone.api.create_project("blue");
    let user = keystone.api.create_user("alice", "wonderland");
    keystone.api.assign(&user, "reader", Target::Project(&project));

    let token = keystone.api.token(&user, Target::Project(&project));
    let known = keystone.api.validate(&token).unwrap();
    keystone.api.revoke(&token);

    assert_eq!(known["project"]["id"], *project);
    assert_eq!(names(&known["roles"]), ["reader"]);
    assert_eq!(names(&known["catalog"]), ["keystone"]);
    assert!(keystone.api.validate(&token).is_none(), "it is no longer good");
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[test]
fn a_token_ends_with_its_lifetime() {
    let folder = TempDir::new().unwrap();
    let keystone = Keystone::with_token_lifetime(folder.path(), Duration::from_secs(10));

    let token = keystone.api.admin_token();

    let known = keystone.api.validate(&token).unwrap();
    let time = |field: &str| -> DateTime<Utc> { known[field].as_str().unwrap().parse().unwrap() };
    assert_eq!((time("expires_at") - time("issued_at")).num_seconds(), 10);
    wait_until("the token ends", || keystone.api.validate(&token).is_none().then_some(()));
}

#[test]
fn an_application_credential_stands_for_its_user() {
    let folder = TempDir::new().unwrap();
    let keystone = Keystone::start(folder.path());
    let project = keystone.api.create_project("blue");
    let user = keystone.api.create_user("alice", "wonderland");
    keystone.api.assign(&user, "rating", Target::Project(&project));

    let credential = keystone.api.create_application_credential(&user, &project, "laptop");

    let known = keystone.api.validate(&keystone.api.application_token(&credential)).unwrap();
    assert_eq!(
        (&known["user"]["id"], &known["project"]["id"]),
        (&Value::from(user.id.clone()), &Value::from(project.clone()),)
    );
    assert_eq!(names(&known["roles"]), ["rating"]);
}

#[test]
fn keystone_knows_after_a_restart_what_it_knew_before() {
    let folder = TempDir::new().unwrap();
    let mut keystone = Keystone::start(folder.path());
    let (good, revoked) = (keystone.api.admin_token(), keystone.api.admin_token());
    keystone.api.revoke(&revoked);
    let asked = keystone.server.answered("GET /v3/auth/tokens");

    keystone.server.kill();
    keystone.server.start_again();

    assert!(keystone.api.validate(&good).is_some());
    assert!(keystone.api.validate(&revoked).is_none());
    assert_eq!(keystone.server.answered("GET /v3/auth/tokens"), asked + 2);
    assert_eq!(keystone.server.answered("GET /v3/auth/tokens 404"), 1);
}

const INSTANCE: &str = "00000000-0000-4000-8000-000000000001";

/// An instance with one metric that has two measures in the hour of `10:00` and one in the next.
fn put_measures(gnocchi: &Gnocchi) {
    gnocchi.create_archive_policy(ArchivePolicy {
        name: "hourly",
        methods: &["mean", "max", "rate:mean"],
        granularities: &[(3600, 100)],
    });
    gnocchi.create_resource_type("instance", &["flavor"]);
    let attributes = json!({"id": INSTANCE, "project_id": "blue", "flavor": "small"});
    gnocchi.create_resource("instance", &attributes, &[("cpu", "hourly")]);
    let time = |text| format!("2026-03-01T{text}Z").parse().unwrap();
    gnocchi.push(&[Measures {
        resource: INSTANCE.to_owned(),
        metric: "cpu".to_owned(),
        points: vec![
            (time("10:10:00"), "5.5".to_owned()),
            (time("10:40:00"), "7".to_owned()),
            (time("11:20:00"), "40.25".to_owned()),
        ],
    }]);
}

fn aggregate(gnocchi: &Gnocchi, method: &str) -> Value {
    let body = json!({
        "resource_type": "instance",
        "operations": format!("(metric cpu {method})"),
        "search": {"=": {"flavor": "small"}},
    });
    let answer = gnocchi.ask(&Method::POST, "/aggregates", Some(&body)).expect(200);
    answer["measures"][INSTANCE]["cpu"][method].clone()
}

#[test]
fn measures_are_worked_in_when_they_are_pushed() {
    let folder = TempDir::new().unwrap();
    let start = Instant::now();
    let gnocchi = Gnocchi::with_basic_authentication(folder.path());
    println!("Gnocchi {} serves after {:?}", gnocchi.server.version(), start.elapsed());

    put_measures(&gnocchi);

    let hours = ["2026-03-01T10:00:00+00:00", "2026-03-01T11:00:00+00:00"];
    let expected = json!([[hours[0], 3600.0, 6.25], [hours[1], 3600.0, 40.25]]);
    assert_eq!(aggregate(&gnocchi, "mean"), expected);
    // 7 - 5.5 in the first hour, 40.25 - 7 in the second.
    let expected = json!([[hours[0], 3600.0, 1.5], [hours[1], 3600.0, 33.25]]);
    assert_eq!(aggregate(&gnocchi, "rate:mean"), expected);
}

#[test]
fn gnocchi_lets_in_whom_keystone_knows() {
    let folder = TempDir::new().unwrap();
    let keystone = Keystone::start(folder.path());
    let mut gnocchi = Gnocchi::with_keystone(folder.path(), &keystone);
    let ask = |gnocchi: &Gnocchi, token: &str| {
        let url = format!("{}/v1/resource/instance", gnocchi.url());
        send_with(&Method::GET, &url, &[("X-Auth-Token", token)], None).unwrap()
    };
    let (blue, red) = (keystone.api.create_project("blue"), keystone.api.create_project("red"));
    let user = keystone.api.create_user("alice", "wonderland");
    keystone.api.assign(&user, "member", Target::Project(&blue));
    keystone.api.assign(&user, "member", Target::Project(&red));

    put_measures(&gnocchi);
    gnocchi.change_resource("instance", INSTANCE, &json!({"project_id": blue}));
    gnocchi.server.kill();
    gnocchi.server.start_again();

    let token = keystone.api.token(&user, Target::Project(&blue));
    assert_eq!(ask(&gnocchi, &token).expect(200)[0]["id"], INSTANCE);
    let token = keystone.api.token(&user, Target::Project(&red));
    assert_eq!(ask(&gnocchi, &token).expect(200), json!([]));
    assert_eq!(ask(&gnocchi, "nobody's").status, 401);
    let catalogue = keystone.api.validate(&token).unwrap()["catalog"].clone();
    assert_eq!(names(&catalogue), ["keystone", "gnocchi"]);
}

#[test]
fn a_revision_begins_when_the_test_says() {
    let folder = TempDir::new().unwrap();
    let gnocchi = Gnocchi::with_basic_authentication(folder.path());
    put_measures(&gnocchi);

    gnocchi.set_revision_start(INSTANCE, "2026-03-01T00:00:00Z".parse().unwrap());
    gnocchi.change_resource("instance", INSTANCE, &json!({"flavor": "large"}));
    gnocchi.set_revision_start(INSTANCE, "2026-03-01T11:00:00Z".parse().unwrap());

    let path = format!("/resource/instance/{INSTANCE}/history?sort=revision_start:asc");
    let history = gnocchi.ask(&Method::GET, &path, None).expect(200);
    let fields = ["flavor", "revision_start", "revision_end"];
    let found: Vec<Vec<Value>> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| fields.map(|field| revision[field].clone()).to_vec())
        .collect();
    let (midnight, eleven) = ("2026-03-01T00:00:00+00:00", "2026-03-01T11:00:00+00:00");
    assert_eq!(json!(found), json!([["small", midnight, eleven], ["large", eleven, null]]));
}

#[test]
fn a_paused_server_answers_later() {
    let folder = TempDir::new().unwrap();
    let gnocchi = Gnocchi::with_basic_authentication(folder.path());

    gnocchi.server.pause();
    let (url, before) = (format!("{}/v1/status", gnocchi.url()), Instant::now());
    let answer = thread::spawn(move || get(&url).status);
    let waited = Duration::from_millis(300);
    while before.elapsed() < waited {
        assert!(!answer.is_finished(), "a paused server does not answer");
        thread::yield_now();
    }
    gnocchi.server.resume();

    assert_eq!(answer.join().unwrap(), 401);
}
