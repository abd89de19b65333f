//! `kill -9` in the middle of catching up: every period is in the ledger exactly once.
#![forbid(unsafe_code)]

use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rated_tests::{
    Config, Daemon, DataSet, Prometheus, actual_bill, enter_price_list, expected_bill, summary,
    wait_until,
};
use tempfile::TempDir;

const KILLS: u64 = 20;
const HOURS: usize = 240;

#[test]
fn killed_twenty_times_the_bill_is_that_of_a_daemon_never_killed() {
    let folder = TempDir::new().unwrap();
    let data = DataSet::ending_lately(2, 30, 5, HOURS);
    let prometheus = Prometheus::start(folder.path(), &data.open_metrics());
    std::fs::write(folder.path().join("metrics.toml"), data.metrics_toml()).unwrap();
    // One slice at a time and small ones, so that there is a middle to be killed in.
    let mut config = Config::prometheus(&prometheus.url, data.begin);
    config.collect += "slice_scopes_max = 7\nslices_in_flight_max = 2\n";
    let setup = Daemon::start(&config.clone().without_scopes().write(folder.path()));
    enter_price_list(&setup, &data);
    setup.stop();

    let file = config.write(folder.path());
    for round in 0..KILLS {
        let mut daemon = Daemon::start(&file);
        // Spread over most of the history, and by a few milliseconds over the steps of a commit,
        // which may be of a day.
        let hour = usize::try_from(round * HOURS as u64 * 3 / 4 / (KILLS + 1)).unwrap();
        wait_until("the daemon is on its way", || reached(&daemon, data.hour(hour)).then_some(()));
        thread::sleep(Duration::from_millis(round * 7 % KILLS));
        assert!(!reached(&daemon, data.hour(HOURS - 1)), "kill {round} came after the end");
        daemon.process.kill();
    }

    let daemon = Daemon::start(&file);
    daemon.wait_until_processed(data.scopes, data.end(), 3600);
    assert_eq!(actual_bill(&daemon, data.begin, data.end()), expected_bill(&data, 0..HOURS));
    every_hour_is_there_once(&daemon, &data);
    daemon.stop();
}

/// Row by row: what each hour of each metric and scope adds up to.
fn every_hour_is_there_once(daemon: &Daemon, data: &DataSet) {
    let rows = summary(daemon, data.begin, data.end(), "time,project_id,type");
    for hour in (0..data.hours).step_by(11) {
        let begin = data.hour(hour).format("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        let actual = rows.iter().filter(|row| row[0] == begin.as_str()).count();
        assert_eq!(actual, expected_bill(data, hour..hour + 1).len(), "hour {hour}");
    }
}

/// Whether some scope has been processed up to an hour.
fn reached(daemon: &Daemon, hour: DateTime<Utc>) -> bool {
    daemon.last_processed().values().flatten().any(|last| *last >= hour.timestamp())
}
