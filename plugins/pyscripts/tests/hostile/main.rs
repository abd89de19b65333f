//! Scripts that mean harm, of which there is a list: what becomes of each, and that nobody else
//! notices.
//!
//! The list is `testdata/hostile/`, in files by what is attacked. Every script on it is run with
//! all walls, with the filter of system calls and without namespaces, and the other way round: each
//! holds alone. Between two other scopes' points in one batch it is the middle one. Before each
//! script stands `escape.py`, by which it has got out of the interpreter before it begins.

#![cfg(test)]

mod cases;
mod site;
mod walls;

use std::fmt::Write;
use std::path::Path;

use rated_pyscripts::Wall;

use self::cases::{Case, cases};
use self::site::Site;

/// Walls that are left out, with the name of those that stand.
const ALL: &[Wall] = &[];
const NO_NAMESPACES: &[Wall] = &[Wall::Namespaces];
const NO_FILTER: &[Wall] = &[Wall::Filter];

/// Tries every script of a file.
fn attack(topic: &str, left_out: &'static [Wall]) {
    let site = Site::new(left_out);
    let tried: Vec<Case> = cases().into_iter().filter(|case| case.topic == topic).collect();
    assert!(!tried.is_empty(), "no scripts about {topic}");
    if left_out.contains(&Wall::Filter) && !site.has_namespaces() {
        eprintln!("this kernel gives no namespaces: they are not tried alone");
        return;
    }
    let mut wrong = Vec::new();
    for case in &tried {
        if let Some(expected) = case.expected(left_out) {
            wrong.extend(site.attack(case, expected).err());
        }
    }
    assert!(wrong.is_empty(), "with {left_out:?} left out:\n{}", wrong.join("\n"));
}

macro_rules! topics {
    ($($topic:ident)*) => {$(
        mod $topic {
            use super::*;

            #[test]
            fn hurts_nobody_else_with_all_walls() {
                attack(stringify!($topic), ALL);
            }

            #[test]
            fn hurts_nobody_else_without_namespaces() {
                attack(stringify!($topic), NO_NAMESPACES);
            }

            #[test]
            fn hurts_nobody_else_without_a_filter() {
                attack(stringify!($topic), NO_FILTER);
            }
        }

    )*

        /// The list has no file that nobody tries.
        const TOPICS: &[&str] = &[$(stringify!($topic)),*];
    };
}

topics! { answers files interpreter kernel memory network prices processes time }

#[test]
fn every_file_of_the_list_is_tried() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> =
        names.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    found.retain(|name| name != "escape");
    found.sort();

    assert_eq!(found, TOPICS);
}

#[test]
fn the_readme_lists_exactly_the_scripts_that_are_tried() {
    let mut rows = String::new();
    for case in cases() {
        let outcome = case.outcome.join(", or ");
        let _ = writeln!(rows, "| {} | {} | {outcome} |", case.name, case.tries);
    }
    let head = "| script | what it does | what becomes of it |\n|---|---|---|\n";
    let readme = include_str!("../../README.md");

    let (_, table) = readme.split_once(head).expect("the README has the table");
    let table = table.split_once("\n\n").map_or(table, |(table, _)| table);

    assert_eq!(format!("{}\n", table.trim_end()), rows);
}
