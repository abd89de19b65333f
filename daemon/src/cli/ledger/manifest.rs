//! What a backup consists of: the file that is written last.
//!
//! ```text
//! DIR/manifest.json   {"format": 2, "taken_at": …, "change": …, "ledger_format": …,
//!                      "records": part, "files": [ part ], "libraries": [ part ]}
//! part                {"name": …, "file": below DIR, "size": bytes, "sha256": hex of these}
//! DIR/records.ID      all that stands in sled, see the ledger's `backup`
//! DIR/data/…          data files; they may be longer than `size`
//! DIR/libraries/…     libraries of plugins that rated something, by the names of their copies
//! DIR/rated-backup    empty; says that the folder is one before it has a manifest
//! ```
//!
//! Format 1 has no libraries.
//!
//! Without it there is no backup, or the one before it: data files only grow, and a file with other
//! contents gets another name.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{FileError, hash_of, hex, sync_folder};
use crate::fault::{Step, passed};
use crate::ledger::sled::LEDGER_VERSION;
use crate::plugin::KeptLibrary;

/// Folders of a backup.
pub(super) const DATA: &str = "data";
pub(super) const LIBRARIES: &str = "libraries";
const NAME: &str = "manifest.json";
const NAME_NEW: &str = "manifest.json.new";
pub(super) const FORMAT: u32 = 2;
const FORMAT_OLDEST: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) taken_at: String,
    pub(super) change: u64,
    pub(super) ledger_format: u16,
    pub(super) records: Part,
    pub(super) files: Vec<Part>,
    #[serde(default)]
    pub(super) libraries: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// As the ledger knows it.
    pub(super) name: String,
    /// Below the folder.
    pub(super) file: String,
    pub(super) size: u64,
    pub(super) sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error(
        "`{}` is no backup: it has no `{NAME}`\n(hint: a backup that was interrupted has none \
         before it is taken up again)",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("`{}` cannot be understood", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        error: serde_json::Error,
    },
    #[error(
        "the backup in `{}` has format {found}, this program knows {FORMAT_OLDEST} to {FORMAT}",
        path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error(
        "the backup in `{}` holds a ledger of format {found}, this program knows {LEDGER_VERSION} \
         and older ones\n(hint: it was written by a newer version of rated; use that one)",
        path.display()
    )]
    Ledger { path: PathBuf, found: u16 },
    #[error("the backup in `{}` names `{file}`, which is not below it", path.display())]
    Outside { path: PathBuf, file: String },
    #[error(
        "`{}` is not what the backup was written with: {what}\n(hint: nothing was restored; take \
         another backup)",
        path.display()
    )]
    Damaged { path: PathBuf, what: &'static str },
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> Result<Manifest, ManifestError> {
        let path = folder.join(NAME);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestError::Missing { path: folder.to_owned() });
            }
            text => text.map_err(FileError::of("read", &path))?,
        };
        Manifest::parse(&text, folder)
    }

    pub(super) fn parse(text: &[u8], folder: &Path) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(text)
            .map_err(|error| ManifestError::Malformed { path: folder.join(NAME), error })?;
        let path = folder.to_owned();
        if !(FORMAT_OLDEST..=FORMAT).contains(&manifest.format) {
            return Err(ManifestError::Format { path, found: manifest.format });
        }
        if manifest.ledger_format > LEDGER_VERSION {
            return Err(ManifestError::Ledger { path, found: manifest.ledger_format });
        }
        let is_library = |part: &&Part| part.is_inside() && part.library().is_sound();
        let outside = manifest.parts().find(|part| !part.is_inside());
        let outside = outside.or_else(|| manifest.libraries.iter().find(|it| !is_library(it)));
        match outside.map(|part| part.file.clone()) {
            Some(file) => Err(ManifestError::Outside { path, file }),
            None => Ok(manifest),
        }
    }

    /// Whether a backup was written there, by this program or by one that knows another format.
    pub(super) fn is_in(folder: &Path) -> bool {
        use ManifestError::{Format, Ledger};
        matches!(Manifest::read(folder), Ok(_) | Err(Format { .. } | Ledger { .. }))
    }

    /// Those of the ledger.
    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.files.iter().chain([&self.records])
    }

    pub(super) fn with_libraries(&self) -> impl Iterator<Item = &Part> {
        self.parts().chain(&self.libraries)
    }

    /// Durable when it returns.
    pub(super) fn write(&self, folder: &Path) -> Result<(), FileError> {
        let (path, new) = (folder.join(NAME), folder.join(NAME_NEW));
        let text = serde_json::to_string_pretty(self).expect("it has texts and numbers only");
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            passed(Step::BackupManifestWritten);
            fs::rename(&new, &path)
        };
        write().map_err(FileError::of("write", &path))?;
        sync_folder(folder)
    }
}

impl Part {
    fn is_inside(&self) -> bool {
        let is_plain = |word: &str| !word.is_empty() && !word.starts_with('.');
        let is_name = |name: &str| is_plain(name) && !name.contains(['/', '\\', '\0']);
        let folders = [DATA, LIBRARIES].into_iter();
        let mut below = folders.filter_map(|it| self.file.strip_prefix(it)?.strip_prefix('/'));
        is_name(below.next().unwrap_or(&self.file)) && is_name(&self.name)
    }

