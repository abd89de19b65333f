//! The servers themselves, as the other tests use them.

use std::time::{Duration, Instant};

use rated_tests::{Keystone, Target};
use serde_json::Value;
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
    let keystone = Keystone::with_token_lifetime(folder.path(), Duration::from_secs(3));

    let token = keystone.api.admin_token();

    assert!(keystone.api.validate(&token).is_some());
    rated_tests::wait_until("the token ends", || {
        keystone.api.validate(&token).is_none().then_some(())
    });
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
    let issued = keystone.server.answered("POST /v3/auth/tokens 201");

    keystone.server.kill();
    keystone.server.start_again();

    assert!(keystone.api.validate(&good).is_some());
    assert!(keystone.api.validate(&revoked).is_none());
    // One more for each thing that the administrator asked.
    assert_eq!(keystone.server.answered("POST /v3/auth/tokens 201"), issued + 2);
}
