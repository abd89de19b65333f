//! A real Gnocchi, and what a test puts into it as its administrator.

use std::fs;
use std::path::Path;
use std::process::Command;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::{Map, Number, Value, json};

use crate::{
    ADMIN, Answer, ApiServer, Keystone, KeystoneApi, Launch, Postgres, REGION, Target,
    copy_template, let_everybody_through, openstack_program, run, send_with,
};

/// Its database and the folder of that.
const DATABASE: &str = "gnocchi";
/// So few that lists of resources have several pages.
const RESOURCES_IN_ANSWER_MAX: u32 = 4;
/// Gnocchi's own user in Keystone.
const SERVICE_PASSWORD: &str = "gnocchi-secret";

/// A server with files for measures and `PostgreSQL` for its index.
///
/// There is no `metricd`: [`Gnocchi::push`] has the API work in what it pushes before it returns.
#[derive(Debug)]
pub struct Gnocchi {
    // Fields are dropped from top to bottom: the API before what it asks.
    pub server: ApiServer,
    database: Postgres,
    /// Without `Some` the API asks for a name only.
    keystone: Option<KeystoneApi>,
}

/// How Gnocchi keeps the measures of a metric.
#[derive(Debug, Clone, Copy)]
pub struct ArchivePolicy<'a> {
    pub name: &'a str,
    /// Such as `rate:mean`; `mean` must be among them, [`Gnocchi::push`] asks for it.
    pub methods: &'a [&'a str],
    /// Seconds, and how many of them are kept: what is older than the newest measure by more than
    /// their product is thrown away.
    pub granularities: &'a [(u32, u32)],
}

/// Measures of one metric of one resource.
#[derive(Debug, Clone)]
pub struct Measures {
    pub resource: String,
    pub metric: String,
    /// Each value as the text of a number.
    pub points: Vec<(DateTime<Utc>, String)>,
}

impl Gnocchi {
    /// Anybody who says to be `admin` is; Gnocchi does not look at passwords in this mode.
    pub fn with_basic_authentication(folder: &Path) -> Gnocchi {
        Gnocchi::start(folder, "auth_mode = basic\n", None)
    }

    /// Tokens are checked by a Keystone, whose catalogue gets the endpoints `metric`.
    pub fn with_keystone(folder: &Path, keystone: &Keystone) -> Gnocchi {
        let api = &keystone.api;
        let project = api.create_project("service");
        let user = api.create_user("gnocchi", SERVICE_PASSWORD);
        api.assign(&user, ADMIN, Target::Project(&project));
        let config = format!(
            "auth_mode = keystone\n\
             [keystone_authtoken]\nauth_type = password\nauth_url = {url}\n\
             www_authenticate_uri = {url}\nregion_name = {REGION}\ninterface = internal\n\
             username = gnocchi\npassword = {SERVICE_PASSWORD}\nproject_name = service\n\
             user_domain_id = default\nproject_domain_id = default\n",
            url = api.url
        );
        let gnocchi = Gnocchi::start(folder, &config, Some(api.clone()));
        api.add_service("metric", "gnocchi", &gnocchi.server.url());
        gnocchi
    }

    fn start(folder: &Path, access: &str, keystone: Option<KeystoneApi>) -> Gnocchi {
        let_everybody_through(folder);
        let folder = folder.join("gnocchi");
        copy_template("gnocchi", &folder, make_template);
        let database = Postgres::start(&folder.join("database"));
        write_config(&folder, &database, access);
        let server = ApiServer::start(Launch {
            name: "gnocchi",
            module: "gnocchi.wsgi.api",
            threads: 8,
            log: folder.join("requests.log"),
            // Gnocchi and its check of tokens look for `gnocchi.conf` there, each by itself; an
            // argument would be seen by the first only.
            environment: vec![("HOME", folder)],
        });
        Gnocchi { server, database, keystone }
    }

