//! A plugin says the same in a thread and in a process of its own, to the byte; and what the
//! conformance test of the interface asks of a plugin holds in a process as well.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rated::clock::ManualClock;
use rated::metrics::Metrics;
use rated::plugin::{
    CallError, Collector as RunningCollector, Fetcher as RunningFetcher, HostServices,
    InstanceConfig, Isolation, Kind, Module, PluginConfig, PluginHost, Rater as RunningRater,
};
use rated_plugin::testing::{Outcome, check_plugin};
use rated_plugin::{
    AsOf, Batches, Call, CollectRequest, Collector, Component, Decimal, Error, Fetcher, Host,
    RateRequest, Rater, RatingModule, RecordBatch, Request, Response, Result, Status, UsageBatch,
    UsageBuilder, decimal_column,
};
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::keys_ledger::KeysLedger;
use crate::support::{World, at, price, rate_request};

/// The plugins of this repository as libraries, beside the program; built when they are not.
fn library(name: &str) -> PathBuf {
    let target = PathBuf::from(env!("CARGO_BIN_EXE_rated"));
    let folder = target.parent().unwrap();
    let file = folder.join(format!("librated_{name}.so"));
    // Whoever builds in a way that cannot be told from here has built everything before.
    if cfg!(sanitized) {
        return file;
    }
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new("cargo");
    command.args(["build", "--offline", "--locked", "--manifest-path", manifest]);
    // With the features that everything together has: then it is mostly built already.
    command.arg("--workspace");
    if folder.ends_with("release") {
        command.arg("--release");
    }
    // What the runner of this test has set would make cargo build everything again.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("CARGO_") && variable != "CARGO_HOME" {
            command.env_remove(variable);
        }
    }
    let built = command.env("CARGO_TARGET_DIR", folder.parent().unwrap()).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    file
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// A plugin host with one instance in a process of its own.
struct Apart {
    host: PluginHost,
    _folder: TempDir,
}

impl Apart {
    fn start(
        kind: Kind,
        (name, file): (&str, &PathBuf),
        config: Map<String, Value>,
        host: Host,
    ) -> Result<Apart> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("plugins");
        fs::create_dir(&dir).unwrap();
        fs::copy(file, dir.join(file.file_name().unwrap())).unwrap();
        let mut wanted = PluginConfig::new(folder.path().join("state"));
        wanted.plugin_dirs = vec![dir];
        wanted.runner = env!("CARGO_BIN_EXE_rated").into();
        wanted.threads = 4;
        let isolation = Isolation::Process;
        let instance = InstanceConfig { plugin: None, required: false, isolation, config };
        let instances = match kind {
            Kind::Collector => &mut wanted.collectors,
            Kind::Fetcher => &mut wanted.fetchers,
            Kind::Rating => &mut wanted.rating,
        };
        instances.insert(name.to_owned(), instance);
        let services = HostServices {
            ledger: Arc::new(KeysLedger::default()),
            clock: Arc::new(ManualClock::new(host.now())),
            runtime: RUNTIME.handle().clone(),
            metrics: Arc::new(Metrics::new()),
        };
        let started = PluginHost::start(wanted, services).unwrap();
        if let Some(refused) = started.generation().refused().first() {
            return Err(Error::invalid_config(refused.reason.clone()));
        }
        Ok(Apart { host: started, _folder: folder })
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        RUNTIME.block_on(self.host.stop(Duration::from_secs(20)));
    }
}

/// Waits; a call that nobody wants any more is dropped, which cancels it.
fn wait<T>(call: &Call, asked: impl Future<Output = Result<T, CallError>>) -> Result<T> {
    RUNTIME.block_on(async {
        let mut asked = std::pin::pin!(asked);
        loop {
            if call.is_cancelled() {
                return Err(Error::new(Status::Cancelled, "nobody wants it any more"));
            }
            let moment = Duration::from_millis(20);
            if let Ok(outcome) = tokio::time::timeout(moment, asked.as_mut()).await {
                return outcome.map_err(|failure| failure.error);
            }
        }
    })
}

