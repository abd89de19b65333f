//! Which fields hold secrets, and who can read the file that they stand in.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::document::{Table, Value};

/// Endings of the names of fields that hold a secret, the daemon's own and those of plugins.
const ENDINGS: [&str; 4] = ["password", "secret", "token", "api_key"];

/// A secret that everybody on the machine can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExposedSecret {
    pub file: PathBuf,
    /// Dotted.
    pub field: String,
}

/// Does a field of that name hold a secret?
pub(super) fn is_name(key: &str) -> bool {
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// The first secret that stands in a file which everybody can read.
pub(super) fn exposed(path: &Path, table: &Table) -> Option<ExposedSecret> {
    let metadata = path.metadata().ok()?;
    if metadata.permissions().mode() & 0o004 == 0 {
        return None;
    }
    let field = first(table)?;
    Some(ExposedSecret { file: path.to_owned(), field })
}

fn first(table: &Table) -> Option<String> {
    table.iter().find_map(|(key, entry)| match &entry.value {
        Value::Text(text) if is_name(key) && !text.is_empty() => Some(key.clone()),
        Value::Table(inner) => first(inner).map(|rest| format!("{key}.{rest}")),
        _ => None,
    })
}
