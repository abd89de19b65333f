//! What a machine can check of how we write.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const LINES_MAX: usize = 800;
const COLUMNS_MAX: usize = 100;

/// Crates that speak the plugin interface; they deny unsafe code outside the modules that do.
const UNSAFE_ROOTS: [&str; 2] = ["daemon/src/lib.rs", "plugin-api/src/lib.rs"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Files of the project with that ending, relative to its root.
fn files(ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), ending, &mut found);
    assert!(!found.is_empty(), "no file ends with {ending}");
    found.sort();
    found
}

fn walk(folder: &Path, ending: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let is_ours = name != "target" && name != "state" && !name.starts_with('.');
            if is_ours {
                walk(&path, ending, found);
            }
        } else if name.ends_with(ending) {
            let relative = path.strip_prefix(root()).unwrap();
            found.push(relative.to_string_lossy().into_owned());
        }
    }
}

fn read(relative: &str) -> String {
    fs::read_to_string(root().join(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

#[track_caller]
fn none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn files_and_lines_are_short() {
    let mut long = Vec::new();
    for file in files(".rs") {
        let text = read(&file);
        let lines = text.lines().count();
        if lines > LINES_MAX {
            long.push(format!("{file}: {lines} lines, at most {LINES_MAX}"));
        }
        for (index, line) in text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS_MAX && !line.contains("http") {
                let at = index + 1;
                long.push(format!("{file}:{at}: {columns} columns, at most {COLUMNS_MAX}"));
            }
        }
    }
    none("too long", &long);
}

#[test]
fn the_top_level_has_five_folders() {
    let expected = ["config", "daemon", "plugin-api", "plugins", "tests"];
    let hidden = [".cargo", ".ci", ".config", ".github"];
    // What is not part of the project: built, kept by `make run`, or git's own.
    let ignored = ["target", "state", ".git"];

    let mut found = BTreeSet::new();
    for entry in fs::read_dir(root()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = hidden.contains(&name.as_str()) || ignored.contains(&name.as_str());
        if entry.file_type().unwrap().is_dir() && !known {
            found.insert(name);
        }
    }

    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn unsafe_code_is_forbidden_in_every_other_crate_root() {
    let is_root = |file: &str| {
        file.ends_with("src/lib.rs") || file.ends_with("src/main.rs") || file.contains("/src/bin/")
    };
    let mut lax = Vec::new();
    for file in files(".rs").into_iter().filter(|file| is_root(file)) {
        let level = if UNSAFE_ROOTS.contains(&file.as_str()) { "deny" } else { "forbid" };
        let line = format!("#![{level}(unsafe_code)]");
        if !read(&file).contains(&line) {
            lax.push(format!("{file}: no `{line}`"));
        }
    }
    none("unsafe code is not ruled out", &lax);
}

#[test]
fn unsafe_code_stands_where_it_may() {
    let may = |file: &str| {
        ["plugin-api/src/raw/", "plugin-api/src/thunk/", "daemon/src/plugin/"]
            .iter()
            .any(|place| file.starts_with(place))
    };
    let allows = "allow(unsafe_code";
    let expects = "expect(unsafe_code";
    let mut found = Vec::new();
    for file in files(".rs") {
        // The roots name the modules that may.
        let is_root = UNSAFE_ROOTS.contains(&file.as_str()) || file == "tests/tests/tidy.rs";
        let text = read(&file);
        if !is_root && !may(&file) && (text.contains(allows) || text.contains(expects)) {
            found.push(file);
        }
    }
    none("unsafe code outside its places", &found);
}

/// The binaries of `daemon/fuzz` are no crate roots of ours: all they have is one call of a macro
/// that exports a function to LLVM's fuzzer, which is unsafe code. What is fuzzed is in the crates.
#[test]
fn every_fuzzer_is_one_call_and_has_a_corpus_that_a_test_runs_over() {
    // What stands in the tests of a `fuzz.rs`; only those that drive targets are looked at.
    let is_ours = |file: &String| file == "daemon/src/fuzz.rs" || file.starts_with("plugins/");
    let tests: String = files("fuzz.rs")
        .into_iter()
        .filter(is_ours)
        .filter_map(|file| Some(read(&file).split_once("#[cfg(test)]")?.1.to_owned()))
        .filter(|tests| tests.contains("replay("))
        .collect();
    let mut wrong = Vec::new();
    for file in files(".rs").into_iter().filter(|file| file.starts_with("daemon/fuzz/")) {
        let text = read(&file);
        let name = Path::new(&file).file_stem().unwrap().to_string_lossy().into_owned();
        if text.contains("unsafe") || text.lines().count() > 10 || !text.contains("fuzz_target!") {
            wrong.push(format!("{file}: more than one call of `fuzz_target!`"));
        }
        let corpus = root().join("daemon/fuzz/corpus").join(&name);
        if fs::read_dir(&corpus).map_or(0, Iterator::count) == 0 {
            wrong.push(format!("{file}: no corpus"));
        }
        // A line of `checks!`, or the name of a folder.
        let mentions = [format!(": {name}, "), format!("corpus/{name}\""), format!("(\"{name}\"")];
        if !mentions.iter().any(|mention| tests.contains(mention)) {
            wrong.push(format!("{file}: no test runs over its corpus"));
        }
    }
    let corpora = root().join("daemon/fuzz/corpus");
    for entry in fs::read_dir(corpora).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        if !root().join(format!("daemon/fuzz/fuzz_targets/{name}.rs")).exists() {
            wrong.push(format!("daemon/fuzz/corpus/{name}: no fuzzer"));
        }
    }
    none("fuzzers", &wrong);
}

#[test]
fn every_plugin_folder_has_the_same_shape() {
    let mut missing = Vec::new();
    for entry in fs::read_dir(root().join("plugins")).unwrap() {
        let folder = entry.unwrap().path();
        for name in ["Cargo.toml", "src/lib.rs", "README.md", "sample.toml", "testdata"] {
            if !folder.join(name).exists() {
                missing.push(folder.join(name).strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    none("missing in plugins", &missing);
}

#[test]
fn the_licences_of_dependencies_agree_with_ours() {
    let fine = [
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CDLA-Permissive-2.0",
        "ISC",
        "MIT",
        "MIT-0",
        "Unicode-3.0",
        "Unlicense",
        "Zlib",
    ];
    // A tool of a test: it is in nothing that we give away.
    let tools = ["cbindgen"];
    let version = output(Command::new("rustc").arg("-vV"));
    let platform = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // What is built here is here; what other platforms need may not be. Fuzzers have a workspace of
    // their own, of which nothing is given away: it is not looked at.
    let metadata = output(
        Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--locked", "--offline"])
            .args(["--filter-platform", platform])
            .current_dir(root()),
    );
    let metadata: Value = serde_json::from_str(&metadata).unwrap();

    let mut strange = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        // "A AND (B OR C)": of each part with AND, one alternative must be fine.
        let is_fine = licence.split(" AND ").all(|part| {
            let part = part.trim_matches(['(', ')']);
            part.split(" OR ")
                .flat_map(|one| one.split('/'))
                .any(|one| fine.contains(&one.trim().trim_matches(['(', ')'])))
        });
        let is_tool = package["name"].as_str().is_some_and(|name| tools.contains(&name));
        if !is_fine && !is_tool {
            strange.push(format!("{}: {licence}", package["name"]));
        }
    }
    none("licences to look at", &strange);
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
