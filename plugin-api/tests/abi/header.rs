//! The C header is the one that `src/raw.rs` makes, and C and C++ compilers accept it.
//!
//! `UPDATE_HEADER=1 cargo nextest run -p rated-plugin` rewrites it. A changed line is a change of
//! the interface, which is only ever appended to.

use std::fs;

use crate::support::{committed, compiles, exists, root};

#[test]
fn the_header_is_the_one_that_the_source_makes() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let bindings = cbindgen::Builder::new()
        .with_src(root().join("src/raw.rs"))
        .with_config(config)
        .generate()
        .unwrap();
    let mut text = Vec::new();
    bindings.write(&mut text);

    let text = without_links(&String::from_utf8(text).unwrap());

    committed("include/rated_plugin.h", &text);
}

/// The names in comments are Rust's; in the header they are C's.
fn without_links(text: &str) -> String {
    let renamed = [
        ("`RawBatches::next`", "`RatedBatches.next`"),
        ("`RawStatus`", "`RatedStatus`"),
        ("`RawRequest::method`", "`RatedRequest.method`"),
        ("`PluginDecl::", "`RatedPluginDecl."),
        ("`HostApi::", "`RatedHostApi."),
        ("`ComponentDecl::", "`RatedComponentDecl."),
        ("`RawError::", "`RatedError."),
        ("`CollectorVTable`", "`RatedCollectorVTable`"),
        ("`FetcherVTable`", "`RatedFetcherVTable`"),
        ("`RatingVTable`", "`RatedRatingVTable`"),
        ("`ComponentDecl`", "`RatedComponentDecl`"),
        ("`crate::HttpOptions`", "`HttpOptions` of the Rust crate"),
        ("`STATUS_`", "`RATED_`"),
        ("`NOT_FOUND`", "`RATED_NOT_FOUND`"),
        ("`CONFLICT`", "`RATED_CONFLICT`"),
        ("`i64::MAX`", "`INT64_MAX`"),
        ("`u64::MAX`", "`UINT64_MAX`"),
    ];
    let text = text.replace("[`", "`").replace("`]", "`");
    renamed.iter().fold(text, |text, (rust, c)| text.replace(rust, c))
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
