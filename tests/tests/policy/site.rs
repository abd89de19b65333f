//! A daemon with two tenants, and those who call it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rated_tests::{Daemon, wait_until};
use reqwest::blocking::{Client, Response};
use reqwest::{Method, redirect};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::table::Row;

const ONE: &str = "8f82cc70-e50c-466e-8624-24bdea811375";
const TWO: &str = "7606a24a-b8ad-4ae0-be6c-3d7a41334a2e";

/// Who calls.
#[derive(Debug)]
pub struct Caller {
    pub name: &'static str,
    scope: Option<&'static str>,
    /// Without any there is no token.
    roles: &'static [&'static str],
}

/// The columns of the tables.
pub const CALLERS: [Caller; 5] = [
    Caller { name: "anonymous", scope: None, roles: &[] },
    Caller { name: "other", scope: Some(TWO), roles: &["member", "reader"] },
    Caller { name: "owner", scope: Some(ONE), roles: &["member", "reader"] },
    Caller { name: "reader", scope: Some(ONE), roles: &["reader"] },
    Caller { name: "admin", scope: None, roles: &["admin"] },
];

/// What is one tenant's, wherever it stands in an answer.
const MARKS: [(&str, &[&str]); 6] = [
    ("one", &[ONE, "vm-one"]),
    ("two", &[TWO, "vm-two"]),
    ("1.237", &["1.237"]),
    ("10.519", &["10.519"]),
    ("11.756", &["11.756"]),
    // What only those may know who run the daemon.
    ("source", &["127.0.0.1:9"]),
];

/// What stands for longer texts in the tables.
const SHORT: [(&str, &str); 4] = [
    ("<one>", ONE),
    ("<two>", TWO),
    ("<nobody>", "00000000-0000-4000-8000-000000000000"),
    ("<2015>", "begin=2015-01-01T00:00:00&end=2016-01-01T00:00:00"),
];

const METRICS: &str = "[[metric]]\nname = \"cpu\"\nunit = \"instance\"\ngroupby = [\"id\"]\n";

#[derive(Debug)]
pub struct Site {
    daemon: Daemon,
    client: Client,
}

/// Most of an answer that a failing test shows, bytes.
const SHOWN_SIZE_MAX: usize = 400;

/// What a caller was answered.
#[derive(Debug)]
pub struct Found {
    /// In the form of the tables.
    pub cell: String,
    pub body: String,
}

/// A file of the sample configuration.
pub fn config(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config").join(name)
}

fn token(caller: &Caller) -> String {
    format!("the-token-of-{}-and-sixteen-more", caller.name)
}

fn written_out(text: &str) -> String {
    SHORT.iter().fold(text.to_owned(), |text, (short, long)| text.replace(short, long))
}

impl Site {
    /// `policy`: rules in place of the default ones.
    pub fn start(folder: &Path, policy: &str) -> Site {
        let mut tokens = String::new();
        for caller in CALLERS.iter().filter(|caller| !caller.roles.is_empty()) {
            let digest = Sha256::digest(token(caller));
            let Caller { name, roles, scope } = caller;
            writeln!(tokens, "[[token]]\nname = \"{name}\"\nsha256 = \"{digest:x}\"").unwrap();
            writeln!(tokens, "roles = {roles:?}").unwrap();
            if let Some(scope) = scope {
                writeln!(tokens, "scope = \"{scope}\"").unwrap();
            }
        }
        fs::write(folder.join("tokens.toml"), tokens).unwrap();
        fs::write(folder.join("policy.toml"), policy).unwrap();
        fs::write(folder.join("metrics.toml"), METRICS).unwrap();
        let file = folder.join("rated.toml");
        let config = "[daemon]\nstate_dir = \"state\"\n\
             [api]\nlisten = \"127.0.0.1:0\"\nauth = \"token\"\npolicy = \"policy.toml\"\n\
             [api.token]\nfile = \"tokens.toml\"\n\
             [collect]\nschedule = \"0 0 0 1 1 *\"\nfetchers = []\nscope_key = \"project_id\"\n\
             collector = \"prometheus\"\n\
             [collect.retry]\ndelay_secs_min = 3600\n\
             [collectors.prometheus]\nurl = \"http://127.0.0.1:9\"\n\
             [rating.hashmap]\n[rating.pyscripts]\nenabled = false\n";
        fs::write(&file, config).unwrap();
        // Another test of the same process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().redirect(redirect::Policy::none()).no_proxy();
        let client = client.timeout(Duration::from_secs(30)).tls_certs_only([]).build().unwrap();
        let site = Site { daemon: Daemon::start(&file), client };
        site.fill();
        // From then on nothing changes by itself: nobody answers for an hour.
        wait_until("the source has failed", || {
            let ready = site.admin("GET", "/readyz", &Value::Null, 200);
            (!ready["troubles"].as_array()?.is_empty()).then_some(())
        });
        site
    }

