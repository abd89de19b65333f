//! Every stored format that was ever released is still read.

use std::fs;
use std::path::{Path, PathBuf};

use rated_plugin::Edit;

use super::support::*;
use crate::ledger::{
    CollectorMapping, CompletenessQuery, Enabled, Failure, GroupKey, KvEdit, Ledger, ModuleState,
};

/// Something of everything. `daemon/tests/data/ledger-1` was written by this.
pub(super) fn write_sample(path: &Path) {
    let ledger = open(path);
    ledger.set_metrics(&[metric("cpu"), metric("disk")]).unwrap();
    ledger.add_scopes(&[new_scope("ann"), new_scope("bob"), new_scope("cid")]).unwrap();
    for index in 0..3 {
        let rows = [
            ("ann", 150 + i128::from(index), 15, Some("vm-1"), Some("small")),
            ("ann", 250, -25, Some("vm-2"), None),
            ("bob", 30_000_000_000_000_000_000, 1, Some("vm-3"), Some("größer")),
        ];
        ledger.commit(vec![slice("cpu", hour(index), &["ann", "bob", "cid"], &rows)]).unwrap();
    }
    let zero = [("ann", 0, 0, Some("vm-1"), None)];
    ledger.commit(vec![slice("disk", hour(0), &["ann", "bob"], &zero)]).unwrap();
    let failure = Failure {
        metric: metric("disk"),
        period: hour(0),
        scopes: vec![scope("cid")],
        attempts: 4,
        at: at(2),
        reason: "the source is down".to_owned(),
    };
    ledger.note_failure(&failure).unwrap();
    ledger.set_module_state("hashmap", ModuleState { enabled: true, priority: 2 }).unwrap();
    ledger.set_collector_state("host", Enabled::No).unwrap();
    let mapping = CollectorMapping { service: "cpu".to_owned(), collector: "host".to_owned() };
    ledger.set_collector_mapping(&mapping).unwrap();
    for (revision, value) in [(0, Some("x")), (1, Some("y")), (2, None)] {
        let value = value.map(|value: &str| value.as_bytes().to_vec());
        let edits = vec![Edit { key: "a".to_owned(), value }];
        let edit = KvEdit { revision, edits, author: "ann".to_owned(), at: at(1) };
        ledger.kv_apply("rating/hashmap", &edit).unwrap();
    }
}

/// All that can be read, as text.
fn read_all(path: &Path) -> String {
    let ledger = open(path);
    let query = CompletenessQuery { begin: at(-9), end: at(9), scopes: None };
    let get = |revision| ledger.kv_get("rating/hashmap", revision, "a").unwrap();
    let parts = [
        format!("{:?}", summary(&ledger, &everything(&[GroupKey::Time, GroupKey::Scope]))),
        format!("{:?}", summary(&ledger, &everything(&[attribute("flavor"), GroupKey::Type]))),
        format!("{:?}", rows(&ledger, &all_rows(0, 100))),
        format!("{:?}", ledger.scopes().unwrap()),
        format!("{:?}", ledger.cursors().unwrap()),
        format!("{:?}", ledger.completeness(&query).unwrap()),
        format!("{:?}", ledger.module_states().unwrap()),
        format!("{:?}", ledger.collector_states().unwrap()),
        format!("{:?}", ledger.collector_mappings().unwrap()),
        format!("{:?}", (0..4).map(get).collect::<Vec<_>>()),
        format!("{:?}", ledger.size().unwrap().rows),
    ];
    parts.join("\n")
}

#[test]
fn format_1_is_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old"), folder.path().join("new"));
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/ledger-1");
    super::crash::copy(&data, &old);
    write_sample(&new);

    let expected = read_all(&new);

    assert_eq!(read_all(&old), expected);
    assert!(expected.contains("größer|cpu 3x 900000000000000000 0.03"), "{expected}");
    assert!(fs::metadata(old.join("db")).unwrap().len() > 0);
}
