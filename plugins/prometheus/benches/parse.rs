//! An answer of 10,000 series becomes columns.
//!
//! `… --bench parse -- --profile-time 1` under callgrind gives instructions.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rated_plugin::testing::{FakeHost, TestCollector};
use rated_plugin::{CollectRequest, DateTime, HttpResponse, MetricDefinition};
use rated_prometheus::PrometheusCollector;

const SCOPES: usize = 100;
const RESOURCES: usize = 100;

/// As Prometheus writes it: labels by name, series as they are stored.
fn answer() -> Vec<u8> {
    let mut body = r#"{"status":"success","data":{"resultType":"vector","result":["#.to_owned();
    for series in 0..SCOPES * RESOURCES {
        let (scope, resource) = (series / RESOURCES, series % RESOURCES);
        let number = scope * 7 + resource * 3;
        let separator = if series == 0 { "" } else { "," };
        write!(body, r#"{separator}{{"metric":{{"flavor_id":"flavor-{}","#, number % 20)
            .expect("writing to a String does not fail");
        write!(
            body,
            r#""id":"compute-{scope:05}-{resource:05}","project_id":"project-{scope:05}","#
        )
        .expect("writing to a String does not fail");
        let (whole, part) = (series * 7919 % 1000, series * 104_729 % 10_000);
        write!(
            body,
            r#""region":"region-{}"}},"value":[1767229200,"{whole}.{part}"]}}"#,
            number % 3
        )
        .expect("writing to a String does not fail");
    }
    body.push_str("]}}");
    body.into_bytes()
}

fn request() -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            name: "compute".to_owned(),
            alt_name: "compute".to_owned(),
            unit: "unit".to_owned(),
            groupby: vec!["id".to_owned()],
            metadata: vec!["flavor_id".to_owned(), "region".to_owned()],
            extra_args: serde_json::Map::new(),
        },
        scope_key: "project_id".to_owned(),
        scopes: (0..SCOPES).map(|scope| format!("project-{scope:05}")).collect(),
        begin: DateTime::from_timestamp(1_767_225_600, 0).expect("a date"),
        end: DateTime::from_timestamp(1_767_229_200, 0).expect("a date"),
    }
}

fn parse(criterion: &mut Criterion) {
    let host = FakeHost::new();
    let body = answer();
    host.answer_with(move |_| {
        Ok(HttpResponse { status: 200, headers: BTreeMap::new(), body: body.clone() })
    });
    let config = "url = \"http://127.0.0.1:9090\"";
    let collector =
        TestCollector::new::<PrometheusCollector>(&host, config).expect("a sound configuration");
    let request = request();

    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Elements((SCOPES * RESOURCES) as u64));
    group.sample_size(20);
    group.bench_function("10,000 series", |bencher| {
        bencher.iter(|| black_box(collector.collect(&request).expect("a sound answer")));
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
