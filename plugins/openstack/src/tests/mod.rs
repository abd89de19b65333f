//! Components against answers that were recorded from real servers, and against faults.

use rated_plugin::{CollectRequest, MetricDefinition};
use serde_json::json;

use crate::arguments::Arguments;
use crate::query::Query;

mod faults;
mod logins;
mod pauses;
mod recorded;
mod recording;
mod rows;

#[test]
fn it_bears_what_every_plugin_must() {
    rated_plugin::testing::conformance(crate::plugin_decl());
}

#[test]
fn the_metrics_that_the_readme_shows_can_be_asked_for() {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once("```toml\n[[metric]]").unwrap();
    let (text, _) = rest.split_once("```").unwrap();

    let sample = rated_plugin::testing::config_json(&format!("[[metric]]{text}")).unwrap();

    let metrics = sample["metric"].as_array().unwrap();
    assert_eq!(metrics.len(), 2);
    for metric in metrics {
        let mut metric = metric.as_object().unwrap().clone();
        // What the daemon keeps for itself.
        for key in ["mutate", "factor", "collector"] {
            metric.shift_remove(key);
        }
        let metric: MetricDefinition = serde_json::from_value(metric.into()).unwrap();
        let request = CollectRequest { metric, ..rows::request(&json!({}), [&[], &[]], &["a"]) };
        let arguments = Arguments::of(&request.metric).unwrap();
        let query = Query::new(&request, &arguments).unwrap();
        assert_eq!(query.body["operations"][2][1], request.metric.name);
    }
}

#[test]
fn the_readme_shows_the_samples() {
    let readme = include_str!("../../README.md");

    for sample in [
        include_str!("../../sample.toml"),
        include_str!("../../sample-fetcher.toml"),
        include_str!("../../sample-keystone.toml"),
    ] {
        assert!(readme.contains(sample.trim_end()), "{sample}");
    }
}
