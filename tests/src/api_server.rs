//! A Python program's API on a port of its own, which stays the same over restarts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Process, openstack_program};

/// Serves one WSGI module by `data/openstack/serve.py`.
#[derive(Debug)]
pub struct ApiServer {
    launch: Launch,
    process: Process,
    address: String,
    version: String,
}

/// What is started: the same each time.
#[derive(Debug)]
pub(crate) struct Launch {
    pub name: &'static str,
    pub module: &'static str,
    /// Requests that are worked on at a time.
    pub threads: u32,
    pub environment: Vec<(&'static str, PathBuf)>,
    /// The file with a line for each request; it outlives restarts.
    pub log: PathBuf,
}

impl ApiServer {
    pub(crate) fn start(launch: Launch) -> ApiServer {
        let (process, version, address) = launch.start("127.0.0.1:0");
        ApiServer { launch, process, address, version }
    }

    /// Such as `http://127.0.0.1:5000`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Of the installed program.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Ends the server at once; its port stays free for [`ApiServer::start_again`].
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// On the same address, with the same data.
    pub fn start_again(&mut self) {
        self.process.kill();
        (self.process, self.version, self.address) = self.launch.start(&self.address);
    }

    /// From now on connections are accepted and nothing is answered.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// What was asked meanwhile is answered now.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// How many requests were answered so, over all restarts: `POST /v3/auth/tokens 201`. The
    /// last part may be left out.
    pub fn answered(&self, request: &str) -> usize {
        let log = fs::read_to_string(&self.launch.log).expect("the server has made it");
        let is_it = |line: &&str| line.strip_prefix(request).is_some_and(ends_there);
        log.lines().filter(is_it).count()
    }

    /// Everything printed since the last start, for messages of failing tests.
    pub fn output(&self) -> String {
        self.process.output()
    }
}

fn ends_there(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(' ')
}

impl Launch {
    /// The process, its version and its address.
    fn start(&self, address: &str) -> (Process, String, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/openstack/serve.py");
        let mut command = Command::new(openstack_program("python"));
        command.arg(script).args([self.module, address, &self.threads.to_string()]).arg(&self.log);
        // What the caller's shell has set for its own cloud does not matter here.
        for (name, _) in std::env::vars_os() {
            let is_ours = self.environment.iter().any(|(known, _)| *known == name);
            if !is_ours && name.to_str().is_some_and(|name| name.starts_with("OS_")) {
                command.env_remove(name);
            }
        }
        command.envs(self.environment.iter().map(|(name, value)| (*name, value.as_os_str())));
        let mut process = Process::start(self.name, &mut command);
        let (version, address) = process.wait_for_output("it serves", |output| {
            let line = output.lines().find(|line| line.starts_with("serving "))?;
            let [_, _, version, _, address] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{}: unexpected first line `{line}`", self.name);
            };
            Some((version.to_owned(), address.to_owned()))
        });
        (process, version, address)
    }
}
