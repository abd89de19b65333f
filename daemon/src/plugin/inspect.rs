//! Libraries looked at without a daemon: loaded and read, never started.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rated_plugin::testing::{Check, check_plugin};

use super::error::LoadError;
use super::file::{self, Copies};
use super::find;
use super::library::{Declaration, Library, LibraryInfo};
use super::load;
use crate::config::LibraryConfig;
use crate::plugin::PluginConfig;

/// Attempts to find a name for the folder that nobody has.
const FOLDER_ATTEMPTS_MAX: u32 = 1000;

/// A library that is mapped into this process.
#[derive(Debug)]
pub struct Inspected(Library);

/// What the folders hold.
#[derive(Debug, Default)]
pub struct Inspection {
    pub libraries: Vec<Inspected>,
    pub refused: Vec<LoadError>,
}

impl Inspected {
    pub fn info(&self) -> &LibraryInfo {
        &self.0.info
    }

    /// Runs the plugin against a host in memory that has no network.
    pub fn conformance(&self) -> Vec<Check> {
        let Declaration(declaration) = self.0.declaration.expect("it was mapped to be looked at");
        check_plugin(declaration)
    }
}

/// Everything that a daemon with that configuration would find. Does not touch its state.
pub fn inspect(config: &PluginConfig) -> io::Result<Inspection> {
    let folder = Folder::new()?;
    let found = find::find(&config.plugin_dirs, config.bundled_dir.as_deref());
    let mut inspection = Inspection { refused: found.refused, ..Inspection::default() };
    for path in found.files {
        match open(&path, &config.library(&path), &folder.0) {
            Ok(library) => inspection.libraries.push(library),
            Err(error) => inspection.refused.push(error),
        }
    }
    Ok(inspection)
}

/// One library.
pub fn inspect_file(path: &Path) -> io::Result<Result<Inspected, LoadError>> {
    let folder = Folder::new()?;
    Ok(open(path, &LibraryConfig::default(), &folder.0))
}

fn open(path: &Path, config: &LibraryConfig, copies: &Copies) -> Result<Inspected, LoadError> {
    let content = file::read(path, config)?;
    let copy = copies.keep(path, &content).map_err(|error| error.into_load_error(path))?;
    load::open(path, &content, &copy, config).map(Inspected)
}

/// A folder for copies that goes away; what is mapped stays.
struct Folder(Copies);

impl Folder {
    fn new() -> io::Result<Folder> {
        let parent = std::env::temp_dir();
        let process = std::process::id();
        for attempt in 0..FOLDER_ATTEMPTS_MAX {
            let dir: PathBuf = parent.join(format!("rated-plugin-{process}-{attempt}"));
            // Not recursive: a folder that somebody else made first is not ours.
            match fs::DirBuilder::new().mode(0o700).create(&dir) {
                Ok(()) => return Copies::open(dir).map(Folder),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "no name left for a temporary folder"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the temporary folder.
        let _ = fs::remove_dir_all(self.0.dir());
    }
}
