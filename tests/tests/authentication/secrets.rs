//! Every secret there is, everything that can fail, and nothing of it to be seen anywhere.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use rated_tests::{Daemon, FakeSource, Misbehaviour, Process, build_folder, send_with, wait_until};
use reqwest::Method;
use serde_json::json;

use crate::site::{KNOWN, Site, basic, client};

/// What must never be seen; each is found nowhere else.
const SECRETS: [&str; 9] = [
    "secret-of-keystone-5f1c",
    "secret-of-collector-a9d2",
    "secret-of-fetcher-77e0",
    "secret-of-fetcher-in-environment-31bb",
    "secret-of-broken-plugin-c04e",
    "secret-in-a-file-e8a6",
    "secret-password-that-is-wrong-4d2f",
    "secret-token-that-is-wrong-b6c8",
    "secret-token-of-somebody-19f3",
];

/// The secret and its base64 forms at each of three places in a longer text.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        for offset in 0..3 {
            let encoded = engine.encode("x".repeat(offset) + secret);
            // The first and last characters depend on what stands beside it.
            let begin = if offset == 0 { 0 } else { 4 };
            forms.push(encoded[begin..encoded.len() - 4].to_owned());
        }
    }
    forms
}

#[track_caller]
fn hides_all(what: &str, content: &[u8]) {
    let text = String::from_utf8_lossy(content);
    for secret in SECRETS {
        for form in forms(secret) {
            let at = text.find(&form);
            let shown = at.map(|at| text[at.saturating_sub(200)..].chars().take(400));
            assert!(
                at.is_none(),
                "{what} shows `{secret}`: {}",
                shown.unwrap().collect::<String>()
            );
        }
    }
}

fn hides_all_in(folder: &Path) -> usize {
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += hides_all_in(&path);
        } else {
            // A library is large and was not made by the daemon.
            if path.extension().is_none_or(|ending| ending != "so") {
                hides_all(path.to_str().unwrap(), &fs::read(&path).unwrap());
            }
            count += 1;
        }
    }
    count
}

/// `keystone` and `source` are addresses.
fn config(site: &Site, keystone: &str, source: &str) -> PathBuf {
    let file = site.config(&format!(
        "auth = [\"basic\", \"token\", \"keystone\"]\n\
         [api.keystone]\nurl = \"{keystone}\"\nusername = \"rated\"\nproject_name = \"service\"\n\
         password = \"{}\"\ntimeout_secs = 1\n\
         [api.basic]\nhtpasswd_file = \"htpasswd\"\n[api.token]\nfile = \"tokens.toml\"\n",
        SECRETS[0]
    ));
    let text = fs::read_to_string(&file).unwrap();
    let (head, _) = text.split_once("[collectors.prometheus]").unwrap();
    let head = head.replace("fetchers = []", "fetchers = [\"static\", \"prometheus\", \"other\"]");
    let plugins = format!(
        "[collectors.prometheus]\nurl = \"{source}\"\nbearer_token = \"{}\"\n\
         [fetchers.prometheus]\nurl = \"{source}\"\nmetric = \"m\"\n\
         scope_attribute = \"project_id\"\nusername = \"u\"\npassword = \"{}\"\n\
         [fetchers.other]\nplugin = \"prometheus\"\nurl = \"{source}\"\nmetric = \"m\"\n\
         scope_attribute = \"project_id\"\nusername = \"u\"\n\
         [collectors.filed]\nplugin = \"prometheus\"\nurl = \"{source}\"\n\
         bearer_token_file = \"{}\"\n\
         [fetchers.static]\nscopes = [\"p1\"]\n\
         [collectors.panics]\nplugin = \"hostile\"\ndoes = \"panic in collect\"\n\
         [collectors.refused]\nplugin = \"hostile\"\nrequired = false\npassword = \"{}\"\n",
        SECRETS[1],
        SECRETS[2],
        site.file("a-secret"),
        SECRETS[4],
    );
    fs::write(&file, head + &plugins).unwrap();
    file
}

fn spawn(config: &Path) -> Process {
    let mut command = Command::new(build_folder().join("rated"));
    command
        .arg("serve")
        .arg("--config")
        .arg(config)
        .env("RATED_LOG", "trace")
        .env("RUST_BACKTRACE", "full")
        .env("RATED__FETCHERS__OTHER__PASSWORD", SECRETS[3]);
    Process::start("rated", &mut command)
}

/// Everything that is answered, to right and wrong callers.
fn ask_everything(daemon: &Daemon) -> String {
    let (wrong, stranger) = (basic("ada", SECRETS[6]), format!("Bearer {}", SECRETS[7]));
    let known = format!("Bearer {}", SECRETS[8]);
    let callers: [&[(&str, &str)]; 6] = [
        &[],
        &[("Authorization", &wrong)],
        &[("Authorization", &stranger)],
        &[("X-Auth-Token", SECRETS[7])],
        &[("Authorization", &stranger), ("X-Auth-Token", SECRETS[7])],
        &[("Authorization", &known)],
    ];
    let mut answers = String::new();
    for headers in callers {
        for path in [
            KNOWN,
            "/readyz",
            "/metrics",
            "/openapi.json",
            "/v1/info/metrics",
            "/v1/rating/modules",
            "/v1/rating/reload_modules",
            "/v1/rating/module_config/hashmap/services",
            "/v2/scope",
            "/v2/summary",
            "/nowhere",
        ] {
            let url = format!("{}{path}", daemon.url);
            let answer = send_with(&Method::GET, &url, headers, None).unwrap();
            writeln!(answers, "{path} {} {:?}\n{}", answer.status, answer.headers, answer.text)
                .unwrap();
        }
        let body = json!({"name": "x", "password": "not one of ours"});
        let url = format!("{}/v1/rating/module_config/hashmap/services", daemon.url);
        let answer = send_with(&Method::POST, &url, headers, Some(&body)).unwrap();
        answers += &answer.text;
    }
    answers
}

