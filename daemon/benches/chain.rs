//! What rating costs the daemon: a whole call of the chain, with everything around the module.
//!
//! The module is the real one with 145 rules, called as always: on a thread of the pool, through
//! its table and the C data interface, and what comes back is checked. Every price is compared with
//! one computed row by row before anything is timed.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{Decimal128Array, RecordBatch};
use chrono::{DateTime, TimeDelta, Utc};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use rated::clock::SystemClock;
use rated::ledger::sled::{SledLedger, SledOptions};
use rated::ledger::{KvEdit, Ledger, ModuleState};
use rated::metrics::Metrics;
use rated::plugin::{HostServices, InstanceConfig, Isolation, PluginConfig, PluginHost};
use rated::rating::{Chain, Rating};
use rated_plugin::{Edit, Purpose, RateRequest, UsageBuilder};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const ROWS: usize = 10_000;
const SCOPES: usize = 100;
const FLAVORS: usize = 20;
/// Scopes with a price of their own for each flavor.
const CONTRACTS: usize = 5;
const SYSTEMS: [&str; 3] = ["linux", "windows", "other"];
const LEVELS: usize = 20;
/// One batch for each of two processors, and one more for each on its way.
const AT_ONCE: usize = 4;

fn begin() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

fn request() -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: "instance".to_owned(),
        begin: begin(),
        end: begin() + TimeDelta::hours(1),
    }
}

fn cost(number: usize) -> Decimal {
    Decimal::new(i64::try_from(number).expect("small"), 4)
}

fn flavor_cost(scope: usize, flavor: usize) -> Decimal {
    if scope < CONTRACTS { cost(500 + scope * FLAVORS + flavor) } else { cost(700 + flavor) }
}

fn system_cost(system: usize) -> Decimal {
    cost(1 + system)
}

fn level(number: usize) -> usize {
    2 * number
}

/// From a level on it costs so much more.
fn level_cost(number: usize) -> Decimal {
    cost(10 * number)
}

fn qty(row: usize, quantities: usize) -> Decimal {
    Decimal::new(25 * i64::try_from(row % quantities).expect("small") + 100, 2)
}

fn batch(rows: usize, quantities: usize) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id"], &["flavor", "os"]);
    for row in 0..rows {
        let (id, flavor) = (format!("instance-{row}"), format!("flavor-{}", row * 7 % FLAVORS));
        let attributes = [Some(id.as_str()), Some(&flavor), Some(SYSTEMS[row % 3])];
        let scope = format!("scope-{}", row % SCOPES);
        builder.push(&scope, qty(row, quantities), &attributes).expect("three attributes");
    }
    builder.finish().expect("two decimals fit")
}

fn price(row: usize, quantities: usize) -> Decimal {
    let qty = qty(row, quantities);
    let reached = (1..=LEVELS).filter(|number| Decimal::from(level(*number)) <= qty).max();
    let flavor = flavor_cost(row % SCOPES, row * 7 % FLAVORS) * qty;
    flavor + reached.map_or(Decimal::ZERO, level_cost) + system_cost(row % 3) * qty
}

fn id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

/// The rules as the module keeps them: 145 of them.
fn rules() -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut put = |kind: &str, mut record: Value| {
        let seq = edits.len() + 1;
        record["v"] = json!(1);
        record["seq"] = json!(seq);
        let key = format!("{kind}/{}", id(seq));
        edits.push(Edit { key, value: Some(record.to_string().into_bytes()) });
        id(seq)
    };
    let service = put("service", json!({"name": "instance"}));
    let flavors = put("field", json!({"name": "flavor", "service": service}));
    let systems = put("field", json!({"name": "os", "service": service}));
    let group = put("group", json!({"name": "licences"}));
    let rule = |parent: Value, cost: Decimal| {
        json!({
            "parent": parent, "type": "flat", "cost": cost.to_string(), "group": null,
            "tenant": null, "start": "1970-01-01T00:00:00", "end": null, "name": null,
            "description": null, "created_at": "1970-01-01T00:00:00", "created_by": "bench",
            "updated_by": null, "deleted": null, "deleted_by": null,
        })
    };
    for flavor in 0..FLAVORS {
        for scope in 0..=CONTRACTS {
            let mut rule = rule(json!({"field": flavors}), flavor_cost(scope, flavor));
            if scope < CONTRACTS {
                rule["tenant"] = json!(format!("scope-{scope}"));
            }
            put("mapping", json!({"value": format!("flavor-{flavor}"), "rule": rule}));
        }
    }
    for (index, system) in SYSTEMS.iter().enumerate() {
        let mut rule = rule(json!({"field": systems}), system_cost(index));
        rule["group"] = json!(group);
        put("mapping", json!({"value": system, "rule": rule}));
    }
    for number in 1..=LEVELS {
        let rule = rule(json!({"service": service}), level_cost(number));
        let level = level(number).to_string();
        put("threshold", json!({"level": level, "dated": false, "rule": rule}));
    }
    // Every flavor costs more: these two never win.
    for _ in 0..2 {
        put("mapping", json!({"value": null, "rule": rule(json!({"service": service}), cost(1))}));
    }
    edits
}

