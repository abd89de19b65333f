//! Components against answers that were recorded from real servers, and against faults.

mod faults;
mod logins;
mod recorded;
mod recording;
mod rows;

#[test]
fn it_bears_what_every_plugin_must() {
    rated_plugin::testing::conformance(crate::plugin_decl());
}

#[test]
fn the_readme_shows_the_samples() {
    let readme = include_str!("../../README.md");

    for sample in [
        include_str!("../../sample.toml"),
        include_str!("../../sample-fetcher.toml"),
        include_str!("../../sample-keystone.toml"),
    ] {
        assert!(readme.contains(sample.trim_end()), "{sample}");
    }
}
