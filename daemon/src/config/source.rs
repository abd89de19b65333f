//! Reading a file as text, with an explanation when it cannot be read.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use super::document::{self, Table};
use super::problem::{Place, ProblemKind, Problems};

/// Largest configuration file, bytes.
const FILE_SIZE_MAX: u64 = 4 << 20;

/// `None` when nothing could be read; why is among the problems.
pub(super) fn read(path: &Path, problems: &Problems) -> Option<Table> {
    match read_text(path) {
        Ok(text) => Some(document::parse(&text, problems)),
        Err((place, kind)) => {
            problems.add(place, "", kind);
            None
        }
    }
}

fn read_text(path: &Path) -> Result<String, (Place, ProblemKind)> {
    let unreadable = |error| (Place::File, ProblemKind::Unreadable(error));
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err((Place::File, ProblemKind::Directory));
    }
    let mut bytes = Vec::new();
    file.take(FILE_SIZE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_SIZE_MAX {
        return Err((Place::File, ProblemKind::TooLong { size_max: FILE_SIZE_MAX }));
    }
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = sound.split(|byte| *byte == b'\n').count();
        (Place::Line(line), ProblemKind::NotUtf8)
    })
}

/// A path of a file in `folder`, as short as can be: it stands in logs.
pub(super) fn resolve(folder: &Path, path: &str) -> PathBuf {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(mut resolved) = here.canonicalize() else { return folder.join(path) };
    let mut rest = Path::new(path);
    // The folder has no links left, so `..` is the folder above; further on there may be links.
    while let Ok(above) = rest.strip_prefix(Component::ParentDir) {
        resolved.pop();
        rest = above;
    }
    resolved.join(rest)
}