    /// What a part is of the libraries.
    pub(super) fn library(&self) -> KeptLibrary {
        let (name, sha256) = (self.name.clone(), self.sha256.clone());
        KeptLibrary { name, sha256, size: self.size }
    }

    /// All of it, as the manifest was written with it; for what fits into memory.
    pub(super) fn read(&self, folder: &Path) -> Result<Vec<u8>, ManifestError> {
        let path = folder.join(&self.file);
        let mut bytes = Vec::new();
        let file = File::open(&path).map_err(FileError::of("read", &path))?;
        file.take(self.size).read_to_end(&mut bytes).map_err(FileError::of("read", &path))?;
        if crate::ledger::hex(&Sha256::digest(&bytes)) != self.sha256 {
            return Err(ManifestError::Damaged { path, what: "its checksum does not fit" });
        }
        Ok(bytes)
    }

    /// Whether its bytes are those that the manifest was written with.
    pub(super) fn check(&self, folder: &Path) -> Result<(), ManifestError> {
        let path = folder.join(&self.file);
        let (hasher, size) = hash_of(&path, self.size)?;
        if size < self.size {
            return Err(ManifestError::Damaged { path, what: "it is too short" });
        }
        if hex(hasher) != self.sha256 {
            return Err(ManifestError::Damaged { path, what: "its checksum does not fit" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_of_a_newer_program_is_not_restored() {
        let records = Part {
            name: "records".to_owned(),
            file: "records.1".to_owned(),
            size: 0,
            sha256: String::new(),
        };
        let with = |ledger_format| {
            let (taken_at, records) = (String::new(), records.clone());
            let (files, libraries) = (Vec::new(), Vec::new());
            let format = FORMAT;
            let manifest =
                Manifest { format, taken_at, change: 1, ledger_format, records, files, libraries };
            let text = serde_json::to_vec(&manifest).unwrap();
            Manifest::parse(&text, Path::new("/backup")).map(drop)
        };

        with(LEDGER_VERSION).unwrap();
        with(1).unwrap();
        let refused = with(LEDGER_VERSION + 1).unwrap_err().to_string();
        assert!(refused.contains("written by a newer version of rated"), "{refused}");
    }

    #[test]
    fn a_part_stands_below_the_folder() {
        let is_inside = |name: &str, file: &str| {
            let (name, file) = (name.to_owned(), file.to_owned());
            Part { name, file, size: 0, sha256: String::new() }.is_inside()
        };

        assert!(is_inside("2026-11.0", "data/2026-11.0.77"));
        assert!(is_inside("-0001-12.3", "data/-0001-12.3"));
        assert!(is_inside("records", "records.77"));
        assert!(is_inside("acme-7692c3ad3540bb80.so", "libraries/acme-7692c3ad3540bb80.so"));
        for file in [
            "/etc/passwd",
            "libraries/../x",
            "libraries/data/x",
            "libraries/",
            "../x",
            "data/../x",
            "data/",
            "",
            "a/b",
            "data//x",
        ] {
            assert!(!is_inside("records", file), "{file}");
        }
        assert!(!is_inside("../x", "records.77"));
    }

    /// As rated 0.1 wrote it before there were libraries in a backup.
    const FORMAT_1: &str = r#"{
        "format": 1, "taken_at": "2026-11-20T08:00:00+00:00", "change": 77, "ledger_format": 5,
        "records": {"name": "records", "file": "records.1795689600000", "size": 5, "sha256": "00"},
        "files": [{"name": "2026-11.0", "file": "data/2026-11.0", "size": 9, "sha256": "01"}]
    }"#;

    #[test]
    fn every_format_that_was_written_is_read_and_no_newer_one() {
        let parse = |text: &str| Manifest::parse(text.as_bytes(), Path::new("/backup"));

        let manifest = parse(FORMAT_1).unwrap();
        assert_eq!((manifest.change, manifest.parts().count()), (77, 2));
        assert_eq!(manifest.libraries, []);
        let newer = FORMAT_1.replace("\"format\": 1", "\"format\": 3");
        let error = parse(&newer).unwrap_err().to_string();
        assert_eq!(error, "the backup in `/backup` has format 3, this program knows 1 to 2");
    }

    #[test]
    fn a_library_has_the_name_of_its_copy_or_the_backup_is_refused() {
        let sha256 = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        let with = |name: &str, file: &str| {
            let part = format!(
                r#"{{"name": "{name}", "file": "{file}", "size": 3, "sha256": "{sha256}"}}"#
            );
            let libraries = format!("}}], \"libraries\": [{part}]\n}}");
            let text = FORMAT_1.replace("\"format\": 1", "\"format\": 2");
            let text = text.replace("}]\n    }", &libraries);
            Manifest::parse(text.as_bytes(), Path::new("/backup"))
        };
        let name = "acme-7692c3ad3540bb80.so";

        assert_eq!(with(name, &format!("libraries/{name}")).unwrap().libraries.len(), 1);
        for (name, file) in [
            ("acme-0000000000000000.so", "libraries/x"),
            ("acme.so", "libraries/x"),
            ("../acme-7692c3ad3540bb80.so", "libraries/x"),
            (name, "../x"),
            (name, "/x"),
        ] {
            let refused = with(name, file).unwrap_err();
            assert!(matches!(refused, ManifestError::Outside { .. }), "{name} {file}: {refused}");
        }
    }
}
