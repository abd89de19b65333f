//! The whole plugin, through its tables.

use std::os::unix::fs::symlink;
use std::path::Path;

use rated_plugin::testing::{FakeHost, TestCollector, TestFetcher, conformance};
use rated_plugin::{
    CollectRequest, DateTime, Decimal, MetricDefinition, RecordBatch, Status, UsageBatch, Utc,
    text_at,
};

use crate::users::Names;
use crate::{HostUsage, HostUsers};

const ANN: u32 = 1000;

/// A machine that changes from one recorded state to the next.
struct Desktop {
    folder: tempfile::TempDir,
}

impl Desktop {
    fn new() -> Desktop {
        let desktop = Desktop { folder: tempfile::tempdir().unwrap() };
        desktop.becomes("desktop");
        desktop
    }

    fn becomes(&self, state: &str) {
        let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/host").join(state);
        let link = self.folder.path().join("now");
        let _ = std::fs::remove_file(&link);
        symlink(recorded, link).unwrap();
    }

    fn config(&self) -> String {
        let now = self.folder.path().join("now");
        let now = now.display();
        format!("sample_secs = 60\nproc_dir = \"{now}/proc\"\ncgroup_dir = \"{now}/cgroup\"")
    }

    fn fetcher_config(&self, more: &str) -> String {
        format!("proc_dir = \"{}\"\n{more}", self.folder.path().join("now/proc").display())
    }
}

fn request(metric: &str, begin: DateTime<Utc>, secs: i64) -> CollectRequest {
    CollectRequest {
        metric: MetricDefinition {
            name: metric.to_owned(),
            alt_name: metric.to_owned(),
            unit: "unit".to_owned(),
            groupby: vec!["hostname".to_owned()],
            metadata: vec!["uid".to_owned(), "user".to_owned(), "boot_id".to_owned()],
            extra_args: serde_json::Map::new(),
        },
        scope_key: "user".to_owned(),
        scopes: Vec::new(),
        begin,
        end: begin + chrono::TimeDelta::seconds(secs),
    }
}

fn quantity(batches: &[RecordBatch], scope: &str) -> Option<Decimal> {
    assert_eq!(batches.len(), 1);
    let usage = UsageBatch::new(&batches[0]).unwrap();
    let row = (0..usage.rows()).find(|row| usage.scope_at(*row) == scope)?;
    Some(usage.qty_at(row).normalize())
}

#[test]
fn each_metric_of_a_recorded_machine_is_exact() {
    let desktop = Desktop::new();
    let host = FakeHost::new();
    let collector = TestCollector::new::<HostUsage>(&host, &desktop.config()).unwrap();
    let begin = host.now();
    desktop.becomes("desktop-later");
    host.advance(chrono::TimeDelta::seconds(8));
    let ann = Names::default().of(ANN);
    let check = |metric: &str, secs: i64, root: &str, anns: &str| {
        let batches = collector.collect(&request(metric, begin, secs)).unwrap();
        assert_eq!(quantity(&batches, "root"), Some(root.parse().unwrap()), "{metric}");
        assert_eq!(quantity(&batches, &ann), Some(anns.parse().unwrap()), "{metric}");
    };

    check("cpu_seconds", 8, "0.2", "0.5");
    check("cpu_seconds", 2, "0.05", "0.125");
    check("memory_byte_seconds", 8, "163840000", "50331648");
    check("process_count", 8, "2", "1");
    check("io_bytes", 8, "0", "4096");
}

#[test]
fn rows_say_what_the_metric_asks_for() {
    let desktop = Desktop::new();
    let host = FakeHost::new();
    let collector = TestCollector::new::<HostUsage>(&host, &desktop.config()).unwrap();
    let mut request = request("cpu_seconds", host.now(), 1);
    host.advance(chrono::TimeDelta::seconds(1));
    request.scopes = vec!["root".to_owned(), "nobody-here".to_owned()];

    let batches = collector.collect(&request).unwrap();

    let usage = UsageBatch::new(&batches[0]).unwrap();
    assert_eq!(usage.rows(), 1, "only who was asked for");
    let text = |name: &str| text_at(usage.attribute(name).unwrap(), 0);
    assert_eq!(text("hostname"), Some("desk"));
    assert_eq!((text("uid"), text("user")), (Some("0"), Some("root")));
    assert_eq!(text("boot_id"), Some("8a0b7d3e-0d5c-4a11-9f6e-3f1f5f6f7f8f"));
}

#[test]
fn the_unknown_past_is_lost_and_the_unknown_present_is_asked_for_again() {
    let desktop = Desktop::new();
    let host = FakeHost::new();
    let collector = TestCollector::new::<HostUsage>(&host, &desktop.config()).unwrap();
    let since = host.now();

    let past = request("cpu_seconds", since - chrono::TimeDelta::seconds(1), 1);
    let error = collector.collect(&past).unwrap_err();
    assert_eq!(error.status, Status::NotFound);
    assert!(error.message.starts_with("knows nothing before 2026-01-01 00:00:00 UTC"), "{error}");

    let error = collector.collect(&request("cpu_seconds", since, 1)).unwrap_err();
    assert_eq!((error.status, error.retryable), (Status::Unavailable, true));
    assert_eq!(error.message, "has measured until 2026-01-01 00:00:00 UTC only");
}

