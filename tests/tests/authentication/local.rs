//! Passwords and static tokens.

use std::time::Duration;

use rated_tests::wait_until;
use serde_json::json;

use crate::site::{KNOWN, Site, ask, basic, client, says, status};

/// The example of Apache's documentation: the password is `myPassword`.
const HASH: &str = "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
const PASSWORD: &str = "myPassword";

/// Makes a token as an operator does; the token and the lines for the file.
fn new_token(arguments: &[&str]) -> (String, String) {
    let (succeeded, text) = client(&[&["token", "new"], arguments].concat(), &[]);
    assert!(succeeded, "{text}");
    let (token, rest) = text.split_once("\n\n").unwrap();
    let (_, entry) = rest.split_once("\n\n").unwrap();
    assert!(token.starts_with("rated_") && token.len() == 49, "{token}");
    (token.to_owned(), entry.to_owned())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_caller_is_known_by_what_is_right_and_by_nothing_else() {
    let site = Site::new();
    let (token, entry) = new_token(&["machine", "--role", "reader", "--scope", "p1"]);
    let expired = ["old", "--role", "admin", "--expires", "2020-01-01T00:00:00Z"];
    let (expired, expired_entry) = new_token(&expired);
    site.write("tokens.toml", entry + &expired_entry);
    site.write("htpasswd", format!("ada:{HASH}\n"));
    let daemon = site.start(
        "auth = [\"basic\", \"token\"]\n[api.token]\nfile = \"tokens.toml\"\n\
         [api.basic]\nhtpasswd_file = \"htpasswd\"\n",
    );

    let (ada, machine) = (basic("ada", PASSWORD), bearer(&token));
    assert_eq!(status(&daemon, &[("Authorization", &ada)]), 200);
    assert_eq!(status(&daemon, &[("Authorization", &machine)]), 200);
    assert_eq!(status(&daemon, &[("X-Auth-Token", &token)]), 200);
    let long = bearer(&"x".repeat(9000));
    for wrong in [
        vec![],
        vec![("Authorization", basic("ada", "mypassword"))],
        vec![("Authorization", basic("bob", PASSWORD))],
        vec![("Authorization", basic("", ""))],
        vec![("Authorization", "Basic %%%".to_owned())],
        vec![("Authorization", bearer(&expired))],
        vec![("Authorization", bearer(&token[1..]))],
        vec![("Authorization", bearer(""))],
        vec![("Authorization", long)],
        vec![("Authorization", token.clone())],
        vec![("Authorization", format!("Digest {token}"))],
        vec![("X-Auth-Token", String::new())],
        vec![("X-Auth-Token", expired.clone())],
        vec![("X-Roles", "admin".to_owned()), ("X-Identity-Status", "Confirmed".to_owned())],
        // Two at once, each of them right.
        vec![("Authorization", machine.clone()), ("X-Auth-Token", token.clone())],
        vec![("Authorization", machine.clone()), ("Authorization", ada.clone())],
    ] {
        let headers: Vec<(&str, &str)> =
            wrong.iter().map(|(name, value)| (*name, value.as_str())).collect();

        let answer = ask(&daemon, KNOWN, &headers);

        let message = "The request you have made requires authentication.";
        let body = json!({"error": {"code": 401, "title": "Unauthorized", "message": message}});
        assert_eq!(answer.expect(401), body, "{headers:?}");
        let challenges: Vec<&str> = answer
            .headers
            .iter()
            .filter(|(name, _)| name == "www-authenticate")
            .map(|(_, value)| value.as_str())
            .collect();
        let expected = ["Bearer realm=\"rated\"", "Basic realm=\"rated\", charset=\"UTF-8\""];
        assert_eq!(challenges, expected);
    }
    assert_eq!(ask(&daemon, "/healthz", &[]).status, 200);
    daemon.stop();
}

#[test]
fn rights_stand_in_the_configuration_and_in_the_file() {
    let site = Site::new();
    let (monitor, entry) = new_token(&["prometheus", "--role", "monitoring"]);
    site.write("tokens.toml", entry);
    site.write("htpasswd", format!("root:{HASH}\nguest:{HASH}\n"));
    let daemon = site.start(
        "auth = [\"basic\", \"token\"]\n[api.token]\nfile = \"tokens.toml\"\n\
         [api.basic]\nhtpasswd_file = \"htpasswd\"\n[api.basic.users.root]\nroles = [\"admin\"]\n",
    );
    let admin = basic("root", PASSWORD);
    let guest = basic("guest", PASSWORD);
    let monitor = bearer(&monitor);

    let get = |path, who: &str| ask(&daemon, path, &[("Authorization", who)]).status;
    assert_eq!(get("/v1/rating/modules", &admin), 200);
    assert_eq!(get("/v1/rating/modules", &guest), 403);
    assert_eq!(get("/v1/rating/modules", &monitor), 403);
    assert_eq!(get("/metrics", &monitor), 200);
    assert_eq!(get("/metrics", &guest), 403);
    let metrics = ask(&daemon, "/metrics", &[("Authorization", &monitor)]).text;
    let counted = |labels: &str| metrics.contains(&format!("rated_authentications_total{labels}"));
    assert!(counted("{method=\"basic\",outcome=\"known\"} 3"), "{metrics}");
    assert!(counted("{method=\"token\",outcome=\"known\"} 3"), "{metrics}");
    daemon.stop();
}

#[test]
fn files_are_read_again_when_they_change() {
    let site = Site::new();
    let (first, first_entry) = new_token(&["first"]);
    let (second, second_entry) = new_token(&["second"]);
    site.write("tokens.toml", first_entry);
    site.write("htpasswd", "");
    let mut daemon = site.start(
        "auth = [\"basic\", \"token\"]\n[api.token]\nfile = \"tokens.toml\"\n\
         [api.basic]\nhtpasswd_file = \"htpasswd\"\n",
    );
    let (first, second) = (bearer(&first), bearer(&second));
    assert_eq!(status(&daemon, &[("Authorization", &first)]), 200);
    assert_eq!(status(&daemon, &[("Authorization", &second)]), 401);

    site.write("tokens.toml", second_entry);
    site.write("htpasswd", format!("ada:{HASH}\n"));
    daemon.process.signal("HUP");

    let ada = basic("ada", PASSWORD);
    for (known, expected) in [(&second, 200), (&first, 401), (&ada, 200)] {
        wait_until("the new files are in force", || {
            (status(&daemon, &[("Authorization", known)]) == expected).then_some(())
        });
    }
    site.write("tokens.toml", "[[token]]\nname = \"x\"\nsha256 = \"plain-text-by-mistake\"\n");
    says(&mut daemon, "must be the SHA-256 of the token");
    assert!(!daemon.process.output().contains("plain-text-by-mistake"));
    assert_eq!(status(&daemon, &[("Authorization", &second)]), 200);
    daemon.stop();
}

#[test]
fn guessing_is_slowed_down_and_stops_nobody_else() {
    let site = Site::new();
    site.write("htpasswd", format!("ada:{HASH}\nbob:{HASH}\n"));
    let daemon = site.start("auth = \"basic\"\n[api.basic]\nhtpasswd_file = \"htpasswd\"\n");

    let statuses: Vec<u16> = (0..20)
        .map(|index| {
            let guess = basic("ada", &format!("guess-{index}"));
            status(&daemon, &[("Authorization", &guess)])
        })
        .collect();

    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10..], [429; 10]);
    assert_eq!(status(&daemon, &[("Authorization", &basic("bob", PASSWORD))]), 200);
    daemon.stop();
}