    /// Without the version: `http://127.0.0.1:8041`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    pub fn create_archive_policy(&self, policy: ArchivePolicy<'_>) {
        let definition: Vec<Value> = policy
            .granularities
            .iter()
            .map(|(seconds, points)| json!({"granularity": seconds, "points": points}))
            .collect();
        let body = json!({
            "name": policy.name,
            "back_window": 0,
            "definition": definition,
            "aggregation_methods": policy.methods,
        });
        self.ask(&Method::POST, "/archive_policy", Some(&body)).expect(201);
    }

    /// Resources with optional texts as attributes.
    pub fn create_resource_type(&self, name: &str, attributes: &[&str]) {
        let text = json!({"type": "string", "required": false, "max_length": 255});
        let attributes: Map<String, Value> =
            attributes.iter().map(|name| ((*name).to_owned(), text.clone())).collect();
        let body = json!({"name": name, "attributes": attributes});
        self.ask(&Method::POST, "/resource_type", Some(&body)).expect(201);
    }

    /// A resource with its `id` (a UUID), its other attributes and its metrics, each with the name
    /// of its archive policy.
    pub fn create_resource(&self, kind: &str, attributes: &Value, metrics: &[(&str, &str)]) {
        let metrics: Map<String, Value> = metrics
            .iter()
            .map(|(name, policy)| ((*name).to_owned(), json!({"archive_policy_name": policy})))
            .collect();
        let mut body = attributes.clone();
        body["metrics"] = Value::Object(metrics);
        self.ask(&Method::POST, &format!("/resource/{kind}"), Some(&body)).expect(201);
    }

    /// Changes attributes of a resource, which makes a new revision of it.
    pub fn change_resource(&self, kind: &str, id: &str, attributes: &Value) {
        let path = format!("/resource/{kind}/{id}");
        self.ask(&Method::PATCH, &path, Some(attributes)).expect(200);
    }

    /// Moves a moment in the life of a resource: when its newest revision began, and with that
    /// when the one before ended. Gnocchi takes these from the clock and offers no way to set them.
    pub fn set_revision_start(&self, id: &str, from: DateTime<Utc>) {
        let from = from.format("%Y-%m-%d %H:%M:%S%.6f");
        self.database.execute(
            DATABASE,
            &format!(
                "UPDATE resource_history SET revision_end = '{from}' WHERE id = '{id}' AND \
                 revision = (SELECT max(revision) FROM resource_history WHERE id = '{id}'); \
                 UPDATE resource SET revision_start = '{from}', \
                 started_at = least(started_at, '{from}') WHERE id = '{id}'"
            ),
        );
    }

    /// Pushes measures and returns when they are worked in. Measures of a metric must come in
    /// order: what is older than a span that is worked in already is thrown away.
    pub fn push(&self, measures: &[Measures]) {
        let access = self.admin_access();
        for one in measures {
            let points: Vec<Value> = one
                .points
                .iter()
                .map(|(time, value)| {
                    let value: Number = value.parse().expect("the text of a number");
                    json!({"timestamp": time.to_rfc3339(), "value": value})
                })
                .collect();
            let Measures { resource, metric, .. } = one;
            let path = format!("/resource/generic/{resource}/metric/{metric}/measures");
            self.ask_as(&access, &Method::POST, &path, Some(&Value::Array(points))).expect(202);
            // `refresh` works in what has arrived before it answers.
            let path = format!("{path}?refresh=true&limit=1");
            self.ask_as(&access, &Method::GET, &path, None).expect(200);
        }
    }

    /// Anything else, as the administrator; the path stands behind `/v1`.
    pub fn ask(&self, method: &Method, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&self.admin_access(), method, path, body)
    }

    fn admin_access(&self) -> (&'static str, String) {
        match &self.keystone {
            Some(keystone) => ("X-Auth-Token", keystone.recent_admin_token()),
            // "admin:" in base64.
            None => ("Authorization", "Basic YWRtaW46".to_owned()),
        }
    }

    fn ask_as(
        &self,
        access: &(&str, String),
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let url = format!("{}/v1{path}", self.url());
        send_with(method, &url, &[(access.0, &access.1)], body).unwrap_or_else(|error| {
            panic!("{method} {path} of Gnocchi: {error}\n{}", self.server.output())
        })
    }
}

fn make_template(folder: &Path) {
    fs::create_dir_all(folder.join("storage")).expect("a folder of the test");
    let_everybody_through(folder.parent().expect("it is in a temporary folder"));
    Postgres::initialise(&folder.join("database"));
    let database = Postgres::start(&folder.join("database"));
    database.execute("postgres", &format!("CREATE DATABASE {DATABASE}"));
    write_config(folder, &database, "");
    // Few sacks: their folders are many files to copy, and there is one worker.
    let mut command = Command::new(openstack_program("gnocchi-upgrade"));
    command.args(["--sacks-number", "4"]).env("HOME", folder);
    let (succeeded, text) = run(&mut command);
    assert!(succeeded, "gnocchi-upgrade: {text}");
    database.stop();
}

fn write_config(folder: &Path, database: &Postgres, access: &str) {
    let storage = folder.join("storage");
    // A refresh on a busy machine may take longer than the default time-out of 10 s.
    let text = format!(
        "[indexer]\nurl = {}\n\
         [storage]\ndriver = file\nfile_basepath = {storage}\n\
         [incoming]\ndriver = file\nfile_basepath = {storage}\n\
         [api]\noperation_timeout = 60\nmax_limit = {RESOURCES_IN_ANSWER_MAX}\n{access}",
        database.url(DATABASE),
        storage = storage.display(),
    );
    fs::write(folder.join("gnocchi.conf"), text).expect("a file of the test");
}
