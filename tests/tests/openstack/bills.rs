//! From a real Keystone and Gnocchi to the bill, exact to the last digit.

use crate::cloud::Cloud;

#[test]
fn every_total_of_three_projects_is_exact() {
    let cloud = Cloud::new(6);

    let daemon = cloud.start_daemon(&cloud.config());
    cloud.wait_until_rated(&daemon);

    let bill = cloud.actual_bill(&daemon);
    assert_eq!(bill, cloud.expected_bill(0..6));
    assert_eq!(bill.len(), 6, "three projects, two types");
    daemon.stop();
}