#[test]
fn weak_hashes_are_refused_with_file_and_line() {
    let site = Site::new();
    site.write("htpasswd", format!("ada:{HASH}\neve:$apr1$x$Of3rJ9nXiU1pyQG7DEKAi0\n"));
    let api = "auth = \"basic\"\n[api.basic]\nhtpasswd_file = \"htpasswd\"\n";

    let served = site.fails(api);
    let (succeeded, checked) = client(&["check", "--config", &site.file("rated.toml")], &[]);

    assert!(!succeeded);
    for text in [served, checked] {
        assert!(text.contains(&site.file("htpasswd")), "{text}");
        assert!(text.contains("line 2: the hash must be bcrypt"), "{text}");
        assert!(!text.contains("Of3rJ9nXiU1pyQG7DEKAi0"), "{text}");
    }
}

#[test]
fn the_command_line_says_who_asks() {
    let site = Site::new();
    let (token, entry) = new_token(&["operator", "--role", "admin"]);
    let (reader, reader_entry) = new_token(&["reader", "--role", "reader"]);
    site.write("tokens.toml", entry + &reader_entry);
    site.write("htpasswd", format!("ada:{HASH}\n"));
    let daemon = site.start(
        "auth = [\"basic\", \"token\"]\n[api.token]\nfile = \"tokens.toml\"\n\
         [api.basic]\nhtpasswd_file = \"htpasswd\"\n[api.basic.users.ada]\nroles = [\"admin\"]\n",
    );
    let list = |variables: &[(&str, &str)]| {
        client(&["module", "list"], &[&[("RATED_URL", daemon.url.as_str())], variables].concat())
    };

    let (succeeded, text) = list(&[]);
    assert!(!succeeded && text.contains("requires authentication"), "{text}");
    assert!(text.contains("hint: RATED_TOKEN, RATED_USERNAME with RATED_PASSWORD"), "{text}");
    let (succeeded, text) = list(&[("RATED_TOKEN", &reader)]);
    assert!(!succeeded && text.contains("answer 403"), "{text}");
    for who in [
        vec![("RATED_TOKEN", token.as_str())],
        vec![("OS_TOKEN", token.as_str())],
        vec![("RATED_USERNAME", "ada"), ("RATED_PASSWORD", PASSWORD)],
    ] {
        let (succeeded, text) = list(&who);
        assert!(succeeded && text.contains("hashmap"), "{text}");
    }
    daemon.stop();
}

/// More guesses of names that do not exist than four cores can compare while anybody waits.
#[test]
fn an_attack_on_passwords_leaves_the_rest_of_the_api_alone() {
    let site = Site::new();
    // The same with 128 times the rounds: whose password it is matters to nobody here.
    let costly = HASH.replace("$05$", "$12$");
    site.write("htpasswd", format!("ada:{costly}\n"));
    let daemon = site.start("auth = \"basic\"\n[api.basic]\nhtpasswd_file = \"htpasswd\"\n");

    let (answered, slowest) = std::thread::scope(|scope| {
        let guesses: Vec<_> = (0..150)
            .map(|index| {
                let daemon = &daemon;
                scope.spawn(move || {
                    status(daemon, &[("Authorization", &basic(&format!("u{index}"), "guess"))])
                })
            })
            .collect();
        let mut slowest = Duration::ZERO;
        while !guesses.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            let begin = std::time::Instant::now();
            assert_eq!(ask(&daemon, "/healthz", &[]).status, 200);
            slowest = slowest.max(begin.elapsed());
        }
        let answered: Vec<u16> = guesses.into_iter().map(|guess| guess.join().unwrap()).collect();
        (answered, slowest)
    });

    assert!(answered.iter().all(|status| [401, 503].contains(status)), "{answered:?}");
    // Those who found no place in time are told to come back.
    assert!(answered.contains(&401) && answered.contains(&503), "{answered:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    daemon.stop();
}
