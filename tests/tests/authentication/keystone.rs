//! Tokens of a real Keystone.

use std::time::{Duration, Instant};

use rated_tests::{ADMIN, ADMIN_PASSWORD, Daemon, Keystone, Target, User, wait_until};
use serde_json::json;

use crate::site::{KNOWN, Site, ask, says, status};

/// A Keystone with a project and somebody who may read it.
struct Cloud {
    site: Site,
    keystone: Keystone,
    project: String,
    user: User,
}

impl Cloud {
    fn new(lifetime: Duration) -> Cloud {
        let site = Site::new();
        let keystone = Keystone::with_token_lifetime(site.folder.path(), lifetime);
        let project = keystone.api.create_project("blue");
        let user = keystone.api.create_user("alice", "wonderland");
        keystone.api.assign(&user, "reader", Target::Project(&project));
        Cloud { site, keystone, project, user }
    }

    fn api(&self, fields: &str) -> String {
        format!(
            "auth = \"keystone\"\n[api.keystone]\nurl = \"{}\"\nusername = \"{ADMIN}\"\n\
             password = \"{ADMIN_PASSWORD}\"\nproject_name = \"admin\"\n{fields}\n",
            self.keystone.api.url
        )
    }

    fn start(&self, fields: &str) -> Daemon {
        self.site.start(&self.api(fields))
    }

    fn token(&self) -> String {
        self.keystone.api.token(&self.user, Target::Project(&self.project))
    }

    /// Questions about tokens that Keystone has answered so far.
    fn questions(&self) -> usize {
        self.keystone.server.answered("GET /v3/auth/tokens")
    }
}

const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_token_of_the_cloud_is_known_and_a_wrong_one_is_not() {
    let cloud = Cloud::new(HOUR);
    let daemon = cloud.start("www_authenticate_uri = \"https://cloud.example:5000\"");

    assert_eq!(status(&daemon, &[("X-Auth-Token", &cloud.token())]), 200);
    let admin = cloud.keystone.api.admin_token();
    assert_eq!(ask(&daemon, "/v1/rating/modules", &[("X-Auth-Token", &admin)]).status, 200);
    let unscoped = cloud.keystone.api.token(&cloud.user, Target::Nothing);
    assert_eq!(status(&daemon, &[("X-Auth-Token", &unscoped)]), 200);
    let headers: [&[(&str, &str)]; 3] =
        [&[], &[("X-Auth-Token", "wrong")], &[("Authorization", "Bearer wrong")]];
    for headers in headers {
        let answer = ask(&daemon, KNOWN, headers);

        let message = "The request you have made requires authentication.";
        let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
        let challenge = "Keystone uri=\"https://cloud.example:5000\"";
        assert_eq!(answer.header("www-authenticate"), Some(challenge));
        assert_eq!(answer.expect(401), body);
    }
    daemon.stop();
}

#[test]
fn a_burst_of_one_token_asks_keystone_once() {
    let cloud = Cloud::new(HOUR);
    let daemon = cloud.start("");
    let token = cloud.token();
    let before = cloud.questions();

    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200));
        }
    });

    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    assert_eq!(cloud.questions() - before, 1);
    daemon.stop();
}

#[test]
fn a_revoked_token_is_refused_at_once_without_a_cache() {
    let cloud = Cloud::new(HOUR);
    let daemon = cloud.start("cache_secs = 0");
    let token = cloud.token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);

    cloud.keystone.api.revoke(&token);

    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 401);
    // Losing the role counts, too: Keystone revokes nothing then, and the token is void.
    let token = cloud.token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    cloud.keystone.api.set_project_enabled(&cloud.project, false);
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 401);
    daemon.stop();
}

#[test]
fn a_revoked_token_is_refused_when_the_cache_ends() {
    let cloud = Cloud::new(HOUR);
    let daemon = cloud.start("cache_secs = 3");
    let token = cloud.token();
    let asked = Instant::now();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    cloud.keystone.api.revoke(&token);

    let last_good = wait_until("the token is refused", || {
        let begin = Instant::now();
        match status(&daemon, &[("X-Auth-Token", &token)]) {
            401 => Some(begin),
            other => {
                assert_eq!(other, 200);
                assert!(begin - asked < Duration::from_secs(5), "believed for too long");
                None
            }
        }
    });

    // It was believed for its time, or nothing is cached.
    assert!(last_good - asked >= Duration::from_secs(2), "{:?}", last_good - asked);
    daemon.stop();
}

