//! Committed files that a test makes anew, and the C compiler.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of the crate.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a committed file with what it should be, or rewrites it with `UPDATE_HEADER=1`.
pub(crate) fn committed(path: &str, wanted: &str) {
    let path = root().join(path);
    if std::env::var_os("UPDATE_HEADER").is_some() {
        fs::create_dir_all(path.parent().expect("in a folder")).expect("can be made");
        fs::write(&path, wanted).expect("can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let difference = found
        .lines()
        .chain(std::iter::repeat("<end>"))
        .zip(wanted.lines().chain(std::iter::once("<end>")))
        .enumerate()
        .find(|(_, (found, wanted))| found != wanted);
    assert!(
        found == wanted,
        "`{}` is not what the source makes: (line, committed, made) = {difference:?}\n\
         (hint: was the interface meant to change? run the tests with UPDATE_HEADER=1 and review)",
        path.display()
    );
}

/// Is there such a compiler?
pub(crate) fn exists(compiler: &str) -> bool {
    Command::new(compiler).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Compiles with every warning an error.
pub(crate) fn compiles(compiler: &str, arguments: &[&str], source: &Path, output: &Path) {
    let result = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(root().join("include"))
        .args(arguments)
        .arg(source)
        .arg("-o")
        .arg(output)
        .output()
        .expect("the compiler is there");
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));
}
