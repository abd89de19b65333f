//! `rated ledger backup`: the ledger of the running daemon as it was at one moment.
//!
//! What a folder has already is compared by checksum and not copied again; a backup that was
//! interrupted goes on. The manifest comes last: until then the folder holds the backup before.
//!
//! A folder that holds anything else is refused, and nothing is deleted in it but what a backup
//! calls its files. Everybody's figures are in it: it is for its owner alone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use reqwest::Method;
use serde_json::Value;
use sha2::Digest as _;

use super::manifest::{DATA, FORMAT, LIBRARIES, Manifest, Part};
use super::{FileError, hash_of, hex, lock, owner, readable, sync_folder};
use crate::cli::client::{Client, ClientError, Server};
use crate::cli::progress::Progress;
use crate::cli::{Environment, Outcome, terminal};
use crate::fault::{Step, passed};
use crate::ledger::BACKUP_PIECE_SIZE_MAX;
use crate::plugin::KeptLibrary;

type Failed = Box<dyn std::error::Error + Send + Sync>;

const BACKUPS: [&str; 3] = ["v2", "ledger", "backups"];

/// Says that a folder is a backup; who writes holds its lock.
const MARKER: &str = "rated-backup";

#[derive(Debug, thiserror::Error)]
#[error(
    "`{}` holds something that is no backup of rated\n(hint: name a folder that is empty or not \
     there yet; what is not needed any more is deleted in it)",
    path.display()
)]
struct NotOurs {
    path: PathBuf,
}

pub(super) fn run(to: &Path, server: &Server, environment: &Environment) -> Outcome {
    owner::make_private();
    let client = server.client(environment)?;
    let _lock = claim(to)?;
    let plan = client.call(Method::POST, &BACKUPS, &[], None)?;
    passed(Step::BackupBegun);
    let mut copy = Copying::new(&client, to, &plan)?;
    let manifest = copy.run(&plan);
    // One that could not be ended ends by itself.
    let _ = client.call(Method::DELETE, &[&BACKUPS[..], &[&copy.id]].concat(), &[], None);
    copy.progress.clear();
    let manifest = manifest?;
    passed(Step::BackupCopied);
    manifest.write(to)?;
    passed(Step::BackupManifestNamed);
    remove_others(to, &manifest)?;
    terminal::print(&format!(
        "backup of {}: {} in {} files, {} of them libraries, {} copied, {} there already\n",
        manifest.taken_at,
        readable(manifest.with_libraries().map(|part| part.size).sum()),
        manifest.with_libraries().count(),
        manifest.libraries.len(),
        readable(copy.bytes_copied),
        readable(copy.bytes_kept),
    ))?;
    Ok(())
}

/// Makes the folder, if it is not there, and marks it.
fn claim(to: &Path) -> Result<File, Failed> {
    let is_free = match fs::read_dir(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        entries => entries.map_err(FileError::of("read", to))?.next().is_none(),
    };
    if !is_free && !to.join(MARKER).exists() && !Manifest::is_in(to) {
        return Err(NotOurs { path: to.to_owned() }.into());
    }
    fs::create_dir_all(to).map_err(FileError::of("make", to))?;
    let marker = lock(&to.join(MARKER))?;
    sync_folder(to)?;
    for folder in [to.join(DATA), to.join(LIBRARIES)] {
        fs::create_dir_all(&folder).map_err(FileError::of("make", &folder))?;
    }
    Ok(marker)
}

struct Copying<'a> {
    client: &'a Client,
    to: &'a Path,
    id: String,
    /// Of the backup before.
    before: Option<Manifest>,
    bytes_copied: u64,
    bytes_kept: u64,
    bytes_total: u64,
    progress: Progress,
}