    pub fn url(&self) -> &str {
        &self.daemon.url
    }

    pub fn stop(self) {
        self.daemon.stop();
    }

    /// A point and a scope for each tenant, and rules for both.
    fn fill(&self) {
        for (scope, id, price) in [(ONE, "vm-one", 1.237), (TWO, "vm-two", 10.519)] {
            let point = json!({"vol": {"unit": "instance", "qty": 1}, "rating": {"price": price},
                               "groupby": {"project_id": scope, "id": id}, "metadata": {}});
            let period = json!({"begin": "2015-01-04T10:00:00Z", "end": "2015-01-04T11:00:00Z"});
            let frames = json!({"dataframes": [{"period": period, "usage": {"cpu": [point]}}]});
            self.admin("POST", "/v2/dataframes", &frames, 204);
            let scope =
                json!({"scope_id": scope, "last_processed_timestamp": "2015-01-04T11:00:00Z"});
            self.admin("POST", "/v2/scope", &scope, 200);
        }
        let hashmap = "/v1/rating/module_config/hashmap";
        let service =
            self.admin("POST", &format!("{hashmap}/services"), &json!({"name": "cpu"}), 201);
        for (scope, cost) in [(ONE, "1.237"), (TWO, "10.519")] {
            let rule =
                json!({"service_id": service["service_id"], "tenant_id": scope, "cost": cost});
            self.admin("POST", &format!("{hashmap}/mappings"), &rule, 201);
        }
        for scope in [ONE, TWO] {
            let task = json!({"scope_ids": [scope], "reason": "r",
                              "start_reprocess_time": "2015-01-04T11:00:00Z",
                              "end_reprocess_time": "2015-01-04T11:00:00Z"});
            self.admin("POST", "/v2/task/reprocesses", &task, 202);
        }
    }

    fn admin(&self, method: &str, target: &str, body: &Value, status: u16) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.send(&CALLERS[4], (method, target), "application/json", &body);
        let found = answer.status().as_u16();
        let text = answer.text().unwrap();
        assert_eq!(found, status, "{method} {target}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    pub fn ask(&self, caller: &Caller, row: &Row) -> Found {
        let (target, body) = (written_out(&row.target), written_out(&row.body));
        let answer = self.send(caller, (&row.method, &target), &row.accept, &body);
        let mut cell = answer.status().as_u16().to_string();
        let mut body = answer.text().unwrap();
        for (name, texts) in MARKS {
            if texts.iter().any(|text| body.contains(text)) {
                write!(cell, " {name}").unwrap();
            }
        }
        body.truncate(body.floor_char_boundary(SHOWN_SIZE_MAX));
        Found { cell, body }
    }

    fn send(
        &self,
        caller: &Caller,
        (method, target): (&str, &str),
        accept: &str,
        body: &str,
    ) -> Response {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{target}", self.url());
        let mut request = self.client.request(method, url).header("Accept", accept);
        if !caller.roles.is_empty() {
            request = request.header("Authorization", format!("Bearer {}", token(caller)));
        }
        if !body.is_empty() {
            request = request.header("Content-Type", "application/json").body(body.to_owned());
        }
        request.send().unwrap_or_else(|error| panic!("{target}: {error}"))
    }
}
