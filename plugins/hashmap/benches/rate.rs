//! What rating costs: a batch of 10,000 rows by price lists of different lengths.
//!
//! All calls go the daemon's way, through the plugin's table and the C data interface; a metric
//! without rules shows what that way costs by itself.

use std::hint::black_box;

use arrow_array::RecordBatch;
use chrono::{DateTime, Duration, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rated_hashmap::Hashmap;
use rated_plugin::testing::{FakeHost, TestModule, TestRater};
use rated_plugin::{Purpose, RateRequest, UsageBuilder};
use rust_decimal::Decimal;
use serde_json::json;

const ROWS: usize = 10_000;
const SCOPES: usize = 100;
const FLAVORS: usize = 20;

fn begin() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::days(20_000)
}

fn request(metric: &str) -> RateRequest {
    RateRequest {
        purpose: Purpose::Period,
        metric: metric.to_owned(),
        begin: begin(),
        end: begin() + Duration::hours(1),
    }
}

/// Instances of 20 flavors and 3 systems, each with an id of its own, in so many different
/// quantities.
fn batch(quantities: usize) -> RecordBatch {
    let mut builder = UsageBuilder::new(&["id"], &["flavor", "os", "vcpus"]);
    for row in 0..ROWS {
        let id = format!("instance-{row}");
        let flavor = format!("flavor-{}", row * 7 % FLAVORS);
        let os = ["linux", "windows", "other"][row % 3];
        let vcpus = (1 << (row % 6)).to_string();
        let qty = i64::try_from(row % quantities).expect("small");
        let qty = Decimal::new(25 * qty + 100, 2);
        let attributes = [Some(id.as_str()), Some(&flavor), Some(os), Some(&vcpus)];
        builder
            .push(&format!("scope-{}", row % SCOPES), qty, &attributes)
            .expect("as many attributes as columns");
    }
    builder.finish().expect("two decimals fit")
}

/// A price list of `count` rules as the store has it: a price for each flavor and system, the same
/// for customers with contracts, and thresholds by size.
struct PriceList {
    host: FakeHost,
    seq: u64,
}

impl PriceList {
    fn new(count: usize) -> PriceList {
        let mut list = PriceList { host: FakeHost::new(), seq: 0 };
        list.put("service", 0, &json!({"name": "instance"}));
        for (index, name) in ["flavor", "os", "vcpus"].iter().enumerate() {
            list.put("field", index, &json!({"name": name, "service": id("service", 0)}));
        }
        list.put("group", 0, &json!({"name": "licences"}));
        for index in 0..count {
            let tenant = index.checked_sub(45).map(|index| format!("scope-{}", index / FLAVORS));
            match index {
                0 => list.mapping(index, None, None, None),
                1..4 => list.mapping(
                    index,
                    Some(1),
                    Some(["linux", "windows", "other"][index - 1]),
                    None,
                ),
                4..14 => list.threshold(index, None, 100 * index),
                14..24 => list.threshold(index, Some(2), 2 * index),
                _ => {
                    let flavor = format!("flavor-{}", (index + 15) % FLAVORS);
                    list.mapping(index, Some(0), Some(&flavor), tenant.as_deref());
                }
            }
        }
        list
    }

    fn put(&mut self, kind: &str, index: usize, record: &serde_json::Value) {
        self.seq += 1;
        let mut record = record.clone();
        record["v"] = json!(1);
        record["seq"] = json!(self.seq);
        self.host.put(&format!("{kind}/{}", id(kind, index)), record.to_string().as_bytes());
    }

    fn rule(index: usize, field: Option<usize>, tenant: Option<&str>) -> serde_json::Value {
        let parent = match field {
            None => json!({"service": id("service", 0)}),
            Some(field) => json!({"field": id("field", field)}),
        };
        json!({
            "parent": parent,
            "type": if field == Some(2) { "rate" } else { "flat" },
            "cost": format!("0.{:04}", 1 + index % 9999),
            "group": (field == Some(1)).then(|| id("group", 0)),
            "tenant": tenant,
            "start": "1970-01-01T00:00:00",
            "end": null,
            "name": null,
            "description": null,
            "created_at": "1970-01-01T00:00:00",
            "created_by": "bench",
            "updated_by": null,
            "deleted": null,
            "deleted_by": null,
        })
    }

    fn mapping(
        &mut self,
        index: usize,
        field: Option<usize>,
        value: Option<&str>,
        tenant: Option<&str>,
    ) {
        let rule = PriceList::rule(index, field, tenant);
        self.put("mapping", index, &json!({"value": value, "rule": rule}));
    }

    fn threshold(&mut self, index: usize, field: Option<usize>, level: usize) {
        let rule = PriceList::rule(index, field, None);
        let level = level.to_string();
        self.put("threshold", index, &json!({"level": level, "dated": false, "rule": rule}));
    }

    fn module(&self) -> TestModule {
        TestModule::new::<Hashmap>(&self.host, "").expect("an empty configuration is one")
    }

    fn rater(&self) -> TestRater {
        self.module().prepare_at(begin()).expect("the rules are as the store has them")
    }
}

fn id(kind: &str, index: usize) -> String {
    let kind = kind.bytes().fold(0_u32, |sum, byte| sum * 31 + u32::from(byte));
    format!("{kind:08x}-0000-4000-8000-{index:012x}")
}

fn rate(criterion: &mut Criterion) {
    let batches = [1, 97].map(|quantities| (quantities, batch(quantities)));
    let mut group = criterion.benchmark_group("rate 10,000 rows");
    group.throughput(Throughput::Elements(ROWS as u64));
    for count in [10, 145, 1_000, 100_000] {
        let rater = PriceList::new(count).rater();
        let request = request("instance");
        for (quantities, batch) in &batches {
            group.bench_function(format!("{count} rules, {quantities} quantities"), |bencher| {
                bencher.iter(|| rater.rate_batch(&request, black_box(batch)).expect("rates"));
            });
        }
    }
    let rater = PriceList::new(145).rater();
    let request = request("other");
    group.bench_function("no rules for the metric", |bencher| {
        bencher.iter(|| rater.rate_batch(&request, black_box(&batches[0].1)).expect("rates"));
    });
    group.finish();
}

fn prepare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prepare");
    group.sample_size(20);
    for count in [145, 100_000] {
        let list = PriceList::new(count);
        group.bench_function(format!("{count} rules, read and prepared"), |bencher| {
            let prepare = |module: TestModule| module.prepare_at(begin()).expect("prepares");
            bencher.iter_batched(|| list.module(), prepare, BatchSize::PerIteration);
        });
        let module = list.module();
        group.bench_function(format!("{count} rules, again"), |bencher| {
            bencher.iter(|| module.prepare_at(begin()).expect("prepares"));
        });
    }
    group.finish();
}

criterion_group!(benches, rate, prepare);
criterion_main!(benches);