impl Copying<'_> {
    fn new<'a>(client: &'a Client, to: &'a Path, plan: &Value) -> Result<Copying<'a>, ClientError> {
        let id = text(client, plan, "id")?;
        // A manifest that cannot be read is replaced.
        let before = Manifest::read(to).ok();
        let lists = [&plan["files"], &plan["libraries"]].into_iter();
        let sizes = lists.filter_map(Value::as_array).flatten().chain([plan]);
        let size = |part: &Value| part["size"].as_u64().or(part["records_size"].as_u64());
        let bytes_total = sizes.filter_map(size).sum();
        let progress = Progress::new();
        Ok(Copying {
            client,
            to,
            id,
            before,
            bytes_copied: 0,
            bytes_kept: 0,
            bytes_total,
            progress,
        })
    }

    fn run(&mut self, plan: &Value) -> Result<Manifest, Failed> {
        let strange = || self.client.strange(&plan.to_string());
        let format = plan["format"].as_u64().and_then(|format| u16::try_from(format).ok());
        let ledger_format = format.ok_or_else(strange)?;
        let change = plan["change"].as_u64().ok_or_else(strange)?;
        let taken_at = text(self.client, plan, "taken_at")?;
        let records_size = plan["records_size"].as_u64().ok_or_else(strange)?;
        let mut files = Vec::new();
        for file in self.client.list(plan, "files")? {
            let name = text(self.client, file, "name")?;
            let size = file["size"].as_u64().ok_or_else(|| self.client.strange(&name))?;
            files.push(self.copy_file(&name, size)?);
        }
        let mut libraries = Vec::new();
        for library in self.client.list(plan, "libraries")? {
            libraries.push(self.copy_library(library)?);
        }
        let records = Part {
            name: "records".to_owned(),
            file: format!("records.{}", self.id),
            size: records_size,
            sha256: String::new(),
        };
        let records = self.fetch(records, 0, sha2::Sha256::new(), &["records"])?;
        sync_folder(&self.to.join(DATA))?;
        sync_folder(&self.to.join(LIBRARIES))?;
        sync_folder(self.to)?;
        Ok(Manifest { format: FORMAT, taken_at, change, ledger_format, records, files, libraries })
    }

    /// Its checksum tells what is there of it already, and whether all has come.
    fn copy_library(&mut self, library: &Value) -> Result<Part, Failed> {
        let strange = || self.client.strange(&library.to_string());
        let size = library["size"].as_u64().ok_or_else(strange)?;
        let name = text(self.client, library, "name")?;
        let sha256 = text(self.client, library, "sha256")?;
        let kept = KeptLibrary { name: name.clone(), sha256: sha256.clone(), size };
        if !kept.is_sound() {
            return Err(strange().into());
        }
        let part = Part { file: format!("{LIBRARIES}/{name}"), name, size, sha256: sha256.clone() };
        let path = self.to.join(&part.file);
        let (mut hasher, mut there) = (sha2::Sha256::new(), 0);
        if path.exists() {
            (hasher, there) = hash_of(&path, size)?;
        }
        let below = ["libraries", sha256.as_str()];
        self.bytes_kept += there;
        self.show();
        let fetched = self.fetch(part.clone(), there, hasher, &below)?;
        if fetched.sha256 == sha256 {
            return Ok(fetched);
        }
        // What was there was torn, or of something else.
        self.bytes_kept -= there;
        let fetched = self.fetch(part, 0, sha2::Sha256::new(), &below)?;
        if fetched.sha256 != sha256 {
            return Err(self.client.strange("a library that does not fit its checksum").into());
        }
        Ok(fetched)
    }

    fn copy_file(&mut self, name: &str, size: u64) -> Result<Part, Failed> {
        let known = self.before.as_ref().and_then(|manifest| {
            manifest.files.iter().find(|part| part.name == name).map(|part| part.file.clone())
        });
        let file = known.unwrap_or_else(|| format!("{DATA}/{name}"));
        let mut part = Part { name: name.to_owned(), file, size, sha256: String::new() };
        let path = self.to.join(&part.file);
        let (mut hasher, mut there) = (sha2::Sha256::new(), 0);
        if path.exists() {
            (hasher, there) = hash_of(&path, size)?;
            if there > 0 && self.digest(name, there)? != hex(hasher.clone()) {
                // Another file had that name; the backup before may still need it.
                part.file = format!("{DATA}/{name}.{}", self.id);
                (hasher, there) = (sha2::Sha256::new(), 0);
            }
        }
        self.bytes_kept += there;
        self.show();
        self.fetch(part, there, hasher, &["files", name])
    }

    fn show(&mut self) {
        let (done, total) = (self.bytes_copied + self.bytes_kept, self.bytes_total);
        self.progress.show(|| format!("backed up {} of {}", readable(done), readable(total)));
    }

    fn digest(&self, name: &str, size: u64) -> Result<String, ClientError> {
        let path = [&BACKUPS[..], &[&self.id, "digest"]].concat();
        let query = [("file", name.to_owned()), ("size", size.to_string())];
        text(self.client, &self.client.get(&path, &query)?, "sha256")
    }

    /// What is behind `offset`; the hash is of what stands before it.
    fn fetch(
        &mut self,
        part: Part,
        mut offset: u64,
        mut hasher: sha2::Sha256,
        below: &[&str],
    ) -> Result<Part, Failed> {
        let path = self.to.join(&part.file);
        let failed = || FileError::of("write", &path);
        let mut out = File::options();
        let mut out = out.write(true).create(true).truncate(false).open(&path).map_err(failed())?;
        std::io::Seek::seek(&mut out, std::io::SeekFrom::Start(offset)).map_err(failed())?;
        let id = self.id.clone();
        let url = [&BACKUPS[..], &[id.as_str()], below].concat();
        while offset < part.size {
            let size = (part.size - offset).min(BACKUP_PIECE_SIZE_MAX);
            let query = [("offset", offset.to_string()), ("size", size.to_string())];
            let bytes = self.client.bytes(&url, &query)?;
            if bytes.len() as u64 != size {
                return Err(self.client.strange("an answer of another length").into());
            }
            out.write_all(&bytes).map_err(failed())?;
            passed(Step::BackupPieceWritten);
            hasher.update(&bytes);
            offset += size;
            self.bytes_copied += size;
            self.show();
        }
        out.sync_all().map_err(failed())?;
        passed(Step::BackupPartSynced);
        Ok(Part { sha256: hex(hasher), ..part })
    }
}

