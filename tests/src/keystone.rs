//! A real Keystone, and what a test asks of it as its administrator.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{ApiServer, KeystoneApi, Launch, copy_template, openstack_program, run};

/// Name and password of the user who may do everything, and the name of its project.
pub const ADMIN: &str = "admin";
pub const ADMIN_PASSWORD: &str = "admin-secret";
/// The region of every endpoint that names no other.
pub const REGION: &str = "RegionOne";

/// What tokens and credentials are encrypted with. The tests' secret is nobody's secret.
const KEY: &str = "a-key-that-everybody-knows-0123456789-abcde=";

/// A server with `SQLite` and fernet tokens. It begins with the domain `Default`, the project and
/// user `admin`, the roles `admin`, `member` and `reader`, and its own endpoints in the catalogue.
#[derive(Debug)]
pub struct Keystone {
    pub server: ApiServer,
    pub api: KeystoneApi,
    folder: PathBuf,
}

impl Keystone {
    /// Tokens live for an hour.
    pub fn start(folder: &Path) -> Keystone {
        Keystone::with_token_lifetime(folder, Duration::from_hours(1))
    }

    /// Whole seconds; Keystone itself knows nothing shorter.
    pub fn with_token_lifetime(folder: &Path, lifetime: Duration) -> Keystone {
        let folder = folder.join("keystone");
        copy_template("keystone", &folder, make_template);
        let launch = Launch {
            name: "keystone",
            module: "keystone.wsgi.api",
            // It notes in the database when a user was seen last, and SQLite lets one write only:
            // the others would be answered 500, "database is locked".
            threads: 1,
            log: folder.join("requests.log"),
            environment: vec![("OS_KEYSTONE_CONFIG_FILES", write_config(&folder, lifetime))],
        };
        let server = ApiServer::start(launch);
        let api = KeystoneApi::new(format!("{}/v3", server.url()));
        api.create_region(REGION);
        api.add_service("identity", "keystone", &api.url);
        Keystone { server, api, folder }
    }

    /// Starts the server again: tokens from now on live so long, those from before keep the end
    /// that they have.
    pub fn set_token_lifetime(&mut self, lifetime: Duration) {
        write_config(&self.folder, lifetime);
        self.server.start_again();
    }
}

fn make_template(folder: &Path) {
    fs::create_dir(folder).expect("a folder of the test");
    for keys in ["fernet", "credential", "receipts"] {
        let keys = folder.join(keys);
        DirBuilder::new().mode(0o700).create(&keys).expect("a folder of the test");
        // 0 is the next key, 1 the one in use.
        for name in ["0", "1"] {
            fs::write(keys.join(name), KEY).expect("a file of the test");
        }
    }
    let config = write_config(folder, Duration::from_hours(1));
    manage(&config, &["db_sync"]);
    manage(&config, &["bootstrap", "--bootstrap-password", ADMIN_PASSWORD]);
}

fn manage(config: &Path, arguments: &[&str]) {
    let mut command = Command::new(openstack_program("keystone-manage"));
    let (succeeded, text) = run(command.arg("--config-file").arg(config).args(arguments));
    assert!(succeeded, "keystone-manage {}: {text}", arguments[0]);
}

fn write_config(folder: &Path, lifetime: Duration) -> PathBuf {
    let file = folder.join("keystone.conf");
    let folder = folder.display();
    // A password takes 4 rounds to check, the fewest; the default takes 0.4 s. Its algorithm cannot
    // take more than 72 bytes, and Keystone warns each time that it cuts.
    let text = format!(
        "[database]\nconnection = sqlite:///{folder}/keystone.db\n\
         [token]\nprovider = fernet\nexpiration = {}\n\
         [identity]\npassword_hash_rounds = 4\nmax_password_length = 72\n\
         [fernet_tokens]\nkey_repository = {folder}/fernet\n\
         [fernet_receipts]\nkey_repository = {folder}/receipts\n\
         [credential]\nkey_repository = {folder}/credential\n",
        lifetime.as_secs()
    );
    fs::write(&file, text).expect("a file of the test");
    file
}