/// A component that passes everything on to the real one in a process of its own.
macro_rules! stand_in {
    ($type:ident, $kind:ident, $name:literal, $sample:literal, $running:ident, $find:ident) => {
        #[derive(Debug)]
        struct $type {
            running: $running,
            _apart: Keep,
        }

        impl Component for $type {
            const NAME: &'static str = $name;
            const SUMMARY: &'static str = "The real one, in a process of its own";
            const SAMPLE_CONFIG: &'static str = include_str!($sample);
            type Config = Map<String, Value>;

            fn create(config: Self::Config, host: Host) -> Result<$type> {
                static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| library($name));
                let apart = Apart::start(Kind::$kind, ($name, &LIBRARY), config, host)?;
                let running = apart.host.generation().$find($name).unwrap().clone();
                Ok($type { running, _apart: Keep { _apart: apart } })
            }
        }
    };
}

struct Keep {
    _apart: Apart,
}

impl std::fmt::Debug for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keep")
    }
}

stand_in!(Noop, Rating, "noop", "../../../plugins/noop/sample.toml", Module, module);
stand_in!(Hashmap, Rating, "hashmap", "../../../plugins/hashmap/sample.toml", Module, module);
stand_in!(
    Prometheus,
    Collector,
    "prometheus",
    "../../../plugins/prometheus/sample.toml",
    RunningCollector,
    collector
);
stand_in!(Scopes, Fetcher, "prometheus", "testdata/scopes.toml", RunningFetcher, fetcher);

impl Collector for Prometheus {
    fn collect(&self, call: &Call, request: &CollectRequest) -> Result<Batches> {
        let found = wait(call, self.running.collect(request.clone()))?;
        if let Some(schema) = found.first().map(RecordBatch::schema) {
            return Ok(Batches::stream(schema, found.into_iter().map(Ok)));
        }
        let rows = UsageBuilder::new(&request.metric.groupby, &request.metric.metadata);
        Ok(Batches::one(rows.finish()?))
    }
}

impl Fetcher for Scopes {
    fn scopes(&self, call: &Call) -> Result<Batches> {
        Ok(Batches::scopes(wait(call, self.running.scopes())?))
    }
}

#[derive(Debug)]
struct Rules(RunningRater);

macro_rules! rating {
    ($type:ident) => {
        impl RatingModule for $type {
            type Rater = Rules;
            const API_SCHEMA: &'static str = r#"{"/{what}": {"get": {}}}"#;

            fn prepare(&self, call: &Call, as_of: AsOf) -> Result<Rules> {
                wait(call, self.running.prepare(as_of)).map(Rules)
            }

            fn handle(&self, call: &Call, request: &Request) -> Result<Response> {
                wait(call, self.running.handle(request.clone()))
            }
        }
    };
}
rating!(Noop);
rating!(Hashmap);

impl Rater for Rules {
    fn rate(&self, call: &Call, request: &RateRequest, usage: &RecordBatch) -> Result<RecordBatch> {
        wait(call, self.0.rate(request.clone(), usage.clone()))
    }
}

/// How many checks passed; none may fail.
fn conforms(plugin: &'static rated_plugin::raw::PluginDecl) -> usize {
    let checks = check_plugin(plugin);
    let failed: Vec<String> = checks
        .iter()
        .filter(|check| matches!(check.outcome, Outcome::Failed(_)))
        .map(ToString::to_string)
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    checks.iter().filter(|check| check.outcome == Outcome::Passed).count()
}

#[test]
fn rating_modules_conform_in_a_process() {
    let passed = conforms(rated_plugin::declare! { rating_modules: [Noop, Hashmap] });
    assert!(passed > 20, "{passed}");
}

#[test]
fn collectors_and_fetchers_conform_in_a_process() {
    let plugin = rated_plugin::declare! { collectors: [Prometheus], fetchers: [Scopes] };
    let passed = conforms(plugin);
    assert!(passed > 10, "{passed}");
}

