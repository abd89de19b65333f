//! Answers of a real Gnocchi, and the exact requests they belong to.

use rated_plugin::testing::TestFetcher;
use rated_plugin::{CollectRequest, Status};
use serde_json::{Value, json};

use super::recording::host;
use super::rows::{BASIC, collect, request, rows};
use crate::GnocchiScopes;

const ID: &[&str] = &["id"];

#[track_caller]
fn check(names: &[&str], request: &CollectRequest, expected: &[&str]) {
    let host = host(names);
    let batch = collect(&host, request).unwrap();
    assert_eq!(rows(&batch), expected);
    assert_eq!(host.requests().len(), names.len());
}

#[track_caller]
fn refused(name: &str, request: &CollectRequest) -> rated_plugin::Error {
    collect(&host(&[name]), request).unwrap_err()
}

#[test]
fn one_question_brings_the_usage_of_many_scopes() {
    let request =
        request(&json!({}), [&["id", "flavor_id", "ram", "is_windows"], &[]], &["alpha", "beta"]);

    check(
        &["gnocchi/many-scopes"],
        &request,
        &[
            "alpha [#001 small 2048.0 True] = 2.25",
            "alpha [#002 large 4096.5 False] = 4",
            "alpha [#002 small 4096.5 False] = 4",
            "beta [#003 None None None] = 0",
            "beta [#004 small None None] = 7",
            "beta [#005 small None None] = 6",
        ],
    );
}

#[test]
fn every_scope_at_once_leaves_out_what_is_nobodys() {
    let request =
        request(&json!({"aggregation_method": "mean", "force_granularity": 0}), [ID, &[]], &[]);

    let batch = collect(&host(&["gnocchi/every-scope"]), &request).unwrap();

    let rows = rows(&batch);
    assert!(rows.iter().any(|row| row == "averages [#009] = 1"), "{rows:?}");
    assert!(!rows.iter().any(|row| row.contains("#007")), "{rows:?}");
    assert!(rows.len() > 20);
}

#[test]
fn metadata_are_those_of_now_and_of_resources_near_the_period() {
    let request = request(&json!({}), [ID, &["flavor_id", "ram", "no_such"]], &["alpha", "beta"]);

    // #002 is not split by a flavor that is only metadata; #004 ended four hours before.
    check(
        &["gnocchi/metadata", "gnocchi/metadata-resources"],
        &request,
        &[
            "alpha [#001 small 2048.0 ] = 2.25",
            "alpha [#002 huge 4096.5 ] = 8",
            "beta [#003 None None ] = 0",
            "beta [#005 small None ] = 6",
        ],
    );
}

#[test]
fn what_is_left_out_is_said() {
    let request = request(&json!({}), [ID, &["flavor_id", "ram", "no_such"]], &["alpha", "beta"]);
    let host = host(&["gnocchi/metadata", "gnocchi/metadata-resources"]);

    collect(&host, &request).unwrap();

    let logged = host.logged();
    assert_eq!(logged.len(), 1);
    assert_eq!(
        logged[0].message,
        "Left out 1 measures of metric `cpu` at 2026-01-01 00:00:00 UTC: their resources ended \
         more than a period before it."
    );
}

#[test]
fn metadata_may_be_those_of_the_period() {
    let arguments = json!({"metadata_revision": "period"});
    let request = request(&arguments, [ID, &["flavor_id"]], &["alpha"]);

    check(
        &["gnocchi/period", "gnocchi/period-resources"],
        &request,
        &["alpha [#001 small] = 2.25", "alpha [#002 large] = 8"],
    );
}

#[test]
fn revisions_are_joined_when_asked_for() {
    let arguments = json!({"use_all_resource_revisions": false});
    let request = request(&arguments, [&["id", "flavor_id"], &[]], &["alpha"]);

    check(&["gnocchi/joined"], &request, &["alpha [#001 small] = 2.25", "alpha [#002 large] = 8"]);
}

#[test]
fn a_resource_that_was_renamed_meanwhile_is_found_in_its_history() {
    let arguments = json!({"resource_key": "display_name"});
    let request = request(&arguments, [&["display_name"], &["flavor_id"]], &["renamed"]);

    check(
        &["gnocchi/renamed", "gnocchi/renamed-resources", "gnocchi/renamed-history"],
        &request,
        &["renamed [old small] = 1"],
    );
}

#[test]
fn the_key_is_asked_for_and_not_kept() {
    let request = request(&json!({}), [&["user_id"], &["flavor_id"]], &["alpha"]);

    check(
        &["gnocchi/no-key", "gnocchi/no-key-resources"],
        &request,
        &["alpha [user-0 huge] = 8", "alpha [user-1 small] = 2.25"],
    );
}

#[test]
fn numbers_keep_every_digit() {
    check(
        &["gnocchi/numbers"],
        &request(&json!({}), [&["id", "flavor_id"], &[]], &["numbers"]),
        &[
            "numbers [#020 0.1] = 0.1",
            "numbers [#021 1e-7] = 0.0000001",
            "numbers [#022 17179869184] = 17179869184",
            "numbers [#023 -5.5] = -5.5",
            "numbers [#024 0.30000000000000004] = 0.30000000000000004",
        ],
    );
    let mut request = request(&json!({}), [ID, &[]], &["wide"]);
    request.metric.name = "vast".to_owned();
    check(&["gnocchi/wide"], &request, &["wide [#031] = 1000000000000000000000"]);
    request.scopes.push("vast".to_owned());
    let error = refused("gnocchi/vast", &request);
    assert_eq!(error.status, Status::BadData);
    assert!(error.message.contains("is more digits than a quantity can have"), "{error}");
}

