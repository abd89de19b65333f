//! The C header is the one that `src/raw/` makes, and C and C++ compilers accept it.
//!
//! `UPDATE_HEADER=1 cargo nextest run -p rated-plugin` rewrites it. A changed line is a change of
//! the interface, which is only ever appended to.

use std::fs;

use crate::support::{committed, compiles, exists, root};

#[test]
fn the_header_is_the_one_that_the_source_makes() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let files = ["constants", "values", "calls", "host", "tables", "decl"];
    let builder = files.iter().fold(cbindgen::Builder::new(), |builder, file| {
        builder.with_src(root().join(format!("src/raw/{file}.rs")))
    });
    let bindings = builder.with_config(config.clone()).generate().unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);

    let text = in_c_words(&String::from_utf8(text).unwrap(), &config);

    committed("include/rated_plugin.h", &text);
}

/// The names in comments are Rust's; in the header they are C's.
fn in_c_words(text: &str, config: &cbindgen::Config) -> String {
    const UNRENAMED: [&str; 9] = [
        "Buffer",
        "Bytes",
        "CollectorVTable",
        "ComponentDecl",
        "FetcherVTable",
        "HostApi",
        "HostRef",
        "PluginDecl",
        "RatingVTable",
    ];
    const WORDS: [(&str, &str); 7] = [
        ("`CONFLICT`", "`RATED_CONFLICT`"),
        ("`NOT_FOUND`", "`RATED_NOT_FOUND`"),
        ("`STATUS_`", "`RATED_`"),
        ("`crate::HttpOptions`", "`HttpOptions` of the Rust crate"),
        ("`i64::MAX`", "`INT64_MAX`"),
        ("`size_of`", "`sizeof`"),
        ("`u64::MAX`", "`UINT64_MAX`"),
    ];
    let prefixed = UNRENAMED.iter().map(|name| ((*name).to_owned(), format!("Rated{name}")));
    let renamed = config.export.rename.iter().map(|(rust, c)| (rust.clone(), c.clone()));
    let text = text.replace("[`", "`").replace("`]", "`");
    let text = prefixed.chain(renamed).fold(text, |text, (rust, c)| {
        text.replace(&format!("`{rust}`"), &format!("`{c}`"))
            .replace(&format!("`{rust}::"), &format!("`{c}."))
    });
    WORDS.iter().fold(text, |text, (rust, c)| text.replace(rust, c))
}

#[test]
fn the_comments_of_the_header_name_nothing_of_rust() {
    let header = fs::read_to_string(root().join("include/rated_plugin.h")).unwrap();

    let rust: Vec<&str> =
        header.lines().filter(|line| line.contains("::") || line.contains("Raw")).collect();

    assert_eq!(rust, Vec::<&str>::new());
}

#[test]
fn a_c_compiler_sees_the_same_sizes_and_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let layout = root().join("tests/data/layout.c");

    compiles("cc", &["-std=c11", "-c"], &layout, &folder.path().join("layout.o"));
}

#[test]
fn a_cpp_compiler_does_too() {
    if !exists("c++") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let layout = root().join("tests/data/layout.c");

    compiles("c++", &["-std=c++17", "-x", "c++", "-c"], &layout, &folder.path().join("layout.o"));
}
