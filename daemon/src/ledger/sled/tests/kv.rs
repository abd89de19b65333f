use rated_plugin::Edit;

use super::super::store::{Table, Write};
use super::support::*;
use crate::ledger::{KvEdit, Ledger, LedgerError};

fn edit(revision: u64, edits: &[(&str, Option<&str>)]) -> KvEdit {
    let edits = edits.iter().map(|(key, value)| Edit {
        key: (*key).to_owned(),
        value: value.map(|value| value.as_bytes().to_vec()),
    });
    KvEdit { revision, edits: edits.collect(), author: "ann".to_owned(), at: at(1) }
}

fn scan(ledger: &dyn Ledger, revision: u64, prefix: &str) -> String {
    let (revision, pairs) = ledger.kv_scan("rating/hashmap", revision, prefix).unwrap();
    let pair =
        |(key, value): &(String, Vec<u8>)| format!("{key}={}", String::from_utf8_lossy(value));
    format!("{revision}: {}", pairs.iter().map(pair).collect::<Vec<_>>().join(" "))
}

#[test]
fn every_revision_can_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let apply = |edit: &KvEdit| ledger.kv_apply("rating/hashmap", edit).unwrap();

    assert_eq!(ledger.kv_revision("rating/hashmap").unwrap(), 0);
    apply(&edit(0, &[("a/1", Some("x")), ("b", Some("y"))]));
    apply(&edit(1, &[("a/2", Some("z")), ("a/1", Some("w"))]));
    apply(&edit(2, &[("a/1", None)]));
    apply(&edit(3, &[]));
    drop(ledger);
    let ledger = open(folder.path());

    assert_eq!(scan(&ledger, 0, ""), "0: ");
    assert_eq!(scan(&ledger, 1, ""), "1: a/1=x b=y");
    assert_eq!(scan(&ledger, 2, ""), "2: a/1=w a/2=z b=y");
    assert_eq!(scan(&ledger, u64::MAX, ""), "4: a/2=z b=y");
    assert_eq!(scan(&ledger, u64::MAX, "a/"), "4: a/2=z");
    let get = |revision, key| ledger.kv_get("rating/hashmap", revision, key).unwrap();
    assert_eq!(get(1, "a/1").as_deref(), Some(b"x".as_slice()));
    assert_eq!(get(2, "a/1").as_deref(), Some(b"w".as_slice()));
    assert_eq!(get(u64::MAX, "a/1"), None);
    assert_eq!(get(u64::MAX, "a"), None);
}

#[test]
fn an_edit_of_an_older_revision_is_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.kv_apply("rating/hashmap", &edit(0, &[("a", Some("x"))])).unwrap();

    let late = ledger.kv_apply("rating/hashmap", &edit(0, &[("a", Some("y"))]));

    assert!(matches!(late, Err(LedgerError::Conflict { current: 1 })));
    assert_eq!(scan(&ledger, u64::MAX, ""), "1: a=x");
    assert_eq!(ledger.kv_revision("rating/other").unwrap(), 0);
}

#[test]
fn of_edits_at_once_one_wins_each_revision() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());

    let won: usize = std::thread::scope(|threads| {
        let edit_now = || {
            let revision = ledger.kv_revision("rating/hashmap").unwrap();
            let outcome = ledger.kv_apply("rating/hashmap", &edit(revision, &[("k", Some("v"))]));
            usize::from(outcome.is_ok())
        };
        let spawned: Vec<_> = (0..6).map(|_| threads.spawn(edit_now)).collect();
        spawned.into_iter().map(|thread| thread.join().unwrap()).sum()
    });

    assert!(won > 0);
    assert_eq!(ledger.kv_revision("rating/hashmap").unwrap(), won as u64);
}

#[test]
fn long_values_come_back_and_endless_ones_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    let long: String = (b'a'..=b'w').cycle().take(200_000).map(char::from).collect();

    ledger.kv_apply("rating/pyscripts", &edit(0, &[("script", Some(&long))])).unwrap();

    let stored = ledger.kv_get("rating/pyscripts", u64::MAX, "script").unwrap().unwrap();
    assert_eq!(stored, long.as_bytes());
    let endless = "x".repeat((1 << 20) + 1);
    let refused = ledger.kv_apply("rating/pyscripts", &edit(1, &[("script", Some(&endless))]));
    assert!(matches!(refused, Err(LedgerError::KvValue { .. })));
    let refused = ledger.kv_apply("rating/pyscripts", &edit(1, &[("", None)]));
    assert!(matches!(refused, Err(LedgerError::KvKey { .. })));
}

/// Whatever bit of a value goes, but for its first two bytes: whoever reads it is told which key,
/// of which revision.
#[test]
fn a_flipped_bit_is_found_and_its_key_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = open(folder.path());
    ledger.kv_apply("rating/hashmap", &edit(0, &[("mapping/1", Some("{\"cost\":1}"))])).unwrap();
    ledger.kv_apply("rating/hashmap", &edit(1, &[("mapping/2", None)])).unwrap();
    let store = &ledger.inner.store;
    let stored = store.range(Table::Kv, Vec::new()..).map(Result::unwrap);
    // A key, a NUL and a revision; records of revisions have an empty key.
    let is_value =
        |key: &[u8]| key.split(|byte| *byte == 0).nth(1).is_some_and(|key| !key.is_empty());
    let values: Vec<_> = stored.filter(|(key, _)| is_value(key)).collect();
    assert_eq!(values.len(), 2);

    let mut flips = 0;
    for (key, value) in &values {
        // The first two bytes say how many parts there are.
        for bit in 16..value.len() * 8 {
            let mut flipped = value.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            store.write_early(&[Write::put(Table::Kv, key.to_vec(), flipped)]).unwrap();
            let error = ledger.kv_scan("rating/hashmap", u64::MAX, "").unwrap_err();
            let LedgerError::Damaged { place, .. } = error else { panic!("{error}") };
            let number = if key.windows(9).any(|part| part == b"mapping/1") { 1 } else { 2 };
            let named = format!("key `mapping/{number}` of `rating/hashmap` at revision {number}");
            assert_eq!(place, named, "bit {bit}");
            flips += 1;
        }
        store.write_early(&[Write::put(Table::Kv, key.to_vec(), value.to_vec())]).unwrap();
    }
    assert_eq!(scan(&ledger, u64::MAX, ""), "2: mapping/1={\"cost\":1}");
    println!("{flips} bits flipped and found");
}
