//! Answers of a real Keystone, and the exact requests they belong to; tokens in use.

use chrono::TimeDelta;
use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher};
use rated_plugin::{Error, HttpResponse, Result, Status};
use serde_json::{Value, json};

use super::recording::{answer, host};
use super::rows::{request, rows};
use crate::{GnocchiCollector, KeystoneProjects};

const PASSWORD: &str = "auth_url = \"http://keystone.test:5000/v3/\"\nusername = \"rated\"\n\
     user_domain_name = \"Default\"\npassword = \"change me\"\nproject_name = \"service\"\n\
     project_domain_id = \"default\"\nretry_delay_ms = 1\n";

fn collector(host: &FakeHost, more: &str) -> TestCollector {
    TestCollector::new::<GnocchiCollector>(host, &format!("{PASSWORD}{more}")).unwrap()
}

fn fetch(names: &[&str], more: &str) -> Result<Vec<String>> {
    let fetcher =
        TestFetcher::new::<KeystoneProjects>(&host(names), &format!("{PASSWORD}{more}")).unwrap();
    fetcher.scopes()
}

/// The ids of projects by their names.
fn ids(names: &[&str]) -> Vec<String> {
    let body: Value = serde_json::from_slice(&answer("keystone/projects").body).unwrap();
    let projects = body["projects"].as_array().unwrap();
    let id = |name: &&str| {
        let project = projects.iter().find(|project| project["name"] == **name);
        project.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let mut ids: Vec<String> = names.iter().map(id).collect();
    ids.sort();
    ids
}

#[test]
fn projects_with_the_role_are_scopes_of_every_domain() {
    let names = ["keystone/token", "keystone/assignments", "keystone/projects"];

    // Not those where the role comes by a group or is inherited: as in CloudKitty.
    assert_eq!(fetch(&names, "").unwrap(), ids(&["blue", "green", "disabled"]));
    let enabled = fetch(&names, "ignore_disabled_tenants = true").unwrap();
    assert_eq!(enabled, ids(&["blue", "green"]));
    assert_eq!(fetch(&names, "rating_role = \"member\"").unwrap(), ids(&["member"]));
}

#[test]
fn every_project_is_a_scope_when_roles_are_ignored() {
    let names = ["keystone/token", "keystone/projects"];
    let all = [
        "blue", "green", "disabled", "by-group", "member", "heir", "parent", "child", "service",
        "admin",
    ];

    assert_eq!(fetch(&names, "ignore_rating_role = true").unwrap(), ids(&all));
}

#[test]
fn a_role_that_nobody_has_is_said() {
    let host = host(&["keystone/token", "keystone/assignments", "keystone/projects"]);
    let config = format!("{PASSWORD}rating_role = \"rates\"");
    let fetcher = TestFetcher::new::<KeystoneProjects>(&host, &config).unwrap();

    assert!(fetcher.scopes().unwrap().is_empty());
    assert_eq!(
        host.logged()[0].message,
        "The user has the role `rates` in no project: nobody is billed."
    );
}

#[test]
fn a_user_who_may_not_look_is_told_so() {
    let config = PASSWORD.replace("\"rated\"", "\"reader\"").replace("change me", "read me");
    let host = host(&["keystone/reader-token", "keystone/reader-assignments"]);
    let fetcher = TestFetcher::new::<KeystoneProjects>(&host, &config).unwrap();

    let error = fetcher.scopes().unwrap_err();

    assert_eq!(error.status, Status::Unauthorized);
    assert!(
        error
            .message
            .starts_with("`http://keystone.test:5000`: HTTP status 403: You are not authorized"),
        "{error}"
    );
}

#[test]
fn a_wrong_password_is_not_tried_again_at_once() {
    let host = host(&["keystone/wrong", "keystone/wrong"]);
    let config = PASSWORD.replace("change me", "changed");
    let collector = TestCollector::new::<GnocchiCollector>(&host, &config).unwrap();
    let refused = || {
        let error = collector.check().unwrap_err();
        assert_eq!(error.status, Status::Unauthorized);
        assert_eq!(
            error.message,
            "`http://keystone.test:5000`: HTTP status 401: The request you have made requires \
             authentication."
        );
    };

    refused();
    refused();
    assert_eq!(host.requests().len(), 1);
    host.advance(TimeDelta::seconds(60));
    refused();
    assert_eq!(host.requests().len(), 2);
}

#[test]
fn application_credentials_have_an_id_or_a_name() {
    let url = "auth_type = \"application_credential\"\nauth_url = \"http://keystone.test:5000\"\n\
        application_credential_secret = \"sesame\"\nignore_rating_role = true\n";
    let credential = application_credential();
    let by_id = format!("{url}application_credential_id = \"{credential}\"");
    let by_name = format!(
        "{url}application_credential_name = \"meter\"\nusername = \"rated\"\n\
         user_domain_name = \"Default\""
    );
    for (config, token) in
        [(by_id, "keystone/credential-id"), (by_name, "keystone/credential-name")]
    {
        let host = host(&[token, "keystone/projects"]);
        let fetcher = TestFetcher::new::<KeystoneProjects>(&host, &config).unwrap();

        assert!(fetcher.scopes().unwrap().contains(&ids(&["blue"])[0]));
    }
}

/// Its id is Keystone's; the recorded request has it.
fn application_credential() -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/keystone/");
    let text = std::fs::read_to_string(format!("{folder}credential-id.request")).unwrap();
    let (_, body) = text.split_once("\n\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    let id = &body["auth"]["identity"]["application_credential"]["id"];
    id.as_str().unwrap().to_owned()
}

#[test]
fn the_catalogue_says_where_gnocchi_is() {
    let asked = |more: &str| {
        let host = host(&["keystone/token", "gnocchi/check"]);
        let outcome = collector(&host, more).check();
        outcome.map(|()| host.requests()[1].url.clone())
    };
    let first = asked("region_name = \"RegionOne\"").unwrap();
    assert_eq!(first, "http://internal.regionone.test:8041/v1/capabilities/");
    let second = asked("region_name = \"Second\"\ninterface = \"public\"").unwrap();
    assert_eq!(second, "http://public.second.test:8041/v1/capabilities/");
    let own = asked("endpoint = \"http://gnocchi.test/v1/\"").unwrap();
    assert_eq!(own, "http://gnocchi.test/v1/capabilities/");

    let error = asked("").unwrap_err();
    assert_eq!(error.status, Status::InvalidConfig);
    assert!(error.message.contains("set `region_name` to one of `RegionOne`, `Second`"), "{error}");
    let error = asked("region_name = \"Third\"").unwrap_err();
    assert!(error.message.contains("no internal endpoint of type `metric` in region `Third`"));
}

/// Keystone gives tokens with these names, each good for an hour; Gnocchi takes those for which
/// `accepts` says yes.
fn cloud(host: &FakeHost, accepts: impl Fn(&str) -> bool + Send + 'static) {
    let mut count = 0;
    host.answer_with(move |request| {
        if request.url.ends_with("/v3/auth/tokens") {
            count += 1;
            let mut token = answer("keystone/token");
            token.headers.insert("x-subject-token".to_owned(), format!("token-{count}"));
            return Ok(token);
        }
        Ok(if accepts(&request.headers["x-auth-token"]) {
            answer("gnocchi/check")
        } else {
            answer("keystone/wrong")
        })
    });
}

fn logins(host: &FakeHost) -> usize {
    host.requests().iter().filter(|request| request.url.ends_with("/auth/tokens")).count()
}

const ENDPOINT: &str = "endpoint = \"http://gnocchi.test\"";

#[test]
fn one_token_serves_until_shortly_before_it_expires() {
    let host = FakeHost::new();
    cloud(&host, |_| true);
    let collector = collector(&host, ENDPOINT);

    for minutes in [0, 30, 58] {
        host.set_now(chrono::DateTime::from_timestamp(2_000_000_000 + minutes * 60, 0).unwrap());
        collector.check().unwrap();
    }
    assert_eq!(logins(&host), 1);
    host.advance(TimeDelta::seconds(61));
    collector.check().unwrap();
    assert_eq!(logins(&host), 2);
    assert_eq!(host.requests().last().unwrap().headers["x-auth-token"], "token-2");
}

#[test]
fn a_revoked_token_is_renewed_once() {
    let host = FakeHost::new();
    cloud(&host, |token| token != "token-1");
    let collector = collector(&host, ENDPOINT);

    collector.check().unwrap();
    collector.check().unwrap();

    assert_eq!((logins(&host), host.requests().len()), (2, 5));
}

#[test]
fn a_token_that_is_never_taken_ends_in_an_error() {
    let host = FakeHost::new();
    cloud(&host, |_| false);
    let collector = collector(&host, ENDPOINT);

    let error = collector.check().unwrap_err();

    assert_eq!(error.status, Status::Unauthorized);
    assert!(error.message.starts_with("`http://gnocchi.test`: HTTP status 401: "), "{error}");
    assert_eq!((logins(&host), host.requests().len()), (2, 4));
}

#[test]
fn many_threads_ask_for_one_token() {
    let host = FakeHost::new();
    let (asked, arrived) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    // Only who asks for a token is answered by this; the others wait for it, then use the queue.
    host.answer_with(move |request| {
        assert!(request.url.ends_with("/v3/auth/tokens"), "{}", request.url);
        asked.send(()).unwrap();
        gate.recv().unwrap();
        Ok(answer("keystone/token"))
    });
    let collector = collector(&host, ENDPOINT);

    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| collector.check())).collect();
        arrived.recv().unwrap();
        // Those who wait look whether they are still wanted.
        let questions = host.cancellation_questions();
        while host.cancellation_questions() < questions + 7 {
            std::thread::yield_now();
        }
        (0..8).for_each(|_| host.answer(Ok(answer("gnocchi/check"))));
        go.send(()).unwrap();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
    });

    assert_eq!((logins(&host), host.requests().len()), (1, 9));
}

