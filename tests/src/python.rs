//! The Python programs that the tests run.

use std::path::{Path, PathBuf};

use crate::build_folder;

/// A program of the clients' environment that `tests/setup.sh` makes.
pub fn python_program(name: &str) -> PathBuf {
    program_of(&environment("RATED_TEST_PYTHON", "test-python"), name)
}

/// A program of the environment with the servers.
pub fn openstack_program(name: &str) -> PathBuf {
    program_of(&openstack_environment(), name)
}

/// A program of the environment with `DuckDB`, for benchmarks.
pub fn bench_program(name: &str) -> PathBuf {
    program_of(&environment("RATED_BENCH_PYTHON", "bench-python"), name)
}

/// The environment with the servers; it goes when other versions are asked for.
pub(crate) fn openstack_environment() -> PathBuf {
    environment("RATED_TEST_OPENSTACK", "test-openstack")
}

fn environment(variable: &str, name: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(
        || build_folder().parent().expect("a profile has a folder").join(name),
        PathBuf::from,
    )
}

fn program_of(environment: &Path, name: &str) -> PathBuf {
    let program = environment.join("bin").join(name);
    assert!(program.exists(), "no `{}` (hint: run tests/setup.sh)", program.display());
    program
}