#[test]
fn an_expired_token_is_refused_though_it_is_cached() {
    let cloud = Cloud::new(Duration::from_secs(5));
    let daemon = cloud.start("cache_secs = 300");
    let token = cloud.token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);

    wait_until("the token is refused", || {
        (status(&daemon, &[("X-Auth-Token", &token)]) == 401).then_some(())
    });

    // Our own token has expired as well, and was renewed.
    assert_eq!(status(&daemon, &[("X-Auth-Token", &cloud.token())]), 200);
    assert!(!daemon.process.output().contains("could not be answered"));
    daemon.stop();
}

#[test]
fn a_keystone_that_is_gone_is_neither_a_yes_nor_a_no() {
    let mut cloud = Cloud::new(HOUR);
    let mut daemon = cloud.start("cache_secs = 0\ntimeout_secs = 1");
    let token = cloud.token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    let unavailable = |daemon: &Daemon, token: &str| {
        let answer = ask(daemon, KNOWN, &[("X-Auth-Token", token)]);
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(answer.header("retry-after"), Some("5"));
        assert!(!answer.text.contains("Keystone"), "{}", answer.text);
    };

    cloud.keystone.server.pause();
    unavailable(&daemon, &token);
    unavailable(&daemon, "wrong");
    cloud.keystone.server.resume();
    wait_until("Keystone answers again", || {
        (status(&daemon, &[("X-Auth-Token", &token)]) == 200).then_some(())
    });
    cloud.keystone.server.kill();
    unavailable(&daemon, &token);
    cloud.keystone.server.start_again();
    wait_until("Keystone answers again", || {
        (status(&daemon, &[("X-Auth-Token", &token)]) == 200).then_some(())
    });

    says(&mut daemon, "no answer in time");
    says(&mut daemon, "Connection refused");
    assert!(!daemon.process.output().contains(&token));
    // Who needs no token never waited.
    assert_eq!(ask(&daemon, "/healthz", &[]).status, 200);
    daemon.stop();
}

#[test]
fn what_is_cached_holds_while_keystone_is_gone() {
    let mut cloud = Cloud::new(HOUR);
    let daemon = cloud.start("timeout_secs = 1");
    let token = cloud.token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);

    cloud.keystone.server.kill();

    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    assert_eq!(status(&daemon, &[("X-Auth-Token", "other")]), 503);
    daemon.stop();
}

#[test]
fn a_daemon_that_cannot_log_in_says_why_and_lets_nobody_in() {
    let cloud = Cloud::new(HOUR);
    let api = cloud.api("").replace(ADMIN_PASSWORD, "not-the-password");
    let mut daemon = cloud.site.start(&api);
    let answer = ask(&daemon, KNOWN, &[("X-Auth-Token", &cloud.token())]);
    assert_eq!(answer.status, 503);
    says(&mut daemon, "refuses the service user");
    assert!(!daemon.process.output().contains("not-the-password"));
    daemon.stop();

    // A user who may ask nothing about others.
    let api = cloud
        .api("")
        .replace(
            &format!("\"{ADMIN}\"\npassword = \"{ADMIN_PASSWORD}\""),
            "\"alice\"\npassword = \"wonderland\"",
        )
        .replace("project_name = \"admin\"", "project_name = \"blue\"");
    let mut daemon = cloud.site.start(&api);
    let somebody = cloud.keystone.api.admin_token();
    assert_eq!(status(&daemon, &[("X-Auth-Token", &somebody)]), 503);
    says(&mut daemon, "needs the role `admin` or `service`");
    daemon.stop();
}

#[test]
fn an_application_credential_in_a_file_logs_in() {
    let cloud = Cloud::new(HOUR);
    let service = cloud.keystone.api.create_user("rated", "x");
    cloud.keystone.api.assign(&service, "service", Target::Project(&cloud.project));
    let credential =
        cloud.keystone.api.create_application_credential(&service, &cloud.project, "daemon");
    cloud.site.write("secret", format!("{}\n", credential.secret));
    let api = format!(
        "auth = \"keystone\"\n[api.keystone]\nurl = \"{}\"\n\
         application_credential_id = \"{}\"\napplication_credential_secret_file = \"secret\"\n",
        cloud.keystone.api.url, credential.id
    );

    let daemon = cloud.site.start(&api);

    assert_eq!(status(&daemon, &[("X-Auth-Token", &cloud.token())]), 200);
    daemon.stop();
}
