//! A source that is down, slow or lying delays its own metrics and is never taken for "no usage".
#![forbid(unsafe_code)]

use rated_tests::{
    Config, Daemon, DataSet, FakeSource, Misbehaviour, Prometheus, actual_bill, enter_price_list,
    expected_bill, summary, wait_until,
};
use tempfile::TempDir;

#[test]
fn an_outage_in_the_middle_changes_no_total() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 10, 5, 96);
    let mut prometheus = Prometheus::start(folder.path(), &data.open_metrics());
    std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    let mut config = Config::prometheus(&prometheus.url, data.begin);
    config.collect += "slice_scopes_max = 2\nslices_in_flight_max = 1\n";
    let daemon = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&daemon, &data);
    daemon.stop();

    let daemon = Daemon::start(&config.write(folder.path()));
    wait_until("the first periods", || {
        daemon.last_processed().values().any(Option::is_some).then_some(())
    });
    prometheus.stop();
    wait_until("a failure is counted", || {
        (daemon.metric("rated_failures_total") > 0.0).then_some(())
    });
    prometheus.start_again();

    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..96));
    daemon.stop();
}

#[test]
fn a_source_that_hangs_keeps_nobody_waiting_at_the_start() {
    let folder = TempDir::new().unwrap();
    let metrics = "[[metric]]\nname = \"m\"\nunit = \"u\"\n";
    std::fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    let silent = FakeSource::start(Misbehaviour::Hang);
    let config = Config::prometheus(&silent.url, chrono::DateTime::UNIX_EPOCH);

    let daemon = Daemon::start(&config.write(folder.path()));

    assert_eq!(daemon.get("/healthcheck")["reasons"][0], "OK");
    let said = daemon.process.output();
    assert!(!said.contains("check failed"), "it waited for the check:\n{said}");
    daemon.stop();
}

/// One collector is sound; the other answers each kind of nonsense in turn.
#[test]
fn nonsense_from_one_source_stops_only_its_metric() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 4, 2, 6);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
    let half = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"#;
    let liar = FakeSource::start(Misbehaviour::Silence);
    let metrics = data
        .metrics_toml()
        .replace("name = \"metric_1\"", "name = \"metric_1\"\ncollector = \"liar\"");
    std::fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
    let config = Config::prometheus(&prometheus.url, data.begin).with_collector("liar", &liar.url);
    let file = config.write(folder.path());

    for manner in [
        Misbehaviour::Silence,
        Misbehaviour::Hang,
        Misbehaviour::HalfOf(half.repeat(3)),
        Misbehaviour::Answer(200, half.to_owned()),
        Misbehaviour::Answer(200, "<html>welcome</html>".to_owned()),
        Misbehaviour::Answer(200, "{}".to_owned()),
        Misbehaviour::Answer(429, "slow down".to_owned()),
        Misbehaviour::Answer(500, "oops".to_owned()),
    ] {
        println!("{manner:?}");
        liar.set(manner);
        std::fs::remove_dir_all(folder.path().join("state")).unwrap_or_default();
        let daemon = Daemon::start(&file);
        wait_until("the sound metric is there", || {
            let rows = summary(&daemon, data.begin, data.end(), "time,type");
            (rows.len() == 6).then_some(())
        });

        let rows = summary(&daemon, data.begin, data.end(), "type");
        assert_eq!(rows.len(), 1, "only the sound metric has rows");
        assert!(daemon.last_processed().values().all(Option::is_none), "no cursor has moved");
        daemon.process.signal("KILL");
    }
}