fn text(client: &Client, value: &Value, name: &str) -> Result<String, ClientError> {
    let text = value[name].as_str().map(str::to_owned);
    text.ok_or_else(|| client.strange(&value.to_string()))
}

/// Files of backups before, and what was interrupted. What does not have one of our names stays.
fn remove_others(to: &Path, manifest: &Manifest) -> Result<(), FileError> {
    let is_wanted = |file: &str| manifest.with_libraries().any(|part| part.file == file);
    remove_from(&to.join(LIBRARIES), &|name| {
        KeptLibrary::is_name(name) && !is_wanted(&format!("{LIBRARIES}/{name}"))
    })?;
    remove_from(&to.join(DATA), &|name| is_data(name) && !is_wanted(&format!("{DATA}/{name}")))?;
    remove_from(to, &|name| is_records(name) && !is_wanted(name))
}

fn remove_from(folder: &Path, is_other: &dyn Fn(&str) -> bool) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::of("read", folder))? {
        let entry = entry.map_err(FileError::of("read", folder))?;
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && entry.file_name().to_str().is_some_and(is_other) {
            let path = entry.path();
            fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
            passed(Step::BackupOldRemoved);
        }
    }
    Ok(())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `records.1795689600000`
fn is_records(name: &str) -> bool {
    name.strip_prefix("records.").is_some_and(is_number)
}

/// `2026-11.3` as the ledger calls its files, or `2026-11.3.1795689600000`.
fn is_data(name: &str) -> bool {
    let mut parts = name.split('.');
    let month = parts.next().unwrap_or_default();
    let is_month = month.strip_prefix('-').unwrap_or(month).split_once('-');
    let is_month = is_month.is_some_and(|(year, month)| {
        year.len() >= 4 && is_number(year) && month.len() == 2 && is_number(month)
    });
    let numbers: Vec<&str> = parts.collect();
    is_month && (1..=2).contains(&numbers.len()) && numbers.into_iter().all(is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_backup_has_not_written_is_not_its_own() {
        for name in ["2026-11.0", "2026-11.12.1795689600000", "-0001-12.3", "12026-01.7"] {
            assert!(is_data(name), "{name}");
        }
        for name in ["", "x", "2026-11", "2026-11.", "2026-11.0.", "2026-11.0.1.2", "2026-11.jpg"] {
            assert!(!is_data(name), "{name}");
        }
        assert!(is_records("records.17"));
        for name in ["records", "records.", "records.txt", "records.17.gz", "my-records.17"] {
            assert!(!is_records(name), "{name}");
        }
    }
}