fn site() -> Site {
    let site = Site::new();
    site.write("a-secret", SECRETS[5]);
    site.write("htpasswd", "ada:$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC\n");
    let hash = {
        use sha2::Digest as _;
        sha2::Sha256::digest(SECRETS[8])
    };
    let token = format!("[[token]]\nname = \"t\"\nsha256 = \"{hash:x}\"\nroles = [\"admin\"]\n");
    site.write("tokens.toml", token);
    let metrics = ["prometheus", "filed", "panics"].map(|collector| {
        format!("[[metric]]\nname = \"{collector}\"\nunit = \"u\"\ncollector = \"{collector}\"\n")
    });
    site.write("metrics.toml", metrics.concat());
    fs::create_dir_all(site.folder.path().join("plugins")).unwrap();
    let library = build_folder().join("examples/libbad_plugin.so");
    fs::copy(library, site.folder.path().join("plugins/libbad_plugin.so")).unwrap();
    site
}

/// The search itself: in any of its forms a secret is found.
#[test]
fn a_secret_that_is_seen_is_found() {
    for secret in SECRETS {
        for beside in ["", "u", "us", "user:"] {
            for text in [
                format!("x {beside}{secret} x"),
                STANDARD_NO_PAD.encode(format!("{beside}{secret}")),
                URL_SAFE_NO_PAD.encode(format!("{beside}{secret}/and more")),
            ] {
                let seen = forms(secret).iter().any(|form| text.contains(form));
                assert!(seen, "{secret} is not found in {text}");
            }
        }
    }
}

#[test]
fn no_secret_is_seen_whatever_fails() {
    let site = site();
    let keystone = FakeSource::start(Misbehaviour::Answer(401, "who are you?".to_owned()));
    let scopes = json!({"status": "success", "data": {"resultType": "vector", "result": [
        {"metric": {"project_id": "p1"}, "value": [1, "1"]},
    ]}});
    let source = FakeSource::start(Misbehaviour::Answer(200, scopes.to_string()));
    let file = config(&site, &keystone.url, &source.url);
    let daemon = Daemon::serving(spawn(&file));

    let mut answers = ask_everything(&daemon);
    wait_until("a collector panics", || {
        daemon.process.output().contains("collect went wrong").then_some(())
    });
    for manner in [
        Misbehaviour::Answer(200, "{\"token\": {}}".to_owned()),
        Misbehaviour::Answer(500, "oops".to_owned()),
        Misbehaviour::HalfOf("{\"token\": {}}".to_owned()),
        Misbehaviour::Silence,
        Misbehaviour::Hang,
    ] {
        keystone.set(manner.clone());
        source.set(manner);
        let url = format!("{}{KNOWN}", daemon.url);
        let headers = [("X-Auth-Token", SECRETS[7])];
        let answer = send_with(&Method::GET, &url, &headers, None).unwrap();
        assert_eq!(answer.status, 503);
        answers += &answer.text;
    }
    keystone.set(Misbehaviour::Answer(404, "nobody".to_owned()));
    source.set(Misbehaviour::Answer(401, "who are you?".to_owned()));
    daemon.process.signal("HUP");
    answers += &ask_everything(&daemon);

    let mut process = daemon.process;
    process.signal("TERM");
    process.wait(std::time::Duration::from_secs(30));
    let output = process.output();
    // It did speak, at the finest level.
    assert!(output.contains("TRACE") && output.contains("401"), "{output}");
    hides_all("the output", output.as_bytes());
    hides_all("an answer", answers.as_bytes());
    assert!(hides_all_in(&site.folder.path().join("state")) > 3);
}

#[test]
fn no_secret_is_seen_in_what_refuses_a_configuration() {
    let site = site();
    let file = config(&site, "http://127.0.0.1:1", "http://127.0.0.1:1");
    let text = fs::read_to_string(&file).unwrap();
    let broken = [
        text.replace("timeout_secs = 1", "timeout = 1"),
        text.replace(
            "project_name = \"service\"\npassword = ",
            "project_name = \"service\"\npasword = ",
        ),
        text.replace("username = \"rated\"", "user = \"rated\""),
        // A missing quote: the secret stands where the file stops being TOML.
        text.replacen(&format!("\"{}\"", SECRETS[0]), &format!("\"{}", SECRETS[0]), 1),
        text.replacen(&format!("\"{}\"", SECRETS[1]), SECRETS[1], 1),
        text.replacen(&format!("\"{}\"", SECRETS[1]), &format!("[\"{}\"]", SECRETS[1]), 1),
        text.replacen("url = \"http://", &format!("url = \"http://u:{}@", SECRETS[0]), 1),
        text.replace("scope_attribute", "scope_attribut"),
        text.replace("http://127.0.0.1:1\"\nbearer", "ftp://127.0.0.1:1\"\nbearer"),
    ];
    for (index, broken) in broken.iter().enumerate() {
        assert_ne!(*broken, text, "configuration {index} is not broken");
        fs::write(&file, broken).unwrap();

        let (succeeded, checked) = client(&["check", "--config", file.to_str().unwrap()], &[]);
        let mut process = spawn(&file);
        let status = process.wait(std::time::Duration::from_secs(30));

        assert!(!succeeded && !status.success(), "configuration {index} is accepted:\n{checked}");
        hides_all(&format!("the check of configuration {index}"), checked.as_bytes());
        hides_all(&format!("the start of configuration {index}"), process.output().as_bytes());
    }
}
