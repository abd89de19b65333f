//! `rated ledger backup`: the ledger of the running daemon as it was at one moment.
//!
//! What a folder has already is compared by checksum and not copied again; a backup that was
//! interrupted goes on. The manifest comes last: until then the folder holds the backup before.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use reqwest::Method;
use serde_json::Value;
use sha2::Digest as _;

use super::manifest::{FORMAT, Manifest, Part};
use super::{FileError, hash_of, hex, lock, readable, sync_folder};
use crate::cli::client::{Client, ClientError, Server};
use crate::cli::{Environment, Outcome, terminal};
use crate::fault::{Step, passed};
use crate::ledger::BACKUP_PIECE_SIZE_MAX;

type Failed = Box<dyn std::error::Error + Send + Sync>;

const BACKUPS: [&str; 3] = ["v2", "ledger", "backups"];
const DATA: &str = "data";

pub(super) fn run(to: &Path, server: &Server, environment: &Environment) -> Outcome {
    let client = server.client(environment)?;
    let data = to.join(DATA);
    // Everybody's figures are in it.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&data);
    made.map_err(FileError::of("make", &data))?;
    let _lock = lock(&to.join("lock"))?;
    let plan = client.call(Method::POST, &BACKUPS, &[], None)?;
    passed(Step::BackupBegun);
    let mut copy = Copying::new(&client, to, &plan)?;
    let manifest = copy.run(&plan);
    // One that could not be ended ends by itself.
    let _ = client.call(Method::DELETE, &[&BACKUPS[..], &[&copy.id]].concat(), &[], None);
    let manifest = manifest?;
    passed(Step::BackupCopied);
    manifest.write(to)?;
    passed(Step::BackupManifestNamed);
    remove_others(to, &manifest)?;
    terminal::print(&format!(
        "backup of {}: {} in {} files, {} copied, {} there already\n",
        manifest.taken_at,
        readable(manifest.parts().map(|part| part.size).sum()),
        manifest.files.len() + 1,
        readable(copy.bytes_copied),
        readable(copy.bytes_kept),
    ))?;
    Ok(())
}

struct Copying<'a> {
    client: &'a Client,
    to: &'a Path,
    id: String,
    /// Of the backup before.
    before: Option<Manifest>,
    bytes_copied: u64,
    bytes_kept: u64,
}

impl Copying<'_> {
    fn new<'a>(client: &'a Client, to: &'a Path, plan: &Value) -> Result<Copying<'a>, ClientError> {
        let id = text(client, plan, "id")?;
        // A manifest that cannot be read is replaced.
        let before = Manifest::read(to).ok();
        Ok(Copying { client, to, id, before, bytes_copied: 0, bytes_kept: 0 })
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
        let records = Part {
            name: "records".to_owned(),
            file: format!("records.{}", self.id),
            size: records_size,
            sha256: String::new(),
        };
        let records = self.fetch(records, 0, sha2::Sha256::new(), &["records"])?;
        sync_folder(&self.to.join(DATA))?;
        sync_folder(self.to)?;
        Ok(Manifest { format: FORMAT, taken_at, change, ledger_format, records, files })
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
        self.fetch(part, there, hasher, &["files", name])
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
        let url = [&BACKUPS[..], &[self.id.as_str()], below].concat();
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

/// Files of backups before, and what was interrupted.
fn remove_others(to: &Path, manifest: &Manifest) -> Result<(), FileError> {
    let wanted: BTreeSet<&str> = manifest.parts().map(|part| part.file.as_str()).collect();
    for (folder, prefix) in [(to.join(DATA), "data/"), (to.to_owned(), "")] {
        let entries = fs::read_dir(&folder).map_err(FileError::of("read", &folder))?;
        for entry in entries {
            let name = entry.map_err(FileError::of("read", &folder))?.file_name();
            let name = name.to_string_lossy();
            let is_ours = !prefix.is_empty() || name.starts_with("records.");
            if is_ours && !wanted.contains(format!("{prefix}{name}").as_str()) {
                let path = folder.join(&*name);
                fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
                passed(Step::BackupOldRemoved);
            }
        }
    }
    Ok(())
}
