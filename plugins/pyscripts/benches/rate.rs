//! What rating by a script costs: 10,000 points in many small scopes or few large ones.
//!
//! All calls go the daemon's way, through the plugin's table and the C data interface, one at a
//! time; each scope is a run in a process of its own, with all walls.

use std::hint::black_box;

use chrono::{DateTime, Duration, Utc};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rated_plugin::testing::{FakeHost, TestModule, TestRater};
use rated_plugin::{Purpose, RateRequest, RecordBatch, Request, UsageBuilder};
use rated_pyscripts::PyScripts;
use serde_json::json;

const ROWS: usize = 10_000;
const FLAVORS: usize = 20;

/// The price of a flavor, by a table.
const SCRIPT: &str = "\
import decimal
PRICES = {'flavor-%d' % n: decimal.Decimal(n) / 100 for n in range(20)}
for point in data['usage'].get('instance', []):
    point['rating']['price'] += point['vol']['qty'] * PRICES[point['metadata']['flavor']]
";

fn begin() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(20_000)
}

/// Instances of 20 flavors and 3 systems, each with an id of its own.
fn batch(scopes: usize) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id", "project_id"], &["flavor", "os", "vcpus"]);
    for row in 0..ROWS {
        let id = format!("instance-{row}");
        let scope = format!("scope-{}", row % scopes);
        let flavor = format!("flavor-{}", row * 7 % FLAVORS);
        let os = ["linux", "windows", "other"][row % 3];
        let vcpus = (1 << (row % 6)).to_string();
        let qty = format!("{}.25", row % 97).parse().expect("a decimal");
        let attributes = [Some(id.as_str()), Some(&scope), Some(&flavor), Some(os), Some(&vcpus)];
        builder.push(&scope, qty, &attributes).expect("as many attributes as columns");
    }
    builder.finish().expect("two decimals fit")
}

fn rater() -> TestRater {
    let host = FakeHost::new();
    let module = TestModule::new::<PyScripts>(&host, "processes = 1").expect("a configuration");
    let script = json!({"name": "by flavor", "data": SCRIPT, "start": "2014-01-01"});
    let mut post = Request::post("/scripts", script.to_string());
    "force=true".clone_into(&mut post.query);
    let status = module.handle(&post).expect("an answer").status;
    assert_eq!(status, 201);
    module.prepare_at(begin()).expect("the script is as the store has it")
}

fn rate(criterion: &mut Criterion) {
    let request = RateRequest {
        purpose: Purpose::Period,
        metric: "instance".to_owned(),
        begin: begin(),
        end: begin() + Duration::hours(1),
    };
    let rater = rater();
    let mut group = criterion.benchmark_group("rate 10,000 points");
    group.throughput(Throughput::Elements(ROWS as u64)).sample_size(10);
    for scopes in [1, 10, 100, 1_000] {
        let batch = batch(scopes);
        group.bench_function(format!("{scopes} scopes"), |bencher| {
            bencher.iter(|| rater.rate_batch(&request, black_box(&batch)).expect("rates"));
        });
    }
    group.finish();
}

criterion_group!(benches, rate);
criterion_main!(benches);
