//! What a backup consists of: the file that is written last.
//!
//! ```text
//! DIR/manifest.json   {"format": 1, "taken_at": …, "change": …, "ledger_format": …,
//!                      "records": part, "files": [ part ]}
//! part                {"name": …, "file": below DIR, "size": bytes, "sha256": hex of these}
//! DIR/records.ID      all that stands in sled, see the ledger's `backup`
//! DIR/data/…          data files; they may be longer than `size`
//! DIR/rated-backup    empty; says that the folder is one before it has a manifest
//! ```
//!
//! Without it there is no backup, or the one before it: data files only grow, and a file with other
//! contents gets another name.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{FileError, hash_of, hex, sync_folder};
use crate::fault::{Step, passed};
use crate::ledger::sled::LEDGER_VERSION;

const NAME: &str = "manifest.json";
const NAME_NEW: &str = "manifest.json.new";
pub(super) const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) format: u32,
    pub(super) taken_at: String,
    pub(super) change: u64,
    pub(super) ledger_format: u16,
    pub(super) records: Part,
    pub(super) files: Vec<Part>,
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
    #[error("the backup in `{}` has format {found}, this program knows {FORMAT}", path.display())]
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
        if manifest.format != FORMAT {
            return Err(ManifestError::Format { path, found: manifest.format });
        }
        if manifest.ledger_format > LEDGER_VERSION {
            return Err(ManifestError::Ledger { path, found: manifest.ledger_format });
        }
        let outside = manifest.parts().find(|part| !part.is_inside());
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

    pub(super) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.files.iter().chain([&self.records])
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
        let file = self.file.strip_prefix("data/").unwrap_or(&self.file);
        is_name(file) && is_name(&self.name)
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
            let files = Vec::new();
            let manifest =
                Manifest { format: FORMAT, taken_at, change: 1, ledger_format, records, files };
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
        for file in ["/etc/passwd", "../x", "data/../x", "data/", "", "a/b", "data//x"] {
            assert!(!is_inside("records", file), "{file}");
        }
        assert!(!is_inside("../x", "records.77"));
    }
}
