//! A folder with a daemon that knows who calls.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use chrono::DateTime;
use rated_tests::{Answer, Config, Daemon, Process, build_folder, run, send_with};
use reqwest::Method;
use tempfile::TempDir;

pub(crate) struct Site {
    pub(crate) folder: TempDir,
}

/// A path that everybody may ask who has said who they are.
pub(crate) const KNOWN: &str = "/v1/info/config";

impl Site {
    pub(crate) fn new() -> Site {
        let folder = TempDir::new().unwrap();
        let metrics = "[[metric]]\nname = \"m\"\nunit = \"u\"\n";
        fs::write(folder.path().join("metrics.toml"), metrics).unwrap();
        Site { folder }
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.folder.path().join(name), content).unwrap();
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// Nobody is billed; `api` stands in `[api]`.
    pub(crate) fn config(&self, api: &str) -> PathBuf {
        let config = Config::prometheus("http://127.0.0.1:1", DateTime::UNIX_EPOCH);
        let file = config.without_scopes().write(self.folder.path());
        let text = fs::read_to_string(&file).unwrap();
        let listen = "listen = \"127.0.0.1:0\"\n";
        assert!(text.contains(listen));
        fs::write(&file, text.replace(listen, &format!("{listen}{api}\n"))).unwrap();
        file
    }

    pub(crate) fn start(&self, api: &str) -> Daemon {
        Daemon::start(&self.config(api))
    }

    /// A start that must fail; what it printed.
    pub(crate) fn fails(&self, api: &str) -> String {
        let mut process: Process = Daemon::spawn(&self.config(api));
        let status = process.wait(std::time::Duration::from_secs(20));
        assert!(!status.success(), "it started");
        process.output()
    }
}

/// A GET of the daemon.
pub(crate) fn ask(daemon: &Daemon, path: &str, headers: &[(&str, &str)]) -> Answer {
    send_with(&Method::GET, &format!("{}{path}", daemon.url), headers, None)
        .unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", daemon.process.output()))
}

pub(crate) fn status(daemon: &Daemon, headers: &[(&str, &str)]) -> u16 {
    ask(daemon, KNOWN, headers).status
}

/// What is in the log, or will be soon.
pub(crate) fn says(daemon: &mut Daemon, words: &str) {
    daemon.process.wait_for_output(words, |output| output.contains(words).then_some(()));
}

/// `rated` as a client, with these variables.
pub(crate) fn client(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(build_folder().join("rated"));
    run(command.args(arguments).envs(variables.iter().copied()))
}

pub(crate) fn basic(name: &str, password: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}
