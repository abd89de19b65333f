//! Examples of this crate as libraries: plugins for the daemon under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{build_folder, run};

/// Builds an example, which nobody else does, and says where it is.
pub fn example_library(name: &str) -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let target = build_folder().parent().expect("target/<profile>").to_owned();
    let mut command = Command::new("cargo");
    command.args(["build", "--offline", "--example", name, "--manifest-path"]);
    // What the runner of this test has set would make cargo build everything again.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    let (succeeded, text) = run(command.arg(manifest).env("CARGO_TARGET_DIR", &target));
    assert!(succeeded, "{text}");
    target.join(format!("debug/examples/lib{name}.so"))
}
