//! What a metric may ask of Gnocchi, with a resource that has changed in the middle of an hour.

use std::fs;

use chrono::{DateTime, TimeDelta, Utc};
use rated_tests::{ArchivePolicy, Config, Daemon, DataSet, Exact, Gnocchi, Measures, summary};
use serde_json::json;
use tempfile::TempDir;

const HOURS: usize = 3;
const INSTANCE: &str = "00000000-0000-4000-8000-000000000001";

/// The same measures in several ways.
const METRICS: &str = r#"
[[metric]]
name = "cpu"
alt_name = "by flavor"
unit = "cpu"
groupby = ["id", "flavor"]
[metric.extra_args]
resource_type = "instance"

[[metric]]
name = "cpu"
alt_name = "latest"
unit = "cpu"
groupby = ["id"]
metadata = ["flavor"]
[metric.extra_args]
resource_type = "instance"

[[metric]]
name = "cpu"
alt_name = "joined"
unit = "cpu"
groupby = ["id", "flavor"]
[metric.extra_args]
resource_type = "instance"
use_all_resource_revisions = false

[[metric]]
name = "cpu"
alt_name = "period"
unit = "cpu"
groupby = ["id"]
metadata = ["flavor"]
[metric.extra_args]
resource_type = "instance"
metadata_revision = "period"

[[metric]]
name = "cpu"
alt_name = "custom"
unit = "cpu"
groupby = ["id"]
metadata = ["flavor"]
[metric.extra_args]
resource_type = "instance"
custom_query = "(* 10 (aggregate RE_AGGREGATION_METHOD (metric METRIC_NAME AGGREGATION_METHOD)))"

[[metric]]
name = "cpu"
alt_name = "stored rate"
unit = "cpu"
groupby = ["id"]
metadata = ["flavor"]
[metric.extra_args]
resource_type = "instance"
aggregation_method = "rate:max"
re_aggregation_method = "mean"
"#;

/// An instance that was small until the middle of the second hour: 8, 16 and 24 cores.
fn fill(gnocchi: &Gnocchi, begin: DateTime<Utc>) {
    gnocchi.create_archive_policy(ArchivePolicy {
        name: "hourly",
        methods: &["mean", "max", "rate:max"],
        granularities: &[(3600, 100)],
    });
    gnocchi.create_resource_type("instance", &["flavor"]);
    let attributes = json!({"id": INSTANCE, "project_id": "blue", "flavor": "small"});
    gnocchi.create_resource("instance", &attributes, &[("cpu", "hourly")]);
    gnocchi.set_revision_start(INSTANCE, begin - TimeDelta::days(1));
    gnocchi.change_resource("instance", INSTANCE, &json!({"flavor": "large"}));
    gnocchi.set_revision_start(INSTANCE, begin + TimeDelta::minutes(90));
    let points = ["0", "8", "16", "24"]
        .iter()
        .zip(-1..)
        .map(|(value, hour)| (begin + TimeDelta::minutes(60 * hour + 5), (*value).to_owned()))
        .collect();
    let measures = Measures { resource: INSTANCE.to_owned(), metric: "cpu".to_owned(), points };
    gnocchi.push(&[measures]);
}

fn config(gnocchi: &Gnocchi, begin: DateTime<Utc>) -> Config {
    Config {
        daemon: "shutdown_grace_secs = 10\n".to_owned(),
        collect: format!(
            "collector = \"gnocchi\"\nfetchers = [\"static\"]\nmetrics = \"metrics.toml\"\n\
             period_secs = 3600\nwait_periods = 2\nscope_key = \"project_id\"\nstart = \"{}\"\n",
            begin.format("%Y-%m-%dT%H:%M:%SZ")
        ),
        plugins: format!(
            "[collectors.gnocchi]\nauth_type = \"basic\"\nusername = \"admin\"\n\
             endpoint = \"{}\"\n\n[fetchers.static]\nscopes = [\"blue\"]\n",
            gnocchi.url()
        ),
    }
}

#[test]
fn a_change_in_the_middle_of_an_hour_is_billed_as_each_metric_says() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(1, 1, 1, HOURS);
    let gnocchi = Gnocchi::with_basic_authentication(folder.path());
    fill(&gnocchi, data.begin);
    fs::write(folder.path().join("metrics.toml"), METRICS).unwrap();

    let daemon = Daemon::start(&config(&gnocchi, data.begin).write(folder.path()));
    daemon.wait_until_processed(1, data.end(), 3600);

    let mut found: Vec<String> = Vec::new();
    for hour in 0..HOURS {
        let rows = summary(&daemon, data.hour(hour), data.hour(hour + 1), "type,flavor");
        found.extend(rows.iter().map(|row| {
            let quantity = Exact::parse(&row[2].to_string());
            let [kind, flavor] = [4, 5].map(|column| row[column].as_str().unwrap());
            format!("{kind}, hour {hour}: {quantity} {flavor}")
        }));
    }
    found.sort();
    let expected = [
        // Each part of the hour for itself.
        "by flavor, hour 0: 8 small",
        "by flavor, hour 1: 8 large",
        "by flavor, hour 1: 8 small",
        "by flavor, hour 2: 24 large",
        // What the resource is now, as in CloudKitty.
        "custom, hour 0: 80 large",
        "custom, hour 1: 160 large",
        "custom, hour 2: 240 large",
        // What it was last within the hour.
        "joined, hour 0: 8 small",
        "joined, hour 1: 16 large",
        "joined, hour 2: 24 large",
        "latest, hour 0: 8 large",
        "latest, hour 1: 16 large",
        "latest, hour 2: 24 large",
        "period, hour 0: 8 small",
        "period, hour 1: 16 large",
        "period, hour 2: 24 large",
        "stored rate, hour 0: 8 large",
        "stored rate, hour 1: 8 large",
        "stored rate, hour 2: 8 large",
    ];
    assert_eq!(found, expected);
    daemon.stop();
}