#[test]
fn who_waits_for_a_token_gets_the_failure_too() {
    let host = FakeHost::new();
    let (asked, arrived) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    host.answer_with(move |_| {
        asked.send(()).unwrap();
        gate.recv().unwrap();
        Err(Error::new(Status::Timeout, "no answer"))
    });
    let collector = collector(&host, ENDPOINT);

    std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(|| collector.check()));
        arrived.recv().unwrap();
        // Only the one who waits asks whether it is still wanted.
        let questions = host.cancellation_questions();
        while host.cancellation_questions() == questions {
            std::thread::yield_now();
        }
        go.send(()).unwrap();
        for thread in threads {
            assert_eq!(thread.join().unwrap().unwrap_err().status, Status::Timeout);
        }
    });

    assert_eq!(host.requests().len(), 1);
}

#[test]
fn secrets_are_in_no_error_and_no_log() {
    // The worst that a server can do is to repeat all it got.
    let repeats = |status: u16, request: &rated_plugin::HttpRequest| {
        let body = String::from_utf8_lossy(&request.body);
        let body = format!("{body} {:?}", request.headers).into_bytes();
        HttpResponse { status, headers: std::collections::BTreeMap::new(), body }
    };
    let shown = |host: &FakeHost| {
        let error = collector(host, ENDPOINT).check().unwrap_err();
        format!("{error:?} {:?}", host.logged())
    };
    for status in [200, 400, 401, 500] {
        let host = FakeHost::new();
        host.answer_with(move |request| Ok(repeats(status, request)));
        let login = shown(&host);
        assert!(login.contains("(hidden)") && !login.contains("change me"), "{login}");

        let host = FakeHost::new();
        host.answer_with(move |request| {
            if request.url.ends_with("/v3/auth/tokens") {
                return Ok(answer("keystone/token"));
            }
            Ok(repeats(if status == 200 { 404 } else { status }, request))
        });
        let question = tokenless(&shown(&host));
        assert!(question.contains("(hidden)"), "{question}");
    }
}

