//! Data folders that take seconds to make: made once, copied for each test.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::{openstack_environment, run};

/// Goes up when the folders are made in another way.
const FORMAT: u32 = 1;

/// Makes `target` a copy of the folder `name`, which `make` fills if nobody has done so yet.
///
/// The folder is kept in the servers' environment and goes with it. Tests run in processes of their
/// own, so the first one holds a lock while it makes it; what is half made is nobody's.
pub(crate) fn copy_template(name: &str, target: &Path, make: impl FnOnce(&Path)) {
    let templates = openstack_environment().join("templates");
    fs::create_dir_all(&templates).expect("the environment can be written to");
    let template = templates.join(format!("{name}-{FORMAT}"));
    let lock = File::create(templates.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the file system has locks");
    if !template.exists() {
        let folder = TempDir::new().expect("a temporary folder");
        let filled = folder.path().join(name);
        make(&filled);
        let unnamed = templates.join(format!("{name}.part"));
        let _ = fs::remove_dir_all(&unnamed);
        copy(&filled, &unnamed);
        fs::rename(&unnamed, &template).expect("a folder of the environment");
    }
    copy(&template, target);
}

/// With owners and modes: `PostgreSQL` looks at them.
fn copy(from: &Path, to: &Path) {
    let (succeeded, text) = run(Command::new("cp").arg("-a").args([from, to]));
    assert!(succeeded, "{text}");
}
