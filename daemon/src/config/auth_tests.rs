use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use super::tests::{METRICS, load, load_with};
use super::{Auth, Config, KeystoneConfig, KeystoneLogin};

/// A configuration with one method, whose section has these fields.
fn with_method(method: &str, fields: &str) -> String {
    format!("[api]\nauth = \"{method}\"\n[api.{method}]\n{fields}\n")
}

fn keystone(config: &Config) -> &KeystoneConfig {
    let Auth::Methods(methods) = &config.api.auth else { panic!("nobody is asked") };
    methods.keystone.as_ref().unwrap()
}

const KEYSTONE: &str = "url = \"https://keystone:5000/v3/\"\nusername = \"rated\"\n\
                        project_name = \"service\"\npassword = \"hunter2\"";

#[test]
fn callers_are_known_by_one_method_or_several() {
    let basic = "[api.basic]\nhtpasswd_file = \"htpasswd\"\n\
                 [api.basic.users.\"ada.l\"]\nroles = [\"reader\"]\nscope = \"p1\"\n";
    let token = "[api.token]\nfile = \"/etc/tokens.toml\"\n";

    let config = load(&format!("[api]\nauth = [\"basic\", \"token\"]\n{basic}{token}")).unwrap();

    let Auth::Methods(methods) = &config.api.auth else { panic!("nobody is asked") };
    let basic = methods.basic.as_ref().unwrap();
    assert!(basic.htpasswd_file.is_absolute());
    assert_eq!(basic.users["ada.l"].roles, ["reader"]);
    assert_eq!(methods.token.as_ref().unwrap().file, Path::new("/etc/tokens.toml"));
    assert!(methods.keystone.is_none());
    let open = "[api]\nlisten = \"0.0.0.0:1\"\nauth = \"token\"\n";
    assert!(load(&format!("{open}{token}")).is_ok());
}

#[test]
fn a_method_needs_its_section_and_a_section_its_method() {
    let refused = |text: &str, words: &str| {
        let error = load(text).unwrap_err();
        assert!(error.contains(words), "no `{words}` in: {error}");
    };

    refused("[api]\nauth = \"token\"", "line 2: `api.token`: is missing");
    refused("[api.token]\nfile = \"x\"", "`api.token`: does nothing");
    let both = "[api]\nauth = [\"none\", \"token\"]\n[api.token]\nfile = \"x\"";
    refused(both, "must stand alone");
    refused("[api]\nauth = \"tokens\"", "did you mean `token`?");
    refused("[api]\nauth = []", "must not be empty");
    refused(&with_method("token", "file = \"x\"\nfiles = 1"), "did you mean `file`?");
    refused(&with_method("basic", ""), "`api.basic.htpasswd_file`: is missing");
}

#[test]
fn keystone_is_told_who_asks() {
    let config = load(&with_method("keystone", KEYSTONE)).unwrap();
    let found = keystone(&config);
    assert_eq!(found.url, "https://keystone:5000");
    assert_eq!(found.www_authenticate_uri, "https://keystone:5000");
    assert_eq!((found.timeout.as_secs(), found.cache.as_secs()), (10, 300));

    let error = |fields: &str| load(&with_method("keystone", fields)).unwrap_err();
    assert!(error("").contains("`api.keystone.url`: is missing"));
    let missing = error("url = \"http://k\"");
    for field in ["username", "project_name", "password"] {
        assert!(missing.contains(&format!("`api.keystone.{field}`: is missing")), "{missing}");
    }
    let in_url = error(&KEYSTONE.replace("https://", "https://u:hunter2@"));
    assert!(in_url.contains("without a password") && !in_url.contains("hunter2"), "{in_url}");
    let twice = error(&format!("{KEYSTONE}\npassword_file = \"p\""));
    assert!(twice.contains("in two ways") && !twice.contains("is missing"), "{twice}");
    let nowhere = error(&KEYSTONE.replace("password = \"hunter2\"", "password_file = \"/no/p\""));
    assert!(nowhere.contains("`api.keystone.password_file`: cannot read `/no/p`"), "{nowhere}");
    assert!(!nowhere.contains("is missing"), "{nowhere}");
    let both = error(&format!("{KEYSTONE}\napplication_credential_id = \"c\""));
    assert!(both.contains("must not be set") && !both.contains("hunter2"), "{both}");
    let credential = "url = \"http://k\"\napplication_credential_id = \"c\"\n\
                      application_credential_secret = \"s\"";
    assert!(load(&with_method("keystone", credential)).is_ok());
}

#[test]
fn a_password_in_the_environment_stays_text() {
    let plugins = "[fetchers.keystone]\nurl = \"http://k\"\n";
    let without = KEYSTONE.replace("\npassword = \"hunter2\"", "");
    let text = with_method("keystone", &without) + plugins;
    for password in ["0042", "1e5", "true", "[1]", "\"quoted\"", "2026-01-01", "a,b"] {
        let variables = [
            ("RATED__API__KEYSTONE__PASSWORD", password),
            ("RATED__FETCHERS__KEYSTONE__PASSWORD", password),
            ("RATED__FETCHERS__KEYSTONE__RETRIES_MAX", "5"),
        ];

        let config = load_with(&text, METRICS, &variables).unwrap();

        let section = &config.fetchers["keystone"].config;
        assert_eq!((&section["password"], &section["retries_max"]), (&json!(password), &json!(5)));
        let KeystoneLogin::Password { password: source, .. } = &keystone(&config).login else {
            panic!("no password");
        };
        assert_eq!(source.read().unwrap().expose(), password);
        assert!(!format!("{config:?}").contains(&format!("{password:?}")));
    }
}

#[test]
fn a_secret_that_everybody_can_read_is_noted() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rated.toml");
    fs::write(folder.path().join("metrics.toml"), METRICS).unwrap();
    let exposed = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let config = Config::load(&path, std::iter::empty()).unwrap();
        config.exposed_secret.map(|exposed| exposed.field)
    };

    let text = with_method("keystone", KEYSTONE);
    assert_eq!(exposed(&text, 0o644).as_deref(), Some("api.keystone.password"));
    assert_eq!(exposed(&text, 0o640), None);
    let plugin = "[fetchers.x]\nbearer_token = \"t\"";
    assert_eq!(exposed(plugin, 0o604).as_deref(), Some("fetchers.x.bearer_token"));
    assert_eq!(exposed("[fetchers.x]\nbearer_token_file = \"t\"", 0o644), None);
}
