//! The Python programs that the tests run.

use std::path::PathBuf;

use crate::build_folder;

/// A program of the Python environment that `tests/setup.sh` makes.
pub fn python_program(name: &str) -> PathBuf {
    let environment = std::env::var_os("RATED_TEST_PYTHON").map_or_else(
        || build_folder().parent().expect("a profile has a folder").join("test-python"),
        PathBuf::from,
    );
    let program = environment.join("bin").join(name);
    assert!(program.exists(), "no `{}` (hint: run tests/setup.sh)", program.display());
    program
}
