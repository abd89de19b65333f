//! The module with some of its walls, and three scopes of which one is attacked from.

use std::io::Write;
use std::net::TcpListener;

use nix::libc;
use rated_plugin::testing::{FakeHost, TestModule};
use rated_plugin::{
    AsOf, Call, Component, Error, Host, Purpose, RateRequest, RatingModule, RecordBatch, Request,
    Response, Result, Status, UsageBuilder,
};
use rated_pyscripts::{PyScripts, ScriptsRater, Settings, Wall};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::cases::Case;

const CONFIG: &str = "processes = 1\nwall_secs = 6\ncpu_secs = 1";
/// What the scopes beside the attacked one have in their points, often enough that some of it would
/// survive in memory that is used again. Scripts have it in disguise.
const SECRET: &str = "the-secret-word";

/// The module as it is configured, but with walls left out.
macro_rules! module_without {
    ($name:ident, $walls:expr) => {
        pub(crate) struct $name(PyScripts);

        impl Component for $name {
            const NAME: &'static str = PyScripts::NAME;
            const SUMMARY: &'static str = PyScripts::SUMMARY;
            const SAMPLE_CONFIG: &'static str = PyScripts::SAMPLE_CONFIG;
            type Config = Settings;

            fn create(config: Settings, host: Host) -> Result<$name> {
                let left_out = $walls.to_vec();
                PyScripts::create(Settings { left_out, ..config }, host).map($name)
            }

            fn check(&self, call: &Call) -> Result<()> {
                self.0.check(call)
            }
        }

        impl RatingModule for $name {
            type Rater = ScriptsRater;

            fn prepare(&self, call: &Call, as_of: AsOf) -> Result<ScriptsRater> {
                self.0.prepare(call, as_of)
            }

            fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
                self.0.handle(call, request)
            }
        }
    };
}

module_without!(WithoutNamespaces, [Wall::Namespaces]);
module_without!(WithoutFilter, [Wall::Filter]);

pub(crate) struct Site {
    pub(crate) host: FakeHost,
    pub(crate) module: TestModule,
    filter_is_off: bool,
    /// What a script finds if it finds anything.
    server: TcpListener,
    file: NamedTempFile,
}

impl Site {
    pub(crate) fn new(left_out: &[Wall]) -> Site {
        let host = FakeHost::new();
        let module = match left_out {
            [] => TestModule::new::<PyScripts>(&host, CONFIG),
            [Wall::Namespaces] => TestModule::new::<WithoutNamespaces>(&host, CONFIG),
            _ => {
                let config = format!("{CONFIG}\ncontainment = 'limits'");
                TestModule::new::<WithoutFilter>(&host, &config)
            }
        };
        let module = module.unwrap();
        module.check().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(SECRET.as_bytes()).unwrap();
        let filter_is_off = left_out.contains(&Wall::Filter);
        Site { host, module, filter_is_off, server, file }
    }

    /// What the module said of its walls.
    pub(crate) fn walls(&self) -> String {
        self.host.logged().first().expect("it says which walls stand").message.clone()
    }

    pub(crate) fn has_namespaces(&self) -> bool {
        !self.walls().contains("without namespaces")
    }

    /// Stores a script that is in force; its id.
    pub(crate) fn add(&self, data: &str) -> String {
        let body = json!({"name": "s", "data": data, "start": "2026-01-01"});
        let mut post = Request::post("/scripts", body.to_string());
        post.query = "force=true".to_owned();
        let response = self.module.handle(&post).unwrap();
        let text = String::from_utf8(response.body).unwrap();
        assert_eq!(response.status, 201, "{text}");
        let made: Value = serde_json::from_str(&text).unwrap();
        made["script_id"].as_str().unwrap().to_owned()
    }

    fn delete(&self, id: &str) {
        let delete = Request::delete(&format!("/scripts/{id}"));
        assert_eq!(self.module.handle(&delete).unwrap().status, 204);
    }

    /// The price of each scope's one point.
    pub(crate) fn rate(&self, scopes: &[&str]) -> Result<Vec<String>, Error> {
        let begin = "2026-01-01T00:00:00Z".parse().unwrap();
        let request = RateRequest {
            purpose: Purpose::Period,
            metric: "cpu".to_owned(),
            begin,
            end: "2026-01-01T01:00:00Z".parse().unwrap(),
        };
        let rater = self.module.prepare_at(begin)?;
        let prices = rater.rate(&request, &batch(scopes))?;
        Ok(prices.iter().map(|price| price.normalize().to_string()).collect())
    }

    /// Runs the script for one of three scopes; what is wrong with what becomes of it, if anything.
    pub(crate) fn attack(&self, case: &Case, expected: &[String]) -> Result<(), String> {
        let id = self.add(&self.script(&case.text));
        let outcome = match self.rate(&["good", "bad", "other"]) {
            Ok(prices) if prices[0] == "1" && prices[2] == "1" => format!("priced {}", prices[1]),
            Ok(prices) => format!("others' prices: {prices:?}"),
            Err(error) if error.status == Status::BadData => error.message,
            Err(error) => format!("{:?}: {}", error.status, error.message),
        };
        let afterwards = self.rate(&["good", "other"]);
        self.delete(&id);
        let name = &case.name;
        if afterwards != Ok(vec!["1".to_owned(), "1".to_owned()]) {
            return Err(format!("{name}: the next run: {afterwards:?}"));
        }
        let is_priced = outcome.starts_with("priced ");
        let is_of_bad = is_priced || outcome.starts_with("scope `bad`: ");
        let is_expected = expected
            .iter()
            .any(|part| if is_priced { outcome == *part } else { outcome.contains(part.as_str()) });
        if is_of_bad && is_expected {
            return Ok(());
        }
        Err(format!("{name}: {} instead of {}", outcome, expected.join(", or ")))
    }

    /// The script as it is stored: of all scopes but one it is an honest one.
    pub(crate) fn script(&self, text: &str) -> String {
        let file = self.file.path().display();
        let port = self.server.local_addr().unwrap().port();
        let filter_is_off = if self.filter_is_off { "True" } else { "False" };
        format!(
            "DAEMON, DAEMON_FILE, PORT = {}, b'{file}', {port}\nFILTER_IS_OFF = {filter_is_off}\n\
             NUMBERS = {}\n{}\nif data['usage']['cpu'][0]['groupby']['project_id'] == 'bad':\n    \
             pass\n    {}\n",
            std::process::id(),
            numbers(),
            include_str!("../../testdata/hostile/escape.py"),
            text.replace('\n', "\n    "),
        )
    }
}

/// Numbers of system calls that the C library has no function for.
fn numbers() -> Value {
    json!({
        "add_key": libc::SYS_add_key,
        "bpf": libc::SYS_bpf,
        "io_uring_setup": libc::SYS_io_uring_setup,
        "mmap": libc::SYS_mmap,
        "mprotect": libc::SYS_mprotect,
        "perf_event_open": libc::SYS_perf_event_open,
        "seccomp": libc::SYS_seccomp,
        "uname": libc::SYS_uname,
        "userfaultfd": libc::SYS_userfaultfd,
    })
}

fn batch(scopes: &[&str]) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["project_id"], &["word"]);
    for scope in scopes {
        let word = (*scope != "bad").then(|| SECRET.repeat(1000));
        builder.push(scope, "1".parse().unwrap(), &[Some(*scope), word.as_deref()]).unwrap();
    }
    builder.finish().unwrap()
}
