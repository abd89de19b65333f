//! Where plugins are looked for.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::{LoadError, LoadErrorKind};

/// Most libraries in one daemon.
const LIBRARIES_MAX: usize = 256;

/// What was found, in the order in which it is loaded.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<PathBuf>,
    /// Folders that are there and cannot be read.
    pub(super) refused: Vec<LoadError>,
}

/// Every `*.so` of the configured folders, then the `librated_*.so` of the bundled ones';
/// within a folder by name, and a file name that was found already is skipped.
pub(super) fn find(plugin_dirs: &[PathBuf], bundled_dir: Option<&Path>) -> Found {
    let mut found = Found::default();
    let mut names = BTreeSet::new();
    let configured = plugin_dirs.iter().map(|dir| (dir.as_path(), ""));
    let beside = bundled_dir.map(|dir| (dir, "librated_"));
    for (dir, prefix) in configured.chain(beside) {
        let files = match libraries_in(dir, prefix) {
            Ok(files) => files,
            Err(error) => {
                found.refused.push(unreadable(dir, &error));
                continue;
            }
        };
        for file in files {
            let is_new = file.file_name().is_some_and(|name| names.insert(name.to_owned()));
            if is_new && found.files.len() < LIBRARIES_MAX {
                found.files.push(file);
            }
        }
    }
    found
}

/// The folder of the running program.
pub(super) fn executable_dir() -> Option<PathBuf> {
    std::env::current_exe().ok()?.parent().map(Path::to_owned)
}

/// A folder that is not there holds no libraries.
fn libraries_in(dir: &Path, prefix: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_library = path.extension() == Some(OsStr::new("so"))
            && path
                .file_name()
                .and_then(OsStr::to_str)
                .is_some_and(|name| name.starts_with(prefix))
            && !path.is_dir();
        if is_library {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> LoadError {
    LoadError::new(path, LoadErrorKind::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_folders_come_first_and_names_once() {
        let root = tempfile::tempdir().unwrap();
        let (first, second, beside) =
            (root.path().join("first"), root.path().join("second"), root.path().join("beside"));
        for (dir, names) in [
            (&first, &["libacme.so", "notes.txt"][..]),
            (&second, &["libzeta.so", "libacme.so", "librated_noop.so"]),
            (&beside, &["librated_noop.so", "librated_host.so", "libother.so"]),
        ] {
            fs::create_dir(dir).unwrap();
            for name in names {
                fs::write(dir.join(name), "").unwrap();
            }
        }

        let dirs = [first.clone(), second.clone(), root.path().join("absent")];
        let found = find(&dirs, Some(&beside));

        let expected = [
            first.join("libacme.so"),
            second.join("librated_noop.so"),
            second.join("libzeta.so"),
            beside.join("librated_host.so"),
        ];
        assert_eq!(found.files, expected);
        assert!(found.refused.is_empty());
    }
}