/// The same rules in a thread and in a process.
fn both(world: &World) -> (PluginHost, Module, Module) {
    let dir = world.dir.path().join("plugins");
    fs::create_dir(&dir).unwrap();
    fs::copy(library("hashmap"), dir.join("librated_hashmap.so")).unwrap();
    let rules = json!({"initial_rules": [
        {"service": "cpu", "cost": "0.0123"},
        {"service": "cpu", "field": "flavor", "value": "flavor-1", "cost": "0.5"},
        {"service": "cpu", "field": "flavor", "value": "flavor-2", "cost": "1.1", "type": "rate"},
        {"service": "cpu", "field": "zone", "value": "z", "cost": "0.007", "group": "zones"},
        {"service": "cpu", "level": "100", "cost": "0.9", "type": "rate"},
        {"service": "cpu", "cost": "0.25", "tenant": "scope-3"},
    ]});
    let config = rules.as_object().unwrap();
    let mut wanted = world.config();
    wanted.plugin_dirs = vec![dir];
    wanted.runner = env!("CARGO_BIN_EXE_rated").into();
    for (name, isolation) in [("here", Isolation::Thread), ("apart", Isolation::Process)] {
        let (plugin, config) = (Some("hashmap".to_owned()), config.clone());
        let instance = InstanceConfig { plugin, required: false, isolation, config };
        wanted.rating.insert(name.to_owned(), instance);
    }
    let host = PluginHost::start(wanted, world.services()).unwrap();
    let plugins = host.generation();
    assert!(plugins.refused().is_empty(), "{:?}", plugins.refused());
    let module = |name: &str| plugins.module(name).unwrap().clone();
    let (here, apart) = (module("here"), module("apart"));
    (host, here, apart)
}

type Row = (u8, i64, Option<u8>, bool);

fn usage(rows: &[Row]) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["flavor"], &["zone"]);
    for (scope, qty, flavor, has_zone) in rows {
        let flavor = flavor.map(|flavor| format!("flavor-{flavor}"));
        let attributes = [flavor.as_deref(), has_zone.then_some("z")];
        builder.push(&format!("scope-{scope}"), Decimal::new(*qty, 4), &attributes).unwrap();
    }
    let batch = builder.finish().unwrap();
    let prices = decimal_column(&vec![Decimal::new(1, 3); rows.len()]).unwrap();
    UsageBatch::new(&batch).unwrap().with_price(prices).unwrap()
}

#[test]
fn any_batch_is_rated_to_the_same_bytes_here_and_apart() {
    let world = World::new();
    let (_host, here, apart) = both(&world);
    let row = (0..5_u8, any::<i64>(), prop::option::of(0..4_u8), any::<bool>());
    let batches = prop::collection::vec(row, 0..300);
    let mut runner = TestRunner::new(Config { cases: 128, ..Config::default() });

    let outcome = runner.run(&(batches, 0..50_usize), |(rows, cut)| {
        let whole = usage(&rows);
        let begin = cut.min(whole.num_rows());
        let batch = whole.slice(begin, whole.num_rows() - begin);
        let (one, other) = world.wait(async {
            (price(&here, batch.clone()).await, price(&apart, batch.clone()).await)
        });
        match (one, other) {
            (Ok(one), Ok(other)) => {
                prop_assert_eq!(one.schema_ref(), other.schema_ref());
                prop_assert_eq!(one, other);
            }
            (one, other) => {
                let error = |outcome: Result<RecordBatch, CallError>| outcome.unwrap_err().error;
                prop_assert_eq!(error(one), error(other));
            }
        }
        Ok(())
    });

    // The case that failed, with the seed to try it again.
    assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
}

#[test]
fn a_whole_slice_is_rated_the_same_by_rules_of_any_revision() {
    let world = World::new();
    let (_host, here, apart) = both(&world);
    let row = |number: i64| {
        let of = |count| u8::try_from(number % count).unwrap();
        (of(5), number * 7, Some(of(4)), number % 2 == 0)
    };
    let rows: Vec<Row> = (0..10_000).map(row).collect();
    let batch = usage(&rows);

    world.wait(async {
        for revision in [0, 1, u64::MAX] {
            let as_of = AsOf { at: at(0), revision };
            let (one, other) =
                (here.prepare(as_of).await.unwrap(), apart.prepare(as_of).await.unwrap());
            let one = one.rate(rate_request(), batch.clone()).await.unwrap();
            let other = other.rate(rate_request(), batch.clone()).await.unwrap();
            assert_eq!(one, other, "{revision}");
        }
    });
}
