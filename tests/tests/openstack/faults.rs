//! Servers that die and servers that are slow, in the middle of the work: periods come later, and
//! nothing is lost, doubled or taken for "no usage".

use std::time::Duration;

use rated_tests::{Config, Daemon, wait_until};

use crate::cloud::Cloud;

const HOURS: usize = 48;

/// One slice at a time, and whoever does not answer is given up after some seconds.
fn impatient(cloud: &Cloud) -> Config {
    let mut config = cloud.config();
    config.collect += "slices_in_flight_max = 1\n";
    config.plugins =
        config.plugins.replace("auth_type", "timeout_secs = 5\nretries_max = 0\nauth_type");
    config
}

fn wait_until_hours(cloud: &Cloud, daemon: &Daemon, hours: usize) {
    daemon.wait_until_processed(cloud.projects.len(), cloud.data.hour(hours), 3600);
}

fn failures(daemon: &Daemon) -> f64 {
    daemon.metric("rated_failures_total")
}

fn wait_until_it_fails(daemon: &Daemon) {
    let before = failures(daemon);
    wait_until("a failure is counted", || (failures(daemon) > before).then_some(()));
}

#[test]
fn gnocchi_may_die_and_be_slow() {
    let mut cloud = Cloud::new(HOURS);
    let daemon = cloud.start_daemon(&impatient(&cloud));

    wait_until_hours(&cloud, &daemon, 8);
    cloud.gnocchi.server.kill();
    wait_until_it_fails(&daemon);
    cloud.gnocchi.server.start_again();
    wait_until_hours(&cloud, &daemon, 24);
    cloud.gnocchi.server.pause();
    wait_until_it_fails(&daemon);
    cloud.gnocchi.server.resume();
    cloud.wait_until_rated(&daemon);

    println!("{} failures", failures(&daemon));
    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}

/// Tokens are short, so that one is needed while nobody gives any.
#[test]
fn keystone_may_die_and_be_slow() {
    let mut cloud = Cloud::new(HOURS);
    cloud.keystone().set_token_lifetime(Duration::from_secs(10));
    let daemon = cloud.start_daemon(&impatient(&cloud));

    wait_until_hours(&cloud, &daemon, 8);
    cloud.keystone().server.kill();
    wait_until_it_fails(&daemon);
    cloud.keystone().server.start_again();
    wait_until_hours(&cloud, &daemon, 24);
    cloud.keystone().server.pause();
    wait_until_it_fails(&daemon);
    cloud.keystone().server.resume();
    cloud.wait_until_rated(&daemon);

    println!("{} failures", failures(&daemon));
    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}
