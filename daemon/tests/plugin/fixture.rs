//! Libraries made on the spot from `fixture.c`.

use std::path::Path;
use std::process::Command;

/// Compiles the fixture to `to`, with macros such as `MINOR=3`.
pub(crate) fn build(to: &Path, macros: &[&str]) {
    compile("fixture.c", to, macros);
}

/// Compiles the module that harms its own process.
pub(crate) fn build_faults(to: &Path, macros: &[&str]) {
    compile("faults.c", to, macros);
}

/// Compiles the fetcher whose batches have one thing wrong.
pub(crate) fn build_batches(to: &Path) {
    compile("batches.c", to, &[]);
}

fn compile(source: &str, to: &Path, macros: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let defined = macros.iter().map(|text| format!("-D{text}"));
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-pthread", "-Wall", "-Wextra", "-Wno-unused-function"])
        .arg("-Wno-unused-const-variable")
        .args(defined)
        .arg("-I")
        .arg(root.join("../plugin-api/include"))
        .arg("-o")
        .arg(to)
        .arg(root.join("tests/plugin").join(source))
        .output()
        .expect("a C compiler called `cc`");

    let said = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{macros:?}: {said}");
}