/// Checks that the recorded token is not there.
fn tokenless(shown: &str) -> String {
    let token = answer("keystone/token").headers["x-subject-token"].clone();
    assert!(!shown.contains(&token), "{shown}");
    shown.to_owned()
}

#[test]
fn a_token_goes_along_with_every_question() {
    let names = ["keystone/token", "gnocchi/metadata", "gnocchi/metadata-resources"];
    let host = host(&names);
    let request =
        request(&json!({}), [&["id"], &["flavor_id", "ram", "no_such"]], &["alpha", "beta"]);

    let batches = collector(&host, ENDPOINT).collect(&request).unwrap();

    assert_eq!(rows(&batches[0]).len(), 4);
    let token = answer("keystone/token").headers["x-subject-token"].clone();
    for request in &host.requests()[1..] {
        assert_eq!(request.headers["x-auth-token"], token);
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_at_once() {
    let refused = |change: &[(&str, &str)], more: &str| {
        let mut config = PASSWORD.to_owned();
        for (from, to) in change {
            assert!(config.contains(from));
            config = config.replace(from, to);
        }
        let config = format!("{config}{more}");
        let error = TestCollector::new::<GnocchiCollector>(&FakeHost::new(), &config).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfig);
        assert!(!error.message.contains("change me"), "{error}");
        error.message
    };
    let check = |message: String, part: &str| assert!(message.contains(part), "{message}");

    check(refused(&[("password = \"change me\"\n", "")], ""), "`password` or `password_file`: is");
    check(refused(&[("username = \"rated\"\n", "")], ""), "one of `username` and `user_id`: must");
    check(refused(&[], "user_id = \"x\""), "`username` and `user_id` exclude each other");
    check(refused(&[], "project_id = \"x\""), "`project_name` and `project_id` exclude each other");
    check(refused(&[], "user_domain_id = \"x\""), "`user_domain_name` and `user_domain_id` ex");
    check(refused(&[], "application_credential_id = \"x\""), "has no use here with `password`");
    check(refused(&[], "system_scope = \"all\""), "`project_name`: has no use here");
    check(refused(&[], "auth_type = \"basic\"\nendpoint = \"http://x\""), "`auth_url`: has no use");
    check(refused(&[], "interface = \"internalURL\""), "unknown variant `internalURL`");
    check(refused(&[], "retries_max = 11"), "`retries_max`: must be between 0 and 10, got 11");
    check(refused(&[("http://keystone.test:5000/v3/", "keystone")], ""), "`auth_url`: must begin");
    check(refused(&[], "password_file = \"/x\""), "`password` and `password_file` exclude");
}