#[test]
fn a_rate_takes_the_value_before_the_period() {
    let stored = json!({"aggregation_method": "rate:mean", "re_aggregation_method": "max"});
    check(
        &["gnocchi/rate-stored"],
        &request(&stored, [ID, &[]], &["alpha"]),
        &["alpha [#001] = -0.375", "alpha [#002] = 3.5"],
    );
    // Gnocchi itself halves the rate of #002: its second revision has no value before it.
    let computed = json!({"aggregation_method": "mean", "re_aggregation_method": "rate:mean"});
    check(
        &["gnocchi/rate-computed"],
        &request(&computed, [ID, &[]], &["alpha"]),
        &["alpha [#001] = -1.125", "alpha [#002] = 2.5"],
    );
}

#[test]
fn of_finer_values_the_first_counts() {
    let arguments = json!({"force_granularity": 300});

    check(&["gnocchi/finer"], &request(&arguments, [ID, &[]], &["fine"]), &["fine [#008] = 1"]);
}

#[test]
fn a_custom_query_is_understood() {
    let arguments = json!({"custom_query":
        "(* -2 (aggregate RE_AGGREGATION_METHOD (metric METRIC_NAME AGGREGATION_METHOD)))"});

    check(
        &["gnocchi/custom"],
        &request(&arguments, [ID, &[]], &["alpha"]),
        &["alpha [#001] = -4.5", "alpha [#002] = -16"],
    );
}

#[test]
fn a_metric_that_nobody_has_is_no_data() {
    let mut request = request(&json!({}), [ID, &["flavor_id"]], &["alpha", "beta"]);
    request.metric.name = "no.such.metric".to_owned();
    let host = host(&["gnocchi/no-metric"]);

    let batch = collect(&host, &request).unwrap();

    assert_eq!(batch.num_rows(), 0);
    assert_eq!(
        host.logged()[0].message,
        "Gnocchi knows no metric `no.such.metric` of 2 scopes at 2026-01-01 00:00:00 UTC: no data."
    );
}

#[test]
fn a_scope_without_measures_in_the_period_is_no_data() {
    let mut request = request(&json!({}), [ID, &[]], &["alpha"]);
    request.begin += chrono::TimeDelta::days(10);
    request.end += chrono::TimeDelta::days(10);

    check(&["gnocchi/no-measures"], &request, &[]);
}

#[test]
fn what_the_definition_gets_wrong_is_said_and_asked_again() {
    let mut wrong_type = request(&json!({"resource_type": "no_such_type"}), [ID, &[]], &["alpha"]);
    let error = refused("gnocchi/no-type", &wrong_type);
    assert_eq!((error.status, error.retryable), (Status::InvalidRequest, true));
    assert_eq!(
        error.message,
        "metric `cpu`: `http://gnocchi.test`: `extra_args`: `resource_type`: HTTP status 400: \
         Resource type does not exist: no_such_type"
    );
    wrong_type = request(&json!({}), [&["no_such_attribute"], &[]], &["alpha"]);
    let error = refused("gnocchi/no-attribute", &wrong_type);
    assert_eq!((error.status, error.retryable), (Status::InvalidRequest, true));
    let custom = request(&json!({"custom_query": "(no such"}), [ID, &[]], &["alpha"]);
    let error = refused("gnocchi/custom-broken", &custom);
    assert_eq!((error.status, error.retryable), (Status::InvalidRequest, true));
}

#[test]
fn an_archive_policy_that_does_not_fit_stops_its_scope() {
    let error =
        refused("gnocchi/no-method", &request(&json!({}), [ID, &[]], &["alpha", "averages"]));
    assert_eq!((error.status, error.retryable), (Status::BadData, false));
    assert!(error.message.contains("Metrics with unknown aggregation"), "{error}");
    let error =
        refused("gnocchi/no-granularity", &request(&json!({}), [ID, &[]], &["alpha", "fine"]));
    assert_eq!((error.status, error.retryable), (Status::BadData, false));
    assert!(error.message.contains("Granularities are missing"), "{error}");
}

#[test]
fn the_check_asks_for_next_to_nothing() {
    let host = host(&["gnocchi/check"]);
    let collector =
        rated_plugin::testing::TestCollector::new::<crate::GnocchiCollector>(&host, BASIC).unwrap();

    collector.check().unwrap();

    assert_eq!(host.requests()[0].headers["authorization"], "Basic YWRtaW46");
}

#[test]
fn scopes_are_found_also_when_their_resources_have_ended() {
    let host = host(&["gnocchi/scopes-1", "gnocchi/scopes-2"]);
    let fetcher = TestFetcher::new::<GnocchiScopes>(&host, BASIC).unwrap();

    let scopes = fetcher.scopes().unwrap();

    assert_eq!(
        scopes,
        ["alpha", "averages", "beta", "fine", "many", "numbers", "renamed", "vast", "wide"]
    );
}

#[test]
fn another_attribute_and_another_type_name_scopes_too() {
    let config = format!(
        "{BASIC}scope_attribute = \"user_id\"\nresource_types = [\"instance\", \"generic\"]"
    );
    let names = ["gnocchi/users-1", "gnocchi/users-2", "gnocchi/users-3", "gnocchi/users-4"];
    let fetcher = TestFetcher::new::<GnocchiScopes>(&host(&names), &config).unwrap();

    assert_eq!(fetcher.scopes().unwrap(), ["user-0", "user-1"]);
    let value: Value =
        serde_json::from_slice(&super::recording::answer("gnocchi/users-2").body).unwrap();
    assert_eq!(value, json!([]));
}