struct World {
    runtime: Runtime,
    rating: Rating,
    chain: Arc<Chain>,
    _folder: tempfile::TempDir,
}

/// The module's library, which cargo has built beside this program.
fn library() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    program.with_file_name("librated_hashmap.so")
}

impl World {
    fn new(isolation: Isolation) -> World {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let ledger = SledLedger::open(folder.path(), SledOptions::default()).expect("opens");
        let edits = rules();
        let (author, at) = ("bench".to_owned(), begin());
        let edit = KvEdit { revision: 0, edits, author, at };
        ledger.kv_apply("rating/hashmap", &edit).expect("the first revision");
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let runtime = Runtime::new().expect("threads");
        let services = HostServices {
            ledger: Arc::clone(&ledger),
            clock: Arc::new(SystemClock),
            runtime: runtime.handle().clone(),
            metrics: Arc::new(Metrics::new()),
        };
        let mut config = PluginConfig::new(folder.path());
        let host = match isolation {
            Isolation::Thread => {
                let declarations = vec![rated_hashmap::plugin_decl()];
                PluginHost::with_embedded(declarations, config, services)
            }
            Isolation::Process => {
                let plugins = folder.path().join("found");
                fs::create_dir(&plugins).expect("a folder of its own");
                fs::copy(library(), plugins.join("hashmap.so")).expect("cargo has built it");
                let (plugin, own) = (None, serde_json::Map::new());
                let instance = InstanceConfig { plugin, required: true, isolation, config: own };
                config.rating.insert("hashmap".to_owned(), instance);
                config.plugin_dirs = vec![plugins];
                config.runner = env!("CARGO_BIN_EXE_rated").into();
                PluginHost::start(config, services)
            }
        };
        let host = Arc::new(host.expect("the module is sound"));
        let on = ModuleState { enabled: true, priority: 1 };
        let rating = Rating::new(ledger, host, BTreeMap::from([("hashmap".to_owned(), on)]));
        let chain = runtime.block_on(rating.chain(begin())).expect("the rules are sound");
        World { runtime, rating, chain, _folder: folder }
    }

    async fn rate(&self, batch: &RecordBatch) -> Decimal128Array {
        let request = request();
        self.chain.rate(&request, Some("project_id"), batch).await.expect("rates")
    }

    fn check(&self, batch: &RecordBatch, quantities: usize) {
        let prices = self.runtime.block_on(self.rate(batch));
        let scale = u32::try_from(prices.scale()).expect("checked by the host");
        for (row, found) in prices.values().iter().enumerate() {
            let found = Decimal::from_i128_with_scale(*found, scale);
            assert_eq!(found, price(row, quantities), "row {row} costs what the rules say");
        }
    }
}

/// The same call, with the module in a process of its own.
fn apart(criterion: &mut Criterion) {
    let world = World::new(Isolation::Process);
    let mut group = criterion.benchmark_group("chain, module in a process");
    for (rows, quantities) in [(1, 1), (ROWS, 97), (ROWS, ROWS)] {
        let batch = &batch(rows, quantities);
        world.check(batch, quantities);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} rows, {quantities} quantities"), |bencher| {
            bencher.iter(|| world.runtime.block_on(world.rate(black_box(batch))));
        });
    }
    group.finish();
}

fn chain(criterion: &mut Criterion) {
    let world = World::new(Isolation::Thread);
    let mut group = criterion.benchmark_group("chain");
    for (rows, quantities) in [(1, 1), (ROWS, 1), (ROWS, 97), (ROWS, ROWS)] {
        let batch = &batch(rows, quantities);
        world.check(batch, quantities);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} rows, {quantities} quantities"), |bencher| {
            bencher.iter(|| world.runtime.block_on(world.rate(black_box(batch))));
        });
    }
    let batch = &batch(ROWS, 97);
    group.throughput(Throughput::Elements((ROWS * AT_ONCE) as u64));
    group.bench_function(format!("{AT_ONCE} batches at once"), |bencher| {
        let all = || join_all((0..AT_ONCE).map(|_| world.rate(black_box(batch))));
        bencher.iter(|| world.runtime.block_on(all()));
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("looking up the chain of a period", |bencher| {
        let look = || world.runtime.block_on(world.rating.chain(begin()));
        bencher.iter(|| look().expect("the rules are as they were"));
    });
    group.finish();
}

criterion_group!(benches, chain, apart);
criterion_main!(benches);
