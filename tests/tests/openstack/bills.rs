//! From a real Keystone and Gnocchi to the bill, exact to the last digit.

use rated_tests::Target;

use crate::cloud::Cloud;

#[test]
fn every_total_of_three_projects_is_exact() {
    let cloud = Cloud::new(6);

    let daemon = cloud.start_daemon(&cloud.config());
    cloud.wait_until_rated(&daemon);

    let bill = cloud.actual_bill(&daemon);
    assert_eq!(bill, cloud.expected_bill());
    assert_eq!(bill.len(), 6, "three projects, two types");
    daemon.stop();
}

/// The one project without the role is nobody's customer.
#[test]
fn a_project_is_billed_when_the_service_user_has_the_role_there() {
    let cloud = Cloud::new(3);
    let red = Target::Project(&cloud.projects[2]);
    cloud.identity().unassign(cloud.service_user(), "rating", red);

    let daemon = cloud.start_daemon(&cloud.config());
    daemon.wait_until_processed(2, cloud.data.end(), 3600);

    let mut expected = cloud.expected_bill();
    expected.retain(|(project, _), _| *project != cloud.projects[2]);
    assert_eq!(cloud.actual_bill(&daemon), expected);
    daemon.stop();
}

#[test]
fn an_application_credential_is_as_good_as_a_password() {
    let cloud = Cloud::new(3);
    let (identity, user) = (cloud.identity(), cloud.service_user());
    let billing = identity.project_id("billing");
    let credential = identity.create_application_credential(user, &billing, "rated");
    let login = format!(
        "auth_type = \"application_credential\"\nauth_url = \"{}\"\n\
         application_credential_id = \"{}\"\napplication_credential_secret = \"{}\"\n",
        identity.url, credential.id, credential.secret
    );

    let daemon = cloud.start_daemon(&cloud.config_with(&login, "keystone", &login));
    cloud.wait_until_rated(&daemon);

    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}

/// Without a Keystone: Gnocchi knows who is billed as well.
#[test]
fn gnocchi_alone_is_enough_for_a_bill() {
    let cloud = Cloud::without_keystone(3);
    let login = format!(
        "auth_type = \"basic\"\nusername = \"admin\"\nendpoint = \"{}\"\n",
        cloud.gnocchi.url()
    );
    let fetcher =
        format!("{login}scope_attribute = \"project_id\"\nresource_types = [\"instance\"]\n");

    let daemon = cloud.start_daemon(&cloud.config_with(&login, "gnocchi", &fetcher));
    cloud.wait_until_rated(&daemon);

    assert_eq!(cloud.actual_bill(&daemon), cloud.expected_bill());
    daemon.stop();
}