#[test]
fn what_it_does_not_know_is_refused_with_what_it_knows() {
    let desktop = Desktop::new();
    let host = FakeHost::new();
    let collector = TestCollector::new::<HostUsage>(&host, &desktop.config()).unwrap();
    let refused = |change: fn(&mut MetricDefinition)| {
        let mut request = request("cpu_seconds", host.now(), 1);
        change(&mut request.metric);
        let error = collector.collect(&request).unwrap_err();
        assert_eq!(error.status, Status::InvalidRequest);
        error.message
    };

    assert_eq!(
        refused(|metric| metric.name = "cpu".to_owned()),
        "no metric `cpu`, only `cpu_seconds`, `memory_byte_seconds`, `process_count`, \
         `io_bytes` are known"
    );
    assert_eq!(
        refused(|metric| metric.groupby.push("flavor".to_owned())),
        "no attribute `flavor`, only `user`, `uid`, `hostname`, `boot_id` are known"
    );
    let argument = |metric: &mut MetricDefinition| {
        metric.extra_args.insert("aggregation_method".to_owned(), "max".into());
    };
    assert!(refused(argument).contains("takes no extra arguments"));
}

#[test]
fn configuration_that_cannot_work_is_refused() {
    let refused = |config: &str| {
        let error = TestCollector::new::<HostUsage>(&FakeHost::new(), config).unwrap_err();
        assert_eq!(error.status, Status::InvalidConfig);
        error.message
    };

    assert_eq!(refused("sample_secs = 0"), "`sample_secs`: must be between 1 and 60, got 0");
    assert!(refused("history_secs = 1").contains("must be between 2 and 604800, got 1"));
    assert!(refused("proc_dir = \"/nonexistent\"").contains("in `/nonexistent`: "));
    assert!(refused("sample_sec = 1").contains("unknown field `sample_sec`"));
    let config = "include = [\"\"]";
    let error = TestFetcher::new::<HostUsers>(&FakeHost::new(), config).unwrap_err();
    assert_eq!(error.message, "`include`: has an empty name");
}

#[test]
fn users_are_found_and_stay_found() {
    let desktop = Desktop::new();
    let ann = Names::default().of(ANN);
    let scopes = |more: &str| {
        let config = desktop.fetcher_config(more);
        TestFetcher::new::<HostUsers>(&FakeHost::new(), &config).unwrap().scopes().unwrap()
    };
    let mut everybody = vec![ann.clone(), "root".to_owned()];
    everybody.sort();

    assert_eq!(scopes(""), everybody);
    assert_eq!(scopes("uid_min = 1000"), [ann.as_str()]);
    assert_eq!(scopes("include = [\"root\", \"other\"]"), ["root"]);
    assert_eq!(scopes("exclude = [\"root\"]"), [ann.as_str()]);
    std::fs::remove_file(desktop.folder.path().join("now")).unwrap();
    std::fs::create_dir_all(desktop.folder.path().join("now/proc")).unwrap();
    assert_eq!(scopes(""), everybody, "nobody runs anything now");
}

#[test]
fn work_done_by_this_very_test_is_seen() {
    let host = FakeHost::new();
    let collector = TestCollector::new::<HostUsage>(&host, HOST_SAMPLE).unwrap();
    let (begin, me) = (host.now(), Names::default().of(nix::unistd::getuid().as_raw()));

    let own_ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let before = own_ticks();
    while own_ticks() < before + 10 {
        std::hint::black_box((0..100_000_u64).map(|n| n ^ 5).sum::<u64>());
    }
    host.advance(chrono::TimeDelta::seconds(10));

    let cpu = collector.collect(&request("cpu_seconds", begin, 10)).unwrap();
    assert!(quantity(&cpu, &me).unwrap() >= Decimal::new(9, 2), "0.1 s less a tick");
    let memory = collector.collect(&request("memory_byte_seconds", begin, 10)).unwrap();
    assert!(quantity(&memory, &me).unwrap() > Decimal::from(1 << 20));
    let count = collector.collect(&request("process_count", begin, 10)).unwrap();
    assert!(quantity(&count, &me).unwrap() >= Decimal::ONE);
    let users = TestFetcher::new::<HostUsers>(&host, "").unwrap().scopes().unwrap();
    assert!(users.contains(&me));
}

const HOST_SAMPLE: &str = include_str!("../sample.toml");

#[test]
fn it_bears_what_every_plugin_must() {
    conformance(crate::plugin_decl());
}

#[test]
fn the_readme_shows_the_samples() {
    let readme = include_str!("../README.md");

    assert!(readme.contains(HOST_SAMPLE.trim_end()));
    assert!(readme.contains(include_str!("../sample-fetcher.toml").trim_end()));
}
