//! The real clients with real tokens: who asks sees what is theirs.

use std::fs;
use std::process::Command;

use rated_tests::{ADMIN, ADMIN_PASSWORD, Daemon, Exact, Target, User, python_program, run};
use serde_json::Value;

use crate::cloud::{Bill, Cloud};

/// The daemon after it has rated everything, now with Keystone in front of its API.
fn open_to_callers(cloud: &Cloud) -> Daemon {
    let config = cloud.config();
    let daemon = cloud.start_daemon(&config);
    cloud.wait_until_rated(&daemon);
    daemon.stop();
    let file = config.write(cloud.folder.path());
    let User { name, password, .. } = cloud.service_user();
    let text = config.text().replace("[api]\n", "[api]\nauth = \"keystone\"\n");
    let section = format!(
        "\n[api.keystone]\nurl = \"{}\"\nusername = \"{name}\"\npassword = \"{password}\"\n\
         project_name = \"billing\"\n",
        cloud.identity().url
    );
    fs::write(&file, text + &section).unwrap();
    let daemon = Daemon::start(&file);
    cloud.identity().add_service("rating", "rated", &daemon.url);
    daemon
}

/// A command of a client, which finds the daemon in Keystone's catalogue.
fn client(
    cloud: &Cloud,
    program: &str,
    login: &[(&str, &str)],
    arguments: &[&str],
) -> (bool, String) {
    let mut command = Command::new(python_program(program));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("OS_")) {
            command.env_remove(name);
        }
    }
    // A person's own clouds are none of this test's business.
    command.env("OS_CLIENT_CONFIG_FILE", "none.yaml").current_dir(cloud.folder.path());
    command.env("OS_AUTH_URL", &cloud.identity().url).env("OS_IDENTITY_API_VERSION", "3");
    run(command.envs(login.iter().copied()).args(arguments))
}

/// What `summary get` shows, by project and type.
fn summary(cloud: &Cloud, program: &str, login: &[(&str, &str)]) -> Bill {
    let (begin, end) = (cloud.data.begin.to_rfc3339(), cloud.data.end().to_rfc3339());
    let command = ["summary", "get", "-g", "project_id", "-g", "type", "-b", &begin, "-e", &end];
    let mut arguments = match program {
        "openstack" => vec!["--rating-api-version", "2", "rating"],
        _ => vec!["--os-rating-api-version", "2"],
    };
    arguments.extend(command);
    arguments.extend(["-f", "json"]);
    let (succeeded, text) = client(cloud, program, login, &arguments);
    assert!(succeeded, "{program}: {text}");
    let (_, json) = text.split_once('[').unwrap_or_else(|| panic!("{program}: {text}"));
    let rows: Vec<Value> = serde_json::from_str(&format!("[{json}")).unwrap();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let exact = |value: &Value| Exact::parse(&value.to_string());
    rows.iter()
        .map(|row| {
            let key = (word(&row["Project id"]), word(&row["Type"]));
            (key, (exact(&row["Qty"]), exact(&row["Rate"])))
        })
        .collect()
}

fn part_of(bill: &Bill, project: &str) -> Bill {
    bill.iter()
        .filter(|((id, _), _)| id == project)
        .map(|(key, sums)| (key.clone(), *sums))
        .collect()
}

#[test]
fn a_project_sees_its_own_summary_and_an_administrator_all() {
    let cloud = Cloud::new(3);
    let [blue, green, _] = &cloud.projects[..] else { unreachable!("there are three") };
    let user = cloud.identity().create_user("alice", "wonderland");
    for project in [blue, green] {
        cloud.identity().assign(&user, "member", Target::Project(project));
    }
    let daemon = open_to_callers(&cloud);
    let expected = cloud.expected_bill();

    let token = cloud.identity().token(&user, Target::Project(blue));
    let as_blue =
        [("OS_AUTH_TYPE", "v3token"), ("OS_TOKEN", &*token), ("OS_PROJECT_ID", blue.as_str())];
    assert_eq!(summary(&cloud, "openstack", &as_blue), part_of(&expected, blue));
    let as_green = [
        ("OS_AUTH_TYPE", "password"),
        ("OS_USERNAME", "alice"),
        ("OS_PASSWORD", "wonderland"),
        ("OS_USER_DOMAIN_ID", "default"),
        ("OS_PROJECT_ID", green.as_str()),
    ];
    assert_eq!(summary(&cloud, "cloudkitty", &as_green), part_of(&expected, green));
    let as_admin = [
        ("OS_AUTH_TYPE", "password"),
        ("OS_USERNAME", ADMIN),
        ("OS_PASSWORD", ADMIN_PASSWORD),
        ("OS_USER_DOMAIN_ID", "default"),
        ("OS_PROJECT_NAME", ADMIN),
        ("OS_PROJECT_DOMAIN_ID", "default"),
    ];
    assert_eq!(summary(&cloud, "openstack", &as_admin), expected);
    daemon.stop();
}
