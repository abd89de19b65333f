//! A real `PostgreSQL`, reached through a socket in its own data folder: it has no port.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Process, run};

/// Who owns every database.
const OWNER: &str = "gnocchi";

/// How long a server may take to end.
const END_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Postgres {
    process: Process,
    /// All there is of it; whoever made the folder removes it.
    folder: PathBuf,
}

impl Postgres {
    /// Makes a data folder. The folder it is in must let everybody through, see
    /// [`let_everybody_through`].
    pub fn initialise(folder: &Path) {
        fs::create_dir(folder).expect("a folder of the test");
        if is_root() {
            let (user, group) = (id(&["-u", "postgres"]), id(&["-g", "postgres"]));
            chown(folder, Some(user), Some(group)).expect("root may give a folder away");
        }
        let mut command = as_server_user("initdb");
        command.arg("--pgdata").arg(folder);
        command.args(["--username", OWNER, "--auth", "trust", "--encoding", "UTF8"]);
        let (succeeded, text) = run(command.args(["--locale", "C", "--no-sync"]));
        assert!(succeeded, "initdb: {text}");
    }

    /// Starts on a data folder.
    pub fn start(folder: &Path) -> Postgres {
        let mut command = as_server_user("postgres");
        command.arg("-D").arg(folder).arg("-k").arg(folder);
        // Nothing here outlives the test, so nothing needs to reach the disk.
        for setting in [
            "listen_addresses=",
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=16MB",
            "dynamic_shared_memory_type=mmap",
        ] {
            command.args(["-c", setting]);
        }
        let mut process = Process::start("postgres", &mut command);
        process.wait_for_output("it accepts connections", |output| {
            output.contains("database system is ready to accept connections").then_some(())
        });
        Postgres { process, folder: folder.to_owned() }
    }

    /// Of a database, as `SQLAlchemy` takes it.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://{OWNER}@/{database}?host={}", self.folder.display())
    }

    /// Runs statements in a database: all of them or none.
    pub fn execute(&self, database: &str, statements: &str) {
        let mut command = Command::new(program("psql"));
        command.args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"]);
        command.arg("--host").arg(&self.folder);
        command.args(["--username", OWNER, "--dbname", database, "--command", statements]);
        let (succeeded, text) = run(&mut command);
        assert!(succeeded, "{statements}: {text}");
    }

    /// Leaves the data folder in a state that may be copied.
    pub fn stop(mut self) {
        // A fast shutdown: open connections are cut.
        self.process.signal("INT");
        let status = self.process.wait(END_PATIENCE);
        assert!(status.success(), "postgres: {status}:\n{}", self.process.output());
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.is_running() {
            // At once, but with its shared memory given back; a kill would leave it behind.
            self.process.signal("QUIT");
            self.process.wait(END_PATIENCE);
        }
    }
}

/// A temporary folder is its maker's alone, but the server runs as another user under root.
pub(crate) fn let_everybody_through(folder: &Path) {
    fs::set_permissions(folder, Permissions::from_mode(0o711)).expect("a folder of the test");
}

/// A program of the newest server that is installed.
fn program(name: &str) -> PathBuf {
    let place = Path::new("/usr/lib/postgresql");
    let versions = fs::read_dir(place).into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| place.join(format!("{version}/bin/initdb")).exists())
        .max()
        .expect("no server in /usr/lib/postgresql (hint: run tests/setup.sh)");
    place.join(format!("{newest}/bin/{name}"))
}

/// The server refuses to run as root; Debian's package brings a user for it.
fn as_server_user(name: &str) -> Command {
    if !is_root() {
        return Command::new(program(name));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]);
    command.arg(program(name)).current_dir("/");
    command
}

fn is_root() -> bool {
    id(&["-u"]) == 0
}

fn id(arguments: &[&str]) -> u32 {
    let (succeeded, text) = run(Command::new("id").args(arguments));
    assert!(succeeded, "id: {text}");
    text.trim().parse().expect("a number")
}
