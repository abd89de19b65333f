//! Who gets where: every route of the built daemon, asked by every kind of caller.
//!
//! What each of them must be answered stands in `tests/data/policy/`: `default.md` for the rules
//! that hold without a policy file, `open.md` for one that lets everybody do everything, where only
//! the own scope may be seen and changed all the same. A route that is in no row fails the test,
//! and so does anything in an answer that belongs to a scope the row does not name.
#![forbid(unsafe_code)]

mod site;
mod table;

use std::collections::BTreeSet;
use std::fs;

use rated_tests::get;
use serde_json::Value;
use tempfile::TempDir;

use crate::site::Site;
use crate::table::{Row, read};

/// Routes that the description of the API does not list: where modules answer, and what is there
/// under two names.
const UNLISTED: [&str; 3] =
    ["GET /v1/rating/module_config/{*}", "GET /v1/billing/modules", "HEAD /v2/summary"];

#[test]
fn everybody_gets_where_the_rules_say() {
    check("default.md", "");
}

#[test]
fn what_everybody_may_do_everybody_does_to_the_own_scope() {
    let shown = fs::read_to_string(site::config("policy.toml")).unwrap();
    let actions = shown.lines().filter_map(|line| line.strip_prefix("#\"")?.split('"').next());
    let open: Vec<String> = actions.map(|action| format!("\"{action}\" = \"\"")).collect();
    assert!(open.len() > 30, "{open:?}");

    check("open.md", &open.join("\n"));
}

#[track_caller]
fn check(table: &str, policy: &str) {
    let rows = read(table);
    let folder = TempDir::new().unwrap();
    let site = Site::start(folder.path(), policy);

    let unasked = unasked(&site, &rows);
    assert!(unasked.is_empty(), "{table} has no row for:\n{}", unasked.join("\n"));

    let mut wrong = Vec::new();
    for row in &rows {
        for (caller, expected) in site::CALLERS.iter().zip(&row.cells) {
            let found = site.ask(caller, row);
            if found.cell != *expected {
                let Row { line, request, .. } = row;
                let (name, body) = (caller.name, found.body);
                wrong.push(format!(
                    "{table}:{line}: {request}, {name}: `{}` instead of `{expected}`\n    {body}",
                    found.cell
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    site.stop();
}

/// Routes of the daemon's own description, and the others, that no row asks for.
fn unasked(site: &Site, rows: &[Row]) -> Vec<String> {
    let document: Value = get(&format!("{}/openapi.json", site.url())).json();
    let mut routes: BTreeSet<String> = UNLISTED.iter().map(|route| (*route).to_owned()).collect();
    for (path, item) in document["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys();
        routes.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
    }
    assert!(routes.len() > 80, "{routes:?}");
    routes.retain(|route| !rows.iter().any(|row| is_asked(route, row)));
    routes.into_iter().collect()
}

fn is_asked(route: &str, row: &Row) -> bool {
    let (method, pattern) = route.split_once(' ').unwrap();
    let path = row.target.split('?').next().unwrap();
    let parts = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, path) = (parts(pattern), parts(path));
    let is_rest = pattern.last().is_some_and(|part| part == "{*}");
    row.method == method
        && (pattern.len() == path.len() || is_rest && path.len() >= pattern.len())
        && pattern.iter().zip(&path).all(|(part, asked)| part.starts_with('{') || part == asked)
}
