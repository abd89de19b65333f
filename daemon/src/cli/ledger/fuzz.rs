//! Backups as a fuzzer has them: refused, or nothing of them lies outside of their folder.

use std::path::{Component, Path};

use super::manifest::Manifest;
use crate::ledger::sled::fuzz::backup_records;

/// Which part of a backup, then its bytes.
pub(crate) fn backup(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    match choice % 2 {
        0 => manifest(bytes),
        _ => backup_records(bytes),
    }
}

fn manifest(bytes: &[u8]) {
    let folder = Path::new("/backup");
    let Ok(manifest) = Manifest::parse(bytes, folder) else { return };
    for part in manifest.with_libraries() {
        let path = folder.join(&part.file);
        assert!(path.starts_with(folder), "{}", path.display());
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        assert!(path.components().all(is_plain), "{}", path.display());
        assert_eq!(Path::new(&part.name).components().count(), 1, "{}", part.name);
    }
    let text = serde_json::to_vec(&manifest).expect("it has texts and numbers only");
    let again = Manifest::parse(&text, folder).expect("it was just written");
    assert_eq!(again, manifest);
}
